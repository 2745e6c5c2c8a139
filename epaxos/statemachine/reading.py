"""Reads that are no commands of the log: how they stand in a client's frame.

A frame may consist of reads each of which says by its argument how it is read, where the same command of the log has no
argument: READ, EXISTS and COUNT a `Reading`, SCAN one behind its four. Such a frame has no session: its numbers only
tell its answers from others, and nothing of it is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import groupby
from typing import Final

from epaxos.errors import CommandError
from epaxos.statemachine.batch import Batch
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation


class Reading(IntEnum):
    """How something is read (protocol 7).

    QUORUM  once enough has executed at the replica that is asked; of one key
    LOCAL   as it stands at that replica
    BEHIND  the same; the value is [value, how many instances the replica has heard of and not executed, None if it
            hears no quorum and so may not have heard of much]
    OBSERVED  as it stands at an observer. A replica that votes answers as by a quorum
    AGED    the same; the value is [value, how many milliseconds ago it had all that anybody was
            answered], and the value alone of a replica that votes
    """

    QUORUM = 1
    LOCAL = 2
    BEHIND = 3
    AGED = 4
    OBSERVED = 5


ELSEWHERE: Final = frozenset({Reading.QUORUM, Reading.AGED, Reading.OBSERVED})
"""What a replica that votes does not tell without asking others."""


_BARE: Final = frozenset({Operation.READ, Operation.EXISTS, Operation.COUNT})
_PAGE: Final = 4  # arguments of a SCAN
_ALLOWED: Final = {
    Operation.READ: frozenset(Reading),
    Operation.EXISTS: frozenset({Reading.QUORUM, Reading.LOCAL, Reading.OBSERVED}),
    Operation.COUNT: frozenset({Reading.LOCAL}),
    Operation.SCAN: frozenset({Reading.LOCAL}),
}


def reading_of(operation: int, argument: object) -> int:
    """How a command is to be read; 0 for one of the log, or of a wrong shape."""
    if operation in _BARE:
        return argument if type(argument) is int else 0
    if operation == Operation.SCAN and type(argument) is list and len(argument) == _PAGE + 1:
        return argument[_PAGE] if type(argument[_PAGE]) is int else 0
    return 0


def are_readings(batch: Batch) -> bool:
    """Whether a frame consists of such reads, as its first command tells."""
    return batch.arguments is not None and reading_of(batch.operations[0], batch.arguments[0]) != 0


def are_observed(batch: Batch) -> bool:
    """Whether a frame consists of reads that need no quorum."""
    readings = map(reading_of, batch.operations, batch.arguments or ())
    return are_readings(batch) and Reading.QUORUM not in readings


def as_read(argument: Argument, reading: int) -> Argument:
    """The argument of a read of the log, for one that is read otherwise."""
    return [*argument, int(reading)] if isinstance(argument, list) else int(reading)


def of_the_log(operation: int, argument: Argument) -> Argument:
    """The argument that the same command has in the log."""
    if not reading_of(operation, argument):
        return argument
    return list(argument[:_PAGE]) if isinstance(argument, list) else None


def taken_apart(batch: Batch) -> tuple[Batch, list[int]]:
    """The same reads as commands of the log, and how each is to be read.

    Raises:
        CommandError: with the index of the first that is no such read, or cannot be read like that.
    """
    arguments = batch.arguments or []
    if _are_alike(batch.operations, arguments):
        return replace(batch, arguments=None), arguments  # type: ignore[return-value]  # all are integers
    readings = list(map(reading_of, batch.operations, arguments))
    for index, (operation, reading) in enumerate(zip(batch.operations, readings, strict=True)):
        if reading not in _ALLOWED.get(operation, ()):  # type: ignore[call-overload]  # any byte
            raise CommandError(index, _refusal(operation, reading))
    bare = list(map(of_the_log, batch.operations, arguments))
    return replace(batch, arguments=None if bare.count(None) == len(bare) else bare), readings


def _are_alike(operations: bytes, arguments: Sequence[Argument]) -> bool:
    """Whether all are READs that are read in one way, as most often; by whole columns."""
    first = arguments[0]
    return (
        operations.count(Operation.READ) == len(operations)
        and type(first) is int
        and first in _ALLOWED[Operation.READ]
        and set(map(type, arguments)) == {int}
        and arguments.count(first) == len(arguments)
    )


def _refusal(operation: int, reading: int) -> str:
    if reading == Reading.QUORUM:
        return "a list or a count is no read by a quorum, which is of one key; allowed: in the log, or local"
    return (
        f"operation {operation} with reading {reading} in a frame of reads; such a frame holds nothing else"
    )


def runs(batch: Batch, readings: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
    """The parts of such a frame that a quorum is asked about, and those that it is not, in turn."""
    if readings.count(readings[0]) == len(readings):
        yield batch, list(readings)
        return
    position = 0
    for _, same in groupby(readings, ELSEWHERE.__contains__):
        part = list(same)
        yield batch.part(position, position + len(part)), part
        position += len(part)
