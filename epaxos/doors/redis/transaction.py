"""MULTI and EXEC: commands that execute as one, or not at all if a watched key has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from epaxos.doors.desk import Command, Result
from epaxos.doors.redis.admission import denial
from epaxos.doors.redis.attempt import (
    TOO_MUCH,
    Attempt,
    as_one,
    carried_out,
    error_of,
    failure,
    parts_of,
    plan_of,
    size_of,
)
from epaxos.doors.redis.resp import NullArray, RedisError, Reply, Request
from epaxos.doors.redis.table import Plan, Spec
from epaxos.doors.redis.view import View, expect
from epaxos.errors import ClientError
from epaxos.statemachine.batch import MULTI_PARTS
from epaxos.statemachine.expiry import same
from epaxos.statemachine.operations import Operation, Outcome

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

_QUEUED: Final = 10_000
"""Commands of a transaction."""

_NOTHING: Final = Plan([], lambda _: None)


class Transaction:
    """What follows MULTI: requests of `size` bytes with their commands, and whether one of them was refused."""

    def __init__(self) -> None:
        self.queued: list[tuple[Spec, Request]] = []
        self.spoilt = False
        self.size = 0

    def queue(self, spec: Spec, request: Request, most: int) -> Reply:
        """Take a request, of which all together may have so many bytes.

        Raises:
            RedisError: there are too many.
        """
        size = sum(map(len, request))
        if len(self.queued) >= _QUEUED or self.size + size > most:
            self.spoilt = True
            raise RedisError(
                f"ERR transaction too large; at most {_QUEUED} commands and {most} bytes are allowed"
            )
        self.size += size
        self.queued.append((spec, request))
        return "QUEUED"


class Watched:
    """The keys that a connection watches: their values then, and which of them have been `touched` since."""

    def __init__(self, connection: Connection) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self.touched: set[bytes] = set()
        self._connection = connection
        self._asked: Sequence[bytes] = ()

    def begin(self, keys: Sequence[bytes]) -> None:
        """WATCH: note what happens to these keys, and how they stand; the connection is told when that is so."""
        connection = self._connection
        distinct = list(dict.fromkeys(key for key in keys if key not in self.values))
        if connection.transaction is not None:
            connection.finish(RedisError("ERR WATCH inside MULTI is not allowed"))
        elif not distinct:
            connection.finish("OK")
        elif len(self.values) + len(distinct) > MULTI_PARTS:
            connection.finish(RedisError(f"ERR too many watched keys; at most {MULTI_PARTS} are allowed"))
        else:
            connection.door.watch(connection, distinct)
            self._asked = distinct
            connection.ask([as_one([Command(Operation.READ, key) for key in distinct])], self._begun)

    def _begun(self, results: Sequence[Result] | ClientError) -> None:
        distinct, self._asked = self._asked, ()
        if self._connection.has_ended:  # nothing is watched for it any more
            return
        wrong = error_of(results) if isinstance(results, ClientError) else self._note(distinct, results[0])
        self.touched.difference_update(distinct)
        if wrong is not None:
            self._connection.door.unwatch(self._connection, distinct)
        self._connection.finish("OK" if wrong is None else wrong)

    def _note(self, keys: Sequence[bytes], result: Result) -> RedisError | None:
        """Take their values; or why there are none."""
        parts = parts_of(result, len(keys))
        wrong = next(filter(None, (failure(outcome) for outcome, _ in parts)), None)
        if wrong is None:
            for key, (_, value) in zip(keys, parts, strict=True):
                self.values[key] = value if isinstance(value, bytes) else None
                self._connection.kept += len(key) + len(self.values[key] or b"")
        return wrong

    def end(self) -> None:
        """UNWATCH: forget all of it."""
        self._connection.door.unwatch(self._connection, (*self.values, *self._asked))
        self._asked = ()
        self._connection.kept -= sum(len(key) + len(value or b"") for key, value in self.values.items())
        self.values.clear()
        self.touched.clear()


def execute(connection: Connection) -> None:
    """EXEC: the connection is told how it ended."""
    transaction, connection.transaction = connection.transaction, None
    if transaction is None:
        connection.finish(RedisError("ERR EXEC without MULTI"))
        return
    watched, touched = connection.watched.values.copy(), bool(connection.watched.touched)
    connection.watched.end()
    denied = denial(connection, transaction.queued)
    if transaction.spoilt:
        connection.finish(RedisError("EXECABORT Transaction discarded because of previous errors."))
    elif denied is not None:
        connection.finish(denied)
    elif touched:
        connection.finish(NullArray())
    else:
        Execution(connection, transaction.queued, watched).begin()


class Execution:
    """A transaction: one `multi` if all of its commands are operations, else an attempt."""

    def __init__(
        self, connection: Connection, queued: list[tuple[Spec, Request]], watched: dict[bytes, bytes | None]
    ) -> None:
        self._connection = connection
        self._door = connection.door
        self._queued = queued
        self._watched = watched
        self._plans: list[Plan | RedisError] = []

    def begin(self) -> None:
        """Ask for it; the connection is told how it ended."""
        if not self._is_planned():
            self._attempt()
            return
        parts = [part for plan in self._plans if isinstance(plan, Plan) for part in plan.parts]
        self._expects = [part for key, value in self._watched.items() for part in expect(key, value)]
        parts = [*self._expects, *parts]
        if not parts:
            self._connection.finish(self._replies(iter(())))
        elif len(parts) > MULTI_PARTS:
            self._connection.finish(
                RedisError(f"ERR transaction of {len(parts)} operations; at most {MULTI_PARTS} are allowed")
            )
        else:
            self._count = len(parts)
            self._connection.ask([as_one(parts)], self._executed)

    def _is_planned(self) -> bool:
        for spec, request in self._queued:
            try:
                plan = _NOTHING if spec.local is not None else plan_of(self._door, spec, request)
            except RedisError as error:
                self._plans.append(error)
                continue
            if plan is None:
                return False
            self._plans.append(plan)
        return True

    def _executed(self, results: Sequence[Result] | ClientError) -> None:
        if isinstance(results, ClientError):
            self._connection.finish(error_of(results))
            return
        parts = parts_of(results[0], self._count)
        failed = [outcome >= Outcome.COMPARE_FAILED for outcome, _ in parts]
        if any(failed[: len(self._expects)]) and len(parts) == self._count:
            self._connection.finish(NullArray())
        elif not any(failed):
            self._connection.finish(self._replies(iter(parts[len(self._expects) :])))
        elif len(parts) == self._count:
            self._attempt()  # one command of it fails, which is no reason for Redis to drop the others
        else:
            self._connection.finish(
                failure(parts[0][0]) or RedisError("ERR the transaction was not executed")
            )

    def _replies(self, parts: Iterator[Result]) -> Reply:
        replies: list[Any] = []
        for plan, (spec, request) in zip(self._plans, self._queued, strict=True):
            if isinstance(plan, RedisError):
                replies.append(plan)
            elif spec.local is not None:
                replies.append(self._local(spec, request))
            else:
                replies.append(plan.answer([next(parts) for _ in plan.parts]))
        if size_of(replies) > self._door.request:
            return RedisError(f"{TOO_MUCH}; the transaction was executed")
        return replies

    def _local(self, spec: Spec, request: Request) -> Reply:
        assert spec.local is not None
        try:
            return spec.local(self._connection, request)
        except RedisError as error:
            return error

    def _attempt(self) -> None:
        keys = [key for spec, request in self._queued for key in spec.keys(request)]
        Attempt(self._connection, [*keys, *self._watched], self._carry_out, self._connection.finish).begin()

    def _carry_out(self, view: View) -> Reply:
        if not all(same(view.found(key), value) for key, value in self._watched.items()):
            return NullArray()
        replies: list[Any] = []
        room = self._door.request
        for spec, request in self._queued:
            reply = (
                self._local(spec, request)
                if spec.local is not None
                else carried_out(spec, request, view, self._door.request)
            )
            room -= size_of(reply)
            if room < 0:
                raise RedisError(f"{TOO_MUCH}; nothing was executed")
            replies.append(reply)
        return replies
