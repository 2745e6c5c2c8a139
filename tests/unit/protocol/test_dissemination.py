"""Protocol 4.9, timer 3: beacons, and asking for decisions that were missed."""

from __future__ import annotations

import pytest

from epaxos.protocol.contract import Effects
from epaxos.protocol.epaxos.dissemination import BYTES_PER_ANSWER, SLOTS_PER_REQUEST
from epaxos.protocol.epaxos.messages import Beacon, Commit, CommitRequest, Echo, Message, PreAccept, Truncated
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP
from epaxos.protocol.roundtrips import RoundTrip
from harness.commands import put
from harness.probe import RETRY, Probe, asks_only, is_quiet, sendings

NONE = (-1, -1, -1)


def beacon(
    *, seen: Vector = NONE, committed: Vector = NONE, truncated: Vector = NONE, stamp: int = 0
) -> Beacon:
    return Beacon(seen, committed, NONE, truncated, NONE, stamp)


def decision(row: int, slot: int) -> Commit:
    return Commit(InstanceId(row, slot), put(slot, b"%d" % row), NONE, 0)


# -- what a beacon says ------------------------------------------------------------------------------------


def test_a_beacon_tells_what_is_seen_committed_and_executed() -> None:
    probe = Probe()
    assert probe.core.beacon(probe.now) == beacon()
    probe.propose(put(1, b"x"))
    probe.receive(1, PreAccept(InstanceId(1, 4), put(2, b"y"), (-1, 2, 6), 0))
    for slot in (0, 1, 3):
        probe.receive(2, decision(2, slot))
    probe.receive(1, Commit(InstanceId(1, 0), put(3, b"z"), (0, -1, -1), 0))
    assert probe.core.beacon(probe.now) == Beacon((0, 4, 6), (-1, 0, 1), (-1, -1, 1), NONE, NONE, 0)
    assert probe.core.status()[:3] == ((-1, 0, 1), (-1, -1, 1), (0, 4, 6))
    assert probe.core.status().pending == 1


def test_what_a_beacon_has_seen_is_seen() -> None:
    probe = Probe()
    probe.receive(1, beacon(seen=(-1, 7, 3)))
    probe.receive(2, beacon(seen=(-1, 2, 5)))
    assert probe.core.beacon(probe.now).seen == (-1, 7, 5)


# -- who asks ----------------------------------------------------------------------------------------------


def asked(effects: Effects[Message]) -> list[tuple[Row, Message]]:
    """What is sent but the echo of a beacon."""
    assert asks_only(effects, "messages") or is_quiet(effects)
    return [(peer, message) for peer, message in sendings(effects) if not isinstance(message, Echo)]


def test_a_beacon_is_echoed() -> None:
    assert sendings(Probe().receive(2, beacon(stamp=77))) == [(2, Echo(77))]


def test_a_replica_that_has_stalled_behind_a_peer_asks_it() -> None:
    probe = Probe()
    probe.receive(2, decision(1, 0))
    assert not asked(probe.receive(2, beacon(committed=(-1, 4, -1)))), "this replica has just made progress"
    assert asked(probe.receive(2, beacon(committed=(-1, 4, -1)))) == [(2, CommitRequest(1, 1, 4))]


def test_a_replica_that_makes_progress_does_not_ask() -> None:
    probe = Probe()
    for slot in range(5):
        probe.receive(1, decision(1, slot))
        assert not asked(probe.receive(2, beacon(committed=(-1, 9, -1))))


def test_a_replica_that_is_as_far_does_not_ask() -> None:
    probe = Probe()
    probe.receive(1, decision(1, 0))
    for _ in range(3):
        assert not asked(probe.receive(2, beacon(seen=(-1, 9, -1), committed=(-1, 0, -1))))


def test_every_row_is_asked_for_one_at_a_time_and_none_of_two_peers() -> None:
    probe = Probe()
    committed = (0, 5, 2)
    assert asked(probe.receive(1, beacon(committed=committed))) == [(1, CommitRequest(0, 0, 0))]
    assert asked(probe.receive(2, beacon(committed=committed))) == [(2, CommitRequest(1, 0, 5))]
    assert asked(probe.receive(1, beacon(committed=committed))) == []
    effects = probe.receive(1, decision(0, 0))
    assert sendings(effects) == [(1, CommitRequest(2, 0, 2))], "the next row follows at once"


def test_who_has_dropped_what_is_missing_is_not_asked_as_long_as_another_one_has_it() -> None:
    probe = Probe()
    keeps, drops = beacon(committed=(9, 9, 9)), beacon(committed=(9, 9, 9), truncated=(8, 4, -1))
    assert asked(probe.receive(1, keeps)) == [(1, CommitRequest(0, 0, 9))]
    assert asked(probe.receive(2, drops)) == [(2, CommitRequest(2, 0, 9))], (
        "not row 1, of which it lacks slots"
    )
    probe.hint(1, online=False)
    for slot in range(10):
        effects = probe.receive(2, decision(2, slot))
    assert sendings(effects) == [(2, CommitRequest(0, 0, 9))], (
        "its answer will be that a checkpoint is needed"
    )


def test_of_two_who_have_dropped_it_the_first_is_asked() -> None:
    probe = Probe()
    drops = beacon(committed=(9, -1, -1), truncated=(8, -1, -1))
    assert asked(probe.receive(2, drops)) == [(2, CommitRequest(0, 0, 9))]
    probe = Probe()
    assert asked(probe.receive(1, beacon(committed=(-1, 9, -1)))) == [(1, CommitRequest(1, 0, 9))]
    assert asked(probe.receive(2, drops)) == [(2, CommitRequest(0, 0, 9))], "the other is not ahead there"


def test_a_request_is_bounded_and_the_next_one_follows_when_it_is_answered() -> None:
    probe = Probe()
    last = 2 * SLOTS_PER_REQUEST + 5
    requests = asked(probe.receive(1, beacon(committed=(-1, last, -1))))
    for slot in range(last + 1):
        requests += sendings(probe.receive(1, decision(1, slot)))
    size = SLOTS_PER_REQUEST
    spans = [(0, size - 1), (size, 2 * size - 1), (2 * size, last)]
    assert requests == [(1, CommitRequest(1, *span)) for span in spans]
    assert probe.core.status().committed == (-1, last, -1)


def test_the_next_request_follows_where_an_answer_has_reached_its_bound_of_bytes() -> None:
    probe = Probe()
    probe.receive(1, beacon(committed=(-1, 9, -1)))
    size = BYTES_PER_ANSWER // 3
    for slot in range(3):
        effects = probe.receive(1, Commit(InstanceId(1, slot), put(slot, bytes(size)), NONE, 0))
        assert sendings(effects) == ([(1, CommitRequest(1, 3, 9))] if slot == 2 else [])


def test_a_question_is_asked_again_only_when_the_answer_must_have_come() -> None:
    """The echo of a beacon that was sent after it tells: links keep the order."""
    probe = Probe()
    request = [(1, CommitRequest(1, 0, 3))]
    probe.now = 1.0
    before = probe.core.beacon(0.5).stamp
    assert asked(probe.receive(1, beacon(committed=(-1, 3, -1)))) == request
    for _ in range(20):
        probe.pass_time(RETRY)
        assert asked(probe.receive(1, beacon(committed=(-1, 3, -1)))) == []
        assert asked(probe.receive(1, Echo(before))) == []
    after = probe.core.beacon(probe.now).stamp
    assert asked(probe.receive(1, Echo(after))) == request
    assert asked(probe.receive(1, Echo(after))) == [], "a second echo tells nothing"


def test_what_a_peer_was_asked_before_it_went_away_is_asked_again() -> None:
    probe = Probe()
    assert asked(probe.receive(1, beacon(committed=(-1, 3, -1))))
    probe.hint(1, online=False)
    assert asked(probe.receive(1, beacon(committed=(-1, 3, -1))))


def test_a_row_that_a_peer_was_asked_for_which_is_gone_is_asked_of_another() -> None:
    """Its beacon may arrive when it has been given up already."""
    probe = Probe()
    probe.hint(1, online=False)
    assert asked(probe.receive(1, beacon(committed=(-1, 3, -1)))) == [(1, CommitRequest(1, 0, 3))]
    assert asked(probe.receive(2, beacon(committed=(-1, 3, -1)))) == [(2, CommitRequest(1, 0, 3))]


def test_a_row_of_which_nothing_comes_keeps_no_other_waiting() -> None:
    """As where the peer has dropped it, and its checkpoint takes long."""
    probe = Probe()
    probe.hint(2, online=False)
    rows = set()
    effects = probe.receive(1, beacon(committed=(-1, 3, 3)))
    for _ in range(10):
        rows |= {request.row for _, request in asked(effects) if isinstance(request, CommitRequest)}
        probe.receive(1, Truncated(InstanceId(1, 0), (-1, 3, -1)))
        probe.pass_time(0.1)
        probe.receive(1, beacon(committed=(-1, 3, 3)))
        effects = probe.receive(1, Echo(probe.core.beacon(probe.now).stamp))
    assert rows == {1, 2}


def test_many_beacons_at_once_make_one_request() -> None:
    probe = Probe()
    assert asked(probe.receive(1, beacon(committed=(-1, 3, -1))))
    for peer in (1, 2) * 50:
        assert not asked(probe.receive(peer, beacon(committed=(-1, 3, -1))))


# -- round trips -------------------------------------------------------------------------------------------


def test_an_echo_tells_how_long_a_round_trip_takes() -> None:
    probe = Probe()
    trip = probe.core.state.round_trips[1]
    probe.receive(1, Echo(0))
    assert trip.longest == 0, "no beacon has been sent"
    probe.now = 5.0
    stamp = probe.core.beacon(5.0).stamp
    probe.receive(1, Echo(stamp - 1))
    assert trip.longest == 0, "an echo of before a restart"
    probe.now = 5.1
    probe.receive(1, Echo(stamp))
    assert trip.mean == pytest.approx(0.1)
    assert trip.longest == pytest.approx(0.3)
    probe.receive(1, Echo(stamp + 10**9))
    assert trip.mean == pytest.approx(0.1), "nothing comes back before it was sent"


def test_the_estimate_follows_what_is_measured() -> None:
    trip = RoundTrip()
    for _ in range(100):
        trip.measured(0.05)
    assert trip.longest == pytest.approx(0.05, rel=0.01)
    for _ in range(100):
        trip.measured(2.0)
    assert trip.longest == pytest.approx(2.0, rel=0.01)


def test_what_a_peer_missed_while_it_was_away_is_no_round_trip() -> None:
    """One that was stopped echoes it all when it goes on, before it is taken for back."""
    probe = Probe()
    trip = probe.core.state.round_trips[1]
    probe.core.beacon(0.0)
    probe.hint(1, online=False)
    stamps = []
    for _ in range(1000):
        probe.now += 1.0
        stamps.append(probe.core.beacon(probe.now).stamp)
    for stamp in stamps:
        probe.receive(1, Echo(stamp))
    assert trip.longest == 0
    probe.hint(1, online=True)
    stamp = probe.core.beacon(probe.now + 0.1).stamp
    probe.now += 0.2
    probe.receive(1, Echo(stamp))
    assert trip.mean == pytest.approx(0.1)


def test_a_pause_does_not_make_patience_of_hours() -> None:
    probe = Probe(recovery_timeout=1.0)
    for peer in (1, 2):
        for _ in range(50):
            probe.now += 0.1
            stamp = probe.core.beacon(probe.now).stamp
            probe.receive(peer, Echo(stamp))
    stamp = probe.core.beacon(probe.now).stamp
    probe.now += 3600.0
    for peer in (1, 2):
        probe.receive(peer, Echo(stamp))
    assert probe.core.state.patience(InstanceId(1, 0), 0) < 120.0


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
