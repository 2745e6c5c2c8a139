"""Child processes that do not outlive this program, however it is interrupted.

A signal only leaves a note. It becomes an `Interrupted` where the program waits, never between the
start of a process and its entry in the list of those to stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Self

GRACE = 10.0  # seconds between asking a process to stop and killing it
POLL = 0.05  # seconds until a signal is noticed

_received: list[int] = []


class Interrupted(Exception):
    """A signal asked the program to stop; `status` is the exit status that a shell would give it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.status = 128 + signum


def catch_signals() -> None:
    """Take note of Ctrl-C, of a request to terminate and, unless under nohup, of a closed terminal.

    Ctrl-C counts also where a shell had it ignored, for a command in the background: what is ignored
    here would be ignored by the children too, and they could not be stopped by it.
    """
    signal.signal(signal.SIGINT, _take_note)
    signal.signal(signal.SIGTERM, _take_note)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _take_note)


def _take_note(signum: int, _frame: FrameType | None) -> None:
    _received.append(signum)


def pause(seconds: float = 0.0) -> None:
    """Wait; with 0, only look for a signal.

    Raises:
        Interrupted: a signal has come since the program began.
    """
    deadline = time.monotonic() + seconds
    while not _received:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, POLL))
    raise Interrupted(_received[0])


class Children:
    """The processes of a `with` block; those that still run at its end are stopped.

    Each leads a session of its own: a Ctrl-C in the terminal reaches this program alone, which stops
    them in its own time, and a process that must be killed takes its children with it.
    """

    def __init__(self, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self._stop_signal = stop_signal
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        command: Sequence[str | Path],
        *,
        output: IO[bytes] | None = None,
        lifeline: int | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command.

        `output` takes both its streams (None: those of this program). `lifeline` becomes its standard input.
        """
        process = subprocess.Popen(
            command,
            stdin=lifeline if output is None or lifeline is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a process to end by itself; its exit status.

        Raises:
            Interrupted: a signal came first.
        """
        while process.poll() is None:
            pause(POLL)
        return process.returncode

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Take note that a process has ended: its number may be another one's by the time of `stop`."""
        self._processes.remove(process)

    def stop(self) -> list[subprocess.Popen[bytes]]:
        """Ask all that run to stop and, after a grace time, kill; those that did not end with status 0."""
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            _signal_group(process, self._stop_signal)
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(POLL)
        for process in self._processes:
            _signal_group(process, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        return [process for process in running if process.returncode != 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


@contextmanager
def lifeline() -> Iterator[int]:
    """The reading end of a pipe that ends when this program does, even by SIGKILL; a child can watch it."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left; some systems say it so
        os.killpg(process.pid, signum)
