"""What the load that is not recorded must have come to: every command once if it was answered, at most once if not.

Its commands are increments of counters and additions of a mark, each another one, to a text. So every execution
leaves a trace in a value, and the values that are read when all is over say for each command how often it has
executed. What is kept for that is a number or two for each key, and the commands without an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from epaxos.client.commands import Op
from epaxos.client.results import Result
from epaxos.statemachine.operations import Operation

MARKS: Final = 1000
"""Marks in one text; then another one is begun."""

COUNTERS: Final = 300
"""Counters of each writer, which nobody else uses."""

SHARED: Final = 3
"""Of the increments of a batch, so many are on counters of all writers: what comes after depends on them."""

SHOWN: Final = 10
"""Things that are wrong of which the text is kept."""


@dataclass(slots=True)
class _Count:
    """Increments of a counter that were answered, and that were not or not yet."""

    done: int = 0
    open: int = 0


@dataclass(slots=True)
class _Text:
    """A text that got the marks from `first` up to and without `end`; some of them `open`, or certainly in vain."""

    first: int
    end: int
    open: set[int] = field(default_factory=set)
    void: set[int] = field(default_factory=set)


class Audit(NamedTuple):
    """What the values say: commands that were answered, that were not, those of them that have executed."""

    answered: int
    unanswered: int
    executed: int
    wrong: Sequence[str]


class Ledger:
    """The commands of some writers, which are numbered, and what is known of each."""

    def __init__(self) -> None:
        self._counts: dict[bytes, _Count] = {}
        self._texts: dict[bytes, _Text] = {}
        self._serials: dict[int, count[int]] = {}
        self._marks: dict[int, int] = {}
        self._early: list[str] = []

    def batch(self, writer: int, size: int) -> list[Op]:
        """The next commands of a writer: `size` of them, all of other keys."""
        serial = self._serials.setdefault(writer, count())
        own = size - SHARED - 1
        keys = [b"ledger.%d.%d" % (writer, next(serial) % COUNTERS) for _ in range(own)]
        keys += [b"ledger.shared.%d" % number for number in range(SHARED)]
        for key in keys:
            self._counts.setdefault(key, _Count()).open += 1
        return [*(Op.increment(key, 1) for key in keys), self._mark(writer)]

    def _mark(self, writer: int) -> Op:
        mark = self._marks.get(writer, 0)
        self._marks[writer] = mark + 1
        key = b"ledger.%d.text.%d" % (writer, mark // MARKS)
        text = self._texts.setdefault(key, _Text(mark, mark))
        text.end = mark + 1
        text.open.add(mark)
        return Op.append(key, b"%d;" % mark)

    def note(self, op: Op, result: Result) -> None:
        """What became of one of them."""
        if result.error is not None and result.error.may_have_executed:
            return
        if op.operation == Operation.INCREMENT:
            self._note_increment(op.key, result)
            return
        assert isinstance(op.argument, bytes)
        mark, text = int(op.argument[:-1]), self._texts[op.key]
        text.open.remove(mark)
        if result.error is not None:
            text.void.add(mark)

    def _note_increment(self, key: bytes, result: Result) -> None:
        known = self._counts[key]
        if result.error is None:
            assert isinstance(result.value, int)
            if result.value > known.done + known.open:
                self._early.append(
                    f"{key.decode()} reached {result.value} by {known.done + known.open} increments"
                )
                del self._early[SHOWN:]
            known.done += 1
        known.open -= 1

    @property
    def keys(self) -> list[bytes]:
        """All keys that were written."""
        return [*self._counts, *self._texts]

    def audit(self, values: Mapping[bytes, bytes | None]) -> Audit:
        """Compare with the values of all keys, read after everything was over."""
        wrong = list(self._early)
        answered = unanswered = executed = 0
        for key, known in self._counts.items():
            value = int(values[key] or b"0")
            answered += known.done
            unanswered += known.open
            executed += max(0, value - known.done)
            if not known.done <= value <= known.done + known.open:
                wrong.append(
                    f"{key.decode()} is {value} after {known.done} increments and {known.open} without an answer"
                )
        for key, text in self._texts.items():
            found = Counter(map(int, filter(None, (values[key] or b"").split(b";"))))
            answered += text.end - text.first - len(text.open) - len(text.void)
            unanswered += len(text.open)
            executed += sum(mark in found for mark in text.open)
            wrong += [f"{key.decode()}: {fault}" for fault in _faults(text, found)]
        return Audit(answered, unanswered, executed, wrong[:SHOWN])


def _faults(text: _Text, found: Mapping[int, int]) -> list[str]:
    """What is wrong with the marks found in a text, with how often each is there."""
    faults = [
        f"mark {mark} was never made"
        for mark in found
        if not text.first <= mark < text.end or mark in text.void
    ]
    for mark in range(text.first, text.end):
        times = found.get(mark, 0)
        if times > 1:
            faults.append(f"mark {mark} was made {times} times")
        elif not times and mark not in text.open and mark not in text.void:
            faults.append(f"mark {mark} was answered and is lost")
    return faults
