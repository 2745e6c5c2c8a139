"""The acceptor's promises of one replica on its engine: instances, up to where they were dropped, incarnations.

**The configuration** in which promises are made (protocol 6.1) is written before the first of them: rows and vectors
mean nothing without it, so another one is refused at the start.

**Incarnations.** A replica draws a number when its data directory is made and puts it into every envelope; its peers
keep it here. One that comes with another number has lost its directory, or is a second process of that name, and is not
listened to (protocol 4.11c).

**How much a peer had kept** when it was last noted is here too: one that comes with less has an earlier copy of its
directory, which lacks promises as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from epaxos.errors import StorageError, WrongIdentity
from epaxos.protocol.command import Command
from epaxos.protocol.ids import Row, Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration, make_configuration
from epaxos.storage.engine import Entry, Log
from epaxos.storage.records import (
    KEY,
    UNREADABLE,
    RecordWriter,
    check_payloads,
    check_width,
    decode_log,
    dropped_ranges,
)

_NO_ROW: Final = 0xFFFF
"""Stands where an instance has its row: what is not an instance comes after those of its epoch."""

_TRUNCATED: Final = 0
_INCARNATIONS: Final = 1
_KEPT: Final = 2
_CONFIGURATION: Final = 3


class Loaded(NamedTuple):
    """What a journal holds at the start; by row, the `incarnations` known, and how much peers had `kept`."""

    configuration: Configuration
    records: list[Instance]
    truncated: Vector
    incarnations: dict[Row, int]
    kept: dict[Row, int]


class Journal:
    """Writes what a replica has to remember of one epoch, and reads it at the start, once, before that.

    Where nothing is `lasting`, as in memory, nobody would ever read a record: it is checked, and not even encoded.
    """

    def __init__(
        self,
        engine: Log,
        configuration: Configuration,
        decode_command: Callable[[bytes], Command],
        *,
        lasting: bool = True,
    ) -> None:
        self._lasting = lasting
        self._engine = engine
        self._configuration = configuration
        self._decode = decode_command
        kind = KINDS[configuration.protocol]
        self._writer = RecordWriter(kind.rows(configuration.n), kind.view, configuration.epoch)

    def load(self) -> Loaded:
        """All that was written; of a log in which nothing is, the configuration is written.

        Raises:
            WrongIdentity: it was written in another configuration.
            StorageError: it cannot be read or written.
        """
        loaded = read_journal(self._engine.scan_log(), self._decode)
        if loaded is None:
            self._engine.write_log([_entry(self._configuration, _CONFIGURATION, 0, self._configuration)])
            nothing = (-1,) * rows_of(self._configuration)
            return Loaded(self._configuration, [], nothing, {}, {})
        if loaded.configuration != self._configuration:
            raise WrongIdentity(
                f"epoch {loaded.configuration.epoch} was begun by {_text(loaded.configuration)}, and what was promised "
                f"then holds; the configuration says {_text(self._configuration)}: put that back"
            )
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
        note = _entry(self._configuration, _TRUNCATED, 0, frontier)
        self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), [note])

    def remember(self, row: Row, incarnation: int) -> None:
        """Keep the incarnation of a replica, this one or a peer.

        Raises:
            StorageError: see `persist`.
        """
        self._engine.write_log([_entry(self._configuration, _INCARNATIONS, row, incarnation)])

    def note(self, kept: Mapping[Row, int]) -> None:
        """Keep how much peers have kept.

        Raises:
            StorageError: see `persist`.
        """
        self._engine.write_log(
            [_entry(self._configuration, _KEPT, row, number) for row, number in kept.items()]
        )


def rows_of(configuration: Configuration) -> int:
    """Rows of the log of its epoch."""
    return KINDS[configuration.protocol].rows(configuration.n)


def _entry(configuration: Configuration, kind: int, row: Row, value: object) -> Entry:
    return KEY.pack(configuration.epoch, _NO_ROW, kind, row), msgpack.packb(value)


def _text(configuration: Configuration) -> str:
    names = ", ".join(configuration.names)
    return f"{names} (f {configuration.f}, e {configuration.e}, protocol {configuration.protocol!r})"


def read_journal(entries: Iterable[Entry], decode_command: Callable[[bytes], Command]) -> Loaded | None:
    """What a journal holds, from all entries of its log, ascending by key; None if nothing.

    Raises:
        StorageError: it cannot be read.
    """
    epochs: set[int] = set()
    others: dict[tuple[int, Row], Any] = {}
    records = list(decode_log(_instances(entries, others, epochs), decode_command))
    if not epochs:
        return None
    configuration = _configuration(others.pop((_CONFIGURATION, 0), None))
    if epochs != {configuration.epoch}:
        raise StorageError(f"the log is of epoch {configuration.epoch} and has entries of {sorted(epochs)}")
    rows = rows_of(configuration)
    for record in records:
        check_width(record, rows)
    truncated = (-1,) * rows
    numbers: dict[int, dict[Row, int]] = {_INCARNATIONS: {}, _KEPT: {}}
    for (kind, row), value in others.items():
        if kind == _TRUNCATED:
            truncated = _vector(value, rows)
        elif kind in numbers and type(value) is int:
            numbers[kind][row] = value
        else:
            raise StorageError(f"the log has an entry of an unknown kind: {kind} of row {row}")
    return Loaded(configuration, records, truncated, numbers[_INCARNATIONS], numbers[_KEPT])


def _instances(
    entries: Iterable[Entry], others: dict[tuple[int, Row], Any], epochs: set[int]
) -> Iterator[Entry]:
    """The entries of instances; all others are put into `others`, decoded, and the epochs of all into `epochs`."""
    for key, value in entries:
        if len(key) != KEY.size:
            raise StorageError(f"the log has an entry of an unknown kind: {key[:32].hex()}")
        epoch, row, kind, of = KEY.unpack(key)
        epochs.add(epoch)
        if row != _NO_ROW:
            yield key, value
            continue
        try:
            others[kind, of] = msgpack.unpackb(value)
        except UNREADABLE as error:
            raise StorageError(f"entry {key.hex()} of the log cannot be read: {error}") from error


def _configuration(fields: Any) -> Configuration:
    """The configuration of which a log is.

    Raises:
        StorageError: there is none, or none that this version knows.
    """
    try:
        return read_configuration(fields)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"the log does not say in which configuration its promises were made: {error}"
        ) from error


def read_configuration(fields: Any) -> Configuration:
    """The configuration that was written as these fields, of a protocol that this version knows.

    Raises:
        ValueError, TypeError: they are none.
    """
    configuration = make_configuration(fields)
    if configuration.protocol not in KINDS:
        raise ValueError(f"unknown protocol {configuration.protocol!r}")
    return configuration


def _vector(field: Any, rows: int) -> Vector:
    if type(field) is not list or len(field) != rows or set(map(type, field)) != {int}:
        raise StorageError(f"the log was not truncated as one of {rows} rows")
    return tuple(field)
