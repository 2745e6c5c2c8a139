"""The asyncio client."""

# Not asyncio.timeout: that would cancel the call, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, overload
from weakref import finalize

from epaxos.client.async_methods import AsyncKeyMethods
from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, T, as_operations
from epaxos.client.drivers.base import RANDOM
from epaxos.client.drivers.calls import Ask, Bulk, Command, change_of, check_fits
from epaxos.client.drivers.loop import LoopDriver
from epaxos.client.options import client_options
from epaxos.client.reading import Reads, is_observed, is_reading, together
from epaxos.client.results import Result
from epaxos.client.status import Change, MemberChange, Status
from epaxos.client.tracing import span
from epaxos.client.watch import AsyncWatch
from epaxos.config import Config
from epaxos.watching.position import Position


class AsyncClient(AsyncKeyMethods[V]):
    """An asyncio client of a cluster, for the tasks of one event loop.

    Arguments, methods and errors are those of `epaxos.Client`, the methods to be awaited. Tasks that call at the
    same time share frames. A call that is cancelled may have executed, or may still do so.
    """

    @overload
    def __init__(
        self: AsyncClient[bytes],
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: Codec[V],
    ) -> None: ...
    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        key: str | None = None,
        reads: Reads = "log",
        codec: Codec[V] | None = None,
    ) -> None:
        super().__init__(codec, reads)
        self._codec = codec
        self._options = client_options(endpoints, config, replica, timeout, tries, RANDOM, key)
        self._driver = LoopDriver(self._options)
        self._reader: LoopDriver | None = None
        self._observer: LoopDriver | None = None
        finalize(self, self._driver.drop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({', '.join(self._options.endpoints)})"

    async def close(self) -> None:
        """Close the connections; calls of other tasks end with `Closed`. Tells a replica (see `Client.close`)."""
        for reader in (self._reader, self._observer):
            if reader is not None:
                await reader.leave()
        await self._driver.leave()

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of the replicas, as far as it knows; endpoints, where it was given no more than those."""
        return self._options.directory.replicas

    @property
    def timeout(self) -> float:
        """How long a call may take that gives no time of its own, in seconds."""
        return self._options.timeout

    @property
    def retries(self) -> Mapping[str, int]:
        """How many commands had to be sent again so far, by the reason.

        `silent`: the replica had not answered in its share of the time; `lost`: the connection was; `busy`: the
        replica had no room.
        """
        counts = Counter(self._driver.retries)
        for reader in (self._reader, self._observer):
            counts.update({} if reader is None else reader.retries)
        return dict(counts)

    async def pause(self, milliseconds: int, *, timeout: float | None = None) -> None:
        """Make every replica sleep when it executes this; for tests."""
        await self.execute(Op.pause(milliseconds), timeout=timeout)

    async def null(self, *, timeout: float | None = None) -> None:
        """Do nothing, by way of consensus."""
        await self.execute(Op.null(), timeout=timeout)

    def _cluster_of(self, key: bytes) -> AsyncClient[V]:  # noqa: ARG002 - there is one
        return self

    async def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        return await self.execute(Op.multi(operations), timeout=timeout)

    async def bulk(
        self, operations: Iterable[Op[T]], *, reads: Reads = "log", timeout: float | None = None
    ) -> list[Result[T]]:
        """Send many commands in one frame, each standing for itself (see `Client.bulk`)."""
        listed, only = together(as_operations(operations), reads)
        driver = self._reading(listed[0]) if only else self._driver
        call = Bulk(listed, self._options, driver.enter().time(), timeout)
        with span(call):
            if listed:
                await driver.run(call)
            return call.result()

    def check(self, operation: Op) -> None:
        """See whether a command fits into a frame (see `Client.check`)."""
        check_fits(operation, self._options)

    def _reading(self, operation: Op) -> LoopDriver:
        """What runs the reads that are none of the log, in no session: made with the first of its kind."""
        self._driver.enter()
        if is_observed(operation):
            if self._observer is None:
                self._observer = LoopDriver(self._options.at_observers, remembered=False)
                finalize(self, self._observer.drop)
            return self._observer
        if self._reader is None:
            self._reader = LoopDriver(self._options, remembered=False)
            finalize(self, self._reader.drop)
        return self._reader

    async def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command made before; returns what the method of its name does."""
        driver = self._reading(operation) if is_reading(operation) else self._driver
        call = Command(operation, self._options, driver.enter().time(), timeout)
        with span(call):
            await driver.run(call)
            return call.result()

    async def ttl(self, key: bytes, *, timeout: float | None = None) -> float | None:
        """Seconds until the value of a key ends; None if there is none, or it stays (see `Client.ttl`)."""
        call = Ask(None, self._options, self._driver.enter().time(), timeout, {"left": Op.get(key).key})
        with span(call):
            await self._driver.run(call)
            return call.left()

    async def status(
        self,
        *,
        digest: bool = False,
        transactions: bool = False,
        replica: str | None = None,
        timeout: float | None = None,
    ) -> Status:
        """The status of the replica of that name, or of the one in use (see `Client.status`)."""
        index, begun = self._options.index_of(replica), self._driver.enter().time()
        call = Ask(index, self._options, begun, timeout, {"digest": digest, "transactions": transactions})
        with span(call):
            await self._driver.run(call)
            return call.status()

    def watch(
        self,
        prefix: bytes = b"",
        *,
        since: Position | str | None = None,
        state: bool = False,
        patience: float | None = None,
    ) -> AsyncWatch[V]:
        """Follow what changes under keys that begin with a prefix, with `async for` (see `Client.watch`)."""
        return AsyncWatch(
            self._driver, self._options, self._codec, prefix, since, state=state, patience=patience
        )

    async def refresh(  # noqa: PLR0913 - what may be other than before, by name
        self,
        base: int,
        *,
        f: int | None = None,
        e: int | None = None,
        members: MemberChange | None = None,
        protocol: str | None = None,
        upgrade: bool = False,
        request: int | None = None,
        dry_run: bool = False,
        replica: str | None = None,
        timeout: float | None = None,
    ) -> Change:
        """Ask for the epoch after `base`, with the same members or others (see `Client.refresh`)."""
        index, begun = self._options.index_of(replica), self._driver.enter().time()
        call = Ask(
            index,
            self._options,
            begun,
            timeout,
            change_of(base, request, f, e, members, protocol=protocol, upgrade=upgrade, dry_run=dry_run),
        )
        with span(call):
            await self._driver.run(call)
            return call.change()
