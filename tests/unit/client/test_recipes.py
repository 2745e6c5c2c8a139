"""Locks and what is like them, in virtual time: lost and late messages, clocks of other rates, deaths."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest

from epaxos.client.commands import Op, as_columns
from epaxos.client.decoding import decode
from epaxos.client.recipes.blocking import Held, Lease
from epaxos.client.recipes.holding import (
    Ask,
    AskAll,
    Flow,
    Holding,
    Meeting,
    check_ttl,
    fence_of,
    holder_of,
    keep,
    named,
)
from epaxos.client.results import MultiAborted, Result
from epaxos.errors import ClientError, Closed, NoAnswer, Refused
from epaxos.statemachine.batch import Batch, Limits, make_expirations, make_payload
from epaxos.statemachine.expiry import Expiring, Generation
from epaxos.statemachine.machine import StateMachine

LIMITS = Limits()
KEY = b"lock"
NAMES = count(1)


class World:
    """A store that executes what arrives and ends values as early as it may, and the schedule of all that happens."""

    def __init__(self, seed: int, *, loss: float) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.now = 0.0
        self.machine = StateMachine(LIMITS, lambda _: None)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._count), action))

    def run(self, until: float, look: Callable[[], None] = lambda: None) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            look()
            action()
            look()
        self.now = until

    def latency(self) -> float:
        return self.random.expovariate(50) if self.random.random() < 0.9 else self.random.uniform(0, 3)

    def ask(self, operation: Op, timeout: float, answer: Callable[[Any, ClientError | None], None]) -> None:
        """Send a command that executes once, late, or never; `answer` is called once."""
        client = next(NAMES)
        open_ = [True]

        def reply(value: Any, error: ClientError | None) -> None:
            if open_:
                open_.clear()
                answer(value, error)

        def arrive() -> None:
            operations, keys, arguments = as_columns([operation])
            batch = Batch(client, 1, 0, operations, keys, arguments)
            (result,) = self.machine.apply(make_payload([batch]))
            self._note_timed()
            values = result.values or [None]
            try:
                found, error = decode(operation, result.outcomes[0], values[0]), None
            except ClientError as failed:
                found, error = None, failed
            if self.random.random() >= self.loss:
                self.after(self.latency(), lambda: reply(found, error))

        if self.random.random() >= self.loss:
            self.after(self.latency(), arrive)
        late = NoAnswer("late")
        late.may_have_executed = True
        self.after(timeout, lambda: reply(None, late))

    def _note_timed(self) -> None:
        """Replicas count from when a command executes, by the rate of this world's clock: none earlier."""
        for key in self.machine.take_timed():
            value = self.machine.get(key)
            if isinstance(value, Expiring):
                self.after(value.ttl / 1000, partial(self._expire, key, value.generation))

    def _expire(self, key: bytes, generation: Generation) -> None:
        self.machine.apply(make_expirations([(key, generation)], LIMITS.bounds))


class Driver:
    """Goes through calls in a world; its clock has a rate of its own. Once it is dead nothing of it goes on."""

    def __init__(self, world: World, rate: float = 1.0) -> None:
        self.world = world
        self.rate = rate
        self.dead = False

    def clock(self) -> float:
        return 100.0 + self.world.now * self.rate

    def go(self, flow: Flow[Any], done: Callable[[Any], None], value: Any = None, error: Any = None) -> None:
        if self.dead:
            return
        try:
            wanted = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as end:
            done(end.value)
            return
        if isinstance(wanted, Ask):
            self.world.ask(
                wanted.operation,
                wanted.timeout / self.rate,
                lambda value, error: self.go(flow, done, value, error),
            )
        elif isinstance(wanted, AskAll):
            (operation,) = wanted.operations
            self.world.ask(
                operation,
                wanted.timeout / self.rate,
                lambda value, error: self.go(flow, done, [Result(value, error)]),
            )
        else:
            self.world.after(wanted / self.rate, lambda: self.go(flow, done))


class Contender(Driver):
    """Takes the lock again and again, holds it for a while, lets it go, loses it or dies."""

    def __init__(self, world: World, rate: float, ttl: float) -> None:
        super().__init__(world, rate)
        self.ttl = ttl
        self.tokens: list[int] = []
        self.holding = self._made()

    @property
    def holds(self) -> bool:
        """Also if it has died: what it did last may be on its way."""
        return self.holding.is_held

    def _made(self) -> Holding:
        return Holding(KEY, named(b"me", self.world.random), self.ttl, self.clock)

    def begin(self) -> None:
        self.holding = self._made()
        patience = self.world.random.choice((None, 1.0, 5.0))
        self.go(self.holding.acquire(self.world.random, patience, 1.0), self._acquired)

    def _acquired(self, took: bool) -> None:  # noqa: FBT001 - a callback
        if not took:
            self.world.after(self.world.random.random(), self.begin)
            return
        self.tokens.append(self.holding.token)
        held = self.holding
        until = self.world.now + self.world.random.expovariate(1 / (2 * self.ttl))

        def holdings() -> list[Holding]:
            return [held] if held.is_held and self.world.now < until else []

        self.go(keep(holdings, self.clock), lambda _: self._let_go(held))

    def _let_go(self, held: Holding) -> None:
        if self.world.random.random() < 0.2:
            self.dead = True
            self.world.after(self.world.random.random() * 10, self._live_again)
        else:
            self.go(held.release(1.0), lambda _: self.begin())

    def _live_again(self) -> None:
        self.dead = False
        self.begin()


def contend(seed: int, *, drift: float = 0.04, loss: float = 0.2) -> list[int]:
    """Contenders in a world; returns the tokens in the order of acquisition, checked to exclude one another."""
    world = World(seed, loss=loss)
    contenders = [
        Contender(world, 1 + world.random.uniform(-drift, drift), ttl=2.0)
        for _ in range(world.random.randint(2, 5))
    ]
    for contender in contenders:
        world.after(world.random.random(), contender.begin)

    def look() -> None:
        holders = [contender for contender in contenders if contender.holds]
        assert len(holders) < 2, f"two hold the lock at {world.now}"

    world.run(100.0, look)
    tokens = sorted(token for contender in contenders for token in contender.tokens)
    assert len(tokens) == len(set(tokens)), "two acquisitions have one token"
    for contender in contenders:
        assert contender.tokens == sorted(contender.tokens)
    return tokens


@pytest.mark.parametrize("seed", range(12))
def test_one_holds_a_lock_at_a_time_and_it_is_held_again_and_again(seed: int) -> None:
    assert len(contend(seed)) > 3


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_locks_change_hands_quickly(seed: int) -> None:
    assert len(contend(seed, loss=0.0)) > 10


def test_a_holder_that_counts_from_the_answer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    began = Holding.began
    monkeypatch.setattr(Holding, "began", lambda self, _: began(self, self.now()))
    with pytest.raises(AssertionError, match="two hold"):
        deque(map(contend, range(40)))


def test_a_holder_without_a_margin_for_clocks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epaxos.client.recipes.holding.MARGIN", 0.0)
    with pytest.raises(AssertionError, match="two hold"):
        deque(map(contend, range(40)))


def test_an_attempt_that_is_not_answered_is_found_by_the_next() -> None:
    """Else a lock that its holder took without knowing would be waited for until it ends."""
    world = World(1, loss=0.0)
    driver = Driver(world)
    holding = Holding(KEY, named(b"me", world.random), 60.0, driver.clock)
    flow = holding.acquire(world.random, None, 1.0)
    first = next(flow)
    assert isinstance(first, Ask)
    world.ask(first.operation, 1.0, lambda *_: None)
    world.run(5.0)
    late = NoAnswer("late")
    late.may_have_executed = True
    rest = flow.throw(late)
    assert isinstance(rest, float)
    took: list[bool] = []
    driver.go(flow, took.append)
    world.run(10.0)
    assert took == [True]
    assert holding.token == 1


def test_who_gives_up_lets_go_of_what_it_may_have_taken() -> None:
    world = World(1, loss=0.0)
    driver = Driver(world)
    holding = Holding(KEY, named(b"me", world.random), 60.0, driver.clock)
    flow = holding.acquire(world.random, 0.0, 1.0)
    first = next(flow)
    assert isinstance(first, Ask)
    world.ask(first.operation, 1.0, lambda *_: None)
    world.run(5.0)
    late = NoAnswer("late")
    late.may_have_executed = True
    release = flow.throw(late)
    assert isinstance(release, Ask)
    world.ask(release.operation, 1.0, lambda *_: None)
    world.run(10.0)
    assert world.machine.get(KEY) is None
    assert world.machine.get(fence_of(KEY)) == b"1"


def test_who_holds_a_lock_can_be_read_from_it() -> None:
    assert holder_of(named(b"host:1", Random(1))) == b"host:1"
    assert holder_of(None) is None


def test_a_forked_process_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    holding = Holding(KEY, b"v", 60.0)
    holding.began(holding.now())
    assert holding.is_held
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not holding.is_held


def test_a_renewal_that_is_answered_late_brings_nothing_back() -> None:
    """It was under way when the lock was let go, and another may have taken it since."""
    holding = Holding(KEY, b"v", 60.0)
    holding.began(holding.now())
    renewing = keep(lambda: [holding], lambda: holding.due)
    next(renewing)
    assert isinstance(renewing.send(None), AskAll)
    assert isinstance(next(holding.release(1.0)), Ask)
    renewing.send([Result()])
    assert not holding.is_held


class Renewing:
    """A client whose renewals fail for one key, by another's value, and are counted for the others."""

    def __init__(self, lost: bytes) -> None:
        self._lost = lost
        self.renewed: Counter[bytes] = Counter()

    def execute(self, _: Op, *, timeout: float = 0.0) -> None:
        del timeout

    def bulk(self, operations: list[Op], *, timeout: float) -> list[Result]:
        del timeout
        results = []
        for operation in operations:
            key = operation.argument[1][0]  # type: ignore[index]  # that of a multi
            self.renewed[key] += 1
            results.append(Result(error=MultiAborted("no", 0, 2) if key == self._lost else None))
        return results


def test_an_on_lost_that_fails_ends_no_other_lease() -> None:
    client = Renewing(b"a")
    failed = threading.Event()

    def fail(_: Held) -> None:
        failed.set()
        raise RuntimeError("mine")

    lease = Lease(lambda _: client, 2.0, fail)  # type: ignore[arg-type,return-value]  # all that it needs of a client
    held = [lease.put(key, b"v") for key in (b"a", b"b")]
    assert failed.wait(5.0)
    before = client.renewed[b"b"]
    deadline = time.monotonic() + 5.0
    while client.renewed[b"b"] < before + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [one.lost.is_set() for one in held] == [True, False]
    lease.close()
    with pytest.raises(Closed, match="the lease is closed"):
        lease.put(b"c", b"v")


def test_a_lease_needs_time() -> None:
    with pytest.raises(Refused, match=r"ttl is 0.05 s; allowed: at least 0.1"):
        check_ttl(0.05)


# -- barriers --------------------------------------------------------------------------------------------------


def numbers(done: dict[int, Any], name: int) -> Callable[[Any], None]:
    def note(value: Any) -> None:
        done[name] = value

    return note


def test_all_of_a_round_wait_for_the_last() -> None:
    world = World(5, loss=0.0)
    drivers = [Driver(world) for _ in range(3)]
    done: dict[int, Any] = {}
    for name in (0, 1):
        drivers[name].go(Meeting(KEY, 3, drivers[name].clock).wait(None, 5.0), numbers(done, name))
    world.run(20.0)
    assert done == {}
    drivers[2].go(Meeting(KEY, 3, drivers[2].clock).wait(None, 5.0), numbers(done, 2))
    world.run(40.0)
    assert done == {0: None, 1: None, 2: None}
    again: dict[int, Any] = {}
    for name, driver in enumerate(drivers):
        driver.go(Meeting(KEY, 3, driver.clock).wait(None, 5.0), numbers(again, name))
    world.run(80.0)
    assert again == {0: None, 1: None, 2: None}


def test_who_waited_too_long_is_not_counted() -> None:
    world = World(6, loss=0.0)
    driver = Driver(world)
    flow = Meeting(KEY, 2, driver.clock).wait(1.0, 5.0)
    driver.go(flow, lambda _: None)
    with pytest.raises(TimeoutError, match="not all of 2 came to b'lock'"):
        world.run(60.0)
    assert world.machine.get(KEY) == b"0"


def test_a_barrier_that_was_deleted_lets_its_parties_go() -> None:
    world = World(6, loss=0.0)
    driver = Driver(world)
    driver.go(Meeting(KEY, 2, driver.clock).wait(5.0, 5.0), lambda _: None)
    world.run(1.0)
    world.ask(Op.delete(KEY), 1.0, lambda *_: None)
    with pytest.raises(TimeoutError):
        world.run(60.0)


def test_a_barrier_is_for_somebody() -> None:
    with pytest.raises(Refused, match="parties is 0; allowed: at least 1"):
        Meeting(KEY, 0)
