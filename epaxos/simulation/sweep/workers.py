"""Processes that call a function for one number after another, whose silence or end is a result too.

`concurrent.futures` gives up on all calls when one process dies, cannot say whose call killed it, and waits for ever
for one that hangs. Here each process has a pipe of its own, and its caller knows which number it was given.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from time import monotonic
from typing import Final, Generic, NamedTuple, TypeVar

PATIENCE: Final = 10
"""How many times its CPU time a call may take by the clock on the wall: others may want the cores too, but one that
waits for something waits for ever."""

Result = TypeVar("Result")


class Lost(NamedTuple):
    """A call without a result; `text` says why, `hung` whether it was for taking too long."""

    text: str
    hung: bool


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def call_all(
    function: Callable[[int], Result], numbers: Iterable[int], jobs: int, limit: float
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Call a function for all numbers in `jobs` processes; yields each number and its result as they come.

    A number is taken from `numbers` when a process is free for it. A call that takes more than `limit` seconds of
    CPU is lost, or `PATIENCE` times as many of the clock on the wall, and so is one whose process ends; another process
    goes on with the numbers that are left. All processes end with the iterator. `function` must be one that can be
    pickled.
    """
    source = iter(numbers)
    workers: list[_Worker[Result]] = []
    try:
        while len(workers) < jobs and (number := next(source, None)) is not None:
            workers.append(_Worker(function, number, limit))
        while workers:
            for worker in _ready(workers, PATIENCE * limit):
                number, result = worker.number, worker.take()
                following = next(source, None)
                if isinstance(result, Lost) or following is None:
                    worker.end()
                    workers.remove(worker)
                if following is not None:
                    if isinstance(result, Lost):
                        workers.append(_Worker(function, following, limit))
                    else:
                        worker.give(following)
                yield number, result
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Result]):
    """A process and the number that it is at work on."""

    def __init__(self, function: Callable[[int], Result], number: int, limit: float) -> None:
        self._limit = limit
        context = _context()
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, limit, theirs, self.pipe), daemon=True)
        self._process.start()
        theirs.close()
        self.give(number)

    def give(self, number: int) -> None:
        """Let it call the function for another number."""
        self.number = number
        self.since = monotonic()
        try:
            self.pipe.send(number)
        except OSError:  # it has ended, which shows when its result is taken
            return

    def take(self) -> Result | Lost:
        """The result of a worker that is ready: the call has ended, or it has taken too long."""
        if not self.pipe.poll():
            return Lost(f"did not end within {PATIENCE * self._limit:g} s", hung=True)
        try:
            result: Result | Lost = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            if self._process.exitcode == -signal.SIGPROF:
                return Lost(f"did not end within {self._limit:g} s of CPU", hung=True)
            return Lost(f"its process {_end(self._process.exitcode)}", hung=False)
        return result

    def end(self) -> None:
        """End the process, whatever it does."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _context() -> ForkContext | SpawnContext:
    """Forking is faster, and safe here: the parent has no threads. Where Python does not, it has reasons (macOS)."""
    if multiprocessing.get_start_method() == "spawn":
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("fork")


def _ready(workers: list[_Worker[Result]], limit: float) -> list[_Worker[Result]]:
    """Wait until something can be taken from some workers."""
    while True:
        deadline = min(worker.since for worker in workers) + limit
        heard = set(wait([worker.pipe for worker in workers], max(0.0, deadline - monotonic())))
        ready = [worker for worker in workers if worker.pipe in heard or monotonic() - worker.since >= limit]
        if ready:
            return ready


def _end(status: int | None) -> str:
    """How a process ended, from its exit status."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with status {status}"


def _serve(function: Callable[[int], object], limit: float, pipe: Connection, callers: Connection) -> None:
    """What a worker does, until its caller closes the pipe or is no more.

    For that to show, no process may keep the caller's end of the pipe open: a forked one has a copy of it. Copies of
    the ends of workers started before go with the last worker, which nobody has a copy of.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller sees to it
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also one that is within no bytecode
    callers.close()
    if sys.implementation.name == "cpython":
        gc.freeze()  # what a forked process has from its caller is garbage for nobody
    try:
        while True:
            number = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, limit)
            pipe.send(_call(function, number))
    except (EOFError, OSError):
        return


def _call(function: Callable[[int], object], number: int) -> object:
    try:
        return function(number)
    except Exception:  # noqa: BLE001 - the caller must hear of it, and other numbers wait
        return Lost(traceback.format_exc(), hung=False)
