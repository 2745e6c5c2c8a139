"""Frames under way, and how submissions become frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, Generic

from epaxos.client.ticket import Ticket, Waiter
from epaxos.statemachine.batch import Argument, encode_batch
from epaxos.transport.framing import Kind, seal

FRAME_WEIGHT: Final = 1024 * 1024
"""Bytes at which a frame of several submissions is full: a larger one would cost no less per command."""


class Flight(Generic[Waiter]):
    """A frame under way to `replica`: the request numbers `first` to `first + count - 1`.

    `tickets` are the submissions it was made of; `missing` counts those for which it is still waiting. A
    ticket belongs to it as long as `ticket.flight` says so: late answers to an earlier frame, deadlines and
    callers who give up take tickets out of the middle.
    """

    __slots__ = ("count", "first", "missing", "replica", "tickets")

    def __init__(self, replica: int, tickets: Sequence[Ticket[Waiter]]) -> None:
        self.replica = replica
        self.tickets = tickets
        self.first = tickets[0].first
        self.count = tickets[-1].end - self.first
        self.missing = len(tickets)

    def remaining(self) -> list[Ticket[Waiter]]:
        """The tickets for which it is still waiting."""
        return [ticket for ticket in self.tickets if ticket.flight is self]


def run_end(tickets: Sequence[Ticket[Waiter]], start: int, max_batch: int, max_weight: int) -> int:
    """How far, from the one at `start`, tickets can share a frame; returns one past the last of them.

    Their numbers must follow one another, and what is known of earlier tries must be the same.
    """
    ticket = tickets[start]
    if ticket.sealed is not None:
        return start + 1
    tried = ticket.tried
    count, weight, expected = ticket.count, ticket.weight, ticket.end
    for index in range(start + 1, len(tickets)):
        ticket = tickets[index]
        count += ticket.count
        weight += ticket.weight
        if (
            ticket.first != expected
            or ticket.sealed is not None
            or ticket.tried != tried
            or count > max_batch
            or weight > max_weight
        ):
            return index
        expected = ticket.end
    return len(tickets)


def frame_of(tickets: Sequence[Ticket[Waiter]], client: int, acked: int, cluster: int) -> bytes:
    """The REQUEST frame of tickets whose numbers follow one another."""
    ticket = tickets[0]
    if ticket.sealed is not None:
        return ticket.sealed
    if len(tickets) == 1:
        columns = (ticket.operations, ticket.keys, ticket.arguments)
    else:
        columns = _joined(tickets)
    return seal(Kind.REQUEST, cluster, encode_batch(client, ticket.first, acked, *columns))


def _joined(
    tickets: Sequence[Ticket[Waiter]],
) -> tuple[bytes, list[bytes], list[Argument] | None]:
    operations = b"".join([ticket.operations for ticket in tickets])
    keys = list(chain.from_iterable([ticket.keys for ticket in tickets]))
    if all(ticket.arguments is None for ticket in tickets):
        return operations, keys, None
    columns = [(None,) * ticket.count if ticket.arguments is None else ticket.arguments for ticket in tickets]
    return operations, keys, list(chain.from_iterable(columns))
