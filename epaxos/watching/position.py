"""Positions: what a watcher has been told of, in words that mean the same at every replica.

Replicas execute commands that do not conflict in different orders, so that no count of changes is a place in all their
histories. An instance, though, is the same everywhere, and of one key the changes come in the same order: so a
position is the *set* of the instances of an epoch whose changes have been delivered, which for each key is a prefix of
what happened to it, and it contains all that executed in the epochs before. Whoever goes on elsewhere is sent what has
executed there and is not in the set.

Instances of another cluster, or of one that was begun anew, have the same names. So a position has *marks* too: of each
replica that had been heard of where it was told, a number that it drew with its data directory. Any two replicas that
have each heard a quorum have heard of one in common, and who joins has heard who was there: so positions of one cluster
have a mark in common.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final, NamedTuple

from epaxos.protocol.ids import InstanceId
from epaxos.statemachine import intervals

MOST_BOUNDS: Final = 20_000
"""Intervals of all rows together, twice: what has executed at a replica has far fewer holes."""

_MOST_ROWS: Final = 64
_MOST_MARKS: Final = 64
_LONGEST: Final = 500_000  # characters that hold as many bounds
_END: Final = 2**62
_MARKS: Final = 2**32

_ROW: Final = r"[0-9]{1,19}(?:_[0-9]{1,19}-[0-9]{1,19})*"
_MARK: Final = "[0-9a-f]{1,8}"
_is_written = re.compile(rf"[0-9]{{1,10}}:{_ROW}(?:,{_ROW})*@{_MARK}(?:\.{_MARK})*").fullmatch


class Position(NamedTuple):
    """A set of instances: all of the epochs before `epoch`, and of that, of each row those in its `intervals`.

    `marks` are 32 bits of each replica that is known, 0 of none.
    """

    epoch: int
    rows: tuple[tuple[int, ...], ...]
    marks: tuple[int, ...] = ()

    def contains(self, epoch: int, place: InstanceId) -> bool:
        """Whether an instance is in the set."""
        if epoch != self.epoch:
            return epoch < self.epoch
        return place.row < len(self.rows) and bisect_right(self.rows[place.row], place.slot) % 2 == 1

    def includes(self, other: Position) -> bool:
        """Whether all of another position of the same epoch, or an earlier one, is in the set.

        Of an earlier one this tells only where it has ended: what the end of that epoch left behind nobody counts.
        """
        if other.epoch != self.epoch:
            return other.epoch < self.epoch
        return all(
            _holds(self.rows[row] if row < len(self.rows) else (), bounds)
            for row, bounds in enumerate(other.rows)
        )

    def joined(self, executed: Position) -> Position:
        """What is in this or has executed at a replica; of the rows that the replica knows."""
        if executed.epoch != self.epoch:
            return max(self, executed, key=lambda one: one.epoch)
        if executed.includes(self):  # by far the most frequent
            return executed
        both = Executed(executed.epoch, executed.rows)
        for row, bounds in zip(both.rows, self.rows, strict=False):
            for start, end in intervals.pairs(bounds):
                intervals.add(row, start, end)
        return both.position()

    def is_of(self, marks: tuple[int, ...]) -> bool:
        """Whether it was told by a cluster of which a replica knows these marks."""
        return self.marks == marks or not ({*self.marks} - {0}).isdisjoint(marks)

    def as_fields(self) -> list[Any]:
        """The same as `read_position` takes it."""
        return [self.epoch, list(map(list, self.rows)), list(self.marks)]

    def __str__(self) -> str:
        """Safe in the query of a URL: the epoch, of each row its intervals, of the first its end, and the marks."""
        marks = ".".join(f"{mark:x}" for mark in self.marks)
        return f"{self.epoch}:{','.join(map(_row_text, self.rows))}@{marks}"


def _holds(bounds: tuple[int, ...], others: tuple[int, ...]) -> bool:
    for start, end in intervals.pairs(others):
        below = bisect_right(bounds, start)
        if below % 2 == 0 or bounds[below] < end:
            return False
    return True


def _row_text(bounds: tuple[int, ...]) -> str:
    first, rest = (bounds[1], bounds[2:]) if bounds[:1] == (0,) else (0, bounds)
    return "_".join([str(first), *(f"{start}-{end}" for start, end in intervals.pairs(rest))])


def read_position(fields: Any) -> Position:
    """The position that was written as these fields.

    Raises:
        ValueError: they are none.
    """
    if not _is_position(fields):
        raise ValueError("no position")
    epoch, rows, marks = fields
    return Position(epoch, tuple(map(tuple, rows)), tuple(marks))


def _is_position(fields: Any) -> bool:
    if not isinstance(fields, list | tuple) or list(map(type, fields)) != [int, list, list]:
        return False
    epoch, rows, marks = fields
    if not (len(marks) <= _MOST_MARKS and all(type(mark) is int and 0 <= mark < _MARKS for mark in marks)):
        return False
    if not (0 <= epoch < _END and 0 < len(rows) <= _MOST_ROWS and set(map(type, rows)) == {list}):
        return False
    bounds = list(chain(*rows))
    if len(bounds) > MOST_BOUNDS or set(map(type, bounds)) - {int}:
        return False
    return all(map(intervals.is_canonical, rows)) and all(0 <= bound < _END for bound in bounds)


def parse_position(text: str) -> Position:
    """The position that is written like this.

    Raises:
        ValueError: none is, in one line.
    """
    if len(text) <= _LONGEST and _is_written(text):
        epoch, rows, marks = re.split("[:@]", text)
        fields = [
            int(epoch),
            list(map(_row_of, rows.split(","))),
            [int(mark, 16) for mark in marks.split(".")],
        ]
        if _is_position(fields):
            return read_position(fields)
    raise ValueError(f"no position: {text[:40]!r}; allowed is what a watch has told")


def _row_of(text: str) -> list[int]:
    first, *rest = text.split("_")
    bounds = [0, int(first)] if int(first) else []
    for part in rest:
        bounds += map(int, part.split("-"))
    return bounds


class Executed:
    """A position that grows: what has executed at a replica, or what its history does not hold any more."""

    __slots__ = ("epoch", "rows")

    def __init__(self, epoch: int, rows: Iterable[Iterable[int]]) -> None:
        self.epoch = epoch
        self.rows = [list(row) for row in rows]

    def add(self, place: InstanceId) -> None:
        """An instance of this epoch."""
        row, slot = self.rows[place.row], place.slot
        if len(row) == 2 and row[1] == slot:  # by far the most frequent
            row[1] = slot + 1
        else:
            intervals.add(row, slot, slot + 1)

    def add_all(self, frontier: Iterable[int], above: Iterable[InstanceId]) -> None:
        """All up to a frontier, and some above it."""
        for row, slot in zip(self.rows, frontier, strict=True):
            if slot >= 0:
                intervals.add(row, 0, slot + 1)
        for place in above:
            self.add(place)

    def begin(self, epoch: int, count: int) -> None:
        """The epoch is over, and another one with so many rows begins."""
        self.epoch = epoch
        self.rows = [[] for _ in range(count)]

    def copy(self) -> Executed:
        """One that grows apart from this."""
        return Executed(self.epoch, self.rows)

    def position(self) -> Position:
        """What it is now."""
        return Position(self.epoch, tuple(map(tuple, self.rows)))


def marks_of(numbers: Iterable[int]) -> tuple[int, ...]:
    """The marks of replicas that have drawn these numbers, of the first of them if there are too many."""
    return tuple(dict.fromkeys(number % _MARKS or 1 for number in numbers))[:_MOST_MARKS]
