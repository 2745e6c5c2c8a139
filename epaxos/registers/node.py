"""A node: an acceptor for everybody, a proposer for its program, and what looks after registers.

The proposer's core is under one lock. A thread does what is due when no answer comes. Where writes cost the same for
many as for one, the own acceptor has a thread too, which takes all that waits for it at once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from random import SystemRandom
from typing import Any, NamedTuple, Self, cast

import msgpack

from epaxos.client.commands import Op
from epaxos.errors import Busy, Closed, ConfigError, EpaxosError, FrameError, NoAnswer, Refused, StorageError
from epaxos.protocol.registers.change import Asks, Done, Pace, Verdict, Want
from epaxos.protocol.registers.proposer import Proposer
from epaxos.protocol.registers.steps import SUPERSEDED
from epaxos.protocol.registers.steps import once as once_only
from epaxos.protocol.registers.upkeep import Configure, Settled
from epaxos.protocol.registers.values import COUNTER_MAX, Configuration, Remove, Request
from epaxos.registers.cells import Cells
from epaxos.registers.changes import KEEP, Applied, Applier, Change, Function
from epaxos.registers.identity import Identity
from epaxos.registers.lanes import Lanes
from epaxos.registers.observer import INTERVAL, USER, Observer, Position
from epaxos.registers.store import Store
from epaxos.registers.transport import LocatingTransport, NamedTransport, PostingTransport, Transport
from epaxos.registers.upkeep import Upkeep
from epaxos.transport.registers import ID_MAX


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
        self.identity = Identity(id, self._cells)
        self._applier = Applier()
        self._peers: set[int] = {id}
        self._located: dict[int, tuple[str, int]] = {}
        if isinstance(transport, LocatingTransport) and (located := self._cells.addresses) is not None:
            self._located = {peer: (host, port) for peer, (host, port) in msgpack.unpackb(located)}
            for peer, address in self._located.items():
                transport.locate(peer, address, again=True)
            self._peers.update(self._located)
        self._given = None if acceptors is None else tuple(sorted(set(acceptors)))
        kept = self._cells.configuration
        self._core = Proposer(
            id, kept or Configuration(0, (), ()), self._cells.counter, SystemRandom(), pace, direct=direct
        )
        self._lock = threading.Condition()
        self._futures: dict[int, Future[Done]] = {}
        self._post = (
            transport if isinstance(transport, PostingTransport) else Lanes(f"registers-{id}", transport)
        )
        self._own: SimpleQueue[Request | None] | None = SimpleQueue() if self._cells.grouped else None
        self._upkeep = Upkeep(self)
        self._client = SystemRandom().randrange(2**63)
        self._numbers = count(1)
        self._closed = False
        runs = [self._run_timer] if self._own is None else [self._run_timer, self._run_own]
        self._threads = [threading.Thread(target=run, name=f"registers-{id}", daemon=True) for run in runs]
        if isinstance(transport, NamedTransport):
            transport.belongs_to(self)
        for thread in self._threads:
            thread.start()

    # -- life --------------------------------------------------------------------------------------------------

    def connect(self, *peers: int) -> None:
        """Name other nodes, all of them before the first change; those that are named already change nothing."""
        with self._lock:
            self._peers.update(peers)

    def locate(self, addresses: Mapping[int, tuple[str, int]]) -> None:
        """Name other nodes, and where they are: for a transport that must know it, and kept in the store.

        Raises:
            Refused: the transport has no use for addresses.
            StorageError: the store has failed.
        """
        if not isinstance(self._transport, LocatingTransport):
            raise Refused("the transport of this node has no use for addresses")
        with self._lock:
            self._located |= addresses
            self._cells.locate(msgpack.packb(list(self._located.items())))
            for peer, address in addresses.items():
                self._transport.locate(peer, address)
            self._peers.update(addresses)

    def _begin(self) -> None:
        """Decide with the first use who votes, if nothing is kept: who is connected later only proposes."""
        if self._core.configuration.accept:
            return
        with self._lock:
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
        self._post.close()
        if self._own is not None:
            self._own.put(None)
        self._transport.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def configuration(self) -> Configuration:
        """Who votes."""
        return self._core.configuration

    @property
    def peers(self) -> tuple[int, ...]:
        """All nodes, this one too."""
        with self._lock:
            return tuple(sorted(self._peers))

    @property
    def incarnation(self) -> int:
        """The number that the store was given when it was new."""
        return self.identity.incarnation

    @property
    def cells(self) -> Cells:
        """What the node keeps."""
        return self._cells

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
        (answer,) = self.handle_all((request,))
        if isinstance(answer, EpaxosError):
            raise answer
        return answer

    def handle_all(self, requests: Sequence[Any]) -> list[Any]:
        """The same for several, that become durable together; a FrameError or StorageError stands for an answer."""
        try:
            self._begin()
            for request in requests:
                if isinstance(request, Remove):
                    with self._lock:
                        self._core.forget(request.key)
            votes = [request for request in requests if not isinstance(request, Configure)]
            taken = iter(self._cells.take_all(votes) if votes else ())
            answers = [
                self._configure(request.configuration) if isinstance(request, Configure) else next(taken)
                for request in requests
            ]
        except StorageError as error:
            self.count("store failed")
            return [error] * len(requests)
        for answer in answers:
            if isinstance(answer, FrameError):
                self.count(f"refused: {answer.kind}")
        return answers

    def ask(self, node: int, request: Any, timeout: float = 1.0) -> Any:
        """The answer of a node, which may be this one.

        Raises:
            Unreachable, FrameError: there is none.
            StorageError: the own store has failed.
        """
        return self.handle(request) if node == self.id else self._transport.ask(node, request, timeout)

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
        first: bool = False,
    ) -> Reply:
        """Change a register.

        change  an operation on this key, a named change, or a pure function of the value
        once    (client, number): however often it is proposed, by whichever nodes, it is made once
                (`protocol.registers.steps.once`). Without it the change gets a number of this node's, so that it can be
                tried again within the time-out, though not by another call
        first   one round trip for the first change of a register, see `Want.first`, which says to whom it is allowed

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
        want = Want(USER + key, step, reads=applied.reads, repeatable=True, first=first and not applied.reads)
        return self._replied(applied, self.begin(want, timeout).result())

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

    def begin(self, want: Want, timeout: float) -> Future[Done]:
        """Propose something; its end."""
        future: Future[Done] = Future()
        self._begin()
        with self._lock:
            if self._closed:
                raise Closed("the node is closed")
            now = self._clock()
            ticket, asks = self._core.propose(want, now + timeout, now)
            self._futures[ticket] = future
            ends = self._perform(asks)
        _set(ends)
        return future

    def _replied(self, applied: Applied, done: Done) -> Reply:
        self.count(f"proposals {done.verdict.value}")
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
            self.count("changes failed")
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
                    if peer != self.id:
                        self._post.post(peer, request, partial(self._take, peer))
                    elif self._own is not None:
                        self._own.put(request)
                    else:
                        answer = self._cells.take(request)
                        waiting.append(self._core.take(self.id, answer, self._clock()))
        except StorageError as error:
            ends += self._end_all(error)
        self._lock.notify_all()
        return ends

    def _end_all(self, error: StorageError) -> list[tuple[Future[Done], Done | BaseException]]:
        """The store has failed: nothing that is under way can be known to have come to an end."""
        self.counts["store failed"] += 1
        futures, self._futures = self._futures, {}
        return [(future, error) for future in futures.values()]

    def _run_own(self) -> None:
        """Let the own acceptor take all that waits for it at once."""
        assert self._own is not None
        while (request := self._own.get()) is not None:
            requests = [request]
            try:
                while (request := self._own.get_nowait()) is not None:
                    requests.append(request)
            except Empty:
                pass
            try:
                answers = self._cells.take_all(requests)
            except StorageError as error:
                with self._lock:
                    ends = self._end_all(error)
                _set(ends)
            else:
                for answer in answers:
                    self._take(self.id, answer)
            if request is None:
                return

    def _take(self, peer: int, answer: Any) -> None:
        """An answer has come, or what is wrong with it."""
        if isinstance(answer, Exception):
            kind = f"refused: {answer.kind}" if isinstance(answer, FrameError) else "peer unreachable"
            self.count(kind)
            return
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

    def count(self, what: str) -> None:
        """Add to `counts`."""
        with self._lock:
            self.counts[what] += 1

    # -- what looks after registers ----------------------------------------------------------------------------

    def collect(self, timeout: float = 60.0, gone: Iterable[int] = ()) -> Collected:
        """Forget the registers that have been deleted; what clients' numbers they remember goes with them.

        All acceptors are needed. One that did not come to its end goes on where it stopped, at the same node.

        gone  nodes that have ended and will never come back, in their store's name or without it: nobody waits for
              them any more, now and later, and what they had begun is taken over

        Raises:
            Busy: an acceptor could not be asked in time, or another procedure is under way; the text says which.
            StorageError: the store has failed.
        """
        return Collected(self._upkeep.collect(timeout, gone))

    def grow(self, acceptor: int, timeout: float = 60.0, gone: Iterable[int] = ()) -> None:
        """Let a node vote. It is connected everywhere, was begun with `acceptors` as they were, and its store is new.

        One that did not come to its end goes on when it is called again.

        Raises:
            Refused: it votes already.
            Busy: not every node could be asked in time, or another procedure is under way.
        """
        self._upkeep.resize(f"grow {acceptor}", timeout, gone)

    def shrink(self, acceptor: int, timeout: float = 60.0, gone: Iterable[int] = ()) -> None:
        """Let a node vote no more; it may propose on, and must not vote again before its store is emptied.

        Raises:
            Refused: it does not vote.
            Busy: as for `grow`.
        """
        self._upkeep.resize(f"shrink {acceptor}", timeout, gone)

    def observe(self, after: Position | None = None, interval: float = INTERVAL) -> Observer:
        """Follow what is chosen, from a position of an earlier observer on or from the beginning (`Observer`)."""
        self._begin()
        return Observer(partial(self.ask, timeout=0.5), lambda: self.configuration, after, interval)


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
