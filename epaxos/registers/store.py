"""Where a node keeps what must outlive it: one value under each key, each written by itself.

The first four methods are those of hashicorp's StableStore, so that what implements that is soon a `Store`; deletion
and acceptors that come and go need the other two. A key that is missing is None, or 0.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class GroupStore(Store, Protocol):
    """A store that makes several values durable at the cost of one, and may be read meanwhile."""

    def write(self, entries: Mapping[bytes, bytes | None]) -> None:
        """Put all values, then remove the keys whose value is None; durable when it returns.

        What is removed need not be gone before the next write. One thread calls this at a time, others the rest.
        """
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
    """On disk, in the log of a storage engine, and in memory; each write is synced before it returns (`GroupStore`).

    `id` is the number of the node; a directory that was made for another is refused.

    Raises:
        StorageError: the directory cannot be used; the text says why.
    """

    def __init__(self, directory: Path | str, id_: int, *, sync: str = "always") -> None:
        super().__init__()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        identity = Identity(_FINGERPRINT, f"registers {id_}", id_)
        self._engine: Engine = open_engine("sqlite", Path(directory), identity, sync, 0.1, create=True)
        for key, value in self._engine.scan_log():
            super().set(key, value)

    def write(self, entries: Mapping[bytes, bytes | None]) -> None:
        """See `GroupStore`."""
        puts = [(key, value) for key, value in entries.items() if value is not None]
        drops = [(key, key) for key, value in entries.items() if value is None]
        with self._writing:
            if puts:
                self._engine.write_log(puts)
            if drops:
                self._engine.drop_log(drops, [])
            with self._reading:
                for key, value in puts:
                    super().set(key, value)
                for key, _ in drops:
                    super().delete(key)

    def set(self, key: bytes, value: bytes) -> None:
        """See `Store`."""
        self.write({key: value})

    def delete(self, key: bytes) -> None:
        """See `Store`; what is removed need not be gone before the next write."""
        self.write({key: None})

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """See `Store`."""
        with self._reading:
            return super().keys(after, most)

    def close(self) -> None:
        """Release the directory."""
        self._engine.close()
