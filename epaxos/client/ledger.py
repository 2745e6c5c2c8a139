"""The request numbers of a session: which are waiting for an answer, under way in which frame, over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from epaxos.client.flight import Flight
from epaxos.client.ticket import Ticket, Waiter
from epaxos.errors import ClientError
from epaxos.statemachine.batch import Argument


class Ledger(Generic[Waiter]):
    """The book of a session.

    next      the request number of the next command
    acked     every number below it is over
    waiting   the tickets without answer, by first number; a split ticket stands there as its pieces
    flights   the frames under way (an ordered set); a ticket is in one at most
    """

    __slots__ = ("_over", "acked", "flights", "next", "waiting")

    def __init__(self) -> None:
        self.next = 1
        self.acked = 1
        self.waiting: dict[int, Ticket[Waiter]] = {}
        self.flights: dict[Flight[Waiter], None] = {}
        self._over: dict[int, int] = {}  # tickets that are over, above `acked`: first number -> count

    def enter(
        self,
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Sequence[Argument] | None,
        weight: int,
        timeout: float,
        deadline: float,
        waiter: Waiter | None,
    ) -> Ticket[Waiter]:
        """Give commands the next numbers."""
        first = self.next
        ticket = Ticket(first, operations, keys, arguments, weight, timeout, deadline, waiter)
        self.next = first + ticket.count
        self.waiting[first] = ticket
        return ticket

    def between(self, first: int, count: int) -> list[Ticket[Waiter]]:
        """The waiting tickets whose numbers all lie between `first` and `first + count`."""
        found = []
        number = max(first, self.acked)
        end = min(first + count, self.next)
        while number < end:
            ticket = self.waiting.get(number)
            if ticket is None:
                number += 1
                continue
            if ticket.end <= end:
                found.append(ticket)
            number = ticket.end
        return found

    def flights_to(self, replica: int) -> list[Flight[Waiter]]:
        """The frames under way to a replica."""
        return [flight for flight in self.flights if flight.replica == replica]

    def leave(self, ticket: Ticket[Waiter]) -> None:
        """The frame that the ticket is in, if any, is no longer waited for on its behalf."""
        flight = ticket.flight
        if flight is not None:
            ticket.flight = None
            flight.missing -= 1
            if not flight.missing:
                del self.flights[flight]

    def split(self, ticket: Ticket[Waiter], number: int) -> list[Ticket[Waiter]]:
        """Put pieces in the place of a ticket that is not under way; one of them is the command `number`."""
        if ticket.count == 1:
            return [ticket]
        del self.waiting[ticket.first]
        pieces = ticket.split(number - ticket.first)
        self.waiting.update((piece.first, piece) for piece in pieces)
        return pieces

    def end(self, ticket: Ticket[Waiter], error: ClientError | None = None) -> Ticket[Waiter] | None:
        """The numbers of a ticket are over, answered or failed.

        Returns what was submitted, if all of it is over now: the ticket, or the one that it is a piece of.
        """
        self.leave(ticket)
        del self.waiting[ticket.first]
        ticket.error = error
        ticket.done = True
        self._acknowledge(ticket.first, ticket.count)
        whole = ticket.parent
        if whole is None:
            return ticket
        whole.absorb(ticket)
        return whole if whole.done else None

    def _acknowledge(self, first: int, count: int) -> None:
        if first != self.acked:
            self._over[first] = count
            return
        acked = first + count
        while count := self._over.pop(acked, 0):
            acked += count
        self.acked = acked
