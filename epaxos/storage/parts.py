"""Values that are too long for one row of SQLite, which may take a GB: in parts, beside the row.

The row has the number of the parts in the place of the value, and the checksum of the whole. Hardly any value is so
long, so which keys have parts is kept in memory, and a write that concerns none of them is what it would be without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

PART: Final = 32 << 20
"""Bytes of a part; a longer value has several."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parts (key BLOB, part INTEGER, value BLOB NOT NULL, PRIMARY KEY (key, part)) WITHOUT ROWID
"""

_READ: Final = "SELECT value FROM parts WHERE key = ? ORDER BY part"
_DELETE: Final = "DELETE FROM parts WHERE key = ?"
_DELETE_RANGE: Final = "DELETE FROM parts WHERE key BETWEEN ? AND ?"

Value: TypeAlias = bytes | int
"""What stands in a row: the value, or the number of its parts."""


class Parts:
    """The parts in one database, `size` bytes each; call within the transaction that writes the rows."""

    def __init__(self, base: sqlite3.Connection, size: int) -> None:
        self._base = base
        self._size = size
        self._keys: set[bytes] = set()
        self.load()

    def load(self) -> None:
        """Look which keys have parts, at the start and after a transaction that was given up."""
        self._keys = {key for (key,) in self._base.execute("SELECT DISTINCT key FROM parts")}

    def concern(self, puts: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether writing these entries writes or removes parts."""
        size, keys = self._size, self._keys
        return any(len(value) > size or key in keys for key, value in puts)

    def put(self, key: bytes, value: bytes) -> Value:
        """Put the parts of a value that needs them in place of those of before; what its row is to have."""
        self.remove((key,))
        if len(value) <= self._size:
            return value
        parts = range(0, len(value), self._size)
        view = memoryview(value)
        self._base.executemany(
            "INSERT INTO parts VALUES (?, ?, ?)",
            ((key, number, view[start : start + self._size]) for number, start in enumerate(parts)),
        )
        self._keys.add(key)
        return len(parts)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Remove the parts of these keys."""
        for key in self._keys.intersection(keys):
            self._base.execute(_DELETE, (key,))
            self._keys.remove(key)

    def remove_ranges(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        """Remove the parts of all keys in some ranges, the last one of each included."""
        if self._keys:
            self._base.executemany(_DELETE_RANGE, ranges)
            self.load()


def whole(base: sqlite3.Connection, key: object, value: object) -> object:
    """The value of a row that was read, put together if it has parts."""
    if type(value) is not int:
        return value
    parts = [part for (part,) in base.execute(_READ, (key,))]
    return b"".join(parts) if len(parts) == value and set(map(type, parts)) <= {bytes} else None
