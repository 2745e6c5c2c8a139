"""Ports that are free, and processes that end with whoever started them."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from epaxos.errors import EpaxosError
from epaxos.testing.nursery import IS_POSSIBLE, Fork, nursery

PORTS: Final = range(32_000, 32_768)
"""Below the range from which Linux picks the ports of connections."""

STOP_TIMEOUT: Final = 30.0  # seconds; one that drains takes 5, and a busy machine some more
TAIL: Final = 20  # lines of a log that a failure shows


class ClusterFailed(EpaxosError):
    """A cluster for tests could not be started, or a replica of it did not do as it was told."""


class Ports:
    """Ports on which nothing listens, and that no other `Ports` has, until they are closed.

    The same port of UDP, bound as long as this is open, keeps clusters of several processes (two runs at once, the
    workers of pytest-xdist) from getting the same, wherever each has its temporary files.

    Raises:
        ClusterFailed: there are too few.
    """

    def __init__(self, count: int) -> None:
        self._locks: list[socket.socket] = []
        self.numbers: list[int] = []
        candidates = list(PORTS)
        random.shuffle(candidates)
        for port in candidates:
            if len(self.numbers) == count:
                return
            self._reserve(port)
        if len(self.numbers) < count:
            self.close()
            raise ClusterFailed(f"fewer than {count} ports from {PORTS.start} to {PORTS.stop - 1} are free")

    def _reserve(self, port: int) -> None:
        lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lock.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:
            lock.close()
        else:
            self._locks.append(lock)
            self.numbers.append(port)

    def close(self) -> None:
        """Let others have the ports."""
        while self._locks:
            self._locks.pop().close()


class Process:
    """A process that leads a group of its own, with all it prints in a file.

    Its standard input is a pipe that ends with this process, which `epaxos serve --supervised` heeds.

    It is the command `epaxos`, with these arguments. If there is a `kind`, one of its kind starts the sooner: see
    `nursery`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        kind: int | None = None,
    ) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | Fork
        with log.open("ab") as output:
            if kind is not None and IS_POSSIBLE:
                forks = nursery(environment, kind)
                self._process = forks.start(arguments, output, environment, cwd or log.parent)
                return
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "epaxos", *arguments],
                cwd=cwd or log.parent,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal that killed it, None while it runs."""
        return self._process.poll()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def tail(self) -> str:
        """The last lines of that."""
        return "\n".join(self.printed.splitlines()[-TAIL:])

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait until it has ended; its exit status.

        Raises:
            ClusterFailed: it still runs after `timeout` seconds.
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ClusterFailed(
                f"process {self.pid} still runs after {timeout:g} s; its log ends with:\n{self.tail}"
            ) from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, wait until it has, and return its exit status."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End it without further ado, if it still runs."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
