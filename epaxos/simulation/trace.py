"""What happened in a run, one line an event, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from epaxos.protocol.contract import Component, Effects, Event
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.checkers.reference import Command, parts_of
from epaxos.simulation.observer import Observer
from epaxos.simulation.schedule import Schedule
from epaxos.statemachine.batch import Payload
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.sessions import BatchResult

QUIET: Final = frozenset({"Beacon"})
"""Messages that go at intervals; a trace shows them only if asked for everything."""


class Trace(Observer):
    """Hands every event to `write` as a line; `clock` has the time."""

    def __init__(self, write: Callable[[str], None], *, everything: bool = False) -> None:
        self._write = write
        self._quiet = frozenset() if everything else QUIET
        self._contents = Contents()
        self.clock: Schedule | None = None

    def _line(self, row: object, text: str) -> None:
        now = 0.0 if self.clock is None else self.clock.now
        self._write(f"{now * 1000:12.3f} ms  {row!s:>3}  {text}")

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        checkpoint = f" and a checkpoint up to {executed}" if max(executed) >= 0 or above else ""
        self._line(row, f"starts with {len(records)} durable records{checkpoint}")

    def adopted(self, row: Row, executed: Vector, above: Sequence[InstanceId]) -> None:
        """See `Observer`."""
        self._line(row, f"ADOPTS a checkpoint up to {executed} {' '.join(map(str, above))}")

    def stopped(self, row: Row) -> None:
        """See `Observer`."""
        self._line(row, "CRASHES")

    def happened(self, text: str) -> None:
        """See `Observer`."""
        self._line("", f"-- {text}")

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        self._line("", f"client {call.client} asks {call.number}: {show_command(call.command)}")

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        self._line("", f"client {call.client} is answered {call.number} by {row}: {_result(call.result)}")

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        for record in effects.records:
            self._line(row, f"  writes {self.show_record(record)}")
        for note in effects.commits:
            self._line(row, f"  DECIDES {note.id} ({note.path})")

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        if type(message).__name__ not in self._quiet:
            to = ",".join(map(str, receivers))
            self._line(row, f"  -> {to}  {self.show_message(message)}")

    def delivered(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        if type(message).__name__ not in self._quiet:
            self._line(receiver, f"<- {sender}  {self.show_message(message)}")

    def lost(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        if type(message).__name__ not in self._quiet:
            self._line(receiver, f"<- {sender}  LOST {self.show_message(message)}")

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        del results
        names = " ".join(f"{decided.id}{' (no-op)' if decided.value is NOP else ''}" for decided in component)
        self._line(row, f"  executes {names}")

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


def show_content(content: Content) -> str:
    """The commands of a payload, the first few of many."""
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
    return f"{Outcome(result[0]).name} {_text(result[1])}"
