"""What is more than an operation: read the keys, see what comes of it, and do it if nothing has changed meanwhile.

Such a command is put in order with all others twice: what is read is what stood at one moment, and what is written is
written only if all of it stands still (`view`). Whoever loses against another begins again; one of them has won, so all
together they always get on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from epaxos.doors.desk import Command, Full, Result
from epaxos.doors.redis.resp import RedisError, Reply, Request
from epaxos.doors.redis.strings import OVERFLOW
from epaxos.doors.redis.table import Plan, Spec
from epaxos.doors.redis.view import TOO_LONG, View
from epaxos.errors import Busy, ClientError, Refused
from epaxos.statemachine.batch import MULTI_PARTS
from epaxos.statemachine.operations import Operation, Outcome

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection
    from epaxos.doors.redis.door import Door

_TRIES: Final = 1000
TOO_MUCH: Final = "ERR the results together are too large for one reply"

_UNHURRIED: Final = 3
"""Tries after which one waits a while before the next."""


def as_one(commands: Sequence[Command]) -> Command:
    """Commands as one that executes all of them or none."""
    if len(commands) == 1:
        return commands[0]
    operations, keys, arguments = zip(*commands, strict=True)
    return Command(Operation.MULTI, b"", [bytes(operations), list(keys), list(arguments)])


def parts_of(result: Result, count: int) -> Sequence[Result]:
    """What each of the commands that are `as_one` came to, or that one if they did not execute one by one."""
    outcome, value = result
    if count > 1 and isinstance(value, list) and outcome in (Outcome.DONE, Outcome.ABORTED):
        outcomes, values = value
        return list(zip(outcomes, values, strict=True))  # type: ignore[call-overload]  # a MULTI's columns
    return [result]


def failure(outcome: int) -> RedisError | None:
    """What is said of an outcome that is no answer, whatever was asked for."""
    text = _FAILURES.get(outcome)
    return None if text is None else RedisError(text)


def error_of(error: ClientError) -> RedisError:
    """What is said where there is no outcome."""
    if isinstance(error, Full):
        return RedisError(f"OOM {error}; nothing was executed")
    if isinstance(error, Busy):
        return RedisError(f"CLUSTERDOWN {error}; nothing was executed")
    if isinstance(error, Refused):
        return RedisError(f"ERR {error}")
    return RedisError(f"ERR {error}; the command may have been executed")


_FAILURES: Final[dict[int, str]] = {
    Outcome.NOT_A_NUMBER: "ERR value is not an integer or out of range",
    Outcome.OUT_OF_RANGE: OVERFLOW,
    Outcome.TOO_LARGE: f"{TOO_MUCH}; nothing was executed",
    Outcome.UNTOLD: "TRYAGAIN the reply would be too large beside others; ask again",
    Outcome.FORGOTTEN: "ERR the command was executed; what it came to is not known",
    Outcome.EXPIRED: "ERR this replica was behind the others for too long; the command may have been executed",
    Outcome.LOCKED: "TRYAGAIN a transaction across groups holds a key; nothing was executed",
}


class Attempt:
    """One command, or all of a transaction, on the given keys, each once; `finish` is called with the reply, once.

    `carry_out` raises RedisError for what changes nothing.
    """

    def __init__(
        self,
        connection: Connection,
        keys: Sequence[bytes],
        carry_out: Callable[[View], Reply],
        finish: Callable[[Reply], None],
    ) -> None:
        self._connection = connection
        self._door = connection.door
        self._keys = list(dict.fromkeys(keys))
        self._carry_out = carry_out
        self._finish = finish
        self._tries = 0
        self._reply: Reply = None

    def begin(self) -> None:
        """Read the keys."""
        self._tries += 1
        reads = [Command(Operation.READ, key) for key in self._keys]
        if len(reads) > MULTI_PARTS // 3:
            self._finish(RedisError(f"ERR too many keys; at most {MULTI_PARTS // 3} are allowed here"))
            return
        self._connection.ask([as_one(reads)], self._read)

    def _read(self, results: Sequence[Result] | ClientError) -> None:
        if isinstance(results, ClientError):
            self._finish(error_of(results))
            return
        parts = parts_of(results[0], len(self._keys))
        wrong = next(filter(None, (failure(outcome) for outcome, _ in parts)), None)
        if wrong is not None:
            self._finish(wrong)
            return
        view = self._door.view(
            {
                key: value if isinstance(value, bytes) else None
                for key, (_, value) in zip(self._keys, parts, strict=True)
            }
        )
        try:
            self._reply = self._carry_out(view)
        except RedisError as error:
            self._finish(error)
            return
        writes = view.writes()
        if not writes:
            self._finish(self._reply)
            return
        self._connection.ask([as_one([*view.expects(), *writes])], self._written)

    def _written(self, results: Sequence[Result] | ClientError) -> None:
        if isinstance(results, ClientError):
            self._finish(error_of(results))
            return
        outcome = results[0][0]
        if outcome == Outcome.DONE:
            self._finish(self._reply)
        elif outcome != Outcome.ABORTED:
            self._finish(failure(outcome) or RedisError("ERR the command was not executed"))
        elif self._tries >= _TRIES:
            self._finish(RedisError("TRYAGAIN others change these keys all the time; nothing was executed"))
        elif self._tries < _UNHURRIED:
            self.begin()
        else:
            self._door.later(self._tries, self.begin)


def plan_of(door: Door, spec: Spec, request: Request) -> Plan | None:
    """The operations that are all of a command, None if it is more."""
    if spec.plan is not None:
        plan = spec.plan(request, door.milliseconds())
        if plan is not None and len(plan.parts) > MULTI_PARTS:
            raise RedisError(f"ERR too many keys; at most {MULTI_PARTS} are allowed")
        return plan
    if not spec.reads_only or spec.apply is None:
        return None
    keys = list(dict.fromkeys(spec.keys(request)))
    if len(keys) > MULTI_PARTS:
        raise RedisError(f"ERR too many keys; at most {MULTI_PARTS} are allowed")

    def answer(results: Sequence[Result]) -> Reply:
        values = [value if isinstance(value, bytes) else None for _, value in results]
        return carried_out(spec, request, door.view(dict(zip(keys, values, strict=True))), door.request)

    return Plan([Command(Operation.READ, key) for key in keys], answer)


def carried_out(spec: Spec, request: Request, view: View, most: int) -> Reply:
    """What a command answers, be it an error; of several values at most so many bytes."""
    assert spec.apply is not None
    try:
        reply = spec.apply(view, request)
    except RedisError as error:
        return error
    return RedisError(TOO_MUCH) if isinstance(reply, list) and size_of(reply) > most else reply


def size_of(reply: Reply) -> int:
    """Bytes of the values in a reply, which may have one many times."""
    if isinstance(reply, list):
        return sum(map(size_of, reply))
    return len(reply) if isinstance(reply, bytes) else 0


def answer_of(plan: Plan, result: Result) -> Reply:
    """The reply to a planned command."""
    parts = parts_of(result, len(plan.parts))
    wrong = next(filter(None, (failure(outcome) for outcome, _ in parts)), None)
    if wrong is not None:
        is_append = parts[0][0] == Outcome.TOO_LARGE and plan.parts[0].operation == Operation.APPEND
        return RedisError(TOO_LONG) if is_append else wrong  # of a value, not of results
    return plan.answer(parts)
