"""Reads by a quorum: what has to execute here before this replica's own state answers a read (protocol 7).

A question names some keys. Each replica that is asked tells, for every row, the highest slot ever known to write one of
them. With f + 1 answers, the own one counted, the reader has heard of every write that was decided when it began: such
a write is known to n - f. Once all up to there has executed here, whatever it touches, the state here says what a read
of one of these keys in the log could have said.

Nothing is recorded or promised, so neither a question nor an answer waits for a disk. Who asks may be as slow, and who
answers as far behind, as they like.

The machine is the same for every protocol. It knows of the log what it is given: what is `known` of keys here, and how
far all has `executed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import le
from typing import Any, NamedTuple, Protocol

from epaxos.protocol.contract import Effects, Read
from epaxos.protocol.ids import Row, Vector


class ReadIndex(NamedTuple):
    """A reader to some: which slots do you know that write one of these keys? Answer: ReadIndexOK.

    `number` is never used again, not even after a restart: an answer to another question may be too old for this one.
    """

    number: int
    keys: Sequence[bytes]


class ReadIndexOK(NamedTuple):
    """The highest slot of each row known here to write one of the keys, whatever became of it. No promise."""

    number: int
    highest: Vector


class Host(Protocol):
    """What it needs of the state of a core."""

    me: Row
    peers: tuple[Row, ...]
    now: float
    effects: Effects[Any]

    @property
    def online(self) -> AbstractSet[Row]:
        """The peers that are believed reachable."""
        ...

    def send(self, receivers: Sequence[Row], message: Any, /) -> None:
        """Send a message that promises nothing."""
        ...

    def cover(self, case: str, /) -> None:
        """Count that a decision of this name was taken."""
        ...


class Log(NamedTuple):
    """What it needs of the log.

    known     by row, the highest slot ever known here to write one of some keys
    executed  by row, up to where all has executed
    hear_of   takes note that slots up to a vector have been spoken of
    nearest   the peers in the order in which they are asked
    patience  seconds in which an answer should have come, and what was heard of should have executed
    """

    known: Callable[[Sequence[bytes]], Vector]
    executed: Callable[[], Vector]
    hear_of: Callable[[Vector], None]
    nearest: Callable[[], Sequence[Row]]
    patience: Callable[[], float]


@dataclass(slots=True)
class _Question:
    """One that waits: its keys, what has been told, by which of the asked; when to act, and what was done before."""

    keys: Sequence[bytes]
    highest: Vector
    asked: Sequence[Row]
    answered: set[Row]
    due: float
    repeated: bool = False


class Reads:
    """The questions of one replica, and its answers to those of others; `f` answers of others make a quorum."""

    def __init__(self, host: Host, f: int, log: Log) -> None:
        self._host = host
        self._f = f
        self._log = log
        self.waiting: dict[int, _Question] = {}
        self._dues: list[tuple[float, int]] = []  # a heap, in which some are left of what waits no more
        self._silent: set[Row] = set()
        self._is_settled = False
        self._executed: Vector = ()

    @property
    def deadline(self) -> float:
        """When `sweep` is due."""
        dues = self._dues
        while dues and not self._is_due(*dues[0]):
            heappop(dues)
        return dues[0][0] if dues else math.inf

    def _is_due(self, due: float, number: int) -> bool:
        question = self.waiting.get(number)
        return question is not None and question.due == due

    def _wait(self, number: int, question: _Question) -> None:
        question.due = self._host.now + self._log.patience()
        heappush(self._dues, (question.due, number))

    def ask(self, read: Read) -> None:
        """Begin a read: the answers count from now on, the own one at once."""
        asked = self._whom_to_ask()
        known = self._log.known(read.keys)
        self.waiting[read.number] = question = _Question(read.keys, known, asked, {self._host.me}, math.inf)
        self._wait(read.number, question)
        self._is_settled = False
        self._send(asked, read.number, read.keys)
        if not self._f:
            self._complete(question)

    def _whom_to_ask(self) -> Sequence[Row]:
        """As many as are needed, the nearest; and who was silent, whom nobody waits for, to hear when that is over."""
        host = self._host
        online = [peer for peer in self._log.nearest() if peer in host.online]
        near = [peer for peer in online if peer not in self._silent][: self._f]
        if len(near) < self._f:
            return host.peers
        return near + [peer for peer in online if peer in self._silent] if self._f else ()

    def _send(self, peers: Sequence[Row], number: int, keys: Sequence[bytes]) -> None:
        if peers:
            self._host.send(peers, ReadIndex(number, keys))

    def on_read_index(self, sender: Row, message: ReadIndex) -> None:
        """Tell a reader what is known here."""
        self._host.send((sender,), ReadIndexOK(message.number, self._log.known(message.keys)))

    def on_read_index_ok(self, sender: Row, message: ReadIndexOK) -> None:
        """Take an answer, unless there are enough; those to other questions tell nothing."""
        self._silent.discard(sender)
        question = self.waiting.get(message.number)
        if question is None or self._is_answered(question):
            return
        question.answered.add(sender)
        question.highest = tuple(map(max, message.highest, question.highest))
        if self._is_answered(question):
            self._complete(question)

    def _complete(self, question: _Question) -> None:
        """A quorum has answered; somebody has to decide what only they knew of."""
        self._log.hear_of(question.highest)
        self._is_settled = False
        if not self._has_executed(question):
            self._host.cover("read waits for what was heard of")

    def _is_answered(self, question: _Question) -> bool:
        return len(question.answered) > self._f

    def _has_executed(self, question: _Question) -> bool:
        return all(map(le, question.highest, self._log.executed()))

    def settle(self) -> None:
        """Let those be answered for which enough has executed; at the end of each event, unless nothing executes."""
        executed = self._log.executed()
        if self._is_settled and executed == self._executed:
            return
        self._is_settled, self._executed = True, executed
        done = [
            number
            for number, question in self.waiting.items()
            if self._is_answered(question) and self._has_executed(question)
        ]
        for number in done:
            del self.waiting[number]
            self._host.cover("read by a quorum")
        self._host.effects.reads += done
        if not self.waiting:
            self._dues.clear()

    def sweep(self) -> None:
        """Ask all who have not answered in time; what comes to nothing then is not read in this way."""
        while self.deadline <= self._host.now:
            _, number = heappop(self._dues)
            question = self.waiting[number]
            if question.repeated:
                self._give_up([number])
                continue
            question.repeated = True
            self._wait(number, question)
            if not self._is_answered(question):
                self._silent.update(set(question.asked) - question.answered)
                others = [peer for peer in self._host.peers if peer not in question.answered]
                self._send(others, number, question.keys)

    def give_up(self) -> None:
        """The epoch is over: what is waited for here may be there, and what comes after it is not known here."""
        self._give_up(list(self.waiting))

    def refuse(self, read: Read) -> None:
        """It cannot be read in this way."""
        self._host.effects.unread.append(read.number)

    def _give_up(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            del self.waiting[number]
            self._host.effects.unread.append(number)
            self._host.cover("read given up")
