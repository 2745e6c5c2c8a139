"""Reading a data directory from outside its replica, without changing anything in it.

Nobody else uses the directory: it is locked for as long as it is read, so that no replica starts on it. A database
whose write-ahead log is empty is read in place. One that was left with a write-ahead log, as after a crash, is copied
first, since SQLite would have to recover it where it lies.

A replica uses it: its state is read from a snapshot, as SQLite allows to any number of processes. Its log belongs to
one connection alone (`storage.sqlite`), so it is copied, and the copy is consistent: first the database is copied, then
the write-ahead log, and both again unless the head of the latter, which changes when it begins anew, has stayed
the same. Whatever was written into the database meanwhile then came from frames that are in the copied write-ahead
log, and those take precedence over the pages that they were written to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from epaxos.errors import DataCorrupt, StorageError
from epaxos.storage.directory import SharedLock, find
from epaxos.storage.engine import Entry, StateSnapshot
from epaxos.storage.sqlite import LOG_FILE, STATE_FILE, SqliteEngine, SqliteSnapshot
from epaxos.storage.trouble import REBUILD

_AT_A_TIME: Final = 1 << 20
"""Bytes of a log in memory at once, before they are decoded."""

_TRIES: Final = 20
"""How often the log of a running replica is copied until it has not begun anew meanwhile."""

_WAL: Final = "-wal"
_WAL_HEAD: Final = 32


class Reading:
    """A data directory that is read; use it as a context.

    path      where it is
    identity  whose data it holds
    engine    the engine's name
    user      the pid, as text, of the process that uses it; None if there is none

    Raises:
        DirectoryMissing, NotADataDirectory, FormatUnsupported, DataCorrupt, StorageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity, self.engine = find(path)
        if self.engine != SqliteEngine.name:
            raise StorageError(f"{path} is of engine {self.engine!r}; only {SqliteEngine.name!r} can be read")
        self._lock = SharedLock(path)
        self.user = self._lock.user
        self._copies: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory, and of what was copied; snapshots must have been closed."""
        if self._copies is not None:
            self._copies.cleanup()
            self._copies = None
        self._lock.release()

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        try:
            return {file.name: file.stat().st_size for file in sorted(self.path.iterdir()) if file.is_file()}
        except OSError as error:
            raise StorageError(f"cannot look into {self.path}: {error.strerror}") from error

    def scan_log(self) -> Iterator[Entry]:
        """All entries of the log, ascending by key.

        Raises:
            DataCorrupt: an entry is not what was written.
            StorageError: it cannot be read.
        """
        snapshot = self._snapshot(LOG_FILE)
        try:
            after = b""
            while entries := snapshot.scan(after, _AT_A_TIME):
                yield from entries
                after = entries[-1][0]
        finally:
            snapshot.close()

    def snapshot_state(self) -> StateSnapshot:
        """The last checkpoint; close it before this.

        Raises:
            DataCorrupt, StorageError: it cannot be read.
        """
        return self._snapshot(STATE_FILE)

    def _snapshot(self, name: str) -> SqliteSnapshot:
        path = self.path / name
        if not path.is_file():
            raise DataCorrupt(f"{path} is missing; {REBUILD}")
        if self.user is not None and name == STATE_FILE:
            return SqliteSnapshot(path)
        try:
            if self.user is None and not _wal_head(path):
                return SqliteSnapshot(path, immutable=True)
            return SqliteSnapshot(self._copy(path))
        except OSError as error:
            raise StorageError(f"cannot copy {path}: {error.strerror}") from error

    def _copy(self, path: Path) -> Path:
        """A consistent copy of a database; see above."""
        if self._copies is None:
            self._copies = TemporaryDirectory(prefix="epaxos-reading-")
        copy = Path(self._copies.name) / path.name
        for _ in range(_TRIES):
            before = _wal_head(path)
            shutil.copyfile(path, copy)
            if before:
                shutil.copyfile(_wal_of(path), _wal_of(copy))
            if _wal_head(path) == before:
                return copy
        raise StorageError(f"{path} is written too fast to be read; try again when there is less load")


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + _WAL)


def _wal_head(path: Path) -> bytes:
    """What tells one filling of the write-ahead log of a database from the next; nothing if it is empty."""
    try:
        with _wal_of(path).open("rb") as file:
            return file.read(_WAL_HEAD)
    except FileNotFoundError:
        return b""
