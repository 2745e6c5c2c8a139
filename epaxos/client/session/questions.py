"""Asking replicas for what they know: their status, the generation in which a session begins, how long a key lasts.

A change of members is asked for alike. It has a number, so that it too can be asked for again.

A status is read, not executed: a question can be asked again at will. It goes to the replica it names, or to
the one in use, and is asked again when the connection was lost under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

import msgpack

from epaxos.client.session.routes import Routes
from epaxos.client.session.tickets import Uncopied, Waiter
from epaxos.errors import ClientError
from epaxos.transport.framing import Kind, seal


class Question(Uncopied, Generic[Waiter]):
    """A request for the status of `replica`, or of the one in use where that is None.

    When it is `done`, either `error` says why it failed or `status` holds the answer. `asked` is the replica
    it is under way to; times are as in `Ticket`. `options` say what is asked for: with `brief` no more than what a new
    session needs, with `left` how long the value of that key lasts; or what is to come with a status that takes the
    replica some time, `digest` or `transactions`. With `verb` they are what an operator asks for.
    """

    __slots__ = (
        "asked",
        "deadline",
        "done",
        "error",
        "id",
        "options",
        "replica",
        "status",
        "timeout",
        "waiter",
    )

    def __init__(
        self,
        number: int,
        replica: int | None,
        timeout: float,
        deadline: float,
        waiter: Waiter | None,
        options: Mapping[str, object],
    ) -> None:
        self.id = number
        self.options = options
        self.replica = replica
        self.timeout = timeout
        self.deadline = deadline
        self.waiter = waiter
        self.asked: int | None = None
        self.done = False
        self.error: ClientError | None = None
        self.status: dict[str, Any] = {}

    @property
    def settled(self) -> bool:
        """The same as `done`."""
        return self.done

    def abort(self, error: ClientError) -> None:
        """It is over, whatever its session has noted."""
        self.error = error
        self.done = True


class Questions(Generic[Waiter]):
    """The questions of a session that have no answer yet."""

    __slots__ = ("_cluster", "_last", "_open", "_routes", "_unasked")

    def __init__(self, routes: Routes, cluster: int) -> None:
        self._routes = routes
        self._cluster = cluster
        self._last = 0
        self._open: dict[int, Question[Waiter]] = {}
        self._unasked: list[Question[Waiter]] = []

    @property
    def waiting(self) -> bool:
        """Whether a question has to be sent."""
        return bool(self._unasked)

    def add(
        self,
        replica: int | None,
        timeout: float,
        deadline: float,
        waiter: Waiter | None,
        options: Mapping[str, object],
    ) -> Question[Waiter]:
        """Take in a question."""
        self._last += 1
        question = Question(self._last, replica, timeout, deadline, waiter, options)
        self._open[question.id] = question
        self._unasked.append(question)
        return question

    def outgoing(self, now: float) -> list[tuple[int, bytes, Question[Waiter]]]:
        """What can be sent now: replica, frame, question."""
        questions, self._unasked = self._unasked, []
        sends = []
        for question in questions:
            replica = self._route(question, now)
            if replica is not None:
                question.asked = replica
                kind = Kind.ADMIN if "verb" in question.options else Kind.STATUS
                body = msgpack.packb((question.id, question.options))
                self._routes.sent(replica)
                sends.append((replica, seal(kind, self._cluster, body), question))
            elif not question.done:
                self._unasked.append(question)
        return sends

    def _route(self, question: Question[Waiter], now: float) -> int | None:
        if question.done:
            return None
        if question.replica is None:
            return self._routes.choose((), now)
        return question.replica if self._routes.reach(question.replica, now) else None

    def ask_again(self, question: Question[Waiter]) -> None:
        """The question got lost."""
        question.asked = None
        self._unasked.append(question)

    def under_way(self, replica: int) -> list[Question[Waiter]]:
        """The questions that wait for an answer of `replica`."""
        return [question for question in self._open.values() if question.asked == replica]

    def unanswered(self) -> list[Question[Waiter]]:
        """All questions without answer."""
        return list(self._open.values())

    def answer(self, number: int, status: dict[str, Any]) -> Question[Waiter] | None:
        """The question that this answers; None if it was answered, or given up, before."""
        question = self._open.get(number)
        if question is not None:
            question.status = status
            self.close(question)
        return question

    def close(self, question: Question[Waiter], error: ClientError | None = None) -> None:
        """The question is over."""
        self._open.pop(question.id, None)
        question.error = error
        question.done = True
