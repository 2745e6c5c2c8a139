"""Protocol 4.11a: what a replica goes on with, also if it died between a checkpoint and the change of its log."""

from __future__ import annotations

from copy import copy
from functools import partial

import pytest

from epaxos.protocol.contract import Durable, Effects, Propose
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Commit,
    Message,
    Missing,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
)
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from harness.alone import Alone, decided
from harness.commands import put
from harness.probe import sent, sent_to

KEY = b"x"
NONE: Vector = (-1, -1, -1)


def at(row: int, slot: int) -> InstanceId:
    return InstanceId(row, slot)


def pre_accepted(place: InstanceId, name: int, deps: Vector = NONE, *, deps0: Vector = NONE) -> Instance:
    """An instance of which the owner's proposal is known, with what this replica added to it."""
    record = Instance(place, deps)
    record.phase = Phase.PREACCEPTED
    record.orig = record.value = put(name, KEY)
    record.init = Proposal(put(name, KEY), deps0, 0)
    return record


def accepted(place: InstanceId, name: int, ballot: int) -> Instance:
    record = pre_accepted(place, name)
    record.phase, record.bal, record.abal = Phase.ACCEPTED, ballot, ballot
    return record


def begun(
    *records: Instance,
    truncated: Vector = NONE,
    executed: Vector = NONE,
    entries: tuple[Instance, ...] = (),
) -> tuple[Alone, Effects[Message]]:
    """A replica that has begun with this, and what it asks for first."""
    alone = Alone(durable=Durable(records, truncated, executed, entries), retain=10**6)
    return alone, alone.resume()


# -- an ordinary restart -----------------------------------------------------------------------------------


def test_with_nothing_there_is_nothing_to_go_on_with() -> None:
    alone, effects = begun()
    assert not effects.records
    assert not sent_to(effects, 1)
    assert alone.core.status().seen == NONE


def test_what_is_decided_and_not_in_the_checkpoint_executes_again() -> None:
    records = [decided(at(1, slot), put(slot, KEY), -1, slot - 1, -1) for slot in range(5)]
    alone, effects = begun(*records, executed=(-1, 2, -1))
    assert alone.executed == [at(1, 3), at(1, 4)]
    assert effects.truncate is None
    assert alone.core.status().executed == (-1, 4, -1)


def test_entries_above_the_frontier_do_not_execute_again() -> None:
    records = [decided(at(1, slot), put(slot, b"%d" % slot), *NONE) for slot in (0, 2, 4)]
    alone, effects = begun(*records, executed=(-1, 0, -1), entries=(copy(records[1]),))
    assert alone.executed == [at(1, 4)]
    assert not effects.records, "all of it stands in the log"
    alone.learn(at(1, 1), NOP)
    assert (alone.executed, alone.core.status().executed) == ([at(1, 4), at(1, 1)], (-1, 2, -1))


def test_the_first_cut_after_a_restart_is_gathered_and_reads_nothing_off_in_vain() -> None:
    """What is known then is of all that ever executed, and not of what has since the last cut."""
    records = [decided(at(1, slot), put(slot, b"%d" % slot), -1, slot - 1, -1) for slot in range(60)]
    alone, _ = begun(*records, executed=(-1, 19, -1))
    while alone.core.prepare(1):
        pass
    cut = alone.core.cut()
    news = list(iter(partial(cut.absorb, 10), None))
    assert {key for some in news for key in some.written} == {b"%d" % slot for slot in range(20, 60)}
    assert "cut read off in vain" not in alone.core.coverage


def test_what_was_dropped_stays_dropped() -> None:
    alone, effects = begun(truncated=(-1, 4, -1), executed=(-1, 4, 2))
    assert effects.truncate == (-1, 4, 2), "its records must have been dropped by somebody's checkpoint"
    assert sent_to(alone.hear(2, Recover(at(1, 3), 5)), 2) == [Truncated(at(1, 3), (-1, 4, 2))]


@pytest.mark.parametrize(
    ("record", "seen"),
    [
        (pre_accepted(at(1, 3), 1), (-1, 3, -1)),
        (pre_accepted(at(1, 3), 1, (7, 2, 9)), (7, 3, 9)),
        (pre_accepted(at(1, 3), 1, deps0=(7, 2, 9)), (7, 3, 9)),
        (decided(at(1, 3), put(1, KEY), 7, 2, 9), (7, 3, 9)),
    ],
)
def test_whatever_was_heard_of_is_remembered(record: Instance, seen: Vector) -> None:
    alone, _ = begun(record)
    assert alone.core.status().seen == seen
    effects = alone.take(Propose(put(2, b"other")))
    assert sent(effects, PreAccept)[1].id == at(0, seen[0] + 1)


def test_what_the_checkpoint_speaks_of_is_heard_of() -> None:
    alone, _ = begun(executed=(3, 4, 5), entries=(decided(at(2, 7), put(1, KEY), 8, -1, 6),))
    assert alone.core.status().seen == (8, 4, 7)


def test_an_own_proposal_is_asked_for_and_sent_again_as_it_was_to_who_lacks_it() -> None:
    alone, effects = begun(pre_accepted(at(0, 2), 1, (1, 5, -1), deps0=(1, 5, -1)))
    assert sent(effects, Offer) == dict.fromkeys((1, 2), Offer(at(0, 2)))
    assert not sent(effects, PreAccept)
    effects = alone.hear(2, Missing(at(0, 2)))
    assert sent(effects, PreAccept) == {2: PreAccept(at(0, 2), put(1, KEY), (1, 5, -1), 0)}
    effects = alone.hear(1, PreAcceptOK(at(0, 2), (1, 5, -1), 0))
    assert sent(effects, Commit)[2].deps == (1, 5, -1)


def test_an_own_vote_at_ballot_0_is_asked_for_again() -> None:
    alone, effects = begun(accepted(at(0, 2), 1, 0))
    assert sent(effects, Accept).keys() == {1, 2}
    effects = alone.hear(1, AcceptOK(at(0, 2), 0))
    assert alone.core.state.logs.rows[0][2].phase is Phase.COMMITTED


@pytest.mark.parametrize(
    "record", [accepted(at(0, 2), 1, 4), accepted(at(1, 2), 1, 0), pre_accepted(at(1, 2), 1)]
)
def test_what_others_coordinate_is_theirs(record: Instance) -> None:
    _, effects = begun(record)
    assert not sent_to(effects, 1) + sent_to(effects, 2)


def test_answers_are_what_they_were_before() -> None:
    alone, _ = begun(pre_accepted(at(1, 2), 1, (9, 1, 9), deps0=(-1, 1, -1)))
    effects = alone.hear(1, PreAccept(at(1, 2), put(1, KEY), (-1, 1, -1), 0))
    assert sent(effects, PreAcceptOK)[1].deps == (9, 1, 9)
    promised = pre_accepted(at(1, 2), 1)
    promised.bal = 5
    alone, _ = begun(promised)
    assert not sent(alone.hear(1, Recover(at(1, 2), 4)), RecoverOK)


def test_every_payload_of_the_log_is_covered() -> None:
    annulled = decided(at(2, 6), NOP, *NONE)
    annulled.orig = put(2, KEY)
    alone, _ = begun(accepted(at(1, 3), 1, 4), annulled)
    effects = alone.take(Propose(put(3, KEY)))
    assert sent(effects, PreAccept)[1].deps == (-1, 3, 6)


# -- between the checkpoint of an adoption and the change of the log ------------------------------------------


def test_a_log_with_gaps_below_the_checkpoint_is_dropped() -> None:
    """What is missing has executed elsewhere, and can be had from nobody."""
    records = [decided(at(1, slot), put(slot, KEY), *NONE) for slot in (0, 1, 4)]
    alone, effects = begun(*records, pre_accepted(at(1, 3), 3), executed=(-1, 4, -1))
    assert effects.truncate == (-1, 4, -1)
    assert alone.executed == []
    assert (alone.core.status().truncated, alone.core.status().kept) == ((-1, 4, -1), 0)


def test_a_log_without_gaps_stays() -> None:
    records = [decided(at(1, slot), put(slot, KEY), *NONE) for slot in range(5)]
    alone, effects = begun(*records, executed=(-1, 3, -1))
    assert effects.truncate is None
    assert alone.core.status().kept == 5


def test_what_is_above_the_checkpoint_is_never_dropped() -> None:
    """A promise for an instance that nobody has executed is still one."""
    alone, effects = begun(pre_accepted(at(1, 1), 1), pre_accepted(at(1, 5), 5), executed=(-1, 4, -1))
    assert effects.truncate == (-1, 4, -1)
    assert alone.core.state.logs.rows[1].keys() == {5}
    effects = alone.hear(2, Recover(at(1, 5), 5))
    assert sent(effects, RecoverOK)[2].phase is Phase.PREACCEPTED


def test_own_instances_in_the_checkpoint_are_not_proposed_again() -> None:
    alone, effects = begun(pre_accepted(at(0, 1), 1), pre_accepted(at(0, 3), 3), executed=(2, -1, -1))
    assert [message.id for message in sent_to(effects, 1) if isinstance(message, Offer)] == [at(0, 3)]
    assert alone.core.status().truncated == (2, -1, -1)


@pytest.mark.parametrize(
    "records",
    [
        (),
        (pre_accepted(at(1, 3), 3),),
        (accepted(at(1, 3), 3, 4),),
        (Instance(at(1, 3), NONE),),
    ],
)
def test_entries_that_the_log_does_not_have_are_added(records: tuple[Instance, ...]) -> None:
    entry = decided(at(1, 3), put(3, KEY), -1, 2, -1, seq=4)
    alone, effects = begun(*records, executed=(-1, 1, -1), entries=(entry,))
    assert effects.records == [entry]
    assert alone.executed == []
    assert alone.core.state.executor.above == [at(1, 3)]
    assert sent_to(alone.hear(2, Recover(at(1, 3), 5)), 2) == [Commit(at(1, 3), put(3, KEY), (-1, 2, -1), 4)]
    alone.learn(at(1, 2), NOP)
    assert alone.core.status().executed == (-1, 3, -1)


@pytest.mark.parametrize(("records", "ballot"), [((accepted(at(1, 3), 3, 4),), 4), ((), 0)])
def test_an_entry_that_is_added_has_what_was_promised_here(
    records: tuple[Instance, ...], ballot: int
) -> None:
    entry = decided(at(1, 3), put(3, KEY), -1, 2, -1, seq=4)
    entry.bal = entry.abal = 3
    _, effects = begun(*map(copy, records), executed=(-1, 1, -1), entries=(entry,))
    (record,) = effects.records
    assert (record.bal, record.abal) == (ballot, ballot)


def test_entries_in_what_was_dropped_since_are_not_added() -> None:
    entry = decided(at(1, 3), put(3, KEY), *NONE)
    alone, effects = begun(truncated=(-1, 3, -1), executed=(-1, 3, -1), entries=(entry,))
    assert effects.records == []
    assert alone.core.status().kept == 0


def test_it_comes_to_what_an_adoption_without_a_crash_comes_to() -> None:
    records = [decided(at(1, 0), put(0, KEY), *NONE), pre_accepted(at(1, 2), 2), pre_accepted(at(0, 0), 9)]
    entries = (decided(at(2, 4), put(4, KEY), *NONE), decided(at(1, 5), NOP, *NONE))
    once, _ = begun(*records, executed=(0, 3, -1), entries=entries)
    # The log has been changed, and the replica begins once more.
    log = [record for row in once.core.state.logs.rows for record in row.values()]
    truncated = once.core.status().truncated
    again = tuple(map(copy, entries))
    twice, effects = begun(*log, truncated=truncated, executed=(0, 3, -1), entries=again)
    assert (effects.records, effects.truncate) == ([], None)
    assert twice.core.status()._replace(remembered=0) == once.core.status()._replace(remembered=0)
    assert twice.core.state.executor.above == once.core.state.executor.above
