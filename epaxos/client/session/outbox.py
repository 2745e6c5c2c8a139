"""What waits to be sent, and the frames it goes out in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from math import inf
from typing import Final, Generic, NamedTuple, TypeAlias

from epaxos import version
from epaxos.client.options import Options
from epaxos.client.session.alarms import Alarms
from epaxos.client.session.questions import Question, Questions
from epaxos.client.session.routes import Routes
from epaxos.client.session.tickets import Flight, Ledger, Rest, Ticket, Uncopied, Waiter
from epaxos.statemachine.batch import encode_batch
from epaxos.statemachine.columns import Argument
from epaxos.transport.framing import Kind, seal

WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Bytes under way that let no further frame leave: more would only wait in the sockets of slow links."""

Cargo: TypeAlias = "Flight[Waiter] | Question[Waiter]"
Watched: TypeAlias = "Flight[Waiter] | Rest[Waiter] | Ticket[Waiter] | Question[Waiter]"


class Name(NamedTuple):
    """Under which a session is known to replicas: its id, and the generation in which it began."""

    client: int
    generation: int


class Outgoing(NamedTuple, Generic[Waiter]):
    """A frame to be sent to a replica; `cargo` says what it carries, for `Outbox.unsent`."""

    replica: int
    frame: bytes
    cargo: Cargo[Waiter]


class Outbox(Uncopied, Generic[Waiter]):
    """The tickets and questions of a session that wait to be sent.

    Tickets leave only while `name` is known: the session's id, and the generation in which it began. Their frames are
    of the `level` that the cluster was at by then, or of the newest that is known here. New tickets and those to be
    sent again queue apart: numbers that follow one another stay together.
    """

    __slots__ = (
        "_again",
        "_alarms",
        "_cluster",
        "_fresh",
        "_full_frame",
        "_ledger",
        "_max_batch",
        "_questions",
        "_routes",
        "_tries",
        "_window",
        "level",
        "name",
    )

    def __init__(
        self,
        options: Options,
        routes: Routes,
        ledger: Ledger[Waiter],
        questions: Questions[Waiter],
        alarms: Alarms[Watched[Waiter]],
    ) -> None:
        self.name: Name | None = None
        self.level = version.OLDEST
        self._cluster = options.cluster
        self._max_batch = options.max_batch
        self._full_frame = options.full_frame
        self._tries = options.tries
        self._window = options.window
        self._routes = routes
        self._ledger = ledger
        self._questions = questions
        self._alarms = alarms
        self._fresh: deque[Ticket[Waiter]] = deque()
        self._again: deque[Ticket[Waiter]] = deque()

    def add(self, ticket: Ticket[Waiter]) -> None:
        """Queue a new ticket; those before it have lower numbers."""
        self._fresh.append(ticket)

    def add_again(self, ticket: Ticket[Waiter]) -> None:
        """Queue a ticket that is not under way; out of tries, it only waits for a late answer."""
        self.watch(ticket)
        if len(ticket.tries) < self._tries:
            self._again.append(ticket)

    def watch(self, ticket: Ticket[Waiter]) -> None:
        """Have an alarm for the deadline of a ticket that no flight looks after."""
        if not ticket.armed:
            ticket.armed = True
            self._alarms.set(ticket.deadline, ticket)

    def frames(self, now: float) -> list[Outgoing[Waiter]]:
        """Make frames of all that can be sent now."""
        self._routes.retry_at = inf
        sends: list[Outgoing[Waiter]] = []
        if self._questions.waiting:
            sends += [Outgoing(*send) for send in self._questions.outgoing(now)]
        if self._again and self.name is not None:
            self._launch_again(now, sends)
        if self._fresh:
            self._launch_fresh(now, sends)
        return sends

    def _launch_fresh(self, now: float, sends: list[Outgoing[Waiter]]) -> None:
        fresh = self._fresh
        while fresh and fresh[0].settled:
            fresh.popleft()  # given up without ever having been sent
        if not fresh:
            return
        replica = None if self.name is None else self._routes.choose((), now)
        while replica is not None and fresh and not self._crowded():
            run = take_run(fresh, self._max_batch, self._full_frame)
            if run:
                sends.append(self._launch(replica, run, now))
        for ticket in reversed(fresh):
            if ticket.armed:
                break  # and so are all before it, for only the end of this queue grows
            self.watch(ticket)

    def _launch_again(self, now: float, sends: list[Outgoing[Waiter]]) -> None:
        again = self._again
        held: list[Ticket[Waiter]] = []
        while again and not self._crowded():
            run = take_run(again, self._max_batch, self._full_frame)
            if not run:
                continue
            replica = self._routes.choose(run[0].tried, now)
            if replica is None:
                held += run
            else:
                sends.append(self._launch(replica, run, now))
        again.extendleft(reversed(held))

    def _crowded(self) -> bool:
        """Whether as much is under way as may be: in frames, or in bytes, where one frame always may."""
        return len(self._ledger.flights) >= self._window or self._ledger.weight >= WINDOW_BYTES

    def _launch(self, replica: int, run: list[Ticket[Waiter]], now: float) -> Outgoing[Waiter]:
        assert self.name is not None
        flight = Flight(replica, run)
        until = inf
        for ticket in run:
            shares = self._tries - len(ticket.tries)
            # What is sent late, as the last parts of a bulk, would be taken for silent before it can be answered.
            share = max((ticket.deadline - now) / shares, ticket.timeout / self._tries)
            ticket.try_until = min(now + share, ticket.deadline)
            until = min(until, ticket.try_until)
            ticket.flight = flight
            ticket.tries += (replica,)
            ticket.tried += (replica,)
        self._ledger.launch(flight)
        self._alarms.set(until, flight)
        self._routes.sent(replica)
        return Outgoing(
            replica, frame_of(run, self.name, self._ledger.acked, self._cluster, self.level), flight
        )

    def unsent(self, outgoing: Outgoing[Waiter]) -> None:
        """The socket did not take a frame: it has certainly not left, and this connection takes no more."""
        replica, _, cargo = outgoing
        self._routes.fall(replica)
        self._routes.unsent(replica)
        if isinstance(cargo, Question):
            self._questions.ask_again(cargo)
            return
        for ticket in cargo.remaining():
            self._ledger.leave(ticket)
            ticket.tries = ticket.tries[:-1]
            ticket.tried = ticket.tried[:-1]
            self.add_again(ticket)

    def lost(self, replica: int) -> int:
        """A connection is gone: what was under way over it goes elsewhere; returns how many commands that are."""
        self._routes.fall(replica)
        commands = self.forsake(replica)
        for question in self._questions.under_way(replica):
            self._questions.ask_again(question)
        return commands

    def forsake(self, replica: int) -> int:
        """What is under way at a replica, and may have executed, goes elsewhere; returns how many commands that are."""
        commands = 0
        for flight in self._ledger.flights_to(replica):
            for ticket in flight.remaining():
                self._ledger.leave(ticket)
                self.add_again(ticket)
                commands += ticket.count
        return commands


def take_run(queue: deque[Ticket[Waiter]], max_batch: int, max_weight: int) -> list[Ticket[Waiter]]:
    """Take from the front of `queue` the tickets that can share a frame.

    Their numbers must follow one another, and what is known of earlier tries must be the same; the first is
    taken whatever its size. Tickets that are over or under way by now are dropped.
    """
    run: list[Ticket[Waiter]] = []
    count = weight = expected = 0
    tried: tuple[int, ...] = ()
    while queue:
        ticket = queue[0]
        if ticket.settled or ticket.flight is not None:
            queue.popleft()
            continue
        count += ticket.count
        weight += ticket.weight
        if run and (
            ticket.first != expected
            or ticket.sealed is not None
            or ticket.tried != tried
            or count > max_batch
            or weight > max_weight
        ):
            break
        run.append(queue.popleft())
        if ticket.sealed is not None:
            break
        expected = ticket.end
        tried = ticket.tried
    return run


def frame_of(
    tickets: Sequence[Ticket[Waiter]], name: Name, acked: int, cluster: int, level: int = version.OLDEST
) -> bytes:
    """The REQUEST frame of tickets whose numbers follow one another."""
    ticket = tickets[0]
    if ticket.sealed is not None:
        return ticket.sealed
    batch = encode_batch(name.client, ticket.first, acked, *_columns(tickets), name.generation)
    return seal(Kind.REQUEST, cluster, batch, level)


def _columns(
    tickets: Sequence[Ticket[Waiter]],
) -> tuple[bytes, Sequence[bytes], Sequence[Argument] | None]:
    if len(tickets) == 1:
        return tickets[0].operations, tickets[0].keys, tickets[0].arguments
    operations = b"".join([ticket.operations for ticket in tickets])
    keys = list(chain.from_iterable([ticket.keys for ticket in tickets]))
    if all(ticket.arguments is None for ticket in tickets):
        return operations, keys, None
    columns = [(None,) * ticket.count if ticket.arguments is None else ticket.arguments for ticket in tickets]
    return operations, keys, list(chain.from_iterable(columns))
