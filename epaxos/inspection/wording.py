"""How instances, vectors, commands and bytes are written: `A.17` is slot 17 of the first row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Value
from epaxos.statemachine.batch import Batch, Payload
from epaxos.statemachine.columns import multi_columns
from epaxos.statemachine.operations import Operation

_LETTERS: Final = 26
_LONGEST: Final = 48
"""Bytes of a key or value that are shown."""

_PLACE: Final = re.compile(r"(?P<row>[A-Za-z]|\d{1,5})\.(?P<slot>\d{1,18})")


def row_name(row: Row) -> str:
    """A row: a letter, as in the documents, or its number where there are not enough."""
    return chr(ord("A") + row) if row < _LETTERS else str(row)


def place_name(place: InstanceId) -> str:
    """An instance: `A.17`."""
    return f"{row_name(place.row)}.{place.slot}"


def read_place(text: str, n: int) -> InstanceId:
    """The instance that a person means by `A.17`, `a.17` or `0.17`, in a cluster of n.

    Raises:
        ValueError: none, or one of a row that there is not; says what is allowed.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError("allowed: a row and a slot, like A.17 or 0.17")
    name = match["row"]
    row = int(name) if name.isdigit() else ord(name.upper()) - ord("A")
    if row >= n:
        raise ValueError(f"allowed: rows {row_name(0)} to {row_name(n - 1)}, or 0 to {n - 1}")
    return InstanceId(row, int(match["slot"]))


def vector_text(vector: Vector) -> str:
    """A vector by row: `A.17 C.4`; `-` if it covers nothing."""
    names = [place_name(InstanceId(row, slot)) for row, slot in enumerate(vector) if slot >= 0]
    return " ".join(names) or "-"


def bytes_text(content: bytes) -> str:
    """Bytes as text in quotes where they are printable, else in hexadecimal digits; long ones are cut."""
    start = content[:_LONGEST]
    try:
        text = start.decode()
    except UnicodeDecodeError:
        text = "\0"
    shown = f"'{text}'" if text.isprintable() and "'" not in text else f"0x{start.hex()}"
    return shown if len(content) <= _LONGEST else f"{shown}… ({len(content)} bytes)"


def value_text(value: Value | None) -> str:
    """What an instance holds, in a word or two."""
    if value is None:
        return "nothing"
    return "no-op" if value is NOP else payload_text(value)


def payload_text(payload: Command | None) -> str:
    """A payload, in a few words."""
    if payload is None:
        return "nothing"
    size = f"{payload.size} bytes"
    if not isinstance(payload, Payload):
        return size
    return f"{len(payload)} command{'' if len(payload) == 1 else 's'}, {size}"


def keys_text(payload: Command | None, most: int) -> str:
    """The keys that a payload touches, in so many letters at most, and how many others there are."""
    if not isinstance(payload, Payload):
        return ""
    names = [bytes_text(key).strip("'") for key in dict.fromkeys([*payload.writes, *payload.reads])]
    if not names:
        return ""
    for shown in range(len(names), 0, -1):
        left = len(names) - shown
        text = " ".join(names[:shown]) + (f" +{left}" if left else "")
        if len(text) <= most:
            return text
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return f"{names[0][: most - 1 - len(more)]}…{more}"


def command_lines(payload: Command | None) -> Iterator[str]:
    """The commands of a payload, a line each."""
    for batch in payload.batches if isinstance(payload, Payload) else ():
        yield from _batch_lines(batch)


def _batch_lines(batch: Batch) -> Iterator[str]:
    arguments = batch.arguments or [None] * len(batch)
    for index, columns in enumerate(zip(batch.operations, batch.keys, arguments, strict=True)):
        yield f"client {batch.client:016x} request {batch.first + index}: {_command_text(*columns)}"


def _command_text(operation: int, key: bytes, argument: object) -> str:
    name = Operation(operation).name if operation in list(Operation) else f"operation {operation}"
    parts = multi_columns(argument) if operation == Operation.MULTI else None
    if parts is not None:
        inner = "; ".join(_command_text(*part) for part in zip(*parts, strict=True))
        return f"{name} ({inner})"
    words = (
        [name] + ([bytes_text(key)] if key else []) + ([] if argument is None else [_argument_text(argument)])
    )
    return " ".join(words)


def _argument_text(argument: object) -> str:
    if isinstance(argument, bytes):
        return bytes_text(argument)
    if isinstance(argument, list):
        return " -> ".join("none" if part is None else _argument_text(part) for part in argument)
    return str(argument)
