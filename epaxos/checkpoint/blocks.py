"""The blocks of a replica's checkpoints (`rows`): which there are, and how they are kept from becoming too many.

A checkpoint adds entries and changes none, so of a key that changes often there are many. Once they take `GROWTH`
times the bytes that were left the last time, or fewer where keys have gone since, the next checkpoint *sifts* them: it
goes through the older blocks, leaves out what a later entry stands for or nobody needs, and joins what becomes small.
So an entry is written about one and a half times, and a checkpoint is at most about three times what it holds, also
where few keys with large values change all the time, or all go; six times where values are written again as they were,
since the new entry and the last of the old ones both count as left.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple, Protocol

from epaxos.checkpoint.rows import BLOCK_BYTES, Change, block_key, checkpoint_of_block

GROWTH: Final = 3
"""How many times the bytes that were left the last time are too many."""

_REPEATED: Final = 1.25
"""Entries for each that is needed from which on the next checkpoint looks for equal ones."""

_SETS: Final = 256


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


class _Seen:
    """Keys that were met; in small sets, since a large one stops the thread for 20 ms when it grows.

    To look at each key by itself takes as long as all the rest of sifting.
    """

    def __init__(self) -> None:
        self._sets: list[set[bytes]] = [set() for _ in range(_SETS)]

    def are_new(self, keys: Sequence[bytes], wanted: Sequence[bool]) -> list[bool]:
        """Which of the wanted ones among the keys of a block are met for the first time, the last of a key first.

        A block may name a key twice, and then the later slot is the higher one: with the other alone a replica would
        not cover what it knew.
        """
        new = []
        for key, is_wanted in zip(reversed(keys), reversed(wanted), strict=True):
            met = self._sets[hash(key) % _SETS]
            is_new = is_wanted and key not in met
            if is_new:
                met.add(key)
            new.append(is_new)
        return new[::-1]


class Blocks:
    """All blocks of one kind; `size` entries go into one; sifted once there are `growth` times as many bytes as needed.

    `sifted` is whether that was done by the last checkpoint that was begun.
    """

    def __init__(self, kind: Kind, size: int, growth: int = GROWTH) -> None:
        self._kind = kind
        self._size = size
        self._growth = growth
        self.sifted = False
        self._limit = 0
        self._needed = 0
        self._is_repeated = False
        self._checkpoint = 0
        self._added = 0
        self._durable: dict[bytes, int] = {}
        self._rows: dict[bytes, int] = {}

    def loaded(self, rows: Mapping[bytes, int]) -> None:
        """Note the blocks of the last checkpoint, of all kinds, with the bytes of each.

        How many of them are needed is not known, nor how many are equal: the next checkpoint that adds to them sifts.
        """
        self._rows = self._durable = {
            row: size for row, size in rows.items() if row.startswith(self._kind.name)
        }
        self._checkpoint = max(map(checkpoint_of_block, self._rows), default=0)
        self._limit = sum(self._rows.values())
        self._is_repeated = True

    @property
    def rows(self) -> Iterable[bytes]:
        """The keys of their rows in the last checkpoint."""
        return self._durable

    def begin(self) -> None:
        """Begin another checkpoint."""
        self._rows = dict(self._durable)
        self._checkpoint += 1
        self._added = 0
        self.sifted = False

    def end(self) -> None:
        """The checkpoint is complete."""
        self._durable = self._rows

    def add(self, blob: bytes) -> Change:
        """A block that this checkpoint adds."""
        row = block_key(self._kind.name, self._checkpoint, self._added)
        self._added += 1
        self._rows[row] = len(blob)
        return row, blob

    def sift(self, snapshot: Callable[[], Rows], needed: int) -> Iterator[list[Change]]:
        """If there is too much, what makes it less: the changes of some rows at a time.

        `snapshot` gives the last durable checkpoint, from which all rows but those of this one are read; `needed` is a
        measure of what is of use by now, and the limit falls with it where keys have gone.
        """
        if sum(self._rows.values()) <= self._bound(needed):
            return
        rows = snapshot()
        try:
            stood = yield from self._sift(rows)
        finally:
            rows.close()
        was_repeated, self._is_repeated = self._is_repeated, stood > _REPEATED * needed
        left = sum(self._rows.values())
        self._limit = self._growth * left if was_repeated or not self._is_repeated else left
        self._needed = needed
        self.sifted = True

    def _bound(self, needed: int) -> int:
        if not needed:
            return 0
        return self._limit if needed >= self._needed else self._limit * needed // self._needed

    def _sift(self, rows: Rows) -> Generator[list[Change], None, int]:
        """From the latest block to the first one, so that of equal entries of a key the latest stays.

        Returns how many entries stand, the equal ones included.
        """
        seen = _Seen()
        stood = 0
        joined: dict[bytes, Any] = {}
        places: list[bytes] = []
        weight = 0
        for row in sorted(self._durable, reverse=True):
            blob = rows.get(row)
            assert blob is not None, "it is in the checkpoint"
            keys, entries, last = self._kind.look(blob)
            stood += sum(last)
            if self._is_repeated or len(blob) > BLOCK_BYTES // 2:  # a large block is left alone, not joined
                last = seen.are_new(keys, last)
            is_whole = len(keys) > self._size // 2 or len(blob) > BLOCK_BYTES // 2
            if not places and is_whole and all(last):
                yield []
                continue
            joined = dict(zip(compress(keys, last), compress(entries, last), strict=True)) | joined
            places.append(row)
            weight += len(blob)
            if len(joined) >= self._size or weight >= BLOCK_BYTES:
                yield self._join(places, joined)
                joined, places, weight = {}, [], 0
            else:
                yield []
        yield self._join(places, joined)
        return stood

    def _join(self, places: Sequence[bytes], joined: Mapping[bytes, Any]) -> list[Change]:
        """Put some entries where one of the blocks stood that they are from, and nothing in the other places.

        Any place would do: another block has their keys only if its entries are equal, or with those that this
        checkpoint adds, behind all of them; of slots it is the higher one that counts, wherever it stands.
        """
        changes: list[Change] = []
        for row in places:
            del self._rows[row]
            changes.append((row, None))
        if joined:
            row, blob = places[-1], self._kind.make(list(joined), list(joined.values()))
            self._rows[row] = len(blob)
            changes[-1] = row, blob
        return changes
