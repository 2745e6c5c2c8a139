"""What one caller asks and waits for, whoever drives the session: one command, many, or a status.

**Bulk calls are paced.** All at once, the frames of a large call would stand in queues: so long that they count as
lost and are sent again, in front of what others ask, and at the deadline most would be sent and none answered.
So a few are under way at a time: more while answers come quickly, or no later than the first did, fewer when they
take a good part of the time that one try has. What was not submitted by the deadline has certainly not executed.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, Generic, cast

from epaxos.client.commands import Op, T, as_columns, name_of, only_reads, weigh
from epaxos.client.decoding import decode
from epaxos.client.options import Options, check_timeout
from epaxos.client.results import Result
from epaxos.client.session import fate
from epaxos.client.session.core import Session
from epaxos.client.session.questions import Question
from epaxos.client.session.state import Finished
from epaxos.client.session.tickets import Ticket, Uncopied
from epaxos.client.status import Change, MemberChange, Status
from epaxos.errors import ClientError, Closed, Refused
from epaxos.statemachine.columns import Columns
from epaxos.statemachine.operations import Operation

_FIRST_PACE: Final = 4  # frames under way of one bulk call, at the beginning
_LONGEST_PACE: Final = 32
_QUICK: Final = 0.25  # part of the time of one try that an answer may take for the pace to grow, and
_LONGER: Final = 1.5  # how much longer than the quickest it may, where all are far


class Call(Uncopied, ABC):
    """What one caller asks and waits for; times are seconds on the session's clock.

    begun      when it was made
    timeout    how long it may take
    missing    how many items are not over, those included that are yet to be submitted
    error      why it came to nothing at all
    given_up   nobody waits for it any more
    """

    __slots__ = ("begun", "error", "given_up", "missing", "timeout")

    def __init__(self, options: Options, begun: float, timeout: float | None) -> None:
        self.begun = begun
        self.timeout = options.timeout if timeout is None else check_timeout(timeout)
        self.missing = 1
        self.error: ClientError | None = None
        self.given_up = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What the method that makes it is called."""

    @property
    def commands(self) -> int:
        """How many commands it has."""
        return 1

    @abstractmethod
    def submit(self, session: Session[Call], now: float) -> None:
        """Submit what is asked, or as much as may be under way.

        Raises:
            Refused: a command does not fit into a frame.
        """

    @abstractmethod
    def items(self) -> Sequence[Finished[Call]]:
        """What is submitted, and not over unless it says so."""

    def over(self, item: Finished[Call], session: Session[Call], now: float) -> bool:  # noqa: ARG002
        """An item is over; returns whether that made it submit more."""
        self.missing -= 1
        return False

    def fail(self, reason: str) -> None:
        """The driver can do nothing more: whatever is not over by now is over, for that reason."""
        for item in self.items():
            if not item.done:
                item.abort(fate.failed(item, reason))
        self.missing = 0

    def refuse(self, error: ClientError) -> None:
        """Nothing can be submitted."""
        self.error = error
        self.missing = 0


class Command(Call, Generic[T]):
    """One command."""

    __slots__ = ("operation", "ticket")

    def __init__(self, operation: Op[T], options: Options, begun: float, timeout: float | None) -> None:
        super().__init__(options, begun, timeout)
        self.operation = operation
        self.ticket: Ticket[Call] | None = None

    @property
    def name(self) -> str:
        """That of the operation."""
        return name_of(self.operation.operation)

    @property
    def commands(self) -> int:
        """Those of a multi."""
        if self.operation.operation != Operation.MULTI:
            return 1
        return len(cast("Columns", self.operation.argument)[0])

    def submit(self, session: Session[Call], now: float) -> None:  # noqa: ARG002
        """Submit the command."""
        self.ticket = session.submit(self.operation, self.begun, self.timeout, self)

    def items(self) -> Sequence[Finished[Call]]:
        """The command."""
        return () if self.ticket is None else (self.ticket,)

    def fail(self, reason: str) -> None:
        """The driver can do nothing more."""
        super().fail(reason)
        if self.ticket is None:
            self.error = fate.failed(None, reason)

    def result(self) -> T:
        """What the command returns.

        Raises:
            ClientError: it failed.
        """
        ticket = self.ticket
        error = self.error if ticket is None else ticket.error
        if error is not None:
            raise fate.of_a_read(error) if only_reads(self.operation) else error
        assert ticket is not None
        values = ticket.values
        return decode(self.operation, ticket.outcomes[0], None if values is None else values[0])


class Bulk(Call, Generic[T]):
    """Many commands, in parts that take a frame each.

    Raises:
        Refused: a command is too large for any frame; none is sent.
    """

    __slots__ = ("_least", "_next", "_pace", "_parts", "_quick", "_results", "_under_way")

    def __init__(
        self, operations: Sequence[Op[T]], options: Options, begun: float, timeout: float | None
    ) -> None:
        super().__init__(options, begun, timeout)
        self._parts = parts_of(operations, options)
        self.missing = len(self._parts)
        self._results: list[Sequence[Result[T]]] = [()] * self.missing
        self._under_way: dict[Finished[Call], tuple[int, float]] = {}  # -> which part, and since when
        self._next = 0
        self._pace = _FIRST_PACE
        self._quick = self.timeout / options.tries * _QUICK
        self._least = self.timeout

    name = "bulk"

    @property
    def commands(self) -> int:
        """All."""
        return sum(map(len, self._parts))

    def submit(self, session: Session[Call], now: float) -> None:
        """Submit as many parts as may be under way."""
        while self._next < len(self._parts) and len(self._under_way) < self._pace:
            position = self._next
            self._next += 1
            columns = as_columns(self._parts[position])
            try:
                ticket = session.submit_columns(*columns, self.begun, self.timeout, self)
            except Refused as error:
                self._settle(position, [Result(error=error)] * len(self._parts[position]))
            else:
                self._under_way[ticket] = position, now

    def items(self) -> Sequence[Finished[Call]]:
        """The parts that are under way."""
        return tuple(self._under_way)

    def over(self, item: Finished[Call], session: Session[Call], now: float) -> bool:
        """A part is over: keep its results, and submit the next unless there is no time left."""
        since = self._take(item)
        took = now - since
        self._least = min(self._least, took)
        quick = took < max(self._quick, self._least * _LONGER)
        self._pace = min(self._pace + 1, _LONGEST_PACE) if quick else max(self._pace - 1, 1)
        if self.given_up or now >= self.begun + self.timeout or isinstance(item.error, Closed):
            self._give_up_rest(fate.never_submitted(item.error, self.timeout))
            return False
        missing = self.missing
        self.submit(session, now)
        return bool(self._under_way) and missing == self.missing

    def fail(self, reason: str) -> None:
        """The driver can do nothing more."""
        super().fail(reason)
        for item in self.items():
            self._take(item)
        self._give_up_rest(fate.failed(None, reason))
        self.missing = 0

    def _take(self, item: Finished[Call]) -> float:
        assert isinstance(item, Ticket)
        position, since = self._under_way.pop(item)
        self._settle(position, results_of(self._parts[position], item))
        return since

    def _settle(self, position: int, results: Sequence[Result[T]]) -> None:
        self._results[position] = results
        self.missing -= 1

    def _give_up_rest(self, error: ClientError) -> None:
        failed: Result[T] = Result(error=error)
        while self._next < len(self._parts):
            self._settle(self._next, [failed] * len(self._parts[self._next]))
            self._next += 1

    def result(self) -> list[Result[T]]:
        """What became of each command."""
        if self.error is not None:
            raise self.error
        return list(chain.from_iterable(self._results))


_NAMES: Final = {"left": "ttl", "watch": "watch"}
"""The methods that ask for something, by that; all others ask for the status."""


class Ask(Call):
    """A question to a replica, or to the one in use where that is None; `asked` says what (see `Question`)."""

    __slots__ = ("_asked", "_question", "_replica")

    def __init__(
        self,
        replica: int | None,
        options: Options,
        begun: float,
        timeout: float | None,
        asked: Mapping[str, object],
    ) -> None:
        super().__init__(options, begun, timeout)
        self._replica = replica
        self._asked = asked
        self._question: Question[Call] | None = None

    @property
    def name(self) -> str:
        """That of the method, by what it asks."""
        other = next((name for key, name in _NAMES.items() if key in self._asked), "status")
        return str(self._asked.get("verb", other))

    def submit(self, session: Session[Call], now: float) -> None:  # noqa: ARG002
        """Ask."""
        self._question = session.ask_status(
            self._replica, self.begun, self._asked, timeout=self.timeout, waiter=self
        )

    def items(self) -> Sequence[Finished[Call]]:
        """The question."""
        return () if self._question is None else (self._question,)

    def fail(self, reason: str) -> None:
        """The driver can do nothing more."""
        super().fail(reason)
        if self._question is None:
            self.error = fate.failed(None, reason)

    def answer(self) -> dict[str, Any]:
        """What the replica said.

        Raises:
            ClientError: there was no answer.
        """
        question = self._question
        error = self.error if question is None else question.error
        if error is not None:
            raise error
        assert question is not None
        return question.status

    def status(self) -> Status:
        """The same, where it is a status."""
        return Status.of(self.answer())

    def change(self) -> Change:
        """The same, where it is what has become of a change of members."""
        told = self.answer()
        return Change(str(told["outcome"]), int(told["epoch"]), str(told["text"]))

    def left(self) -> float | None:
        """The same, where it is how many seconds are left of a value; None if it does not end."""
        left = self.answer().get("left")
        return float(left) if isinstance(left, int | float) else None


def change_of(
    base: int,
    request: int | None,
    f: int | None,
    e: int | None,
    members: MemberChange | None,
    *,
    protocol: str | None,
    upgrade: bool,
    dry_run: bool,
) -> dict[str, object]:
    """What to ask for another epoch; without a number it gets one."""
    number = request or secrets.randbits(64) or 1
    verb = "upgrade" if upgrade else "refresh" if members is None else "change"
    add, remove, move = members or MemberChange()
    asked = {"verb": verb, "base": base, "request": number, "dry_run": dry_run, "f": f, "e": e}
    asked["protocol"] = protocol
    return asked | {"add": list(add), "remove": list(remove), "move": list(move)}


def check_fits(operation: Op, options: Options) -> None:
    """See whether a command fits into a frame.

    Raises:
        Refused: it does not.
    """
    weight = weigh(*operation[:3], options.max_weight)
    if weight > options.max_weight:
        raise Refused(f"command of {weight} bytes; a frame holds at most {options.max_weight}")


def parts_of(operations: Sequence[Op[T]], options: Options) -> list[Sequence[Op[T]]]:
    """Cut the commands of a bulk call into what one frame each takes: one part, if they are not very many."""
    parts: list[Sequence[Op[T]]] = []
    start = weight = 0
    for position, operation in enumerate(operations):
        own = weigh(*operation[:3], options.max_weight)
        if own > options.max_weight:
            raise Refused(f"operation {position} of {own} bytes; a frame holds {options.max_weight} at most")
        weight += own
        if position > start and (position - start >= options.max_batch or weight > options.full_frame):
            parts.append(operations[start:position])
            start, weight = position, own
    if start < len(operations):
        parts.append(operations[start:])
    return parts


def results_of(operations: Sequence[Op[T]], ticket: Ticket[Call]) -> list[Result[T]]:
    """What became of each command of a finished ticket."""
    if ticket.errors is None and ticket.error is not None:
        failed: Result[T] = Result(error=ticket.error)
        harmless: Result[T] = Result(error=fate.of_a_read(ticket.error))
        return [harmless if only_reads(operation) else failed for operation in operations]
    return [_result_at(position, operation, ticket) for position, operation in enumerate(operations)]


def _result_at(position: int, operation: Op[T], ticket: Ticket[Call]) -> Result[T]:
    error = ticket.error_at(position)
    if error is not None:
        return Result(error=fate.of_a_read(error) if only_reads(operation) else error)
    value = None if ticket.values is None else ticket.values[position]
    try:
        return Result(decode(operation, ticket.outcomes[position], value))
    except ClientError as failure:
        return Result(error=failure)
