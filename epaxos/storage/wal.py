"""A closer look at a write-ahead log of SQLite than SQLite takes.

SQLite ends a log at the first frame whose checksum is wrong: that is how it drops what a power failure tore.
A frame damaged later looks the same to it, and the transactions behind it, which were synced and answered
for, would vanish in silence. They can be told apart: with a sync in every commit, only the last transaction can
be torn, so two commits behind the damage prove that what is damaged had been synced.

The format is that of https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final, NamedTuple

from epaxos.errors import DataCorrupt, StorageError
from epaxos.storage.trouble import REBUILD

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682
_MASK: Final = 0xFFFFFFFF


class _Frame(NamedTuple):
    """Where one frame stands, and what its head says."""

    offset: int
    commits: bool
    sums: tuple[int, int]


def check_wal(path: Path) -> None:
    """Find damage in front of the last transaction of a log; a file that is missing or empty has none.

    Only for logs whose every commit was synced. Reads 4 MB in about a tenth of a second.

    Raises:
        DataCorrupt: a transaction that had been synced is damaged.
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _HEADER.size:
                return  # it had just been made
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:  # what was staged may be hundreds of MB
                _check(data, path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _check(data: mmap, path: Path) -> None:
    head = data[: _HEADER.size]
    if not any(head):
        return  # it had just been made
    magic, _, page, _, *salts, first, second = _HEADER.unpack(head)
    order = ">" if magic & 1 else "<"
    sums = _sums(head[:24], order, (0, 0))
    if magic & ~1 != _MAGIC or sums != (first, second):
        raise DataCorrupt(f"{path} is damaged (its header); {REBUILD}")
    frames = _frames(data, page, (salts[0], salts[1]))
    while frames and not frames[-1].commits:
        frames.pop()
    for index, frame in enumerate(frames):
        start = frame.offset + _FRAME.size
        sums = _sums(data[frame.offset : frame.offset + 8], order, sums)
        sums = _sums(data[start : start + page], order, sums)
        if sums != frame.sums:
            behind = sum(other.commits for other in frames[index:])
            if behind > 1:
                raise DataCorrupt(
                    f"{path} is damaged at byte {frame.offset}, before {behind} commits that were synced; {REBUILD}"
                )
            return


def _frames(data: mmap, page: int, salts: tuple[int, int]) -> list[_Frame]:
    """The frames written since the log last began anew; those of before bear other salts."""
    frames = []
    step = _FRAME.size + page
    for offset in range(_HEADER.size, len(data) - step + 1, step):
        _, pages, salt1, salt2, first, second = _FRAME.unpack_from(data, offset)
        if (salt1, salt2) == salts:
            frames.append(_Frame(offset, pages != 0, (first, second)))
    return frames


def _sums(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum of `data`, whose length is a multiple of 8, continued from `sums`."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, two in zip(words, words, strict=True):
        first = (first + one + second) & _MASK
        second = (second + two + first) & _MASK
    return first, second
