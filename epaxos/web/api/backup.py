"""A backup over HTTP, made by a process of its own: all values pass through it, which would keep the replica from its

work.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from epaxos.backup.saving import Moment
from epaxos.errors import BackupError

_PART: Final = 256 * 1024
_STDERR: Final = 4096


class Backup:
    """A backup under way of the data directory at `path`, with everything up to `wanted`, for which it waits."""

    def __init__(self, process: Process, first: bytes) -> None:
        self._process = process
        self._first = first

    @classmethod
    async def begin(cls, path: Path, wanted: Moment | None, patience: float) -> Backup:
        """Return once the first bytes are there.

        Raises:
            BackupError: none can be made, or not within `patience` seconds.
        """
        said = json.dumps([str(path), *(wanted or (None, ())), patience])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "epaxos.backup", said), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        backup = cls(process, b"")
        try:
            backup._first = await process.stdout.read(_PART)
            why = b"" if backup._first else await process.stderr.read(_STDERR)
        except BaseException:
            await backup.end()
            raise
        if not backup._first:
            await backup.end()
            raise BackupError(why.decode(errors="replace").strip())
        return backup

    async def parts(self) -> AsyncIterator[bytes]:
        """All of it.

        Raises:
            BackupError: it has come to no good end; what has come so far is of no use.
        """
        assert self._process.stdout is not None
        yield self._first
        while part := await self._process.stdout.read(_PART):
            yield part
        if await self._process.wait():
            raise BackupError("the backup was broken off")

    async def end(self) -> None:
        """Let go of its process."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
