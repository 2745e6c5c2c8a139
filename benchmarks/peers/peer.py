"""What a system is asked for: whether it is installed, its servers, its settings, and a load."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from benchmarks.cluster import ROOT, BenchmarkError, Processes
from benchmarks.study import Sample
from shared.processes import Children, pause

LONGEST: Final = 600
"""Seconds after which servers that outlived their benchmark end by themselves."""

START_SECONDS: Final = 60.0
HOST: Final = "127.0.0.1"


class Load(NamedTuple):
    """So many clients, each with `window` commands under way, for so many seconds."""

    name: str
    clients: int
    window: int
    seconds: float


class Peer(ABC):
    """A system; what it says of itself is shown beside its figures."""

    name: ClassVar[str]
    settings: ClassVar[str]
    client: ClassVar[str]
    durable: ClassVar[bool] = True
    programs: ClassVar[Mapping[str, str]] = {}
    """What is needed of the system: each program with how to install it."""

    packages: ClassVar[Mapping[str, str]] = {}
    """The same for modules of Python."""

    def __init__(self, ports: int) -> None:
        self.ports = [ports + number for number in range(3)]
        self.inner = [ports + 10 + number for number in range(3)]
        self.used = Processes()

    @classmethod
    def missing(cls) -> str | None:
        """One line that says how to install what is missing; None if all is there."""
        lacking = [how for program, how in cls.programs.items() if shutil.which(program) is None]
        lacking += [how for module, how in cls.packages.items() if importlib.util.find_spec(module) is None]
        return (
            f"{cls.name} is left out; to have it: {' and '.join(dict.fromkeys(lacking))}" if lacking else None
        )

    @abstractmethod
    def commands(self, place: Path) -> list[list[str]]:
        """The command lines of the servers; `place` takes their files."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """What is done once when the servers listen, before any load."""

    @abstractmethod
    def load(self, load: Load) -> Sample:
        """One load: `operations`, `throughput`, `p50` and `p99` (ms), and the load's own `client` CPU if known."""

    def start(self, place: Path, children: Children) -> None:
        """Start the servers, and wait until they take connections."""
        started = [self._start(command, place, children) for command in self.commands(place)]
        for port in self.ports[: len(started)]:
            self._wait_for(port, started, place)
        self.used.watch(started)
        self.prepare()

    def _start(self, command: Sequence[str], place: Path, children: Children) -> subprocess.Popen[bytes]:
        bounded = [shutil.which("timeout") or "timeout", "--signal=KILL", str(LONGEST), *command]
        with (place / "log").open("ab") as log:
            return children.start(bounded, output=log, cwd=place)

    def _wait_for(self, port: int, started: Sequence[subprocess.Popen[bytes]], place: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while not listens(port):
            if time.monotonic() > end or any(process.poll() is not None for process in started):
                text = (place / "log").read_text(errors="replace").strip()
                raise BenchmarkError(f"{self.name} did not start: {text[-300:]}")
            pause(0.05)

    def measure(self, load: Load) -> Sample:
        """A load, and what the servers used for it."""
        cpu = self.used.cpu()
        sample = self.load(load)
        sample["cpu_all"] = (self.used.cpu() - cpu) * 1e6 / max(1.0, sample.pop("operations"))
        return sample

    def drive(self, kind: str, load: Load) -> Sample:
        """A load by the system's Python client, in a process of its own.

        Raises:
            BenchmarkError: it failed.
        """
        ports = ",".join(map(str, self.ports))
        command = [sys.executable, "-m", "benchmarks.peers.driver", kind, ports, *map(str, load[1:])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=LONGEST, check=False)
        if done.returncode:
            raise BenchmarkError(f"{self.name}: {done.stderr.decode(errors='replace').strip()[-300:]}")
        sample: Sample = json.loads(done.stdout)
        return sample


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
