"""Protocol 4.9, timer 3: beacons, and asking for decisions that were missed."""

from __future__ import annotations

from epaxos.protocol.epaxos.dissemination import BYTES_PER_ANSWER, SLOTS_PER_REQUEST
from epaxos.protocol.epaxos.messages import Beacon, Commit, CommitRequest, PreAccept
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP
from harness.commands import put
from harness.probe import RETRY, Probe, asks_only, is_quiet, sendings

NONE = (-1, -1, -1)


def beacon(*, seen: Vector = NONE, committed: Vector = NONE) -> Beacon:
    return Beacon(seen, committed, NONE, NONE, NONE)


def decision(row: int, slot: int) -> Commit:
    return Commit(InstanceId(row, slot), put(slot, b"%d" % row), NONE, 0)


# -- what a beacon says ------------------------------------------------------------------------------------


def test_a_beacon_tells_what_is_seen_committed_and_executed() -> None:
    probe = Probe()
    assert probe.core.beacon() == beacon()
    probe.propose(put(1, b"x"))
    probe.receive(1, PreAccept(InstanceId(1, 4), put(2, b"y"), (-1, 2, 6), 0))
    for slot in (0, 1, 3):
        probe.receive(2, decision(2, slot))
    probe.receive(1, Commit(InstanceId(1, 0), put(3, b"z"), (0, -1, -1), 0))
    assert probe.core.beacon() == Beacon((0, 4, 6), (-1, 0, 1), (-1, -1, 1), NONE, NONE)
    assert probe.core.status()[:3] == ((-1, 0, 1), (-1, -1, 1), (0, 4, 6))
    assert probe.core.status().pending == 1


def test_what_a_beacon_has_seen_is_seen() -> None:
    probe = Probe()
    probe.receive(1, beacon(seen=(-1, 7, 3)))
    probe.receive(2, beacon(seen=(-1, 2, 5)))
    assert probe.core.beacon().seen == (-1, 7, 5)


# -- who asks ----------------------------------------------------------------------------------------------


def test_a_replica_that_has_stalled_behind_a_peer_asks_it() -> None:
    probe = Probe()
    probe.receive(2, decision(1, 0))
    assert is_quiet(probe.receive(2, beacon(committed=(-1, 4, -1)))), "this replica has just made progress"
    effects = probe.receive(2, beacon(committed=(-1, 4, -1)))
    assert effects.messages == [((2,), CommitRequest(1, 1, 4))]
    assert asks_only(effects, "messages")


def test_a_replica_that_makes_progress_does_not_ask() -> None:
    probe = Probe()
    for slot in range(5):
        probe.receive(1, decision(1, slot))
        assert is_quiet(probe.receive(2, beacon(committed=(-1, 9, -1))))


def test_a_replica_that_is_as_far_does_not_ask() -> None:
    probe = Probe()
    probe.receive(1, decision(1, 0))
    for _ in range(3):
        assert is_quiet(probe.receive(2, beacon(seen=(-1, 9, -1), committed=(-1, 0, -1))))


def test_every_row_is_asked_for() -> None:
    probe = Probe()
    effects = probe.receive(1, beacon(committed=(0, 5, 2)))
    assert effects.messages == [
        ((1,), CommitRequest(0, 0, 0)),
        ((1,), CommitRequest(1, 0, 5)),
        ((1,), CommitRequest(2, 0, 2)),
    ]


def test_a_request_is_bounded_and_the_next_one_follows_when_it_is_answered() -> None:
    probe = Probe()
    last = 2 * SLOTS_PER_REQUEST + 5
    effects = probe.receive(1, beacon(committed=(-1, last, -1)))
    requests = []
    while effects.messages:
        ((receivers, request),) = effects.messages
        assert receivers == (1,)
        assert isinstance(request, CommitRequest)
        assert request.row == 1
        requests.append((request.first, request.last))
        for slot in range(request.first, request.last + 1):
            assert is_quiet(effects) or effects.messages or effects.executions
            effects = probe.receive(1, decision(1, slot))
    size = SLOTS_PER_REQUEST
    assert requests == [(0, size - 1), (size, 2 * size - 1), (2 * size, last)]
    assert probe.core.status().committed == (-1, last, -1)


def test_a_request_that_is_lost_is_made_again_with_the_first_beacon_after_a_while() -> None:
    probe = Probe()
    for _ in range(3):
        effects = probe.receive(1, beacon(committed=(-1, 3, -1)))
        assert effects.messages == [((1,), CommitRequest(1, 0, 3))]
        probe.pass_time(RETRY)


def test_many_beacons_at_once_make_one_request() -> None:
    probe = Probe()
    assert not is_quiet(probe.receive(1, beacon(committed=(-1, 3, -1))))
    for peer in (1, 2) * 50:
        assert is_quiet(probe.receive(peer, beacon(committed=(-1, 3, -1))))


# -- what is answered --------------------------------------------------------------------------------------


def test_a_request_is_answered_with_the_decisions_that_are_known() -> None:
    probe = Probe()
    for slot in (0, 1, 4, 6):
        probe.receive(1, decision(1, slot))
    probe.receive(1, Commit(InstanceId(1, 3), NOP, NONE, 0))
    probe.receive(1, PreAccept(InstanceId(1, 5), put(5, b"x"), NONE, 0))
    effects = probe.receive(2, CommitRequest(1, 1, 5))
    assert effects.promises == [
        ((2,), decision(1, 1)),
        ((2,), Commit(InstanceId(1, 3), NOP, NONE, 0)),
        ((2,), decision(1, 4)),
    ]
    assert asks_only(effects, "promises")
    assert is_quiet(probe.receive(2, CommitRequest(2, 0, 9)))
    assert is_quiet(probe.receive(2, CommitRequest(1, 5, 3)))


def test_an_answer_has_at_most_as_many_slots_as_a_request_may_span() -> None:
    probe = Probe()
    for slot in range(SLOTS_PER_REQUEST + 10):
        probe.receive(1, decision(1, slot))
    effects = probe.receive(2, CommitRequest(1, 2, 2**40))
    assert sendings(effects) == [(2, decision(1, slot)) for slot in range(2, 2 + SLOTS_PER_REQUEST)]


def test_an_answer_stops_soon_after_its_bound_of_bytes() -> None:
    probe = Probe()
    size = BYTES_PER_ANSWER // 3
    for slot in range(10):
        probe.receive(1, Commit(InstanceId(1, slot), put(slot, bytes(size)), NONE, 0))
    answered = sendings(probe.receive(2, CommitRequest(1, 0, 9)))
    assert len(answered) == 3
    assert len(sendings(probe.receive(2, CommitRequest(1, 3, 9)))) == 3
