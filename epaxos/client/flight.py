"""Frames under way, and how submissions become frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Generic

from epaxos.client.ticket import Ticket, Waiter
from epaxos.statemachine.batch import Argument, encode_batch
from epaxos.transport.framing import Kind, seal


class Flight(Generic[Waiter]):
    """A frame under way to `replica`.

    `tickets` are the submissions it was made of; `missing` counts those for which it is still waiting. A
    ticket belongs to it as long as `ticket.flight` says so: late answers to an earlier frame, deadlines and
    callers who give up take tickets out of the middle.
    """

    __slots__ = ("missing", "replica", "tickets")

    def __init__(self, replica: int, tickets: Sequence[Ticket[Waiter]]) -> None:
        self.replica = replica
        self.tickets = tickets
        self.missing = len(tickets)

    @property
    def settled(self) -> bool:
        """Whether it is waiting for nothing any more."""
        return not self.missing

    def remaining(self) -> list[Ticket[Waiter]]:
        """The tickets for which it is still waiting."""
        return [ticket for ticket in self.tickets if ticket.flight is self]


class Rest(Generic[Waiter]):
    """Tickets that a busy replica turned away and that wait before they are sent again."""

    __slots__ = ("tickets",)

    def __init__(self, tickets: Sequence[Ticket[Waiter]]) -> None:
        self.tickets = tickets

    @property
    def settled(self) -> bool:
        """Whether none of them is waiting for this any more."""
        return not self.remaining()

    def remaining(self) -> list[Ticket[Waiter]]:
        """Those that have neither ended nor left again meanwhile."""
        return [ticket for ticket in self.tickets if not ticket.settled and ticket.flight is None]


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


def frame_of(tickets: Sequence[Ticket[Waiter]], client: int, acked: int, cluster: int) -> bytes:
    """The REQUEST frame of tickets whose numbers follow one another."""
    ticket = tickets[0]
    if ticket.sealed is not None:
        return ticket.sealed
    return seal(Kind.REQUEST, cluster, encode_batch(client, ticket.first, acked, *_columns(tickets)))


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
