"""When commands are due: as soon as a window has room, or by a schedule; and how many there are in all."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from epaxos.bench.options import Amount
from epaxos.bench.session import Session

_SECOND = 1_000_000_000


class Due(NamedTuple):
    """Commands that are due: how many (none if not above 0), since when, and the time between two (ns)."""

    commands: int
    first: int
    spacing: int


class Pace(Protocol):
    """What the load loop asks: `ready`; of each session `due` and `took` until nothing is due; `rest`."""

    def ready(self, now: int) -> Iterable[Session]:
        """The sessions that may have commands due now."""

    def due(self, session: Session, now: int) -> Due:
        """What a session may send now, within its window."""

    def took(self, session: Session, commands: int) -> None:
        """So many of the session's commands that were due are sent."""

    def rest(self, session: Session) -> None:
        """The session has nothing left that it can send now."""

    def freed(self, session: Session) -> None:
        """The session's window has room again."""

    def next_due(self) -> int | None:
        """When a command will be due without any answer coming in (ns); None if none will."""

    def unsent(self, until: int) -> int:
        """How many commands were due before that time (ns) and are not sent."""


class Windowed:
    """A command is due the moment the window has room for it."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        self._ready = dict.fromkeys(sessions)

    def ready(self, now: int) -> Iterable[Session]:  # noqa: ARG002  the window alone decides
        """See `Pace`."""
        ready, self._ready = self._ready, {}
        return ready

    def due(self, session: Session, now: int) -> Due:
        """See `Pace`."""
        return Due(session.room, now, 0)

    def took(self, session: Session, commands: int) -> None:
        """See `Pace`."""

    def rest(self, session: Session) -> None:
        """See `Pace`; the next answer makes the session ready again."""

    def freed(self, session: Session) -> None:
        """See `Pace`."""
        self._ready[session] = None

    def next_due(self) -> int | None:
        """See `Pace`."""
        return None

    def unsent(self, until: int) -> int:  # noqa: ARG002  nothing is due without room
        """See `Pace`."""
        return 0


class Scheduled:
    """A command is due at its time, whether or not earlier ones were answered.

    The `rate` in commands a second is shared out evenly over the sessions, which take turns. A session
    whose window is full sends late, and its commands' latency counts from when they were due.
    """

    def __init__(self, sessions: list[Session], rate: float, begin: int) -> None:
        self._spacing = max(1, round(_SECOND * len(sessions) / rate))
        turn = _SECOND / rate
        self._next = {session: begin + round(index * turn) for index, session in enumerate(sessions)}
        self._heap = [(due, index, session) for index, (session, due) in enumerate(self._next.items())]
        self._index = {session: index for index, session in enumerate(sessions)}
        self._full: set[Session] = set()
        heapify(self._heap)

    def ready(self, now: int) -> Iterable[Session]:
        """See `Pace`."""
        ready = []
        while self._heap and self._heap[0][0] <= now:
            ready.append(heappop(self._heap)[2])
        return ready

    def due(self, session: Session, now: int) -> Due:
        """See `Pace`."""
        first = self._next[session]
        commands = min(session.room, (now - first) // self._spacing + 1)
        return Due(commands, first, self._spacing)

    def took(self, session: Session, commands: int) -> None:
        """See `Pace`."""
        self._next[session] += commands * self._spacing

    def rest(self, session: Session) -> None:
        """See `Pace`."""
        if session.room > 0:
            heappush(self._heap, (self._next[session], self._index[session], session))
        else:
            self._full.add(session)

    def freed(self, session: Session) -> None:
        """See `Pace`."""
        if session in self._full:
            self._full.discard(session)
            self.rest(session)

    def next_due(self) -> int | None:
        """See `Pace`."""
        return self._heap[0][0] if self._heap else None

    def unsent(self, until: int) -> int:
        """See `Pace`."""
        return sum(max(0, -((due - until) // self._spacing)) for due in self._next.values())


class Grant(NamedTuple):
    """Leave to send so many commands, and whether they count in the result."""

    commands: int
    measured: bool


class Budget:
    """How many commands there are in all: first those of the warm-up, then those that are measured.

    `begin` is the time at which the warm-up begins (ns); `started` when the measured part did, or None.
    """

    def __init__(self, warmup: Amount, stop: Amount, begin: int) -> None:
        self.started: int | None = None
        self._warmup_left = warmup.operations or 0
        self._warmup_end = begin + _nanoseconds(warmup)
        self._stop = stop
        self._left = stop.operations

    def grant(self, wanted: int, now: int) -> Grant:
        """Leave for at most `wanted` commands; none means that it is over."""
        if self._warmup_left:
            count = min(wanted, self._warmup_left)
            self._warmup_left -= count
            return Grant(count, measured=False)
        if now < self._warmup_end:
            return Grant(wanted, measured=False)
        if self.started is None:
            self.started = now
        if self.is_over(now):
            return Grant(0, measured=True)
        if self._left is None:
            return Grant(wanted, measured=True)
        count = min(wanted, self._left)
        self._left -= count
        return Grant(count, measured=True)

    def end(self) -> int | None:
        """When the measured part ends (ns); None if it has not begun or is a number of commands."""
        if self.started is None or self._left is not None:
            return None
        return self.started + _nanoseconds(self._stop)

    def is_over(self, now: int) -> bool:
        """Whether no further command may be sent."""
        if self._left is not None:
            return not self._left
        return self.started is not None and now >= self.started + _nanoseconds(self._stop)

    def share_done(self, answered: int, now: int) -> float:
        """How much of the measured part is done, from 0 to 1, when so many of it were answered."""
        if self.started is None:
            return 0.0
        if self._stop.operations is not None:
            return min(1.0, answered / self._stop.operations)
        return min(1.0, (now - self.started) / max(1, _nanoseconds(self._stop)))


def _nanoseconds(amount: Amount) -> int:
    return round((amount.seconds or 0.0) * _SECOND)
