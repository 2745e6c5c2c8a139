"""Protocol 6.3, 6.4 and 6.6: what a barrier conflicts with, and a replica that has executed one."""

from __future__ import annotations

import math

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.contract import Checkpointed, Durable, Effects, Ended, Hold, Over, Propose
from epaxos.protocol.epaxos.messages import (
    Accept,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Message,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Validate,
)
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from harness.alone import Alone
from harness.commands import Access, barrier, get, put
from harness.probe import sent_to

NONE: Vector = (-1, -1, -1)
END, READ, OPEN, ABOVE = InstanceId(1, 0), InstanceId(2, 0), InstanceId(2, 1), InstanceId(2, 2)
BARRIER, DEPS = barrier(1, *NONE), (-1, -1, 0)


def ended() -> Alone:
    """A replica that has executed a read and a barrier; another command was pre-accepted and is void."""
    alone = Alone(retain=1_000_000)
    alone.learn(READ, get(2, b"k"), *NONE)
    alone.hear(2, PreAccept(OPEN, put(3, b"k"), (-1, -1, 0), 1))
    alone.learn(END, BARRIER, *DEPS)
    return alone


def test_a_barrier_depends_on_reads_and_on_all_below_it_in_its_row() -> None:
    """Were a read not ordered with it, one would see the old epoch after something of the new one was answered."""
    alone = Alone()
    alone.learn(READ, get(2, b"k"), *NONE)
    alone.learn(InstanceId(0, 3), NOP, *NONE)
    effects = alone.take(Propose(BARRIER))
    [(_, message)] = [sent for sent in effects.promises if isinstance(sent[1], PreAccept)]
    assert isinstance(message, PreAccept)
    assert (message.id, message.deps) == (InstanceId(0, 4), (3, -1, 0))


def test_everything_later_depends_on_a_barrier_also_if_it_was_annulled() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(END, BARRIER, NONE, 0))
    alone.learn(END, NOP, *NONE)
    effects = alone.hear(2, PreAccept(READ, get(2, b"other"), NONE, 0))
    [answer] = [message for message in sent_to(effects, 2) if isinstance(message, PreAcceptOK)]
    assert answer.deps == (-1, 0, -1)


def test_everything_later_depends_on_an_annulled_barrier_that_was_dropped_also_after_a_restart() -> None:
    """Forgotten with its log it would let a command be decided fast that a replica which still has it annuls."""
    alone = Alone()
    alone.hear(1, PreAccept(END, BARRIER, NONE, 0))
    alone.learn(END, NOP, *NONE)
    cut = alone.core.cut()
    while cut.absorb(10):
        pass
    vectors = alone.core.vectors()
    truncated = alone.take(Checkpointed(cut.executed)).truncate
    assert truncated == (-1, 0, -1)
    again = Alone(durable=Durable((), truncated, cut.executed, (), vectors))
    for replica in (alone, again):
        effects = replica.hear(2, PreAccept(READ, get(2, b"other"), NONE, 0))
        [answer] = [message for message in sent_to(effects, 2) if isinstance(message, PreAcceptOK)]
        assert answer.deps == (-1, 0, -1)


def test_the_end_is_told_once_with_what_executed_before_it() -> None:
    alone = Alone(retain=1_000_000)
    assert alone.learn(END, BARRIER, *DEPS).over is None
    effects = alone.learn(READ, get(2, b"k"), *NONE)
    assert effects.over is not None
    assert (effects.over.barrier.id, effects.over.cut) == (END, (-1, 0, 0))
    assert alone.executed == [READ, END]
    assert alone.learn(ABOVE, put(4, b"k"), -1, 0, 1).over is None
    assert alone.executed == [READ, END]


@pytest.mark.parametrize(
    "message",
    [
        PreAccept(ABOVE, put(4, b"k"), (-1, -1, 1), 2),
        PreAccept(OPEN, put(3, b"k"), (-1, -1, 0), 1),
        Offer(OPEN),
        Accept(OPEN, 5, put(3, b"k"), (-1, 0, 0), 1),
        Recover(OPEN, 5),
        Recover(ABOVE, 5),
        Validate(OPEN, 5, put(3, b"k"), (-1, -1, 0), 1),
        Commit(OPEN, put(3, b"k"), (-1, 0, 0), 1),
    ],
)
def test_who_has_come_to_the_end_promises_nothing_and_answers_as_if_crashed(message: Message) -> None:
    """An empty answer would count as one of a replica that had never heard of the instance: a second decision."""
    alone = ended()
    effects = alone.hear(2, message)
    assert (effects.records, effects.promises, effects.messages, effects.executions) == ([], [], [], [])


def test_no_recovery_is_answered_by_who_has_come_to_the_end() -> None:
    effects = ended().hear(2, Recover(OPEN, 5))
    assert (effects.records, effects.promises, effects.messages) == ([], [], [])


@pytest.mark.parametrize("message", [Recover(END, 5), CommitRequest(1, 0, 9), Offer(END)])
def test_what_is_decided_is_told(message: Message) -> None:
    """So that those who lag come to the same end."""
    [told] = sent_to(ended().hear(2, message), 2)
    assert isinstance(told, Commit)
    assert (told.id, told.deps) == (END, DEPS)


def test_a_beacon_is_echoed() -> None:
    """Who lags has one question out at a time; if its answer is lost, only an echo says that it may ask again."""
    beacon = Beacon((9, 9, 9), (9, 9, 9), (9, 9, 9), NONE, NONE, 7)
    assert sent_to(ended().hear(2, beacon), 2) == [Echo(7)]


def test_nothing_is_due_any_more_and_nothing_may_be_asked_of_it() -> None:
    alone = ended()
    assert alone.core.deadline == math.inf
    assert alone.pass_time(1e6).promises == []
    with pytest.raises(InvariantError, match="the epoch is over"):
        alone.take(Hold(NONE, ()))


def test_what_is_proposed_in_the_round_of_the_end_is_left_too() -> None:
    alone = ended()
    commands = [put(5, b"k"), put(6, b"k")]
    joined: Effects[Message] = Effects()
    for command in commands:
        joined.extend(alone.take(Propose(command)))
    assert joined.over is not None
    assert (joined.over.left, joined.promises) == (commands, [])


# -- being quiet while an end is in sight (protocol 6.5) ---------------------------------------------------------


def proposed(effects: Effects[Message]) -> list[Access]:
    found = [message for _, message in effects.promises if isinstance(message, PreAccept)]
    return [message.command for message in found if isinstance(message.command, Access)]


def test_who_knows_a_barrier_proposes_nothing_until_it_is_annulled_and_then_all_in_order() -> None:
    """A replica that went on would make what the barrier depends on grow for ever, and most of it void."""
    alone = Alone()
    alone.hear(1, PreAccept(END, BARRIER, NONE, 0))
    kept = [put(number, b"k") for number in (2, 3)]
    for command in kept:
        assert proposed(alone.take(Propose(command))) == []
    assert alone.core.in_flight == 2
    assert proposed(alone.learn(END, NOP, *NONE)) == kept
    assert alone.core.in_flight == 2


def test_what_is_annulled_meanwhile_is_kept_too() -> None:
    alone = Alone()
    command = put(2, b"k")
    alone.take(Propose(command))
    alone.hear(1, PreAccept(END, BARRIER, NONE, 0))
    assert proposed(alone.learn(InstanceId(0, 0), NOP, *NONE)) == []
    assert proposed(alone.learn(END, NOP, *NONE)) == [command]


def test_the_own_barrier_is_proposed_again_when_it_is_annulled_and_nothing_before_it() -> None:
    alone = Alone()
    alone.take(Propose(BARRIER))
    alone.take(Propose(put(2, b"k")))
    assert proposed(alone.learn(InstanceId(0, 0), NOP, *NONE)) == [BARRIER]


def test_nobody_waits_for_a_fast_quorum_in_sight_of_an_end() -> None:
    """n = 5: of three answers two agree, so a fourth may make it fast, or never come. What waited goes on as well."""
    alone = Alone(5)
    wide = (-1,) * 5
    one, end = InstanceId(0, 0), InstanceId(0, 1)
    alone.take(Propose(put(2, b"k")))
    answers = [PreAcceptOK(one, (-1, 3, -1, -1, -1), 5), PreAcceptOK(one, wide, 0)]
    for sender, answer in enumerate(answers, start=1):
        assert voted_on(alone.hear(sender, answer)) == []
    assert voted_on(alone.take(Propose(barrier(1, *wide)))) == [one]
    for sender, deps in ((1, (0, 3, -1, -1, -1)), (2, (0, -1, -1, -1, -1))):
        effects = alone.hear(sender, PreAcceptOK(end, deps, 5))
    assert voted_on(effects) == [end]


def test_an_end_that_comes_with_its_barrier_is_no_reason_to_vote() -> None:
    alone = Alone(5)
    wide = (-1,) * 5
    alone.take(Propose(put(2, b"k")))
    alone.hear(1, PreAcceptOK(InstanceId(0, 0), (-1, 3, -1, -1, -1), 5))
    alone.hear(2, PreAcceptOK(InstanceId(0, 0), wide, 0))
    effects = alone.learn(END, barrier(1, *wide), *wide)
    assert effects.over is not None
    assert (effects.over.left, effects.promises) == ([put(2, b"k")], [])


def voted_on(effects: Effects[Message]) -> list[InstanceId]:
    return [message.id for _, message in effects.promises if isinstance(message, Accept)]


def test_the_end_says_what_is_left_over() -> None:
    """Decided above the cut, open, or kept: all of it goes on in the next epoch, and what has executed does not."""
    alone = Alone(retain=1_000_000)
    done, void, open_, kept = (put(number, b"k") for number in range(2, 6))
    for command in (done, void, open_):
        alone.take(Propose(command))
    alone.hear(1, PreAccept(END, BARRIER, (0, -1, -1), 0))
    alone.take(Propose(kept))
    alone.learn(InstanceId(0, 0), done, *NONE)
    alone.learn(InstanceId(0, 1), void, 0, 0, -1)
    over = alone.learn(END, BARRIER, 0, -1, -1).over
    assert over is not None
    assert (over.cut, over.left) == ((0, 0, -1), [void, open_, kept])


def test_what_speaks_of_slots_that_nobody_has_heard_of_is_not_proposed() -> None:
    with pytest.raises(InvariantError, match="above all that was heard of"):
        Alone().take(Propose(barrier(1, -1, 4, -1)))


def test_a_restart_comes_to_the_same_end() -> None:
    """Nothing of the end itself is recorded: it follows from decisions (protocol 6.6)."""
    before = ended()
    records = [record for row in before.core.state.logs.rows for record in row.values()]
    over = before.core.state.executor.over
    assert isinstance(over, Over)
    for executed in (NONE, (-1, -1, 0)):
        again = Alone(durable=Durable(records, NONE, executed, ()), retain=1_000_000)
        assert again.resume().over == over._replace(left=[])


def test_a_restart_that_comes_to_the_end_asks_for_no_vote_of_its_own_instances() -> None:
    before = ended()
    own = Instance(InstanceId(0, 0), NONE)
    own.phase, own.orig, own.value = Phase.PREACCEPTED, put(6, b"k"), put(6, b"k")
    own.init = Proposal(put(6, b"k"), NONE, 0)
    records = [own, *(record for row in before.core.state.logs.rows for record in row.values())]
    effects = Alone(durable=Durable(records, NONE, NONE, ()), retain=1_000_000, ahead=4).resume()
    assert effects.over is not None
    assert not [*effects.promises, *effects.messages, *effects.early, *effects.deferrable]


# -- told of the end (6.7) ---------------------------------------------------------------------------------


def test_who_is_told_of_the_end_keeps_what_it_is_asked_for_and_votes_on() -> None:
    """It may be needed: whoever told it may die before anybody has fetched its state."""
    alone = Alone(retain=1_000_000)
    assert alone.take(Ended(None)).over is None
    assert not alone.take(Propose(put(1, b"k"))).promises
    assert alone.core.status().changing
    assert alone.core.left() == [put(1, b"k")]
    answers = sent_to(alone.hear(1, PreAccept(END, put(2, b"k"), NONE, 0)), 1)
    assert any(isinstance(answer, PreAcceptOK) for answer in answers)


def test_nobody_recovers_what_is_above_the_cut() -> None:
    alone = Alone(retain=1_000_000)
    for place in (READ, OPEN):
        alone.hear(2, PreAccept(place, put(place.slot, b"%d" % place.slot), NONE, 0))
    alone.take(Ended((-1, -1, 0)))
    recovered: set[InstanceId] = set()
    for _ in range(60):
        for _, message in alone.pass_time(500.0).promises:
            if isinstance(message, Recover):
                recovered.add(message.id)
    assert recovered == {READ}


# -- a peer that lies --------------------------------------------------------------------------------------


def test_a_barrier_that_leaves_holes_in_its_row_is_dropped_and_stops_nobody() -> None:
    place, base = InstanceId(1, 3), (-1, -1, -1)
    for message in (
        PreAccept(place, BARRIER, base, 0),
        Validate(place, 4, BARRIER, base, 0),
        Accept(place, 4, BARRIER, base, 0),
        Commit(place, BARRIER, base, 0),
        RecoverOK(place, 4, 0, Phase.PREACCEPTED, BARRIER, base, 0, None),
        RecoverOK(place, 4, 0, Phase.INITIAL, None, base, 0, Proposal(BARRIER, base, 0)),
    ):
        alone = Alone(retain=1_000_000)
        effects = alone.hear(1, message)
        assert (effects.records, effects.promises, effects.over) == ([], [], None)
        assert alone.core.coverage["malformed barrier dropped"] == 1


def test_a_payload_left_out_is_the_one_that_is_known() -> None:
    alone = Alone(retain=1_000_000)
    place = InstanceId(1, 3)
    alone.hear(1, PreAccept(place, BARRIER, (-1, 2, -1), 0))
    alone.hear(1, Commit(place, None, NONE, 0))
    assert alone.core.coverage["malformed barrier dropped"] == 1
    assert not alone.hear(1, Commit(place, NOP, NONE, 0)).over, "to annul it is no lie"
    assert alone.core.coverage["malformed barrier dropped"] == 1


def test_an_answer_of_who_has_not_pre_accepted_a_barrier_is_none_of_a_liar() -> None:
    """It tells of the payload, beside no dependencies at all: were it dropped no quorum would ever answer."""
    alone = Alone(retain=1_000_000)
    told = RecoverOK(
        InstanceId(1, 3), 4, 0, Phase.INITIAL, BARRIER, NONE, 0, Proposal(BARRIER, (-1, 2, -1), 0)
    )
    alone.hear(2, told)
    assert "malformed barrier dropped" not in alone.core.coverage
