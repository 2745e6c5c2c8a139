"""Registers under a script's hand: acceptors A, B, C and so on, and proposers of the names that a script gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Final

from epaxos.protocol.registers.acceptor import Acceptor
from epaxos.protocol.registers.change import Asks, Done, Pace, Verdict, Want
from epaxos.protocol.registers.proposer import Proposer
from epaxos.protocol.registers.steps import keep, once, read
from epaxos.protocol.registers.upkeep import Ask, Note, Procedure, collect
from epaxos.protocol.registers.values import (
    FIRST,
    ZERO,
    Accept,
    Accepted,
    Ballot,
    Cell,
    Configuration,
    Conflict,
    List,
    Listed,
    Prepare,
    Promise,
    Remove,
    Removed,
    Seen,
    State,
    Step,
)
from epaxos.transport.registers import NAMES
from scenario.mail import Mail, Parcel, ScenarioError
from scenario.wording import replica_name

KINDS: Final = NAMES
PACE: Final = Pace(retry=0.2, pause=0.01)
TIMEOUT: Final = 2.0


def _put(value: str | None) -> Step:
    return lambda state: (state._replace(value=None if value is None else value.encode()), value)


def _add(state: State) -> tuple[State, Any]:
    total = int(state.value or b"0") + 1
    return state._replace(value=b"%d" % total), total


STEPS: Final[dict[str, Callable[..., Step]]] = {
    "read": lambda: read,
    "add": lambda: _add,
    "put": _put,
    "delete": lambda: _put(None),
    "keep": lambda value: keep(value.encode()),
}


def _ballot(ballot: Ballot) -> str:
    if ballot in (ZERO, FIRST):
        return "none" if ballot == ZERO else "first"
    return f"{ballot.counter}{replica_name(ballot.proposer)}"


def _value(state: State) -> str:
    return "nothing" if state.value is None else state.value.decode()


def _taken(accepted: Ballot, state: State) -> str:
    return "took nothing yet" if accepted == ZERO else f"took {_value(state)} at {_ballot(accepted)}"


def _wording(message: Any) -> str:
    """A message as a person reads it."""
    start = f"{type(message).__name__} {message.key.decode()}".rstrip()
    at = _ballot(message.ballot)
    match message:
        case Accept():
            text = f" {at}: {_value(message.state)}"
            return (
                start
                + text
                + (f", and promise {_ballot(message.following)}" if message.following > ZERO else "")
            )
        case Promise():
            return f"{start} {at}, {_taken(message.accepted, message.state)}"
        case Conflict():
            never = ", never taken" if message.never else ""
            return f"{start} {at}: {_ballot(message.held)} stands in the way{never}"
        case Seen():
            return f"{start}: {_taken(message.accepted, message.state)}"
        case Listed():
            return f"{start}: {' '.join(key.decode() for key in message.keys) or 'nothing'}"
        case Removed():
            return f"{start} {at}: {'done' if message.done else 'refused'}"
        case Prepare() | Accepted() | Remove():
            return f"{start} {at}"
    return start


class _Acceptor:
    """Its cells are durable at once."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self.name = name
        self.alive = True
        self.cells: dict[bytes, Cell] = {}
        self._say = say
        self._floor = ZERO
        self.start()

    def start(self) -> None:
        self.alive = True
        self._core = Acceptor(self.cells.get, self._floor)

    def take(self, request: Any) -> Any:
        if isinstance(request, List):
            return Listed(request.key, request.ballot, tuple(sorted(self.cells)))
        taken = self._core.take(request)
        if taken.cell is not None:
            self.cells[taken.cell.key] = taken.cell
            self._say(f"{self.name} records {self.describe(taken.cell.key)}")
        if taken.removed is not None:
            del self.cells[taken.removed]
            self._floor = self._core.floor
            self._say(f"{self.name} removes {taken.removed.decode()}; its floor is {_ballot(self._floor)}")
        return taken.answer

    def describe(self, key: bytes) -> str:
        cell = self.cells.get(key)
        if cell is None:
            return f"{key.decode()}: nothing, promised {_ballot(self._floor)}"
        return f"{key.decode()}: promised {_ballot(cell.promised)}, {_taken(cell.accepted, cell.state)}"


class _Proposer:
    """Its counter is durable; what it collects is not."""

    def __init__(self, row: int, configuration: Configuration) -> None:
        self.row = row
        self.name = replica_name(row)
        self.alive = True
        self.counter = 0
        self.configuration = configuration
        self.start()

    def start(self) -> None:
        self.alive = True
        self.core = Proposer(self.row, self.configuration, self.counter, Random(self.row), PACE)
        self.wants: dict[int, str] = {}
        self.ends: dict[int, Callable[[Done], None]] = {}
        self.procedure: Procedure | None = None
        self.asking: Ask | None = None
        self.answers: dict[int, Any] = {}


class Registers(Mail):
    """`n` acceptors, and proposers of these names."""

    def __init__(self, n: int, proposers: str, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self.now = 0.0
        members = tuple(range(n))
        configuration = Configuration(1, members, members)
        self._acceptors = {row: _Acceptor(replica_name(row), self.say) for row in members}
        rows = [ord(name) - ord("A") for name in proposers.split(",")]
        self._proposers = {row: _Proposer(row, configuration) for row in rows}
        self.say(f"a majority is {configuration.votes} of {', '.join(map(replica_name, members))}")

    def row(self, name: str) -> int:
        """The row of an acceptor or a proposer."""
        row = ord(name) - ord("A") if len(name) == 1 else -1
        if row not in self._acceptors and row not in self._proposers:
            raise ScenarioError(f"no acceptor or proposer {name}")
        return row

    def _proposer(self, name: str) -> _Proposer:
        found = self._proposers.get(self.row(name))
        if found is None or not found.alive:
            raise ScenarioError(f"{name} is down, or no proposer")
        return found

    # -- commands ------------------------------------------------------------------------------------------

    def propose(self, name: str, key: str, *words: str) -> None:
        """A change of a register; `first` and `once=NUMBER` behind it say more of it."""
        change, *arguments = (word for word in words if word != "first" and not word.startswith("once="))
        if change not in STEPS:
            raise ScenarioError(f"no change {change}, only {', '.join(STEPS)}")
        step = STEPS[change](*arguments)
        numbers = [int(word.partition("=")[2]) for word in words if word.startswith("once=")]
        for number in numbers:
            step = once(step, 1, number)
        want = Want(
            key.encode(),
            step,
            reads=change == "read",
            repeatable=bool(numbers) or change == "keep",
            first="first" in words,
        )
        self._propose(
            self._proposer(name), want, f"{' '.join((change, *arguments))} in {key}", lambda _: None
        )

    def collect(self, name: str) -> None:
        """Forget what is deleted."""
        proposer = self._proposer(name)
        proposer.procedure = collect(proposer.configuration)
        self._go_on(proposer, None)

    def tick(self, seconds: float) -> None:
        """Let time pass, and nothing be delivered."""
        end = self.now + seconds
        while True:
            dues = [
                (due, row)
                for row, one in self._proposers.items()
                if one.alive and (due := one.core.due) is not None
            ]
            due, row = min(dues, default=(end + 1, -1))
            if due > end:
                break
            self.now = max(self.now, due)
            self._perform(self._proposers[row], self._proposers[row].core.tick(self.now))
        self.now = end

    def crash(self, name: str) -> None:
        self._machine(name, alive=True).alive = False

    def restart(self, name: str) -> None:
        self._machine(name, alive=False).start()

    def show(self, key: str) -> None:
        """What all acceptors have of a register."""
        for acceptor in self._acceptors.values():
            self.say(f"{acceptor.name} has {acceptor.describe(key.encode())}")

    def _machine(self, name: str, *, alive: bool) -> _Acceptor | _Proposer:
        row = self.row(name)
        machine = self._acceptors.get(row) or self._proposers[row]
        if machine.alive is not alive:
            raise ScenarioError(f"{name} is {'up' if machine.alive else 'down'}")
        return machine

    # -- proposers -----------------------------------------------------------------------------------------

    def _propose(self, proposer: _Proposer, want: Want, text: str, end: Callable[[Done], None]) -> None:
        ticket, asks = proposer.core.propose(want, self.now + TIMEOUT, self.now)
        proposer.wants[ticket], proposer.ends[ticket] = text, end
        self._perform(proposer, asks)

    def _perform(self, proposer: _Proposer, asks: Asks) -> None:
        if asks.reserve is not None:
            proposer.counter = asks.reserve
            self.say(f"{proposer.name} reserves counters up to {asks.reserve}")
        self._send_all(proposer, asks.sends)
        for done in asks.done:
            text = done.verdict.value
            if done.verdict is Verdict.DONE:
                found = done.result.decode() if isinstance(done.result, bytes) else done.result
                found = "nothing" if found is None else found
                text = f"done, {found}; {done.trips} round trip{'s' if done.trips > 1 else ''}"
            self.say(f"{proposer.name}: {proposer.wants.pop(done.ticket)}: {text}")
            proposer.ends.pop(done.ticket)(done)

    def _send_all(self, proposer: _Proposer, sends: Iterable[tuple[int, Any]]) -> None:
        receivers: dict[str, list[int]] = {}
        for receiver, request in sends:
            receivers.setdefault(_wording(request), []).append(receiver)
            self._send(proposer.row, receiver, request)
        for text, rows in receivers.items():
            self.say(f"{proposer.name} -> {', '.join(map(replica_name, rows))}: {text}")

    def _go_on(self, proposer: _Proposer, result: Any) -> None:
        """Do what a collection wants next."""
        assert proposer.procedure is not None
        proposer.asking, proposer.answers = None, {}
        try:
            todo = proposer.procedure.send(result)
        except StopIteration as end:
            self.say(f"{proposer.name}: collected {end.value}")
            proposer.procedure = None
            return
        if isinstance(todo, Note):
            self._go_on(proposer, None)
        elif isinstance(todo, Want):
            text = "tombstone everywhere" if todo.everywhere else "what is there"
            self._propose(proposer, todo, f"{text} in {todo.key.decode()}", partial(self._go_on, proposer))
        else:
            assert isinstance(todo, Ask)
            proposer.asking = todo
            self._send_all(proposer, [(acceptor, todo.request) for acceptor in todo.acceptors])

    # -- messages ------------------------------------------------------------------------------------------

    def _arrive(self, parcel: Parcel) -> None:
        receiver = self._acceptors.get(parcel.receiver) or self._proposers[parcel.receiver]
        if not receiver.alive:
            self.say(f"lost, {receiver.name} is down: {self._describe(parcel)}")
            return
        self.say(self._describe(parcel))
        if isinstance(receiver, _Acceptor):
            answer = receiver.take(parcel.message)
            self.say(f"{receiver.name} -> {replica_name(parcel.sender)}: {_wording(answer)}")
            self._send(parcel.receiver, parcel.sender, answer)
        elif receiver.asking is not None and isinstance(parcel.message, Listed | Removed):
            receiver.answers[parcel.sender] = parcel.message
            if len(receiver.answers) >= receiver.asking.needed:
                self._go_on(receiver, receiver.answers)
        else:
            self._perform(receiver, receiver.core.take(parcel.sender, parcel.message, self.now))

    def _describe(self, parcel: Parcel) -> str:
        ends = f"{replica_name(parcel.sender)}->{replica_name(parcel.receiver)}"
        return f"{ends} {type(parcel.message).__name__} {parcel.message.key.decode()}".rstrip()

    def _place_of(self, message: Any) -> Any:
        return message.key.decode()
