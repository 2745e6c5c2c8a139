"""Instances as bytes: the entries of a replica's log (protocol 4.2).

An instance is two entries. Its payload, which is large and never changes, is written once; its record, which is small,
as often as it changes. Keys order entries by epoch, row, then slot: truncating a row is dropping a range. Slots of two
epochs have nothing to do with one another (protocol 6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from types import NoneType
from typing import Any, Final

import msgpack

from epaxos.errors import FrameError, InvariantError, StorageError
from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Slot, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal, Value

KEY: Final = Struct(">IHQB")
"""What an entry's key says: epoch, row, slot, kind."""

_RECORD, _PAYLOAD = 0, 1
_NOTHING, _NOP, _COMMAND = 0, 1, 2
UNREADABLE: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)
"""What msgpack and the unpacking of fields raise on bytes that are something else."""

Entries = list[tuple[bytes, bytes]]


class RecordWriter:
    """Turns the records of a round of one epoch into entries; knows which payload it has written last for each place.

    `kept` is a number that grows with each instance further up its row than any before, and never falls; it begins with
    what was kept `before` the epoch. It grows with
    the ballot of `view` too, if there is such a record: one that is never dropped and whose ballot never falls.

    EPaxos has one for a place in all its life; where another may stand there later, that one is written too.
    """

    def __init__(self, rows: int, view: InstanceId | None = None, epoch: int = 0, before: int = 0) -> None:
        self._epoch = epoch
        self._view = view
        self._promised = 0
        self._written: list[dict[Slot, Command]] = [{} for _ in range(rows)]
        self._tops: list[Slot] = [-1] * rows
        self._truncated: list[Slot] = [-1] * rows
        self.kept = before

    def ranges(self) -> list[tuple[Slot, Slot]]:
        """The first and the last slot of each row of which there may be entries."""
        return [(gone + 1, top) for gone, top in zip(self._truncated, self._tops, strict=True)]

    def entries(self, records: Sequence[Instance]) -> Entries:
        """The entries for some records as they are now; one that stands twice is written once."""
        entries: Entries = []
        for record in dict.fromkeys(records):
            row, slot = record.id
            self._note(record)
            payload, written = record.orig, self._written[row].get(slot)
            if payload is not None and payload is not written and payload != written:
                self._written[row][slot] = payload
                entries.append((KEY.pack(self._epoch, row, slot, _PAYLOAD), payload.encoded))
            entries.append((KEY.pack(self._epoch, row, slot, _RECORD), encode_record(record)))
        return entries

    def _note(self, record: Instance) -> None:
        self._rise(*record.id)
        if record.id == self._view:
            self.kept += record.bal - self._promised
            self._promised = record.bal

    def _rise(self, row: int, slot: Slot) -> None:
        """A row reaches up to here, if not further."""
        if slot > self._tops[row]:
            self.kept += slot - self._tops[row]
            self._tops[row] = slot

    def loaded(self, records: Iterable[Instance]) -> None:
        """Note what was written before a restart."""
        for record in records:
            self._note(record)
            if record.orig is not None:
                self._written[record.id.row][record.id.slot] = record.orig

    def truncate(self, frontier: Vector) -> None:
        """Forget what is dropped."""
        for row, slot in enumerate(frontier):
            self._rise(row, slot)
            written = self._written[row]
            if slot - self._truncated[row] > len(written):
                self._written[row] = {kept: payload for kept, payload in written.items() if kept > slot}
            else:
                for gone in range(self._truncated[row] + 1, slot + 1):
                    written.pop(gone, None)
            self._truncated[row] = max(slot, self._truncated[row])


def dropped_ranges(frontier: Vector, epoch: int = 0) -> list[tuple[bytes, bytes]]:
    """The first and the last key of what is dropped in each row by truncating up to `frontier`."""
    return [
        (KEY.pack(epoch, row, 0, _RECORD), KEY.pack(epoch, row, slot, _PAYLOAD))
        for row, slot in enumerate(frontier)
        if slot >= 0
    ]


def encode_record(record: Instance) -> bytes:
    """The fields of an instance but for its payload.

    Raises:
        InvariantError: it holds two different payloads, so that one of them would be lost.
    """
    check_payloads(record)
    init = None if record.init is None else record.init[1:]
    kind = _NOTHING if record.value is None else _NOP if record.value is NOP else _COMMAND
    encoded: bytes = msgpack.packb(
        (record.bal, record.abal, int(record.phase), kind, record.deps, record.seq, init)
    )
    return encoded


def check_payloads(record: Instance) -> None:
    """A place has one payload in all its life (protocol 3.3), which is why it is stored once.

    Raises:
        InvariantError: it has two.
    """
    known, init, value = record.orig, record.init, record.value
    for payload in (None if init is None else init.command, None if value is NOP else value):
        if payload is not None and payload is not known and payload != known:
            raise InvariantError(f"{record.id} has two payloads: {payload!r} and {known!r}")


def decode_record(place: InstanceId, encoded: bytes, payload: Command | None) -> Instance:
    """The instance of a record and its payload, which is None where none was ever learned.

    Raises:
        StorageError: the record does not fit: one of the two entries is not of this instance.
    """
    try:
        bal, abal, phase, kind, deps, seq, init = msgpack.unpackb(encoded)
        record = Instance(place, _vector(deps))
        record.bal, record.abal, record.phase, record.seq = _int(bal), _int(abal), Phase(phase), _int(seq)
        if init is not None:
            deps, seq = init
            init = _vector(deps), _int(seq)
    except UNREADABLE as error:
        raise StorageError(f"the record of instance {place} cannot be read: {error}") from error
    if payload is None and (kind == _COMMAND or init is not None):
        raise StorageError(f"the record of instance {place} speaks of a payload that is not there")
    record.orig = payload
    record.value = _value(kind, payload)
    if init is not None and payload is not None:
        record.init = Proposal(payload, *init)
    return record


def _int(field: Any) -> int:
    if type(field) is not int:
        raise TypeError(f"{type(field).__name__} in the place of a number")
    return field


def _vector(field: Any) -> Vector:
    if type(field) is not list or set(map(type, field)) - {int}:
        raise TypeError("dependencies that are no vector")
    return tuple(field)


def _decode_payload(place: InstanceId, encoded: bytes, decode_command: Callable[[bytes], Command]) -> Command:
    try:
        return decode_command(encoded)
    except FrameError as error:
        raise StorageError(f"the payload of instance {place} cannot be read: {error}") from error


def check_width(record: Instance, n: int) -> None:
    """See to it that an instance is one of a cluster of n.

    Raises:
        StorageError: it is not.
    """
    vectors = [record.deps]
    if record.init is not None:
        vectors.append(record.init.deps)
    if record.orig is not None and record.orig.base is not None:
        vectors.append(record.orig.base)
    if not (record.id.row < n and all(len(vector) == n for vector in vectors)):
        raise StorageError(f"instance {record.id} is of a cluster of another size")


def _value(kind: int, payload: Command | None) -> Value | None:
    if kind == _NOP:
        return NOP
    return payload if kind == _COMMAND else None


def decode_log(
    entries: Iterable[tuple[bytes, bytes]], decode_command: Callable[[bytes], Command]
) -> Iterator[Instance]:
    """The instances of one epoch of a log, from its entries in ascending order of their keys.

    Raises:
        StorageError: an entry cannot be read.
    """
    pending: tuple[InstanceId, bytes] | None = None
    for key, value in entries:
        if len(key) != KEY.size:
            raise StorageError(f"the log has an entry of an unknown kind: {key[:32].hex()}")
        _, row, slot, kind = KEY.unpack(key)
        place = InstanceId(row, slot)
        if kind == _PAYLOAD:
            if pending is None or pending[0] != place:
                raise StorageError(f"the payload of instance {place} has no record")
            yield decode_record(place, pending[1], _decode_payload(place, value, decode_command))
            pending = None
            continue
        if pending is not None:
            yield decode_record(*pending, None)
        pending = (place, value)
    if pending is not None:
        yield decode_record(*pending, None)


def encode_whole(record: Instance) -> bytes:
    """An instance with its payload, in one piece, for a checkpoint."""
    payload = None if record.orig is None else record.orig.encoded
    encoded: bytes = msgpack.packb((*record.id, encode_record(record), payload))
    return encoded


def decode_whole(encoded: bytes, decode_command: Callable[[bytes], Command]) -> Instance:
    """What `encode_whole` encoded.

    Raises:
        StorageError: the bytes are something else.
    """
    try:
        fields: Any = msgpack.unpackb(encoded)
        row, slot, record, payload = fields
        place = InstanceId(_int(row), _int(slot))
        if min(place) < 0 or type(payload) not in (bytes, NoneType):
            raise ValueError("not an instance")
    except UNREADABLE as error:
        raise StorageError(f"an entry of the checkpoint cannot be read: {error}") from error
    command = None if payload is None else _decode_payload(place, payload, decode_command)
    return decode_record(place, record, command)
