"""The columns of commands: the shapes of their arguments, which keys they touch, and which only read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, repeat
from typing import Final, NoReturn, TypeAlias, cast

from epaxos.errors import FrameError
from epaxos.statemachine.operations import KEYLESS, ON_ALL, PAGE_LEAST, READERS, READERS_OF_ALL, Operation

Argument: TypeAlias = "bytes | int | Sequence[object] | None"
Groups: TypeAlias = "list[list[object]]"
Columns: TypeAlias = "tuple[bytes, list[bytes], list[Argument]]"

ALL_BYTES: Final = {bytes}
"""The types in a list that holds bytes alone."""

_ONLY_READS: Final = {Operation.READ}
_ONLY_WRITES: Final = {Operation.WRITE}
_READS_AND_WRITES: Final = _ONLY_READS | _ONLY_WRITES
_KNOWN: Final = frozenset(Operation)
_NAMING: Final = frozenset(
    {Operation.MULTI, Operation.PREPARE, Operation.RESOLVE, Operation.APPLY}
)  # keys in their argument
_MULTIS: Final = bytes(operation == Operation.MULTI for operation in range(256))
_READS: Final = bytes(operation in READERS for operation in range(256))
_WRITES: Final = bytes(operation in _KNOWN - KEYLESS - READERS - ON_ALL for operation in range(256))
_ONLY_READS_OF_ANY: Final = bytes(operation in READERS | READERS_OF_ALL for operation in range(256))
_PLAIN_WRITES: Final = bytes(operation == Operation.WRITE for operation in range(256))


def multi_columns(argument: object) -> Columns | None:
    """The operations, keys and arguments of a MULTI, or None if its argument is not of that shape.

    They have one length, at least 1, and all keys are bytes; what the parts hold is not checked.
    """
    if type(argument) is not list or len(argument) != 3:
        return None
    operations, keys, arguments = argument
    if (
        type(operations) is bytes
        and operations
        and type(keys) is list
        and type(arguments) is list
        and len(operations) == len(keys) == len(arguments)
        and set(map(type, keys)) == ALL_BYTES
    ):
        return operations, keys, arguments
    return None


def prepared_columns(argument: object) -> Columns | None:
    """The columns that a PREPARE would execute, or None if its argument is not of that shape."""
    if (
        type(argument) is list
        and len(argument) == 3
        and is_generation(argument[0])
        and _are_groups(argument[1])
    ):
        return multi_columns(argument[2])
    return None


def _are_groups(value: object) -> bool:
    """Whether this names groups, each with a generation."""
    return type(value) is list and all(
        type(group) is list and len(group) == 2 and type(group[0]) is bytes and is_generation(group[1])
        for group in value
    )


def is_generation(number: object) -> bool:
    """Whether this may count collections."""
    return type(number) is int and 0 <= number < 2**62


def resolved_keys(argument: object) -> list[bytes] | None:
    """The keys that a RESOLVE unlocks, or None if its argument is not of that shape."""
    if type(argument) is list and len(argument) == 2 and type(argument[0]) is bool:
        return forgotten_keys(argument[1])
    return None


def forgotten_keys(argument: object) -> list[bytes] | None:
    """The keys of the record that a FORGET drops, or None if its argument is not of that shape."""
    return argument if type(argument) is list and set(map(type, argument)) <= ALL_BYTES else None


def footprint_columns(argument: object) -> tuple[list[bytes], list[bytes], bytes] | None:
    """The keys that an APPLY reads and writes, and its command; None if its argument is not of that shape."""
    if type(argument) is not list or len(argument) != 3:
        return None
    reads, writes, command = argument
    keys = [*reads, *writes] if type(reads) is type(writes) is list else []
    if keys and set(map(type, keys)) == ALL_BYTES and type(command) is bytes:
        return reads, writes, command
    return None


def listed(argument: object) -> int:
    """The keys that a COUNT, SCAN or CLEAR that is in order counts for, of `PAGE_KEYS` in a frame."""
    return max(PAGE_LEAST, cast("int", argument[1])) if isinstance(argument, list) else PAGE_LEAST


def is_plain(operations: bytes, arguments: Sequence[Argument] | None) -> bool:
    """Whether commands only read, or write a value as it came: what each comes to is no matter of room."""
    kinds = set(operations)
    if kinds == _ONLY_READS:
        return True
    if arguments is None or not kinds <= _READS_AND_WRITES:
        return False
    values = arguments if kinds == _ONLY_WRITES else compress(arguments, operations.translate(_PLAIN_WRITES))
    return set(map(type, values)) == ALL_BYTES


def only_reads(operations: bytes, arguments: Sequence[Argument] | None) -> bytes:
    """For each command 1 if it does nothing but read, else 0.

    Such a command conflicts with none of its kind, and may execute again.
    """
    reads = operations.translate(_ONLY_READS_OF_ANY)
    if arguments is None or Operation.MULTI not in operations:
        return reads
    marks = bytearray(reads)
    for index in compress(range(len(operations)), operations.translate(_MULTIS)):
        columns = multi_columns(arguments[index])
        marks[index] = columns is not None and READERS.issuperset(columns[0])
    return bytes(marks)


def keys_touched(
    operations: bytes, keys: list[bytes], arguments: list[Argument] | None
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """The keys that commands read and the keys that they write; a read-write counts as a write (protocol 4.4).

    What a transaction locks or unlocks it writes, also where it only reads it: who reads the key meets the lock.

    Raises:
        FrameError: one that touches other keys than its own has no columns, so nobody can say what it touches.
    """
    kinds = set(operations)
    if kinds == _ONLY_WRITES:
        return (), keys
    if kinds == _ONLY_READS:
        return keys, ()
    reads = list(compress(keys, operations.translate(_READS)))
    writes = list(compress(keys, operations.translate(_WRITES)))
    if kinds.isdisjoint(_NAMING):
        return reads, writes
    for operation, argument in zip(operations, arguments or repeat(None), strict=False):
        if operation == Operation.MULTI:
            parts, its, _ = multi_columns(argument) or _shapeless(operation)
            reads += compress(its, parts.translate(_READS))
            writes += compress(its, parts.translate(_WRITES))
        elif operation == Operation.PREPARE:
            writes += (prepared_columns(argument) or _shapeless(operation))[1]
        elif operation == Operation.RESOLVE:
            unlocked = resolved_keys(argument)
            writes += _shapeless(operation) if unlocked is None else unlocked
        elif operation == Operation.APPLY:
            read, written, _ = footprint_columns(argument) or _shapeless(operation)
            reads += read
            writes += written
    return reads, writes


def _shapeless(operation: int) -> NoReturn:
    raise FrameError("malformed", f"not a payload: a {Operation(operation).name} of wrong shape")
