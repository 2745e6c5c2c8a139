"""The methods that blocking clients of one cluster and of several groups share: one an operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, Ops, T
from epaxos.client.reading import Look, Reads, check_reads, look_at, read_as
from epaxos.client.recipes.blocking import Barrier, Counter, Held, Lease, Lock
from epaxos.client.results import CasResult, Page
from epaxos.client.session.tickets import Uncopied

if TYPE_CHECKING:
    from epaxos.client.blocking import Client

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class KeyMethods(Uncopied, ABC, Generic[V]):
    """The methods of a blocking client with values of type `V`: bytes, or those of its codec."""

    def __init__(self, codec: Codec[V] | None, reads: Reads = "log") -> None:
        self._reads: Reads = check_reads(reads)
        self._ops: Ops[V] = Ops(codec) if codec is not None else Ops()  # type: ignore[assignment]  # V is bytes

    @property
    def op(self) -> Ops[V]:
        """What makes commands with values of this client's type, for `multi`, `bulk` and `execute`."""
        return self._ops

    @property
    def _reads_of_all(self) -> Reads:
        """How lists and counts are read, of which a quorum cannot tell."""
        return "local" if self._reads == "local" else "log"

    @abstractmethod
    def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command made before; returns what the method of its name does."""

    @abstractmethod
    def _cluster_of(self, key: bytes) -> Client[Any]:
        """The client of the cluster that has a key."""

    @abstractmethod
    def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]: ...

    def get(self, key: bytes, *, reads: Reads | None = None, timeout: float | None = None) -> V | None:
        """The value of a key, None if there is none; `reads` says how it is read, as for the client (docs/reads.md)."""
        return self.execute(read_as(self._ops.get(key), reads or self._reads), timeout=timeout)

    def look(
        self,
        key: bytes,
        *,
        reads: Literal["local", "observer"] = "local",
        timeout: float | None = None,
    ) -> Look[V]:
        """The value of a key at one replica, and how far that is behind, or at an observer, and how old (`Look`)."""
        found: Look[V] = self.execute(look_at(self._ops.get(key), reads), timeout=timeout)
        return found

    def put(
        self,
        key: bytes,
        value: V,
        *,
        ttl: float | timedelta | None = None,
        keep_ttl: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Set the value of a key, which ends `ttl` seconds from now, or soon after; without it, it does not end.

        With `keep_ttl` it ends when the value before it would have, if it would. Whatever else replaces a value (`cas`,
        `write_read`, another `put`) takes its end away; `increment` and `append` keep it.
        """
        self.execute(self._ops.put(key, value, ttl=ttl, keep_ttl=keep_ttl), timeout=timeout)

    def expire(self, key: bytes, ttl: float | timedelta, *, timeout: float | None = None) -> bool:
        """Let the value of a key end `ttl` seconds from now, or soon after; returns whether there is one."""
        return self.execute(Op.expire(key, ttl), timeout=timeout)

    def persist(self, key: bytes, *, timeout: float | None = None) -> bool:
        """Let the value of a key not end; returns whether there is one that would have."""
        return self.execute(Op.persist(key), timeout=timeout)

    def write_read(self, key: bytes, value: V, *, timeout: float | None = None) -> V | None:
        """Set the value of a key; returns the value before, None if there was none."""
        return self.execute(self._ops.write_read(key, value), timeout=timeout)

    def exists(self, key: bytes, *, reads: Reads | None = None, timeout: float | None = None) -> bool:
        """Whether a key has a value."""
        return self.execute(read_as(Op.exists(key), reads or self._reads), timeout=timeout)

    def delete(self, key: bytes, *, timeout: float | None = None) -> bool:
        """Remove a key; returns whether there was one."""
        return self.execute(Op.delete(key), timeout=timeout)

    def scan(
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
        """The keys that begin with a prefix, in the order of their bytes, with their values if these are wanted.

        A page has at most `limit` keys (10,000), and ends at 1 MiB. It is what stood at one moment; the next one,
        `after=page.after`, at another.
        With `reverse` the order is from the end. It is ordered with every write under way: not a way to poll.
        """
        operation = self._ops.scan(prefix, after, limit, values=values, reverse=reverse)
        operation = read_as(operation, reads or self._reads_of_all)
        return self.execute(operation, timeout=timeout)

    def count(self, prefix: bytes = b"", *, reads: Reads | None = None, timeout: float | None = None) -> int:
        """How many keys begin with a prefix, at one moment."""
        return self.execute(read_as(Op.count(prefix), reads or self._reads_of_all), timeout=timeout)

    def delete_prefix(self, prefix: bytes, *, timeout: float | None = None) -> int:
        """Remove all keys that begin with a prefix, b"" for all there are; returns how many.

        In steps of 1,000, each at one moment and with `timeout`, in the order of keys: what is put meanwhile may stay.
        """
        total, after = 0, None
        while True:
            removed, after = self.execute(Op.clear(prefix, after), timeout=timeout)
            total += removed
            if after is None:
                return total

    def cas(
        self, key: bytes, expected: V | None, new: V | None, *, timeout: float | None = None
    ) -> CasResult[V]:
        """Set the value of a key to `new` (None: remove it) if it is `expected` (None: if there is none)."""
        return self.execute(self._ops.cas(key, expected, new), timeout=timeout)

    def increment(self, key: bytes, amount: int = 1, *, timeout: float | None = None) -> int:
        """Add to the number under a key, a 64-bit integer in decimal digits; absent counts as 0.

        Returns the new number.

        Raises:
            OperationFailed: the value is no such number, or the new one would not be.
        """
        return self.execute(self._ops.increment(key, amount), timeout=timeout)

    def append(self, key: bytes, suffix: V, *, timeout: float | None = None) -> int:
        """Add bytes to the end of a value; absent counts as empty. Returns the new length in bytes.

        Raises:
            OperationFailed: the value would be longer than the cluster allows.
        """
        return self.execute(self._ops.append(key, suffix), timeout=timeout)

    @overload
    def multi(self, operations: tuple[Op[A]], *, timeout: float | None = None) -> tuple[A]: ...
    @overload
    def multi(self, operations: tuple[Op[A], Op[B]], *, timeout: float | None = None) -> tuple[A, B]: ...
    @overload
    def multi(
        self, operations: tuple[Op[A], Op[B], Op[C]], *, timeout: float | None = None
    ) -> tuple[A, B, C]: ...
    @overload
    def multi(
        self, operations: tuple[Op[A], Op[B], Op[C], Op[D]], *, timeout: float | None = None
    ) -> tuple[A, B, C, D]: ...
    @overload
    def multi(self, operations: Iterable[Op[T]], *, timeout: float | None = None) -> Sequence[T]: ...
    def multi(self, operations: Iterable[Op], *, timeout: float | None = None) -> Sequence[Any]:
        """Execute operations as one, all or nothing; returns what each of them returns (see `Op.multi`).

        A tuple for a tuple, of which a type checker knows each member; else a list.

        Raises:
            MultiAborted: an operation failed (a kind of OperationFailed that names it); nothing has changed.
        """
        results = self._multi(operations, timeout)
        return tuple(results) if isinstance(operations, tuple) else results

    def lock(
        self,
        key: bytes,
        ttl: float = 10.0,
        *,
        holder: bytes | None = None,
        on_lost: Callable[[Held], None] | None = None,
    ) -> Lock:
        """A lock, for `with client.lock(key) as held:`; nobody else has it while `held.is_held`.

        If its holder dies it is free `ttl` seconds later. `held.token` grows with every acquisition.
        """
        return Lock(self._cluster_of(key), key, ttl, holder, on_lost)

    def elect(
        self,
        key: bytes,
        candidate: bytes,
        ttl: float = 10.0,
        *,
        on_lost: Callable[[Held], None] | None = None,
    ) -> Lock:
        """An election: a lock that is held by who leads; `holder()` tells everybody which candidate that is."""
        return Lock(self._cluster_of(key), key, ttl, candidate, on_lost)

    def lease(self, ttl: float = 10.0, *, on_lost: Callable[[Held], None] | None = None) -> Lease:
        """Keys that stay for as long as this program lives, and `ttl` seconds (see `Lease`)."""
        return Lease(self._cluster_of, ttl, on_lost)

    def barrier(self, key: bytes, parties: int) -> Barrier:
        """Where so many wait for one another (see `Barrier`)."""
        return Barrier(self._cluster_of(key), key, parties)

    def counter(self, key: bytes) -> Counter:
        """A number that all count in."""
        return Counter(self._cluster_of(key), key)
