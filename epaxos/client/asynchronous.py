"""The asyncio client.

Everything happens in the event loop's thread: the sockets' descriptors are watched by the loop, and what is
submitted during one turn of the loop leaves at its end, in one frame.
"""

# Not asyncio.timeout: that would cancel the call, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle, get_running_loop
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from types import TracebackType
from typing import Any, Self, TypeAlias

from epaxos.client.commands import CasResult, Op, Result, as_columns, as_operations
from epaxos.client.drivers.calls import RANDOM, index_of, parts_of, result_of, results_of
from epaxos.client.drivers.wire import Wire
from epaxos.client.options import check_timeout, client_options
from epaxos.client.session.core import Finished, Session
from epaxos.client.session.fate import never_began
from epaxos.config import Config

Waiting: TypeAlias = "Future[None]"


class AsyncClient:
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
        self._session: Session[Waiting] = Session(self._options, RANDOM)
        self._loop: AbstractEventLoop | None = None
        self._wire = Wire(self._session, self._options, self._watch, self._wake)
        self._due = False
        self._timer: TimerHandle | None = None
        self._timer_at = inf
        self._closed = False

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
        if self._closed:
            return
        self._closed = True
        self._session.close()
        self._deliver()
        self._set_timer(inf)
        if self._loop is not None and not self._loop.is_closed():
            for descriptor in self._wire.descriptors():
                self._loop.remove_reader(descriptor)
        self._wire.close()

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
        return dict(self._session.retries)

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
        parts = parts_of(as_operations(operations), self._options)
        loop = self._enter(timeout)
        now = loop.time()
        tickets = [
            self._session.submit_columns(*as_columns(part), now, timeout, loop.create_future())
            for part in parts
        ]
        await self._wait(loop, tickets)
        pairs = zip(parts, tickets, strict=True)
        return [result for part, ticket in pairs for result in results_of(part, ticket)]

    async def status(
        self, *, digest: bool = False, replica: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """The status of the replica of that name, or of the one in use (see `Client.status`)."""
        loop = self._enter(timeout)
        question = self._session.ask_status(
            index_of(replica, self._options),
            loop.time(),
            digest=digest,
            timeout=timeout,
            waiter=loop.create_future(),
        )
        await self._wait(loop, [question])
        if question.error is not None:
            raise question.error
        return question.status

    async def _run(self, operation: Op, timeout: float | None) -> Any:
        loop = self._enter(timeout)
        ticket = self._session.submit(operation, loop.time(), timeout, loop.create_future())
        await self._wait(loop, [ticket])
        return result_of(operation, ticket)

    def _enter(self, timeout: float | None) -> AbstractEventLoop:
        """Check that a call can be made now and here."""
        if timeout is not None:
            check_timeout(timeout)
        if self._closed:
            raise never_began("the client is closed")
        loop = get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "an AsyncClient belongs to the event loop of its first call; make one for each"
            )
        return loop

    async def _wait(self, loop: AbstractEventLoop, items: Sequence[Finished[Waiting]]) -> None:
        """Have what was submitted sent, and wait until all of it is over."""
        self._turn_soon(loop)
        try:
            for item in items:
                assert item.waiter is not None
                await item.waiter
        finally:
            for item in items:
                if not item.done:
                    self._session.abandon(item)

    def _turn_soon(self, loop: AbstractEventLoop) -> None:
        if not self._due:
            self._due = True
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Do what can be done now; have the loop call again when there is more."""
        self._due = False
        if self._closed or self._loop is None:
            return
        now = self._loop.time()
        self._session.expire(now)
        more = self._wire.pump(now)
        self._deliver()
        if more:
            self._turn_soon(self._loop)
        else:
            self._set_timer(self._wire.next_event())

    def _deliver(self) -> None:
        for item in self._session.take_finished():
            waiter = item.waiter
            assert waiter is not None
            if not waiter.done():
                waiter.set_result(None)

    def _watch(self, descriptor: int) -> None:
        assert self._loop is not None
        self._loop.add_reader(descriptor, self._turn)

    def _wake(self) -> None:
        """In any thread: there is a reason for a turn."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._turn)

    def _set_timer(self, when: float) -> None:
        """Have a turn at `when`; a timer that is set for an earlier time may stay, it does no harm."""
        if self._timer is not None:
            if self._timer_at <= when < inf:
                return
            self._timer.cancel()
            self._timer = None
        self._timer_at = when
        if when < inf and self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()
