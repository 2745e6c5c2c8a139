"""A checkpoint that was read as a whole: the own one at the start, or one that a peer has sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from epaxos.checkpoint.rows import (
    ENTRY,
    INDEX,
    META,
    SESSION,
    VALUE,
    Row,
    read_index,
    read_meta,
    read_session,
)
from epaxos.errors import StorageError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Columns
from epaxos.protocol.ids import Vector
from epaxos.protocol.log import Instance
from epaxos.statemachine.sessions import Sessions
from epaxos.storage.records import decode_whole

KEYS_AT_A_TIME: Final = 256


class Fetched:
    """The parts of a checkpoint of n rows, collected from its rows in any order.

    It is held in memory until it is complete: merging a part of one and then all of another would leave values without
    the executions that made them.
    """

    def __init__(self, n: int, width: int, decode_command: Callable[[bytes], Command]) -> None:
        self._n = n
        self._width = width
        self._decode = decode_command
        self._index: dict[bytes, bytes] = {}
        self._values: dict[bytes, bytes] = {}
        self.sessions: list[object] = []
        self.entries: list[Instance] = []
        self._executed: Vector | None = None
        self._takers: dict[bytes, Callable[[bytes, bytes], None]] = {
            ENTRY: self._take_entry,
            INDEX: self._take_index,
            META: self._take_meta,
            SESSION: self._take_session,
            VALUE: self._values.__setitem__,
        }

    @property
    def complete(self) -> bool:
        """Whether there is a checkpoint in it at all."""
        return self._executed is not None

    @property
    def executed(self) -> Vector:
        """Up to where each row had executed; nothing without a checkpoint."""
        return (-1,) * self._n if self._executed is None else self._executed

    @property
    def keys(self) -> int:
        """How many keys it speaks of."""
        return len(self._index)

    def take(self, rows: Iterable[Row]) -> None:
        """Add rows, each of which is read here: a checkpoint must not turn out to be bad while it is being merged.

        Raises:
            StorageError, FrameError: one is none of a checkpoint of this cluster.
        """
        for key, value in rows:
            taker = self._takers.get(key[:1])
            if taker is None:
                raise StorageError(f"the checkpoint has a row of an unknown kind: {key[:32]!r}")
            taker(key[1:], value)

    def _take_entry(self, _: bytes, value: bytes) -> None:
        self.entries.append(decode_whole(value, self._decode))

    def _take_meta(self, _: bytes, value: bytes) -> None:
        self._executed = read_meta(value, self._n).executed

    def _take_index(self, key: bytes, value: bytes) -> None:
        if len(value) != 8 * self._width:
            raise StorageError(f"the checkpoint's index of {key[:32]!r} has {len(value)} bytes")
        self._index[key] = value

    def _take_session(self, _: bytes, value: bytes) -> None:
        row = read_session(value)
        Sessions.load([row])
        self.sessions.append(row)

    def index(self) -> Iterator[tuple[list[bytes], Columns]]:
        """What is remembered of keys, some keys at a time."""
        items = iter(self._index.items())
        while some := list(islice(items, KEYS_AT_A_TIME)):
            keys, blobs = zip(*some, strict=True)
            yield list(keys), read_index(self._width, blobs)

    def values(self) -> Iterable[tuple[bytes, bytes]]:
        """All keys that have a value, with it."""
        return self._values.items()

    def values_of(
        self, keys: Sequence[bytes], wanted: Sequence[bool]
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """The values of the wanted ones of some keys, None for those without one."""
        for key, is_wanted in zip(keys, wanted, strict=True):
            if is_wanted:
                yield key, self._values.get(key)
