"""What a client of several groups does in a call, whoever drives it: threads or an event loop.

A call is a generator. It yields what a method of its driver, or of a group's client, returned: the result itself where
these block, something to be awaited where they do not. It is sent the result; an exception comes where it was yielded.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import count
from operator import itemgetter
from random import Random, SystemRandom
from threading import Lock
from time import monotonic
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar, cast

from epaxos.client.commands import Op, T, as_columns, as_operations
from epaxos.client.decoding import decode_parts
from epaxos.client.drivers.base import CLOSED, FORKED
from epaxos.client.options import TIMEOUT, check_timeout
from epaxos.client.reading import in_the_log
from epaxos.client.results import Cleared, MultiAborted, Page, Result
from epaxos.client.session.fate import never_began
from epaxos.client.session.state import LOG
from epaxos.client.session.tickets import Uncopied
from epaxos.errors import Busy, ClientError, Locked, NoAnswer, OperationFailed, Refused, Untold
from epaxos.groups.map import Groups, load_groups
from epaxos.groups.transaction import Answer, Fate, Transaction, record_key
from epaxos.statemachine.columns import Columns
from epaxos.statemachine.operations import (
    GROUP_MAP,
    KEYLESS,
    NOT_IN_MULTI,
    ON_ALL,
    RECORD_KEY,
    RECORDS,
    Operation,
    Outcome,
)

ValueT = TypeVar("ValueT")
Flow: TypeAlias = Generator[Any, Any, ValueT]
Places: TypeAlias = Mapping[bytes, list[int]]
"""By group, the positions of its operations among all."""

RANDOM: Final = SystemRandom()
AFTERWARDS: Final = 10.0
"""Seconds for which unlocking goes on behind a call that has been answered."""
LEAST: Final = 0.001
_PATIENCE: Final = 0.02
"""Seconds, at least, for which a lock is waited for before its transaction is ended from here: it may well live."""
_ENOUGH: Final = 1000
"""Transactions of one coordinator."""
_LONGEST_REST: Final = 1.0
_DOUBLINGS: Final = 3
"""How often the pause before another try of a multi doubles; more would leave the keys to those who never pause."""


class Coordinator:
    """A name for transactions, and the generation in which it began at each group, once and for all."""

    def __init__(self, chance: Random) -> None:
        self.id = chance.getrandbits(64)
        self.began: dict[bytes, int] = {}
        self.number = 0


class Driven(Protocol):
    """A transaction under way: see `driving.Drive`, and its twin for event loops."""

    refused: ClientError | None

    def fate(self, until: float) -> Any:
        """What became of it, None if that is not known by a time."""

    def wait(self, until: float) -> Any:
        """Whether by a time all is done, or given up."""


class Recorded(NamedTuple):
    """A transaction of which some group has a record, as its replica tells.

    `committed` is None as long as nobody has told the group. `groups` are all that take part, with the generations in
    which its coordinator began there; `locked` says how many keys it locks in those that tell of it.
    """

    record: bytes
    committed: bool | None
    groups: Mapping[bytes, int]
    locked: Mapping[bytes, int]

    @property
    def name(self) -> str:
        """How people call it."""
        return self.record[len(RECORDS) :].hex()


class GroupCalls(Uncopied):
    """What the clients of several groups have in common; `now` gives the time, in seconds."""

    def __init__(
        self,
        groups: str | Groups,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = monotonic,
        chance: Random = RANDOM,
    ) -> None:
        self._now = now
        self._chance = chance
        self._groups = load_groups(groups) if isinstance(groups, str) else groups
        self._timeout = check_timeout(timeout)
        self._clients: Mapping[bytes, Any] = {}
        self._process = os.getpid()
        self._is_closed = False
        self._slow = 0.0
        self._lock = Lock()
        self._coordinator = Coordinator(self._chance)
        self._same: set[bytes] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.groups)})"

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(group.name for group in self._groups.groups)

    @property
    def timeout(self) -> float:
        """How long a call may take that gives no time of its own, in seconds."""
        return self._timeout

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of all replicas, as GROUP/NAME."""
        return tuple(f"{name.decode()}/{one}" for name, of in self._clients.items() for one in of.replicas)

    @property
    def retries(self) -> Mapping[str, int]:
        """How many commands had to be sent again so far, by the reason (see `Client.retries`)."""
        found: dict[str, int] = {}
        for client in self._clients.values():
            for reason, times in client.retries.items():
                found[reason] = found.get(reason, 0) + times
        return found

    def group_of(self, key: bytes) -> str:
        """The name of the group that holds a key."""
        return self._groups.of(key).name

    def check(self, operation: Op) -> None:
        """See whether a command fits into a frame of its group.

        Raises:
            Refused: it does not, or has no key.
        """
        if operation.operation in ON_ALL:
            for client in self._clients.values():
                client.check(operation)
            return
        self._client_of(operation).check(operation)

    # -- what a driver does ------------------------------------------------------------------------------------

    @abstractmethod
    def _rest(self, seconds: float) -> Any:
        """Wait."""

    @abstractmethod
    def _drive(self, driven: Transaction, until: float) -> Driven:
        """Drive a transaction, beside the call, up to some time after a call's end."""

    @abstractmethod
    def _all(
        self, flows: Mapping[bytes, Flow[list[Result]]], sizes: Mapping[bytes, int], until: float
    ) -> Any:
        """What flows of as many groups come to that run at the same time; each has a number of results."""

    # -- calls -------------------------------------------------------------------------------------------------

    def _until(self, timeout: float | None) -> float:
        """When a call has to be over that begins now.

        Raises:
            Closed: the client is closed, or belongs to the process from which this one was forked.
        """
        if self._is_closed or os.getpid() != self._process:
            raise never_began(CLOSED if self._is_closed else FORKED)
        return self._now() + (self._timeout if timeout is None else check_timeout(timeout))

    def _client_of(self, operation: Op) -> Any:
        if operation.operation in KEYLESS:
            raise Refused("a command without a key belongs to no group")
        return self._clients[self._groups.of(operation.key).name.encode()]

    def _call_one(self, operation: Op[T], timeout: float | None) -> Flow[T]:
        if operation.operation in ON_ALL:
            return (yield from self._call_all(operation, timeout))
        client = self._client_of(operation)
        until = self._until(timeout)
        yield from self._compare([self._groups.of(operation.key).name.encode()], until)
        result: T = yield from self._past_locks(lambda left: client.execute(operation, timeout=left), until)
        return result

    def _call_all(self, operation: Op[T], timeout: float | None) -> Flow[T]:
        """Ask all groups, each of which answers of one moment of its own, by its log."""
        operation = in_the_log(operation)
        self.check(operation)
        until = self._until(timeout)
        yield from self._compare(self._clients, until)
        flows = {name: self._bulk_of(name, [operation], until) for name in self._clients}
        found = yield self._all(flows, dict.fromkeys(flows, 1), until)
        results = [result.unwrap() for (result,) in found.values()]
        if operation.operation == Operation.SCAN:
            return cast("T", _merged(results, operation))
        if operation.operation == Operation.CLEAR:
            counts, afters = zip(*results, strict=True)
            return cast("T", Cleared(sum(counts), min(filter(None, afters), default=None)))
        return cast("T", sum(results))

    def _call_multi(self, operations: Iterable[Op[T]], timeout: float | None) -> Flow[list[T]]:
        listed = as_operations(operations)
        multi = Op.multi(listed)  # what it refuses is refused here too
        until = self._until(timeout)
        places = self._places(listed)
        yield from self._compare(places, until)
        if len(places) > 1:
            return (yield from self._across(listed, places, until))
        (name,) = places
        client = self._clients[name]
        results: list[T] = yield from self._past_locks(
            lambda left: client.execute(multi, timeout=left), until
        )
        return results

    def _call_bulk(self, operations: Iterable[Op[T]], timeout: float | None) -> Flow[list[Result[T]]]:
        until = self._until(timeout)
        listed = as_operations(operations)
        for place, operation in enumerate(listed):
            if operation.operation in NOT_IN_MULTI:
                raise Refused(f"operation {place} has no key, so it belongs to no group")
            self.check(operation)
        places = self._places(listed)
        yield from self._compare(places, until)
        flows = {
            name: self._bulk_of(name, [listed[place] for place in its], until) for name, its in places.items()
        }
        sizes = {name: len(its) for name, its in places.items()}
        found = yield self._all(flows, sizes, until)
        results: list[Result[T]] = [Result()] * len(listed)
        for name, its in places.items():
            for place, result in zip(its, found[name], strict=True):
                results[place] = result
        return results

    def _call_resolve(
        self, record: bytes, groups: Mapping[bytes, int], timeout: float | None, *, commit: bool
    ) -> Flow[Fate | None]:
        until = self._until(timeout)
        if len(record) != RECORD_KEY or not record.startswith(RECORDS):
            raise Refused(f"0x{record.hex()} is not the key of a transaction's record")
        yield from self._compare(groups, until)
        driven = Transaction(record, groups)
        driven.fate = Fate.COMMITTED if commit else None
        drive = self._drive(driven, until)
        is_over = yield drive.wait(until)
        return driven.fate if is_over else None

    def _call_transactions(self, timeout: float | None) -> Flow[list[Recorded]]:
        until = self._until(timeout)
        yield from self._compare(self._clients, until)
        found: dict[bytes, Recorded] = {}
        for name, client in self._clients.items():
            status = yield client.status(transactions=True, timeout=max(until - self._now(), LEAST))
            for record, committed, groups, locked in status.others["transactions"]:
                one = found.get(record) or Recorded(record, committed, dict(groups), {})
                known = one.committed if committed is None else committed
                found[record] = one._replace(committed=known, locked={**one.locked, name: locked})
        return [found[record] for record in sorted(found)]

    def _places(self, listed: Sequence[Op]) -> dict[bytes, list[int]]:
        places: dict[bytes, list[int]] = {}
        for place, operation in enumerate(listed):
            places.setdefault(self._groups.of(operation.key).name.encode(), []).append(place)
        return places

    def _compare(self, names: Iterable[bytes], until: float) -> Flow[None]:
        """See, once for each group, that all who use it have files that say the same.

        Raises:
            Refused: they do not, or this client does not know a group of that name.
        """
        for name in names:
            if name in self._same:
                continue
            if name not in self._clients:
                unknown = name.decode(errors="replace")
                raise Refused(
                    f"the transaction is one of group {unknown} too, which this client does not know"
                )
            mine = self._groups.told_to(name.decode())
            client = self._clients[name]
            found = yield client.execute(Op.get(GROUP_MAP), timeout=max(until - self._now(), LEAST))
            if found is None:
                put = Op.cas(GROUP_MAP, None, mine)
                found = (yield client.execute(put, timeout=max(until - self._now(), LEAST))).current
            if found != mine:
                raise Refused(self._groups.difference(name.decode(), found))
            self._same.add(name)

    def _past_locks(self, call: Callable[[float], Any], until: float) -> Flow[Any]:
        """What a call returns, once the locks that it meets are gone."""
        patient = True
        while True:
            began = self._now()
            try:
                return (yield call(max(until - began, LEAST)))
            except Locked as locked:
                if self._now() >= until:
                    raise
                self._slow = self._now() - began
                yield from self._pass(locked, until, patient=patient)
                patient = False

    def _pass(self, lock: Locked, until: float, *, patient: bool) -> Flow[None]:
        """Wait for a lock to go, as long as a consensus takes that is under way, or end its transaction."""
        if patient:
            rest = max(_PATIENCE, 2 * self._slow) * self._chance.uniform(0.1, 1.0)
            yield self._rest(min(rest, max(until - self._now(), 0.0)))
            return
        yield from self._compare(lock.groups, until)
        yield self._drive(Transaction(lock.record, lock.groups), until).wait(until)

    def _bulk_of(self, name: bytes, operations: list[Op], until: float) -> Flow[list[Result]]:
        """The commands of one group; those that met a lock are sent again, once it has gone.

        What cannot be done about a lock is no failure of the others, which have executed: then its commands end as
        Locked, having changed nothing.
        """
        client = self._clients[name]
        try:
            results: list[Result] = yield client.bulk(operations, timeout=max(until - self._now(), LEAST))
        except ClientError as error:  # closed meanwhile: others of the call may have executed
            return [Result(error=error)] * len(operations)
        patient = True
        while True:
            locked = [place for place, result in enumerate(results) if isinstance(result.error, Locked)]
            if not locked or self._now() >= until:
                return results
            met = results[locked[0]].error
            assert isinstance(met, Locked)
            try:
                yield from self._pass(met, until, patient=patient)
                again = yield client.bulk(
                    [operations[place] for place in locked], timeout=max(until - self._now(), LEAST)
                )
            except ClientError as trouble:
                LOG.info("what met a lock in group %s is not sent again: %s", name.decode(), trouble)
                return results
            patient = False
            for place, result in zip(locked, again, strict=True):
                results[place] = result

    # -- across groups -----------------------------------------------------------------------------------------

    def _across(self, listed: Sequence[Op], places: Places, until: float) -> Flow[list[Any]]:
        parts: dict[bytes, Columns] = {}
        for name, its in places.items():
            kinds, keys, arguments = as_columns([listed[place] for place in its])
            parts[name] = kinds, keys, arguments or [None] * len(keys)
        for failed in count():
            began = self._now()
            driven = yield from self._begin(parts, until)
            drive = self._drive(driven, until)
            fate = yield drive.fate(until)
            self._slow = self._now() - began
            if fate is Fate.COMMITTED and len(driven.answers) == len(parts):
                return _joined(listed, places, driven.answers)
            if fate is not Fate.ABORTED:
                self._raise_unknown(fate)
            if drive.refused is not None:
                raise drive.refused
            lock = self._judge(driven, listed, places)
            if self._now() >= until:
                raise lock or Busy(
                    "multi changed nothing: others ended it before all groups had voted, each time"
                )
            if lock is not None and failed % 2:
                yield from self._pass(lock, until, patient=False)
            rest = min(2 * self._slow * 2 ** min(failed, _DOUBLINGS), _LONGEST_REST) * self._chance.random()
            yield self._rest(min(rest, max(until - self._now(), 0.0)))
        raise AssertionError("counting has no end")

    def _begin(self, parts: Mapping[bytes, Columns], until: float) -> Flow[Transaction]:
        """A transaction under a name and number that no other has."""
        with self._lock:
            if (
                self._coordinator.number >= _ENOUGH
            ):  # a group knows which numbers named it, and they have gaps
                self._coordinator = Coordinator(self._chance)
            coordinator = self._coordinator
            coordinator.number += 1
            number = coordinator.number
        for name in parts:
            if name not in coordinator.began:
                status = yield self._clients[name].status(timeout=max(until - self._now(), LEAST))
                with self._lock:
                    coordinator.began.setdefault(name, status.generation)
        groups = {name: coordinator.began[name] for name in parts}
        return Transaction(record_key(coordinator.id, number), groups, parts)

    def _renew(self) -> None:
        """Take another name: a session under this one may have ended somewhere."""
        with self._lock:
            self._coordinator = Coordinator(self._chance)

    def _judge(self, driven: Transaction, listed: Sequence[Op], places: Places) -> Locked | None:
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
        self._renew()
        return None

    def _raise_unknown(self, fate: Fate | None) -> NoReturn:
        self._renew()
        if fate is None:
            raise NoAnswer(
                "multi has not the votes of all groups in time; it is executed whole, or not at all"
            )
        if fate is Fate.COMMITTED:
            raise Untold("multi was executed, but what it returns was lost")
        raise Untold("multi has ended, and no group knows any more how: it was executed whole, or not at all")


def _merged(pages: Sequence[Page[Any]], operation: Op) -> Page[Any]:
    """The first keys of several pages of different keys: up to where none of them has further ones."""
    _, limit, has_values, reverse = cast("tuple[bytes | None, int, bool, bool]", operation.argument)
    columns = [(page.keys, page.values or [None] * len(page.keys)) for page in pages]
    items = [item for keys, values in columns for item in zip(keys, values, strict=True)]
    items.sort(key=itemgetter(0), reverse=reverse)
    ends = [page.keys[-1] for page in pages if page.more]
    if ends:
        end = max(ends) if reverse else min(ends)
        items = [item for item in items if (item[0] >= end if reverse else item[0] <= end)]
    values = [value for _, value in items[:limit]] if has_values else None
    return Page([key for key, _ in items[:limit]], values, bool(ends) or len(items) > limit)


def _joined(listed: Sequence[Op], places: Places, answers: Mapping[bytes, Answer]) -> list[Any]:
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
