"""Commands on the workers of a fleet: a cluster of Dask, in the place of processes of this machine.

A command is a process of its own on its worker, begun at the root of the sources there, which must be the same as here:
else other seeds would draw other things, or find other faults. Seeds go there in parts of some seconds, to a process
that each thread of a worker keeps for them and in which each is called as here (`sweep.workers`): so one that hangs, or
kills its process, is found out there as well.

Who can reach a scheduler can run what he likes on its workers, and they can on this machine: docs/simulator.md.
"""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any, Final, NamedTuple, Self, TypeVar

from epaxos.errors import ConfigError, EpaxosError
from epaxos.simulation.sweep.workers import Lost, call_all

Name = TypeVar("Name")
Asked = TypeVar("Asked")
Result = TypeVar("Result")

ROOT: Final = Path(__file__).resolve().parents[2]
PART: Final = 5.0
"""Seconds of work in one part of seeds, of which a scheduler takes some milliseconds."""

LEAST: Final = 0.5
"""Seconds of work in the last parts, which are smaller so that all workers end together."""

_AHEAD: Final = 2
"""What is with the scheduler at once, for each thread of the workers."""

_PATIENCE: Final = 10.0
"""Seconds to wait for a scheduler, and then for its first worker."""

_IDLE: Final = 60.0
"""Seconds after which a process for seeds ends that nobody has any for."""


class FleetError(EpaxosError):
    """Something could not be run on any worker, or not to its end."""


class Command(NamedTuple):
    """Arguments of Python, and what is to be read from standard input, which stays open until the process ends."""

    arguments: tuple[str, ...]
    data: bytes = b""


class Done(NamedTuple):
    """The exit status of a command, and what it wrote."""

    status: int
    output: bytes
    errors: bytes


class Fleet:
    """The workers of a scheduler, like ``tcp://host:8786``; a context manager.

    Raises:
        ConfigError: there is no scheduler, or it has no worker, or one with other sources.
    """

    def __init__(self, scheduler: str) -> None:
        self._dask: Any = importlib.import_module("distributed")  # an extra, and costly
        try:
            self._client = self._dask.Client(scheduler, timeout=_PATIENCE)
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(f"--scheduler: found {scheduler!r}, and no worker there: {error}") from error
        self._sources = sources()
        self.threads = sum(self._client.nthreads().values())
        try:
            found = self._client.run(sources)
        except Exception as error:
            self._client.close()
            raise ConfigError(
                f"--scheduler: the workers of {scheduler!r} cannot run epaxos: {error}"
            ) from error
        others = [address for address, there in found.items() if there != self._sources]
        if others:
            self._client.close()
            raise ConfigError(
                f"--scheduler: the sources of {', '.join(others)} are others than here: have the same commit everywhere"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def run(self, commands: Iterable[tuple[Name, Command]]) -> Iterator[tuple[Name, Done]]:
        """Run commands; yields the name of each and what came of it, as they end.

        One is taken when there is room for it. One whose worker dies is run again by another, some times.

        Raises:
            FleetError: one could not be run, or the sources there are others.
        """
        for name, done in self.call(execute, commands):
            if isinstance(done, Exception):
                raise FleetError(f"a worker of the fleet failed: {done}") from done
            yield name, done

    def call(
        self, function: Callable[[Asked, str], Result], asked: Iterable[tuple[Name, Asked]]
    ) -> Iterator[tuple[Name, Result | Exception]]:
        """Call a function on the workers, also with what stands for the sources; see `run`."""
        source = iter(asked)
        names: dict[Any, Name] = {}

        def submit(name: Name, one: Asked) -> Any:
            future = self._client.submit(function, one, self._sources, pure=False, retries=2)
            names[future] = name
            return future

        ended = self._dask.as_completed([submit(*named) for named in islice(source, _AHEAD * self.threads)])
        for future in ended:
            found: Result | Exception
            try:
                found = future.result()
            except Exception as error:  # noqa: BLE001 - whatever went wrong there
                found = error
            yield names.pop(future), found
            for named in islice(source, 1):
                ended.add(submit(*named))


def call_on(
    scheduler: str, function: Callable[[int], Result], numbers: Iterable[int], count: int, limit: float
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Call a function for all numbers, `count` at most, on a scheduler's workers: as `workers.call_all` does here.

    A part that no worker has brought to its end is lost, under its first number.

    Raises:
        ConfigError: see `Fleet`.
    """
    with Fleet(scheduler) as fleet:
        parts = _Parts(numbers, count, fleet.threads)
        for part, done in fleet.call(
            serve, ((part, pickle.dumps((function, part, limit))) for part in parts)
        ):
            if isinstance(done, Exception):
                why = str(done).partition("\n")[0]
                text = f"seeds {part[0]} to {part[-1]} were not run to their end; a worker of the fleet failed: {why}"
                yield part[0], Lost(text, hung=False)
                continue
            seconds, results = pickle.loads(done)  # noqa: S301 - of a worker, which is trusted anyway
            parts.took(len(part), seconds)
            yield from results


class _Parts:
    """Numbers in parts of some seconds: the first ones small, as nobody knows yet, and the last ones."""

    def __init__(self, numbers: Iterable[int], count: int, threads: int) -> None:
        self._numbers = iter(numbers)
        self._left = count
        self._threads = threads
        self._done = 0
        self._seconds = 0.0

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while part := tuple(islice(self._numbers, self._size())):
            self._left -= len(part)
            yield part

    def took(self, count: int, seconds: float) -> None:
        """Some numbers took so long."""
        self._done += count
        self._seconds += seconds

    def _size(self) -> int:
        if not self._done:
            return 1
        each = max(self._seconds / self._done, 1e-6)
        return ceil(max(LEAST / each, min(PART / each, self._left / (_AHEAD * self._threads))))


def execute(command: Command, wanted: str | None = None) -> Done:
    """Run a command here, as on a worker; there, only if the sources are those that are wanted."""
    if wanted is not None:
        _check(wanted)
    with (
        TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603 - who can call this on a worker may run anything there
            [sys.executable, *command.arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command.data)
        process.stdin.flush()
        output = process.stdout.read()
        status = process.wait()
        errors.seek(0)
        return Done(status, output, errors.read())


def serve(part: bytes, wanted: str) -> bytes:
    """Have a part of the numbers called for, on a worker, in the process of this thread; see `main`.

    Raises:
        FleetError: the sources here are others, or the process ended.
    """
    kept: _Host | None = getattr(_here, "host", None)
    if kept is not None and kept.sources == wanted:
        try:
            return kept.call(part)
        except FleetError:  # it has ended, most likely as nobody had anything for it
            pass
    _here.host = _Host(wanted)
    found: bytes = _here.host.call(part)
    return found


class _Host:
    """A process in which numbers are called for, of the sources as they are when it begins."""

    def __init__(self, wanted: str) -> None:
        _check(wanted)
        self.sources = wanted
        self._pipe, theirs = Pipe()
        self._errors = TemporaryFile()  # noqa: SIM115 - as long as the process
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - as above
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(theirs.fileno(),),
            )

    def call(self, part: bytes) -> bytes:
        try:
            self._pipe.send_bytes(part)
            return self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self._pipe.close()
            status = self._process.wait()
            self._errors.seek(0)
            text = self._errors.read().decode(errors="replace").strip()[-500:]
            raise FleetError(f"the process for seeds ended with status {status}: {text}") from error


_here: Final = threading.local()


def _check(wanted: str) -> None:
    if sources() != wanted:
        raise FleetError(f"the sources in {ROOT} are others than where the sweep was started")


def sources() -> str:
    """What stands for the sources of this program."""
    found = blake2b(digest_size=16)
    for folder in ("epaxos", "tools", "benchmarks", "tests"):  # tests, since hunts play directed ones
        for path in sorted(one for one in (ROOT / folder).rglob("*") if one.suffix in (".py", ".txt")):
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def main(descriptor: int) -> None:
    """Call functions for numbers in parts, as they come through a pipe, until it is closed or nothing comes."""
    with Connection(descriptor) as pipe:
        while pipe.poll(_IDLE):
            try:
                function, numbers, limit = pickle.loads(pipe.recv_bytes())  # noqa: S301 - of the worker that started this
            except EOFError:
                return
            began = monotonic()
            results = list(call_all(function, numbers, 1, limit))
            pipe.send_bytes(pickle.dumps((monotonic() - began, results)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
