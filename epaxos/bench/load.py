"""The load generator: one thread, one loop over all clients, and work per frame instead of per command.

Each turn of the loop sends what is due, sleeps until something arrives, and takes what has arrived. Once in a
while it looks for frames whose time is up. Generating load costs CPU that the replicas on the same machine
do not get, so whatever can be done for a whole frame is: one encoding, one checksum, one histogram entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from time import perf_counter_ns, process_time, time
from typing import Any, Final

import msgpack

from epaxos.bench.links import Links
from epaxos.bench.options import BenchOptions
from epaxos.bench.pace import Budget, Pace, Scheduled, Windowed
from epaxos.bench.results import Measured, Tally
from epaxos.bench.series import Series
from epaxos.bench.session import Flight, Session
from epaxos.bench.verify import Answered, History, wrong_outcomes
from epaxos.bench.workload import Alternating, Stream, Workload
from epaxos.client.session.answers import read_replies, read_taken
from epaxos.errors import FrameError
from epaxos.statemachine.operations import Outcome
from epaxos.transport.framing import Frame, Kind

_SECOND: Final = 1_000_000_000
_LONGEST_TICK: Final = _SECOND // 10
_BETWEEN_INTERLUDES: Final = _SECOND // 2
_REMARKS: Final = 5
_REST: Final[dict[int, int]] = {Kind.BUSY: 1, Kind.AWAY: 2, Kind.OVER: 2, Kind.REFUSED: 3}
"""How many fields an answer has after the client and the first number."""

_FINE: Final = bytes((Outcome.DONE, Outcome.NOT_FOUND))
_SMALLEST_CHUNK: Final = 64

Progress = Callable[[float, int], None]
"""Called some times a second with the share of the load that is done (0 to 1) and the commands answered."""


class Load:
    """One run of load over links to replicas; `run` returns when all of it is answered or given up.

    Clients are given to the links in turn, and what they read at observers to the links of those. With a `history`,
    every frame is recorded there for the check afterwards. `stop()`, also from a signal handler, ends the run with what
    has been measured so far.

    An `interlude` is called at the beginning, at the end and twice a second in between, while nothing is
    outstanding; its time and CPU do not count.
    """

    def __init__(
        self,
        options: BenchOptions,
        links: Links,
        workload: Workload,
        history: History | None = None,
        progress: Progress | None = None,
        interlude: Callable[[], None] | None = None,
        generation: int = 0,
    ) -> None:
        self._generation = generation
        self._options = options
        self._links = links
        self._voters = links.voters
        self._observers = len(links.names) - links.voters
        self._history = history
        self._progress = progress
        self._interlude = interlude
        self._absence = 0
        self._absence_cpu = 0.0
        self._stopped = False
        self._tallies = [Tally() for _ in links.names]
        self._series = Series(round(options.series * _SECOND), links.names) if options.series else None
        self._remarks: list[str] = []
        self._timeout = round(options.timeout * _SECOND)
        self._try = self._timeout // options.tries
        self._tick_every = min(_LONGEST_TICK, self._try // 4)
        self._paused: list[tuple[int, int, Flight]] = []
        self._order = count()  # so that frames with one time need not be compared
        self._sessions = self._make_sessions(workload)
        self._by_id = {session.id: session for session in self._sessions}
        self._sent = 0
        self._outstanding = 0
        self._answered = 0
        self._last_answer = 0
        self._next_tick = 0
        self._begun = self._next_interlude = self._now()
        self._pace = self._make_pace()
        self._budget = Budget(options.warmup, options.stop, self._begun)

    def _make_sessions(self, workload: Workload) -> list[Session]:
        options = self._options
        reach = workload.share if self._history is not None and options.zipf is None else None
        chunk = max(_SMALLEST_CHUNK, min(4 * options.window, 4096))
        return [
            Session(
                (Alternating if workload.reading else Stream)(workload, client, chunk),
                client % self._voters,
                options.window,
                self._links.cluster,
                reach,
                self._generation,
            )
            for client in range(options.clients)
        ]

    def _make_pace(self) -> Pace:
        rate = self._options.rate
        if rate is None:
            return Windowed(self._sessions)
        return Scheduled(self._sessions, rate, self._begun)

    def stop(self) -> None:
        """End the run at the next turn of its loop."""
        self._stopped = True

    def run(self) -> Measured:
        """Send everything, wait for the answers, and tell what was measured."""
        cpu = process_time()
        self._last_answer = self._begun
        self._next_tick = self._begun + self._tick_every
        while not self._stopped:
            now = self._now()
            if self._interlude is None or now < self._next_interlude:
                self._issue(now)
            elif not self._outstanding:
                self._play(self._interlude, now)
                continue
            if not self._outstanding and self._budget.is_over(now):
                break
            self._links.wait((self._next_event() - self._now()) / _SECOND)
            self._receive()
            self._send_paused()
            if self._now() >= self._next_tick:
                self._tick()
        self._abandon()
        if self._interlude is not None and not self._stopped:
            self._play(self._interlude, self._now())
        started, end = self._budget.started, self._budget.end()
        return Measured(
            dict(zip(self._links.names, self._tallies, strict=True)),
            0.0 if started is None else max(0, self._last_answer - started) / _SECOND,
            process_time() - cpu - self._absence_cpu,
            self._sent,
            0 if end is None else self._pace.unsent(min(end, self._now())),
            self._remarks,
            self._stopped,
            self._over_time(started),
        )

    def _over_time(self, started: int | None) -> dict[str, Any] | None:
        if self._series is None or started is None:
            return None
        age = self._now() - started
        return self._series.as_json(time() - age / _SECOND, age)

    def _now(self) -> int:
        """The time (ns) on a clock that stands still during interludes."""
        return perf_counter_ns() - self._absence

    def _play(self, interlude: Callable[[], None], now: int) -> None:
        self._next_interlude = now + _BETWEEN_INTERLUDES
        begun, cpu = perf_counter_ns(), process_time()
        interlude()
        self._absence += perf_counter_ns() - begun
        self._absence_cpu += process_time() - cpu

    def _issue(self, now: int) -> None:
        """Send what is due, a frame of each session at a time, so that none takes all that is left to do."""
        pace, frame = self._pace, self._options.frame
        turns = deque(pace.ready(now))
        while turns:
            session = turns.popleft()
            due = pace.due(session, now)
            if due.commands <= 0:
                pace.rest(session)
                continue
            granted, measured = self._budget.grant(min(due.commands, frame), now)
            if not granted:
                return
            pace.took(session, granted)
            flight = session.take_off(granted, now)
            flight.due, flight.spacing, flight.measured = due.first, due.spacing, measured
            if flight.columns.reading and self._observers:
                flight.link = flight.home = self._voters + session.index % self._observers
            self._outstanding += granted
            self._sent += granted
            self._send(flight, now)
            turns.append(session)

    def _send(self, flight: Flight, now: int) -> None:
        flight.deadline = now + self._try
        self._links.send(flight.link, flight.frame, flight.session.index // self._voters)

    def _next_event(self) -> int:
        event = self._next_tick
        due = self._pace.next_due()
        if due is not None and due < event and not self._budget.is_over(due):
            event = due
        if self._paused and self._paused[0][0] < event:
            event = self._paused[0][0]
        return event

    def _receive(self) -> None:
        for received in self._links.receive():
            frame = received.frame
            if frame is None or not self._take(received.link, frame):
                self._tallies[received.link].errors["frame"] += 1

    def _take(self, link: int, frame: Frame[bytes]) -> bool:
        """Take an answer; False if it has the wrong shape."""
        if frame.kind == Kind.MEMBERS:
            return self._follow(link, frame.body)
        if frame.kind == Kind.STATUS_REPLY:
            return True  # an answer to a question asked twice
        if frame.kind == Kind.REPLY:
            return self._take_replies(frame.body)
        if frame.kind == Kind.TAKEN:
            return self._wait_on(frame.body)
        try:
            client, first, *rest = msgpack.unpackb(frame.body)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            return False
        if not type(client) is type(first) is int or len(rest) != _REST.get(frame.kind):
            return False
        session = self._by_id.get(client)
        flight = session.flights.get(first) if session is not None else None
        if flight is None:
            return self._take_stray(frame.kind, rest)
        if frame.kind in (Kind.BUSY, Kind.AWAY):
            self._take_busy(flight)
        elif frame.kind == Kind.OVER:
            self._remark("the session had ended")
            self._fail(flight, "refused")
        else:
            self._remark(rest[-1])
            self._fail(flight, "refused")
        return True

    def _take_stray(self, kind: int, rest: list[Any]) -> bool:
        """Take an answer to nothing: to a frame sent twice, or a refusal of bytes nobody can name."""
        if kind == Kind.REFUSED:
            self._remark(rest[-1])
        return True

    def _take_replies(self, body: bytes) -> bool:
        try:
            replies = read_replies(body)
        except FrameError:
            return False
        now = self._now()
        fine = True
        for client, first, outcomes, values in replies:
            session = self._by_id.get(client)
            flight = session.flights.get(first) if session is not None else None
            if flight is not None:  # else an answer to a frame sent twice
                fine = self._take_reply(flight, outcomes, values, now) and fine
        return fine

    def _follow(self, link: int, body: bytes) -> bool:
        with suppress(FrameError):
            self._links.follow(link, body)
            return True
        return False

    def _wait_on(self, body: bytes) -> bool:
        """Frames are under way where they were sent: their tries go on, but for the last share of their time."""
        try:
            taken = read_taken(body)
        except FrameError:
            return False
        now = self._now()
        for client, first, _ in taken:
            session = self._by_id.get(client)
            flight = session.flights.get(first) if session is not None else None
            if flight is not None:
                last = flight.sent + self._timeout - self._try
                flight.deadline = max(flight.deadline, min(now + self._try, last))
        return True

    def _take_reply(self, flight: Flight, outcomes: bytes, values: list[Any] | None, now: int) -> bool:
        size = flight.count
        if len(outcomes) != size:
            return False
        self._land(flight)
        wrong = self._wrong(flight, outcomes, values, now)
        tally = self._tallies[flight.home]
        if wrong:
            tally.errors["outcome"] += wrong
        if flight.measured:
            self._last_answer = now
            self._answered += size
            tally.operations += size - wrong
            self._record(tally, flight, now)
        return True

    def _wrong(self, flight: Flight, outcomes: bytes, values: list[Any] | None, now: int) -> int:
        """How many commands of an answered frame did not end as they may."""
        if self._history is None:
            return len(outcomes.translate(None, _FINE))
        self._history.answered(Answered(flight.session.index, flight.columns, values, flight.sent, now))
        return wrong_outcomes(flight.columns, outcomes, values)

    def _record(self, tally: Tally, flight: Flight, now: int) -> None:
        if self._series is not None:
            assert self._budget.started is not None
            name, since = self._links.names[flight.home], now - self._budget.started
            self._series.record(name, since, now - flight.due, flight.spacing, flight.count)
        record = tally.latencies.record
        if not flight.spacing:
            record(now - flight.due, flight.count)
            return
        for due in range(flight.due, flight.due + flight.count * flight.spacing, flight.spacing):
            record(now - due)

    def _land(self, flight: Flight) -> None:
        session = flight.session
        session.land(flight.first)
        self._outstanding -= flight.count
        self._pace.freed(session)

    def _fail(self, flight: Flight, kind: str) -> None:
        """Give a frame up: all of its commands are errors of that kind."""
        self._tallies[flight.home].errors[kind] += flight.count
        if self._history is not None and kind != "refused":
            self._history.unanswered(flight.columns)
        self._land(flight)

    def _take_busy(self, flight: Flight) -> None:
        now = self._now()
        self._tallies[flight.home].busy += flight.count
        if now - flight.sent > self._timeout:
            self._fail(flight, "busy")
            return
        again = now + flight.pause()
        flight.deadline = again + self._try
        heappush(self._paused, (again, next(self._order), flight))

    def _send_paused(self) -> None:
        now = self._now()
        while self._paused and self._paused[0][0] <= now:
            flight = heappop(self._paused)[2]
            if flight.first in flight.session.flights:
                self._send(flight, now)

    def _tick(self) -> None:
        now = self._now()
        self._next_tick = now + self._tick_every
        for session in self._sessions:
            for flight in list(session.flights.values()):
                if flight.deadline <= now:
                    self._try_again(flight, now)
        if self._progress is not None:
            self._progress(self._budget.share_done(self._answered, now), self._answered)

    def _try_again(self, flight: Flight, now: int) -> None:
        """Send a frame without answer to the next replica that votes, where its client now stays; or give it up."""
        if flight.tries >= self._options.tries:
            self._fail(flight, "no_answer")
            return
        session = flight.session
        if session.link == flight.link:
            session.link = (flight.link + 1) % self._voters
        flight.link = session.link
        flight.tries += 1
        self._tallies[flight.home].retries += flight.count
        self._send(flight, now)

    def _abandon(self) -> None:
        """Note what was still under way when the run was stopped."""
        if self._history is not None:
            for session in self._sessions:
                for flight in session.flights.values():
                    self._history.unanswered(flight.columns)

    def _remark(self, text: object) -> None:
        if len(self._remarks) < _REMARKS and str(text) not in self._remarks:
            self._remarks.append(str(text))
