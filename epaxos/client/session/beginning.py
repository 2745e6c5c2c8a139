"""How a session begins, and another one when replicas have forgotten it.

A session belongs to a generation (`statemachine.sessions`), for which a replica is asked before the first command is
sent. It ends when it has been silent for very long: replicas forget it and say so. Then another one begins, unnoticed
where nothing of what is under way can have executed in the last.
"""

from __future__ import annotations

from math import inf
from typing import Generic

from epaxos import version
from epaxos.client.session import fate
from epaxos.client.session.answers import Status
from epaxos.client.session.outbox import Name
from epaxos.client.session.questions import Question
from epaxos.client.session.state import LOG, State
from epaxos.client.session.tickets import Waiter
from epaxos.errors import ClientError


class Beginning(Generic[Waiter]):
    """Asks in which generation the session of `state` begins; `unready` are replicas that did not know it, in turn."""

    def __init__(self, state: State[Waiter]) -> None:
        self._state = state
        self._greeting: Question[Waiter] | None = None
        self._greet_at = -inf
        self._over = False
        self._generation = 0
        self.unready: list[int] = []

    def greet(self, now: float) -> None:
        """Ask in which generation a session begins that is wanted now; each replica has as long as a try.

        Of one that is over, what is under way comes first: every answer says what has become of its commands.
        """
        state = self._state
        if self._may_greet and now >= self._greet_at:
            share = state.options.timeout / state.options.tries
            self._greeting = state.questions.add(None, share, now + share, None, {"brief": True})
            state.alarms.set(self._greeting.deadline, self._greeting)

    @property
    def _may_greet(self) -> bool:
        state = self._state
        wanted = state.outbox.name is None and state.ledger.waiting and not state.ledger.flights
        return bool(wanted) and self._greeting is None

    @property
    def next_event(self) -> float:
        """When `greet` is due; infinite if it is not, as far as is known."""
        return self._greet_at if self._may_greet else inf

    def is_greeting(self, question: Question[Waiter]) -> bool:
        """Whether it is the question under way for the generation."""
        return question is self._greeting

    def on_answer(self, replica: int, answer: Status, now: float) -> None:
        """A replica has said in which generation a session begins, or that it does not know."""
        self._greeting = None
        generation = answer.status.get("generation")
        if type(generation) is int and generation >= 0:
            level = answer.status.get("level")
            if type(level) is int and level >= version.OLDEST:
                self._state.outbox.level = min(level, version.NEWEST)
            self._begin(generation)
        else:
            self._state.bad_frames += generation is not None
            self._ask_another(replica, now)

    def _begin(self, generation: int) -> None:
        """Begin a session; not the first, with those commands of the last one that certainly did not execute."""
        state = self._state
        self.unready.clear()
        if self._over:
            self._over = False
            LOG.info("replicas have forgotten the session of this client; beginning another")
            state.id = state.random.getrandbits(64) or 1
            for ticket in list(state.ledger.waiting.values()):
                ticket.sealed = None
                if ticket.tries or ticket.untold:
                    state.end(ticket, fate.expired())
        state.outbox.name = Name(state.id, max(generation, self._generation))

    def _ask_another(self, replica: int, now: float) -> None:
        """A replica does not know the generation now: another one may, asked after a pause that grows.

        Where none of them knows it, it is asked for again and again.
        """
        self._state.routes.silent(replica, now)
        self.unready.append(replica)
        self._greet_at = now + self._state.pause(len(self.unready))

    def end_session(self, generation: int = 0) -> None:
        """Replicas have forgotten the session, in `generation` or later: another one is to begin."""
        self._generation = max(generation, self._generation)
        self._over = True
        self._state.outbox.name = None

    def give_up(self, question: Question[Waiter], error: ClientError) -> None:
        """A question is over without an answer."""
        state = self._state
        state.questions.close(question, error)
        if question is self._greeting:
            self._greeting = None
            if question.asked is not None:
                state.routes.silent(question.asked, question.deadline)
        else:
            state.finished.append(question)
