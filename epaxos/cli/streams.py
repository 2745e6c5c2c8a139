"""Standard streams that fail in a way of their own.

A full disk behind `> FILE`, a descriptor that the caller has closed (`>&-`, `<&-`) or a reader that has left must not
look like what a command came to. Python has None for a stream whose descriptor is closed and complains at its end of
what it cannot flush; click and rich end with 1 when nobody reads; and a socket may get the number that was closed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from select import select
from typing import Any, Final

STDIN, STDOUT, STDERR = range(3)

_LEFT: Final = frozenset({errno.EPIPE, errno.EIO})
"""What a write to a reader that has left, or to a terminal that is closed, fails with."""


class StreamError(BaseException):
    """Something cannot be read or written; `unread` is whether the reader of standard output has left.

    It ends the command, and nobody between here and there should take it for anything else: click and rich have
    ideas of their own about an OSError, and `simulate` takes each Exception under a run for a crash of the core.
    """

    def __init__(self, what: str, error: OSError) -> None:
        super().__init__(f"cannot {what}: {error.strerror or error}")
        self.unread = isinstance(error, BrokenPipeError)


class _Stream(io.FileIO):
    """A stream that waits where it must, even if it shares its pipe with one who wants no waiting."""

    def write(self, data: Any, /) -> int:
        """See `io.RawIOBase.write`."""
        while (written := super().write(data)) is None:
            select([], [self], [])
        return written


class _Output(_Stream):
    """Standard output; what fails once is not tried again when Python ends."""

    def write(self, data: Any, /) -> int:
        """See `io.RawIOBase.write`."""
        try:
            return super().write(data)
        except OSError as error:
            _forget(STDOUT)
            raise StreamError("write to standard output", error) from error


class _Complaints(_Stream):
    """Standard error: of a complaint that cannot be written nobody can be told."""

    def write(self, data: Any, /) -> int:
        """See `io.RawIOBase.write`; raises OSError once if it has lost its reader."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in _LEFT:
                _forget(STDERR)
                raise
            return len(memoryview(data))


def _forget(descriptor: int) -> None:
    """Let what is written to it from now on vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def guard() -> None:
    """Put these in the place of Python's standard streams, unless somebody else has done so already."""
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        return
    # The wrong direction, so that each use of a closed descriptor fails as it does for other programs.
    for descriptor, flags in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(STDIN, closefd=False)))
    sys.stdout = _text(_Output(STDOUT, "w", closefd=False))
    sys.stderr = _text(_Complaints(STDERR, "w", closefd=False), by_line=True)


def _text(raw: io.FileIO, *, by_line: bool = False) -> io.TextIOWrapper:
    """A text stream in the encoding of the locale, which escapes what that lacks."""
    encoding = sys.__stdout__.encoding if sys.__stdout__ is not None else None
    by_line = by_line or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line)


def read_stdin(size: int) -> bytes:
    """Up to `size` bytes of standard input.

    Raises:
        StreamError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read(size)
    except OSError as error:
        raise StreamError("read standard input", error) from error


def write_text(text: str, name: str) -> None:
    """Write a file; `-` is standard output.

    Raises:
        StreamError: it cannot be written.
    """
    if name == "-":
        sys.stdout.write(text)
        return
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StreamError(f"write {name}", error) from error
