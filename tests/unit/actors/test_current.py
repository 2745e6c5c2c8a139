"""When a Replica tells clients the generation in which a session begins (protocol 4.13)."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.actors.answers import StatusRequest
from epaxos.actors.health import Standing
from epaxos.actors.presence import Presence
from epaxos.actors.questions import Digested, Questions, Subjects
from epaxos.config import load_config
from epaxos.metrics.stats import ReplicaStats
from epaxos.protocol.membership import Member

BRIEF = StatusRequest(b"client", 7, {"brief": True})
PEERS = ("bravo", "charlie")
CONFIG = load_config("conf/local.toml")


class Alpha:
    """As much of the Replica of row 0 of three as is asked here; its peers have decided all up to (4, 4, 4)."""

    def __init__(self, *, resumes: bool = True) -> None:
        self.stats = ReplicaStats(("alpha", *PEERS), 0, (), (), 2)
        self.standing, self.clients = Standing(), Mock()
        self.core = Mock(lost=False)
        self.parts: Any = Mock(stats=self.stats, core=self.core, machine=Mock(generation=3), resumes=resumes)
        self.parts.configuration, self.parts.me = CONFIG.initial, "alpha"
        self.peers = Mock(acknowledged=set(), settled=False)
        self.remotes = {peer: Mock(online=False) for peer in PEERS}
        post: Any = Mock(remotes=self.remotes)
        self.presence = Presence(
            CONFIG, self.parts, self.clients, self.peers, post, Mock(), self.standing, born=0.0
        )
        subjects = Subjects(
            self.parts, self.clients, post, Mock(), self.presence, Mock(), self.standing, Mock()
        )
        self.tells: list[Any] = []
        self.questions = Questions(CONFIG, 0, subjects, Mock(), self.tells.append, 0.0)
        self.executes((-1, -1, -1))

    def hears(self, *peers: str) -> None:
        for peer in PEERS:
            self.stats.peer_up[peer] = self.remotes[peer].online = peer in peers
            self.presence.note_quorum()

    def beacon(self, row: int, *committed: int) -> None:
        self.presence.note_to_reach(PEERS[row - 1], committed)

    def executes(self, executed: tuple[int, ...]) -> None:
        self.core.status.return_value = Mock(executed=executed)

    def told(self) -> object:
        """The generation that a client is told after a round."""
        self.presence.look(0.0)
        self.questions.answer(BRIEF, 0.0)
        _, status = self.clients.answers.answer_status.call_args.args
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
    assert alpha.standing.started


def test_none_is_told_by_one_that_cannot_serve(alpha: Alpha) -> None:
    alpha.standing.draining = True
    assert alpha.told() is None


def test_clients_are_sent_elsewhere_while_what_they_ask_for_gets_nowhere(alpha: Alpha) -> None:
    alpha.core.lost = True
    alpha.presence.look(0.0)
    alpha.clients.send_away.assert_called_once_with("it hears nobody who could order commands", stuck=True)
    alpha.clients.away = "it hears nobody who could order commands"
    alpha.core.lost = False
    alpha.presence.look(0.0)
    assert alpha.clients.away is None


def test_watchers_are_sent_elsewhere_where_nothing_executes_any_more(alpha: Alpha) -> None:
    """They would be told where they are, again and again, and never what changes."""
    watched = StatusRequest(b"client", 8, {"watch": {"prefix": b""}})
    send_away = alpha.parts.watchers.send_away
    alpha.clients.away = None
    alpha.questions.answer(watched, 0.0)
    alpha.parts.watchers.ask.assert_called_once()
    alpha.hears()
    send_away.assert_called_once_with("it hears no quorum")
    alpha.questions.answer(watched, 0.0)
    alpha.parts.watchers.ask.assert_called_once()
    away = "it hears no quorum, or has not caught up yet"
    alpha.clients.answers.answer_status.assert_called_with(watched, {"watch": {"away": away}})
    alpha.hears("bravo")
    alpha.beacon(1, 4, 4, 4)
    alpha.presence.look(0.0)
    alpha.questions.answer(watched, 0.0)
    assert alpha.parts.watchers.ask.call_count == 2
    alpha.core.lost = True
    alpha.presence.look(0.0)
    send_away.assert_called_with("it hears nobody who could order commands")
    alpha.standing.trouble = "the disk"
    alpha.presence.begin_to_drain(0.0)
    send_away.assert_called_with("it is stopping")


def test_one_that_stops_or_cannot_promise_sends_clients_elsewhere_whatever_it_hears(alpha: Alpha) -> None:
    draining: Any = Mock()
    for lost, drain, trouble in ((True, draining, ""), (False, draining, ""), (False, None, "the disk")):
        alpha.core.lost, alpha.presence.drain, alpha.standing.trouble = lost, drain, trouble
        alpha.clients.away = "a reason"
        alpha.presence.note_lost()
        assert alpha.clients.away == "a reason"
    alpha.clients.send_away.assert_not_called()


def test_whoever_asks_for_a_digest_is_answered_though_it_fails(
    alpha: Alpha, caplog: pytest.LogCaptureFixture
) -> None:
    questions, asked = alpha.questions, StatusRequest(b"client", 7, {"digest": True})
    questions._digest_askers = [(asked, {"name": "alpha"})]
    done: Future[str] = Future()
    done.set_exception(MemoryError())
    questions._tell_digest(done)
    assert alpha.tells == [Digested(None)]
    assert caplog.messages == ["the digest of the state could not be computed"]
    questions.on_digest(alpha.tells[0].digest)
    alpha.clients.answers.answer_status.assert_called_with(asked, {"name": "alpha", "digest": None})
    assert questions._digest_askers == []


def test_who_begins_anew_takes_part_once_no_other_of_its_name_can(caplog: pytest.LogCaptureFixture) -> None:
    alpha = Alpha(resumes=False)
    alpha.peers.acknowledged = {"bravo", "delta#00000000000000ff"}
    for now in (0.5, 1.5, 9.5):
        alpha.presence.look(now)
    alpha.peers.settle.assert_not_called()  # only those who vote count
    [line] = caplog.messages
    assert line.endswith("known to 2 others, and this one is known to bravo of bravo, charlie")
    alpha.peers.acknowledged.add("charlie")
    alpha.presence.look(9.6)
    assert alpha.presence.takes_part
    alpha.peers.settle.assert_called_once_with()


def test_who_has_been_decided_to_be_a_member_takes_part_once_a_quorum_knows_it() -> None:
    alpha = Alpha(resumes=False)
    members = {name: Member(number) for number, name in enumerate(CONFIG.initial.names, 1)}
    alpha.parts.configuration = CONFIG.initial.next(7, members=members)
    alpha.peers.acknowledged = {"charlie"}
    alpha.presence.look(1.5)
    assert alpha.presence.takes_part
