"""What is taken up again when a peer comes back, and whom it is left to until then."""

from __future__ import annotations

from epaxos.protocol.epaxos.messages import PreAccept, Recover
from epaxos.protocol.ids import InstanceId, next_ballot
from harness.commands import put
from harness.probe import Probe, sent

N, ME, OWNER, THIRD = 5, 0, 1, 2
PLACE = InstanceId(OWNER, 0)
TIMEOUT = 1.0


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


def test_what_was_taken_over_is_not_left_to_the_owner() -> None:
    probe = informed()
    probe.receive(THIRD, Recover(PLACE, next_ballot(0, THIRD, N)))
    waited = until_recovery(probe, 20 * TIMEOUT)
    assert waited is not None
    assert waited < 2 * TIMEOUT


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
    probe.hint(THIRD, online=True)
    assert THIRD in sent(probe.pass_time(0.0), Recover)
