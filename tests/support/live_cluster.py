"""Clusters of real replicas: processes of `epaxos serve` on free ports of this machine.

A test asks the fixture `cluster` for one:

    def test_it(cluster):
        alive = cluster(3, thrifty=True, client={"timeout": "1s"})
        with alive.client("alpha") as client:
            client.put(b"key", b"value")
        alive.stop("bravo")
        assert alive.epaxos("get", "key").stdout == b"value"

Replicas keep their state in memory, which is quicker and leaves nothing behind; a test that is about the disk says
`storage={"engine": "sqlite"}`, and the data is in the directory of its cluster.

All processes are gone when the test ends; `epaxos.testing` has what makes that so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

from epaxos.testing.cluster import PORT_KEYS, LocalCluster
from epaxos.testing.nursery import IS_POSSIBLE, nursery
from epaxos.testing.processes import PORTS, ClusterFailed, Ports, Process

__all__ = [
    "PORTS",
    "PORT_KEYS",
    "ROOT",
    "ClusterFailed",
    "ClusterMaker",
    "LiveCluster",
    "Ports",
    "Process",
    "clusters",
]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RESOLVER: Final = ROOT / "tests" / "support" / "stub_resolver"
NEXT_LEVEL: Final = ROOT / "tests" / "support" / "next_level"
COMMAND_TIMEOUT: Final = 30.0  # seconds


class LiveCluster(LocalCluster):
    """A `LocalCluster` that also runs other commands, and whose names may mean other addresses.

    hosts      what `resolve` says
    ahead      whether processes started from now on pretend to be of a program of the next level
    working_directory   where all commands are started
    """

    def __init__(self, directory: Path, n: int, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(n, directory=directory, **(settings or {}))
        self.hosts = directory / "hosts.json"
        self.ahead = False
        self._others: list[Process] = []
        self._ports: list[Ports] = []

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes; a HOME without configuration."""
        kept = super().environment | {"PYTHONPATH": str(ROOT), "HOME": str(self.directory)}
        if self.hosts.exists():
            kept |= {"TEST_HOSTS": str(self.hosts), "PYTHONPATH": f"{RESOLVER}:{ROOT}"}
        if self.ahead:
            kept |= {"PYTHONPATH": f"{NEXT_LEVEL}:{ROOT}"}
        return kept

    def resolve(self, hosts: Mapping[str, Sequence[str] | None]) -> None:
        """Let host names mean these addresses to its processes; see `stub_resolver`."""
        new = self.hosts.with_suffix(".new")
        new.write_text(json.dumps(hosts))
        new.replace(self.hosts)

    def wait(self, name: str) -> int:
        """Wait until a replica has ended by itself; its exit status."""
        process = self._take(name)
        try:
            return process.wait()
        finally:
            process.kill()

    def epaxos(
        self, *arguments: str, stdin: bytes = b"", stdout: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command `epaxos` for this cluster to its end, as a fork of what has imported it (`nursery`)."""
        if not IS_POSSIBLE:
            return subprocess.run(
                [sys.executable, "-m", "epaxos", *arguments],
                cwd=self.working_directory,
                env=self.environment,
                input=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                timeout=COMMAND_TIMEOUT,
                check=False,
            )
        with TemporaryFile() as kept, TemporaryFile() as errors:
            output = kept if isinstance(stdout, int) else stdout
            forks = nursery(self.environment, 0)
            fork = forks.start(arguments, output, self.environment, self.working_directory, errors)
            with suppress(BrokenPipeError), fork.stdin as given:  # it may end without having read all
                given.write(stdin)
            try:
                status = fork.wait(COMMAND_TIMEOUT)
            finally:
                fork.kill()
            kept.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(arguments, status, kept.read(), errors.read())

    def spawn(self, *arguments: str, log: str = "other.log") -> Process:
        """Start the command `epaxos` for this cluster beside others, with all it prints in the file `log`."""
        process = self.spawn_command(log, *arguments)
        self._others.append(process)
        return process

    def more_ports(self, count: int) -> list[int]:
        """So many others, which nobody else has until this is closed."""
        self._ports.append(Ports(count))
        return self._ports[-1].numbers

    def close(self) -> None:
        """Kill what still runs, and give the ports back."""
        for process in self._others:
            process.kill()
        self._others.clear()
        while self._ports:
            self._ports.pop().close()
        super().close()


class ClusterMaker:
    """What the fixture `cluster` gives: a function that makes clusters and remembers them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[LiveCluster] = []

    def __call__(self, n: int, *, start: bool = True, **settings: Any) -> LiveCluster:
        """A cluster of `n` replicas; all of them run and hear one another unless `start` is False."""
        made = LiveCluster(self._directory / f"cluster-{len(self._made)}", n, settings)
        self._made.append(made)
        return made.start().wait_until_ready() if start else made

    def close(self) -> None:
        """Stop all replicas; fail if one has ended by itself meanwhile, or does not stop in order."""
        try:
            for made in self._made:
                made.check()
                made.stop()
        finally:
            for made in self._made:
                made.close()


def clusters(directory: Path) -> Iterator[ClusterMaker]:
    """The body of the fixture `cluster`."""
    maker = ClusterMaker(directory)
    try:
        yield maker
    finally:
        maker.close()
