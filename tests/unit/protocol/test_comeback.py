"""How long an instance is left to whom, and what is taken up again when a peer comes back (protocol 4.9)."""

from __future__ import annotations

import pytest

from epaxos.protocol.epaxos.messages import Beacon, Nack, PreAccept, Recover
from epaxos.protocol.ids import InstanceId, next_ballot
from harness.commands import put
from harness.probe import Probe, sent

N, ME, OWNER, THIRD = 5, 0, 1, 2
PLACE = InstanceId(OWNER, 0)
TIMEOUT = 1.0
NONE = (-1,) * N


def informed() -> Probe:
    """A replica that has heard of an instance of the owner, which is there; all others are gone."""
    probe = Probe(n=N, row=ME, recovery_timeout=TIMEOUT)
    for peer in range(THIRD, N):
        probe.hint(peer, online=False)
    probe.receive(OWNER, PreAccept(PLACE, put(1, b"key"), (-1,) * N, 0))
    return probe


def until_recovery(probe: Probe, seconds: float) -> float | None:
    """How long it takes until the instance is recovered at a new ballot; None if longer than that."""
    began = probe.now
    known = probe.instance(*PLACE).bal
    while probe.now < began + seconds:
        if any(message.ballot > known for message in sent(probe.pass_time(0.01), Recover).values()):
            return probe.now - began
    return None


def test_owner_that_is_there_is_left_to_finish() -> None:
    probe = informed()
    assert until_recovery(probe, 3 * TIMEOUT) is None
    assert until_recovery(probe, 20 * TIMEOUT) is not None


@pytest.mark.parametrize("since_sweep", [0.01, 0.1, 0.2])
def test_what_an_owner_leaves_is_recovered_when_that_is_due_and_not_at_the_next_look(
    since_sweep: float,
) -> None:
    """All that conflicts with it waits, in every client of every replica."""
    probe = informed()
    probe.pass_time(TIMEOUT)
    probe.pass_time(since_sweep)
    probe.hint(OWNER, online=False)
    due = probe.core.state.suspects[PLACE].due - probe.now
    waited = until_recovery(probe, TIMEOUT)
    assert waited is not None
    assert waited <= due + TIMEOUT / 32 + 0.01


def test_owner_that_is_back_is_left_to_finish_once() -> None:
    """Who took it over then would compete with the owner, and annul what that is about to decide."""
    probe = informed()
    probe.pass_time(TIMEOUT)
    probe.hint(OWNER, online=False)
    probe.hint(OWNER, online=True)
    assert until_recovery(probe, 3 * TIMEOUT) is None
    probe.hint(OWNER, online=False)
    probe.hint(OWNER, online=True)  # it comes and goes, and may never come to an end
    waited = until_recovery(probe, TIMEOUT)
    assert waited is not None
    assert waited < TIMEOUT


def test_what_was_taken_over_is_not_left_to_the_owner() -> None:
    probe = informed()
    probe.receive(THIRD, Recover(PLACE, next_ballot(0, THIRD, N)))
    waited = until_recovery(probe, 20 * TIMEOUT)
    assert waited is not None
    assert waited < 2 * TIMEOUT


def test_nack_brings_a_recoverer_above_all_that_was_promised() -> None:
    """Else each attempt is refused until its ballots, one round of the ring at a time, have come as far."""
    probe = informed()
    probe.hint(OWNER, online=False)
    assert until_recovery(probe, 20 * TIMEOUT) is not None
    promised = next_ballot(100 * N, THIRD, N)
    probe.receive(OWNER, Nack(PLACE, promised))
    assert until_recovery(probe, 100 * TIMEOUT) is not None
    assert probe.instance(*PLACE).bal > promised


def test_recovery_that_found_no_quorum_is_begun_again_when_a_peer_is_back() -> None:
    probe = informed()
    probe.hint(OWNER, online=False)
    for _ in range(5):
        assert until_recovery(probe, 100 * TIMEOUT) is not None  # nobody ever answers
    while PLACE in probe.core._recovery.recoveries:
        probe.pass_time(0.01)
    probe.hint(OWNER, online=True)
    waited = until_recovery(probe, 20 * TIMEOUT)
    assert waited is not None
    assert waited < TIMEOUT


def test_recovery_under_way_asks_at_once_a_peer_that_is_back() -> None:
    probe = informed()
    probe.hint(OWNER, online=False)
    assert until_recovery(probe, 20 * TIMEOUT) is not None
    probe.pass_time(0.01)
    assert sent(probe.hint(THIRD, online=True), Recover).keys() == {THIRD}


def test_peer_that_is_back_is_asked_alone() -> None:
    probe = informed()
    probe.hint(OWNER, online=False)
    assert until_recovery(probe, 20 * TIMEOUT) is not None
    ballot = probe.instance(*PLACE).bal
    assert sent(probe.hint(3, online=True), Recover) == {3: Recover(PLACE, ballot)}


def test_owner_is_given_time_by_the_round_trips_that_are_measured() -> None:
    """A time-out below the round trip would annul what only takes long, again and again."""
    probe = informed()
    for peer in (OWNER, 2, 3, 4):
        probe.core.state.online.add(peer)
        for _ in range(50):
            probe.core.state.measured(peer, 10 * TIMEOUT)
    probe.core.state.suspects.clear()
    assert until_recovery(probe, 100 * TIMEOUT) is None
    assert until_recovery(probe, 200 * TIMEOUT) is not None


def measure(probe: Probe, peers: tuple[int, ...], seconds: float) -> None:
    """These peers are there, and round trips with them take so long for a while."""
    for peer in peers:
        probe.core.state.online.add(peer)
        for _ in range(100):
            probe.core.state.measured(peer, seconds)


def test_owner_is_not_given_the_time_of_round_trips_that_were_long_once() -> None:
    probe = informed()
    measure(probe, (OWNER, 2, 3, 4), 10 * TIMEOUT)
    probe.core.state.suspects.clear()
    assert until_recovery(probe, 3 * TIMEOUT) is None
    measure(probe, (OWNER, 2, 3, 4), 0.01)
    assert until_recovery(probe, 4 * TIMEOUT) is None, "it is there"
    assert until_recovery(probe, 20 * TIMEOUT) is not None


def test_next_attempt_does_not_wait_for_round_trips_that_were_long_once() -> None:
    """It waits for many of them, twice as many each time: that would be minutes after links were full."""
    probe = informed()
    probe.hint(OWNER, online=False)
    for _ in range(3):
        assert until_recovery(probe, 100 * TIMEOUT) is not None  # nobody ever answers
    measure(probe, (2, 3), 10 * TIMEOUT)
    probe.receive(THIRD, Nack(PLACE, next_ballot(probe.instance(*PLACE).bal, THIRD, N)))
    assert until_recovery(probe, 20 * TIMEOUT) is None, "links are full"
    measure(probe, (2, 3), 0.01)
    assert until_recovery(probe, 10 * TIMEOUT) is not None


def test_attempt_at_a_recovery_lasts_as_long_as_a_quorum_takes_to_answer() -> None:
    probe = informed()
    probe.hint(OWNER, online=False)
    for peer in (2, 3):
        probe.core.state.online.add(peer)
        for _ in range(50):
            probe.core.state.measured(peer, 30.0)
    assert until_recovery(probe, 200.0) is not None
    began = probe.now
    while PLACE in probe.core._recovery.recoveries:
        assert not sent(probe.pass_time(0.1), Recover).keys() & {2, 3} or probe.now > began + 30.0
    assert probe.now > began + 5 * 29.0


def test_attempts_at_a_recovery_grow_longer() -> None:
    """So what was never measured is waited for long enough at some time."""
    probe = informed()
    probe.hint(OWNER, online=False)
    lengths = []
    for _ in range(6):
        assert until_recovery(probe, 1000 * TIMEOUT) is not None
        began = probe.now
        while PLACE in probe.core._recovery.recoveries:
            probe.pass_time(0.02)
        lengths.append(probe.now - began)
    assert lengths[-1] > 10 * lengths[0]


def test_what_a_peer_has_decided_is_asked_for_and_not_recovered() -> None:
    probe = informed()
    probe.receive(OWNER, Beacon(NONE, (-1, 0, -1, -1, -1), NONE, NONE, NONE, 0))
    assert until_recovery(probe, 100 * TIMEOUT) is None
    probe.hint(OWNER, online=False)
    assert until_recovery(probe, 20 * TIMEOUT) is not None, "who has it is gone"
