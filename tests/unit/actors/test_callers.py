"""Clients are told of the members: with their first frame, and when others take part."""

from __future__ import annotations

from epaxos.actors.callers import Roster, roster_of
from epaxos.config import default_replicas, make_config
from epaxos.protocol.membership import Member, joined, nobody
from epaxos.transport.framing import Kind
from front import Front
from harness.members import MEMBERS

CONFIG = make_config({"replicas": default_replicas(2)}, "test.toml")
ROSTER = Roster(1, "alpha", [("alpha", "h", 1, 0)])


def test_a_connection_is_told_with_its_first_frame_and_when_an_epoch_begins() -> None:
    front = Front()
    front.request(1, 1, identity=b"one")
    assert front.sent == []
    front.clients.answers.callers.tell(ROSTER)
    front.request(1, 1, identity=b"two")
    front.request(2, 1, identity=b"two")
    told = [1, "alpha", [["alpha", "h", 1, 0]]]
    assert front.sent == [(b"one", Kind.MEMBERS, told), (b"two", Kind.MEMBERS, told)]


def test_those_who_are_sent_away_know_whereto() -> None:
    front = Front()
    front.request(1, 1)
    front.clients.answers.callers.tell(ROSTER)
    front.clients.send_away("it has no vote in this cluster")
    assert [kind for _, kind, _ in front.sent] == [Kind.MEMBERS, Kind.AWAY]


def test_addresses_are_those_decided_and_else_those_of_the_file() -> None:
    delta = joined("delta", 9)
    running = MEMBERS.next(7, names=("alpha", "charlie", delta), members={delta: Member(9, "d", 1, 2, 3, 4)})
    told = roster_of(CONFIG, "alpha", running)
    first = CONFIG.replicas[0]
    assert told == Roster(
        1, "alpha", [("alpha", first.host, first.client_port, 0), ("charlie", "", 0, 0), (delta, "d", 2, 4)]
    )
    assert roster_of(CONFIG, "alpha", MEMBERS) is None
    assert roster_of(CONFIG, "alpha", nobody("epaxos")._replace(epoch=3)) is None
