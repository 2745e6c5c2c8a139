"""The methods that asyncio clients of one cluster and of several groups share: those of `methods`, to be awaited."""

# Not asyncio.timeout: that would cancel the call, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, Ops, T
from epaxos.client.reading import Look, Reads, check_reads, look_at, read_as
from epaxos.client.recipes.asynchronous import (
    AsyncBarrier,
    AsyncCounter,
    AsyncHeld,
    AsyncLease,
    AsyncLock,
)
from epaxos.client.results import CasResult, Page
from epaxos.client.session.tickets import Uncopied

if TYPE_CHECKING:
    from epaxos.client.asynchronous import AsyncClient

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class AsyncKeyMethods(Uncopied, ABC, Generic[V]):
    """The methods of an asyncio client with values of type `V`; see `methods.KeyMethods`."""

    def __init__(self, codec: Codec[V] | None, reads: Reads = "log") -> None:
        self._reads: Reads = check_reads(reads)
        self._ops: Ops[V] = Ops(codec) if codec is not None else Ops()  # type: ignore[assignment]  # V is bytes

    @property
    def op(self) -> Ops[V]:
        """What makes commands with values of this client's type, for `multi`, `bulk` and `execute`."""
        return self._ops

    @property
    def _reads_of_all(self) -> Reads:
        """See `KeyMethods`."""
        return "local" if self._reads == "local" else "log"

    @abstractmethod
    async def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command made before; returns what the method of its name does."""

    @abstractmethod
    def _cluster_of(self, key: bytes) -> AsyncClient[Any]:
        """The client of the cluster that has a key."""

    @abstractmethod
    async def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]: ...

    async def get(self, key: bytes, *, reads: Reads | None = None, timeout: float | None = None) -> V | None:
        """The value of a key, None if there is none; `reads` says how it is read (see `Client.get`)."""
        return await self.execute(read_as(self._ops.get(key), reads or self._reads), timeout=timeout)

    async def look(
        self,
        key: bytes,
        *,
        reads: Literal["local", "observer"] = "local",
        timeout: float | None = None,
    ) -> Look[V]:
        """The value of a key at one replica, and how far that is behind, or at an observer, and how old (`Look`)."""
        found: Look[V] = await self.execute(look_at(self._ops.get(key), reads), timeout=timeout)
        return found

    async def put(
        self,
        key: bytes,
        value: V,
        *,
        ttl: float | timedelta | None = None,
        keep_ttl: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Set the value of a key, which ends after `ttl` seconds, or not (see `Client.put`)."""
        await self.execute(self._ops.put(key, value, ttl=ttl, keep_ttl=keep_ttl), timeout=timeout)

    async def expire(self, key: bytes, ttl: float | timedelta, *, timeout: float | None = None) -> bool:
        """Let the value of a key end `ttl` seconds from now, or soon after; returns whether there is one."""
        return await self.execute(Op.expire(key, ttl), timeout=timeout)

    async def persist(self, key: bytes, *, timeout: float | None = None) -> bool:
        """Let the value of a key not end; returns whether there is one that would have."""
        return await self.execute(Op.persist(key), timeout=timeout)

    async def write_read(self, key: bytes, value: V, *, timeout: float | None = None) -> V | None:
        """Set the value of a key; returns the value before, None if there was none."""
        return await self.execute(self._ops.write_read(key, value), timeout=timeout)

    async def exists(self, key: bytes, *, reads: Reads | None = None, timeout: float | None = None) -> bool:
        """Whether a key has a value."""
        return await self.execute(read_as(Op.exists(key), reads or self._reads), timeout=timeout)

    async def delete(self, key: bytes, *, timeout: float | None = None) -> bool:
        """Remove a key; returns whether there was one."""
        return await self.execute(Op.delete(key), timeout=timeout)

    async def scan(
        self,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int = 1000,
        *,
        values: bool = True,
        reverse: bool = False,
        reads: Reads | None = None,
        timeout: float | None = None,
    ) -> Page[V]:
        """The keys that begin with a prefix, in order, by pages (see `Client.scan`)."""
        operation = self._ops.scan(prefix, after, limit, values=values, reverse=reverse)
        operation = read_as(operation, reads or self._reads_of_all)
        return await self.execute(operation, timeout=timeout)

    async def count(
        self, prefix: bytes = b"", *, reads: Reads | None = None, timeout: float | None = None
    ) -> int:
        """How many keys begin with a prefix, at one moment."""
        return await self.execute(read_as(Op.count(prefix), reads or self._reads_of_all), timeout=timeout)

    async def delete_prefix(self, prefix: bytes, *, timeout: float | None = None) -> int:
        """Remove all keys that begin with a prefix, in steps (see `Client.delete_prefix`); returns how many."""
        total, after = 0, None
        while True:
            removed, after = await self.execute(Op.clear(prefix, after), timeout=timeout)
            total += removed
            if after is None:
                return total

    async def cas(
        self, key: bytes, expected: V | None, new: V | None, *, timeout: float | None = None
    ) -> CasResult[V]:
        """Set the value of a key to `new` (None: remove it) if it is `expected` (None: if there is none)."""
        return await self.execute(self._ops.cas(key, expected, new), timeout=timeout)

    async def increment(self, key: bytes, amount: int = 1, *, timeout: float | None = None) -> int:
        """Add to the number under a key; returns the new number (see `Client.increment`)."""
        return await self.execute(self._ops.increment(key, amount), timeout=timeout)

    async def append(self, key: bytes, suffix: V, *, timeout: float | None = None) -> int:
        """Add bytes to the end of a value; returns the new length (see `Client.append`)."""
        return await self.execute(self._ops.append(key, suffix), timeout=timeout)

    @overload
    async def multi(self, operations: tuple[Op[A]], *, timeout: float | None = None) -> tuple[A]: ...
    @overload
    async def multi(
        self, operations: tuple[Op[A], Op[B]], *, timeout: float | None = None
    ) -> tuple[A, B]: ...
    @overload
    async def multi(
        self, operations: tuple[Op[A], Op[B], Op[C]], *, timeout: float | None = None
    ) -> tuple[A, B, C]: ...
    @overload
    async def multi(
        self, operations: tuple[Op[A], Op[B], Op[C], Op[D]], *, timeout: float | None = None
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def multi(self, operations: Iterable[Op[T]], *, timeout: float | None = None) -> Sequence[T]: ...
    async def multi(self, operations: Iterable[Op], *, timeout: float | None = None) -> Sequence[Any]:
        """Execute operations as one, all or nothing (see `Client.multi`)."""
        results = await self._multi(operations, timeout)
        return tuple(results) if isinstance(operations, tuple) else results

    def lock(
        self,
        key: bytes,
        ttl: float = 10.0,
        *,
        holder: bytes | None = None,
        on_lost: Callable[[AsyncHeld], None] | None = None,
    ) -> AsyncLock:
        """A lock, for `async with client.lock(key) as held:`; nobody else has it while `held.is_held`.

        If its holder dies it is free `ttl` seconds later. `held.token` grows with every acquisition.
        """
        return AsyncLock(self._cluster_of(key), key, ttl, holder, on_lost)

    def elect(
        self,
        key: bytes,
        candidate: bytes,
        ttl: float = 10.0,
        *,
        on_lost: Callable[[AsyncHeld], None] | None = None,
    ) -> AsyncLock:
        """An election: a lock that is held by who leads; `holder()` tells everybody which candidate that is."""
        return AsyncLock(self._cluster_of(key), key, ttl, candidate, on_lost)

    def lease(self, ttl: float = 10.0, *, on_lost: Callable[[AsyncHeld], None] | None = None) -> AsyncLease:
        """Keys that stay for as long as this program lives, and `ttl` seconds (see `AsyncLease`)."""
        return AsyncLease(self._cluster_of, ttl, on_lost)

    def barrier(self, key: bytes, parties: int) -> AsyncBarrier:
        """Where so many wait for one another (see `AsyncBarrier`)."""
        return AsyncBarrier(self._cluster_of(key), key, parties)

    def counter(self, key: bytes) -> AsyncCounter:
        """A number that all count in."""
        return AsyncCounter(self._cluster_of(key), key)
