"""One session with the cluster, without socket, clock or chance of its own.

What is submitted gets the next request numbers and waits in a queue. `outgoing` makes frames of what waits:
one frame takes all it can, so callers who come together travel together. `receive` takes the answers.

**Numbers stay with their commands.** Replicas execute a number of a session once, so a command whose answer
is missing is sent again under its old number, alone or in other company. A number that was given up is never
used again.

**A session begins** with a question to a replica for the generation (`statemachine.sessions`), and ends when it has
been silent for very long: replicas forget it and say so. Then another one begins, unnoticed where nothing of what is
under way can have executed in the last.

**What a failure says.** A command has certainly not executed only if every frame that held it was answered
BUSY or REFUSED, or never left. So a ticket remembers its `tries`: the replicas that got it and did not say
so. Only a ticket without any fails with `may_have_executed` False, and that stays true, because what has
failed is never sent again.

**Time.** A ticket has until its deadline. Each try may take an equal share of what is left; then the command
goes to the next replica, and an answer to an earlier try still counts. After the last try it waits for such
answers.

The user passes the time in (seconds from any origin, never decreasing), carries the frames, reports what
becomes of connections, and asks `next_event` how long it may sleep.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final, Generic, TypeAlias

from epaxos.client.commands import Op, weigh
from epaxos.client.options import Options
from epaxos.client.session import answers, fate
from epaxos.client.session.alarms import Alarms
from epaxos.client.session.outbox import Name, Outbox, Outgoing, Watched
from epaxos.client.session.questions import Question, Questions
from epaxos.client.session.routes import Routes
from epaxos.client.session.tickets import Flight, Ledger, Rest, Ticket, Uncopied, Waiter
from epaxos.errors import ClientError, FrameError, Refused
from epaxos.statemachine.batch import Argument, encode_batch
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.transport.framing import Kind, open_frame, seal

Finished: TypeAlias = "Ticket[Waiter] | Question[Waiter]"

_BYTE: Final = tuple(bytes((value,)) for value in range(256))
_REPLY: Final = int(Kind.REPLY)  # by far the most frequent; looking up the member of an enumeration is slow
_UNTOLD: Final = int(Outcome.UNTOLD)
_EXPIRED: Final = int(Outcome.EXPIRED)
_untold_runs: Final = re.compile(b"%c+" % _UNTOLD).finditer
_FIRST_REST: Final = 0.002  # seconds before the first try after a busy answer, at most
_LONGEST_REST: Final = 0.1


class Session(Uncopied, Generic[Waiter]):
    """A client's session; see the module's text.

    What is over stands in `finished`, in the order it ended, until `take_finished`. `bad_frames` counts the
    frames received that were none of this protocol, `retries` the commands that were to be sent again: because the
    replica was `silent`, the connection was `lost`, or the replica was `busy`.
    """

    def __init__(self, options: Options, random: Random, generation: int | None = None) -> None:
        self.id = random.getrandbits(64) or 1
        self.finished: list[Finished[Waiter]] = []
        self.bad_frames = 0
        self.retries = {"silent": 0, "lost": 0, "busy": 0}
        self._options = options
        self._random = random
        self._max_weight = options.max_weight
        self._alarms: Alarms[Watched[Waiter]] = Alarms()
        self._routes = Routes(options.order)
        self._ledger: Ledger[Waiter] = Ledger()
        self._questions: Questions[Waiter] = Questions(self._routes, options.cluster)
        self._outbox = Outbox(options, self._routes, self._ledger, self._questions, self._alarms)
        self._outbox.name = None if generation is None else Name(self.id, generation)
        self._greeting: Question[Waiter] | None = None
        self._greet_at = -inf
        self._unready: list[int] = []
        self._over = False
        self._generation = 0

    # What the user wants

    def submit(
        self, op: Op, now: float, timeout: float | None = None, waiter: Waiter | None = None
    ) -> Ticket[Waiter]:
        """Submit one command, to be over within `timeout` seconds (default: that of the options).

        Raises:
            Refused: the command does not fit into a frame.
        """
        operation, key, argument = op
        weight = weigh(key, argument)
        if weight > self._max_weight:
            raise Refused(f"command of {weight} bytes; a frame holds at most {self._max_weight}")
        if timeout is None:
            timeout = self._options.timeout
        arguments = None if argument is None else (argument,)
        ticket = self._ledger.enter(
            _BYTE[operation], (key,), arguments, weight, timeout, now + timeout, waiter
        )
        self._outbox.add(ticket)
        return ticket

    def submit_columns(
        self,
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Sequence[Argument] | None,
        now: float,
        timeout: float | None = None,
        waiter: Waiter | None = None,
    ) -> Ticket[Waiter]:
        """Submit many commands as the columns of one frame; nothing here is done per command.

        The columns are not checked and must not change any more; `arguments` may be None where no command
        has one.

        Raises:
            Refused: the commands do not fit into a frame.
        """
        ledger = self._ledger
        name = self._outbox.name or Name(self.id, 0)
        batch = encode_batch(
            name.client, ledger.next, ledger.acked, operations, keys, arguments, name.generation
        )
        weight = len(batch)
        if weight > self._max_weight:
            raise Refused(f"commands of {weight} bytes; a frame holds at most {self._max_weight}")
        if timeout is None:
            timeout = self._options.timeout
        ticket = ledger.enter(operations, keys, arguments, weight, timeout, now + timeout, waiter)
        if self._outbox.name is not None:
            ticket.sealed = seal(Kind.REQUEST, self._options.cluster, batch)
        self._outbox.add(ticket)
        return ticket

    def ask_status(
        self,
        replica: int | None,
        now: float,
        *,
        digest: bool,
        timeout: float | None = None,
        waiter: Waiter | None = None,
    ) -> Question[Waiter]:
        """Ask a replica, or the one in use, for its status, with a digest of its state if wanted."""
        if timeout is None:
            timeout = self._options.timeout
        question = self._questions.add(replica, timeout, now + timeout, waiter, digest=digest)
        self._alarms.set(question.deadline, question)
        return question

    def abandon(self, item: Finished[Waiter]) -> None:
        """Nobody waits for this any more: it is not sent again, and its answer is dropped."""
        if isinstance(item, Question):
            self._questions.close(item)
            return
        for ticket in self._ledger.between(item.first, item.count):
            self._ledger.end(ticket)
        item.done = True

    def close(self) -> None:
        """End everything that is not over with `Closed`."""
        for ticket in list(self._ledger.waiting.values()):
            self._end(ticket, fate.closed(ticket))
        for question in self._questions.unanswered():
            self._give_up(question, fate.never_began("the client was closed"))

    def farewell(self) -> tuple[int, bytes] | None:
        """The replica and the frame that tell, once the session is closed, that no result need be kept for it.

        A command that does nothing carries that: all numbers below its own are over. Nobody waits for its answer.
        None if nothing was ever asked, or no replica can be told.
        """
        replica = self._routes.connected()
        number, name = self._ledger.next, self._outbox.name
        if number == 1 or replica is None or name is None:
            return None
        batch = encode_batch(
            name.client, number, number, _BYTE[Operation.NULL], (b"",), None, name.generation
        )
        return replica, seal(Kind.REQUEST, self._options.cluster, batch)

    def take_finished(self) -> list[Finished[Waiter]]:
        """What is over since this was last called."""
        finished, self.finished = self.finished, []
        return finished

    # What goes out

    def take_opens(self) -> list[int]:
        """The replicas to which connections are wanted, from now on for good; each is named once."""
        opens, self._routes.to_open = self._routes.to_open, []
        return opens

    def outgoing(self, now: float) -> list[Outgoing[Waiter]]:
        """The frames to be sent now, each exactly once, or to be given to `unsent`."""
        if self._outbox.name is None:
            self._greet(now)
        return self._outbox.frames(now)

    def _greet(self, now: float) -> None:
        """Ask in which generation a session begins that is wanted now; each replica has as long as a try.

        Of one that is over, what is under way comes first: every answer says what has become of its commands.
        """
        if self._may_greet and now >= self._greet_at:
            share = self._options.timeout / self._options.tries
            self._greeting = self._questions.add(None, share, now + share, None, brief=True)
            self._alarms.set(self._greeting.deadline, self._greeting)

    @property
    def _may_greet(self) -> bool:
        wanted = self._outbox.name is None and self._ledger.waiting and not self._ledger.flights
        return bool(wanted) and self._greeting is None

    def _begin(self, generation: int) -> None:
        """Begin a session; not the first, with those commands of the last one that certainly did not execute."""
        self._unready.clear()
        if self._over:
            self._over = False
            self.id = self._random.getrandbits(64) or 1
            for ticket in list(self._ledger.waiting.values()):
                ticket.sealed = None
                if ticket.tries or ticket.untold:
                    self._end(ticket, fate.expired())
        self._outbox.name = Name(self.id, max(generation, self._generation))

    def unsent(self, outgoing: Outgoing[Waiter]) -> None:
        """The socket did not take a frame: it has certainly not left, and this connection takes no more."""
        self._outbox.unsent(outgoing)

    # What becomes of connections

    def is_up(self, replica: int) -> bool:
        """Whether there is a connection, as far as has been reported."""
        return self._routes.links[replica].up

    def rise(self, replica: int) -> None:
        """There is a connection now."""
        self._routes.rise(replica)

    def fall(self, replica: int) -> None:
        """The connection is gone: what was under way over it goes elsewhere."""
        self.retries["lost"] += self._outbox.lost(replica)

    def hindered(self, replica: int, trouble: str) -> None:
        """Why there is no connection."""
        self._routes.links[replica].trouble = trouble

    def broken(self, replica: int, trouble: str, now: float) -> None:
        """A connection wanted by `take_opens` cannot be asked for, or is gone for good: it will be wanted again."""
        self.fall(replica)
        self._routes.broken(replica, trouble, now)

    def _troubles(self) -> list[str]:
        return [link.trouble for link in self._routes.links]

    # What comes in

    def receive(self, replica: int, data: bytes, now: float) -> None:
        """Take a frame from a replica; one that is none of this protocol is counted and dropped."""
        try:
            kind, _, body = open_frame(data, self._options.cluster, self._options.max_frame)
            if kind == _REPLY:
                for reply in answers.read_replies(body):
                    self._on_reply(replica, reply, now)
            elif kind == Kind.BUSY:
                self._on_busy(replica, answers.read_busy(body), now)
            elif kind == Kind.AWAY:
                self._on_away(replica, answers.read_away(body), now)
            elif kind == Kind.REFUSED:
                self._on_refused(replica, answers.read_refused(body))
            elif kind == Kind.OVER:
                self._on_over(replica, answers.read_over(body))
            elif kind == Kind.STATUS_REPLY:
                self._on_status(replica, answers.read_status(body), now)
            else:
                self.bad_frames += 1
        except FrameError as error:
            if error.kind in ("cluster", "version"):
                self._on_stranger(replica, str(error))
            else:
                self.bad_frames += 1

    def _on_reply(self, replica: int, reply: answers.Reply, now: float) -> None:
        client, first, outcomes, values = reply
        if not self._is_ours(client, replica):
            return
        if _EXPIRED in outcomes:
            self._end_session()
        if _UNTOLD in outcomes:
            self._on_part(reply, now)
            return
        ticket = self._ledger.waiting.get(first)
        if ticket is not None and ticket.count == len(outcomes):
            ticket.outcomes = outcomes
            ticket.values = values
            self._end(ticket)
            return
        for ticket in self._ledger.between(first, len(outcomes)):
            part = slice(ticket.first - first, ticket.end - first)
            ticket.outcomes = outcomes[part]
            ticket.values = None if values is None else values[part]
            self._end(ticket)

    def _on_part(self, reply: answers.Reply, now: float) -> None:
        """Not all results had room in a reply: those missing are asked for again, under their numbers.

        If none had, what has been sent over this connection is still to be read, and asking again waits a little.
        """
        _, first, outcomes, values = reply
        cuts = [first + position for run in _untold_runs(outcomes) for position in run.span()]
        missing = []
        for ticket in self._ledger.between(first, len(outcomes)):
            self._ledger.leave(ticket)
            for piece in self._ledger.split(ticket, cuts):
                part = slice(piece.first - first, piece.end - first)
                if outcomes[part.start] == Outcome.UNTOLD:
                    piece.untold, piece.tries, piece.tried = True, (), ()
                    missing.append(piece)
                else:
                    piece.outcomes = outcomes[part]
                    piece.values = None if values is None else values[part]
                    self._end(piece)
        if outcomes.count(Outcome.UNTOLD) == len(outcomes):
            self._rest(missing, now)
        else:
            for piece in missing:
                self._outbox.add_again(piece)

    def _rest(self, tickets: list[Ticket[Waiter]], now: float) -> None:
        """Send some tickets again after a moment, longer with each time."""
        for ticket in tickets:
            ticket.rests += 1
            self._outbox.watch(ticket)
        if tickets:
            self._alarms.set(now + self._pause(tickets[0].rests), Rest(tickets))

    def _on_busy(self, replica: int, busy: answers.Busy, now: float) -> None:
        """Nothing of the frame was taken: its commands rest, then are sent again, elsewhere if possible."""
        client, first, count = busy
        if self._is_ours(client, replica):
            self._rest_unwanted(self._turned_away(replica, first, count), "no room for it", now)

    def _on_away(self, replica: int, away: answers.Away, now: float) -> None:
        """Nothing of the frame was taken: its commands go elsewhere at once; they rest if there is nowhere to go."""
        client, first, count, text = away
        if (count or client != self.id) and not self._is_ours(client, replica):
            return
        self._routes.silent(replica, now)
        turned_away = self._turned_away(replica, first, count)
        if turned_away and self._routes.untried(turned_away[0].tried):
            for ticket in turned_away:
                self.retries["busy"] += ticket.count
                self._outbox.add_again(ticket)
        else:
            self._rest_unwanted(turned_away, text, now)

    def _rest_unwanted(self, tickets: list[Ticket[Waiter]], reason: str, now: float) -> None:
        for ticket in tickets:
            ticket.busy += 1
            ticket.reason = reason
            self.retries["busy"] += ticket.count
        self._rest(tickets, now)

    def _on_over(self, replica: int, over: answers.Over) -> None:
        """Nothing of the frame was taken: the session has ended, and its commands wait for the next one."""
        client, first, count, generation = over
        if not self._is_ours(client, replica):
            return
        self._generation = max(generation, self._generation)
        self._end_session()
        for ticket in self._turned_away(replica, first, count):
            ticket.tried = ticket.tried[:-1]  # the replica is as good as before
            self._outbox.add_again(ticket)

    def _end_session(self) -> None:
        self._over = True
        self._outbox.name = None

    def _on_refused(self, replica: int, refused: answers.Refused) -> None:
        """Nothing of the frame was taken: the command to blame fails, the others are sent again."""
        client, first, count, index, text = refused
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
                self._outbox.add_again(ticket)

    def _refuse(self, ticket: Ticket[Waiter], replica: int, text: str) -> None:
        self._end(ticket, fate.refused(ticket, self._options.names[replica], text))

    def _refuse_one(self, ticket: Ticket[Waiter], blamed: int, replica: int, text: str) -> None:
        for piece in self._ledger.split(ticket, (blamed, blamed + 1)):
            if piece.first == blamed:
                self._refuse(piece, replica, text)
            else:
                piece.tried = piece.tried[:-1]
                self._outbox.add_again(piece)

    def _turned_away(self, replica: int, first: int, count: int) -> list[Ticket[Waiter]]:
        """A replica took nothing of a frame: returns its tickets of which that was the try under way.

        For others it was an earlier try. They go on as they do, or, out of tries, have another one now.
        """
        turned_away = []
        for ticket in self._ledger.between(first, count):
            if not ticket.forget_try(replica):
                continue
            flight = ticket.flight
            if flight is None:
                self._outbox.add_again(ticket)
            elif flight.replica == replica:
                self._ledger.leave(ticket)
                turned_away.append(ticket)
        return turned_away

    def _on_stranger(self, replica: int, text: str) -> None:
        """The replica does not understand us, or is not one of ours: what is under way there fails.

        Which frame it answers is not known, unless it owed an answer to only one.
        """
        only = self._routes.answered(replica)
        for flight in self._ledger.flights_to(replica):
            for ticket in flight.remaining():
                if only:
                    ticket.forget_try(replica)
                self._refuse(ticket, replica, text)
        for question in self._questions.under_way(replica):
            if question is self._greeting:
                for ticket in list(self._ledger.waiting.values()):
                    self._refuse(ticket, replica, text)
            self._give_up(question, fate.question_refused(self._options.names[replica], text))

    def _is_ours(self, client: int, replica: int) -> bool:
        """Whether an answer is for this session; it is taken note of."""
        if client != self.id:
            self.bad_frames += 1
            return False
        self._routes.answered(replica)
        return True

    def _on_status(self, replica: int, answer: answers.Status, now: float) -> None:
        self._routes.answered(replica)
        question = self._questions.answer(*answer)
        if question is None:
            return
        if question is not self._greeting:
            self.finished.append(question)
            return
        self._greeting = None
        generation = answer.status.get("generation")
        if type(generation) is int and generation >= 0:
            self._begin(generation)
        else:
            self.bad_frames += generation is not None
            self._ask_another(replica, now)

    def _ask_another(self, replica: int, now: float) -> None:
        """A replica does not know the generation now: another one may, asked after a pause that grows.

        Where none of them knows it, it is asked for again and again.
        """
        self._routes.silent(replica, now)
        self._unready.append(replica)
        self._greet_at = now + self._pause(len(self._unready))

    def _pause(self, number: int) -> float:
        """How long (seconds) to rest after having been turned away so many times."""
        longest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(number - 1, 16))
        return longest * self._random.uniform(0.5, 1.0)

    # What time does

    def next_event(self) -> float:
        """When `expire` and `outgoing` are to be called again, if nothing else happens; infinite if never."""
        greet_at = self._greet_at if self._may_greet else inf
        return min(self._alarms.next(), self._routes.retry_at, greet_at)

    def expire(self, now: float) -> None:
        """Do what is due: end what is out of time, give up tries, wake what rests."""
        for item in self._alarms.due(now):
            if isinstance(item, Flight):
                self._flight_is_due(item, now)
            elif isinstance(item, Rest):
                for ticket in item.remaining():
                    self._outbox.add_again(ticket)
            elif isinstance(item, Question):
                self._give_up(item, fate.unanswered(item, self._options.names, self._troubles()))
            else:
                self._out_of_time(item, now)

    def _flight_is_due(self, flight: Flight[Waiter], now: float) -> None:
        for ticket in flight.remaining():
            if ticket.try_until > now:
                continue
            if ticket.deadline <= now:
                self._out_of_time(ticket, now)
            else:
                self._routes.silent(flight.replica, now)
                self._ledger.leave(ticket)
                self.retries["silent"] += ticket.count
                self._outbox.add_again(ticket)
        remaining = flight.remaining()
        if remaining:
            self._alarms.set(min(ticket.try_until for ticket in remaining), flight)

    def _out_of_time(self, ticket: Ticket[Waiter], now: float) -> None:
        if ticket.flight is not None:
            self._routes.silent(ticket.flight.replica, now)
        reached = self._routes.connected() is not None
        names, troubles = self._options.names, self._troubles()
        self._end(ticket, fate.out_of_time(ticket, names, troubles, self._unready, reached=reached))

    def _end(self, ticket: Ticket[Waiter], error: ClientError | None = None) -> None:
        submitted = self._ledger.end(ticket, error)
        if submitted is not None:
            self.finished.append(submitted)

    def _give_up(self, question: Question[Waiter], error: ClientError) -> None:
        self._questions.close(question, error)
        if question is self._greeting:
            self._greeting = None
            if question.asked is not None:
                self._routes.silent(question.asked, question.deadline)
        else:
            self.finished.append(question)
