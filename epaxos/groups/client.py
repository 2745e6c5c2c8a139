"""The blocking client of several groups: what `epaxos.Client` is for one cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic, sleep
from typing import Any, Final, Self, overload

from epaxos.client.blocking import Client
from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op, T
from epaxos.client.drivers.base import CLOSED
from epaxos.client.methods import KeyMethods
from epaxos.client.options import TIMEOUT
from epaxos.client.results import Result
from epaxos.client.status import Status
from epaxos.errors import Busy, Closed, NoAnswer, Refused
from epaxos.groups.calls import AFTERWARDS, Flow, GroupCalls, Recorded, ValueT
from epaxos.groups.driving import Drive
from epaxos.groups.map import Groups
from epaxos.groups.transaction import Fate, Transaction

_THREADS: Final = 16  # a group, and as many for bulk calls
_GRACE: Final = 0.25


class GroupClient(KeyMethods[V], GroupCalls):
    """A blocking client of a service of several groups; threads may share it.

    `groups` is the path of a `groups.toml`, or what `load_groups` made of it; `timeout` is how long a call may take, in
    seconds. The methods, and what they raise, are those of `epaxos.Client`; `multi` may name keys of any groups, and is
    executed as one, all or nothing; after a NoAnswer or Untold of such a one it is whole or not at all. A command that
    meets the lock of such a transaction waits for it a moment, then ends it, if whoever began it died, and goes on.

    Raises:
        ConfigError: the file, or a configuration that it names, is wrong.
    """

    @overload
    def __init__(
        self: GroupClient[bytes], groups: str | Groups, *, timeout: float = TIMEOUT, codec: None = None
    ) -> None: ...
    @overload
    def __init__(self, groups: str | Groups, *, timeout: float = TIMEOUT, codec: Codec[V]) -> None: ...
    def __init__(
        self, groups: str | Groups, *, timeout: float = TIMEOUT, codec: Codec[V] | None = None
    ) -> None:
        KeyMethods.__init__(self, codec)
        GroupCalls.__init__(self, groups, timeout)
        self._clients = {
            group.name.encode(): Client(config=group.config, timeout=timeout) for group in self._groups.groups
        }
        # Those of a group wait for its replicas alone, so that one that is away holds up no other; and those of a
        # bulk call wait for these.
        self._pools = {name: ThreadPoolExecutor(_THREADS, "epaxos-group") for name in self._clients}
        self._parts = {name: ThreadPoolExecutor(_THREADS, "epaxos-bulk") for name in self._clients}
        self._drives: set[Drive] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait up to a call's time until what is committed is unlocked, then close the connections."""
        if self._is_closed or os.getpid() != self._process:
            return
        until = monotonic() + self._timeout
        with self._lock:
            self._is_closed = True
            drives = list(self._drives)
        try:
            for drive in drives:
                drive.wait(until)
        finally:  # also if Ctrl-C breaks that off: nobody could close it then
            for drive in drives:
                drive.give_up()
            for client in self._clients.values():
                client.close()
            for pool in (*self._pools.values(), *self._parts.values()):
                pool.shutdown()

    def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command on one key, made before; returns what the method of its name does."""
        return run(self._call_one(operation, timeout))

    def _cluster_of(self, key: bytes) -> Client[Any]:
        client: Client[Any] = self._clients[self._groups.of(Op.get(key).key).name.encode()]
        return client

    def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        return run(self._call_multi(operations, timeout))

    def bulk(self, operations: Iterable[Op[T]], *, timeout: float | None = None) -> list[Result[T]]:
        """Send many commands, those of a group in one frame, to all groups at once (see `Client.bulk`).

        Raises:
            Refused: a command has no key, or is too large for a frame; none is sent.
        """
        return run(self._call_bulk(operations, timeout))

    def ttl(self, key: bytes, *, timeout: float | None = None) -> float | None:
        """Seconds until the value of a key ends; None if there is none, or it stays (see `Client.ttl`)."""
        return self._cluster_of(key).ttl(key, timeout=timeout)

    def status(
        self, group: str, *, digest: bool = False, replica: str | None = None, timeout: float | None = None
    ) -> Status:
        """The status of a replica of a group (see `Client.status`)."""
        if group not in self.groups:
            raise Refused(f"no group {group}; there are {', '.join(self.groups)}")
        client: Client = self._clients[group.encode()]
        return client.status(digest=digest, replica=replica, timeout=timeout)

    def transactions(self, *, timeout: float | None = None) -> list[Recorded]:
        """The transactions of which groups have a record, as a replica of each tells; at most 1,000 of each group."""
        return run(self._call_transactions(timeout))

    def resolve(
        self,
        record: bytes,
        groups: Mapping[bytes, int],
        *,
        commit: bool = False,
        timeout: float | None = None,
    ) -> Fate | None:
        """End a transaction that somebody else began, as `Locked` or `transactions` names it.

        Returns what became of it, None if it has not ended in time. With `commit`, what is locked is executed even if
        other groups have no record: for a group that was restored alone, of what the others have committed since.
        """
        return run(self._call_resolve(record, groups, timeout, commit=commit))

    def _rest(self, seconds: float) -> None:
        sleep(seconds)

    def _drive(self, driven: Transaction, until: float) -> Drive:
        drive = Drive(driven, self._clients, self._pools, until + AFTERWARDS)
        with self._lock:
            self._drives = {one for one in self._drives if not one.wait(0.0)} | {drive}
        return drive

    def _all(
        self, flows: Mapping[bytes, Flow[list[Result]]], sizes: Mapping[bytes, int], until: float
    ) -> dict[bytes, list[Result]]:
        try:
            futures = {name: self._parts[name].submit(run, flow) for name, flow in flows.items()}
        except RuntimeError as error:  # the main thread has ended, or another has just closed this client
            raise Closed(f"{CLOSED}; the commands may have executed, or may still do so") from error
        return {name: _results(future, sizes[name], until) for name, future in futures.items()}


def run(flow: Flow[ValueT]) -> ValueT:
    """Go through a call; what it yields is done already."""
    value: Any = None
    while True:
        try:
            value = flow.send(value)
        except StopIteration as end:
            result: ValueT = end.value
            return result


def _results(future: Future[list[Result]], number: int, until: float) -> list[Result]:
    """What a part of a bulk call came to; it may not have had a thread in time."""
    try:
        return future.result(max(until - monotonic(), 0.0) + _GRACE)
    except FutureTimeout:
        error = (
            Busy("too many calls wait for this group") if future.cancel() else NoAnswer("no answer in time")
        )
        return [Result(error=error)] * number
