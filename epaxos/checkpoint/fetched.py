"""A checkpoint that was read as a whole: the own one at the start, or one that a peer has sent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from epaxos.checkpoint.rows import (
    ENTRY,
    INDEX,
    META,
    SESSION,
    VALUE,
    Change,
    Meta,
    Row,
    block_key,
    checkpoint_of_block,
    column_of_block,
    entry_key,
    in_blocks,
    meta_row,
    read_index,
    read_meta,
    read_session,
    read_values,
    session_row,
    value_block,
)
from epaxos.errors import FrameError, StorageError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Remembered
from epaxos.protocol.ids import Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance, Phase
from epaxos.protocol.membership import Configuration
from epaxos.statemachine.sessions import Sessions
from epaxos.storage.journal import rows_of
from epaxos.storage.records import check_width, decode_whole, encode_whole


class Fetched:
    """The parts of a checkpoint, collected from its rows as they ascend: the first one says of which epoch they are.

    It is of an epoch with this `configuration`, or of a later one.

    It is held in memory until it is complete: merging a part of one and then all of another would leave values without
    the executions that made them. Each row is looked at as it comes: once merging has begun it is too late to refuse.
    """

    def __init__(self, configuration: Configuration, decode_command: Callable[[bytes], Command]) -> None:
        self._configuration = configuration
        self._n = rows_of(configuration)
        self._width = KINDS[configuration.protocol].width(configuration.n)
        self._decode = decode_command
        self._last_block = b""
        self._index: list[tuple[bytes, bytes]] = []
        self._values: dict[bytes, bytes] = {}
        self._sessions: dict[bytes, Sequence[Any]] = {}
        self.entries: list[Instance] = []
        self._meta: Meta | None = None
        self.blocks: dict[bytes, int] = {}
        self._takers: dict[bytes, Callable[[bytes, bytes], None]] = {
            ENTRY: self._take_entry,
            INDEX: self._take_index,
            META: self._take_meta,
            SESSION: self._take_session,
            VALUE: self._take_values,
        }

    @property
    def complete(self) -> bool:
        """Whether there is a checkpoint in it at all."""
        return self._meta is not None

    @property
    def configuration(self) -> Configuration:
        """That of its epoch; without a checkpoint the one that was asked for."""
        return self._configuration if self._meta is None else self._meta.configuration

    @property
    def replaces(self) -> bool:
        """Whether it is of a later epoch than was asked for, or of a cluster of which nothing was known."""
        return self.configuration != self._configuration

    @property
    def executed(self) -> Vector:
        """Up to where each row had executed; nothing without a checkpoint."""
        return (-1,) * self._n if self._meta is None else self._meta.executed

    @property
    def vectors(self) -> Sequence[Vector]:
        """What the core remembered of whole rows."""
        return () if self._meta is None else self._meta.vectors

    @property
    def generation(self) -> int:
        """How many collections had executed."""
        return 0 if self._meta is None else self._meta.generation

    @property
    def count(self) -> int:
        """How many keys with values and sessions there are."""
        return len(self._values) + len(self._sessions)

    @property
    def sessions(self) -> list[object]:
        """The sessions, one of each client."""
        return list(self._sessions.values())

    def take(self, rows: Iterable[Row]) -> None:
        """Add rows.

        Raises:
            StorageError: one is none of a checkpoint of this cluster.
        """
        for key, value in rows:
            taker = self._takers.get(key[:1])
            if taker is None:
                raise StorageError(f"the checkpoint has a row of an unknown kind: {key[:32].hex()}")
            if self._meta is None and key != META:
                raise StorageError("the checkpoint does not begin with what is known of the whole")
            taker(key, value)

    def _take_entry(self, _: bytes, value: bytes) -> None:
        entry = decode_whole(value, self._decode)
        check_width(entry, self._n)
        if entry.phase is not Phase.COMMITTED or entry.value is None:
            raise StorageError(f"the checkpoint has instance {entry.id} as one that is not decided")
        self.entries.append(entry)

    def _take_index(self, key: bytes, value: bytes) -> None:
        read_index(value)
        self._note_block(key, value)
        column = column_of_block(key)
        if column >= self._width:
            raise StorageError(f"the checkpoint's index has a column {column}; {self._width} are expected")
        self._index.append((key, value))

    def _take_values(self, key: bytes, value: bytes) -> None:
        keys, values = read_values(value)
        self._note_block(key, value)
        if None not in values:
            self._values.update(zip(keys, values, strict=True))  # type: ignore[arg-type]  # no None
            return
        for name, content in zip(keys, values, strict=True):
            if content is None:
                self._values.pop(name, None)
            else:
                self._values[name] = content

    def _note_block(self, key: bytes, blob: bytes) -> None:
        checkpoint_of_block(key)
        if key <= self._last_block:
            raise StorageError(f"the checkpoint's blocks are not ascending: {key.hex()}")
        self._last_block = key
        self.blocks[key] = len(blob)

    def _take_meta(self, _: bytes, value: bytes) -> None:
        meta = read_meta(value)
        if not self._follows(meta.configuration):
            raise StorageError(
                f"the checkpoint is of epoch {meta.configuration.epoch} with {', '.join(meta.configuration.names)}, "
                "which is another configuration"
            )
        self._meta = meta
        self._n = rows_of(meta.configuration)
        self._width = KINDS[meta.configuration.protocol].width(meta.configuration.n)

    def _follows(self, theirs: Configuration) -> bool:
        """Whether a configuration is ours, or one of a later epoch of this cluster, whoever takes part in that."""
        ours = self._configuration
        return theirs == ours or ours.leads_to(theirs)

    def _take_session(self, key: bytes, value: bytes) -> None:
        row = read_session(value)
        try:
            Sessions.load([row])
        except FrameError as error:
            raise StorageError(f"a session of the checkpoint cannot be read: {error}") from error
        self._sessions[key] = row

    def index(self) -> Iterator[Remembered]:
        """What is remembered of keys, some of a column at a time; of what is said twice of one the higher counts.

        It is decoded anew each time: as objects it takes ten times the memory.
        """
        for key, blob in self._index:
            yield Remembered(column_of_block(key), *read_index(blob))

    def rows(self, size: int) -> Iterator[Change]:
        """All of it as rows again, with at most `size` keys in those of values; its `blocks` are these from then on."""
        assert self._meta is not None
        yield meta_row(self._meta)
        yield from self._index
        self.blocks = {key: len(blob) for key, blob in self._index}
        for number, some in enumerate(in_blocks(self._values.items(), size, _weigh)):
            key, blob = block_key(VALUE, 1, number), value_block(*zip(*some, strict=True))
            self.blocks[key] = len(blob)
            yield key, blob
        yield from map(session_row, self._sessions.values())
        for entry in self.entries:
            yield entry_key(entry.id), encode_whole(entry)

    def names(self) -> Collection[bytes]:
        """All keys that have a value."""
        return self._values.keys()

    def values(self) -> Iterable[tuple[bytes, bytes]]:
        """All keys that have a value, with it."""
        return self._values.items()

    def pop_values(self, most: int) -> list[tuple[bytes, bytes]]:
        """Some keys with their values, which are not here any more: two tables of all would take twice the memory."""
        return [self._values.popitem() for _ in range(min(most, len(self._values)))]

    def values_of(
        self, keys: Sequence[bytes], wanted: Sequence[bool]
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """The values of the wanted ones of some keys, None for those without one."""
        for key, is_wanted in zip(keys, wanted, strict=True):
            if is_wanted:
                yield key, self._values.get(key)


def _weigh(items: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(key) + len(value) for key, value in items)
