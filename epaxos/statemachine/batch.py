"""Batches of commands as columns, and the payload of an instance made of them.

A batch is what one client sends in one frame: commands of one session with consecutive request numbers,
held as columns. It is encoded once, by the client library; replicas store, forward and execute those same
bytes, so no replica spends time on a command where a column can be handled by one C-level call.

A `Payload` is what one instance carries: the batches that one replica took from its clients in one round.
To the protocol it is opaque but for the keys it reads and writes (`protocol.command.Command`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from types import NoneType
from typing import Final, NamedTuple, TypeAlias

import msgpack

from epaxos.errors import CommandError, FrameError
from epaxos.protocol.ids import Vector
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, KEYLESS, Operation
from epaxos.statemachine.sessions import WINDOW

Argument: TypeAlias = "bytes | int | Sequence[object] | None"
Columns: TypeAlias = "tuple[bytes, list[bytes], list[Argument]]"

_ALL_BYTES: Final = {bytes}
_ONLY_READS: Final = {Operation.READ}
_ONLY_WRITES: Final = {Operation.WRITE}
_KNOWN: Final = frozenset(Operation)
_NO_ARGUMENT: Final = frozenset({Operation.NULL, Operation.READ, Operation.DELETE})
_MULTIS: Final = bytes(operation == Operation.MULTI for operation in range(256))
_ONLY_KEY: Final = frozenset({Operation.READ, Operation.DELETE})
_ONLY_VALUE: Final = frozenset({Operation.WRITE, Operation.WRITEREAD, Operation.APPEND})
_PLAIN_TYPES: Final[tuple[type, ...]] = tuple(  # object: the argument, if any, needs a closer look
    NoneType if operation in _ONLY_KEY else bytes if operation in _ONLY_VALUE else object
    for operation in range(256)
)
_READS: Final = bytes(operation == Operation.READ for operation in range(256))
_WRITES: Final = bytes(operation in _KNOWN - KEYLESS - {Operation.READ} for operation in range(256))


REPLY_HEAD: Final = 2048
"""Bytes of a frame with a reply beside outcomes and values, generously."""

MULTI_PARTS: Final = 10_000
"""Operations inside the MULTIs of one frame at most. They execute one by one in every replica's thread, some µs
each; without a bound one frame could hold millions and stop the cluster for half a minute."""


class Bounds(NamedTuple):
    """What the execution of a payload may come to, in bytes; part of the payload, so that it is the same everywhere.

    value    a value that APPEND makes, at most
    results  the results of one batch's commands that write, together, and those of one MULTI that only reads
    """

    value: int
    results: int


class Limits(NamedTuple):
    """The largest things a command may hold; the same on every replica of a cluster.

    `key`, `value` and `results` (see `Bounds`) are in bytes, `pause` in milliseconds; `window` is after how many
    collections without a command a session ends.
    """

    key: int = 64 * 1024
    value: int = 1024 * 1024
    pause: int = 100
    results: int = 32 * 1024 * 1024 - REPLY_HEAD
    window: int = WINDOW

    @property
    def bounds(self) -> Bounds:
        """What goes into a payload."""
        return Bounds(self.value, self.results)


_DEFAULT_BOUNDS: Final = Limits().bounds


@dataclass(slots=True)
class Batch:
    """Commands of one client session, as columns of one length.

    `client` is the session's random 64-bit id. The commands have the request numbers `first`,
    `first + 1`, …; every request number below `acked` has been answered to the client, so results
    kept for it may go. `arguments` is None where no command of the batch has one. `generation` is how many
    collections had executed at some replica when the session began (`statemachine.sessions`).
    """

    client: int
    first: int
    acked: int
    operations: bytes
    keys: list[bytes]
    arguments: list[Argument] | None
    encoded: bytes
    generation: int = 0

    def __len__(self) -> int:
        return len(self.operations)


def encode_batch(
    client: int,
    first: int,
    acked: int,
    operations: bytes,
    keys: Sequence[bytes],
    arguments: Sequence[Argument] | None,
    generation: int = 0,
) -> bytes:
    """Encode a batch; the columns must have one length (`operations` decides it)."""
    encoded: bytes = msgpack.packb((client, generation, first, acked, operations, keys, arguments))
    return encoded


def decode_batch(encoded: bytes) -> Batch:
    """Decode a batch and check its shape, column by column; what the commands hold is not checked.

    Raises:
        FrameError: the bytes are no batch.
    """
    try:
        client, generation, first, acked, operations, keys, arguments = msgpack.unpackb(encoded)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a batch: {error}") from error
    count = len(operations) if type(operations) is bytes else 0
    if not (
        count
        and type(client) is type(generation) is type(first) is type(acked) is int
        and 0 <= client < 2**64
        and 0 <= generation < 2**62
        and 0 < first < 2**63
        and 0 <= acked <= first
        and type(keys) is list
        and len(keys) == count
        and set(map(type, keys)) == _ALL_BYTES
        and (arguments is None or (type(arguments) is list and len(arguments) == count))
    ):
        raise FrameError("malformed", "not a batch: columns of wrong type or length")
    return Batch(client, first, acked, operations, keys, arguments, encoded, generation)


def check_batch(batch: Batch, limits: Limits) -> None:
    """Check every command of a client's batch before it may be proposed.

    Raises:
        CommandError: with the index of the first command that may not be proposed.
    """
    if _plainly_fine(batch, limits):
        return
    arguments = batch.arguments or [None] * len(batch)
    cost = _Cost(limits)
    for index, command in enumerate(zip(batch.operations, batch.keys, arguments, strict=True)):
        reason = _refusal(*command, limits) or cost.add(command[0], command[2])
        if reason:
            raise CommandError(index, reason)


class _Cost:
    """What the commands of a frame cost every replica's thread, beyond what their number tells."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pause = 0
        self._parts = 0

    def add(self, operation: int, argument: object) -> str | None:
        """Take account of a command that is in order by itself; why it may not be proposed beside the others."""
        if operation == Operation.PAUSE and isinstance(argument, int):
            self._pause += argument
        elif operation == Operation.MULTI and isinstance(argument, list):
            self._parts += len(argument[0])
        if self._pause > self._limits.pause:
            return f"PAUSEs of {self._pause} ms in a frame; at most {self._limits.pause} are allowed"
        if self._parts > MULTI_PARTS:
            return f"{self._parts} operations in the MULTIs of a frame; at most {MULTI_PARTS} are allowed"
        return None


def _plainly_fine(batch: Batch, limits: Limits) -> bool:
    """Whether a batch of operations that take a key and at most a value is in order, by whole columns.

    A hundred writes take 6 µs this way, mixed with reads 10 µs, and 80 µs one by one; False means only
    "look closer".
    """
    lengths = set(map(len, batch.keys))
    if not 0 < min(lengths) <= max(lengths) <= limits.key:
        return False
    arguments = batch.arguments
    kinds = set(batch.operations)
    if arguments is None:
        return kinds <= _ONLY_KEY
    if kinds == _ONLY_WRITES:
        return (
            set(map(type, arguments)) == _ALL_BYTES and max(map(len, arguments)) <= limits.value  # type: ignore[arg-type]  # all bytes
        )
    values = filter(None, arguments)
    return (
        list(map(type, arguments)) == list(map(_PLAIN_TYPES.__getitem__, batch.operations))
        and max(map(len, values), default=0) <= limits.value  # type: ignore[arg-type]  # all bytes
    )


def _refusal(operation: int, key: bytes, argument: object, limits: Limits) -> str | None:
    """Why one command may not be proposed, or None if it may."""
    if operation not in _KNOWN:
        return f"unknown operation {operation}; known are 0 to {max(_KNOWN)}"
    kind = Operation(operation)
    return _bad_key(kind, key, limits) or _bad_argument(kind, argument, limits)


def _bad_key(kind: Operation, key: bytes, limits: Limits) -> str | None:
    if kind in KEYLESS:
        return f"{kind.name} takes no key" if key else None
    if not key:
        return f"{kind.name} needs a key of 1 to {limits.key} bytes"
    if len(key) > limits.key:
        return f"key of {len(key)} bytes; at most {limits.key} are allowed"
    return None


def _bad_argument(kind: Operation, argument: object, limits: Limits) -> str | None:
    if kind in _NO_ARGUMENT:
        return None if argument is None else f"{kind.name} takes no argument"
    if kind == Operation.INCREMENT:
        return _bad_integer(kind.name, argument, INTEGER_MIN, INTEGER_MAX)
    if kind == Operation.PAUSE:
        return _bad_integer(f"{kind.name} in milliseconds", argument, 0, limits.pause)
    if kind == Operation.CAS:
        return _bad_swap(argument, limits)
    if kind == Operation.MULTI:
        return _bad_multi(argument, limits)
    return _bad_value(kind.name, argument, limits)


def _bad_value(name: str, argument: object, limits: Limits) -> str | None:
    if type(argument) is not bytes:
        return f"{name} needs a value of bytes"
    if len(argument) > limits.value:
        return f"value of {len(argument)} bytes; at most {limits.value} are allowed"
    return None


def _bad_integer(name: str, argument: object, lowest: int, highest: int) -> str | None:
    if type(argument) is not int or not lowest <= argument <= highest:
        return f"{name} needs an integer from {lowest} to {highest}"
    return None


def _bad_swap(argument: object, limits: Limits) -> str | None:
    if type(argument) is not list or len(argument) != 2:
        return "CAS needs [expected value or null, new value]"
    expected, new = argument
    if expected is not None and (reason := _bad_value("CAS", expected, limits)):
        return reason
    return _bad_value("CAS", new, limits)


def _bad_multi(argument: object, limits: Limits) -> str | None:
    columns = multi_columns(argument)
    if columns is None:
        return "MULTI needs [operations, keys, arguments], columns of one length, at least one operation"
    if len(columns[0]) > MULTI_PARTS:
        return f"MULTI of {len(columns[0])} operations; at most {MULTI_PARTS} are allowed"
    for position, part in enumerate(zip(*columns, strict=True)):
        if part[0] in KEYLESS:
            return f"MULTI may not hold operation {part[0]} (its position {position})"
        if reason := _refusal(*part, limits):
            return f"{reason} (position {position} of a MULTI)"
    return None


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
        and set(map(type, keys)) == _ALL_BYTES
    ):
        return operations, keys, arguments
    return None


class Payload:
    """What one instance carries: batches, the keys they read and write, and what their execution may come to.

    Or a collection, which has no batch: the one after `generation` others (`statemachine.sessions`); for `base` see
    `protocol.command.Command`.

    `reads` and `writes` may name a key twice; a key that is both read and written may stand in both. `bounds` are
    those of the replica that proposed it. They travel with it because replicas that executed it under bounds of their
    own would differ for ever once these were raised between two starts. None stands for those of whoever executes it.

    Raises:
        FrameError: a batch that `check_batch` would refuse holds a MULTI of wrong shape.
    """

    __slots__ = ("base", "batches", "bounds", "encoded", "generation", "reads", "writes")

    def __init__(
        self,
        batches: Sequence[Batch],
        encoded: bytes,
        bounds: Bounds | None = None,
        generation: int = 0,
        base: Vector | None = None,
    ) -> None:
        self.batches = batches
        self.bounds = bounds
        self.encoded = encoded
        self.generation = generation
        self.base = base
        self.reads: Collection[bytes] = ()
        self.writes: Collection[bytes] = ()
        if len(batches) == 1:
            self.reads, self.writes = _keys_touched(batches[0])
        else:
            touched = [_keys_touched(batch) for batch in batches]
            self.reads = _joined(reads for reads, _ in touched)
            self.writes = _joined(writes for _, writes in touched)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        if self.base is not None:
            return f"Payload(collection after {self.generation}, base={self.base})"
        return f"Payload({len(self)} commands, {len(self.encoded)} bytes)"


def make_payload(batches: Sequence[Batch], bounds: Bounds = _DEFAULT_BOUNDS) -> Payload:
    """The payload of the given batches, in their order (which is their order of execution)."""
    return Payload(batches, msgpack.packb([bounds, *[batch.encoded for batch in batches]]), bounds)


def make_collection(generation: int, base: Vector) -> Payload:
    """A collection, the one after `generation` others; all up to `base` has executed here."""
    return Payload((), msgpack.packb((generation, base)), None, generation, base)


def decode_payload(encoded: bytes) -> Payload:
    """Decode what `make_payload` encoded.

    Raises:
        FrameError: the bytes are no payload.
    """
    try:
        first, *parts = msgpack.unpackb(encoded)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a payload: {error}") from error
    if type(first) is int:
        return _collection(first, parts, encoded)
    if type(first) is not list or list(map(type, first)) != [int, int] or set(map(type, parts)) != _ALL_BYTES:
        raise FrameError("malformed", "not a payload: bounds must be numbers, batches bytes")
    return Payload(list(map(decode_batch, parts)), encoded, Bounds(*first))


def _collection(generation: int, parts: list[object], encoded: bytes) -> Payload:
    base = parts[0] if len(parts) == 1 else None
    if (
        type(base) is list
        and set(map(type, base)) == {int}
        and all(-1 <= slot < 2**62 for slot in base)
        and 0 <= generation < 2**62
    ):
        return Payload((), encoded, None, generation, tuple(base))
    raise FrameError("malformed", "not a collection: a count and a vector are expected")


def only_reads(operations: bytes, arguments: Sequence[Argument] | None) -> bytes:
    """For each command 1 if it does nothing but read, else 0.

    Such a command conflicts with none of its kind, and may execute again.
    """
    reads = operations.translate(_READS)
    if arguments is None or Operation.MULTI not in operations:
        return reads
    marks = bytearray(reads)
    for index in compress(range(len(operations)), operations.translate(_MULTIS)):
        columns = multi_columns(arguments[index])
        marks[index] = columns is not None and set(columns[0]) == _ONLY_READS
    return bytes(marks)


def _joined(columns: Iterable[Collection[bytes]]) -> Collection[bytes]:
    return list(chain.from_iterable(columns))


def _keys_touched(batch: Batch) -> tuple[Collection[bytes], Collection[bytes]]:
    """The keys a batch reads and the keys it writes; a read-write counts as a write (protocol 4.4).

    Raises:
        FrameError: a MULTI has no columns, so nobody can say what it touches.
    """
    operations = batch.operations
    kinds = set(operations)
    if kinds == _ONLY_WRITES:
        return (), batch.keys
    if kinds == _ONLY_READS:
        return batch.keys, ()
    reads = list(compress(batch.keys, operations.translate(_READS)))
    writes = list(compress(batch.keys, operations.translate(_WRITES)))
    if Operation.MULTI in kinds:
        for argument in compress(batch.arguments or repeat(None), operations.translate(_MULTIS)):
            columns = multi_columns(argument)
            if columns is None:
                raise FrameError("malformed", "not a payload: a MULTI of wrong shape")
            parts, keys, _ = columns
            reads += compress(keys, parts.translate(_READS))
            writes += compress(keys, parts.translate(_WRITES))
    return reads, writes
