"""How a client reads: by the log, by a quorum, or as things stand at one replica (docs/reads.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, cast

from epaxos.client.codecs import V
from epaxos.client.commands import Op, T, name_of
from epaxos.errors import Refused
from epaxos.statemachine.operations import READERS_OF_ALL, Operation
from epaxos.statemachine.reading import Reading, as_read, of_the_log, reading_of

Reads: TypeAlias = Literal["log", "quorum", "local", "observer"]
"""`log`: ordered like a command; `quorum`: as good, without a place in the log; `local`: what one replica has now;
`observer`: what one that has no vote has."""

READINGS: Final = {
    "log": 0,
    "quorum": int(Reading.QUORUM),
    "local": int(Reading.LOCAL),
    "observer": int(Reading.OBSERVED),
}
READS: Final = tuple(READINGS)

_HOW: Final = {"quorum": "by a quorum", "observer": "at an observer"}


@dataclass(frozen=True, slots=True)
class Look(Generic[V]):
    """The value of a key at one replica, None if there is none.

    `behind` is how many instances that replica had heard of and not executed; None if it heard no quorum, and so may
    not have heard of much. It is 0 if the read went through the log after all.
    `age` is how many seconds ago an observer's state, which this is of, had all that anybody had been answered; 0 if a
    replica that votes has answered, and None where none was asked for.
    """

    value: V | None
    behind: int | None = None
    age: float | None = None


def check_reads(reads: str) -> Reads:
    """The way to read of this name.

    Raises:
        ValueError: there is none.
    """
    if reads not in READS:
        raise ValueError(f"reads is {reads!r}; allowed: {', '.join(READS)}")
    return cast("Reads", reads)


def read_as(operation: Op[T], reads: str) -> Op[T]:
    """A command that only reads one key, to be read in this way; local may be a scan and a count too.

    Raises:
        ValueError: there is no such way.
        Refused: it cannot be read like that.
    """
    reading = READINGS[check_reads(reads)]
    kind = operation.operation
    if not reading:
        return in_the_log(operation)
    if kind in READERS_OF_ALL and reading != Reading.LOCAL:
        raise Refused(
            f"{name_of(kind)} cannot be read {_HOW[reads]}, which tells of one key; allowed: log, local"
        )
    if kind not in READERS_OF_ALL and kind not in (Operation.READ, Operation.EXISTS):
        raise Refused(
            f"{name_of(kind)} is nothing that is read by {reads}; allowed: get, exists, scan, count"
        )
    return operation._replace(argument=as_read(operation.argument, reading))


def look_at(operation: Op, reads: str = "local") -> Op:
    """A get as `Look` tells it.

    Raises:
        ValueError: it is told of no other reads.
    """
    if reads not in ("local", "observer"):
        raise ValueError(f"reads is {reads!r}; allowed: local, observer")
    return operation._replace(argument=int(Reading.BEHIND if reads == "local" else Reading.AGED))


def is_observed(operation: Op) -> bool:
    """Whether a command is to be read at an observer."""
    return reading_of(operation.operation, operation.argument) in (Reading.AGED, Reading.OBSERVED)


def is_reading(operation: Op) -> bool:
    """Whether a command is to be read in another way than by the log."""
    return reading_of(operation.operation, operation.argument) != 0


def in_the_log(operation: Op[T]) -> Op[T]:
    """The same as a command."""
    if not is_reading(operation):
        return operation
    return operation._replace(argument=of_the_log(operation.operation, operation.argument))


def together(operations: Sequence[Op[T]], reads: str) -> tuple[Sequence[Op[T]], bool]:
    """The commands of a bulk call, and whether none of them needs the log.

    What only reads goes by the log too where others in the call do: they are one session, in one order.
    """
    if READINGS[check_reads(reads)]:
        operations = [read_as(operation, reads) for operation in operations]
    if all(map(is_reading, operations)):
        return operations, bool(operations)
    return list(map(in_the_log, operations)), False
