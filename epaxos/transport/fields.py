"""The fields of messages between replicas, checked on the way in for the shape that they have in this cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from epaxos.errors import FrameError
from epaxos.protocol.command import Command
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Phase, Proposal, Value

NOP_CODE: Final = 0
_LARGEST: Final = 2**62


class Fields:
    """Reads fields for a cluster of n replicas whose log has so many rows.

    An instance id is [row, slot], a vector an array with a slot for each row, a payload its own bytes, NOP the
    integer 0.
    `decode_command` turns a payload's bytes into a command, or raises FrameError. All methods raise FrameError.
    """

    def __init__(self, n: int, rows: int, decode_command: Callable[[bytes], Command]) -> None:
        self.n = n
        self.rows = rows
        self._decode_command = decode_command

    def place(self, field: Any) -> InstanceId:
        """The place of an instance."""
        if type(field) is list and len(field) == 2:
            row, slot = field
            if type(row) is int and type(slot) is int and 0 <= row < self.rows and 0 <= slot < _LARGEST:
                return InstanceId(row, slot)
        raise FrameError("malformed", "bad instance id in a peer request")

    def vector(self, field: Any) -> Vector:
        """A slot for each row, -1 where there is none."""
        return self.foreign_vector(field, self.rows)

    def foreign_vector(self, field: Any, rows: int | None = None) -> Vector:
        """The same of so many rows, by default of as many as it has: those of another epoch."""
        if type(field) is list and len(field) == (len(field) if rows is None else rows):
            for slot in field:
                if type(slot) is not int or not -1 <= slot < _LARGEST:
                    break
            else:
                return tuple(field)
        raise FrameError("malformed", "bad vector in a peer request")

    def own_deps(self, place: InstanceId, field: Any, value: Value | None = None) -> Vector:
        """Dependencies of an instance, which in its own row lie below it; a barrier depends on all of that."""
        deps = self.vector(field)
        check(deps[place.row] < place.slot, "dependency of an instance on itself or a later one of its row")
        if value is not None and value is not NOP and value.ends:
            check(deps[place.row] == place.slot - 1, "barrier, which leaves something of its row out,")
        return deps

    def command(self, field: Any) -> Command:
        """A payload."""
        check(type(field) is bytes, "payload")
        command = self._decode_command(field)
        check(command.base is None or len(command.base) == self.rows, "collection")
        return command

    def value(self, field: Any) -> Value | None:
        """A payload or NOP; None where the message leaves it out."""
        if field is None:
            return None
        if type(field) is int and field == NOP_CODE:
            return NOP
        return self.command(field)

    def proposal(self, place: InstanceId, field: Any) -> Proposal | None:
        """What an owner proposed; None where that is not known."""
        if field is None:
            return None
        check(type(field) is list, "proposal")
        command, deps, seq = field
        payload = self.command(command)
        return Proposal(payload, self.own_deps(place, deps, payload), number(seq))

    def check_ballot(self, sender: Row, name: str, place: InstanceId, ballot: Ballot) -> None:
        """Ballot 0 belongs to the row's owner, every other to the replica that it names (protocol 4.1)."""
        holder = ballot % self.n if ballot else place.row
        check_sender(sender == holder, f"{name} at ballot {ballot}", sender, place)


def check(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a statement where it is used
    """Raise FrameError unless a field is as it should be."""
    if not holds:
        raise FrameError("malformed", f"bad {what} in a peer request")


def check_sender(holds: bool, what: str, sender: Row, place: InstanceId) -> None:  # noqa: FBT001 - as above
    """Raise FrameError if the message cannot come from its sender."""
    if not holds:
        raise FrameError("sender", f"{what} of {place} cannot come from row {sender}")


def number(field: Any) -> Slot:
    """A number of 0 or more."""
    if type(field) is int and 0 <= field < _LARGEST:
        return field
    raise FrameError("malformed", "bad number in a peer request")


def slot(field: Any) -> Slot:
    """A number of -1 or more."""
    check(type(field) is int and -1 <= field < _LARGEST, "position")
    slot: int = field
    return slot


def phase_of(field: Any) -> Phase:
    """How far an instance has come."""
    check(type(field) is int, "phase")
    return Phase(field)
