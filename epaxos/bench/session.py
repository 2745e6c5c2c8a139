"""One client of the load generator: its request numbers, its window and its frames under way.

It keeps the rules of the client protocol that make a retry safe: numbers are consecutive and never used for
another command, a frame that is sent again is the same bytes, and `acked` stays at or below everything
that is not yet answered.
"""

from __future__ import annotations

import secrets
from typing import Final

from epaxos.bench.workload import Columns, Stream
from epaxos.statemachine.batch import encode_batch
from epaxos.transport.framing import Kind, seal

_READS: Final = 2**62
"""The first number of reads that are none of the log: they must leave no gaps in the numbers of commands."""

_FIRST_PAUSE: Final = 2_000_000
_LONGEST_PAUSE: Final = 100_000_000


class Flight:
    """A frame of `count` commands under way.

    Times are in nanoseconds: the first command was `due` then and the others `spacing` apart; the frame
    was first `sent` then; at `deadline` this try is over. `pauses` counts how often it was turned away by
    busy replicas, `tries` how often it was sent for want of an answer. It counts for the replica of index `home`.
    """

    __slots__ = (
        "columns",
        "count",
        "deadline",
        "due",
        "first",
        "frame",
        "home",
        "link",
        "measured",
        "pauses",
        "sent",
        "session",
        "spacing",
        "tries",
    )

    def __init__(self, session: Session, first: int, columns: Columns, frame: bytes, sent: int) -> None:
        self.session = session
        self.first = first
        self.columns = columns
        self.count = len(columns.keys)
        self.frame = frame
        self.sent = sent
        self.link = session.link
        self.home = session.home
        self.due = sent
        self.spacing = 0
        self.measured = True
        self.deadline = 0
        self.pauses = 0
        self.tries = 1

    def pause(self) -> int:
        """How long to wait before the next try after one more busy answer (ns)."""
        self.pauses += 1
        return min(_FIRST_PAUSE << min(self.pauses - 1, 16), _LONGEST_PAUSE)


class Session:
    """A client: one session of the client protocol, with at most `window` commands outstanding.

    `link` is the index of the replica that it talks to at present, `home` of the one it was given to.
    With a `reach`, commands outstanding stay within so many consecutive numbers of its stream, so that a
    private key, which comes back after that many, never has two commands outstanding. `generation` is what replicas
    tell of that (`statemachine.sessions`).
    """

    __slots__ = (
        "_cluster",
        "_generation",
        "_next",
        "_next_read",
        "_reach",
        "_stream",
        "_window",
        "flights",
        "home",
        "id",
        "link",
        "outstanding",
    )

    def __init__(
        self,
        stream: Stream,
        home: int,
        window: int,
        cluster: int,
        reach: int | None = None,
        generation: int = 0,
    ) -> None:
        self._generation = generation
        self.id = 1 + secrets.randbelow(2**64 - 1)
        self.home = self.link = home
        self.outstanding = 0
        self.flights: dict[int, Flight] = {}
        self._stream = stream
        self._window = window
        self._cluster = cluster
        self._reach = reach
        self._next = 1
        self._next_read = _READS

    @property
    def index(self) -> int:
        """Which of the workload's clients this is."""
        return self._stream.client

    @property
    def room(self) -> int:
        """How many commands may be sent now."""
        room = self._window - self.outstanding
        if self._reach is None or not self.flights:
            return room
        oldest = next(iter(self.flights.values()))
        return min(room, self._reach - (self._stream.taken - oldest.columns.start))

    def take_off(self, count: int, now: int) -> Flight:
        """Make a frame of the next `count` commands of the stream."""
        columns = self._stream.take(count)
        first = self._next_read if columns.reading else self._next
        # Numbers ascend in the log; those of reads by no log lie above all of them.
        acked = next((number for number in self.flights if number < _READS), first)
        arguments = [columns.reading] * count if columns.reading else columns.arguments
        batch = encode_batch(
            self.id, first, acked, columns.operations, columns.keys, arguments, self._generation
        )
        flight = Flight(self, first, columns, seal(Kind.REQUEST, self._cluster, batch), now)
        self.flights[first] = flight
        self.outstanding += count
        if columns.reading:
            self._next_read += count
        else:
            self._next += count
        return flight

    def land(self, first: int) -> Flight | None:
        """The frame that begins with that number is over; None if it was over already."""
        flight = self.flights.pop(first, None)
        if flight is not None:
            self.outstanding -= flight.count
        return flight
