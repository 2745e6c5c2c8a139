"""When a Replica tells clients the generation in which a session begins (protocol 4.13)."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.actors.clients import StatusRequest
from epaxos.actors.health import Standing
from epaxos.actors.replica import Digested, Replica
from epaxos.config import load_config
from epaxos.metrics.stats import ReplicaStats

BRIEF = StatusRequest(b"client", 7, {"brief": True})
PEERS = ("bravo", "charlie")


class Alpha:
    """As much of the Replica of row 0 of three as is asked here; its peers have decided all up to (4, 4, 4)."""

    def __init__(self) -> None:
        stats = ReplicaStats(("alpha", *PEERS), 0, (), (), 2)
        self.replica: Any = Mock(
            _is_current=False,
            _to_reach={},
            _remotes={1: Mock(online=False), 2: Mock(online=False)},
            _takes_part=True,
            _drain=None,
            _stats=stats,
            _had_quorum=False,
            _standing=Standing(),
            _config=load_config("conf/local.toml"),
            _machine=Mock(generation=3),
            _peer_changes=[],
        )
        self.replica._parts.eras.on_link.return_value = []
        self.executes((-1, -1, -1))

    def hears(self, *peers: str) -> None:
        for row, peer in enumerate(PEERS, 1):
            self.replica._stats.peer_up[peer] = self.replica._remotes[row].online = peer in peers
            Replica._on_peer(self.replica, row, peer in peers)

    def beacon(self, row: int, *committed: int) -> None:
        Replica._note_to_reach(self.replica, row, committed)

    def executes(self, executed: tuple[int, ...]) -> None:
        self.replica._core.status.return_value = Mock(executed=executed)

    def told(self) -> object:
        """The generation that a client is told after a round."""
        if not self.replica._is_current:
            Replica._come_up(self.replica, 0.0)
        Replica._answer_status(self.replica, BRIEF)
        _, status = self.replica._clients.answer_status.call_args.args
        return status["generation"]


@pytest.fixture
def alpha() -> Alpha:
    """One that serves."""
    it = Alpha()
    assert it.told() is None
    it.hears("bravo")
    it.beacon(1, 4, 4, 4)
    assert it.told() is None, "it has not executed yet what was decided when it came"
    it.executes((4, 4, 4))
    assert it.told() == 3
    return it


def test_none_is_told_without_a_quorum_and_until_what_was_decided_meanwhile_has_executed(
    alpha: Alpha,
) -> None:
    alpha.hears()
    alpha.beacon(1, 6, 4, 4)
    alpha.beacon(1, 8, 4, 4)
    assert alpha.told() is None
    alpha.hears("charlie")
    alpha.executes((8, 4, 4))
    assert alpha.told() is None, "charlie, who makes the quorum now, may know more than bravo did"
    alpha.beacon(2, 9, 4, 4)
    alpha.beacon(2, 12, 4, 4)
    assert alpha.told() is None
    alpha.executes((9, 4, 4))
    assert alpha.told() == 3
    assert alpha.replica._standing.started


def test_none_is_told_by_one_that_cannot_serve(alpha: Alpha) -> None:
    alpha.replica._standing.draining = True
    assert alpha.told() is None


def test_clients_are_sent_elsewhere_while_what_they_ask_for_gets_nowhere(alpha: Alpha) -> None:
    replica = alpha.replica
    replica._core.lost = True
    Replica._note_lost(replica)
    replica._clients.send_away.assert_called_once_with("it hears nobody who could order commands")
    replica._clients.away = "it hears nobody who could order commands"
    replica._core.lost = False
    Replica._note_lost(replica)
    assert replica._clients.away is None


def test_one_that_stops_or_cannot_promise_sends_clients_elsewhere_whatever_it_hears(alpha: Alpha) -> None:
    replica = alpha.replica
    for lost, replica._drain, trouble in ((True, Mock(), ""), (False, Mock(), ""), (False, None, "the disk")):
        replica._core.lost, replica._standing.trouble = lost, trouble
        replica._clients.away = "a reason"
        Replica._note_lost(replica)
        assert replica._clients.away == "a reason"
    replica._clients.send_away.assert_not_called()


def test_whoever_asks_for_a_digest_is_answered_though_it_fails(
    alpha: Alpha, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    alpha.replica._tell = told.append
    asked = StatusRequest(b"client", 7, {"digest": True})
    alpha.replica._digest_askers = [(asked, {"name": "alpha"})]
    done: Future[str] = Future()
    done.set_exception(MemoryError())
    Replica._tell_digest(alpha.replica, done)
    assert told == [Digested(None)]
    assert caplog.messages == ["the digest of the state could not be computed"]
    Replica._on_digest(alpha.replica, told[0].digest)
    alpha.replica._clients.answer_status.assert_called_with(asked, {"name": "alpha", "digest": None})
    assert alpha.replica._digest_askers == []
