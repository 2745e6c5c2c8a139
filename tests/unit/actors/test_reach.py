"""Whom a replica sends to."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from epaxos.actors.reach import Reach
from epaxos.config import load_config

CONFIG = load_config(None, environ={})


def test_there_is_a_way_to_each_that_is_known_where_and_none_to_who_has_gone_for_long() -> None:
    ways: dict[str, Any] = {}
    post: Any = Mock(remotes=ways, connect=ways.__setitem__, disconnect=ways.__delitem__)
    parts: Any = Mock()
    parts.eras.audience = {"bravo", "charlie"}
    parts.eras.forget = parts.eras.audience.discard
    places = {"bravo": ("10.0.0.2", 1)}
    peers: Any = Mock(place_of=places.get, guests=())
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


def test_what_guests_had_is_free_once_they_have_gone_or_if_they_cannot_be_reached() -> None:
    ways: dict[str, Any] = {"oscar.1": Mock(last_heard=5.0), "oscar.2": Mock(last_heard=90.0)}
    era: Any = Mock()
    parts: Any = Mock()
    parts.eras.all = [era]
    parts.eras.audience = {"oscar.1", "oscar.2", "nowhere"}
    parts.eras.forget = parts.eras.audience.discard
    peers: Any = Mock(place_of={}.get, guests={"oscar.1", "oscar.2", "nowhere"})
    post: Any = Mock(remotes=ways, disconnect=ways.__delitem__)
    Reach(CONFIG, parts, peers, post, Mock()).look_again(6.0 + 10 * CONFIG.timeout)
    peers.release.assert_called_once_with({"oscar.2"})
    era.release.assert_called_once_with({"oscar.2"})
