"""Protocol 4.10: what is dropped and answered for, what Hold silences, what Adopt takes over."""

from __future__ import annotations

from functools import partial

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.contract import Adopt, Durable, Effects, Hold, Propose
from epaxos.protocol.epaxos.checkpoint import DROPPED_AT_A_TIME
from epaxos.protocol.epaxos.conflicts import ALL
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Message,
    Nack,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Phase
from epaxos.statemachine.batch import Batch, make_payload
from harness.alone import Alone, decided
from harness.blocks import recall, remember
from harness.commands import Access, barrier, collect, get, put
from harness.probe import is_quiet, sendings, sent, sent_to

KEY = b"x"
NONE: Vector = (-1, -1, -1)


def at(row: int, slot: int) -> InstanceId:
    return InstanceId(row, slot)


def dropped_row(alone: Alone, row: int, slots: int, *, key: bytes = KEY, annulled: int = -1) -> None:
    """Execute a row of writes to one key, and drop it; one of them was annulled."""
    for slot in range(slots):
        deps = tuple(slot - 1 if column == row else -1 for column in range(alone.n))
        if slot == annulled:
            alone.hear(row, PreAccept(at(row, slot), put(slot, key), (-1,) * alone.n, 0))
            alone.learn(at(row, slot), NOP)
        else:
            alone.learn(at(row, slot), put(slot, key), *deps)
    alone.checkpoint()
    assert alone.core.status().truncated[row] == slots - 1
    assert not alone.core.state.logs.rows[row]


# -- dropping ----------------------------------------------------------------------------------------------


def test_only_what_is_in_a_durable_cut_is_dropped() -> None:
    alone = Alone()
    alone.learn(at(1, 0), put(1, KEY))
    cut = alone.core.cut()
    while cut.absorb(1) is not None:
        pass
    alone.learn(at(1, 1), put(2, KEY), -1, 0, -1)
    assert cut.executed == (-1, 0, -1)
    effects = alone.checkpoint_of(cut.executed)
    assert effects.truncate == (-1, 0, -1)
    assert alone.core.status().truncated == (-1, 0, -1)
    assert alone.core.state.logs.rows[1].keys() == {1}


def test_a_cut_says_each_key_once_however_many_instances_touch_it() -> None:
    alone = Alone()
    for slot in range(40):
        alone.learn(at(1, slot), put(slot, KEY), -1, slot - 1, -1)
    cut = alone.core.cut()
    news = list(iter(partial(cut.absorb, 10), None))
    assert [list(some.written) for some in news if list(some.written)] == [[KEY]]
    (said,) = [said for some in news for said in some.remembered if said.keys]
    assert (list(said.keys), list(said.slots)) == ([KEY, ALL], [39, 39])


def test_below_a_base_nothing_is_read_off() -> None:
    """What was learned after a collection is left out of what is known, and has been written all the same (4.13)."""
    for executes in (False, True):
        alone = Alone()
        collection = collect(0, -1, 4, -1)
        alone.hear(1, PreAccept(at(1, 5), collection, (-1, 4, -1), 0))
        for slot in range(5):
            alone.learn(at(1, slot), put(slot, b"%d" % slot), -1, slot - 1, -1)
        if executes:
            alone.learn(at(1, 5), collection, -1, 4, -1)
        while alone.core.prepare(1):
            pass
        cut = alone.core.cut()
        news = list(iter(partial(cut.absorb, 10), None))
        assert {key for some in news for key in some.written} == {b"%d" % slot for slot in range(5)}
        assert sum(len(said.keys) for some in news for said in some.remembered) == (0 if executes else 6)
        assert alone.core.coverage["cut read off in vain"] == 1


def test_keys_that_are_made_again_for_a_cut_do_not_stay() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(at(1, 5), collect(0, -1, 4, -1), (-1, 4, -1), 0))  # so that nothing is read off
    payloads = [make_payload([Batch(7, slot + 1, 1, b"\x02", [b"%d" % slot], [b"x"])]) for slot in range(5)]
    for slot, payload in enumerate(payloads):
        alone.learn(at(1, slot), payload, -1, slot - 1, -1)
        payload.let_go()
    while alone.core.prepare(1):
        pass
    news = list(iter(partial(alone.core.cut().absorb, 10), None))
    assert {key for some in news for key in some.written} == {b"%d" % slot for slot in range(5)}
    assert alone.core.coverage["cut read off in vain"] == 1
    for payload in payloads:
        with pytest.raises(AttributeError):
            object.__getattribute__(payload, "keys")


def test_keys_of_payloads_are_told_once_and_in_steps() -> None:
    alone = Alone()
    for slot in range(40):
        alone.hear(1, PreAccept(at(1, slot), put(slot, KEY, b"%d" % (slot % 3)), (-1, -1, -1), 0))
    told = list(alone.core.payload_keys((-1, 19, -1), [at(1, 30)], 10))
    assert len(told) >= 5
    (said,) = [said for said in told if said.keys]
    assert dict(zip(said.keys, said.slots, strict=True)) == {
        KEY: 39,
        b"0": 39,
        b"1": 37,
        b"2": 38,
        ALL: 39,
    }
    assert not [said for said in alone.core.payload_keys((-1, -1, -1), [], 10) if said.keys]


def test_what_executed_above_a_gap_is_not_dropped() -> None:
    alone = Alone()
    alone.learn(at(1, 0), put(1, KEY))
    alone.learn(at(1, 2), put(2, b"y"))
    assert alone.executed == [(1, 0), (1, 2)]
    alone.checkpoint()
    assert alone.core.status().truncated == (-1, 0, -1)
    assert alone.core.state.logs.rows[1].keys() == {2}


def test_a_tail_is_kept_for_peers_that_were_away() -> None:
    alone = Alone(retain=5000)
    for slot in range(100):
        alone.learn(at(1, slot), put(slot, KEY), -1, slot - 1, -1)
    alone.checkpoint()
    kept = alone.core.status().kept
    assert 5 <= kept <= 10
    assert alone.core.status().truncated == (-1, 99 - kept, -1)


def test_much_is_dropped_a_part_at_a_time() -> None:
    alone = Alone()
    count = 2 * DROPPED_AT_A_TIME + 10
    for slot in range(count):
        alone.learn(at(1, slot), put(slot, KEY), -1, slot - 1, -1)
    cut = alone.core.cut()
    while cut.absorb(1000) is not None:
        pass
    truncated = []
    while True:
        effects = alone.checkpoint_of(cut.executed)
        if effects.truncate is None:
            break
        truncated.append(effects.truncate[1])
    assert truncated == [DROPPED_AT_A_TIME - 1, 2 * DROPPED_AT_A_TIME - 1, count - 1]


def test_what_follows_a_dropped_instance_still_executes_and_covers_it() -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    effects = alone.hear(2, PreAccept(at(2, 0), put(9, KEY), NONE, 0))
    assert sent(effects, PreAcceptOK)[2].deps == (-1, 2, -1)
    alone.learn(at(2, 0), put(9, KEY), -1, 2, -1)
    assert alone.executed[-1] == (2, 0)


def test_a_dropped_instance_that_was_annulled_is_covered_too() -> None:
    alone = Alone()
    dropped_row(alone, 1, 3, annulled=2)
    effects = alone.take(Propose(put(9, KEY)))
    assert sent(effects, PreAccept)[1].deps == (-1, 2, -1)


# -- what is answered for dropped instances ----------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        PreAccept(at(1, 1), put(1, KEY), (-1, 0, -1), 0),
        Accept(at(1, 1), 0, put(1, KEY), (-1, 0, -1), 0),
        Recover(at(1, 1), 4),
        Validate(at(1, 1), 4, put(1, KEY), (-1, 0, -1), 0),
        Waiting(at(1, 1), 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_who_asks_for_a_dropped_instance_is_told_that_it_was(message: Message) -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    effects = alone.hear(1, message)
    assert sendings(effects) == [(1, Truncated(at(1, 1), (-1, 2, -1)))]
    assert not effects.records
    assert not alone.core.state.logs.rows[1]


@pytest.mark.parametrize(
    "message",
    [
        PreAcceptOK(at(1, 1), (-1, 0, -1), 0),
        AcceptOK(at(1, 1), 0),
        Commit(at(1, 1), put(77, b"other"), (-1, 0, -1), 0),
        RecoverOK(at(1, 1), 3, 0, Phase.INITIAL, None, NONE, 0, None),
        ValidateOK(at(1, 1), 3, ()),
        Nack(at(1, 1), 7),
        Truncated(at(1, 1), (-1, 2, -1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_answers_for_a_dropped_instance_change_nothing(message: Message) -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    status = alone.core.status()
    assert is_quiet(alone.hear(1, message))
    assert alone.core.status() == status


def test_who_asks_for_decisions_that_were_dropped_is_told_so_and_gets_no_others() -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    alone.learn(at(1, 3), put(3, KEY), -1, 2, -1)
    effects = alone.hear(2, CommitRequest(1, 1, 9))
    assert sent_to(effects, 2) == [Truncated(at(1, 1), (-1, 2, -1))]
    assert sent_to(alone.hear(2, CommitRequest(1, 3, 9)), 2) == [
        Commit(at(1, 3), put(3, KEY), (-1, 2, -1), 0)
    ]
    assert sent_to(alone.hear(2, CommitRequest(1, 3, 9)), 2) == [
        Commit(at(1, 3), put(3, KEY), (-1, 2, -1), 0)
    ]


def test_who_is_told_of_what_was_dropped_wants_a_checkpoint() -> None:
    alone = Alone()
    effects = alone.hear(2, Truncated(at(1, 1), (-1, 5, -1)))
    assert effects.fetch == [2]
    assert alone.core.status().seen == (-1, 5, -1)
    alone.learn(at(1, 1), NOP)
    assert alone.hear(2, Truncated(at(1, 1), (-1, 5, -1))).fetch == [], "it is decided here"


def test_beacons_tell_what_was_dropped() -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    beacon = alone.core.beacon(0.0)
    assert isinstance(beacon, Beacon)
    assert (beacon.truncated, beacon.executed, beacon.committed) == ((-1, 2, -1),) * 3


# -- Validate and recovery speak of dropped instances (3.6b, 3.6c) -----------------------------------------


def validate(alone: Alone, command: Access, *deps: int) -> tuple[tuple[InstanceId, Phase], ...]:
    """What a replica finds against a fast decision of 2.0."""
    place, ballot = at(2, 0), 4
    alone.hear(1, Recover(place, ballot))
    effects = alone.hear(1, Validate(place, ballot, command, deps, 0))
    return sent(effects, ValidateOK)[1].against


@pytest.mark.parametrize("command", [put(9, KEY), barrier(9, *NONE)], ids=["put", "barrier"])
def test_validate_speaks_of_what_has_executed_and_was_dropped(command: Access) -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    assert validate(alone, command, -1, 1, -1) == ((at(1, 2), Phase.COMMITTED),)


@pytest.mark.parametrize("deps", [(-1, 2, -1), (-1, 5, -1)])
def test_validate_does_not_speak_of_what_is_covered(deps: Vector) -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    assert validate(alone, put(9, KEY), *deps) == ()


def test_validate_does_not_speak_of_what_does_not_conflict() -> None:
    alone = Alone()
    dropped_row(alone, 1, 3)
    assert validate(alone, put(9, b"other"), *NONE) == ()
    reader = Alone()
    reader.learn(at(1, 0), get(1, KEY))
    reader.checkpoint()
    assert validate(reader, get(9, KEY), *NONE) == ()


def test_validate_does_not_speak_of_what_was_annulled_and_dropped() -> None:
    """The index of known payloads may not be evidence: 3.6c."""
    alone = Alone()
    dropped_row(alone, 1, 3, annulled=2)
    assert validate(alone, put(9, KEY), -1, 1, -1) == ()
    assert validate(Alone(), put(9, KEY), *NONE) == ()


# -- Hold --------------------------------------------------------------------------------------------------

HELD = Hold((-1, 3, -1), (at(2, 5),))
IN_IT = [at(1, 0), at(1, 3), at(2, 5)]
NOT_IN_IT = [at(1, 4), at(2, 4), at(2, 6), at(0, 0)]


def requests(place: InstanceId) -> list[Message]:
    deps = tuple(place.slot - 1 if row == place.row else -1 for row in range(3))
    return [
        PreAccept(place, put(1, KEY), deps, 0),
        Accept(place, 0, put(1, KEY), deps, 0),
        Recover(place, 4),
    ]


@pytest.mark.parametrize("place", IN_IT)
def test_nothing_is_said_of_what_is_in_the_peers_checkpoint(place: InstanceId) -> None:
    alone = Alone()
    alone.take(HELD)
    for message in requests(place):
        assert is_quiet(alone.hear(place.row, message))
    assert alone.core.status().kept == 0


@pytest.mark.parametrize("place", NOT_IN_IT)
def test_of_everything_else_there_are_answers_as_ever(place: InstanceId) -> None:
    for message in requests(place):
        held, free = Alone(), Alone()
        held.take(HELD)
        owner = place.row or 1
        sender = 1 if isinstance(message, Recover) else owner
        assert sendings(held.hear(sender, message)) == sendings(free.hear(sender, message)) != []


def test_of_what_is_decided_here_there_is_the_decision() -> None:
    alone = Alone()
    alone.learn(at(1, 2), put(1, b"y"))
    alone.take(HELD)
    effects = alone.hear(2, Recover(at(1, 2), 5))
    assert sent_to(effects, 2) == [Commit(at(1, 2), put(1, b"y"), NONE, 0)]


def test_nothing_executes_while_it_holds() -> None:
    alone = Alone()
    alone.take(HELD)
    alone.learn(at(2, 0), put(1, KEY))
    alone.learn(at(1, 0), put(2, KEY))
    assert alone.executed == []
    assert alone.core.status().committed == (-1, 0, 0)
    adopt(alone, (-1, 3, -1))
    assert alone.executed == [at(2, 0)]


# -- Adopt -------------------------------------------------------------------------------------------------


def adopt(alone: Alone, executed: Vector, *entries: InstanceId, value: object = None) -> Effects[Message]:
    """Hold, merge nothing, and adopt; the entries wrote some key, if no value is given."""
    made = [
        decided(place, NOP if value is NOP else put(place.slot, b"entry"), *((-1,) * alone.n))
        for place in entries
    ]
    effects = alone.take(Hold(executed, entries))
    effects.extend(alone.take(Adopt(executed, made)))
    return effects


def test_what_has_executed_at_the_peer_is_over_here() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(at(1, 1), put(1, KEY), NONE, 0))
    effects = adopt(alone, (-1, 3, 0), at(2, 2), at(2, 4))
    assert effects.truncate == (-1, 3, 0)
    assert not alone.executed, "it has executed in the state that was merged"
    status = alone.core.status()
    assert (status.executed, status.truncated) == ((-1, 3, 0), (-1, 3, 0))
    assert alone.core.state.executor.above == [at(2, 2), at(2, 4)]
    assert [record.id for record in effects.records] == [at(2, 2), at(2, 4)]
    assert alone.core.state.logs.rows[2].keys() == {2, 4}
    assert status.seen == (-1, 3, 4)
    alone.learn(at(2, 1), NOP)
    assert alone.executed == [at(2, 1)]
    assert alone.core.status().executed == (-1, 3, 2)


def test_rows_of_which_nothing_is_missing_stay() -> None:
    """What has executed here and not there would be lost, and what is decided can be told to others."""
    alone = Alone(retain=10**6)
    for slot in range(5):
        alone.learn(at(1, slot), put(slot, KEY), -1, slot - 1, -1)
    effects = adopt(alone, (-1, 3, 2))
    assert effects.truncate == (-1, -1, 2)
    status = alone.core.status()
    assert (status.executed, status.truncated, status.kept) == ((-1, 4, 2), (-1, -1, 2), 5)


def test_what_waited_for_the_peers_instances_executes() -> None:
    alone = Alone()
    alone.learn(at(2, 0), put(1, KEY), -1, 3, -1)
    alone.learn(at(2, 1), put(2, KEY), -1, 4, 0)
    assert (alone.executed, alone.core.status().pending) == ([], 2)
    adopt(alone, (-1, 3, -1))
    assert (alone.executed, alone.core.status().pending) == ([at(2, 0)], 1)
    alone.learn(at(1, 4), put(3, KEY), -1, 3, -1)
    assert alone.executed == [at(2, 0), at(1, 4), at(2, 1)]


def proposed(alone: Alone, name: int, key: bytes) -> InstanceId:
    """Propose a command that nobody answers."""
    effects = alone.take(Propose(put(name, key)))
    return sent(effects, PreAccept)[1].id


def proposals(effects: Effects[Message]) -> list[PreAccept]:
    return [message for message in sent_to(effects, 1) if isinstance(message, PreAccept)]


def test_what_clients_here_wait_for_is_told_once_when_it_is_overtaken() -> None:
    alone = Alone()
    first, second, third, fourth = (proposed(alone, name, b"%d" % name) for name in range(4))
    assert [first, second, third, fourth] == [at(0, slot) for slot in range(4)]
    # Two are in the peer's frontier, one above it, one is nobody's yet.
    effects = adopt(alone, (1, -1, -1), third)
    assert effects.overtaken == [put(0, b"0"), put(1, b"1"), put(2, b"2")]
    assert not proposals(effects)
    assert alone.core.in_flight == 1
    assert not adopt(alone, (1, 7, -1), third).overtaken


def test_what_the_peer_annulled_is_proposed_again_once() -> None:
    alone = Alone()
    place = proposed(alone, 1, KEY)
    effects = adopt(alone, NONE, place, value=NOP)
    [again] = proposals(effects)
    assert (again.id, again.command, again.deps) == (at(0, 1), put(1, KEY), (0, -1, -1))
    assert alone.core.in_flight == 1


def test_what_has_executed_here_is_not_proposed_again() -> None:
    alone = Alone()
    place = proposed(alone, 1, KEY)
    alone.learn(place, put(1, KEY))
    assert alone.executed == [place]
    assert not adopt(alone, (0, 4, -1)).overtaken


def test_what_was_proposed_before_a_restart_has_no_client() -> None:
    before = Alone()
    place = proposed(before, 1, KEY)
    record = before.core.state.logs.rows[0][place.slot]
    alone = Alone(durable=Durable([record], NONE, NONE, ()))
    alone.resume()
    assert not proposals(adopt(alone, (0, -1, -1)))
    assert alone.core.status().truncated == (0, -1, -1)


def test_slots_of_the_own_row_in_the_checkpoint_are_never_used_again() -> None:
    alone = Alone()
    adopt(alone, (4, -1, -1), at(0, 9))
    assert proposed(alone, 1, KEY) == at(0, 10)


def test_nothing_is_coordinated_any_more_that_was_dropped() -> None:
    alone = Alone()
    place = proposed(alone, 1, KEY)
    adopt(alone, (0, -1, -1))
    for sender in (1, 2):
        assert is_quiet(alone.hear(sender, PreAcceptOK(place, NONE, 0)))
    effects = alone.pass_time(100)
    assert all(getattr(message, "id", None) != place for _, message in sendings(effects))


def test_a_checkpoint_behind_in_everything_changes_nothing() -> None:
    alone = Alone(retain=10**6)
    for row in (1, 2):
        for slot in range(3):
            alone.learn(at(row, slot), put(slot, b"entry"))
    status = alone.core.status()
    effects = adopt(alone, (-1, 1, 0), at(2, 2))
    assert alone.core.status() == status
    assert effects.truncate is None


# -- cases 10 and 11 for instances that are dropped ---------------------------------------------------------


def recoverer() -> tuple[Alone, InstanceId]:
    """A replica of five that waits, in the recovery of 1.0, for 2.0; that is known to nobody else here."""
    alone = Alone(5)
    none = (-1,) * 5
    place, other = at(1, 0), at(2, 0)
    alone.hear(1, PreAccept(place, put(1, KEY), none, 0))
    effects = Effects[Message]()
    alone.take_offline(1)
    while not sent(effects, Recover):
        effects = alone.pass_time(1.0)
    ballot = sent(effects, Recover)[2].ballot
    for row in (2, 3):
        deps = none
        init = alone.core.state.logs.rows[1][0].init
        answer = RecoverOK(place, ballot, 0, Phase.PREACCEPTED, put(1, KEY), deps, 0, init)
        effects = alone.hear(row, answer)
    assert sent(effects, Validate).keys() == {0, 2, 3}
    alone.hear(2, ValidateOK(place, ballot, ((other, Phase.PREACCEPTED),)))
    alone.hear(3, ValidateOK(place, ballot, ()))
    assert alone.core.coverage["case 9: wait"] == 1
    return alone, place


@pytest.mark.parametrize("annulled", [False, True])
def test_a_recovery_that_waits_for_what_a_peer_has_executed_and_dropped(annulled: bool) -> None:  # noqa: FBT001
    """The index of executed commands tells which of the two it was: case 10 or case 11."""
    alone, place = recoverer()
    executed = (-1, -1, 0, -1, -1)
    alone.take(Hold(executed, ()))
    writes = (-1,) * 5 if annulled else executed
    remember(alone.core, [KEY], alone.columns(writes, known=executed))
    effects = alone.take(Adopt(executed, ()))
    assert alone.core.status().truncated == executed
    votes = sent(effects, Accept)
    assert {message.id for message in votes.values()} == {place}
    expected = {put(1, KEY), None} if annulled else {NOP}
    assert {message.value for message in votes.values()} == expected
    case = "case 11: all decided for" if annulled else "case 10: executed against"
    assert alone.core.coverage[case] == 1


# -- what is remembered of keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "later"),
    [
        ((-1, -1, -1), (-1, -1, -1), False),
        ((-1, -1, -1), (0, -1, -1), True),
        ((3, 2, 1), (3, 2, 1), False),
        ((3, 2, 1), (3, 2, 2), True),
        ((3, 2, 1), (4, 4, 4), True),
        ((3, 2, 1), (3, 1, 1), False),
        ((3, 2, 1), (-1, -1, -1), False),
    ],
)
def test_the_later_value_of_a_key_is_that_with_more_writers(
    mine: Vector, theirs: Vector, *, later: bool
) -> None:
    alone = Alone()
    remember(alone.core, [KEY], alone.columns(mine))
    assert alone.merge([KEY], alone.columns(theirs)) == [later]
    highest = tuple(map(max, mine, theirs))
    assert recall(alone.core, [KEY]) == alone.columns(highest)


def test_readers_and_annulled_writers_make_no_value_later() -> None:
    alone = Alone()
    remember(alone.core, [KEY], alone.columns((3, 2, 1)))
    assert alone.merge([KEY], alone.columns((3, 2, 1), (9, 9, 9), known=(8, 8, 8))) == [False]
    assert recall(alone.core, [KEY]) == alone.columns((3, 2, 1), (9, 9, 9), known=(8, 8, 8))


@pytest.mark.parametrize(("mine", "theirs"), [((1, 0, -1), (0, 1, -1)), ((5, 5, 5), (6, 4, 5))])
def test_histories_of_which_neither_continues_the_other_stop_the_replica(
    mine: Vector, theirs: Vector
) -> None:
    alone = Alone()
    remember(alone.core, [KEY], alone.columns(mine))
    with pytest.raises(InvariantError, match="neither history of b'x' continues the other"):
        alone.merge([KEY], alone.columns(theirs))
    assert recall(alone.core, [KEY]) == alone.columns(mine), "nothing was merged"


def test_many_keys_are_compared_each_by_itself() -> None:
    alone = Alone()
    keys = [b"a", b"b", b"c"]
    remember(alone.core, keys, [[-1] * 3] * 9 + [[1, 1, 1], [2, 2, 2], [3, 3, 3]])
    theirs = [[-1] * 3] * 9 + [[1, 0, 2], [2, 1, 2], [3, 3, 3]]
    assert alone.merge(keys, theirs) == [False, False, True]
    assert recall(alone.core, keys)[9:] == [[1, 1, 2], [2, 2, 2], [3, 3, 3]]
