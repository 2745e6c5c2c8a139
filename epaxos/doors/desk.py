"""What the connections of one event loop ask for, gathered into batches.

Whatever is asked for in one turn of the loop goes to the Replica together, as columns: a pipeline is a batch, and so
are a thousand connections with a command each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from epaxos.config import Config
from epaxos.doors.gate import Answered, Asked, Described, Executed, Gate, Question, Unanswered
from epaxos.errors import Busy, ClientError, NoAnswer, Refused, SessionExpired, Untold
from epaxos.statemachine.batch import MULTI_PARTS, REPLY_HEAD, Limits
from epaxos.statemachine.checks import refusal
from epaxos.statemachine.columns import Argument, listed
from epaxos.statemachine.operations import ON_ALL, Operation, Outcome
from epaxos.statemachine.reading import of_the_log, reading_of
from epaxos.statemachine.results import Value

BYTES: Final = 1024 * 1024
"""Of a batch: `actors.clients` puts no more into an instance; or as many as a largest frame, if that is less."""

_HEAD: Final = 16  # bytes of a command beside what it holds, about
_NAP: Final = 0.25  # seconds between two looks at what has waited for too long
_MULTI: Final = int(Operation.MULTI)


class Full(Busy):
    """The command would make the data grow, and this replica has no room for that on its disk; it did not execute."""


class Command(NamedTuple):
    """An operation as it stands in a column (`statemachine.operations`)."""

    operation: int
    key: bytes
    argument: Argument = None


Result: TypeAlias = "tuple[int, Value]"
"""An `Outcome` and a value."""

Then: TypeAlias = "Callable[[Sequence[Result] | ClientError], None]"
"""Takes what some commands came to, or why there is no answer to any of them."""


_Given = TypeVar("_Given")


class _Batch:
    """Commands on their way: the columns, and who waits for how many of them, in order."""

    __slots__ = ("arguments", "keys", "operations", "parts", "size", "until", "waiters")

    def __init__(self) -> None:
        self.operations = bytearray()
        self.keys: list[bytes] = []
        self.arguments: list[Argument] = []
        self.waiters: list[tuple[int, Then]] = []
        self.size = self.parts = 0
        self.until = 0.0

    def add(self, commands: Sequence[Command], size: int, then: Then) -> None:
        """Take commands of one that waits, of `size` bytes."""
        for operation, key, argument in commands:
            self.operations.append(operation)
            self.keys.append(key)
            self.arguments.append(argument)
        self.size += size
        self.waiters.append((len(commands), then))


class Desk:
    """All that an event loop asks of the Replica; its methods are called in that loop.

    An answer that does not come within `client.timeout` times `client.tries`, as long as a client would wait, is
    given up: what was asked for may have executed then.

    Who asks to `listen` is told what executes here, in the order in which answers come: `Executed`, or None for what
    came by a checkpoint.
    """

    def __init__(self, gate: Gate, config: Config, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._limits = limits
        self._most = min(BYTES, config.max_frame // 2)
        self._largest = config.max_frame - REPLY_HEAD
        self._batch = _Batch()
        self._waiting: dict[int, _Batch] = {}
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._late: deque[tuple[float, int]] = deque()
        self._tickets = count()
        self._patience = config.client.timeout * config.client.tries
        self._listener: Callable[[Executed | None], None] | None = None
        self._local = gate.open(self._deliver)
        self._nap = self._loop.call_later(_NAP, self._look)

    def close(self) -> None:
        """Look no more at what waits for too long; the loop is about to end."""
        self._nap.cancel()

    def listen(self, executed: Callable[[Executed | None], None] | None) -> None:
        """Have all told that executes here from now on, or with None, nothing any more."""
        self._listener = executed
        self._local.listens = executed is not None

    def refusal(self, command: Command) -> str | None:
        """Why a command cannot be asked for, or None."""
        return refusal(command.operation, command.key, command.argument, self._limits)

    def ask(self, commands: Sequence[Command], then: Then) -> None:
        """Ask for commands, at least one, that `refusal` finds nothing wrong with; they execute in this order.

        All are in one batch, so that none of another connection comes between; together they must fit into a frame.
        """
        size = sum([_weigh(command) for command in commands])
        try:
            self._fit(size)
        except Refused as error:
            self._loop.call_soon(then, error)
            return
        parts = sum([_parts(command) for command in commands])
        batch = self._batch
        if batch.waiters and (
            len(batch.operations) + len(commands) > self._config.max_batch
            or batch.size + size > self._most
            or batch.parts + parts > MULTI_PARTS
        ):
            self._send()
            batch = self._batch
        if not batch.waiters:
            self._loop.call_soon(self._send)
        batch.add(commands, size, then)
        batch.parts += parts

    def _fit(self, size: int) -> None:
        if size > self._largest:
            raise Refused(f"commands of {size} bytes together; at most {self._largest} are allowed")

    async def execute(self, command: Command, session: int = 0) -> Result:
        """Ask for one command and wait for what it came to; who gives up before leaves it to be executed.

        A read that is none of the log (`statemachine.reading`) goes by itself.

        With a `session` it executes once under that number, wherever and however often it is asked for, but not twice
        at the same time here (`doors.gate.Asked`).

        Raises:
            Refused, Busy, Full: it was not taken.
            NoAnswer, SessionExpired, Untold: there is no answer, or the command has none any more.
        """
        reading = reading_of(command.operation, command.argument)
        bare = command._replace(argument=of_the_log(command.operation, command.argument))
        if reason := self.refusal(bare):
            raise Refused(reason)
        answer: asyncio.Future[Result] = self._loop.create_future()

        def then(results: Sequence[Result] | ClientError) -> None:
            if answer.done():  # whoever waited has gone
                return
            if isinstance(results, ClientError):
                answer.set_exception(results)
            else:
                answer.set_result(results[0])

        if session or reading:
            self._fit(size := _weigh(command))
            batch = _Batch()
            batch.add([command], size, then)
            self._hand_over(batch, session=session)
        else:
            self.ask([command], then)
        outcome, value = await answer
        if outcome == Outcome.EXPIRED:
            raise SessionExpired(
                "the replica was behind the others for too long; the command may have been executed"
            )
        if outcome in (Outcome.FORGOTTEN, Outcome.UNTOLD):
            raise Untold("the command executed; what it came to is not known")
        return outcome, value

    async def status(self, **options: Any) -> dict[str, Any]:
        """How the replica is, as it tells its clients too (`actors.status`).

        Raises:
            Busy, NoAnswer: it does not say.
        """
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        ticket = next(self._tickets)
        self._questions[ticket] = answer
        self._local.ask_status(Question(ticket, options))
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"the replica did not say within {self._patience:g} s") from None
        finally:
            del self._questions[ticket]

    def read_here(self, keys: Sequence[bytes], then: Then) -> None:
        """Read keys as they stand at this replica between two rounds; while there is no such moment, as ever."""
        batch = _Batch()
        batch.operations = bytearray((Operation.READ,)) * len(keys)
        batch.keys, batch.arguments = list(keys), [None] * len(keys)
        batch.waiters = [(len(keys), then)]
        self._hand_over(batch, here=True)

    def _send(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.waiters:
            self._hand_over(batch)

    def _hand_over(self, batch: _Batch, *, here: bool = False, session: int = 0) -> None:
        ticket = next(self._tickets)
        self._waiting[ticket] = batch
        self._late.append((self._loop.time() + self._patience, ticket))
        arguments = batch.arguments if any(one is not None for one in batch.arguments) else None
        self._local.ask(
            Asked(ticket, bytes(batch.operations), batch.keys, arguments, batch.size, here, session)
        )

    def _deliver(self) -> None:
        """In the Replica's thread, of which the loop may be ending."""
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:
            return  # the loop has been closed: nobody waits any more

    def _take(self) -> None:
        for told in self._local.take():
            if isinstance(told, Answered):
                batch = self._waiting.pop(told.ticket, None)
                if batch is not None:
                    self._answer(batch, told)
            elif isinstance(told, Unanswered):
                batch = self._waiting.pop(told.ticket, None)
                if batch is not None:
                    self._fail(batch, told)
                elif (question := self._questions.get(told.ticket)) and not question.done():
                    question.set_exception(_error(told))
            elif isinstance(told, Described):
                question = self._questions.get(told.ticket)
                if question is not None and not question.done():
                    question.set_result(told.status)
            elif self._listener is not None:
                self._give(self._listener, told)

    def _answer(self, batch: _Batch, told: Answered) -> None:
        values = told.values or [None] * len(told.outcomes)
        results = list(zip(told.outcomes, values, strict=True))
        start = 0
        for length, then in batch.waiters:
            self._give(then, results[start : start + length])
            start += length

    def _fail(self, batch: _Batch, told: Unanswered) -> None:
        """Tell those that wait; where one is to blame, the others are asked for again."""
        start = 0
        for length, then in batch.waiters:
            part = slice(start, start + length)
            start += length
            if told.refused is None or len(batch.waiters) == 1 or part.start <= told.refused < part.stop:
                self._give(then, _error(told))
            else:
                columns = batch.operations[part], batch.keys[part], batch.arguments[part]
                self.ask([Command(*command) for command in zip(*columns, strict=True)], then)

    def _give(self, take: Callable[[_Given], None], given: _Given) -> None:
        """Let one take what is for it; a fault there is told in the log, and the others go on."""
        try:
            take(given)
        except Exception as error:  # noqa: BLE001 - of one of those that wait, whatever it is
            self._loop.call_exception_handler(
                {"message": "a door has failed to take an answer", "exception": error}
            )

    def _look(self) -> None:
        now = self._loop.time()
        while self._late and self._late[0][0] <= now:
            _, ticket = self._late.popleft()
            batch = self._waiting.pop(ticket, None)
            if batch is not None:
                for _, then in batch.waiters:
                    self._give(then, NoAnswer(f"no answer within {self._patience:g} s"))
        self._nap = self._loop.call_later(_NAP, self._look)


def _error(told: Unanswered) -> ClientError:
    if told.unknown:
        return NoAnswer(told.reason)
    if told.full:
        return Full(told.reason)
    return Busy(told.reason) if told.refused is None else Refused(told.reason)


def _weigh(command: Command) -> int:
    argument = command.argument
    size = _HEAD + len(command.key)
    if type(argument) is bytes:
        return size + len(argument)
    return size + _weigh_deeply(argument) if type(argument) is list else size


def _weigh_deeply(argument: object) -> int:
    if isinstance(argument, bytes):
        return _HEAD + len(argument)
    return sum(map(_weigh_deeply, argument)) if isinstance(argument, list) else _HEAD


def _parts(command: Command) -> int:
    """The operations in a command, or keys that it lists: there may be so many of either in a frame, of both here."""
    argument = command.argument
    if command.operation in ON_ALL:
        return listed(argument)
    if command.operation != _MULTI or not isinstance(argument, list):
        return 0
    return len(argument[0])  # its operations, a byte each
