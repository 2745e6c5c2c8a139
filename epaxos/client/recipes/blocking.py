"""Locks, elections, leases, barriers and counters for threads; made by the methods of a client of these names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from epaxos.client.commands import Op
from epaxos.client.recipes.holding import (
    RANDOM,
    TIMEOUT,
    Ask,
    AskAll,
    Flow,
    Holding,
    Kept,
    Meeting,
    check_ttl,
    holder_of,
    keep,
    named,
    told,
    told_lost,
    whoami,
)
from epaxos.errors import ClientError, Closed

if TYPE_CHECKING:
    from epaxos.client.blocking import Client

R = TypeVar("R")


class Held(Kept):
    """A value that is kept until it is released, and may be lost: of a lock, an election or a lease.

    `lost` is set, and `on_lost` called in a thread of its own, before another can hold it, if this process gets to run
    in time; `is_held` asks the clock, and is never late.
    """

    def __init__(self, keeper: Keeper, holding: Holding) -> None:
        super().__init__(holding)
        self._keeper = keeper
        self.lost = threading.Event()

    def release(self) -> None:
        """Let it go; nothing if it is gone already. If that cannot be told to the store, it ends by itself."""
        self._keeper.release(self, self._holding)


class Keeper:
    """Renews what is held through one client, in a thread that there is while there is something to renew."""

    def __init__(self, client: Client[Any], on_lost: Callable[[Held], None] | None) -> None:
        self.client = client
        self._on_lost = on_lost
        self._guard = threading.Lock()
        self._held: dict[Held, Holding] = {}
        self._stop = threading.Event()
        self._stop.set()

    def keep(self, holding: Holding) -> Held:
        """Renew this from now on."""
        held = Held(self, holding)
        with self._guard:
            self._held[held] = holding
            if self._stop.is_set():
                self._stop = threading.Event()
                arguments = (self._stop,)
                threading.Thread(target=self._run, args=arguments, name="epaxos-lease", daemon=True).start()
        return held

    def release(self, held: Held, holding: Holding) -> None:
        """See `Held.release`."""
        if holding.is_own and self._forget(held):
            run(self.client, holding.release(TIMEOUT))

    def release_all(self) -> None:
        """Let all of it go."""
        for held, holding in list(self._held.items()):
            self.release(held, holding)

    def _forget(self, held: Held) -> bool:
        with self._guard:
            if self._held.pop(held, None) is None:
                return False
            if not self._held:
                self._stop.set()
            return True

    def _run(self, stop: threading.Event) -> None:
        flow = keep(lambda: [] if stop.is_set() else list(self._held.values()))
        try:
            for _ in steps(self.client, flow, stop):
                for held, holding in list(self._held.items()):
                    if not holding.is_held and self._forget(held):
                        holding.end()
                        told_lost(held.key)
                        held.lost.set()
                        told(self._on_lost, held)
        finally:
            stop.set()


class Lock:
    """A lock of a cluster, held by one at a time, for as long as it is renewed, as happens in the background.

    `holder` is what others find: the name of this host and process if nothing else is given. As a context it waits
    until it has the lock, for ever, and gives a `Held`. One holder of it at a time in one object; it is not reentrant.
    """

    def __init__(
        self,
        client: Client[Any],
        key: bytes,
        ttl: float,
        holder: bytes | None = None,
        on_lost: Callable[[Held], None] | None = None,
    ) -> None:
        self._client = client
        self._key = Op.get(key).key
        self._ttl = check_ttl(ttl)
        self._holder = whoami() if holder is None else holder
        self._keeper = Keeper(client, on_lost)
        self._held: Held | None = None

    def acquire(self, timeout: float | None = None) -> Held | None:
        """Take it as soon as nobody has it; None if that takes longer than `timeout` seconds; 0 tries once.

        Raises:
            ClientError: nobody can be asked, the client being closed, or may be.
        """
        holding = Holding(self._key, named(self._holder, RANDOM), self._ttl)
        if not run(self._client, holding.acquire(RANDOM, timeout, TIMEOUT)):
            return None
        return self._keeper.keep(holding)

    def holder(self) -> bytes | None:
        """Who has it now, None if nobody has."""
        return holder_of(self._client.execute(Op.get(self._key)))

    def __enter__(self) -> Held:
        held = self.acquire()
        assert held is not None, "it waits for ever"
        self._held = held
        return held

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, None
        assert held is not None
        held.release()


class Lease:
    """Keys that stay for as long as this is open and its process lives; then they end, `ttl` seconds later at most.

    `on_lost` is called with each that could not be kept. To close it removes those that are left.
    """

    def __init__(
        self,
        client_of: Callable[[bytes], Client[Any]],
        ttl: float,
        on_lost: Callable[[Held], None] | None = None,
    ) -> None:
        self._client_of = client_of
        self._ttl = check_ttl(ttl)
        self._on_lost = on_lost
        self._closed = False
        self._keepers: dict[Client[Any], Keeper] = {}

    def put(self, key: bytes, value: bytes) -> Held:
        """Set the value of a key that has none, and keep it.

        Raises:
            OperationFailed: there is a value.
            Closed: the lease is closed.
        """
        if self._closed:
            raise Closed("the lease is closed")
        client = self._client_of(key)
        holding = Holding(key, value, self._ttl)
        sent = holding.now()
        client.execute(holding.beginning())
        holding.began(sent)
        return self._keepers.setdefault(client, Keeper(client, self._on_lost)).keep(holding)

    def close(self) -> None:
        """Remove the keys that are still held."""
        self._closed = True
        for keeper in self._keepers.values():
            keeper.release_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Barrier:
    """Where `parties` wait for one another, again and again; each calls `wait` once a round."""

    def __init__(self, client: Client[Any], key: bytes, parties: int) -> None:
        self._client = client
        self._meeting = Meeting(key, parties)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all of this round have come.

        Raises:
            TimeoutError: they did not come in time. Then this one is not counted any more.
            ClientError: there was no answer; this one may be counted.
        """
        run(self._client, self._meeting.wait(timeout, TIMEOUT))


class Counter:
    """A number that all count in."""

    def __init__(self, client: Client[Any], key: bytes) -> None:
        self._client = client
        self._key = Op.get(key).key

    def add(self, amount: int = 1) -> int:
        """Add to it; returns the sum."""
        return self._client.execute(Op.increment(self._key, amount))

    @property
    def value(self) -> int:
        """The number now; 0 if nobody has counted."""
        return self.add(0)


def run(client: Client[Any], flow: Flow[R]) -> R:
    """Go through a call to its end."""
    result: list[R] = []

    def whole() -> Flow[None]:
        result.append((yield from flow))

    for _ in steps(client, whole(), threading.Event()):
        pass
    return result[0]


def steps(client: Client[Any], flow: Flow[None], stop: threading.Event) -> Iterator[None]:
    """Go through a call step by step; `stop` ends what it waits for."""
    answer: Any = None
    error: ClientError | None = None
    while True:
        try:
            wanted = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration:
            return
        answer = error = None
        try:
            if isinstance(wanted, Ask):
                answer = client.execute(wanted.operation, timeout=wanted.timeout)
            elif isinstance(wanted, AskAll):
                answer = client.bulk(wanted.operations, timeout=wanted.timeout)
            else:
                stop.wait(wanted)
        except ClientError as raised:
            error = raised
        yield
