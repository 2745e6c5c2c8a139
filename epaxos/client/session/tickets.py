"""The book of a session: what was submitted, its request numbers, and the frames that are under way.

A ticket stands for one command or for the columns of many. All its commands travel in one frame, and most
tickets are answered as a whole. Only when a replica refuses one command of many, or does not tell all results
at once, is a ticket split: the pieces go their own ways under their own numbers, and the ticket is done when all
of them are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Generic, NoReturn, SupportsIndex, TypeVar

from epaxos.errors import ClientError
from epaxos.statemachine.columns import Argument

Waiter = TypeVar("Waiter")
"""Whatever the user of a session wants to find on what is finished, to know whom to tell."""


class Uncopied:
    """What may be there once only: of two that went on from one state, each would take numbers that the other took.

    A replica executes a number of a session once, and would take the one's command for the other's.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"a {name} can be neither copied nor pickled: it is part of one session; make a new client"
        )


class Ticket(Uncopied, Generic[Waiter]):
    """Commands of one session with the request numbers `first` to `first + count - 1`.

    Times are seconds on the session's clock. What a user of the session reads:

    waiter      given at submission, for the user alone
    done        whether it is over; then `error` says why all of it failed, or
    outcomes    holds one byte per command (`Outcome`) and `values` one value per command, or is None if all
                values are None, and
    errors      says by position in the ticket why single commands failed; their outcomes mean nothing

    What the session keeps:

    operations, keys, arguments   the columns, as in `statemachine.batch`
    weight      bytes that it adds to a frame, at most
    sealed      its frame, where that was made at submission; such a ticket shares it with no other
    timeout     seconds given to it, for messages
    deadline    when it fails
    tries       the replicas to which it was sent and that may have taken it
    tried       the replicas to which it was sent, for choosing the next one
    busy        how often a busy replica turned it away, and
    reason      why, in the words of the last one
    rests       how often it had to wait before it was sent again
    untold      whether a replica has said that it executed, and not what it came to
    under_way   the last replica that has said that it is under way there; -1 if none has
    flight      the frame in which it is under way; None while it is not
    try_until   when to give up hope for that frame
    armed       whether an alarm is set for its deadline
    parent, offset   the ticket of which it is a piece, and its position in that
    missing     how many commands of a split ticket are still without answer
    """

    __slots__ = (
        "arguments",
        "armed",
        "busy",
        "count",
        "deadline",
        "done",
        "error",
        "errors",
        "first",
        "flight",
        "keys",
        "missing",
        "offset",
        "operations",
        "outcomes",
        "parent",
        "reason",
        "rests",
        "sealed",
        "timeout",
        "tried",
        "tries",
        "try_until",
        "under_way",
        "untold",
        "values",
        "waiter",
        "weight",
    )

    def __init__(
        self,
        first: int,
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Sequence[Argument] | None,
        weight: int,
        timeout: float,
        deadline: float,
        waiter: Waiter | None,
    ) -> None:
        self.first = first
        self.count = len(operations)
        self.operations = operations
        self.keys = keys
        self.arguments = arguments
        self.weight = weight
        self.timeout = timeout
        self.deadline = deadline
        self.waiter = waiter
        self.sealed: bytes | None = None
        self.tries: tuple[int, ...] = ()
        self.tried: tuple[int, ...] = ()
        self.busy = 0
        self.rests = 0
        self.untold = False
        self.under_way = -1
        self.reason = ""
        self.flight: Flight[Waiter] | None = None
        self.try_until = 0.0
        self.armed = self.done = False
        self.error: ClientError | None = None
        self.errors: dict[int, ClientError] | None = None
        self.outcomes: bytes | bytearray = b""
        self.values: list[object] | None = None
        self.parent: Ticket[Waiter] | None = None
        self.offset = 0
        self.missing = 0

    @property
    def end(self) -> int:
        """One past its last request number."""
        return self.first + self.count

    @property
    def settled(self) -> bool:
        """Whether nothing is to be done about it any more: it is over, or its pieces stand for it."""
        return self.done or self.errors is not None

    def error_at(self, position: int) -> ClientError | None:
        """Why the command at `position` of this finished ticket failed, None if it was answered."""
        if self.errors is not None:
            return self.errors.get(position)
        return self.error

    def abort(self, error: ClientError) -> None:
        """All of it without an answer is over, whatever its session has noted.

        Of a split ticket that is all: which pieces were answered, only the session knows.
        """
        self.error = error
        if self.errors is not None:
            self.errors = {position: self.errors.get(position, error) for position in range(self.count)}
        self.done = True

    def forget_try(self, replica: int) -> bool:
        """One try at `replica` was certainly not taken; returns False if there was none to forget."""
        tries = self.tries
        if replica not in tries:
            return False
        position = tries.index(replica)
        self.tries = tries[:position] + tries[position + 1 :]
        return True

    def split(self, positions: Iterable[int]) -> list[Ticket[Waiter]]:
        """Take the ticket apart before the commands at some positions, in ascending order.

        Returns the pieces, which are not under way, in order. The user goes on waiting for the ticket that
        was submitted, which takes over what comes of its pieces (`absorb`).
        """
        whole = self.parent or self
        if whole.errors is None:
            whole.errors = {}
            whole.missing = whole.count
            whole.outcomes = bytearray(whole.count)
            whole.values = [None] * whole.count
        self.done = self is not whole
        bounds = pairwise((0, *positions, self.count))
        return [self._piece(whole, start, end) for start, end in bounds if start < end]

    def _piece(self, whole: Ticket[Waiter], start: int, end: int) -> Ticket[Waiter]:
        piece = Ticket(
            self.first + start,
            self.operations[start:end],
            self.keys[start:end],
            None if self.arguments is None else self.arguments[start:end],
            self.weight,
            self.timeout,
            self.deadline,
            self.waiter,
        )
        piece.tries = self.tries
        piece.tried = self.tried
        piece.busy = self.busy
        piece.rests = self.rests
        piece.untold = self.untold
        piece.reason = self.reason
        piece.parent = whole
        piece.offset = self.offset + start
        return piece

    def absorb(self, piece: Ticket[Waiter]) -> None:
        """Take over what came of a piece; the ticket is done with the last one."""
        assert self.errors is not None
        assert self.values is not None
        assert isinstance(self.outcomes, bytearray)
        start, end = piece.offset, piece.offset + piece.count
        if piece.error is not None:
            self.errors.update(dict.fromkeys(range(start, end), piece.error))
        else:
            self.outcomes[start:end] = piece.outcomes
            if piece.values is not None:
                self.values[start:end] = piece.values
        self.missing -= piece.count
        self.done = not self.missing


class Flight(Uncopied, Generic[Waiter]):
    """A frame under way to `replica`.

    `tickets` are the submissions it was made of, `weight` their bytes; `missing` counts those for which it is
    still waiting. A ticket belongs to it as long as `ticket.flight` says so: late answers to an earlier frame,
    deadlines and callers who give up take tickets out of the middle.
    """

    __slots__ = ("missing", "replica", "tickets", "weight")

    def __init__(self, replica: int, tickets: Sequence[Ticket[Waiter]]) -> None:
        self.replica = replica
        self.tickets = tickets
        self.weight = sum([ticket.weight for ticket in tickets])
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


class Ledger(Uncopied, Generic[Waiter]):
    """The book of a session.

    next      the request number of the next command
    acked     every number below it is over
    waiting   the tickets without answer, by first number; a split ticket stands there as its pieces
    flights   the frames under way (an ordered set); a ticket is in one at most
    weight    the bytes of those
    """

    __slots__ = ("_over", "acked", "flights", "next", "waiting", "weight")

    def __init__(self) -> None:
        self.next = 1
        self.acked = 1
        self.waiting: dict[int, Ticket[Waiter]] = {}
        self.flights: dict[Flight[Waiter], None] = {}
        self.weight = 0
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

    def launch(self, flight: Flight[Waiter]) -> None:
        """A frame is under way."""
        self.flights[flight] = None
        self.weight += flight.weight

    def leave(self, ticket: Ticket[Waiter]) -> None:
        """The frame that the ticket is in, if any, is no longer waited for on its behalf."""
        flight = ticket.flight
        if flight is not None:
            ticket.flight = None
            flight.missing -= 1
            if not flight.missing:
                del self.flights[flight]
                self.weight -= flight.weight

    def split(self, ticket: Ticket[Waiter], numbers: Iterable[int]) -> list[Ticket[Waiter]]:
        """Put pieces in the place of a ticket that is not under way: cut it before each of these numbers."""
        cuts = [number - ticket.first for number in numbers if ticket.first < number < ticket.end]
        if not cuts:
            return [ticket]
        del self.waiting[ticket.first]
        pieces = ticket.split(cuts)
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
