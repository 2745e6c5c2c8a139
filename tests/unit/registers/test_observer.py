"""Observers: what was chosen, from the beginning or from a position on, whatever acceptors do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from threading import Thread
from typing import Any

import pytest

from epaxos.client.commands import Op
from epaxos.protocol.registers import feed, observing
from epaxos.protocol.registers.observing import Tallies
from epaxos.protocol.registers.values import ZERO, Accept, Ballot, Configuration, Follow, State, Told
from epaxos.registers import Chosen, Compacted, Observer, Place
from register_nodes import Nodes

THREE = Configuration(1, (0, 1, 2), (0, 1, 2))


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(3, stack)


def values(watched: Observer, most: int) -> list[tuple[bytes, bytes | None]]:
    return [(chosen.key, chosen.value) for chosen in islice(watched, most)]


def put(nodes: Nodes, *keys: bytes, value: bytes = b"v") -> None:
    for key in keys:
        nodes[0].propose(key, Op.put(key, value))


def test_history_then_what_comes(nodes: Nodes) -> None:
    put(nodes, b"a", b"b")
    watched = nodes[1].observe()
    assert watched.position is None
    assert values(watched, 2) == [(b"a", b"v"), (b"b", b"v")]
    put(nodes, b"c")
    nodes[2].delete(b"a")
    assert values(watched, 2) == [(b"c", b"v"), (b"a", None)]


def test_another_goes_on_where_one_was(nodes: Nodes) -> None:
    put(nodes, b"a", b"b")
    watched = nodes[1].observe()
    values(watched, 2)
    put(nodes, b"c")
    assert values(watched, 1) == [(b"c", b"v")]
    position = watched.position
    assert position is not None
    watched.close()
    assert not list(watched)
    put(nodes, b"d")
    assert values(nodes[2].observe(position), 1) == [(b"d", b"v")]


def test_under_changes_states_ascend_up_to_the_last(nodes: Nodes) -> None:
    watched = nodes[2].observe(interval=0.001)
    counted: list[int] = []

    def read() -> None:
        for chosen in watched:
            counted.append(int(chosen.value or b"0"))
            if counted[-1] == 60:
                return

    thread = Thread(target=read)
    thread.start()
    for number in range(60):
        nodes[number % 2].propose(b"n", Op.increment(b"n"), 30.0)
    thread.join()
    assert counted == sorted(counted)
    assert counted[-1] == 60
    assert len(counted) > 1


def test_a_reader_that_is_too_slow_misses_what_was_overwritten_and_never_the_last(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT", 5)
    watched = nodes[1].observe()
    put(nodes, b"a")
    values(watched, 1)
    for number in range(20):
        put(nodes, b"n", b"m", value=b"%d" % number)
    assert dict(values(watched, 2)) == {b"m": b"19", b"n": b"19"}


def test_an_acceptor_that_was_away_is_followed_again(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "AWAY", 0.0)
    watched = nodes[0].observe()
    put(nodes, b"a")
    values(watched, 1)
    nodes.network.down.add(1)
    put(nodes, b"b")
    assert values(watched, 1) == [(b"b", b"v")]
    nodes.network.down = {2}
    put(nodes, b"c")
    while (b"c", b"v") not in (found := values(watched, 1)):
        assert found[0][0] in (b"a", b"b")  # told again


def test_no_majority_no_news(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "AWAY", 0.0)
    put(nodes, b"a")
    nodes.network.down = {1, 2}
    watched = nodes[0].observe(interval=0.001)
    found: list[Chosen] = []
    thread = Thread(target=lambda: found.extend(islice(watched, 1)))
    thread.start()
    thread.join(0.02)
    assert not found
    nodes.network.down = set()
    thread.join()
    assert found[0].key == b"a"


def test_what_a_minority_told_of_is_asked_for(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "DOUBT", 0.0)
    put(nodes, b"a")
    watched = nodes[0].observe(interval=0.001)
    values(watched, 1)
    ballot = Ballot(10**6, 0)
    for node in nodes[:2]:
        node.cells.take(Accept(b"kx", ballot, State(b"chosen")))
        node.cells.feed.add(Told(b"kx", ballot, State(b"chosen")))
        node.cells.feed._kept.pop()  # as if it had been told, and its counting forgotten
        node.cells.feed._kept.pop()
        node.cells.feed._first += 2
    nodes[2].cells.feed.add(Told(b"kx", ballot, State(b"chosen")))
    assert values(watched, 1) == [(b"x", b"chosen")]


def test_who_missed_a_collection_must_begin_anew(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "KEPT", 5)
    put(nodes, b"a", b"b")
    watched = nodes[1].observe()
    values(watched, 2)
    put(nodes, b"c")
    values(watched, 1)
    position = watched.position
    nodes[0].delete(b"a")
    nodes[0].collect()
    put(nodes, *(b"%d" % number for number in range(9)))
    with pytest.raises(Compacted, match="begin anew, without a position"):
        next(nodes[2].observe(position))


# -- the counting ----------------------------------------------------------------------------------------------


def told(key: bytes, counter: int) -> Told:
    return Told(key, Ballot(counter, 0), State(b"%d" % counter))


@pytest.mark.parametrize("late", [False, True])
def test_what_all_have_told_is_forgotten(late: bool) -> None:  # noqa: FBT001 - a parameter
    tallies = Tallies()
    followed = {0, 1, 2} if late else {0, 1}
    assert tallies.add(0, told(b"k", 1), 0, THREE, followed) is None
    chosen = tallies.add(1, told(b"k", 1), 0, THREE, followed)
    assert chosen is not None
    assert chosen.state.value == b"1"
    if late:
        assert len(tallies) == 1
        assert tallies.add(2, told(b"k", 1), 0, THREE, followed) is None
    assert len(tallies) == 0


def test_who_votes_not_and_what_was_only_prepared_count_nothing() -> None:
    tallies = Tallies()
    assert tallies.add(9, told(b"k", 1), 0, THREE, {0}) is None
    assert tallies.add(0, Told(b"k", ZERO, State()), 0, THREE, {0}) is None
    assert len(tallies) == 0


def test_a_lower_ballot_is_nothing_new() -> None:
    tallies = Tallies()
    everybody = {0, 1, 2}
    for counter in (1, 2):
        tallies.add(0, told(b"k", counter), counter, THREE, everybody)
    assert list(tallies.first_open()) == [(0, 1), (0, 2)]
    chosen = tallies.add(1, told(b"k", 2), 7, THREE, everybody)
    assert chosen is not None
    assert tallies.add(2, told(b"k", 1), 3, THREE, everybody) is None
    assert not list(tallies.first_open())


def test_what_a_feed_repeats_after_a_scan_is_not_told_again() -> None:
    tallies = Tallies()
    for acceptor in (0, 1):
        tallies.add(acceptor, told(b"k", 2), 0, THREE, {0, 1})
    tallies.clear()
    assert [tallies.add(acceptor, told(b"k", 1), 0, THREE, {0, 1}) for acceptor in (0, 1)] == [None, None]
    assert len(tallies) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MOST_OPEN", 10)
    monkeypatch.setattr(observing, "MOST_TOLD", 10)
    tallies = Tallies()
    for number in range(30):
        for acceptor in (0, 1):
            tallies.add(acceptor, told(b"%d" % number, 1), 0, THREE, {0, 1, 2})
        assert len(tallies) <= 10
    assert not tallies.overrun
    for number in range(11):
        tallies.add(0, told(b"%d" % number, 2), 0, THREE, {0, 1, 2})
    assert tallies.overrun


def test_a_feed_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "KEPT_BYTES", 30)
    own = feed.Feed(7)

    def tell(start: int, position: int) -> Any:
        return own.tell(Follow(b"", Ballot(1, 0), start, position), ZERO)

    start, end, *_ = tell(0, 0)[2:]
    for number in range(10):
        own.add(told(b"0123456789", number))
    assert not tell(start, end).kept
    assert [one.accepted.counter for one in tell(start, 8).accepted] == [8, 9]
    assert tell(start, 10)[2:] == (start, 10, ZERO, True, ())
    assert not tell(start, 11).kept
    assert Place(start, 10, ZERO) == (start, 10, ZERO)


def test_after_a_gap_nothing_older_is_told() -> None:
    tallies = Tallies()

    def add(acceptor: int, counter: int) -> Any:
        told = Told(b"k", Ballot(counter, 0), State(b"%d" % counter))
        return tallies.add(acceptor, told, 0, THREE, (0, 1, 2))

    assert (add(0, 2), add(1, 2) is not None) == (None, True)
    tallies.clear()
    assert [add(0, 3), add(1, 1), add(2, 1)] == [None] * 3
    assert add(2, 3).ballot == Ballot(3, 0)
