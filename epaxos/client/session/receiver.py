"""What comes from replicas, and what it says of the commands under way there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Generic

from epaxos.client.session import answers, fate
from epaxos.client.session.beginning import Beginning
from epaxos.client.session.state import LOG, State
from epaxos.client.session.tickets import Ticket, Waiter
from epaxos.errors import FrameError
from epaxos.statemachine.operations import Outcome
from epaxos.transport.framing import Kind, open_frame

_REPLY: Final = int(Kind.REPLY)  # by far the most frequent; looking up the member of an enumeration is slow
_UNTOLD: Final = int(Outcome.UNTOLD)
_EXPIRED: Final = int(Outcome.EXPIRED)
_untold_runs: Final = re.compile(b"%c+" % _UNTOLD).finditer


class Receiver(Generic[Waiter]):
    """Takes the frames that come for a session, of which `state` and `beginning` are parts."""

    def __init__(self, state: State[Waiter], beginning: Beginning[Waiter]) -> None:
        self._state = state
        self._beginning = beginning
        self._takers: dict[int, Callable[[int, bytes, float], None]] = {
            Kind.BUSY: self._on_busy,
            Kind.AWAY: self._on_away,
            Kind.REFUSED: self._on_refused,
            Kind.OVER: self._on_over,
            Kind.STATUS_REPLY: self._on_status,
            Kind.ADMIN_REPLY: self._on_status,
            Kind.TAKEN: self._on_taken,
            Kind.MEMBERS: self._on_members,
        }

    def receive(self, replica: int, data: bytes, now: float) -> None:
        """Take a frame from a replica; one that is none of this protocol is counted and dropped."""
        try:
            kind, _, body, _ = open_frame(data, self._state.options.cluster, self._state.options.max_frame)
            if kind == _REPLY:
                for reply in answers.read_replies(body):
                    self._on_reply(replica, reply, now)
            elif kind in self._takers:
                self._takers[kind](replica, body, now)
            else:
                self._state.bad_frames += 1
        except FrameError as error:
            if error.kind in ("cluster", "version"):
                self._on_stranger(replica, str(error))
            else:
                self._state.bad_frames += 1

    def _on_reply(self, replica: int, reply: answers.Reply, now: float) -> None:
        client, first, outcomes, values = reply
        if not self._is_ours(client, replica):
            return
        if _EXPIRED in outcomes:
            self._beginning.end_session()
        if _UNTOLD in outcomes:
            self._on_part(reply, now)
            return
        ticket = self._state.ledger.waiting.get(first)
        if ticket is not None and ticket.count == len(outcomes):
            ticket.outcomes = outcomes
            ticket.values = values
            self._state.end(ticket)
            return
        for ticket in self._state.ledger.between(first, len(outcomes)):
            part = slice(ticket.first - first, ticket.end - first)
            ticket.outcomes = outcomes[part]
            ticket.values = None if values is None else values[part]
            self._state.end(ticket)

    def _on_part(self, reply: answers.Reply, now: float) -> None:
        """Not all results had room in a reply: those missing are asked for again, under their numbers.

        If none had, what has been sent over this connection is still to be read, and asking again waits a little.
        """
        _, first, outcomes, values = reply
        cuts = [first + position for run in _untold_runs(outcomes) for position in run.span()]
        missing = []
        for ticket in self._state.ledger.between(first, len(outcomes)):
            self._state.ledger.leave(ticket)
            for piece in self._state.ledger.split(ticket, cuts):
                part = slice(piece.first - first, piece.end - first)
                if outcomes[part.start] == Outcome.UNTOLD:
                    piece.untold, piece.tries, piece.tried = True, (), ()
                    missing.append(piece)
                else:
                    piece.outcomes = outcomes[part]
                    piece.values = None if values is None else values[part]
                    self._state.end(piece)
        if outcomes.count(Outcome.UNTOLD) == len(outcomes):
            self._state.rest(missing, now)
        else:
            for piece in missing:
                self._state.outbox.add_again(piece)

    def _on_busy(self, replica: int, body: bytes, now: float) -> None:
        """Nothing of the frame was taken: its commands rest, then are sent again, elsewhere if possible."""
        client, first, count = answers.read_busy(body)
        if self._is_ours(client, replica):
            LOG.debug("%s is busy; %d commands rest", self._state.directory.names[replica], count)
            self._rest_unwanted(self._turned_away(replica, first, count), "no room for it", now)

    def _on_away(self, replica: int, body: bytes, now: float) -> None:
        """Nothing of the frame was taken: its commands go elsewhere at once; they rest if there is nowhere to go."""
        client, first, count, text = answers.read_away(body)
        # Where it tells by itself that is the answer to no frame: what it owes it still owes.
        if (count > 0 or client != self._state.id) and not self._is_ours(client, replica):
            return
        self._state.routes.silent(replica, now)
        LOG.info("%s sends clients elsewhere: %s", self._state.directory.names[replica], text)
        if count < 0:
            self._state.retries["busy"] += self._state.outbox.forsake(replica)
            return
        turned_away = self._turned_away(replica, first, count)
        if turned_away and self._state.routes.untried(turned_away[0].tried, now):
            for ticket in turned_away:
                self._state.retries["busy"] += ticket.count
                self._state.outbox.add_again(ticket)
        else:
            self._rest_unwanted(turned_away, text, now)

    def _rest_unwanted(self, tickets: list[Ticket[Waiter]], reason: str, now: float) -> None:
        for ticket in tickets:
            ticket.busy += 1
            ticket.reason = reason
            self._state.retries["busy"] += ticket.count
        self._state.rest(tickets, now)

    def _on_taken(self, replica: int, body: bytes, now: float) -> None:
        """Frames are under way: another replica is asked only if no answer comes before the last share of the time."""
        for client, first, count in answers.read_taken(body):
            if client != self._state.id:
                self._state.bad_frames += 1
                continue
            for ticket in self._state.ledger.between(first, count):
                if ticket.flight is not None and ticket.flight.replica == replica:
                    ticket.under_way = replica
                    share = ticket.timeout / self._state.options.tries
                    ticket.try_until = max(ticket.try_until, min(now + share, ticket.deadline - share))

    def _on_members(self, replica: int, body: bytes, _: float) -> None:
        """Who takes part now; what is under way at others is answered there, or sent away."""
        state, told = self._state, answers.read_members(body)
        if state.directory.learn(told, replica, state.random):
            LOG.info("epoch %d: members are %s", state.directory.epoch, ", ".join(state.directory.replicas))

    def _on_over(self, replica: int, body: bytes, _: float) -> None:
        """Nothing of the frame was taken: the session has ended, and its commands wait for the next one."""
        client, first, count, generation = answers.read_over(body)
        if not self._is_ours(client, replica):
            return
        self._beginning.end_session(generation)
        for ticket in self._turned_away(replica, first, count):
            ticket.tried = ticket.tried[:-1]  # the replica is as good as before
            self._state.outbox.add_again(ticket)

    def _on_refused(self, replica: int, body: bytes, _: float) -> None:
        """Nothing of the frame was taken: the command to blame fails, the others are sent again."""
        client, first, count, index, text = answers.read_refused(body)
        if client == 0 or count < 1:
            self._on_stranger(replica, text)
            return
        if not self._is_ours(client, replica):
            return
        blamed = first + index
        for ticket in self._turned_away(replica, first, count):
            if not 0 <= index < count:
                self._refuse(ticket, replica, text)
            elif ticket.first <= blamed < ticket.end:
                self._refuse_one(ticket, blamed, replica, text)
            else:
                ticket.tried = ticket.tried[:-1]  # the replica is as good as before
                self._state.outbox.add_again(ticket)

    def _refuse(self, ticket: Ticket[Waiter], replica: int, text: str) -> None:
        self._state.end(ticket, fate.refused(ticket, self._state.directory.names[replica], text))

    def _refuse_one(self, ticket: Ticket[Waiter], blamed: int, replica: int, text: str) -> None:
        for piece in self._state.ledger.split(ticket, (blamed, blamed + 1)):
            if piece.first == blamed:
                self._refuse(piece, replica, text)
            else:
                piece.tried = piece.tried[:-1]
                self._state.outbox.add_again(piece)

    def _turned_away(self, replica: int, first: int, count: int) -> list[Ticket[Waiter]]:
        """A replica took nothing of a frame: returns its tickets of which that was the try under way.

        For others it was an earlier try. They go on as they do, or, out of tries, have another one now.
        """
        turned_away = []
        for ticket in self._state.ledger.between(first, count):
            if not ticket.forget_try(replica):
                continue
            flight = ticket.flight
            if flight is None:
                self._state.outbox.add_again(ticket)
            elif flight.replica == replica:
                self._state.ledger.leave(ticket)
                turned_away.append(ticket)
        return turned_away

    def _on_stranger(self, replica: int, text: str) -> None:
        """The replica does not understand us, or is not one of ours: what is under way there fails.

        Which frame it answers is not known, unless it owed an answer to only one.
        """
        only = self._state.routes.answered(replica)
        for flight in self._state.ledger.flights_to(replica):
            for ticket in flight.remaining():
                if only:
                    ticket.forget_try(replica)
                self._refuse(ticket, replica, text)
        for question in self._state.questions.under_way(replica):
            if self._beginning.is_greeting(question):
                for ticket in list(self._state.ledger.waiting.values()):
                    self._refuse(ticket, replica, text)
            self._beginning.give_up(
                question, fate.question_refused(self._state.directory.names[replica], text)
            )

    def _is_ours(self, client: int, replica: int) -> bool:
        """Whether an answer is for this session; it is taken note of."""
        if client != self._state.id:
            self._state.bad_frames += 1
            return False
        self._state.routes.answered(replica)
        return True

    def _on_status(self, replica: int, body: bytes, now: float) -> None:
        state, answer = self._state, answers.read_status(body)
        state.routes.answered(replica)
        question = state.questions.answer(*answer)
        if question is None:
            return
        denied = answer.status.get("denied")
        if isinstance(denied, str):
            question.error = fate.question_refused(state.directory.names[replica], denied)
        if self._beginning.is_greeting(question):
            self._beginning.on_answer(replica, answer, now)
        else:
            state.finished.append(question)
