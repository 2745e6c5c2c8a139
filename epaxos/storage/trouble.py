"""What goes wrong with a disk, in one line for the person who has to mend it."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Final

from epaxos.errors import DataCorrupt, StorageError, WriteFailed

REBUILD: Final = "do not restore an old copy of one replica: it would break promises made since"
"""What to say wherever the thought of a backup is near (protocol 4.11c)."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY: Final = {errno.EROFS, errno.EACCES, errno.EPERM}
_HINTS: Final = {
    "full": "the disk is full, or a quota or file size limit is reached; make room and start again",
    "read-only": "it may not be written; check its owner and permissions, and that it is not mounted read-only",
    "broken": "the disk or its file system is failing; see the kernel's log",
}


def os_trouble(error: OSError, path: Path, action: str) -> WriteFailed:
    """The `StorageError` for a call of the operating system that failed while doing `action` to `path`."""
    if error.errno in _FULL:
        hint = _HINTS["full"]
    elif error.errno in _READ_ONLY:
        hint = _HINTS["read-only"]
    else:
        hint = _HINTS["broken"]
    return WriteFailed(f"cannot {action} {path} ({error.strerror}): {hint}")


def sqlite_trouble(error: sqlite3.Error, path: Path, action: str) -> StorageError:
    """The `StorageError` for what SQLite raised while doing `action` to `path`."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DataCorrupt(f"{path} is damaged ({error}); {REBUILD}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return WriteFailed(f"cannot {action} {path}: another program has it open; close that first")
    if name.startswith("SQLITE_FULL"):
        hint = _HINTS["full"]
    elif name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
        hint = _HINTS["read-only"]
    else:
        hint = _HINTS["broken"]
    return WriteFailed(f"cannot {action} {path} ({error}{f', {name}' if name else ''}): {hint}")
