"""Where a node keeps what must outlive it: one value under each key, each written by itself.

The first four methods are those of hashicorp's StableStore, so that what implements that is soon a `Store`; deletion
and acceptors that come and go need the other two. A key that is missing is None, or 0.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from pathlib import Path
from typing import Protocol

from epaxos.storage.engine import Engine, Identity, open_engine


class Store(Protocol):
    """What a node needs. A write that returns is durable, and one value is written whole or not at all.

    Methods raise whatever they like when they fail; the node then promises nothing any more. They may be called from
    several threads, one at a time.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value under a key."""
        ...

    def set(self, key: bytes, value: bytes) -> None:
        """Put a value under a key."""
        ...

    def get_uint64(self, key: bytes) -> int:
        """The number under a key."""
        ...

    def set_uint64(self, key: bytes, value: int) -> None:
        """Put a number under a key."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        ...

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """Up to `most` keys after this one, ascending."""
        ...


class MemoryStore:
    """Everything in a dictionary: it ends with its process, which then may not come back under its number."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """See `Store`."""
        return self._values.get(key)

    def set(self, key: bytes, value: bytes) -> None:
        """See `Store`."""
        if key not in self._values:
            insort(self._keys, key)
        self._values[key] = value

    def get_uint64(self, key: bytes) -> int:
        """See `Store`."""
        return int.from_bytes(self.get(key) or b"")

    def set_uint64(self, key: bytes, value: int) -> None:
        """See `Store`."""
        self.set(key, value.to_bytes(8))

    def delete(self, key: bytes) -> None:
        """See `Store`."""
        if self._values.pop(key, None) is not None:
            del self._keys[bisect_right(self._keys, key) - 1]

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """See `Store`."""
        start = bisect_right(self._keys, after)
        return self._keys[start : start + most]


_FINGERPRINT = int.from_bytes(b"register")
"""Stands where a replica's directory names its cluster: a node does not take a replica's data for its own."""


class EngineStore(MemoryStore):
    """On disk, in the log of a storage engine, and in memory; each write is synced before it returns.

    `id` is the number of the node; a directory that was made for another is refused.

    Raises:
        StorageError: the directory cannot be used; the text says why.
    """

    def __init__(self, directory: Path | str, id_: int, *, sync: str = "always") -> None:
        super().__init__()
        self._lock = threading.Lock()
        identity = Identity(_FINGERPRINT, 1, id_, f"registers {id_}")
        self._engine: Engine = open_engine("sqlite", Path(directory), identity, sync, 0.1, create=True)
        for key, value in self._engine.scan_log():
            super().set(key, value)

    def set(self, key: bytes, value: bytes) -> None:
        """See `Store`."""
        with self._lock:
            self._engine.write_log([(key, value)])
            super().set(key, value)

    def delete(self, key: bytes) -> None:
        """See `Store`; what is removed need not be gone before the next write."""
        with self._lock:
            self._engine.drop_log([(key, key)], [])
            super().delete(key)

    def close(self) -> None:
        """Release the directory."""
        self._engine.close()
