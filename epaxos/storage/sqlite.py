"""The durable engine: two SQLite databases in one directory, `log.db` and `state.db`.

Two files, because SQLite has one writer a file: a checkpoint stays open for many rounds. Both use a
write-ahead log, so a snapshot reads while a later transaction is staged and committed.

What keeps an acknowledged entry:

- Under "always" each commit syncs the write-ahead log before it returns. It is bounded: SQLite copies it
  into the database every `_LOG_PAGES` pages, inside the commit that passes the bound, and begins anew. A file that is
  overwritten in place syncs in half the time of one that grows.
- What is read after a restart has been synced by then, even if it was only in the kernel's cache when the
  process before died: opening copies the write-ahead log into the database and syncs that. Otherwise
  a promise could be built on an entry that the next power failure takes away.
- Every entry carries a CRC-32 of its key and value, and opening checks the structure of both databases and, where
  every commit was synced, the write-ahead logs (`storage.wal`).
- After a commit the files must still be where the next start looks for them, or the write has failed.
- After a write that failed the engine does nothing more (`WriteFailed` says why).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final

from epaxos.checksum import crc32
from epaxos.errors import DataCorrupt, NoDescriptor, RowRefused, StorageError, WriteFailed
from epaxos.storage.directory import DataDirectory, make_private_file
from epaxos.storage.parts import PART, SCHEMA, Parts, Value, whole
from epaxos.storage.trouble import REBUILD, os_trouble, sqlite_trouble
from epaxos.storage.wal import check_wal

LOG_FILE: Final = "log.db"
STATE_FILE: Final = "state.db"
_APPLICATION: Final = {LOG_FILE: 0x4550584C, STATE_FILE: 0x45505853}
"""In the head of each database: what it is."""

_SCHEMA: Final = {
    LOG_FILE: "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL)",
    # values of a store are mostly small: in one tree with their keys, not in two
    STATE_FILE: "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
}

_LOG_SYNCS: Final = {"always": "FULL", "interval": "NORMAL", "never": "OFF"}
_STATE_SYNCS: Final = {"always": "FULL", "interval": "FULL", "never": "OFF"}

_LOG_PAGES: Final = 1000
"""4 MB of write-ahead log: about a hundred rounds between two copies into the database."""

_LOG_CACHE: Final = 8 << 10
_STATE_CACHE: Final = 32 << 10
"""KiB of pages in memory. What is staged beyond it spills to the write-ahead log: memory stays bounded."""

_WAL_LEFT: Final = 64 << 20
"""A write-ahead log that outgrew this is cut back to it when it begins anew."""

_ROWS: Final = 64
"""Rows of one statement at most: up to here a round is one statement, and the GIL changes hands once."""

_BEGIN: Final = "BEGIN IMMEDIATE"
_DELETE: Final = "DELETE FROM entries WHERE key = ?"
_DELETE_RANGE: Final = "DELETE FROM entries WHERE key BETWEEN ? AND ?"
_SCAN: Final = "SELECT key, value, crc FROM entries WHERE key > ? ORDER BY key"
_GET: Final = "SELECT key, value, crc FROM entries WHERE key = ?"

_sync_file = getattr(os, "fdatasync", os.fsync)


def _upsert(rows: int) -> str:
    values = ",".join(["(?,?,?)"] * rows)
    return (
        f"INSERT INTO entries VALUES {values} "  # noqa: S608 only question marks
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, crc = excluded.crc"
    )


_UPSERTS: Final = [_upsert(max(rows, 1)) for rows in range(_ROWS + 1)]


def _sealed(key: bytes, value: bytes, parts: Parts) -> tuple[bytes, Value, int]:
    return key, parts.put(key, value), crc32(value, crc32(key))


def _opened(base: sqlite3.Connection, row: tuple[object, object, int], path: Path) -> tuple[bytes, bytes]:
    """The entry of a row.

    Raises:
        DataCorrupt: it is not what was written.
    """
    key, value, crc = row
    value = whole(base, key, value)
    if type(key) is bytes and type(value) is bytes and crc32(value, crc32(key)) == crc:
        return key, value
    name = key.hex() if type(key) is bytes else repr(key)
    raise DataCorrupt(f"{path} is damaged: the entry of key {name[:80]} has a wrong checksum; {REBUILD}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what is wrong with a file from which something is read."""
    try:
        yield
    except sqlite3.ProgrammingError as error:  # the connection has been closed
        raise StorageError(f"{path} is closed") from error
    except sqlite3.Error as error:
        trouble = sqlite_trouble(error, path, "read")
        raise trouble if isinstance(trouble, DataCorrupt) else StorageError(str(trouble)) from error


class SqliteSnapshot:
    """A `StateSnapshot`: a connection of its own, in a transaction that began with the snapshot.

    It may be in another process than the engine. An `immutable` database is one that nobody uses and whose write-ahead
    log is empty: it is read without a lock, and no file is made beside it.
    """

    def __init__(self, path: Path, *, immutable: bool = False) -> None:
        self._path = path
        options = "mode=ro&immutable=1" if immutable else "mode=ro"
        with _reading(path):
            self._base = sqlite3.connect(
                f"{path.absolute().as_uri()}?{options}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._base.execute("BEGIN")
                self._base.execute(
                    "SELECT 1 FROM entries LIMIT 1"
                ).fetchall()  # from here on the view is fixed
            except BaseException:
                self._base.close()
                raise

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Entries with key > `after`; see `StateSnapshot`."""
        found = []
        total = 0
        with _reading(self._path):
            rows = self._base.execute(_SCAN, (after,))
            try:
                for row in rows:
                    entry = _opened(self._base, row, self._path)
                    found.append(entry)
                    total += len(entry[0]) + len(entry[1])
                    if total > limit:
                        break
            finally:
                rows.close()
        return found

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None where there is none."""
        with _reading(self._path):
            row = self._base.execute(_GET, (key,)).fetchone()
            return None if row is None else _opened(self._base, row, self._path)[1]

    def close(self) -> None:
        """End the transaction."""
        self._base.close()


class _Syncer:
    """Syncs a file once an interval, if it has been written since, in a thread of its own."""

    def __init__(self, path: Path, interval: float) -> None:
        self._path = path
        self._interval = interval
        self._written = threading.Event()
        self._stopping = threading.Event()
        self.failure: WriteFailed | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise os_trouble(error, path, "open") from error
        self._thread = threading.Thread(target=self._run, name="storage-sync", daemon=True)
        self._thread.start()

    def written(self) -> None:
        """Something new is in the file."""
        self._written.set()

    def stop(self) -> None:
        """Sync what was written last, and end."""
        self._stopping.set()
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stopping.wait(self._interval)
            if self._written.is_set():
                self._written.clear()  # before the sync: what is written meanwhile waits for the next one
                try:
                    _sync_file(self._file)
                except OSError as error:
                    self.failure = os_trouble(error, self._path, "sync")
                    return


class SqliteEngine:
    """An `Engine` on a directory that was locked for it; it releases the directory when it closes.

    directory  a new one, or one that this engine made
    sync       one of `engine.SYNCS`
    interval   seconds between two syncs of the log under "interval"

    Raises:
        DataCorrupt, WriteFailed, StorageError: as `open_engine` says; the directory is released then.
    """

    name = "sqlite"

    def __init__(self, directory: DataDirectory, sync: str, interval: float) -> None:
        self._directory = directory
        self._failure: str | None = None
        self._staging = self._abandoned = False
        self._syncer: _Syncer | None = None
        self._open: list[sqlite3.Connection] = []
        self._scan: sqlite3.Cursor | None = None
        self._paths = {name: directory.path / name for name in _SCHEMA}
        try:
            self._log, self._log_parts = self._connect(LOG_FILE, _LOG_SYNCS[sync], _LOG_PAGES, _LOG_CACHE)
            self._state, self._state_parts = self._connect(STATE_FILE, _STATE_SYNCS[sync], 0, _STATE_CACHE)
            self._state_used = self._used(STATE_FILE, self._state)
            if directory.new:
                directory.complete()
            directory.watch(file for file in directory.path.iterdir() if file.name.startswith(tuple(_SCHEMA)))
            if sync == "interval":
                self._syncer = _Syncer(self._beside(LOG_FILE, "-wal"), interval)
        except BaseException:
            for base in self._open:
                base.close()
            directory.abandon()
            raise

    @property
    def made(self) -> bool:
        """Whether the directory is new."""
        return self._directory.made

    def raise_level(self, level: int) -> None:
        """See `Engine`."""
        self._directory.raise_level(level)

    def retire(self) -> None:
        """See `Engine`."""
        self._directory.retire()

    @property
    def incarnation(self) -> int:
        """Of the replica whose data it keeps."""
        return self._directory.incarnation

    @property
    def joins(self) -> bool:
        """Whether that was no first member."""
        return self._directory.joins

    @property
    def size(self) -> int:
        """Bytes on disk of both databases with their write-ahead logs."""
        total = 0
        for name in _SCHEMA:
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    total += self._beside(name, ending).stat().st_size
        return total

    def usage(self) -> int:
        """Pages in use: those of the log now, and of the state as it was last committed. Takes some 20 µs."""
        return self._used(LOG_FILE, self._log) + self._state_used

    def _used(self, name: str, base: sqlite3.Connection) -> int:
        with _reading(self._paths[name]):
            page, pages, free = (
                base.execute(f"PRAGMA {what}").fetchone()[0]
                for what in ("page_size", "page_count", "freelist_count")
            )
        return int(page * (pages - free))

    # -- the log -----------------------------------------------------------------------------------------

    def write_log(self, puts: Sequence[tuple[bytes, bytes]]) -> None:
        """Put all entries: one statement, which is its own transaction, several in one, or none."""
        with self._writing(LOG_FILE):
            if len(puts) <= _ROWS and not self._log_parts.concern(puts):
                self._put(puts)
            else:
                self._log.execute(_BEGIN)
                self._put(puts)
                self._log.execute("COMMIT")

    def drop_log(self, ranges: Sequence[tuple[bytes, bytes]], puts: Sequence[tuple[bytes, bytes]]) -> None:
        """Remove the ranges, then put the entries; takes about 2 µs for each entry removed."""
        with self._writing(LOG_FILE):
            self._log.execute(_BEGIN)
            self._log.executemany(_DELETE_RANGE, ranges)
            self._log_parts.remove_ranges(ranges)
            self._put(puts)
            self._log.execute("COMMIT")

    def scan_log(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, ascending by key."""
        self._check_usable()
        path = self._paths[LOG_FILE]
        with _reading(path):
            self._scan = self._log.execute(_SCAN, (b"",))
            for row in self._scan:
                yield _opened(self._log, row, path)

    def _put(self, puts: Sequence[tuple[bytes, bytes]]) -> None:
        # Each key once: with one twice in a statement, SQLite 3.40 damages its index where keys overflow a page.
        rest = iter(dict(puts).items())
        while rows := list(islice(rest, _ROWS)):
            values: list[bytes | int] = []
            for key, value in rows:
                values += _sealed(key, value, self._log_parts)
            self._log.execute(_UPSERTS[len(rows)], values)

    # -- the state ---------------------------------------------------------------------------------------

    def stage_state(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add to the open transaction; 3 to 8 µs an entry."""
        with self._writing(STATE_FILE):
            if not self._staging:
                self._state.execute(_BEGIN)
                self._staging = True
            last = dict(puts)
            gone = [key for key, value in last.items() if value is None]
            self._state_parts.remove(gone)
            self._state.executemany(_DELETE, ((key,) for key in gone))
            rows = (
                _sealed(key, value, self._state_parts) for key, value in last.items() if value is not None
            )
            try:
                self._state.executemany(_UPSERTS[1], rows)
            except (sqlite3.DataError, OverflowError, MemoryError) as error:
                key, size = max(((key, len(value or b"")) for key, value in last.items()), key=itemgetter(1))
                raise RowRefused(
                    f"{self._paths[STATE_FILE]} takes no row among some whose longest has {size} bytes, "
                    f"with the key {key[:40].hex()} ({error!r})"
                ) from error

    def commit_state(self) -> None:
        """Commit, and copy the write-ahead log into the database as far as snapshots allow.

        The GIL is free for almost all of it.
        """
        with self._writing(STATE_FILE):
            if self._staging:
                self._state.execute("COMMIT")
                self._staging = False
                self._state.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._state_used = self._used(STATE_FILE, self._state)

    def rollback_state(self) -> None:
        """Forget what was staged."""
        with self._writing(STATE_FILE):
            if self._staging:
                self._staging = False
                self._state.execute("ROLLBACK")
                self._state_parts.load()

    def snapshot_state(self) -> SqliteSnapshot:
        """A view of what was last committed, on a connection of its own.

        Raises:
            NoDescriptor: there is none left for that; the file itself is there.
        """
        self._check_usable()
        path = self._paths[STATE_FILE]
        try:
            return SqliteSnapshot(path)
        except StorageError as error:
            name = getattr(error.__cause__, "sqlite_errorname", "")
            if name.startswith("SQLITE_CANTOPEN") and os.access(path, os.R_OK):
                raise NoDescriptor(
                    f"{path} cannot be opened once more: too many files are open (LimitNOFILE, ulimit -n)"
                ) from error
            raise

    # -- opening, failing, closing -----------------------------------------------------------------------

    def close(self) -> None:
        """Sync and release everything; an engine that failed syncs nothing more."""
        if not self._open:
            return
        failed = self._failure
        try:
            if self._syncer is not None:
                self._syncer.stop()
            if self._scan is not None:  # given up half-way, it would keep the database from being closed
                self._scan.close()
            if failed is None:
                self.rollback_state()
                with self._writing(LOG_FILE):
                    self._log.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            while self._open:
                self._open.pop().close()
            self._failure = self._failure or "it is closed"
            (self._directory.abandon if self._abandoned else self._directory.release)()

    def abandon(self) -> None:
        """Close, and remove the directory if it is new."""
        self._abandoned = True
        self.close()

    def _beside(self, name: str, ending: str) -> Path:
        return self._directory.path / (name + ending)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Whatever goes wrong in here is the engine's end, and so is a directory that is not there any more."""
        self._check_usable()
        try:
            yield
            self._directory.check()
        except sqlite3.Error as error:
            trouble = sqlite_trouble(error, self._paths[name], "write")
            self._failure = f"an earlier write failed: {trouble}"
            raise trouble from error
        except WriteFailed as error:
            self._failure = f"an earlier write failed: {error}"
            raise
        if name == LOG_FILE and self._syncer is not None:
            self._syncer.written()

    def _check_usable(self) -> None:
        """Refuse what comes after a failure, this thread's or another's.

        Raises:
            StorageError: closed.
            WriteFailed: an earlier write failed.
        """
        if self._syncer is not None and self._syncer.failure is not None and self._failure is None:
            self._failure = f"an earlier sync failed: {self._syncer.failure}"
        if self._failure is not None:
            kind = WriteFailed if self._open else StorageError
            raise kind(f"the storage engine in {self._directory.path} is out of use: {self._failure}")

    def _connect(self, name: str, sync: str, pages: int, cache: int) -> tuple[sqlite3.Connection, Parts]:
        """Open one database, make it in a new directory, and see that it is whole.

        pages  length of the write-ahead log at which SQLite copies it into the database by itself; 0: never
        cache  KiB
        """
        path = self._paths[name]
        if not self._directory.new:
            if not path.is_file():
                raise DataCorrupt(f"{path} is missing; {REBUILD}")
            if sync == "FULL":
                check_wal(self._beside(name, "-wal"))
        try:
            if self._directory.new:
                make_private_file(path)  # what SQLite makes beside it may be read by the same users
            base = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._open.append(base)
            if name == LOG_FILE:  # one connection: no locks and no shared memory
                base.execute("PRAGMA locking_mode = EXCLUSIVE")
            base.execute("PRAGMA cell_size_check = ON")
            base.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what is deleted with zeros
            base.execute(f"PRAGMA cache_size = -{cache}")
            if self._directory.new:
                _make(base, name)
            base.execute(f"PRAGMA synchronous = {sync}")
            base.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            base.execute(f"PRAGMA journal_size_limit = {_WAL_LEFT}")
            _check(base, path)
            base.execute(SCHEMA)  # not there in a directory that an earlier version made
            parts = Parts(base, PART)
        except sqlite3.Error as error:
            raise sqlite_trouble(error, path, "open") from error
        except OSError as error:
            raise os_trouble(error, path, "make") from error
        return base, parts


def _make(base: sqlite3.Connection, name: str) -> None:
    base.execute("PRAGMA journal_mode = WAL")
    base.execute(f"PRAGMA application_id = {_APPLICATION[name]}")
    base.execute(_SCHEMA[name])


def _check(base: sqlite3.Connection, path: Path) -> None:
    """See that a database is ours and whole, and copy its write-ahead log into it.

    Raises:
        DataCorrupt: it is not.
        sqlite3.Error: as SQLite says.
    """
    if base.execute("PRAGMA application_id").fetchone() != (_APPLICATION[path.name],):
        raise DataCorrupt(f"{path} is empty or not ours; {REBUILD}")
    if base.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise DataCorrupt(f"{path} has lost its write-ahead log; {REBUILD}")
    findings = base.execute("PRAGMA integrity_check(1)").fetchall()
    if findings != [("ok",)]:
        raise DataCorrupt(f"{path} is damaged ({str(findings[0][0])[:200]!r}); {REBUILD}")
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
