"""The asyncio client of several groups: what `epaxos.AsyncClient` is for one cluster."""

# Not asyncio.timeout around a call: that would cancel it, and so lose what became of the command.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Self, overload

from epaxos.client.async_methods import AsyncKeyMethods
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, T
from epaxos.client.options import TIMEOUT
from epaxos.client.results import Result
from epaxos.client.status import Status
from epaxos.errors import ClientError, Refused
from epaxos.groups.calls import AFTERWARDS, Flow, GroupCalls, Recorded, ValueT
from epaxos.groups.driving import Pace, answer_to, command_of
from epaxos.groups.map import Groups
from epaxos.groups.transaction import Answer, Fate, Step, Transaction


class AsyncGroupClient(AsyncKeyMethods[V], GroupCalls):
    """An asyncio client of a service of several groups, for the tasks of one event loop.

    Arguments, methods and errors are those of `epaxos.GroupClient`, the methods to be awaited. A `multi` that is
    cancelled goes on: it may have executed, or may still do so, whole.
    """

    @overload
    def __init__(
        self: AsyncGroupClient[bytes], groups: str | Groups, *, timeout: float = TIMEOUT, codec: None = None
    ) -> None: ...
    @overload
    def __init__(self, groups: str | Groups, *, timeout: float = TIMEOUT, codec: Codec[V]) -> None: ...
    def __init__(
        self, groups: str | Groups, *, timeout: float = TIMEOUT, codec: Codec[V] | None = None
    ) -> None:
        AsyncKeyMethods.__init__(self, codec)
        GroupCalls.__init__(self, groups, timeout)
        self._clients = {
            group.name.encode(): AsyncClient(config=group.config, timeout=timeout)
            for group in self._groups.groups
        }
        self._drives: set[AsyncDrive] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait up to a call's time until what is committed is unlocked, then close the connections."""
        if self._is_closed or os.getpid() != self._process:
            return
        until = monotonic() + self._timeout
        self._is_closed = True
        try:
            for drive in self._drives:
                await drive.wait(until)
        finally:  # also if this is cancelled: nobody could close it then
            for drive in self._drives:
                drive.give_up()
            await asyncio.shield(asyncio.gather(*(client.close() for client in self._clients.values())))
        for drive in self._drives:  # what was under way has ended with the clients
            await drive.wait(until + self._timeout)

    async def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command on one key, made before; returns what the method of its name does."""
        return await run(self._call_one(operation, timeout))

    def _cluster_of(self, key: bytes) -> AsyncClient[Any]:
        client: AsyncClient[Any] = self._clients[self._groups.of(Op.get(key).key).name.encode()]
        return client

    async def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        return await run(self._call_multi(operations, timeout))

    async def bulk(self, operations: Iterable[Op[T]], *, timeout: float | None = None) -> list[Result[T]]:
        """Send many commands, those of a group in one frame, to all groups at once (see `Client.bulk`)."""
        return await run(self._call_bulk(operations, timeout))

    async def ttl(self, key: bytes, *, timeout: float | None = None) -> float | None:
        """Seconds until the value of a key ends; None if there is none, or it stays (see `Client.ttl`)."""
        return await self._cluster_of(key).ttl(key, timeout=timeout)

    async def status(
        self, group: str, *, digest: bool = False, replica: str | None = None, timeout: float | None = None
    ) -> Status:
        """The status of a replica of a group (see `Client.status`)."""
        if group not in self.groups:
            raise Refused(f"no group {group}; there are {', '.join(self.groups)}")
        client: AsyncClient = self._clients[group.encode()]
        return await client.status(digest=digest, replica=replica, timeout=timeout)

    async def transactions(self, *, timeout: float | None = None) -> list[Recorded]:
        """The transactions of which groups have a record (see `GroupClient.transactions`)."""
        return await run(self._call_transactions(timeout))

    async def resolve(
        self,
        record: bytes,
        groups: Mapping[bytes, int],
        *,
        commit: bool = False,
        timeout: float | None = None,
    ) -> Fate | None:
        """End a transaction that somebody else began (see `GroupClient.resolve`)."""
        return await run(self._call_resolve(record, groups, timeout, commit=commit))

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _drive(self, driven: Transaction, until: float) -> AsyncDrive:
        drive = AsyncDrive(driven, self._clients, until + AFTERWARDS)
        self._drives = {one for one in self._drives if not one.is_over} | {drive}
        return drive

    async def _all(
        self, flows: Mapping[bytes, Flow[list[Result]]], sizes: Mapping[bytes, int], until: float
    ) -> dict[bytes, list[Result]]:
        del sizes, until  # each flow keeps to the time by itself
        found = await asyncio.gather(*map(run, flows.values()))
        return dict(zip(flows, found, strict=True))


async def run(flow: Flow[ValueT]) -> ValueT:
    """Go through a call, waiting for what it yields."""
    value: Any = None
    error: Exception | None = None
    while True:
        try:
            waited = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as end:
            result: ValueT = end.value
            return result
        value = error = None
        try:
            value = await waited
        except Exception as raised:  # noqa: BLE001 - it is raised where the call waits for it
            error = raised


class AsyncDrive:
    """One transaction under way, in tasks: what `driving.Drive` is in threads."""

    def __init__(self, driven: Transaction, clients: Mapping[bytes, AsyncClient], until: float) -> None:
        self._driven = driven
        self._clients = clients
        self._until = until
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self.refused: ClientError | None = None
        self._go(driven.begin())

    @property
    def is_over(self) -> bool:
        """Whether all is done, or given up."""
        return not self._tasks

    async def fate(self, until: float) -> Fate | None:
        """What became of it, None if that is not known by a time."""
        await self._wait_for(lambda: bool(self._driven.fate or self._error or self.is_over), until)
        if self._error is not None:
            raise self._error
        return self._driven.fate

    async def wait(self, until: float) -> bool:
        """Whether by a time all is done, or given up."""
        await self._wait_for(lambda: self.is_over, until)
        return self.is_over

    def give_up(self) -> None:
        """Send nothing more; what is under way ends with its clients."""
        self._until = 0.0

    async def _wait_for(self, ready: Callable[[], bool], until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(until - monotonic(), 0.0)):
                while not ready():
                    self._changed.clear()  # all who wait by then look again
                    await self._changed.wait()

    def _go(self, steps: list[Step]) -> None:
        for step in steps:
            task = asyncio.get_running_loop().create_task(self._take(step))
            self._tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._error = self._error or (None if task.cancelled() else task.exception())
        self._changed.set()

    async def _take(self, step: Step) -> None:
        """Send a command until it is answered, and then what follows."""
        pace = Pace()
        while monotonic() < self._until:
            answer = await self._ask(step, pace)
            steps = self._driven.take(step, answer)
            self._changed.set()
            if not pace.again(step, answer, steps):
                self._go(steps)
                return
            await asyncio.sleep(pace.rest())
            step = steps[0]

    async def _ask(self, step: Step, pace: Pace) -> Answer:
        client = self._clients[step.group]
        try:
            within = pace.within(self._until - monotonic(), client.timeout)
            return Answer(*await client.execute(command_of(self._driven, step), timeout=within))
        except ClientError as error:
            return answer_to(self, step, error)
