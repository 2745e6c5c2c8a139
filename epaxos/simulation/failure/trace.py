"""What happened in a run, one line an event, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from epaxos.protocol.contract import Component, Effects, Event
from epaxos.protocol.epaxos.messages import CommitRequest
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from epaxos.protocol.multipaxos.state import LOG
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.checkers.reference import Command, parts_of
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.run import Outcome, Run
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine import operations
from epaxos.statemachine.batch import Payload
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.results import BatchResult

QUIET: Final = frozenset({"Beacon", "Echo"})
"""Messages that go at intervals; a trace shows them only if asked for everything."""


class Entry(NamedTuple):
    """One event: when (virtual seconds), at which replica (None: at none), what, and what it is about.

    `places` are the instances that it is about, `calls` the commands, as (client, request number). What concerns all
    of them, such as a crash, is `general`.
    """

    when: float
    row: Row | None
    text: str
    places: tuple[InstanceId, ...] = ()
    calls: tuple[tuple[int, int], ...] = ()
    general: bool = False

    def __str__(self) -> str:
        row = "" if self.row is None else self.row
        return f"{self.when * 1000:12.3f} ms  {row:>3}  {self.text}"


class Timed(Observer):
    """One that knows the time, once `clock` is set."""

    clock: Schedule | None = None

    @property
    def _now(self) -> float:
        return 0.0 if self.clock is None else self.clock.now


class Trace(Timed):
    """Hands every event to `write`; `clock` has the time.

    `carried` says for each instance which commands its owner proposed in it.
    """

    def __init__(self, write: Callable[[Entry], None], *, everything: bool = False) -> None:
        self._write = write
        self._quiet = frozenset() if everything else QUIET
        self._contents = Contents()
        self._begun: set[Row] = set()
        self.carried: dict[InstanceId, tuple[tuple[int, int], ...]] = {}

    def _line(self, row: Row | None, text: str, places: tuple[InstanceId, ...] = ()) -> None:
        self._write(Entry(self._now, row, text, places))

    def _general(self, row: Row | None, text: str) -> None:
        self._write(Entry(self._now, row, text, general=True))

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        if row in self._begun:
            checkpoint = f" and a checkpoint up to {executed}" if max(executed) >= 0 or above else ""
            self._general(row, f"RESTARTS with {len(records)} durable records{checkpoint}")
        else:
            self._begun.add(row)
            self._line(row, "starts")

    def adopted(self, row: Row, executed: Vector, above: Sequence[InstanceId]) -> None:
        """See `Observer`."""
        self._general(row, f"ADOPTS a checkpoint up to {executed} {' '.join(map(str, above))}".rstrip())

    def stopped(self, row: Row) -> None:
        """See `Observer`."""
        self._general(row, "CRASHES")

    def happened(self, text: str) -> None:
        """See `Observer`."""
        self._general(None, f"-- {text}")

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        text = f"client {call.client} asks {call.number}: {show_command(call.command)}"
        self._write(Entry(self._now, None, text, calls=((call.client, call.number),)))

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        text = f"client {call.client} is answered {call.number} by {row}: {_result(call.result)}"
        self._write(Entry(self._now, None, text, calls=((call.client, call.number),)))

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        for record in effects.records:
            if record.orig is not None and record.id not in self.carried:
                commands = self._contents.of(record.orig).commands
                self.carried[record.id] = tuple((asked.client, asked.number) for asked in commands)
            self._line(row, f"  writes {self.show_record(record)}", (record.id,))
        for note in effects.commits:
            self._line(row, f"  DECIDES {note.id} ({note.path})", (note.id,))

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        self._message(row, f"  -> {','.join(map(str, receivers))}", message)

    def delivered(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        self._message(receiver, f"<- {sender}", message)

    def lost(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        self._message(receiver, f"<- {sender}  LOST", message)

    def _message(self, row: Row, direction: str, message: Any) -> None:
        if type(message).__name__ not in self._quiet:
            self._line(row, f"{direction}  {self.show_message(message)}", places_of(message))

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        del results
        names = " ".join(f"{decided.id}{' (no-op)' if decided.value is NOP else ''}" for decided in component)
        self._line(row, f"  executes {names}", tuple(decided.id for decided in component))

    # -- values --------------------------------------------------------------------------------------------

    def show_message(self, message: Any) -> str:
        """A message with its fields by name."""
        fields = message._asdict()
        place = fields.pop("id", None)
        shown = [] if place is None else [str(place)]
        shown += [f"{name}={self._show(value)}" for name, value in fields.items()]
        return f"{type(message).__name__} {' '.join(shown)}"

    def show_record(self, record: Instance) -> str:
        """An instance with the fields that matter."""
        return (
            f"{record.id} {record.phase.name} bal={record.bal} abal={record.abal} {self._show(record.value)} "
            f"deps={self._show(record.deps)} seq={record.seq}"
        )

    def _show(self, value: Any) -> str:
        if value is NOP:
            return "no-op"
        if isinstance(value, Phase):
            return value.name
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, Payload):
            return show_content(self._contents.of(value))
        if isinstance(value, Proposal):
            return f"({self._show(value.command)} deps={self._show(value.deps)} seq={value.seq})"
        if isinstance(value, InstanceId):
            return str(value)
        if isinstance(value, tuple):
            return f"({' '.join(map(self._show, value))})"
        return str(value)


def run_traced(plan: Plan, *observers: Timed) -> Outcome:
    """Run a plan, and trace it."""
    run = Run(plan, observers)
    for observer in observers:
        observer.clock = run.cluster.schedule
    return run.execute()


def places_of(message: Any) -> tuple[InstanceId, ...]:
    """The instances that a message is about, if it is about some and not all."""
    if isinstance(message, CommitRequest):
        return tuple(InstanceId(message.row, slot) for slot in range(message.first, message.last + 1))
    slot = getattr(message, "slot", None)
    place = InstanceId(LOG, slot) if slot is not None else getattr(message, "id", None)
    return () if place is None else (place,)


def show_content(content: Content) -> str:
    """The commands of a payload, the first few of many; or what a collection carries."""
    if content.base is not None:
        return f"[collection after {content.generation}, base={content.base}]"
    shown = [f"{asked.client}:{asked.number} {show_command(asked.command)}" for asked in content.commands[:4]]
    if len(content.commands) > len(shown):
        shown.append(f"… {len(content.commands)} in all")
    return f"[{'; '.join(shown)}]"


def show_command(command: Command) -> str:
    """A command in a few words."""
    name = Operation(command.operation).name.lower()
    if command.operation == Operation.MULTI:
        return f"multi({', '.join(show_command(part) for part in parts_of(command))})"
    argument = command.argument
    if isinstance(argument, list):
        argument = " -> ".join(map(_text, argument))
    words = [name, _text(command.key), "" if argument is None else _text(argument)]
    return " ".join(word for word in words if word)


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _result(result: tuple[int, Any] | None) -> str:
    assert result is not None
    return f"{operations.Outcome(result[0]).name} {_text(result[1])}"
