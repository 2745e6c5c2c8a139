"""What a replica does until its keys are in order, counted: lists wait, rounds do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from math import inf
from unittest.mock import Mock

import pytest

from epaxos.actors.answers import PATIENCE as TOLD_AFTER
from epaxos.actors.lists import PATIENCE, Lists
from epaxos.statemachine.batch import encode_batch, make_payload
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.ordered import PACE, OrderedKeys
from epaxos.statemachine.reading import Reading
from epaxos.transport.framing import Kind
from front import Front

SCAN, COUNT, CLEAR = (bytes([kind]) for kind in (Operation.SCAN, Operation.COUNT, Operation.CLEAR))
MANY = 40 * PACE


class Keys(dict[bytes, bytes]):
    walks = 0

    def __iter__(self) -> Iterator[bytes]:
        self.walks += 1
        return super().__iter__()


class Lone:
    """Keys, and what is said of them; `peers` are online. Each look at the clock takes about a millisecond."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: int = MANY) -> None:
        clock = count()
        monkeypatch.setattr("epaxos.actors.lists.time.monotonic", lambda: next(clock) / 1024)
        self.data = Keys((b"%d" % (number * 7919 % keys), b"v") for number in range(keys))
        self.order = OrderedKeys(self.data)
        self.peers: list[str] = []
        self.hasten = Mock()
        self.rounds = 0
        self.lists = Lists(lambda: self.order, lambda: self.peers, self.hasten)
        self.front = Front()
        self.front.clients.may_take = self.lists.may_take

    def ask(self, first: int, operation: bytes, argument: Sequence[object] | None = None) -> None:
        arguments = None if argument is None else [argument]
        self.front.take(Kind.REQUEST, encode_batch(7, first, 1, operation, [b""], arguments))

    def reads(self) -> bool:
        """Whether something is to be read as things stand here."""
        return self.front.clients.reads.waits_for_state

    def clears(self) -> bool:
        """Whether heartbeats say that a clear waits."""
        return self.lists.clears

    def until_in_order(self) -> list[list[tuple[int, int]]]:
        """What the rounds until then propose; the last one may have begun before."""
        proposed = []
        while self.lists.deadline == -inf:
            proposed += self.round()
        return proposed

    def round(self, now: float = 0.0) -> list[list[tuple[int, int]]]:
        """What a round does of it: what it proposes."""
        self.rounds += 1
        if self.front.clients.holds or self.lists.clears:
            self.lists.look(self.front.clients.release, now)
        self.lists.go_on()
        return self.front.proposed()


@pytest.fixture
def lone(monkeypatch: pytest.MonkeyPatch) -> Lone:
    return Lone(monkeypatch)


def test_a_list_waits_until_the_keys_are_in_order_and_no_round_does_much(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = OrderedKeys.step, list[int]()

    def counted(order: OrderedKeys) -> bool:
        steps.append(lone.rounds)
        return step(order)

    monkeypatch.setattr(OrderedKeys, "step", counted)
    assert lone.lists.deadline == inf
    lone.ask(1, COUNT)
    lone.ask(2, SCAN, [None, 9, False, False, int(Reading.LOCAL)])
    assert lone.until_in_order() == []
    assert MANY / PACE < len(steps) < 2 * MANY / PACE
    assert max(Counter(steps).values()) <= 4  # the share is three milliseconds
    assert lone.data.walks == 1  # to begin
    assert not lone.reads()
    assert lone.round() == [[(1, 1)]]
    assert lone.reads()
    assert lone.lists.deadline == inf
    assert lone.order.count(b"") == MANY
    assert lone.data.walks == 1


def test_who_waits_is_told_that_it_is_under_way_and_what_lists_nothing_does_not_wait(lone: Lone) -> None:
    lone.ask(1, COUNT)
    lone.front.request(2)
    assert lone.round() == [[(2, 1)]]
    lone.front.execute(2)
    lone.front.clients.answers.reassure(2 * TOLD_AFTER, 0.0)
    assert lone.front.sent[-1] == (b"one", Kind.TAKEN, [[7], [1], [1]])


def test_what_waits_is_not_answered_from_what_another_replica_proposed(lone: Lone) -> None:
    elsewhere = Front()
    elsewhere.take(Kind.REQUEST, encode_batch(7, 1, 1, COUNT, [b""], None))
    payload = make_payload(elsewhere.clients.take_batches())
    lone.ask(1, COUNT)
    assert not lone.front.clients.answers.await_list(payload)
    lone.until_in_order()
    assert lone.round() == [[(1, 1)]]
    assert lone.front.clients.answers.await_list(payload)


def test_few_keys_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Lone(monkeypatch, 10 * PACE)
    few.peers = ["bravo"]
    few.lists.hear("bravo", clears=False, ordered=True)
    for first, operation in enumerate((COUNT, CLEAR), 1):
        few.ask(first, operation, [None, 9] if operation == CLEAR else None)
    assert few.round() == [[(1, 1), (2, 1)]]
    assert not few.order.unfinished
    assert few.lists.ordered


def test_a_clear_waits_for_all_who_are_there_and_they_hear_of_it(lone: Lone) -> None:
    other = OrderedKeys(lone.data)
    peer = Lists(lambda: other, lambda: ["alpha"], Mock())
    lone.peers = ["bravo", "charlie"]
    lone.lists.hear("charlie", clears=False, ordered=True)
    lone.ask(1, CLEAR, [None, 9])
    assert lone.round() == []
    assert lone.clears()
    lone.hasten.assert_called_once_with()
    peer.hear("alpha", clears=lone.lists.clears, ordered=lone.lists.ordered)
    assert lone.until_in_order() == lone.round() == []
    assert lone.lists.deadline == PATIENCE
    while not peer.ordered:
        peer.go_on()
    lone.lists.hear("bravo", clears=peer.clears, ordered=peer.ordered)
    assert lone.round() == [[(1, 1)]]
    assert not lone.clears()
    assert lone.hasten.call_count == 2  # the other time, when its own keys were in order


def test_a_clear_does_not_wait_for_ever_for_a_peer_or_for_one_that_has_gone(lone: Lone) -> None:
    lone.peers = ["bravo"]
    lone.ask(1, CLEAR, [None, 9])
    lone.until_in_order()
    assert lone.round(PATIENCE / 2) == []
    assert lone.round(PATIENCE) == [[(1, 1)]]
    lone.ask(2, CLEAR, [None, 9])
    assert lone.round() == []
    lone.peers = []
    assert lone.round() == [[(2, 1)]]


def test_who_is_given_up_waits_no_more(lone: Lone) -> None:
    lone.ask(1, COUNT)
    lone.front.clients.give_up("its disk failed")
    lone.until_in_order()
    assert lone.round() == []
    assert lone.front.clients.answers.waiting == 0


def test_no_round_is_due_for_a_clear_that_has_been_given_up(lone: Lone) -> None:
    """Its replica has lost its vote meanwhile, and would have gone round and round until its end."""
    lone.peers = ["bravo"]
    lone.ask(1, CLEAR, [None, 9])
    lone.until_in_order()
    lone.front.clients.give_up("it has no vote in this cluster")
    assert lone.round() == []
    assert lone.lists.deadline == inf
    assert not lone.clears()


def test_where_most_keys_go_meanwhile_the_order_is_begun_and_told_once(
    lone: Lone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "epaxos.actors.lists")
    lone.ask(1, COUNT)
    lone.round()
    for key in list(lone.data)[5 * PACE :]:
        lone.order.remove(key)
        del lone.data[key]
    assert lone.lists.ordered
    assert lone.until_in_order() == [[(1, 1)]]
    assert len(caplog.records) == 2
    lone.hasten.assert_called_once_with()
