"""Where replicas are, as clients learn it from those that they reach."""

from __future__ import annotations

from random import Random

import pytest

from epaxos.client.directory import Directory, Told
from epaxos.errors import ConfigError
from epaxos.security.keys import KeyPair, Login
from epaxos.transport.framing import Kind
from session_rig import Rig

NAMES = ("alpha", "bravo", "charlie")
ENDPOINTS = ("tcp://10.0.0.1:4264", "tcp://10.0.0.2:4264", "tcp://10.0.0.3:4264")
PLACES = {
    name: (f"10.0.0.{row}", 4264, 0) for row, name in enumerate((*NAMES, "delta", "echo", "foxtrot"), 1)
}
ANOTHER = "alpha#0000000000000007"


def directory(login: Login | None = None) -> Directory:
    return Directory(NAMES, ENDPOINTS, (1, 2, 0), login)


def told(epoch: int, *members: str, sender: str = "", **places: tuple[str, int, int]) -> Told:
    return Told(epoch, sender or members[0], {name: (PLACES | places)[name] for name in members})


def test_all_may_be_replaced_one_after_the_other_and_whoever_was_there_is_tried_last() -> None:
    known = directory()
    assert not known.learn(told(1, *NAMES), 0, Random(1))
    assert known.learn(told(2, "bravo", "charlie", "delta"), 1, Random(1))
    assert (known.order, known.replicas) == ((1, 2, 3, 0), ("bravo", "charlie", "delta"))
    assert known.places[3].endpoint == "tcp://10.0.0.4:4264"
    assert known.learn(told(3, "delta", "echo", "foxtrot"), 3, Random(1))
    assert known.replicas == ("delta", "echo", "foxtrot")
    assert set(known.members) == {3, 4, 5}
    assert known.order[3:] == (0, 1, 2)
    assert known.index_of("echo") == 4
    with pytest.raises(ConfigError, match='found "golf"; allowed: one of delta, echo, foxtrot'):
        known.index_of("golf")


def test_who_preferred_one_that_has_gone_spreads_over_the_others() -> None:
    first = set()
    for seed in range(20):
        known = directory()
        known.learn(told(1, "alpha", "charlie", "delta"), 0, Random(seed))
        first.add(known.order[0])
    assert first == {0, 2, 3}


def test_another_replica_of_the_same_name_and_place_is_found_there_and_elsewhere_at_another_place() -> None:
    known = directory()
    known.learn(Told(1, "bravo", {ANOTHER: PLACES["alpha"], "bravo": PLACES["bravo"]}), 1, Random(1))
    assert (len(known.places), known.places[0].id, known.replicas) == (3, ANOTHER, ("alpha", "bravo"))
    known.learn(Told(2, "bravo", {ANOTHER: ("10.0.0.9", 4264, 0), "bravo": PLACES["bravo"]}), 1, Random(1))
    assert known.places[3].endpoint == "tcp://10.0.0.9:4264"
    known = directory()
    known.learn(Told(1, "bravo", {ANOTHER: ("10.0.0.9", 4264, 0), "bravo": PLACES["bravo"]}), 1, Random(1))
    assert known.index_of("alpha") == 3


def test_what_is_of_an_earlier_epoch_or_leads_nowhere_says_nothing_new() -> None:
    known = directory()
    known.learn(told(2, "bravo", "charlie", "delta"), 1, Random(1))
    assert not known.learn(told(1, *NAMES), 0, Random(1))
    assert not known.learn(told(2, *NAMES), 0, Random(1))
    assert (
        known.learn(
            told(3, "bravo", "charlie", "delta", "echo", delta=("", 0, 0), echo=("", 0, 0)), 1, Random(1)
        )
        is False
    )


def test_of_an_endpoint_alone_only_who_is_there_tells_whether_it_takes_part() -> None:
    """An address that is told may be out of reach from here, as behind a forwarded port."""
    known = Directory(
        ("localhost:1", "localhost:2"), ("tcp://localhost:1", "tcp://localhost:2"), (0, 1), None
    )
    known.learn(told(1, "bravo", "delta"), 0, Random(1))
    assert known.order == (0, 1, 2, 3)
    assert known.replicas == ("localhost:1", "localhost:2", "10.0.0.2:4264", "10.0.0.4:4264")
    known.learn(told(1, "bravo", "delta", sender="alpha"), 1, Random(1))
    assert known.order == (0, 2, 3, 1)


def test_nobody_is_asked_whose_key_is_not_known_and_another_key_is_another_place() -> None:
    keys = {"alpha": "new", "bravo": "b", "delta": "d"}
    known = directory(Login(KeyPair("p", "s"), ["a", "b", "c"], keys.get))
    known.learn(
        Told(
            1, "bravo", {ANOTHER: PLACES["alpha"]} | {one: PLACES[one] for one in ("bravo", "delta", "echo")}
        ),
        1,
        Random(1),
    )
    assert [(its.name, its.server) for its in known.places[3:]] == [("alpha", "new"), ("delta", "d")]
    assert known.index_of("alpha") == 3


def test_a_session_goes_to_whom_it_was_told_of() -> None:
    rig = Rig(3)
    ticket = rig.put()
    sent = rig.only()
    rig.receive(0, Kind.MEMBERS, 1, "alpha", [["delta", "10.0.0.4", 4264, 0]])
    rig.away(sent, "it has no vote in this cluster")
    assert rig.turn() == []
    assert rig.opened == [3]
    rig.session.rise(3)
    again = rig.only()
    assert (again.replica, again.batch.first) == (3, sent.batch.first)
    rig.reply(again)
    assert rig.finished() == [ticket]
    assert rig.session.retries["busy"] == 1


def test_what_two_sessions_share_is_seen_by_the_one_that_did_not_hear_it() -> None:
    rig = Rig(3, up=False)
    rig.options.directory.learn(told(1, "delta", sender="alpha"), 0, Random(1))
    rig.put()
    rig.turn()
    assert rig.opened == [3]


@pytest.mark.parametrize(
    "body",
    [
        (0, "alpha", [["delta", "h", 1, 0]]),
        (1, 7, [["delta", "h", 1, 0]]),
        (1, "alpha", []),
        (1, "alpha", [["delta", "h", 1]]),
        (1, "alpha", [["delta", "h", 2**16, 0]]),
        (1, "alpha", [[["delta"], "h", 1, 0]]),
    ],
)
def test_what_tells_of_no_members_is_dropped(body: tuple[object, ...]) -> None:
    rig = Rig(3)
    rig.receive(0, Kind.MEMBERS, *body)
    assert rig.session.bad_frames == 1
    assert rig.options.directory.epoch == 0


def test_who_has_moved_is_asked_there_whatever_the_file_says() -> None:
    known = directory()
    assert known.learn(told(1, *NAMES, bravo=("10.0.0.9", 4264, 1), sender="charlie"), 2, Random(1))
    assert known.index_of("bravo") == 3
    assert (set(known.members), known.order[-1]) == ({0, 2, 3}, 1)
    assert known.learn(told(2, *NAMES, bravo=("10.0.0.2", 4264, 2), sender="charlie"), 2, Random(1))
    assert (known.index_of("bravo"), set(known.members)) == (1, {0, 1, 2}), "and back"
