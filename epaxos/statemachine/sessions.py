"""Client sessions: every command of a client executes once, however often and in whatever grouping it comes.

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

**Sessions end** (protocol 4.13). `generation` counts the collections that have executed, which conflict with every
command: so how many had executed before a command is the same on every replica. A session that has executed nothing
during the last `window` of them is dropped. Each batch tells the generation in which its client began the session;
where the session is unknown, and was begun so long ago that it may have been dropped, the batch changes nothing and
ends as EXPIRED. So a retry that comes too late never executes a second time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from epaxos.errors import FrameError, InvariantError
from epaxos.statemachine import intervals
from epaxos.statemachine.operations import Outcome

if TYPE_CHECKING:
    from epaxos.statemachine.batch import Heads

Value: TypeAlias = "bytes | int | list[object] | None"

WINDOW: Final = 10
"""The collections during which a session may be idle; the same on every replica of a cluster."""

_HEAD: Final = 128  # bytes that a kept result takes beside outcomes and values, about
_FIRST: Final = attrgetter("first")
_END: Final = attrgetter("end")
_NUMBERS: Final = {int, NoneType}
_STRINGS: Final = {bytes, NoneType}
_FORGOTTEN: Final = bytes([Outcome.FORGOTTEN])
_DONE: Final = bytes([Outcome.DONE])
_NUMBER_END: Final = 2**64  # one past what an exported number may be


class BatchResult(NamedTuple):
    """What the commands of a batch came to: the body of a REPLY, in its order.

    `outcomes` holds one `Outcome` per command from request number `first` on; `values` one value per
    command, or None if all values are None. A session may keep the same object: never change `values`.
    """

    client: int
    first: int
    outcomes: bytes
    values: list[Value] | None

    @property
    def end(self) -> int:
        """One past the last request number."""
        return self.first + len(self.outcomes)


class Budget(NamedTuple):
    """Bytes of results that may be kept: of one session (its newest always is), and of all together."""

    session: int = 32 * 1024 * 1024
    total: int = 256 * 1024 * 1024


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
            part = _part(result, max(first, result.first), min(end, result.end))
            place = slice(part.first - first, part.end - first)
            outcomes[place] = part.outcomes
            if part.values is not None:
                values[place] = part.values
        return BatchResult(client, first, bytes(outcomes), as_column(values))


_DEFAULT_BUDGET: Final = Budget()


class Sessions:
    """The sessions of all clients, of which one that is idle for more than `window` generations ends.

    `freeze` sets aside which sessions changed since the last call, for a checkpoint that takes them step by step. One
    that changes again before it was taken is encoded first: the checkpoint gets it as it was (`_captured`).

    `weight` is what the kept results of all take, in bytes. `_levels` has the clients with any, by the number of binary
    digits of their session's, so that who keeps most, to a factor of two, is found at once and gives up first.
    """

    __slots__ = (
        "_captured",
        "_changed",
        "_frozen",
        "_frozen_all",
        "_levels",
        "_table",
        "budget",
        "generation",
        "weight",
        "window",
    )

    def __init__(self, budget: Budget = _DEFAULT_BUDGET, window: int = WINDOW) -> None:
        self.budget = budget
        self.window = window
        self.generation = 0
        self.weight = 0
        self._levels: dict[int, dict[int, None]] = {}
        self._table: dict[int, Session] = {}
        self._changed: set[int] = set()
        self._frozen_all: frozenset[int] = frozenset()
        self._frozen: set[int] = set()
        self._captured: list[list[object]] = []

    def __len__(self) -> int:
        return len(self._table)

    def is_over(self, client: int, generation: int) -> bool:
        """Whether the session that a client began in `generation` has ended here, and so everywhere one day."""
        return generation < self.generation - self.window and client not in self._table

    def admit(self, client: int, generation: int) -> Session | None:
        """The session of a client, to execute a batch that names this generation; None if it may have ended.

        It begins with its first command here. A generation that is still to come no client can have been told.
        """
        if client not in self._table and not self.generation - self.window <= generation <= self.generation:
            return None
        session = self.open(client)
        session.last = self.generation
        return session

    def claim(self, heads: Heads, start: int) -> int:
        """Admit batches from `start` on and mark their numbers as executed, as long as none is known.

        Returns the position of the first that is not to be executed as it is: its session may have ended, or it holds a
        duplicate. A thousand batches of one command take 0.6 ms; one by one, with a result kept for each, 6.
        """
        clients = heads.clients[start:] if start else heads.clients
        if self._frozen and not self._frozen.isdisjoint(clients):
            for client in clients:
                self._capture(client)
        table, generation = self._table, self.generation
        oldest = generation - self.window
        position = start
        rest = zip(*(column[start:] for column in heads), strict=True) if start else zip(*heads, strict=True)
        for client, born, first, acked, count in rest:
            session = table.get(client)
            if session is None:
                if not oldest <= born <= generation:
                    break
                session = table[client] = Session()
            executed = session.executed
            if executed and executed[-1] == first:
                executed[-1] = first + count
            elif not session.claim(first, first + count):
                break
            session.last = generation
            if acked > session.acked:
                session.acknowledge(acked)
                if session.weight != session.settled:
                    self._weigh(client, session)
            position += 1
        self._changed.update(heads.clients[start:position])
        return position

    def done(self, heads: Heads, start: int, stop: int) -> None:
        """Keep of claimed batches that all their commands came to DONE."""
        table = self._table
        for client, first, count in zip(
            heads.clients[start:stop], heads.firsts[start:stop], heads.counts[start:stop], strict=True
        ):
            session = table[client]
            done = session.done
            if done and done[-1] == first:
                done[-1] = first + count
            elif first + count > session.acked:
                if done:
                    intervals.add(done, first, first + count)
                else:
                    session.done = [first, first + count]

    def open(self, client: int) -> Session:
        """The session of a client, to change it."""
        self._capture(client)
        self._changed.add(client)
        session = self._table.get(client)
        if session is None:
            session = self._table[client] = Session()
        return session

    def settle(self, client: int, session: Session) -> None:
        """Take account of a session that has changed, and let go of results beyond the budget."""
        if session.weight > self.budget.session:
            session.forget(self.budget.session)
        self._weigh(client, session)
        while self.weight > self.budget.total:
            heaviest = next(iter(self._levels[max(self._levels)]))
            victim = self.open(heaviest)
            if len(victim.kept) > 1:
                victim.forget(victim.weight // 2)
            else:
                victim.kept, victim.weight = [], 0
            self._weigh(heaviest, victim)

    def _weigh(self, client: int, session: Session) -> None:
        before, after = session.settled, session.weight
        session.settled = after
        self.weight += after - before
        level, wanted = before.bit_length(), after.bit_length()
        if level == wanted:
            return
        if level:
            del self._levels[level][client]
            if not self._levels[level]:
                del self._levels[level]
        if wanted:
            self._levels.setdefault(wanted, {})[client] = None

    def _capture(self, client: int) -> None:
        """Before a session changes: a checkpoint that is being written gets it as it was at the cut."""
        if client in self._frozen:
            self._frozen.remove(client)
            self._captured.append(self._export(client))

    def collect(self, generation: int) -> None:
        """Execute a collection, the one after `generation` others; if another one came first it has been done."""
        if generation == self.generation:
            self._advance(generation + 1)

    def _advance(self, generation: int) -> None:
        self.generation = generation
        oldest = generation - self.window
        for client in [client for client, session in self._table.items() if session.last < oldest]:
            self._capture(client)
            self._changed.add(client)
            session = self._table.pop(client)
            session.weight = 0
            self._weigh(client, session)

    def executed(self) -> dict[int, tuple[int, ...]]:
        """A copy of the executed numbers of every client, as bounds of intervals."""
        return {client: tuple(session.executed) for client, session in self._table.items()}

    def freeze(self) -> None:
        """Begin to take the sessions that changed since the last call; those of then must have been taken."""
        if self._frozen or self._captured:
            raise InvariantError("sessions were frozen before those frozen earlier had been taken")
        self._frozen, self._changed = self._changed, set()
        self._frozen_all = frozenset(self._frozen)

    def thaw(self) -> None:
        """Those frozen last have not been written: they are among the changed ones again."""
        self._changed |= self._frozen_all
        self._frozen.clear()
        self._captured.clear()

    def take(self, most: int) -> list[list[object]]:
        """Some of the frozen sessions, as they were then, as rows for `load`; none when all are taken.

        A row is [client, acked, bounds of executed intervals, and of those done, [[first, outcomes, values], …], last],
        of values that msgpack encodes; of one that has ended it is [client].
        """
        rows, self._captured = self._captured, []
        while self._frozen and len(rows) < most:
            rows.append(self._export(self._frozen.pop()))
        return rows

    def _export(self, client: int) -> list[object]:
        session = self._table.get(client)
        if session is None:
            return [client]
        kept = [[*result[1:]] for result in session.kept]
        return [client, session.acked, session.executed.copy(), session.done.copy(), kept, session.last]

    @classmethod
    def load(
        cls,
        exported: object,
        budget: Budget = _DEFAULT_BUDGET,
        generation: int = 0,
        window: int = WINDOW,
    ) -> Sessions:
        """The table whose rows `take` gave, after any trip through msgpack.

        Raises:
            FrameError: the values are no such table.
        """
        if type(exported) is not list:
            raise FrameError("malformed", "not a table of sessions")
        sessions = cls(budget, window)
        sessions.generation = generation
        for row in exported:
            client, session = _load_row(row)
            if client in sessions._table:
                raise FrameError("malformed", f"not a table of sessions: client {client} has two rows")
            sessions._table[client] = session
            sessions.settle(client, session)
        return sessions

    def merge(self, other: Sessions) -> None:
        """Add what another table knows: the union of executed numbers and of kept results.

        What has ended in either has ended: that comes first, so that nothing is added to a session of another life.
        A result that both keep stays as it is here. `other` must not be used after this.
        """
        self._advance(max(other.generation, self.generation))
        for client, theirs in other._table.items():
            if theirs.last >= self.generation - self.window:
                ours = self.open(client)
                _merge_session(ours, theirs)
                self.settle(client, ours)


def weigh_value(value: object) -> int:
    """The length of a result as msgpack, at most."""
    if isinstance(value, bytes):
        return len(value) + 5
    if isinstance(value, list):
        return 5 + sum(map(weigh_value, value))
    return 9


def weigh_values(values: list[Value]) -> int:
    """The length of some results as msgpack, at most; by whole columns where they are alike."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return 9 * len(values)
    if kinds <= _STRINGS:
        return 5 * len(values) + sum(map(len, filter(None, values)))  # type: ignore[arg-type]  # all bytes
    return sum(map(weigh_value, values))


def _weigh(result: BatchResult) -> int:
    return _HEAD + len(result.outcomes) + (0 if result.values is None else weigh_values(result.values))


def as_column(values: list[Value]) -> list[Value] | None:
    """A reply's column of values: None where all values are None."""
    return None if all(value is None for value in values) else values


def _part(result: BatchResult, first: int, end: int) -> BatchResult:
    """The results of the numbers from `first` up to, not including, `end`, all of which `result` holds."""
    place = slice(first - result.first, end - result.first)
    values = None if result.values is None else result.values[place]
    return BatchResult(result.client, first, result.outcomes[place], values)


def _merge_session(ours: Session, theirs: Session) -> None:
    ours.last = max(ours.last, theirs.last)
    for first, end in intervals.pairs(theirs.executed):
        intervals.add(ours.executed, first, end)
    for first, end in intervals.pairs(theirs.done):
        intervals.add(ours.done, first, end)
    covered: list[int] = []
    for result in ours.kept:
        intervals.add(covered, result.first, result.end)
    for result in theirs.kept:
        for first, end in intervals.missing(covered, result.first, result.end):
            ours.keep(_part(result, first, end))
    ours.acknowledge(theirs.acked)


def _load_row(row: object) -> tuple[int, Session]:
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
