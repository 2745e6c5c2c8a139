"""Clients: sessions with request numbers, time-outs, retries elsewhere, and the history of what they were told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from epaxos.protocol.ids import Row
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result
from epaxos.simulation.plan.options import Options, stream
from epaxos.simulation.plan.workload import Frame, Script
from epaxos.simulation.world.frontdoor import Looked
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.replica import Replica
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.batch import Batch, decode_batch, encode_batch
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult


class Surroundings(NamedTuple):
    """What all clients of a run share; `new_session` gives a session id that was never used."""

    options: Options
    schedule: Schedule
    observer: Observer
    replicas: Sequence[Replica]
    new_session: Callable[[], int]


class Flight:
    """A frame under way: its request numbers, and how often it was sent."""

    __slots__ = ("commands", "first", "reading", "sent", "target")

    def __init__(
        self, first: int, commands: Sequence[Command], target: Row, reading: Reading | None = None
    ) -> None:
        self.first = first
        self.reading = reading
        self.commands = commands
        self.target = target
        self.sent = 0

    @property
    def end(self) -> int:
        """The request number after the last."""
        return self.first + len(self.commands)

    def begin_with(self, number: int) -> None:
        """Leave out what comes before a command whose result had no room beside them."""
        self.commands = self.commands[number - self.first :]
        self.first = number


class Client:
    """One client, which goes through its script with at most `window` frames under way.

    It asks the same replica until that does not answer in time, then the next one, with the same request
    numbers, for as long as it takes, or until it gives up and goes on as a new session.
    """

    def __init__(self, surroundings: Surroundings, script: Script) -> None:
        self._surroundings = surroundings
        self._options = surroundings.options
        self._schedule = surroundings.schedule
        self._random = stream(self._options.seed, f"client {script.name}")
        self._frames = list(reversed(script.frames))
        self._target = self._random.randrange(self._options.replicas)
        self._lossy = True
        self._thinking = 0
        self._flights: list[Flight] = []
        self._begin_session()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask for and nothing unanswered."""
        return not (self._frames or self._thinking or self._flights)

    @property
    def open_calls(self) -> list[Call]:
        """The commands that wait for an answer."""
        return list(self._open.values())

    def start(self) -> None:
        """Begin with as many frames as the window allows."""
        for _ in range(self._options.window):
            self._think()

    def calm(self) -> None:
        """Lose nothing and give up nothing from now on."""
        self._lossy = False

    def _begin_session(self) -> None:
        self._session = self._surroundings.new_session()
        self._generation = self._surroundings.replicas[self._target].generation
        self._next = 1
        self._open: dict[int, Call] = {}
        self._flights.clear()

    @property
    def _acked(self) -> int:
        """Every lower request number has been answered; calls are open in ascending order."""
        return next(iter(self._open), self._next)

    # -- asking --------------------------------------------------------------------------------------------

    def _think(self) -> None:
        if self._frames:
            frame = self._frames.pop()
            self._thinking += 1
            self._schedule.after(frame.think, self._ask, frame)

    def _ask(self, frame: Frame) -> None:
        self._thinking -= 1
        self._take_off(frame.commands, frame.reading)

    def _take_off(self, commands: Sequence[Command], reading: Reading | None = None) -> list[Call]:
        flight = Flight(self._next, commands, self._first_asked(reading), reading)
        self._next += len(commands)
        self._flights.append(flight)
        for number, command in enumerate(commands, flight.first):
            call = Call(self._session, number, command, self._schedule.now, reading)
            self._open[number] = call
            self._surroundings.observer.asked(call)
        self._send(flight)
        return [self._open[number] for number in range(flight.first, flight.end)]

    def _first_asked(self, reading: Reading | None) -> Row:
        """An observer, where it should answer."""
        observers = self._options.observers
        if reading is not Reading.AGED:
            return self._target
        return self._options.hosts - 1 - self._next % observers

    def _send(self, flight: Flight) -> None:
        flight.sent += 1
        for batch in self._batches(flight):
            replica = self._surroundings.replicas[flight.target]
            self._carry(replica.request, batch, self._on_answer, flight.reading)
        # The time-out grows: a cluster that is slower than the first one would otherwise drown in retries.
        timeout = self._options.client_timeout * min(2 ** (flight.sent - 1), 8)
        self._schedule.after(timeout, self._on_timeout, self._session, flight, flight.sent)

    def _batches(self, flight: Flight) -> list[Batch]:
        """The flight as one frame; a retry may come in two, or together with the next flight."""
        commands = list(flight.commands)
        if flight.sent > 1 and self._random.random() < self._options.regroup:
            after = [
                other
                for other in self._flights
                if other.first == flight.end and other.reading is flight.reading
            ]
            if after and self._random.random() < 0.5:
                self._surroundings.observer.noted("retry joined with another frame")
                return [self._batch(flight.first, commands + list(after[0].commands))]
            if len(commands) > 1:
                cut = self._random.randint(1, len(commands) - 1)
                self._surroundings.observer.noted("retry split in two")
                parts = [(flight.first, commands[:cut]), (flight.first + cut, commands[cut:])]
                return [self._batch(*part) for part in parts]
        return [self._batch(flight.first, commands)]

    def _batch(self, first: int, commands: Sequence[Command]) -> Batch:
        arguments = [command.argument for command in commands]
        bare = all(argument is None for argument in arguments)
        return decode_batch(
            encode_batch(
                self._session,
                first,
                min(self._acked, first),
                bytes(command.operation for command in commands),
                [command.key for command in commands],
                None if bare else arguments,
                self._generation,
            )
        )

    def _carry(self, receive: Callable[..., None], *arguments: object) -> None:
        """Bring something to the replica or back, with the luck of the client's own network."""
        if self._lossy and self._random.random() < self._options.client_loss:
            self._surroundings.observer.noted("client's message lost")
            return
        delay = self._options.delay * self._random.random()
        self._schedule.after(delay, receive, *arguments)

    def _on_timeout(self, session: int, flight: Flight, sent: int) -> None:
        if session != self._session or flight not in self._flights or flight.sent != sent:
            return
        if self._lossy and self._random.random() < self._options.abandon:
            self._surroundings.observer.noted("client gave up")
            self._give_up()
            return
        self._surroundings.observer.noted("client retried elsewhere")
        flight.target = (flight.target + 1) % self._options.hosts
        if flight.reading is not Reading.AGED:
            self._target = flight.target
        self._send(flight)

    def _give_up(self) -> None:
        """Leave everything unanswered and go on as somebody else."""
        under_way = len(self._flights)
        self._begin_session()
        for _ in range(under_way):
            self._think()

    # -- being answered ------------------------------------------------------------------------------------

    def _on_answer(self, result: BatchResult | Looked | None, row: Row) -> None:
        """A replica answers: its reply sets out for this client."""
        if result is None:
            self._carry(self._go_elsewhere, row, self._session)
        elif isinstance(result, Looked):
            self._carry(self._take, result.result, row, True)
        else:
            self._carry(self._take, result, row, False)

    def _go_elsewhere(self, row: Row, session: int) -> None:
        """A replica wants to be asked no more; where all do, it is some time before the next one is."""
        for flight in self._flights if session == self._session else ():
            if flight.target == row:
                if flight.sent % self._options.hosts:
                    flight.target = (row + 1) % self._options.hosts
                    if flight.reading is not Reading.AGED:
                        self._target = flight.target
                    self._send(flight)
                else:
                    rest = self._options.patience
                    self._schedule.after(rest, self._on_timeout, session, flight, flight.sent)

    def _take(self, result: BatchResult, row: Row, looked: bool) -> None:  # noqa: FBT001
        if result.client != self._session:
            return
        if Outcome.EXPIRED in result.outcomes:
            self._surroundings.observer.noted("session ended before its client")
            self._give_up()
            return
        values = result.values or [None] * len(result.outcomes)
        for number, answer in enumerate(zip(result.outcomes, values, strict=True), result.first):
            if answer[0] == Outcome.UNTOLD:
                self._surroundings.observer.noted("answer without the result of a read")
                continue
            call = self._open.pop(number, None)
            if call is None:
                continue
            self._told(call, answer)
            if answer[0] == Outcome.FORGOTTEN:
                self._surroundings.observer.noted("result not kept any more")
            else:
                call.answered, call.result, call.looked = self._schedule.now, answer, looked
                self._surroundings.observer.answered(call, row)
        self._land()
        if Outcome.UNTOLD in result.outcomes:
            self._ask_for_rest(result)

    def _told(self, call: Call, answer: Result) -> None:
        """A command has been answered; for those who wait for it."""

    def _land(self) -> None:
        """Go on where frames have all their answers."""
        for flight in self._flights.copy():
            if self._open.keys().isdisjoint(range(flight.first, flight.end)):
                self._flights.remove(flight)
                self._think()

    def _ask_for_rest(self, result: BatchResult) -> None:
        """Ask for what a reply had no room for: at once, as the client library does, if it had room for something.

        If not, when the answer should have come.
        """
        some = any(outcome != Outcome.UNTOLD for outcome in result.outcomes)
        for flight in self._flights:
            if flight.first < result.end and result.first < flight.end:
                flight.begin_with(
                    next(number for number in range(flight.first, flight.end) if number in self._open)
                )
                if some:
                    self._send(flight)
