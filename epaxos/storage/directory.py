"""The data directory of one replica: whose it is, and that nobody else uses it.

    lock          flocked by the process that uses the directory; holds its pid
    identity      whose data this is, of which engine, up to which level (`epaxos.version`), and whether that has been
                  removed from its cluster; JSON
    identity.new  the same while the directory is being made

Only the user that runs the replica may look into a directory that is made here.

A directory is made in an order that a crash cannot confuse: `identity.new`, the engine's files, and then
the renaming to `identity`. Without the last step nothing has been promised, and the next start begins anew.
Files of an engine without either are never taken for a new directory: that would be amnesia.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from epaxos import version
from epaxos.errors import (
    DataCorrupt,
    DirectoryLocked,
    DirectoryMissing,
    FormatUnsupported,
    NotADataDirectory,
    Retired,
    StorageError,
    WriteFailed,
    WrongIdentity,
)
from epaxos.storage.trouble import REBUILD, os_trouble

_LOCK: Final = "lock"
_IDENTITY: Final = "identity"
_NEW: Final = "identity.new"
_HARMLESS: Final = {_LOCK, "lost+found"}
_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600

_SETTLED: Final = 1.0
"""Seconds after which a directory's time of change is trusted to differ from that of a later change; the clocks of
file systems tick every few milliseconds, or once a second."""


class Identity(NamedTuple):
    """Whose data a directory holds. Who else is a member is not said here: that may change (`protocol.membership`).

    cluster      64 bits that stand for the cluster (`Config.identity`)
    name         the replica's name
    incarnation  the number by which its peers know it; None if it is to be drawn for a new directory, and is not known
                 of one that is there
    joins        whether it begins as one that is to join a cluster, and not as one of the first members of one; a
                 directory that is there says it by itself
    """

    cluster: int
    name: str
    incarnation: int | None = None
    joins: bool = False


class DataDirectory:
    """A directory that this process has locked; `release` gives it back.

    path         where it is
    new          whether it is being made: the engine has to make its files and then call `complete`
    made         whether that was so when it was opened
    incarnation  of the replica whose data it holds
    joins        whether that was no first member of its cluster (`Identity`)
    level        what is in it may be of this level; a program that does not know that must not use it

    Raises:
        DirectoryLocked, DirectoryMissing, NotADataDirectory, FormatUnsupported, WrongIdentity: what is
            found cannot be used.
        Retired: nobody is to use it any more.
        DataCorrupt: the identity cannot be read.
        WriteFailed: the directory cannot be written.
    """

    def __init__(self, path: Path, engine: str, identity: Identity, *, create: bool) -> None:
        self.path = path
        self._text = str(path)
        self._engine = engine
        self._identity = identity
        self.incarnation = secrets.randbits(64) or 1 if identity.incarnation is None else identity.incarnation
        self.joins = identity.joins
        self.level = version.OLDEST
        self.new = self.made = False
        self._lock = self._handle = -1
        self._files: dict[Path, tuple[int, int]] = {}
        self._unchanged = (0, 0, 0)
        self._places: list[Path] = []
        _check_place(path, create=create)
        try:
            if create:
                self._make_place()
            self._lock = _lock(path / _LOCK)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
            self.new = self.made = not (path / _IDENTITY).exists()
            if self.new:
                self._begin()
            else:
                self.incarnation = self._compare(_read(path / _IDENTITY))
        except BaseException as error:
            self.abandon()
            if isinstance(error, OSError):
                raise os_trouble(error, path, "use the data directory") from error
            raise

    def complete(self) -> None:
        """The engine's files are durable: from now on the directory is in use.

        Raises:
            WriteFailed: the directory cannot be written.
        """
        try:
            sync_directory(self.path)
            (self.path / _NEW).rename(self.path / _IDENTITY)
            sync_directory(self.path)
        except OSError as error:
            raise os_trouble(error, self.path, "complete the data directory") from error
        self.new = False

    def raise_level(self, level: int) -> None:
        """From now on things of this level may be written into it; one that is no higher changes nothing.

        Raises:
            WriteFailed: the directory cannot be written.
        """
        if level > self.level:
            self._describe(self._description(level), "raise the level of the data directory")
            self.level = level

    def retire(self) -> None:
        """No replica begins with what is here any more (protocol 6.10): durable when this returns.

        Raises:
            WriteFailed: the directory cannot be written.
        """
        self._describe(self._description(self.level, retired=True), "retire the data directory")

    def _describe(self, text: str, what: str) -> None:
        """Write the identity anew, for some purpose."""
        try:
            _write(self.path / _NEW, text)
            (self.path / _NEW).rename(self.path / _IDENTITY)
            sync_directory(self.path)
        except OSError as error:
            raise os_trouble(error, self.path, what) from error

    def watch(self, files: Iterable[Path]) -> None:
        """From now on `check` sees whether the directory and these files, which are open, are still in their place."""
        try:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._files = {file: _number(file.stat()) for file in (*files, self.path / _LOCK)}
        except OSError as error:
            raise os_trouble(error, self.path, "look into") from error

    def check(self) -> None:
        """See that what is written goes where the next start will look for it.

        Raises:
            WriteFailed: the directory or a file in it was removed, moved or replaced.
        """
        try:
            gone = self._gone()
        except FileNotFoundError as error:
            gone = error.filename
        except OSError as error:
            raise os_trouble(error, self.path, "look into") from error
        if gone is not None:
            raise WriteFailed(
                f"{gone} was moved or removed while the replica used it; if it was moved, put all of {self.path} back "
                "as it was and start again: nothing is lost; else this replica has lost its data"
            )

    def _gone(self) -> Path | None:
        """What is not in its place any more.

        A directory's time of change says whether a name in it has come or gone. So as long as the path leads to the
        directory that was opened, and that time is settled, one look is enough: 2 to 3 µs a round, where one at each
        file costs 9.
        """
        found = os.stat(self._text)  # noqa: PTH116 - a Path costs half as much again
        seen = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if seen == self._unchanged:
            return None
        if _number(found) != _number(os.fstat(self._handle)):
            return self.path
        for file, number in self._files.items():
            if _number(file.stat()) != number:
                return file
        (self.path / _IDENTITY).stat()
        if not 0 <= time.time() - found.st_mtime < _SETTLED:
            self._unchanged = seen
        return None

    def release(self) -> None:
        """Let other processes use the directory; a second call does nothing."""
        for handle in (self._handle, self._lock):
            if handle >= 0:
                os.close(handle)
        self._handle = self._lock = -1

    def abandon(self) -> None:
        """Release it, and leave nothing behind if it was made here: only where nothing has been promised.

        What has come in its place meanwhile, as when a file system was mounted there, is somebody's data, and stays.
        """
        if self.made and self._is_in_place():
            with suppress(OSError):
                for left in self.path.iterdir():
                    if left.name not in _HARMLESS:
                        left.unlink()
                (self.path / _LOCK).unlink()
        self.release()
        for place in reversed(self._places):
            with suppress(OSError):
                place.rmdir()
        self._places = []

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the directory that was locked."""
        with suppress(OSError):
            return _number((self.path / _LOCK).stat()) == _number(os.fstat(self._lock))
        return False

    def _make_place(self) -> None:
        """Make the directory and those above it that are missing."""
        missing = [place for place in (*reversed(self.path.parents), self.path) if not place.exists()]
        for place in missing:
            with suppress(FileExistsError):  # another process is faster, and owns what it made
                place.mkdir(_PRIVATE_DIRECTORY if place == self.path else 0o777)
                self._places.append(place)

    def _begin(self) -> None:
        """Mark the directory as being made, and remove what an attempt before this one left."""
        try:
            for left in self.path.iterdir():
                if left.name not in {*_HARMLESS, _NEW}:
                    left.unlink()
            _write(self.path / _NEW, self._description(self.level))
            sync_directory(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise os_trouble(error, self.path, "make the data directory") from error

    def _description(self, level: int, *, retired: bool = False) -> str:
        return json.dumps(
            {
                "format": level,
                "engine": self._engine,
                "cluster": f"{self._identity.cluster:016x}",
                "name": self._identity.name,
                "incarnation": f"{self.incarnation:016x}",
                "joins": self.joins,
                "retired": retired,
            }
        )

    def _compare(self, found: dict[str, Any]) -> int:
        """Refuse data that is not this replica's; returns the incarnation that it is of.

        Raises:
            FormatUnsupported, WrongIdentity, Retired, DataCorrupt: as they say.
        """
        self.level = _level_of(self.path, found)
        expected = json.loads(self._description(self.level))
        compared = ["cluster", "name", "engine"] + ["incarnation"] * (self._identity.incarnation is not None)
        for key in compared:
            if found.get(key) != expected[key]:
                there, here = (
                    ("", "")
                    if key == "name"
                    else (f" with {key} {found.get(key)}", f" with {key} {expected[key]}")
                )
                raise WrongIdentity(
                    f"{self.path} holds the data of replica {found.get('name')!r}{there}; "
                    f"this is {self._identity.name!r}{here}: check the directory and the configuration"
                )
        data = _identity_of(self.path, found)
        if found.get("retired"):
            raise Retired(
                f"{self.path} holds the data of a {data.name} that has been removed from the cluster, and is of no use "
                "any more: it may go. One that is to join begins with an empty directory and `epaxos serve --join`"
            )
        if self._identity.joins and not data.joins:
            raise WrongIdentity(
                f"{self.path} holds the data of a first member of the cluster: start it without --join; one that is to "
                "take its place begins with an empty directory"
            )
        self.joins = data.joins
        assert data.incarnation is not None
        return data.incarnation


class Found(NamedTuple):
    """Whose data is in a directory, and of which engine."""

    identity: Identity
    engine: str


def find(path: Path) -> Found:
    """Whose data a directory holds; nothing is locked or changed.

    Raises:
        DirectoryMissing, NotADataDirectory: there is none.
        FormatUnsupported, DataCorrupt: it cannot be read.
    """
    _check_place(path, create=False)
    found: dict[str, Any] = _read(path / _IDENTITY)
    _level_of(path, found)
    return Found(_identity_of(path, found), str(found.get("engine")))


def _identity_of(path: Path, found: Mapping[str, Any]) -> Identity:
    try:
        incarnation = int(found["incarnation"], 16)
        return Identity(int(found["cluster"], 16), str(found["name"]), incarnation, bool(found["joins"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorrupt(f"{path / _IDENTITY} is damaged ({error}); {REBUILD}") from error


class SharedLock:
    """Keeps a replica from starting on a directory while that is read.

    user  the pid of the process that uses the directory already, as text; None if there is none, and then none
          can begin to before `release`

    Raises:
        StorageError: the lock cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.user: str | None = None
        self._handle = -1
        try:
            self._handle = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a copy of a directory, which no replica uses
            return
        except OSError as error:
            raise StorageError(f"cannot read {path / _LOCK}: {error.strerror}") from error
        if not _try_to_share(self._handle):
            self.user = _holder(self._handle)
            self.release()

    def release(self) -> None:
        """Let replicas start; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def make_private_file(path: Path) -> None:
    """Make an empty file, which only its owner may read; one that is there is left as it is.

    Raises:
        OSError: as the system says.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: as the system says.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_place(path: Path, *, create: bool) -> None:
    """See whether there is a data directory, or may be one, before anything is written.

    Raises:
        DirectoryMissing: there is none and none was to be made.
        NotADataDirectory: something else is in the place.
        WriteFailed: it cannot even be looked at.
    """
    try:
        if not path.exists():
            if not create:
                raise DirectoryMissing(
                    f"there is no data directory {path}: check the path; a replica makes it when it first starts"
                )
            return
        if not path.is_dir():
            raise NotADataDirectory(f"{path} is a file; a data directory is needed")
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise os_trouble(error, path, "look into") from error
    if _IDENTITY in names or (_NEW in names and create):
        return
    if _NEW in names or not names - _HARMLESS:
        if not create:
            raise DirectoryMissing(
                f"{path} holds no data yet: check the path; a replica makes it when it first starts"
            )
        return
    raise NotADataDirectory(
        f"{path} holds other files ({', '.join(sorted(names - _HARMLESS)[:3])}) and no {_IDENTITY}; "
        f"use an empty directory, and if it held a replica's data, {REBUILD}"
    )


def _number(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _level_of(path: Path, found: Mapping[str, object]) -> int:
    level = found.get("format")
    if type(level) is not int or not version.is_known(level):
        raise FormatUnsupported(
            f"{path} is of level {level}; this program knows {version.known()}: start a version that knows it"
        )
    return level


def _lock(path: Path) -> int:
    """Lock the file; returns its descriptor.

    Raises:
        DirectoryLocked: another process has locked it.
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if _try_to_share(handle):
                text = f"the data directory {path.parent} is being read, as by `epaxos inspect`; start again after that"
            else:
                text = (
                    f"the data directory {path.parent} is in use by process {_holder(handle)}; stop it first"
                )
            raise DirectoryLocked(text) from error
    except BaseException:
        os.close(handle)
        raise
    return handle


def _try_to_share(handle: int) -> bool:
    """Lock a file together with others who only read; False if somebody has it alone."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    return os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataCorrupt(f"{path} is damaged ({error}); {REBUILD}") from error
    if not isinstance(found, dict):
        raise DataCorrupt(f"{path} is damaged (not a table); {REBUILD}")
    return found


def _write(path: Path, text: str) -> None:
    """Replace the file's content durably, except for its name."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
