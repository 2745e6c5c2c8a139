"""The acceptor's promises of one replica on its engine: instances, up to where they were dropped, incarnations.

**The configuration** in which promises are made (protocol 6.1) is written before the first of them: rows and vectors
mean nothing without it, so another one is refused at the start.

**Epochs** stand one after the other. The next one begins with its configuration and what is known of peers, in the
commit of its first record or an earlier one. Of the last one the decisions are there by then, which lead to its end;
all of it stays until a checkpoint of a later epoch is durable, and is dropped in slices then (protocol 6.8).

**Incarnations.** A replica draws a number when its data directory is made and puts it into every envelope; its peers
keep it here. One that comes with another number has lost its directory, or is a second process of that name, and is not
listened to (protocol 4.11c).

**How much a peer had kept** when it was last noted is here too: one that comes with less has an earlier copy of its
directory, which lacks promises as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgpack

from epaxos import version
from epaxos.errors import FormatUnsupported, StorageError, WrongIdentity
from epaxos.protocol.command import Command
from epaxos.protocol.ids import Name, Slot, Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import NOBODY, Configuration, level_of, make_configuration
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
_BEFORE: Final = 4
"""How much was kept when the epoch began."""

RETIRED_AT_A_TIME: Final = 256
"""Slots of an epoch that is over that are dropped at once: each may be two entries of 2 µs."""


class Loaded(NamedTuple):
    """What a journal holds of one epoch at the start; by name, the `incarnations` known, and how much peers had `kept`.

    before  how much this replica had kept when the epoch began
    then    the same of the next epoch, if that has begun; the last one knows peers best
    """

    configuration: Configuration
    records: list[Instance]
    truncated: Vector
    incarnations: dict[Name, int]
    kept: dict[Name, int]
    before: int = 0
    then: Loaded | None = None

    @property
    def last(self) -> Loaded:
        """The same of the last epoch."""
        return self if self.then is None else self.then.last


class Journal:
    """Writes what a replica has to remember, in one epoch after the other; reads it at the start, once, before that.

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
        self._writer = _writer(configuration, 0)
        self._then: Loaded | None = None
        self._known: dict[int, dict[Name, int]] = {_INCARNATIONS: {}, _KEPT: {}}
        self._pending: list[Entry] = []
        self._over: list[tuple[int, list[tuple[Slot, Slot]]]] = []

    def load(self) -> Loaded:
        """All that was written, epoch by epoch; of a log in which nothing is, the configuration is written.

        Raises:
            WrongIdentity: it was written in another configuration, whichever its epoch and whoever asked for that.
            StorageError: it cannot be read or written.
        """
        loaded = read_journal(self._engine.scan_log(), self._decode)
        if loaded is None:
            self._engine.raise_level(self._configuration.level)
            self._engine.write_log([_entry(self._configuration, _CONFIGURATION, self._configuration.written)])
            nothing = (-1,) * rows_of(self._configuration)
            return Loaded(self._configuration, [], nothing, {}, {})
        last = loaded.last
        begun = last.configuration
        # In another epoch members, thresholds and protocol may be others; those of one do not change.
        joins = NOBODY in (*begun.names, *self._configuration.names)  # it knows, or knew, of no epoch
        is_other = begun.epoch == self._configuration.epoch and not begun.is_like(self._configuration)
        if is_other and not joins:
            raise WrongIdentity(
                f"epoch {last.configuration.epoch} was begun by {_text(last.configuration)}, and what was promised "
                f"then holds; the configuration says {_text(self._configuration)}: put that back"
            )
        self._known = {_INCARNATIONS: dict(last.incarnations), _KEPT: dict(last.kept)}
        self._over, self._pending = [], []
        self._go_on(loaded)
        return loaded

    def begin(self, configuration: Configuration) -> Loaded | None:
        """Go on in a later epoch, and say what was there of it at the start, if that is so.

        If not, what has to be known of it becomes durable with, or before, its first record.

        Raises:
            StorageError: it cannot be noted of which level that is.
        """
        self._engine.raise_level(configuration.level)
        while self._then is not None and self._then.configuration.epoch <= configuration.epoch:
            loaded = self._then
            self._leave()
            self._go_on(loaded)
            if loaded.configuration == configuration:
                return loaded
        self._leave_for(configuration)
        before = self._writer.kept
        self._writer, self._configuration = _writer(configuration, before), configuration
        self._pending = [
            _entry(configuration, _CONFIGURATION, configuration.written),
            _entry(configuration, _BEFORE, before),
            *(_entry(configuration, kind, numbers) for kind, numbers in self._known.items() if numbers),
        ]
        return None

    def _leave(self) -> None:
        self._over.append((self._configuration.epoch, self._writer.ranges()))

    def _leave_for(self, configuration: Configuration) -> None:
        """Go on in an epoch of which nothing is there; what is of nobody's is overwritten by that of the first one."""
        if configuration.epoch != self._configuration.epoch:
            self._leave()

    def _go_on(self, loaded: Loaded) -> None:
        """Write in an epoch of which something is there."""
        self._then = loaded.then
        self._configuration = loaded.configuration
        self._writer = _writer(loaded.configuration, loaded.before)
        self._writer.loaded(loaded.records)
        self._writer.truncate(loaded.truncated)

    @property
    def unreached(self) -> int | None:
        """An epoch of which there are records, and that has not begun again since the start; None if there is none."""
        return None if self._then is None else self._then.configuration.epoch

    def retire(self) -> bool:
        """Drop a slice of the epochs before this one, which no restart needs any more; whether there is more.

        Raises:
            StorageError: see `persist`.
        """
        if not self._over:
            return False
        epoch, rows = self._over[0]
        for row, (first, last) in enumerate(rows):
            if first <= last:
                end = min(last, first + RETIRED_AT_A_TIME - 1)
                rows[row] = end + 1, last
                self._engine.drop_log([_slots(epoch, row, first, end)], self._taken())
                return True
        self._engine.drop_log([_slots(epoch, 0, 0, -1)], self._taken())
        del self._over[0]
        return bool(self._over)

    def _taken(self) -> list[Entry]:
        """What is to be written with whatever is written next."""
        pending, self._pending = self._pending, []
        return pending

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
            self._engine.write_log([*self._taken(), *self._writer.entries(records)])
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
        note = _entry(self._configuration, _TRUNCATED, frontier)
        self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), [*self._taken(), note])

    def remember(self, name: Name, incarnation: int) -> None:
        """Keep the incarnation of a replica, this one or a peer.

        Raises:
            StorageError: see `persist`.
        """
        self._note(_INCARNATIONS, {name: incarnation})

    def note(self, kept: Mapping[Name, int]) -> None:
        """Keep how much peers have kept.

        Raises:
            StorageError: see `persist`.
        """
        self._note(_KEPT, kept)

    def _note(self, kind: int, numbers: Mapping[Name, int]) -> None:
        self._known[kind].update(numbers)
        self._engine.write_log([*self._taken(), _entry(self._configuration, kind, self._known[kind])])


def rows_of(configuration: Configuration) -> int:
    """Rows of the log of its epoch."""
    return KINDS[configuration.protocol].rows(configuration.n)


def _entry(configuration: Configuration, kind: int, value: object) -> Entry:
    return KEY.pack(configuration.epoch, _NO_ROW, kind, 0), msgpack.packb(value)


def _text(configuration: Configuration) -> str:
    names = ", ".join(configuration.names)
    return f"{names} (f {configuration.f}, e {configuration.e}, protocol {configuration.protocol!r})"


def _writer(configuration: Configuration, before: int) -> RecordWriter:
    kind = KINDS[configuration.protocol]
    return RecordWriter(kind.rows(configuration.n), kind.view, configuration.epoch, before)


def _slots(epoch: int, row: int, first: Slot, last: Slot) -> tuple[bytes, bytes]:
    """The first and the last key of some slots of a row, or of a whole epoch, if there is no last one."""
    if last < 0:
        return KEY.pack(epoch, 0, 0, 0), KEY.pack(epoch, _NO_ROW, 2**64 - 1, 0xFF)
    return KEY.pack(epoch, row, first, 0), KEY.pack(epoch, row, last, 0xFF)


def read_journal(entries: Iterable[Entry], decode_command: Callable[[bytes], Command]) -> Loaded | None:
    """What a journal holds, from all entries of its log, ascending by key: of its first epoch; None if nothing.

    Raises:
        StorageError: it cannot be read.
    """
    epochs = [_read_epoch(some, decode_command) for _, some in groupby(entries, _epoch_of)]
    loaded: Loaded | None = None
    for epoch in reversed(epochs):
        loaded = epoch._replace(then=loaded)
    return loaded


def _epoch_of(entry: Entry) -> int:
    key = entry[0]
    if len(key) != KEY.size:
        raise StorageError(f"the log has an entry of an unknown kind: {key[:32].hex()}")
    epoch: int = KEY.unpack(key)[0]
    return epoch


def _read_epoch(entries: Iterable[Entry], decode_command: Callable[[bytes], Command]) -> Loaded:
    others: dict[tuple[int, int], Any] = {}
    epochs: set[int] = set()
    records = list(decode_log(_instances(entries, others, epochs), decode_command))
    configuration = _configuration(others.pop((_CONFIGURATION, 0), None))
    if epochs != {configuration.epoch}:
        raise StorageError(f"the log is of epoch {configuration.epoch} and has entries of {sorted(epochs)}")
    rows = rows_of(configuration)
    for record in records:
        check_width(record, rows)
    truncated, before = (-1,) * rows, 0
    numbers: dict[int, dict[Name, int]] = {_INCARNATIONS: {}, _KEPT: {}}
    for (kind, _), value in others.items():
        if kind == _TRUNCATED:
            truncated = _vector(value, rows)
        elif kind == _BEFORE and type(value) is int:
            before = value
        elif kind in numbers and _are_numbers(value):
            numbers[kind] = value
        else:
            raise StorageError(f"the log has an entry of an unknown kind: {kind}, with {value!r:.64}")
    return Loaded(configuration, records, truncated, numbers[_INCARNATIONS], numbers[_KEPT], before)


def _instances(
    entries: Iterable[Entry], others: dict[tuple[int, int], Any], epochs: set[int]
) -> Iterator[Entry]:
    """The entries of instances; all others are put into `others`, decoded, and the epochs of all into `epochs`."""
    for key, value in entries:
        epoch, row, kind, of = KEY.unpack(key)
        epochs.add(epoch)
        if row != _NO_ROW:
            yield key, value
            continue
        try:
            others[kind, of] = msgpack.unpackb(value)
        except UNREADABLE as error:
            raise StorageError(f"entry {key.hex()} of the log cannot be read: {error}") from error


def _are_numbers(value: Any) -> bool:
    """Whether it has a number for each name."""
    return (
        isinstance(value, dict)
        and {str}.issuperset(map(type, value))
        and {int}.issuperset(map(type, value.values()))
    )


def _configuration(fields: Any) -> Configuration:
    """The configuration of which a log is.

    Raises:
        StorageError: there is none, or (FormatUnsupported) none that this version knows.
    """
    try:
        return read_configuration(fields)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"the log does not say in which configuration its promises were made: {error}"
        ) from error


def read_configuration(fields: Any) -> Configuration:
    """The configuration that was written as these fields, of a protocol and a level that this program knows.

    Raises:
        ValueError, TypeError: they are none.
        FormatUnsupported: they are of a level that this program does not know.
    """
    level = level_of(fields)
    if not version.is_known(level):
        raise FormatUnsupported(
            f"epoch {fields[0]} is of level {level}; this program knows {version.known()}: "
            "start a version that knows it"
        )
    configuration = make_configuration(fields)
    if configuration.protocol not in KINDS:
        raise ValueError(f"unknown protocol {configuration.protocol!r}")
    return configuration


def _vector(field: Any, rows: int) -> Vector:
    if type(field) is not list or len(field) != rows or set(map(type, field)) != {int}:
        raise StorageError(f"the log was not truncated as one of {rows} rows")
    return tuple(field)
