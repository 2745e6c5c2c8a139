"""The session of one client: every command executes once, however often and in whatever grouping it comes.

Commands that do not conflict execute in different orders on different replicas. "Everything below the
client's acknowledged number has executed" is therefore no ground for skipping a command: the acknowledgement
may overtake an older, unrelated command on some replica, which would skip it while its peers apply it. So a
session remembers exactly which request numbers have executed *here*, as an interval set that is never
shortened, and the acknowledged number does one thing only: it lets kept results go.

**A duplicate whose result is gone** is answered with outcome FORGOTTEN. Below the client's `acked` no caller can see
that: the answer came already, so the client drops this one. Above it a result goes only where the unacknowledged ones
are more than `Budget` allows, the oldest first; its caller learns that the command executed, and no more.
That costs a client who has much under way and loses an answer at the same time. What is kept is no part of what
replicas agree on, since acknowledgements reach them in different orders anyway, so each may let go by itself; that a
command has executed is never let go. A result that says no more than DONE takes no room: it stands in an interval set
of its own, which most of the time is one interval a session.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from epaxos.errors import FrameError
from epaxos.statemachine import intervals
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.results import BatchResult, Value, as_column, weigh_values

_HEAD: Final = 128  # bytes that a kept result takes beside outcomes and values, about
_FIRST: Final = attrgetter("first")
_END: Final = attrgetter("end")
_FORGOTTEN: Final = bytes([Outcome.FORGOTTEN])
_DONE: Final = bytes([Outcome.DONE])
_NUMBER_END: Final = 2**64  # one past what an exported number may be


class Session:
    """The executed request numbers of one client, and the results it has not acknowledged.

    `executed` is an interval set (`statemachine.intervals`), and so is `done`: those of them that came to DONE, without
    a value. The other results are in `kept`, sorted by request number and disjoint, since a number executes once. They
    take about `weight` bytes, of which the table of all sessions has taken account of `settled`. `last` is the
    generation in which it last executed a batch.
    """

    __slots__ = ("acked", "done", "executed", "kept", "last", "settled", "weight")

    def __init__(self, last: int = 0) -> None:
        self.acked = 0
        self.last = last
        self.executed: list[int] = []
        self.done: list[int] = []
        self.kept: list[BatchResult] = []
        self.weight = 0
        self.settled = 0

    def acknowledge(self, acked: int) -> None:
        """Drop the results of which all numbers are below `acked`."""
        if acked <= self.acked:
            return
        self.acked = acked
        gone = 0
        for result in self.kept:
            if result.first >= acked or result.end > acked:
                break
            gone += 1
            self.weight -= _weigh(result)
        del self.kept[:gone]
        done = self.done
        while done and done[1] <= acked:
            del done[:2]

    def forget(self, most: int) -> None:
        """Drop the oldest results until the rest takes `most` bytes, or until one is left."""
        gone = 0
        while self.weight > most and gone < len(self.kept) - 1:
            self.weight -= _weigh(self.kept[gone])
            gone += 1
        del self.kept[:gone]

    def claim(self, first: int, end: int) -> bool:
        """Mark the numbers from `first` up to, not including, `end` as executed, if none of them is yet.

        Returns whether they are marked; if not, nothing has changed and at least one is a duplicate.
        """
        executed = self.executed
        if executed and executed[-1] == first:
            executed[-1] = end
            return True
        if not intervals.is_free(executed, first, end):
            return False
        intervals.add(executed, first, end)
        return True

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of the interval from `first` to `end` that have not executed, ascending."""
        return intervals.missing(self.executed, first, end)

    def keep(self, result: BatchResult) -> None:
        """Keep the result of a claimed interval until it is acknowledged, if it has not been already."""
        kept = self.kept
        if result.first < self.acked and result.end <= self.acked:
            return
        if result.values is None and not any(result.outcomes):
            intervals.add(self.done, result.first, result.end)
            return
        self.weight += _weigh(result)
        if not kept or kept[-1].first < result.first:
            kept.append(result)
        else:
            insort(kept, result, key=_FIRST)

    def recall(self, client: int, first: int, end: int) -> BatchResult:
        """The kept results of the numbers from `first` to `end`; FORGOTTEN where none is kept."""
        outcomes = bytearray(_DONE * (end - first))
        for gone, back in intervals.missing(self.done, first, end):
            outcomes[gone - first : back - first] = _FORGOTTEN * (back - gone)
        values: list[Value] = [None] * (end - first)
        start = bisect_right(self.kept, first, key=_END)
        stop = bisect_left(self.kept, end, key=_FIRST)
        for result in self.kept[start:stop]:
            part = result.part(max(first, result.first), min(end, result.end))
            place = slice(part.first - first, part.end - first)
            outcomes[place] = part.outcomes
            if part.values is not None:
                values[place] = part.values
        return BatchResult(client, first, bytes(outcomes), as_column(values))

    def merge(self, theirs: Session) -> None:
        """Add what another replica knows of the client: the union of executed numbers and of kept results."""
        self.last = max(self.last, theirs.last)
        for first, end in intervals.pairs(theirs.executed):
            intervals.add(self.executed, first, end)
        for first, end in intervals.pairs(theirs.done):
            intervals.add(self.done, first, end)
        covered: list[int] = []
        for result in self.kept:
            intervals.add(covered, result.first, result.end)
        for result in theirs.kept:
            for first, end in intervals.missing(covered, result.first, result.end):
                self.keep(result.part(first, end))
        self.acknowledge(theirs.acked)

    def row(self) -> list[object]:
        """What a checkpoint says of it: acked, executed, done, the kept results, and last; for `load_row`."""
        kept = [[*result[1:]] for result in self.kept]
        return [self.acked, self.executed.copy(), self.done.copy(), kept, self.last]


def _weigh(result: BatchResult) -> int:
    return _HEAD + len(result.outcomes) + (0 if result.values is None else weigh_values(result.values))


def load_row(row: object) -> tuple[int, Session]:
    """The client and the session of a row, after any trip through msgpack.

    Raises:
        FrameError: it is no such row.
    """
    if type(row) is not list or len(row) != 6:
        raise FrameError("malformed", "not a table of sessions: a row has six fields")
    client, acked, executed, done, kept, last = row
    if not (
        _are_numbers([client, last, acked])
        and executed
        and _is_set(executed)
        and _is_set(done)
        and type(kept) is list
    ):
        raise FrameError("malformed", "not a table of sessions: wrong type or number out of range")
    session = Session(last)
    session.acked = acked
    session.executed = executed
    session.done = done
    if any(session.missing(first, end) for first, end in intervals.pairs(done)):
        raise FrameError("malformed", f"session {client} has done what has not executed")
    end = 0
    for entry in kept:
        result = _load_result(client, entry)
        if result.first < end or session.missing(result.first, result.end):
            raise FrameError("malformed", f"session {client} keeps a result out of order or not executed")
        session.keep(result)
        end = result.end
    return client, session


def _load_result(client: int, entry: object) -> BatchResult:
    if type(entry) is not list or len(entry) != 3:
        raise FrameError("malformed", f"session {client}: a kept result has three fields")
    first, outcomes, values = entry
    if not (
        _are_numbers([first])
        and type(outcomes) is bytes
        and outcomes
        and (values is None or (type(values) is list and len(values) == len(outcomes)))
    ):
        raise FrameError("malformed", f"session {client}: columns of wrong type or length")
    return BatchResult(client, first, outcomes, values)


def _are_numbers(numbers: Sequence[object]) -> bool:
    return all(type(number) is int and 0 <= number < _NUMBER_END for number in numbers)


def _is_set(bounds: object) -> bool:
    return type(bounds) is list and _are_numbers(bounds) and intervals.is_canonical(bounds)
