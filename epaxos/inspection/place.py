"""One instance: all its durable fields, what it depends on and what depends on it."""

from __future__ import annotations

from typing import Any

from epaxos.inspection.contents import Contents
from epaxos.inspection.wording import command_lines, payload_text, place_name, value_text, vector_text
from epaxos.protocol.ids import InstanceId, covers
from epaxos.protocol.log import Instance, Phase


def state_of(contents: Contents, place: InstanceId) -> str:
    """In a word or two, how far an instance is here."""
    if place.slot <= contents.truncated[place.row]:
        return "dropped"
    if contents.is_executed(place):
        return "executed"
    record = contents.records.get(place)
    if record is None:
        return "unknown"
    return "waiting" if record.phase is Phase.COMMITTED else record.phase.name.lower()


def describe(contents: Contents, place: InstanceId) -> dict[str, Any]:
    """All that is known of an instance, as JSON has it.

    `depends_on` has the highest instance of each row that it depends on, and with it on all below; `needed_by` of each
    row the lowest one that depends on it, and how many of the row do.
    """
    told: dict[str, Any] = {"instance": place_name(place), "state": state_of(contents, place)}
    record = contents.records.get(place)
    if record is not None:
        told |= _fields(record)
        told["depends_on"] = [
            {"instance": place_name(other), "state": state_of(contents, other)}
            for other in dependencies(record)
        ]
    return told | {"needed_by": _needed_by(contents, place)}


def dependencies(record: Instance) -> list[InstanceId]:
    """The highest instance of each row that an instance depends on."""
    return [InstanceId(row, slot) for row, slot in enumerate(record.deps) if slot >= 0]


def _fields(record: Instance) -> dict[str, Any]:
    init = record.init
    return {
        "phase": record.phase.name.lower(),
        "bal": record.bal,
        "abal": record.abal,
        "seq": record.seq,
        "deps": vector_text(record.deps),
        "value": value_text(record.value),
        "init": None if init is None else f"deps {vector_text(init.deps)}, seq {init.seq}",
        "orig": payload_text(record.orig),
        "commands": list(command_lines(record.orig)),
    }


def _needed_by(contents: Contents, place: InstanceId) -> list[dict[str, Any]]:
    needed: dict[int, list[InstanceId]] = {}
    for other, record in contents.records.items():
        if other != place and covers(record.deps, place):
            needed.setdefault(other.row, []).append(other)
    return [
        {
            "instance": place_name(min(others)),
            "state": state_of(contents, min(others)),
            "of_its_row": len(others),
        }
        for _, others in sorted(needed.items())
    ]
