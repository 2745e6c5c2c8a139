"""Commands on the workers of a fleet: a cluster of Dask, in the place of processes of this machine.

A command is a process of its own on its worker, begun at the root of the sources there, which must be the same as here:
else other seeds would draw other things, or find other faults. Seeds go there in parts; in the process of a part each
is called as here (`sweep.workers`), so one that hangs, or kills its process, is found out there as well.

Who can reach a scheduler can run what he likes on its workers, and they can on this machine: docs/simulator.md.
"""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple, Self, TypeVar

from epaxos.errors import ConfigError, EpaxosError
from epaxos.simulation.sweep.workers import Lost, call_all

Name = TypeVar("Name")
Result = TypeVar("Result")

ROOT: Final = Path(__file__).resolve().parents[2]
PART: Final = 25
"""Seeds of one process on a worker: some seconds of work for the third of one that it takes to begin."""

_AHEAD: Final = 2
"""Commands for each thread of the workers that are with the scheduler at once."""

_PATIENCE: Final = 30.0
"""Seconds to wait for a scheduler, and then for its first worker."""


class FleetError(EpaxosError):
    """A command could not be run on any worker, or not to its end."""


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
        ConfigError: there is no scheduler, or it has no worker.
    """

    def __init__(self, scheduler: str) -> None:
        self._dask: Any = importlib.import_module("distributed")  # an extra, and costly
        try:
            self._client = self._dask.Client(scheduler, timeout=_PATIENCE)
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(f"--scheduler: found {scheduler!r}, and no worker there: {error}") from error
        self._sources = sources()

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
        source = iter(commands)
        names: dict[Any, Name] = {}

        def submit(name: Name, command: Command) -> Any:
            future = self._client.submit(execute, command, self._sources, pure=False, retries=2)
            names[future] = name
            return future

        most = _AHEAD * sum(self._client.nthreads().values())
        ended = self._dask.as_completed([submit(*named) for named in islice(source, most)])
        for future in ended:
            try:
                done = future.result()
            except Exception as error:
                raise FleetError(f"a worker of the fleet failed: {error}") from error
            for named in islice(source, 1):
                ended.add(submit(*named))
            yield names.pop(future), done


def call_on(
    scheduler: str, function: Callable[[int], Result], numbers: Iterable[int], limit: float
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Call a function for all numbers on the workers of a scheduler: as `workers.call_all` does here.

    Raises:
        ConfigError, FleetError: see `Fleet`.
    """
    with Fleet(scheduler) as fleet:
        source = iter(numbers)
        parts: Iterator[tuple[int, ...]] = iter(lambda: tuple(islice(source, PART)), ())
        called = ((part, Command(("-m", __name__), pickle.dumps((function, part, limit)))) for part in parts)
        for part, done in fleet.run(called):
            if done.status:
                raise FleetError(
                    f"seeds {part[0]} to {part[-1]}: {done.errors.decode(errors='replace')[-500:]}"
                )
            yield from pickle.loads(done.output)  # noqa: S301 - of a worker, which is trusted anyway


def execute(command: Command, wanted: str | None = None) -> Done:
    """Run a command here, as on a worker; there, only if the sources are those that are wanted."""
    if wanted is not None and sources() != wanted:
        raise FleetError(f"the sources in {ROOT} are others than where the sweep was started")
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


def sources() -> str:
    """What stands for the sources of this program."""
    found = blake2b(digest_size=16)
    for folder in ("epaxos", "tools", "benchmarks", "tests"):  # tests, since hunts play directed ones
        for path in sorted(one for one in (ROOT / folder).rglob("*") if one.suffix in (".py", ".txt")):
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    """Call a function for a part of the numbers, both read from standard input; write what comes of it."""
    function, numbers, limit = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the worker that started this
    pickle.dump(list(call_all(function, numbers, 1, limit)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
