"""Where the doors of a process hand commands to its Replica, and take results: columns, from thread to thread.

A door has an event loop in a thread of its own. It gathers what its connections ask for (`doors.desk`) and hands it
over as columns; the Replica takes them in its next round, as a frame of a client, and whatever its rounds execute of
them comes back as columns too. Nothing is encoded, copied or checked twice on the way.

**Each command is proposed once.** What is handed over is not lost on the way, and what others annul the core proposes
again, so nothing is ever sent again: what comes back as EXPIRED may have executed before a checkpoint in which its
session had ended (protocol 4.13). The session of a `LocalClient` is kept by the Replica's side alone: what comes after
begins another one (`statemachine.sessions`).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.doors.session import OwnSession
from epaxos.statemachine.batch import SERVICE, Batch, Payload
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.machine import Run
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.reading import reading_of
from epaxos.statemachine.results import BatchResult, Value

_DONE: Final = int(Outcome.DONE)
_NOT_FOUND: Final = int(Outcome.NOT_FOUND)


UNTAKEN: Final = 1000
"""Of what executed, so much may wait to be taken by a door; then it is told that it has missed something."""


class Asked(NamedTuple):
    """Commands of a door as columns of one length, at least 1; about `size` bytes.

    ticket  by which the door knows the answer
    here    only READs, to be answered with what stands at this replica between two rounds
    session the number of the session in which they are the first, and execute once, however often and wherever they
            are asked for; 0 for that of the door. Not twice at the same time
    """

    ticket: int
    operations: bytes
    keys: list[bytes]
    arguments: list[Argument] | None
    size: int
    here: bool = False
    session: int = 0


class Answered(NamedTuple):
    """What the commands of a ticket came to: the columns of a `BatchResult`."""

    ticket: int
    outcomes: bytes
    values: list[Value] | None


class Unanswered(NamedTuple):
    """The commands of a ticket have no answer, for a reason.

    refused  the position of the command because of which none was taken; None if it is not for a command's sake
    full     whether that command is in order, and there is no room on the disk for it
    unknown  whether they may have executed, or may do so still
    """

    ticket: int
    reason: str
    refused: int | None = None
    unknown: bool = False
    full: bool = False


class Question(NamedTuple):
    """A question for the status of the replica; `options` may ask for more (`actors.clients.StatusRequest`)."""

    ticket: int
    options: dict[str, Any]


class Described(NamedTuple):
    """The status that was asked for."""

    ticket: int
    status: dict[str, Any]


class Executed(NamedTuple):
    """Commands that executed here, whoever asked for them, as columns, with what they came to."""

    operations: bytes
    keys: Sequence[bytes]
    arguments: Sequence[Argument] | None
    outcomes: bytes
    values: Sequence[Value] | None


Told: TypeAlias = "Answered | Unanswered | Described | Executed | None"
"""What a door is told, in the order in which it happened, but answers before what executed together with them.

None: what executed here came by a checkpoint, or was more than the door could take.
"""


class LocalClient:
    """One door, as a client of the replica in whose process it is.

    The methods `ask`, `ask_status` and `take` are its door's, all others the Replica's. `deliver` is called in the
    Replica's thread when there is something to take, and not again before `take`.
    """

    def __init__(self, gate: Gate, deliver: Callable[[], None]) -> None:
        self._gate = gate
        self._deliver = deliver
        self._asked: deque[Asked] = deque()
        self._questions: deque[Question] = deque()
        self._told: deque[Told] = deque()
        self._due: list[Told] = []
        self._observed = self._taken = 0  # each counted up in one thread alone
        self._missed = False
        self._delivered = False
        self._session = OwnSession()
        self._reader = secrets.randbits(63) + 1
        self._read = 1
        # By session, in order: the first is found without a look at the others.
        self._open: defaultdict[int, OrderedDict[int, Asked]] = defaultdict(OrderedDict)
        self.listens = False
        """Whether it wants to be told of all that executes here; set by the door."""

    # -- the door's thread -------------------------------------------------------------------------------------

    def ask(self, asked: Asked) -> None:
        """Hand commands over; the answer comes by `take`."""
        self._asked.append(asked)
        if self._gate.closed:
            self.give_up(self._gate.closed)
        else:
            self._gate.wake()

    def ask_status(self, question: Question) -> None:
        """Ask how the replica is."""
        self._questions.append(question)
        if self._gate.closed:
            self.give_up(self._gate.closed)
        else:
            self._gate.wake()

    def take(self) -> Iterator[Told]:
        """What has been told since; to be taken to the end."""
        self._delivered = False  # before the first is taken: what is told from now on is delivered anew
        told = self._told
        while told:
            one = told.popleft()
            self._taken += isinstance(one, Executed)
            yield one

    # -- the Replica's thread ----------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether commands wait to be taken."""
        return bool(self._asked)

    @property
    def next(self) -> Asked:
        """The commands that wait first; only while it `waits`."""
        return self._asked[0]

    def begin(self, generation: int) -> Batch:
        """The commands that wait first, as a batch of this client's session, in this generation."""
        asked = self._asked.popleft()
        if asked.session:
            self._open[asked.session][1] = asked
            return Batch(asked.session, 1, 1, asked.operations, asked.keys, asked.arguments, generation)
        if asked.arguments is not None and reading_of(asked.operations[0], asked.arguments[0]):
            return self._begin_reading(asked)
        client, first, born = self._session.begin(len(asked.operations), generation)
        begun = self._open[client]
        begun[first] = asked
        acked = next(iter(begun))
        return Batch(client, first, acked, asked.operations, asked.keys, asked.arguments, born)

    def _begin_reading(self, asked: Asked) -> Batch:
        """Reads that are none of the log (`statemachine.reading`), whose numbers are those of no session."""
        first = self._read
        self._read += len(asked.operations)
        self._open[self._reader][first] = asked
        return Batch(self._reader, first, first, asked.operations, asked.keys, asked.arguments)

    def _end(self, client: int, first: int) -> Asked | None:
        """What was begun with this number of a session, and is under way no more."""
        begun = self._open.get(client)
        asked = None if begun is None else begun.pop(first, None)
        if begun is not None and not begun:
            del self._open[client]
        return asked

    def answer(self, result: BatchResult) -> None:
        """Note what a batch came to. `flush` tells it."""
        asked = self._end(result.client, result.first)
        if asked is None:
            return
        self._session.saw(result)
        self._due.append(Answered(asked.ticket, result.outcomes, result.values))

    def flush(self) -> None:
        """Tell what is due, in its order."""
        if not self._due:
            return
        due, self._due = self._due, []
        for told in due:
            one = told
            if isinstance(one, Executed):
                if self._observed - self._taken < UNTAKEN:
                    self._observed += 1
                else:
                    one = None
            if one is not None or not self._missed:  # that one is behind all that is not taken yet
                self._told.append(one)
            self._missed = one is None
        self._tell()

    def answer_here(self, values: list[bytes | None]) -> None:
        """What the reads that wait first came to at this replica."""
        outcomes = bytes([_NOT_FOUND if value is None else _DONE for value in values])
        self._told.append(Answered(self._asked.popleft().ticket, outcomes, list(values)))
        self._tell()

    def take_questions(self) -> list[Question]:
        """The questions that wait."""
        questions = list(self._questions)
        for _ in questions:
            self._questions.popleft()
        return questions

    def describe(self, ticket: int, status: dict[str, Any]) -> None:
        """Answer a question for the status."""
        self._told.append(Described(ticket, status))
        self._tell()

    def refuse(
        self, client: int, first: int, reason: str, position: int | None = None, *, full: bool = False
    ) -> None:
        """Those that were begun with this number, of this session, are not taken (`Unanswered`)."""
        asked = self._end(client, first)
        if asked is not None:
            self._told.append(Unanswered(asked.ticket, reason, position, full=full))
            self._tell()

    def turn_away(self, reason: str) -> None:
        """What waits is not taken."""
        with suppress(IndexError):  # when all has ended, its door does this too
            while self._asked:
                self._told.append(Unanswered(self._asked.popleft().ticket, reason))
        self._tell()

    def give_up(self, reason: str) -> None:
        """Nothing of what is under way will be answered, nor is anything taken."""
        under_way, self._open = self._open, defaultdict(OrderedDict)
        for begun in under_way.values():
            self._told += [Unanswered(asked.ticket, reason, unknown=True) for asked in begun.values()]
        with suppress(IndexError):  # as above
            while self._questions:
                self._told.append(Unanswered(self._questions.popleft().ticket, reason))
        self.turn_away(reason)

    def observe(self, payload: Payload, run: Run) -> None:
        """These commands have executed here; `answer` to them comes first, and `flush` tells it."""
        begin = sum(payload.heads.counts[: run.start])
        part = slice(begin, begin + len(run.outcomes))
        arguments = None if payload.arguments is None else payload.arguments[part]
        columns = payload.operations[part], payload.keys[part], arguments
        self._due.append(Executed(*columns, run.outcomes, run.values))

    def observe_end(self, keys: Sequence[bytes]) -> None:
        """These keys have ended, as a replica proposed; whoever proposes asks for no answer. `flush` tells it."""
        count = len(keys)
        self._due.append(Executed(bytes((Operation.EXPIRE,)) * count, keys, None, bytes(count), None))

    def miss(self) -> None:
        """What executed elsewhere came here by a checkpoint, so that nobody can be told of each."""
        self._told.append(None)
        self._tell()

    def _tell(self) -> None:
        if self._told and not self._delivered:
            self._delivered = True
            self._deliver()


class Gate:
    """All doors of a process; they may open before there is a Replica. `closed` is why nothing is taken any more."""

    def __init__(self) -> None:
        self.clients: tuple[LocalClient, ...] = ()
        self.closed = ""
        self._wake: Callable[[], None] | None = None

    def open(self, deliver: Callable[[], None]) -> LocalClient:
        """A client for a door; `deliver` is called in the Replica's thread and must neither wait nor raise."""
        client = LocalClient(self, deliver)
        self.clients += (client,)
        return client

    def attach(self, wake: Callable[[], None]) -> None:
        """There is a Replica, and this makes it look; for any thread."""
        self._wake = wake
        wake()

    def wake(self) -> None:
        """Let the Replica take what waits."""
        if self._wake is not None:
            self._wake()

    def close(self, reason: str) -> None:
        """The Replica takes nothing any more."""
        self.closed = self.closed or reason
        for client in self.clients:
            client.give_up(self.closed)

    def ending(self, payload: Payload, get: Callable[[bytes], bytes | None]) -> list[bytes]:
        """The keys, of those that a replica proposes to end, that stand before it executes; none if nobody listens."""
        if not self.listening or payload.base is not None or payload.heads.clients[:1] != [SERVICE]:
            return []
        return [key for key in payload.keys if get(key) is not None]

    def tell_ended(self, keys: Sequence[bytes]) -> None:
        """These have ended."""
        for client in self.listening:
            client.observe_end(keys)

    @property
    def listening(self) -> list[LocalClient]:
        """Those that want to be told of what executes here."""
        return [client for client in self.clients if client.listens]
