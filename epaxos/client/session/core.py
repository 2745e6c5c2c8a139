"""One session with the cluster, without socket, clock or chance of its own.

What is submitted gets the next request numbers and waits in a queue. `outgoing` makes frames of what waits:
one frame takes all it can, so callers who come together travel together. `receive` takes the answers.

**Numbers stay with their commands.** Replicas execute a number of a session once, so a command whose answer
is missing is sent again under its old number, alone or in other company. A number that was given up is never
used again.

**What a failure says.** A command has certainly not executed only if every frame that held it was answered
BUSY or REFUSED, or never left. So a ticket remembers its `tries`: the replicas that got it and did not say
so. Only a ticket without any fails with `may_have_executed` False, and that stays true, because what has
failed is never sent again.

**Time.** A ticket has until its deadline. Each try may take an equal share of what is left, or of all where that
is more; then the command goes to the next replica, and an answer to an earlier try still counts. After the last try
it waits for such answers. While a replica says that a command is under way there (TAKEN), its try goes on, but for the
last share of the time.

How a session begins and ends is in `beginning`, what answers say in `receiver`; both work on the `state` that this
module makes.

The user passes the time in (seconds from any origin, never decreasing), carries the frames, reports what
becomes of connections, and asks `next_event` how long it may sleep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Generic

from epaxos.client.commands import Op, weigh
from epaxos.client.options import Options
from epaxos.client.session import fate
from epaxos.client.session.beginning import Beginning
from epaxos.client.session.outbox import Name, Outgoing
from epaxos.client.session.questions import Question
from epaxos.client.session.receiver import Receiver
from epaxos.client.session.state import LOG, Finished, State
from epaxos.client.session.tickets import Flight, Rest, Ticket, Uncopied, Waiter
from epaxos.errors import Refused
from epaxos.statemachine.batch import encode_batch
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation
from epaxos.transport.framing import Kind, seal

_BYTE: Final = tuple(bytes((value,)) for value in range(256))


class Session(Uncopied, Generic[Waiter]):
    """A client's session; see the module's text.

    One that is not `remembered` by replicas consists of reads that are none of the log (`statemachine.reading`): it
    needs no beginning, and takes no leave.

    What is over stands in `finished`, in the order it ended, until `take_finished`. `bad_frames` counts the
    frames received that were none of this protocol, `retries` the commands that were to be sent again: because the
    replica was `silent`, the connection was `lost`, or the replica was `busy`.
    """

    def __init__(
        self,
        options: Options,
        random: Random,
        generation: int | None = None,
        retries: dict[str, int] | None = None,
        *,
        remembered: bool = True,
    ) -> None:
        self._options = options
        self._max_weight = options.max_weight
        self._state: State[Waiter] = State(options, random)
        if retries is not None:
            self._state.retries = retries
        self._alarms, self._routes = self._state.alarms, self._state.routes
        self._directory = self._state.directory
        self._ledger, self._outbox = self._state.ledger, self._state.outbox
        self._questions = self._state.questions
        self._remembered = remembered
        if not remembered:
            generation = 0
        self._outbox.name = None if generation is None else Name(self.id, generation)
        self._beginning = Beginning(self._state)
        self._receiver = Receiver(self._state, self._beginning)

    @property
    def id(self) -> int:
        """By which replicas tell this session from others."""
        return self._state.id

    @property
    def finished(self) -> Sequence[Finished[Waiter]]:
        """What is over; see the class."""
        return self._state.finished

    @property
    def bad_frames(self) -> int:
        """How many frames were none of this protocol."""
        return self._state.bad_frames

    @property
    def retries(self) -> dict[str, int]:
        """How many commands were to be sent again, by the reason; the dictionary given, if one was."""
        return self._state.retries

    # What the user wants

    def submit(
        self, op: Op, now: float, timeout: float | None = None, waiter: Waiter | None = None
    ) -> Ticket[Waiter]:
        """Submit one command, to be over within `timeout` seconds (default: that of the options).

        Raises:
            Refused: the command does not fit into a frame.
        """
        operation, key, argument, _ = op
        weight = weigh(operation, key, argument, self._max_weight)
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
        options: Mapping[str, object],
        *,
        timeout: float | None = None,
        waiter: Waiter | None = None,
    ) -> Question[Waiter]:
        """Ask a replica, or the one in use, for its status, or what `options` say (see `Question`)."""
        if timeout is None:
            timeout = self._options.timeout
        question = self._questions.add(replica, timeout, now + timeout, waiter, options)
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
            self._state.end(ticket, fate.closed(ticket))
        for question in self._questions.unanswered():
            self._beginning.give_up(question, fate.never_began("the client was closed"))

    def farewell(self) -> tuple[int, bytes] | None:
        """The replica and the frame that tell, once the session is closed, that no result need be kept for it.

        A command that does nothing carries that: all numbers below its own are over. Nobody waits for its answer.
        None if nothing was ever asked, or no replica can be told.
        """
        replica = self._routes.connected()
        number, name = self._ledger.next, self._outbox.name
        if number == 1 or replica is None or name is None or not self._remembered:
            return None
        batch = encode_batch(
            name.client, number, number, _BYTE[Operation.NULL], (b"",), None, name.generation
        )
        return replica, seal(Kind.REQUEST, self._options.cluster, batch)

    def take_finished(self) -> list[Finished[Waiter]]:
        """What is over since this was last called."""
        finished, self._state.finished = self._state.finished, []
        return finished

    # What goes out

    def take_opens(self) -> list[int]:
        """The replicas to which connections are wanted, from now on for good; each is named once."""
        opens, self._routes.to_open = self._routes.to_open, []
        return opens

    def outgoing(self, now: float) -> list[Outgoing[Waiter]]:
        """The frames to be sent now, each exactly once, or to be given to `unsent`."""
        if self._outbox.name is None:
            self._beginning.greet(now)
        return self._outbox.frames(now)

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
        LOG.info("connected to %s", self._directory.names[replica])

    def fall(self, replica: int) -> None:
        """The connection is gone: what was under way over it goes elsewhere."""
        was_up, again = self.is_up(replica), self._outbox.lost(replica)
        self.retries["lost"] += again
        if was_up:
            LOG.info(
                "lost the connection to %s; %d commands go elsewhere", self._directory.names[replica], again
            )

    def hindered(self, replica: int, trouble: str) -> None:
        """Why there is no connection."""
        self._routes.links[replica].trouble = trouble

    def broken(self, replica: int, trouble: str, now: float) -> None:
        """A connection wanted by `take_opens` cannot be asked for, or is gone for good: it will be wanted again."""
        self.fall(replica)
        self._routes.broken(replica, trouble, now)

    # What comes in

    def receive(self, replica: int, data: bytes, now: float) -> None:
        """Take a frame from a replica; one that is none of this protocol is counted and dropped."""
        self._receiver.receive(replica, data, now)

    # What time does

    def next_event(self) -> float:
        """When `expire` and `outgoing` are to be called again, if nothing else happens; infinite if never."""
        return min(self._alarms.next(), self._routes.retry_at, self._beginning.next_event)

    def expire(self, now: float) -> None:
        """Do what is due: end what is out of time, give up tries, wake what rests."""
        for item in self._alarms.due(now):
            if isinstance(item, Flight):
                self._flight_is_due(item, now)
            elif isinstance(item, Rest):
                for ticket in item.remaining():
                    self._outbox.add_again(ticket)
            elif isinstance(item, Question):
                self._beginning.give_up(
                    item, fate.unanswered(item, self._directory.names, self._state.troubles())
                )
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
                silent = self._directory.names[flight.replica]
                LOG.info("%s is silent; sending %d commands again", silent, ticket.count)
                self._outbox.add_again(ticket)
        remaining = flight.remaining()
        if remaining:
            self._alarms.set(min(ticket.try_until for ticket in remaining), flight)

    def _out_of_time(self, ticket: Ticket[Waiter], now: float) -> None:
        if ticket.flight is not None:
            self._routes.silent(ticket.flight.replica, now)
        reached = self._routes.connected() is not None
        names, troubles = self._directory.names, self._state.troubles()
        self._state.end(
            ticket, fate.out_of_time(ticket, names, troubles, self._beginning.unready, reached=reached)
        )
