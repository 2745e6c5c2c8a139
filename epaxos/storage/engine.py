"""What a storage engine is, at the level of bytes, and how one is opened.

Two ordered maps outlive the process. The `log` holds an acceptor's promises and is written every round; the
`state` is its last checkpoint and is replaced by one transaction a checkpoint. They are independent: a long
transaction on the state never makes a write to the log wait.

Every engine passes the suite in ``tests/unit/storage``. Whatever goes wrong is a `StorageError` that says
what, where and what to do. After a write that failed an engine refuses everything but `close`
(`WriteFailed` says why), so that its replica stops to promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from epaxos.errors import StorageError
from epaxos.storage.directory import DataDirectory, Identity
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.storage.sqlite import SqliteEngine

__all__ = ["ENGINES", "SYNCS", "Engine", "Entry", "Identity", "Log", "StateSnapshot", "open_engine"]

Entry: TypeAlias = tuple[bytes, bytes]
"""A key and its value."""

ENGINES: Final = ("sqlite", "memory")
"""What `open_engine` takes as `kind`; the first is the default."""

SYNCS: Final = ("always", "interval", "never")
"""When a write to the log reaches the disk: before it returns, at least once an interval, or when the
operating system likes. A process that is killed loses nothing under any of them; a machine that loses power
loses nothing, what was written since the last interval, or anything."""


class StateSnapshot(Protocol):
    """The state as it was last committed when the snapshot was taken.

    It may be taken and used in any thread, by one thread at a time, while later transactions are staged and
    committed. Close it soon: what it sees cannot be reclaimed on disk before that.
    """

    def scan(self, after: bytes, limit: int) -> list[Entry]:
        """Entries with key > `after`, ascending, until their keys and values together exceed `limit` bytes.

        At least one entry; an empty list only behind the last key. Before the first key stands b"", which
        is never a key itself.

        Raises:
            DataCorrupt: an entry is not what was written.
        """
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None where there is none.

        Raises:
            DataCorrupt: the entry is not what was written.
        """
        ...

    def close(self) -> None:
        """Release what the snapshot holds; a second call does nothing."""
        ...


class Log(Protocol):
    """The log of an engine, written every round."""

    def raise_level(self, level: int) -> None:
        """From now on keep also what programs that do not know this level would misread, and keep those away.

        Raises:
            WriteFailed: the directory cannot be written.
        """
        ...

    def write_log(self, puts: Sequence[Entry]) -> None:
        """Put all entries atomically, in one commit, durable as `sync` says when this returns.

        A key may stand twice; the last value counts. Without entries it only sees that what is written would still be
        found by the next start, as every write does.

        Raises:
            WriteFailed: nothing of it may be relied on.
        """
        ...

    def drop_log(self, ranges: Sequence[tuple[bytes, bytes]], puts: Sequence[Entry]) -> None:
        """Atomically remove every key with first <= key <= last of some range, then put `puts`.

        It need not be durable by itself when this returns, but it is so before any later `write_log` is,
        and never half.

        Raises:
            WriteFailed: nothing of it may be relied on.
        """
        ...

    def scan_log(self) -> Iterator[Entry]:
        """All entries, ascending by key; the log may not be written before the iterator has ended.

        Raises:
            DataCorrupt: an entry is not what was written; its key is named.
        """
        ...


class Engine(Log, Protocol):
    """A log and a state of bytes. Keys are not empty; they are ordered as bytes.

    One thread, that of the Replica, calls everything, with the exceptions that the methods name.
    """

    @property
    def name(self) -> str:
        """The engine's name, as in the configuration."""
        ...

    @property
    def made(self) -> bool:
        """Whether it is new: nothing was ever kept before it was opened."""
        ...

    @property
    def incarnation(self) -> int:
        """The number by which peers know the replica whose data it keeps, drawn when it was made."""
        ...

    @property
    def joins(self) -> bool:
        """Whether that began as one that is to join a cluster, and is known by its incarnation too."""
        ...

    @property
    def size(self) -> int:
        """Bytes on disk (in memory, for an engine without one); free space inside the files counts."""
        ...

    def usage(self) -> int | None:
        """Bytes that the data takes of the disk, free space inside the files apart; None of an engine without one.

        Of the log as it is now, of the state as it was last committed; never waits, also while `commit_state` is under
        way.
        """
        ...

    # -- the state: one transaction a checkpoint -----------------------------------------------------------

    def stage_state(self, puts: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add to the open transaction, which begins with the first call; None removes a key.

        Nothing is visible to a snapshot, or durable, before `commit_state`.

        Raises:
            WriteFailed: the transaction is lost.
            RowRefused: a row cannot be written; the transaction is to be rolled back.
        """
        ...

    def commit_state(self) -> None:
        """Make all that was staged visible and durable, atomically; synced unless `sync` is "never".

        May be called in another thread than `stage_state`, while the log is written and snapshots are read,
        but never at the same time as `stage_state` or `rollback_state`.

        Raises:
            WriteFailed: the transaction is lost.
        """
        ...

    def rollback_state(self) -> None:
        """Forget what was staged. The threads are those of `commit_state`."""
        ...

    def snapshot_state(self) -> StateSnapshot:
        """A consistent view of what was last committed. May be called in any thread."""
        ...

    def close(self) -> None:
        """Make the log durable as far as `sync` asks for it, forget what was staged, release the directory.

        No other call may be under way in another thread; snapshots should have been closed. A second call
        does nothing; every other use after it raises `StorageError`.

        Raises:
            WriteFailed: the last sync failed; all is released nevertheless.
        """
        ...

    def retire(self) -> None:
        """No replica is to begin with what is kept here any more; durable when this returns.

        Raises:
            WriteFailed: the directory cannot be written.
        """
        ...

    def abandon(self) -> None:
        """Close, and leave nothing behind of an engine that is new; only where nothing has been promised."""
        ...


def open_engine(
    kind: str,
    directory: Path,
    identity: Identity,
    sync: str,
    interval: float,
    *,
    create: bool,
) -> Engine:
    """Open the engine called `kind` (one of `ENGINES`) on `directory`, or make it there if `create`.

    identity  whose data it is; it must be that of the data found
    sync      one of `SYNCS`
    interval  seconds at most between two syncs of the log under "interval"
    create    whether a directory that is missing or empty becomes a new data directory

    The engine "memory" touches no directory.

    Raises:
        DirectoryLocked, DirectoryMissing, NotADataDirectory, FormatUnsupported, WrongIdentity: what is
            found cannot be used.
        Retired: it was a replica's that has been removed.
        DataCorrupt: it is damaged.
        WriteFailed: the disk is full, read-only or broken.
    """
    if sync not in SYNCS:
        raise StorageError(f"storage.sync is {sync!r}; allowed are {', '.join(SYNCS)}")
    if kind == "memory":
        return MemoryEngine(joins=identity.joins)
    if kind == SqliteEngine.name:
        return SqliteEngine(DataDirectory(directory, kind, identity, create=create), sync, interval)
    raise StorageError(f"storage.engine is {kind!r}; allowed are {', '.join(ENGINES)}")
