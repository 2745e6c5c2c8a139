"""Whom a replica sends to."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from epaxos.actors.reach import Reach
from epaxos.config import load_config
from epaxos.protocol.membership import NOBODY

CONFIG = load_config(None, environ={})


def test_there_is_a_way_to_each_that_is_known_where_and_none_to_who_has_gone_for_long() -> None:
    ways: dict[str, Any] = {}
    post: Any = Mock(remotes=ways, connect=ways.__setitem__, disconnect=ways.__delitem__)
    parts: Any = Mock(me="alpha")
    parts.eras.joins = False
    parts.eras.audience = {"bravo", "charlie"}
    parts.eras.forget = parts.eras.audience.discard
    parts.eras.running.names = ("alpha", "bravo")
    places = {"bravo": ("10.0.0.2", 1)}
    peers: Any = Mock(place_of=places.get, guests=(), acknowledged=set())
    reach = Reach(CONFIG, parts, peers, post, lambda peer, place: Mock(at=(peer, place), last_heard=5.0))
    reach.look()
    assert [way.at for way in ways.values()] == [("bravo", ("10.0.0.2", 1))]
    places["charlie"] = ("10.0.0.3", 1)
    reach.look_again(5.0 + 10 * CONFIG.timeout)
    assert set(ways) == {"bravo", "charlie"}
    ways["charlie"].last_heard = 100.0
    reach.look_again(100.0)
    assert set(ways) == {"charlie"}
    places["charlie"] = ("10.0.0.9", 1)
    reach.look()
    assert [way.at for way in ways.values()] == [("charlie", ("10.0.0.9", 1))], "it has moved"


def test_nobody_looks_for_who_was_replaced_at_its_address() -> None:
    """Two links to one process, which one end takes for those of another: it would come and go with each heartbeat."""
    ways: dict[str, Any] = {}
    post: Any = Mock(remotes=ways, connect=ways.__setitem__, disconnect=ways.__delitem__)
    parts: Any = Mock(me="alpha")
    parts.eras.joins = False
    parts.eras.audience = {"bravo", "charlie"}
    parts.eras.forget = Mock()
    parts.eras.running.names = ("alpha", "bravo", "charlie")
    places = {"bravo": ("10.0.0.2", 1), "charlie": ("10.0.0.3", 1), "bravo#1": ("10.0.0.2", 1)}
    reach = Reach(CONFIG, parts, Mock(place_of=places.get, guests=()), post, Mock())
    reach.look()
    parts.eras.running.names, parts.eras.audience = ("alpha", "bravo#1", "charlie"), {*places}
    reach.look()
    assert set(ways) == {"bravo#1", "charlie"}
    parts.eras.forget.assert_called_once_with("bravo")


def test_one_that_is_to_join_is_looked_for_at_the_address_of_the_member_that_it_is_to_replace() -> None:
    ways: dict[str, Any] = {}
    parts: Any = Mock(me="alpha")
    parts.eras.joins = False
    parts.eras.running.names = ("alpha", "bravo", "charlie")
    parts.eras.audience = {"bravo", "charlie", "bravo#1"}
    parts.eras.knows = parts.eras.running.names.__contains__
    place = CONFIG.replicas[1].host, CONFIG.replicas[1].port
    post: Any = Mock(remotes=ways, connect=ways.__setitem__)
    peers: Any = Mock(place_of={"bravo": place, "bravo#1": place}.get, guests={"bravo#1": 1})
    Reach(CONFIG, parts, peers, post, Mock()).look()
    assert set(ways) == {"bravo", "bravo#1"}


def test_who_is_to_join_looks_for_whom_its_file_has_until_it_hears_who_is_there() -> None:
    """Another one may be there by now, to which two links would be one too many; and nobody looks for itself."""
    ways: dict[str, Any] = {}
    places = {one.name: (one.host, one.port) for one in CONFIG.replicas}
    parts: Any = Mock(me="alpha#2")
    parts.eras.joins = True
    parts.eras.audience = {NOBODY}
    post: Any = Mock(remotes=ways, connect=ways.__setitem__, disconnect=ways.__delitem__)
    peers: Any = Mock(place_of=places.get, guests={}, acknowledged=set())
    reach = Reach(CONFIG, parts, peers, post, lambda *_: Mock(last_heard=9.0))
    reach.look()
    assert set(ways) == {"bravo", "charlie"}
    places["bravo#1"], peers.guests = places["bravo"], {"bravo#1": 1, "charlie": 3}
    peers.acknowledged = {*peers.guests}
    parts.eras.audience |= {*peers.guests}
    parts.eras.all = []
    for _ in range(2):
        reach.look_again(9.0)
        assert set(ways) == {"bravo#1", "charlie"}
    parts.eras.joins, parts.eras.running.names = False, ("alpha", "bravo#1", "charlie")
    parts.eras.audience = {"alpha", "bravo#1", "charlie"}
    reach.look()
    assert set(ways) == {"bravo#1", "charlie"}, "the alpha of before had its address"


def test_what_guests_had_is_free_once_they_have_gone_or_if_they_cannot_be_reached() -> None:
    ways: dict[str, Any] = {"oscar.1": Mock(last_heard=5.0), "oscar.2": Mock(last_heard=90.0)}
    era: Any = Mock()
    parts: Any = Mock(me="alpha")
    parts.eras.joins = False
    parts.eras.all = [era]
    parts.eras.running.names = ()
    parts.eras.audience = {"oscar.1", "oscar.2", "nowhere"}
    parts.eras.forget = parts.eras.audience.discard
    peers: Any = Mock(
        place_of={}.get, guests={"oscar.1", "oscar.2", "nowhere"}, acknowledged={"oscar.1", "oscar.2"}
    )
    post: Any = Mock(remotes=ways, disconnect=ways.__delitem__)
    Reach(CONFIG, parts, peers, post, Mock()).look_again(6.0 + 10 * CONFIG.timeout)
    peers.release.assert_called_once_with({"oscar.2"})
    era.release.assert_called_once_with({"oscar.2"})


def test_who_never_says_that_it_hears_this_replica_gives_its_place_to_others() -> None:
    """Names can be made up, and 32 of them that went on speaking were once all that a replica took."""
    ways: dict[str, Any] = {name: Mock(last_heard=99.0) for name in ("invented", "oscar")}
    parts: Any = Mock(me="alpha")
    parts.eras.joins = False
    parts.eras.all = []
    parts.eras.running.names = ()
    parts.eras.audience = {*ways}
    parts.eras.forget = parts.eras.audience.discard
    peers: Any = Mock(place_of={}.get, guests={"invented": 1, "oscar": 2}, acknowledged={"oscar"})
    post: Any = Mock(remotes=ways, disconnect=ways.__delitem__)
    reach = Reach(CONFIG, parts, peers, post, Mock())
    for now in (90.0, 90.0 + 10 * CONFIG.timeout):
        reach.look_again(now)
        assert set(ways) == {"invented", "oscar"}
    reach.look_again(90.1 + 10 * CONFIG.timeout)
    peers.release.assert_called_with({"oscar"})
    assert set(ways) == {"oscar"}
