"""The acceptor's promises of one replica on its engine: instances, up to where they were dropped, incarnations.

**Incarnations.** A replica draws a number when its data directory is made and puts it into every envelope; its peers
keep it. One that comes with another number has lost its directory, or is a second process of that name, and is not
listened to (protocol 4.11c).

**How much a peer had kept** when it was last noted is here too: one that comes with less has an earlier copy of its
directory, which lacks promises as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

import msgpack

from epaxos.errors import StorageError
from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import Instance
from epaxos.storage.engine import Entry, Log
from epaxos.storage.records import RecordWriter, check_payloads, check_width, decode_log, dropped_ranges

_NO_ROW: Final = 0xFFFF
"""Stands where an instance has its row: what is not an instance comes last."""

_KEY: Final = Struct(">HQB")
_TRUNCATED: Final = _KEY.pack(_NO_ROW, 0, 0)
_INCARNATIONS: Final = 1
_KEPT: Final = 2


class Loaded(NamedTuple):
    """What a journal holds at the start; by row, the `incarnations` known, and how much peers had `kept`."""

    records: list[Instance]
    truncated: Vector
    incarnations: dict[Row, int]
    kept: dict[Row, int]


class Journal:
    """Writes what a replica of a cluster of n has to remember, and reads it at the start, once, before that.

    Where nothing is `lasting`, as in memory, nobody would ever read a record: it is checked, and not even encoded.
    `view` is where the protocol keeps what is promised for all instances, if it does.
    """

    def __init__(
        self,
        engine: Log,
        n: int,
        decode_command: Callable[[bytes], Command],
        *,
        lasting: bool = True,
        view: InstanceId | None = None,
    ) -> None:
        self._lasting = lasting
        self._engine = engine
        self._n = n
        self._decode = decode_command
        self._writer = RecordWriter(n, view)

    def load(self) -> Loaded:
        """All that was written.

        Raises:
            StorageError: it cannot be read.
        """
        loaded = read_journal(self._engine.scan_log(), self._n, self._decode)
        self._writer.loaded(loaded.records)
        self._writer.truncate(loaded.truncated)
        return loaded

    @property
    def kept(self) -> int:
        """How much is durable, as a number: after a restart with the same data it is no less."""
        return self._writer.kept

    def persist(self, records: Sequence[Instance]) -> None:
        """Make the records of one round durable, in one commit; they are so when this returns.

        Raises:
            StorageError: they may not be: nothing may be promised any more.
        """
        if self._lasting:
            self._engine.write_log(self._writer.entries(records))
        else:
            for record in records:
                check_payloads(record)

    def drop(self, frontier: Vector) -> None:
        """Drop all instances up to here.

        Raises:
            StorageError: see `persist`.
        """
        if not self._lasting:
            return
        self._writer.truncate(frontier)
        self._engine.drop_log(dropped_ranges(frontier), [(_TRUNCATED, msgpack.packb(frontier))])

    def remember(self, row: Row, incarnation: int) -> None:
        """Keep the incarnation of a replica, this one or a peer.

        Raises:
            StorageError: see `persist`.
        """
        self._engine.write_log([_number(_INCARNATIONS, row, incarnation)])

    def note(self, kept: Mapping[Row, int]) -> None:
        """Keep how much peers have kept.

        Raises:
            StorageError: see `persist`.
        """
        self._engine.write_log([_number(_KEPT, row, number) for row, number in kept.items()])


def _number(kind: int, row: Row, number: int) -> Entry:
    return _KEY.pack(_NO_ROW, kind, row), number.to_bytes(8, "big")


def read_journal(entries: Iterable[Entry], n: int, decode_command: Callable[[bytes], Command]) -> Loaded:
    """What a journal of n rows holds, from all entries of its log, ascending by key.

    Raises:
        StorageError: it cannot be read.
    """
    others: dict[bytes, bytes] = {}
    records = list(decode_log(_instances(entries, others), decode_command))
    for record in records:
        check_width(record, n)
    truncated = (-1,) * n
    numbers: dict[int, dict[Row, int]] = {_INCARNATIONS: {}, _KEPT: {}}
    for key, value in others.items():
        if key == _TRUNCATED:
            truncated = _read_vector(value, n)
        elif len(key) == _KEY.size and (kind := _KEY.unpack(key)[1]) in numbers:
            numbers[kind][_KEY.unpack(key)[2]] = int.from_bytes(value, "big")
        else:
            raise StorageError(f"the log has an entry of an unknown kind: {key[:32].hex()}")
    return Loaded(records, truncated, numbers[_INCARNATIONS], numbers[_KEPT])


def _instances(entries: Iterable[Entry], others: dict[bytes, bytes]) -> Iterator[Entry]:
    """The entries of instances; all others are put into `others`."""
    for key, value in entries:
        if key >= _TRUNCATED:
            others[key] = value
        else:
            yield key, value


def _read_vector(value: bytes, n: int) -> Vector:
    try:
        vector = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise StorageError(f"up to where the log was truncated cannot be read: {error}") from error
    if type(vector) is not list or len(vector) != n or set(map(type, vector)) != {int}:
        raise StorageError(f"the log was not truncated for a cluster of {n}")
    return tuple(vector)
