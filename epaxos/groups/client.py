"""The blocking client of several groups: what `epaxos.Client` is for one cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import count
from random import SystemRandom
from threading import Lock
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Final, NoReturn, Self, cast, overload

from epaxos.client.blocking import Client
from epaxos.client.codecs import Codec, V
from epaxos.client.commands import (
    MultiAborted,
    Op,
    Result,
    T,
    as_columns,
    as_operations,
    decode_parts,
)
from epaxos.client.drivers.base import CLOSED, FORKED
from epaxos.client.methods import KeyMethods
from epaxos.client.options import TIMEOUT, check_timeout
from epaxos.client.session.fate import never_began
from epaxos.client.status import Status
from epaxos.errors import Busy, Locked, NoAnswer, OperationFailed, Refused, Untold
from epaxos.groups.driving import Drive
from epaxos.groups.map import Groups, load_groups
from epaxos.groups.transaction import Answer, Fate, Transaction, record_key
from epaxos.statemachine.batch import Columns
from epaxos.statemachine.operations import KEYLESS, Outcome

_RANDOM: Final = SystemRandom()
_PATIENCE: Final = 0.02
"""Seconds, at least, for which a lock is waited for before its transaction is ended from here: it may well live."""
_AFTERWARDS: Final = 10.0
"""Seconds for which unlocking goes on behind a call that has been answered."""
_THREADS: Final = 16  # a group, and as many for bulk calls
_ENOUGH: Final = 1000
"""Transactions of one coordinator."""
_LONGEST_REST: Final = 1.0
_GRACE: Final = 0.25
_LEAST: Final = 0.001


class Coordinator:
    """A name for transactions, and the generation in which it began at each group, once and for all."""

    def __init__(self) -> None:
        self.id = _RANDOM.getrandbits(64)
        self.began: dict[bytes, int] = {}
        self.number = 0


class GroupClient(KeyMethods[V]):
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
        super().__init__(codec)
        self._groups = load_groups(groups) if isinstance(groups, str) else groups
        self._timeout = check_timeout(timeout)
        self._clients: dict[bytes, Client] = {
            group.name.encode(): Client(config=group.config, timeout=timeout) for group in self._groups.groups
        }
        # Those of a group wait for its replicas alone, so that one that is away holds up no other; and those of a
        # bulk call wait for these.
        self._pools = {name: ThreadPoolExecutor(_THREADS, "epaxos-group") for name in self._clients}
        self._parts = {name: ThreadPoolExecutor(_THREADS, "epaxos-bulk") for name in self._clients}
        self._process = os.getpid()
        self._is_closed = False
        self._slow = 0.0
        self._lock = Lock()
        self._coordinator = Coordinator()
        self._drives: set[Drive] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"GroupClient({', '.join(self.groups)})"

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(group.name for group in self._groups.groups)

    def group_of(self, key: bytes) -> str:
        """The name of the group that holds a key."""
        return self._groups.of(key).name

    def close(self) -> None:
        """Wait up to a call's time until what is committed is unlocked, then close the connections."""
        if self._is_closed or os.getpid() != self._process:
            return
        until = monotonic() + self._timeout
        with self._lock:
            self._is_closed = True
            drives = list(self._drives)
        for drive in drives:
            drive.wait(until)
            drive.give_up()
        for client in self._clients.values():
            client.close()
        for pool in (*self._pools.values(), *self._parts.values()):
            pool.shutdown()

    def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        """Execute a command on one key, made before; returns what the method of its name does."""
        if operation.operation in KEYLESS:
            raise Refused("a command without a key belongs to no group")
        until = self._until(timeout)
        client = self._client_of(operation.key)
        return self._past_locks(lambda left: client.execute(operation, timeout=left), until)

    def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        listed = as_operations(operations)
        op = Op.multi(listed)  # what it refuses is refused here too
        until = self._until(timeout)
        places: dict[bytes, list[int]] = {}
        for place, operation in enumerate(listed):
            places.setdefault(self._groups.of(operation.key).name.encode(), []).append(place)
        if len(places) == 1:
            (name,) = places
            return self._past_locks(lambda left: self._clients[name].execute(op, timeout=left), until)
        return self._across(listed, places, until)

    def bulk(self, operations: Iterable[Op[T]], *, timeout: float | None = None) -> list[Result[T]]:
        """Send many commands, those of a group in one frame, to all groups at once (see `Client.bulk`).

        Raises:
            Refused: a command has no key, or is too large for a frame; none is sent.
        """
        until = self._until(timeout)
        listed = as_operations(operations)
        places: dict[bytes, list[int]] = {}
        for place, operation in enumerate(listed):
            if operation.operation in KEYLESS:
                raise Refused(f"operation {place} has no key, so it belongs to no group")
            name = self._groups.of(operation.key).name.encode()
            places.setdefault(name, []).append(place)
            self._clients[name].check(operation)
        results: list[Result[T]] = [Result()] * len(listed)
        futures = {
            name: self._parts[name].submit(self._bulk_of, name, [listed[place] for place in its], until)
            for name, its in places.items()
        }
        for name, its in places.items():
            for place, result in zip(its, _results(futures[name], len(its), until), strict=True):
                results[place] = result
        return results

    def status(self, group: str, *, timeout: float | None = None) -> Status:
        """The status of a replica of a group (see `Client.status`)."""
        if group not in self.groups:
            raise Refused(f"no group {group}; there are {', '.join(self.groups)}")
        return self._clients[group.encode()].status(timeout=timeout)

    def resolve(
        self, record: bytes, groups: Mapping[bytes, int], *, timeout: float | None = None
    ) -> Fate | None:
        """End a transaction that somebody else began, as `Locked` names it; its fate, None if that is not known."""
        until = self._until(timeout)
        self._check_known(groups)
        return self._drive(Transaction(record, groups), until).fate(until)

    def _until(self, timeout: float | None) -> float:
        """When a call has to be over that begins now.

        Raises:
            Closed: the client is closed, or belongs to the process from which this one was forked.
        """
        if self._is_closed or os.getpid() != self._process:
            raise never_began(CLOSED if self._is_closed else FORKED)
        return monotonic() + (self._timeout if timeout is None else check_timeout(timeout))

    def _client_of(self, key: bytes) -> Client:
        return self._clients[self._groups.of(key).name.encode()]

    def _past_locks(self, call: Callable[[float], T], until: float) -> T:
        """What a call returns, once the locks that it meets are gone."""
        patient = True
        while True:
            began = monotonic()
            try:
                return call(max(until - began, _LEAST))
            except Locked as locked:
                if monotonic() >= until:
                    raise
                self._slow = monotonic() - began
                self._pass(locked, until, patient=patient)
                patient = False

    def _pass(self, lock: Locked, until: float, *, patient: bool) -> None:
        """Wait for a lock to go, as long as a consensus takes that is under way, or end its transaction."""
        if patient:
            rest = max(_PATIENCE, 2 * self._slow) * _RANDOM.uniform(0.1, 1.0)
            sleep(min(rest, max(until - monotonic(), 0.0)))
            return
        self._check_known(lock.groups)
        self._drive(Transaction(lock.record, lock.groups), until).wait(until)

    def _check_known(self, groups: Iterable[bytes]) -> None:
        unknown = [name.decode(errors="replace") for name in groups if name not in self._clients]
        if unknown:
            raise Refused(
                f"the transaction is one of group {unknown[0]} too, which this client does not know"
            )

    def _drive(self, driven: Transaction, until: float) -> Drive:
        drive = Drive(driven, self._clients, self._pools, until + _AFTERWARDS)
        with self._lock:
            self._drives = {one for one in self._drives if not one.wait(0.0)} | {drive}
        return drive

    def _bulk_of(self, name: bytes, operations: list[Op], until: float) -> list[Result]:
        """The commands of one group; those that met a lock are sent again, once it has gone."""
        client = self._clients[name]
        results = client.bulk(operations, timeout=max(until - monotonic(), _LEAST))
        patient = True
        while True:
            locked = [place for place, result in enumerate(results) if isinstance(result.error, Locked)]
            if not locked or monotonic() >= until:
                return results
            error = results[locked[0]].error
            assert isinstance(error, Locked)
            self._pass(error, until, patient=patient)
            patient = False
            again = client.bulk(
                [operations[place] for place in locked], timeout=max(until - monotonic(), _LEAST)
            )
            for place, result in zip(locked, again, strict=True):
                results[place] = result

    # -- across groups ----------------------------------------------------------------------------------------

    def _across(self, listed: Sequence[Op], places: Mapping[bytes, list[int]], until: float) -> list[Any]:
        parts: dict[bytes, Columns] = {}
        for name, its in places.items():
            kinds, keys, arguments = as_columns([listed[place] for place in its])
            parts[name] = kinds, keys, arguments or [None] * len(keys)
        for failed in count():
            began = monotonic()
            driven = self._begin(parts, until)
            drive = self._drive(driven, until)
            fate = drive.fate(until)
            self._slow = monotonic() - began
            if fate is Fate.COMMITTED and len(driven.answers) == len(parts):
                return _joined(listed, places, driven.answers)
            if fate is not Fate.ABORTED:
                self._raise_unknown(fate)
            if drive.refused is not None:
                raise drive.refused
            lock = self._judge(driven, listed, places)
            if monotonic() >= until:
                raise lock or Busy(
                    "multi changed nothing: others ended it before all groups had voted, each time"
                )
            if lock is not None and failed % 2:
                self._pass(lock, until, patient=False)
            rest = min(max(_PATIENCE, 2 * self._slow) * 2 ** min(failed, 10), _LONGEST_REST)
            sleep(min(rest * _RANDOM.uniform(0.1, 1.0), max(until - monotonic(), 0.0)))
        raise AssertionError("counting has no end")

    def _begin(self, parts: Mapping[bytes, Columns], until: float) -> Transaction:
        """A transaction under a name and number that no other has."""
        with self._lock:
            if (
                self._coordinator.number >= _ENOUGH
            ):  # a group knows which numbers named it, and they have gaps
                self._coordinator = Coordinator()
            coordinator = self._coordinator
            coordinator.number += 1
            number = coordinator.number
        for name in parts:
            if name not in coordinator.began:
                status = self._clients[name].status(timeout=max(until - monotonic(), _LEAST))
                with self._lock:
                    coordinator.began.setdefault(name, status.generation)
        groups = {name: coordinator.began[name] for name in parts}
        return Transaction(record_key(coordinator.id, number), groups, parts)

    def _judge(
        self, driven: Transaction, listed: Sequence[Op], places: Mapping[bytes, list[int]]
    ) -> Locked | None:
        """Which lock a transaction met that was aborted, None if it was ended by others, or begun too late.

        Raises:
            OperationFailed: one of its operations failed.
        """
        for name, answer in list(driven.answers.items()):
            if answer.outcome == Outcome.LOCKED:
                record, groups = cast("tuple[bytes, list[tuple[bytes, int]]]", answer.value)
                text = "multi changed nothing: transactions across groups have locked its keys"
                return Locked(text, record, dict(groups))
            if answer.outcome == Outcome.ABORTED and answer.value is not None:
                _fail(answer, [listed[place] for place in places[name]], places[name])
            if answer.outcome == Outcome.TOO_LARGE:
                raise OperationFailed(
                    "multi failed and changed nothing: what it returns is longer than a group allows"
                )
        with self._lock:
            self._coordinator = Coordinator()  # its session may have ended somewhere
        return None

    def _raise_unknown(self, fate: Fate | None) -> NoReturn:
        with self._lock:
            self._coordinator = Coordinator()  # a session of this one may have ended
        if fate is None:
            raise NoAnswer(
                "multi has not the votes of all groups in time; it is executed whole, or not at all"
            )
        if fate is Fate.COMMITTED:
            raise Untold("multi was executed, but what it returns was lost")
        raise Untold("multi has ended, and no group knows any more how: it was executed whole, or not at all")


def _results(future: Future[list[Result]], number: int, until: float) -> list[Result]:
    """What a part of a bulk call came to; it may not have had a thread in time."""
    try:
        return future.result(max(until - monotonic(), 0.0) + _GRACE)
    except FutureTimeout:
        error = (
            Busy("too many calls wait for this group") if future.cancel() else NoAnswer("no answer in time")
        )
        return [Result(error=error)] * number


def _joined(
    listed: Sequence[Op], places: Mapping[bytes, list[int]], answers: Mapping[bytes, Answer]
) -> list[Any]:
    results: list[Any] = [None] * len(listed)
    for name, its in places.items():
        columns: Any = answers[name].value
        for place, result in zip(its, decode_parts([listed[place] for place in its], *columns), strict=True):
            results[place] = result
    return results


def _fail(answer: Answer, parts: Sequence[Op], its: Sequence[int]) -> None:
    columns: Any = answer.value
    try:
        decode_parts(parts, *columns)
    except MultiAborted as error:
        text = str(error).replace(f"operation {error.part},", f"operation {its[error.part]},", 1)
        raise MultiAborted(text, its[error.part], error.outcome) from None
