"""What the parts of a session share: its queues and its memory, and what any of them does to a ticket."""

from __future__ import annotations

import logging
from random import Random
from typing import Final, Generic, TypeAlias

from epaxos.client.options import Options
from epaxos.client.session.alarms import Alarms
from epaxos.client.session.outbox import Outbox, Watched
from epaxos.client.session.questions import Question, Questions
from epaxos.client.session.routes import Routes
from epaxos.client.session.tickets import Ledger, Rest, Ticket, Uncopied, Waiter
from epaxos.errors import ClientError

LOG: Final = logging.getLogger("epaxos.client")
"""What users may want to know of a client at work: INFO where replicas are found, lost or silent, DEBUG where busy.
Nothing is worth a warning: what concerns a call is raised from it."""
LOG.addHandler(logging.NullHandler())

Finished: TypeAlias = "Ticket[Waiter] | Question[Waiter]"

_FIRST_REST: Final = 0.002  # seconds before the first try after a busy answer, at most
_LONGEST_REST: Final = 0.1


class State(Uncopied, Generic[Waiter]):
    """See `core.Session` for `id`, `finished`, `bad_frames` and `retries`."""

    def __init__(self, options: Options, random: Random) -> None:
        self.id = random.getrandbits(64) or 1
        self.finished: list[Finished[Waiter]] = []
        self.bad_frames = 0
        self.retries = {"silent": 0, "lost": 0, "busy": 0}
        self.options = options
        self.random = random
        self.alarms: Alarms[Watched[Waiter]] = Alarms()
        self.directory = options.directory
        self.routes = Routes(self.directory)
        self.ledger: Ledger[Waiter] = Ledger()
        self.questions: Questions[Waiter] = Questions(self.routes, options.cluster)
        self.outbox = Outbox(options, self.routes, self.ledger, self.questions, self.alarms)

    def troubles(self) -> list[str]:
        """Of each replica, why there is no connection."""
        return [link.trouble for link in self.routes.links]

    def end(self, ticket: Ticket[Waiter], error: ClientError | None = None) -> None:
        """A ticket is over, and perhaps with it all that was submitted together."""
        submitted = self.ledger.end(ticket, error)
        if submitted is not None:
            self.finished.append(submitted)

    def rest(self, tickets: list[Ticket[Waiter]], now: float) -> None:
        """Send some tickets again after a moment, longer with each time."""
        for ticket in tickets:
            ticket.rests += 1
            self.outbox.watch(ticket)
        if tickets:
            self.alarms.set(now + self.pause(tickets[0].rests), Rest(tickets))

    def pause(self, number: int) -> float:
        """How long (seconds) to rest after having been turned away so many times."""
        longest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(number - 1, 16))
        return longest * self.random.uniform(0.5, 1.0)
