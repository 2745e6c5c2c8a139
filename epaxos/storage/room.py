"""How much room a disk has for a replica's data, before it is full.

A replica that cannot write stops to promise, and stays so until somebody mends the disk and starts it again. So it
takes nothing more from clients that makes the data grow while there is still room: for the reads and deletes that it
goes on to take, which are instances too, for what its peers propose, and for the next checkpoint. It is over by itself
when there is room again.

Pages that are free inside the files are no room on the file system: a checkpoint, which is where the state grows, goes
into a write-ahead log first, and none of those of the log's file can hold any of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MARGIN: Final = 10
"""The part of the limit by which there must be more room than that before all is taken again, so that it does not come
and go with every command."""


class Room:
    """How many bytes a replica's data may still grow by.

    Args:
        directory: of the data; its file system is asked.
        quota: bytes that the data may take; 0 for as many as there are.
        reserve: bytes that must be left on the file system; 0 for none.
    """

    def __init__(self, directory: Path, quota: int, reserve: int) -> None:
        self._directory = directory
        self._quota = quota
        self._reserve = reserve
        self.left: float = float("inf")
        self.why = ""
        """Why nothing that grows is taken; empty if it is."""

    def look(self, used: int) -> bool:
        """See how much there is, beside `used` bytes of data; whether `why` has changed.

        Raises:
            OSError: the file system does not tell.
        """
        found = os.statvfs(self._directory)
        on_disk = found.f_bavail * found.f_frsize - self._reserve
        in_quota = self._quota - used if self._quota else on_disk
        self.left = min(on_disk, in_quota) if self._reserve or self._quota else float("inf")
        limit = self._quota if in_quota < on_disk else self._reserve
        was = self.why
        if self.left <= 0:
            self.why = (
                f"its data takes {used} bytes of a quota of {self._quota}"
                if in_quota < on_disk
                else f"its disk has {on_disk + self._reserve} bytes left, of which {self._reserve} are kept"
            )
        elif self.left > limit // MARGIN:
            self.why = ""
        return bool(was) != bool(self.why)
