"""What commands change, noted while they execute, for those who watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

BESIDE: Final = 100
"""Bytes that a change takes in memory beside its key and value, about."""

Chunk: TypeAlias = "tuple[Sequence[bytes], Sequence[bytes | None]]"
"""Keys, and the values that they were given; None for what was removed. Never to be changed."""


class Notes:
    """Takes notes of changes, in their order; of no more than `most` bytes between two calls of `take`.

    A small command can make much of what is large, an APPEND to a long value a copy of it each time: beyond that bound
    nothing is kept, and `take` says so.
    """

    __slots__ = ("_chunks", "_most", "_whole", "weight")

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: list[Chunk] = []
        self._whole = True
        self.weight = 0
        """Bytes of what has been noted."""

    def add(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """These keys have been given these values, in this order."""
        self.weight += BESIDE * len(keys) + sum(map(len, keys)) + sum(map(len, filter(None, values)))
        if self.weight > self._most:
            self._whole = False
            self._chunks.clear()
        if self._whole:
            self._chunks.append((keys, values))

    def mark(self) -> tuple[int, int]:
        """Where the notes are now, for `cut`."""
        return len(self._chunks), self.weight

    def cut(self, mark: tuple[int, int]) -> None:
        """What was noted since has been undone."""
        length, self.weight = mark
        del self._chunks[length:]

    def take(self) -> tuple[list[Chunk] | None, int]:
        """What has been noted since the last call, and its bytes; None if it was too much to be kept."""
        taken = self._chunks if self._whole else None, self.weight
        self._chunks, self._whole, self.weight = [], True, 0
        return taken
