"""The blocks of a replica's checkpoints (`rows`): which there are, and how they are kept from becoming too many.

A checkpoint adds entries and changes none, so of a key that changes often there are many. Once there are `GROWTH`
times as many as were left the last time, the next checkpoint *sifts* them: it goes through the older blocks, leaves out
what a later entry stands for, and joins what becomes small. So an entry is written about one and a half times, and
there are at most about three as many as keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple, Protocol

from epaxos.checkpoint.rows import BLOCK_BYTES, Change, block_key, checkpoint_of_block

GROWTH: Final = 3
"""How many times as many entries as were left the last time are too many."""

_LEAST: Final = 4
"""Blocks that are never too many."""


class Rows(Protocol):
    """A checkpoint that stays as it is (`storage.engine.StateSnapshot`)."""

    def get(self, key: bytes) -> bytes | None:
        """The row of one key."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Kind(NamedTuple):
    """What the blocks of one kind are made of.

    name    what the keys of their rows begin with
    make    encodes keys and as many entries
    look    decodes a block into keys, entries, and whether each may be the last of its key
    """

    name: bytes
    make: Callable[[Sequence[bytes], Sequence[Any]], bytes]
    look: Callable[[bytes], tuple[Sequence[bytes], Sequence[Any], Sequence[bool]]]


class Blocks:
    """All blocks of one kind; `size` entries go into one."""

    def __init__(self, kind: Kind, size: int) -> None:
        self._kind = kind
        self._size = size
        self._limit = 0
        self._checkpoint = 0
        self._added = 0
        self._durable: dict[bytes, int] = {}
        self._rows: dict[bytes, int] = {}

    def loaded(self, rows: Mapping[bytes, int]) -> None:
        """Note the blocks of the last checkpoint, of all kinds, with the number of entries in each."""
        self._rows = self._durable = {
            row: entries for row, entries in rows.items() if row.startswith(self._kind.name)
        }
        self._checkpoint = max(map(checkpoint_of_block, self._rows), default=0)
        self._limit = GROWTH * sum(self._rows.values())

    def begin(self) -> None:
        """Begin another checkpoint."""
        self._rows = dict(self._durable)
        self._checkpoint += 1
        self._added = 0

    def end(self) -> None:
        """The checkpoint is complete."""
        self._durable = self._rows

    def add(self, entries: int, blob: bytes) -> Change:
        """A block of so many entries that this checkpoint adds."""
        row = block_key(self._kind.name, self._checkpoint, self._added)
        self._added += 1
        self._rows[row] = entries
        return row, blob

    def sift(self, snapshot: Callable[[], Rows]) -> Iterator[list[Change]]:
        """If there are too many entries, what makes them fewer: the changes of some rows at a time.

        `snapshot` gives the last durable checkpoint, from which all rows but those of this one are read.
        """
        if sum(self._rows.values()) <= max(self._limit, _LEAST * self._size):
            return
        rows = snapshot()
        try:
            yield from self._sift(rows)
        finally:
            rows.close()
        self._limit = GROWTH * sum(self._rows.values())

    def _sift(self, rows: Rows) -> Iterator[list[Change]]:
        joined: dict[bytes, Any] = {}
        places: list[bytes] = []
        weight = 0
        for row in sorted(self._durable):
            blob = rows.get(row)
            assert blob is not None, "it is in the checkpoint"
            keys, entries, stand = self._kind.look(blob)
            if not places and all(stand) and len(keys) > self._size // 2:
                yield []
                continue
            joined.update(zip(compress(keys, stand), compress(entries, stand), strict=True))
            places.append(row)
            weight += len(blob)
            if len(joined) >= self._size or weight >= BLOCK_BYTES:
                yield self._join(places, joined)
                joined, places, weight = {}, [], 0
            else:
                yield []
        yield self._join(places, joined)

    def _join(self, places: Sequence[bytes], joined: Mapping[bytes, Any]) -> list[Change]:
        """Put some entries where the last of the blocks stood that they are from, and nothing in the other places."""
        changes: list[Change] = []
        for row in places:
            del self._rows[row]
            changes.append((row, None))
        if joined:
            row = places[-1]
            self._rows[row] = len(joined)
            changes[-1] = row, self._kind.make(list(joined), list(joined.values()))
        return changes
