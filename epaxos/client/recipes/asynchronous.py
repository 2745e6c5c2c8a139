"""Locks, elections, leases, barriers and counters for asyncio: what `blocking` has for threads."""

# Not asyncio.timeout around a call: that would cancel it, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
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
    from epaxos.client.asynchronous import AsyncClient

R = TypeVar("R")


class AsyncHeld(Kept):
    """A value that is kept until it is released, and may be lost (see `blocking.Held`)."""

    def __init__(self, keeper: AsyncKeeper, holding: Holding) -> None:
        super().__init__(holding)
        self._keeper = keeper
        self.lost = asyncio.Event()

    async def release(self) -> None:
        """Let it go; nothing if it is gone already. If that cannot be told to the store, it ends by itself."""
        await self._keeper.release(self, self._holding)


class AsyncKeeper:
    """Renews what is held through one client, in a task that there is while there is something to renew."""

    def __init__(self, client: AsyncClient[Any], on_lost: Callable[[AsyncHeld], None] | None) -> None:
        self._client = client
        self._on_lost = on_lost
        self._held: dict[AsyncHeld, Holding] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, holding: Holding) -> AsyncHeld:
        """Renew this from now on."""
        held = AsyncHeld(self, holding)
        self._held[held] = holding
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return held

    async def release(self, held: AsyncHeld, holding: Holding) -> None:
        """See `AsyncHeld.release`."""
        if self._held.pop(held, None) is None:
            return
        if not self._held and self._task is not None:
            self._task.cancel()
            self._task = None
        await run(self._client, holding.release(TIMEOUT))

    async def release_all(self) -> None:
        """Let all of it go."""
        for held, holding in list(self._held.items()):
            await self.release(held, holding)

    async def _run(self) -> None:
        try:
            async for _ in steps(self._client, keep(lambda: list(self._held.values()))):
                for held, holding in list(self._held.items()):
                    if not holding.is_held and self._held.pop(held, None) is not None:
                        holding.end()
                        told_lost(held.key)
                        held.lost.set()
                        told(self._on_lost, held)
        finally:
            if self._task is asyncio.current_task():
                self._task = None


class AsyncLock:
    """A lock of a cluster, as `async with lock as held:`; see `blocking.Lock`."""

    def __init__(
        self,
        client: AsyncClient[Any],
        key: bytes,
        ttl: float,
        holder: bytes | None = None,
        on_lost: Callable[[AsyncHeld], None] | None = None,
    ) -> None:
        self._client = client
        self._key = Op.get(key).key
        self._ttl = check_ttl(ttl)
        self._holder = whoami() if holder is None else holder
        self._keeper = AsyncKeeper(client, on_lost)
        self._held: AsyncHeld | None = None

    async def acquire(self, timeout: float | None = None) -> AsyncHeld | None:
        """Take it as soon as nobody has it; None if that takes longer than `timeout` seconds; 0 tries once."""
        holding = Holding(self._key, named(self._holder, RANDOM), self._ttl)
        if not await run(self._client, holding.acquire(RANDOM, timeout, TIMEOUT)):
            return None
        return self._keeper.keep(holding)

    async def holder(self) -> bytes | None:
        """Who has it now, None if nobody has."""
        return holder_of(await self._client.execute(Op.get(self._key)))

    async def __aenter__(self) -> AsyncHeld:
        held = await self.acquire()
        assert held is not None, "it waits for ever"
        self._held = held
        return held

    async def __aexit__(self, *_: object) -> None:
        held, self._held = self._held, None
        assert held is not None
        await held.release()


class AsyncLease:
    """Keys that stay for as long as this is open and its process lives; see `blocking.Lease`."""

    def __init__(
        self,
        client_of: Callable[[bytes], AsyncClient[Any]],
        ttl: float,
        on_lost: Callable[[AsyncHeld], None] | None = None,
    ) -> None:
        self._client_of = client_of
        self._ttl = check_ttl(ttl)
        self._on_lost = on_lost
        self._closed = False
        self._keepers: dict[AsyncClient[Any], AsyncKeeper] = {}

    async def put(self, key: bytes, value: bytes) -> AsyncHeld:
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
        await client.execute(holding.beginning())
        holding.began(sent)
        return self._keepers.setdefault(client, AsyncKeeper(client, self._on_lost)).keep(holding)

    async def close(self) -> None:
        """Remove the keys that are still held."""
        self._closed = True
        for keeper in self._keepers.values():
            await keeper.release_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncBarrier:
    """Where `parties` wait for one another, again and again; each calls `wait` once a round."""

    def __init__(self, client: AsyncClient[Any], key: bytes, parties: int) -> None:
        self._client = client
        self._meeting = Meeting(key, parties)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until all of this round have come.

        Raises:
            TimeoutError: they did not come in time. Then this one is not counted any more.
            ClientError: there was no answer; this one may be counted.
        """
        await run(self._client, self._meeting.wait(timeout, TIMEOUT))


class AsyncCounter:
    """A number that all count in."""

    def __init__(self, client: AsyncClient[Any], key: bytes) -> None:
        self._client = client
        self._key = Op.get(key).key

    async def add(self, amount: int = 1) -> int:
        """Add to it; returns the sum."""
        return await self._client.execute(Op.increment(self._key, amount))

    async def value(self) -> int:
        """The number now; 0 if nobody has counted."""
        return await self.add(0)


async def run(client: AsyncClient[Any], flow: Flow[R]) -> R:
    """Go through a call to its end."""
    result: list[R] = []

    def whole() -> Flow[None]:
        result.append((yield from flow))

    async for _ in steps(client, whole()):
        pass
    return result[0]


async def steps(client: AsyncClient[Any], flow: Flow[None]) -> AsyncGenerator[None, None]:
    """Go through a call step by step."""
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
                answer = await client.execute(wanted.operation, timeout=wanted.timeout)
            elif isinstance(wanted, AskAll):
                answer = await client.bulk(wanted.operations, timeout=wanted.timeout)
            else:
                await asyncio.sleep(wanted)
        except ClientError as raised:
            error = raised
        yield
