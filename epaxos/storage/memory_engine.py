"""The engine without a disk: dictionaries with the contract of `storage.engine.Engine`.

For tests and the simulator. What `close` would make durable goes with the object.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from epaxos.errors import StorageError

_CLOSED = "the storage engine is closed"


class _Frozen:
    """A committed state, never changed again, so that snapshots share it without a lock."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self.entries = entries

    @cached_property
    def keys(self) -> list[bytes]:
        """The keys, ascending; sorted once, when the first scan asks."""
        return sorted(self.entries)


class MemorySnapshot:
    """A `StateSnapshot` of a `MemoryEngine`."""

    def __init__(self, state: _Frozen) -> None:
        self._state: _Frozen | None = state

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Entries with key > `after`; see `StateSnapshot`."""
        state = self._opened()
        found = []
        total = 0
        for index in range(bisect_right(state.keys, after), len(state.keys)):
            key = state.keys[index]
            value = state.entries[key]
            found.append((key, value))
            total += len(key) + len(value)
            if total > limit:
                break
        return found

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None where there is none."""
        return self._opened().entries.get(key)

    def close(self) -> None:
        """Let go of the state."""
        self._state = None

    def _opened(self) -> _Frozen:
        if self._state is None:
            raise StorageError("the snapshot is closed")
        return self._state


class MemoryEngine:
    """An `Engine` that lives as long as the object."""

    name = "memory"
    made = True

    def __init__(self, *, joins: bool = False) -> None:
        self.incarnation = secrets.randbits(64) or 1
        self.joins = joins
        self._log: dict[bytes, bytes] = {}
        self._state = _Frozen({})
        self._staged: dict[bytes, bytes | None] = {}
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of all keys and values, without Python's own."""
        return sum(
            sum(map(len, entries)) + sum(map(len, entries.values()))
            for entries in (self._log, self._state.entries)
        )

    def usage(self) -> None:
        """It takes nothing of a disk."""

    def raise_level(self, level: int) -> None:
        """Nobody else will ever read it."""

    def retire(self) -> None:
        """Nor will anybody begin with it."""

    def write_log(self, puts: Sequence[tuple[bytes, bytes]]) -> None:
        """Put all entries."""
        self._check_open()
        self._log.update(puts)

    def drop_log(self, ranges: Sequence[tuple[bytes, bytes]], puts: Sequence[tuple[bytes, bytes]]) -> None:
        """Remove the ranges, then put the entries."""
        self._check_open()
        for first, last in ranges:
            for key in [key for key in self._log if first <= key <= last]:
                del self._log[key]
        self._log.update(puts)

    def scan_log(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, ascending by key."""
        self._check_open()
        return iter(sorted(self._log.items()))

    def stage_state(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add to the open transaction."""
        self._check_open()
        self._staged.update(puts)

    def commit_state(self) -> None:
        """Replace the state by a copy with all that was staged: snapshots keep the one they have."""
        self._check_open()
        merged = {**self._state.entries, **self._staged}
        self._state = _Frozen({key: value for key, value in merged.items() if value is not None})
        self._staged = {}

    def rollback_state(self) -> None:
        """Forget what was staged."""
        self._check_open()
        self._staged = {}

    def snapshot_state(self) -> MemorySnapshot:
        """A view of what was last committed."""
        self._check_open()
        return MemorySnapshot(self._state)

    def close(self) -> None:
        """Refuse all further use."""
        self._closed = True

    def abandon(self) -> None:
        """Nothing is left behind in any case."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(_CLOSED)
