"""A node: an acceptor for everybody, a proposer for its program, and what looks after registers.

The proposer's core is under one lock. Requests to each peer have threads of their own, so that a peer that does not
answer makes nobody wait but itself; a thread does what is due when no answer comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from random import SystemRandom
from typing import Any, Final, NamedTuple, Self, cast

import msgpack

from epaxos.client.commands import Op
from epaxos.errors import Busy, Closed, ConfigError, EpaxosError, FrameError, NoAnswer, Refused, StorageError
from epaxos.protocol.registers.change import Asks, Done, Pace, Verdict, Want
from epaxos.protocol.registers.proposer import Proposer
from epaxos.protocol.registers.steps import SUPERSEDED
from epaxos.protocol.registers.steps import once as once_only
from epaxos.protocol.registers.upkeep import (
    Ask,
    Configure,
    Procedure,
    Settled,
    collect,
    plan,
    resize,
)
from epaxos.protocol.registers.values import COUNTER_MAX, Ballot, Configuration, List, Remove, State
from epaxos.registers.cells import Cells
from epaxos.registers.changes import KEEP, Applied, Applier, Change, Function
from epaxos.registers.store import Store
from epaxos.registers.transport import Transport, Unreachable
from epaxos.transport.registers import ID_MAX

_log: Final = logging.getLogger(__name__)

LANES: Final = 4
"""Requests to one peer that are under way at a time."""

MOST_WAITING: Final = 1000
"""Requests to one peer that wait for that; more are lost, as in a network."""

_USER, _OWN = b"k", b"a"
"""Before the keys of registers: those of users, and the one by which procedures exclude each other."""


class Reply(NamedTuple):
    """What a change came to.

    value   what the register holds after it; result is what the change is for: as the method of `Client` of the same
            name returns for an operation, the value for a function
    ballot  counter and proposer of the attempt that was chosen
    trips   round trips to a majority
    """

    value: bytes | None
    result: Any
    ballot: tuple[int, int]
    attempts: int
    trips: int


class Collected(NamedTuple):
    """How many registers a collection has forgotten."""

    removed: int


class Node:
    """One of the nodes that carry registers together; `id` is its number, and no other node's, ever.

    store      where it keeps its promises; an empty one is a new node's
    transport  how it asks others. They ask it by `handle`
    acceptors  the nodes that vote: all that are connected, if nothing is said. What the store holds counts more
    metadata   is told to whoever asks for `status`
    direct     whether the next change of a register takes one round trip
    pace       intervals, see `Pace`
    clock      seconds, monotonic

    Raises:
        ConfigError: a number out of range.
        StorageError: the store cannot be read.
    """

    def __init__(
        self,
        id: int,  # noqa: A002 - the word for it
        store: Store,
        transport: Transport,
        *,
        acceptors: Iterable[int] | None = None,
        metadata: Mapping[str, str] | None = None,
        direct: bool = True,
        pace: Pace = Pace(),  # noqa: B008 - a value
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if type(id) is not int or not 0 <= id <= ID_MAX:
            raise ConfigError(f"a node's id is {id!r}; allowed: 0 to {ID_MAX}")
        self.id = id
        self.metadata = dict(metadata or {})
        self.counts: Counter[str] = Counter()
        self._transport = transport
        self._clock = clock
        self._cells = Cells(store)
        self._applier = Applier()
        self._peers: set[int] = {id}
        self._given = None if acceptors is None else tuple(sorted(set(acceptors)))
        kept = self._cells.configuration
        self._core = Proposer(
            id, kept or Configuration(0, (), ()), self._cells.counter, SystemRandom(), pace, direct=direct
        )
        self._lock = threading.Condition()
        self._futures: dict[int, Future[Done]] = {}
        self._lanes: dict[int, ThreadPoolExecutor] = {}
        self._waiting: Counter[int] = Counter()
        self._nonces = count(1)
        self._client = SystemRandom().randrange(2**63)
        self._numbers = count(1)
        self._closed = False
        self._timer = threading.Thread(target=self._run_timer, name=f"registers-{id}", daemon=True)
        self._timer.start()

    # -- life --------------------------------------------------------------------------------------------------

    def connect(self, *peers: int) -> None:
        """Name other nodes, all of them before the first change; those that are named already change nothing."""
        with self._lock:
            self._peers.update(peers)

    def _begin(self) -> None:
        """Decide with the first use who votes, if nothing is kept."""
        if not self._core.configuration.accept:
            members = tuple(sorted(self._peers)) if self._given is None else self._given
            configuration = Configuration(1, members, members)
            self._cells.configure(configuration)
            self._core.configure(configuration)

    def close(self) -> None:
        """End all that is under way; a second call does nothing."""
        with self._lock:
            self._closed = True
            futures, self._futures = self._futures, {}
            self._lock.notify_all()
        for future in futures.values():
            future.set_exception(Closed("the node was closed"))
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
        self._transport.close()
        self._timer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def configuration(self) -> Configuration:
        """Who votes."""
        return self._core.configuration

    def status(self) -> dict[str, Any]:
        """What people want to know of a node."""
        with self._lock:
            shape = self._core.configuration
            return {
                "id": self.id,
                "peers": sorted(self._peers),
                "prepare": list(shape.prepare),
                "accept": list(shape.accept),
                "version": shape.version,
                "counts": dict(sorted(self.counts.items())),
                "metadata": self.metadata,
            }

    # -- what others ask ---------------------------------------------------------------------------------------

    def handle(self, request: Any) -> Any:
        """Answer a peer's request; what the answer promises is durable.

        Raises:
            FrameError: it makes no sense.
            StorageError: the store has failed.
        """
        try:
            if isinstance(request, Configure):
                return self._configure(request.configuration)
            if isinstance(request, Remove):
                with self._lock:
                    self._core.forget(request.key)
            return self._cells.take(request)
        except FrameError as error:
            self._count(f"refused: {error.kind}")
            raise
        except StorageError:
            self._count("store failed")
            raise

    def _configure(self, configuration: Configuration) -> Settled:
        with self._lock:
            if configuration.version > self._core.configuration.version:
                self._cells.configure(configuration)
                self._core.configure(configuration)
            return Settled(configuration.version, self._core.settled)

    # -- changes -----------------------------------------------------------------------------------------------

    def propose(
        self,
        key: bytes,
        change: Op | Change | Function,
        timeout: float = 2.0,
        *,
        once: tuple[int, int] | None = None,
    ) -> Reply:
        """Change a register.

        change  an operation on this key, a named change, or a pure function of the value
        once    (client, number): however often it is proposed, by whichever nodes, it is made once
                (`protocol.registers.steps.once`). Without it the change gets a number of this node's, so that it can be
                tried again within the time-out, though not by another call

        Raises:
            Refused: it cannot be proposed.
            ChangeFailed, OperationFailed: it was made, and came to nothing.
            Busy: no majority could be asked in time, or others were always faster; nothing has happened.
            NoAnswer: it may have happened, or may yet.
            StorageError: the store has failed.
        """
        applied = self._applier.applied(key, change)
        step = applied.step
        if once is not None or not applied.harmless:
            client, number = (self._client, next(self._numbers)) if once is None else _checked_once(once)
            step = step if applied.reads else once_only(step, client, number)
        want = Want(_USER + key, step, reads=applied.reads, repeatable=True)
        return self._replied(applied, self._propose(want, timeout).result())

    def decide(self, name: bytes, value: bytes, timeout: float = 2.0) -> bytes:
        """Simple Paxos: the value that is decided under a name for ever: this one, or another's.

        Raises:
            As `propose`; trying again does no harm.
        """
        result = self.propose(name, Change(KEEP, (value,)), timeout).result
        return cast("bytes", result)

    def delete(self, key: bytes, timeout: float = 2.0) -> bool:
        """Remove what a register holds; the result says whether there was something. `collect` then forgets it.

        Raises:
            As `propose`.
        """
        return bool(self.propose(key, Op.delete(key), timeout).result)

    def _propose(self, want: Want, timeout: float) -> Future[Done]:
        future: Future[Done] = Future()
        with self._lock:
            if self._closed:
                raise Closed("the node is closed")
            self._begin()
            now = self._clock()
            ticket, asks = self._core.propose(want, now + timeout, now)
            self._futures[ticket] = future
            ends = self._perform(asks)
        _set(ends)
        return future

    def _replied(self, applied: Applied, done: Done) -> Reply:
        self._count(f"proposals {done.verdict.value}")
        if done.verdict is Verdict.FAILED:
            raise Busy(
                f"no majority of the acceptors took it in time, after {done.attempts} attempts; nothing has changed"
            )
        if done.verdict is Verdict.UNKNOWN:
            raise NoAnswer("too few acceptors answered: the change may have been made, or may yet be")
        if done.result is SUPERSEDED:
            raise Refused("its client has made a later change of this register since")
        try:
            result = applied.decode(done.result, done.state.value)
        except EpaxosError:
            self._count("changes failed")
            raise
        return Reply(
            done.state.value, result, (done.ballot.counter, done.ballot.proposer), done.attempts, done.trips
        )

    # -- the core's effects ------------------------------------------------------------------------------------

    def _perform(self, asks: Asks) -> list[tuple[Future[Done], Done | BaseException]]:
        """Do what the core asks for; returns what to tell whom, once the lock is free."""
        ends: list[tuple[Future[Done], Done | BaseException]] = []
        waiting = deque([asks])
        try:
            while waiting:
                asks = waiting.popleft()
                if asks.reserve is not None:
                    self._cells.reserve(asks.reserve)
                ends += [
                    (future, done)
                    for done in asks.done
                    if (future := self._futures.pop(done.ticket, None)) is not None
                ]
                for peer, request in asks.sends:
                    if peer == self.id:
                        answer = self._cells.take(request)
                        waiting.append(self._core.take(self.id, answer, self._clock()))
                    else:
                        self._post(peer, request, partial(self._take, peer))
        except StorageError as error:
            self._count("store failed")
            ends += [(future, error) for future in self._futures.values()]
            self._futures.clear()
        self._lock.notify_all()
        return ends

    def _post(self, peer: int, request: Any, take: Callable[[Any], None]) -> None:
        """Ask a peer in a thread of its own."""
        if self._waiting[peer] >= MOST_WAITING:
            self.counts["requests dropped"] += 1
            return
        lane = self._lanes.get(peer)
        if lane is None:
            lane = self._lanes[peer] = ThreadPoolExecutor(LANES, f"registers-{self.id}-{peer}")
        self._waiting[peer] += 1
        try:
            lane.submit(self._ask, peer, request, take)
        except RuntimeError:  # closed meanwhile
            self._waiting[peer] -= 1

    def _ask(self, peer: int, request: Any, take: Callable[[Any], None]) -> None:
        try:
            take(self._transport.ask(peer, request, 1.0))
        except Unreachable:
            self._count("peer unreachable")
        except FrameError as error:
            self._count(f"refused: {error.kind}")
        except Exception:  # noqa: BLE001 - the end of a lane's thread would be silent
            _log.exception("node %d: the answer of node %d", self.id, peer)
        finally:
            with self._lock:
                self._waiting[peer] -= 1

    def _take(self, peer: int, answer: Any) -> None:
        with self._lock:
            if self._closed or not hasattr(answer, "ballot"):
                return
            ends = self._perform(self._core.take(peer, answer, self._clock()))
        _set(ends)

    def _run_timer(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                due, now = self._core.due, self._clock()
                if due is None or due > now:
                    self._lock.wait(None if due is None else due - now)
                    continue
                ends = self._perform(self._core.tick(now))
            _set(ends)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    # -- procedures --------------------------------------------------------------------------------------------

    def collect(self, timeout: float = 60.0) -> Collected:
        """Forget the registers that have been deleted; what clients' numbers they remember goes with them.

        All acceptors are needed. One that did not come to its end goes on where it stopped, at the same node.

        Raises:
            Busy: an acceptor could not be asked in time, or another procedure is under way; the text says which.
            StorageError: the store has failed.
        """
        self._acquire("collect", timeout)
        after = self._cells.progress or b""
        removed = self._drive(collect(self.configuration, after), time_left(timeout))
        self._release(timeout)
        return Collected(removed)

    def grow(self, acceptor: int, timeout: float = 60.0) -> None:
        """Let a node vote. It is connected everywhere, was begun with `acceptors` as they were, and its store is new.

        One that did not come to its end goes on when it is called again.

        Raises:
            Refused: it votes already.
            Busy: not every node could be asked in time, or another procedure is under way.
        """
        self._resize(f"grow {acceptor}", timeout, joins=acceptor)

    def shrink(self, acceptor: int, timeout: float = 60.0) -> None:
        """Let a node vote no more; it may propose on, and must not vote again before its store is emptied.

        Raises:
            Refused: it does not vote.
            Busy: as for `grow`.
        """
        self._resize(f"shrink {acceptor}", timeout, leaves=acceptor)

    def _resize(self, name: str, timeout: float, **change: int) -> None:
        left = time_left(timeout)
        with self._lock:
            self._begin()
            base = self._core.configuration
        begun = self._owner(left())
        if begun is not None and begun[1] == name:
            version, prepare, accept = begun[2]
            base = Configuration(version, tuple(prepare), tuple(accept))
        try:
            steps = plan(base, **change)
        except ValueError as error:
            raise Refused(str(error)) from error
        self._acquire(name, timeout, base)
        self._drive(resize(base, steps), left)
        self._release(timeout)

    def _owner(self, timeout: float) -> Any:
        """Which procedure is under way: [node, its name, the configuration it began with]; None if none is."""
        done = self._own(lambda state: (state, state.value), timeout)
        return None if done.result is None else msgpack.unpackb(done.result)

    def _acquire(self, name: str, timeout: float, base: Configuration = Configuration(0, (), ())) -> None:  # noqa: B008
        """Begin a procedure, or go on with it.

        Raises:
            Busy: another is under way.
        """
        mine = msgpack.packb([self.id, name, base])

        def step(state: State) -> tuple[State, Any]:
            return (state._replace(value=mine), mine) if state.value is None else (state, state.value)

        stands = msgpack.unpackb(self._own(step, timeout).result)
        if stands[:2] != [self.id, name]:
            raise Busy(f"{stands[1]} of node {stands[0]} is under way: let that node finish it first")

    def _release(self, timeout: float) -> None:
        self._cells.note(b"")
        self._own(lambda state: (state._replace(value=None), None), timeout)

    def _own(self, step: Callable[[State], tuple[State, Any]], timeout: float) -> Done:
        done = self._propose(Want(_OWN, step, repeatable=True), timeout).result()
        if done.verdict is not Verdict.DONE:
            raise Busy("no majority of the acceptors answers")
        return done

    def _drive(self, procedure: Procedure, left: Callable[[], float]) -> int:
        """Do what a procedure wants, one thing after another."""
        result: Any = None
        try:
            while True:
                todo = procedure.send(result)
                result = None
                if isinstance(todo, Want):
                    result = self._propose(todo, left()).result()
                elif isinstance(todo, Ask):
                    result = self._ask_all(todo, left)
                elif isinstance(todo, Configuration):
                    self._configure_all(todo, left)
                elif todo.key:
                    self._cells.note(todo.key)
        except StopIteration as end:
            return cast("int", end.value)

    def _ask_all(self, ask: Ask, left: Callable[[], float]) -> dict[int, Any]:
        request = ask.request
        if isinstance(request, List):
            request = request._replace(ballot=Ballot(next(self._nonces) % COUNTER_MAX, self.id))
        return self._everybody(
            ask.acceptors, request, ask.needed, left, lambda answer: answer.ballot == request.ballot
        )

    def _configure_all(self, configuration: Configuration, left: Callable[[], float]) -> None:
        with self._lock:
            nodes = tuple(sorted(self._peers))
        self._everybody(nodes, Configure(configuration), len(nodes), left, lambda answer: answer.done)

    def _everybody(
        self,
        nodes: tuple[int, ...],
        request: Any,
        needed: int,
        left: Callable[[], float],
        wanted: Callable[[Any], bool],
    ) -> dict[int, Any]:
        """Ask nodes, again and again, until `needed` of them have answered as wanted.

        Raises:
            Busy: the time is over; who is missing is named.
        """
        found: dict[int, Any] = {}
        wait = 0.01
        while True:
            for node in nodes:
                if node not in found:
                    try:
                        answer = (
                            self.handle(request)
                            if node == self.id
                            else self._transport.ask(node, request, 1.0)
                        )
                    except (Unreachable, FrameError):
                        continue
                    if wanted(answer):
                        found[node] = answer
                        if len(found) >= needed:
                            return found
            if left() <= 0:
                missing = ", ".join(str(node) for node in nodes if node not in found)
                raise Busy(f"waits for node {missing}; call it again to go on")
            time.sleep(min(wait, max(left(), 0)))
            wait = min(2 * wait, 0.5)


def time_left(timeout: float) -> Callable[[], float]:
    """Tells how many seconds of a time-out are left."""
    end = time.monotonic() + timeout
    return lambda: end - time.monotonic()


def _checked_once(once: tuple[int, int]) -> tuple[int, int]:
    client, number = once
    if not (0 <= client < 2**64 and 0 <= number < COUNTER_MAX):
        raise Refused(f"once is {once!r}; allowed: a client below 2**64 and a number below 2**62")
    return client, number


def _set(ends: Iterable[tuple[Future[Done], Done | BaseException]]) -> None:
    for future, end in ends:
        if isinstance(end, BaseException):
            future.set_exception(end)
        else:
            future.set_result(end)
