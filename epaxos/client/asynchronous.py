"""The asyncio client."""

# Not asyncio.timeout: that would cancel the call, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from weakref import finalize

from epaxos.client.commands import CasResult, Op, Result, as_operations
from epaxos.client.drivers.base import RANDOM
from epaxos.client.drivers.calls import Bulk, Command, Status
from epaxos.client.drivers.loop import LoopDriver
from epaxos.client.options import client_options
from epaxos.client.session.tickets import Uncopied
from epaxos.config import Config


class AsyncClient(Uncopied):
    """An asyncio client of a cluster, for the tasks of one event loop.

    Arguments, methods and errors are those of `epaxos.Client`, the methods to be awaited. Tasks that call at the
    same time share frames. A call that is cancelled may have executed, or may still do so.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        replica: str | None = None,
        timeout: float | None = None,
        tries: int | None = None,
    ) -> None:
        self._options = client_options(endpoints, config, replica, timeout, tries, RANDOM)
        self._driver = LoopDriver(self._options)
        finalize(self, self._driver.drop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({', '.join(self._options.endpoints)})"

    async def close(self) -> None:
        """Close the connections; calls of other tasks end with `Closed`. Tells a replica (see `Client.close`)."""
        await self._driver.leave()

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of the replicas; endpoints, where it was given no more than those."""
        return self._options.names

    @property
    def retries(self) -> Mapping[str, int]:
        """How many commands had to be sent again so far, by the reason.

        `silent`: the replica had not answered in its share of the time; `lost`: the connection was; `busy`: the
        replica had no room.
        """
        return dict(self._driver.retries)

    async def get(self, key: bytes, *, timeout: float | None = None) -> bytes | None:
        """The value of a key, None if there is none."""
        value: bytes | None = await self._run(Op.get(key), timeout)
        return value

    async def put(self, key: bytes, value: bytes, *, timeout: float | None = None) -> None:
        """Set the value of a key."""
        await self._run(Op.put(key, value), timeout)

    async def write_read(self, key: bytes, value: bytes, *, timeout: float | None = None) -> bytes | None:
        """Set the value of a key; returns the value before, None if there was none."""
        previous: bytes | None = await self._run(Op.write_read(key, value), timeout)
        return previous

    async def delete(self, key: bytes, *, timeout: float | None = None) -> bool:
        """Remove a key; returns whether there was one."""
        found: bool = await self._run(Op.delete(key), timeout)
        return found

    async def cas(
        self, key: bytes, expected: bytes | None, new: bytes, *, timeout: float | None = None
    ) -> CasResult:
        """Set the value of a key to `new` if it is `expected` (None: if there is none)."""
        result: CasResult = await self._run(Op.cas(key, expected, new), timeout)
        return result

    async def increment(self, key: bytes, amount: int = 1, *, timeout: float | None = None) -> int:
        """Add to the number under a key; returns the new number (see `Client.increment`)."""
        number: int = await self._run(Op.increment(key, amount), timeout)
        return number

    async def append(self, key: bytes, suffix: bytes, *, timeout: float | None = None) -> int:
        """Add bytes to the end of a value; returns the new length (see `Client.append`)."""
        length: int = await self._run(Op.append(key, suffix), timeout)
        return length

    async def pause(self, milliseconds: int, *, timeout: float | None = None) -> None:
        """Make every replica sleep when it executes this; for tests."""
        await self._run(Op.pause(milliseconds), timeout)

    async def null(self, *, timeout: float | None = None) -> None:
        """Do nothing, by way of consensus."""
        await self._run(Op.null(), timeout)

    async def multi(self, operations: Iterable[Op], *, timeout: float | None = None) -> list[Any]:
        """Execute operations as one, all or nothing (see `Client.multi`)."""
        results: list[Any] = await self._run(Op.multi(operations), timeout)
        return results

    async def bulk(self, operations: Iterable[Op], *, timeout: float | None = None) -> list[Result]:
        """Send many commands in one frame, each standing for itself (see `Client.bulk`)."""
        listed = as_operations(operations)
        call = Bulk(listed, self._options, self._driver.enter().time(), timeout)
        if listed:
            await self._driver.run(call)
        return call.result()

    async def execute(self, operation: Op, *, timeout: float | None = None) -> Any:
        """Execute a command made before; returns what the method of its name does."""
        return await self._run(operation, timeout)

    async def status(
        self, *, digest: bool = False, replica: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """The status of the replica of that name, or of the one in use (see `Client.status`)."""
        index, begun = self._options.index_of(replica), self._driver.enter().time()
        call = Status(index, self._options, begun, timeout, digest=digest)
        await self._driver.run(call)
        return call.result()

    async def _run(self, operation: Op, timeout: float | None) -> Any:
        call = Command(operation, self._options, self._driver.enter().time(), timeout)
        await self._driver.run(call)
        return call.result()
