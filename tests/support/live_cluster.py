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

All processes are gone when the test ends: the fixture stops them, by their ids, and should the tests
themselves be killed they notice it and stop (`epaxos serve --supervised`).

Ports are reserved with a lock on a file for each, held as long as the cluster lives, so that clusters of
several processes (the workers of pytest-xdist, two runs at once) do not get the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self

import toml

from epaxos.client.blocking import Client
from epaxos.config import Config, default_replicas, load_config

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RESOLVER: Final = ROOT / "tests" / "support" / "stub_resolver"
PORTS: Final = range(32_000, 32_768)
"""Below the range from which Linux picks the ports of connections."""

PORT_KEYS: Final = ("port", "client_port", "metrics_port")
READY_TIMEOUT: Final = 20.0  # seconds
STOP_TIMEOUT: Final = 10.0  # seconds
COMMAND_TIMEOUT: Final = 30.0  # seconds
TAIL: Final = 20  # lines of a log that a failure shows


class Ports:
    """Ports on which nothing listens, and that no other `Ports` has, until they are closed."""

    def __init__(self, count: int) -> None:
        self._locks: list[IO[bytes]] = []
        self.numbers: list[int] = []
        candidates = list(PORTS)
        random.shuffle(candidates)
        for port in candidates:
            if len(self.numbers) == count:
                return
            self._reserve(port)
        if len(self.numbers) < count:
            self.close()
            raise AssertionError(f"fewer than {count} ports from {PORTS.start} to {PORTS.stop - 1} are free")

    def _reserve(self, port: int) -> None:
        directory = Path(tempfile.gettempdir()) / f"epaxos-test-ports-{os.getuid()}"
        directory.mkdir(exist_ok=True)
        lock = (directory / str(port)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    Its standard input is a pipe that ends with this process, which `--supervised` heeds.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd or log.parent,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def pid(self) -> int:
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
        """Wait until it has ended; its exit status."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
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


class LiveCluster:
    """A cluster of `n` replicas, called alpha, bravo, charlie, … as usual.

    Settings are keys of the configuration as a file would have them; `replicas` alone is made here, and
    `storage`, unless given, says "memory".

    directory  where all files are
    path       the configuration file
    hosts      what `resolve` says
    config     the same, loaded
    working_directory   where all commands are started
    """

    def __init__(self, directory: Path, n: int, settings: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ports = Ports(n * len(PORT_KEYS))
        self.path = directory / "epaxos.toml"
        self.path.write_text(self._make_file(n, settings or {}))
        self.config: Config = load_config(str(self.path), environ={})
        self.working_directory = directory
        self.hosts = directory / "hosts.json"
        self._processes: dict[str, Process] = {}
        self._others: list[Process] = []

    def _make_file(self, n: int, settings: Mapping[str, Any]) -> str:
        ports = iter(self._ports.numbers)
        replicas = [replica | {key: next(ports) for key in PORT_KEYS} for replica in default_replicas(n)]
        return toml.dumps({"name": "test", "storage": {"engine": "memory"}, **settings, "replicas": replicas})

    @property
    def names(self) -> list[str]:
        """The names of all replicas, in the order of their rows."""
        return [replica.name for replica in self.config.replicas]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes: this package, this configuration, nothing else of ours."""
        kept = {
            name: text for name, text in os.environ.items() if not name.startswith(("EPAXOS_", "PYTHONPATH"))
        }
        if self.hosts.exists():
            kept |= {"TEST_HOSTS": str(self.hosts), "PYTHONPATH": f"{RESOLVER}:{ROOT}"}
        return (
            {"PYTHONPATH": str(ROOT)}
            | kept
            | {
                "EPAXOS_CONFIG": str(self.path),
                "NO_COLOR": "1",
                "HOME": str(self.directory),
            }
        )

    def resolve(self, hosts: Mapping[str, Sequence[str] | None]) -> None:
        """Let host names mean these addresses to its processes; see `stub_resolver`."""
        new = self.hosts.with_suffix(".new")
        new.write_text(json.dumps(hosts))
        new.replace(self.hosts)

    # -- replicas ------------------------------------------------------------------------------------------

    def start(self, *names: str, options: Sequence[str] = ()) -> Self:
        """Start replicas, all if none is named, without waiting for them; `options` go to `epaxos serve`."""
        for name in names or self.names:
            assert name not in self.running, f"{name} runs already"
            self._processes[name] = self._spawn(
                f"{name}.log", "serve", "--supervised", "--name", name, *options
            )
        return self

    def wait_until_ready(self, timeout: float = READY_TIMEOUT) -> Self:
        """Wait until all replicas that were started hear one another."""
        deadline = time.monotonic() + timeout
        names = self.running
        while not all(self._peers_up(name) >= len(names) - 1 for name in names):
            self.check()
            logs = (f"--- {name}\n{self._processes[name].tail}" for name in names)
            assert time.monotonic() < deadline, "\n".join([f"not ready after {timeout:g} s", *logs])
            time.sleep(0.02)
        return self

    def _peers_up(self, name: str) -> int:
        """How many peers a replica hears; -1 if it does not answer yet."""
        try:
            metrics = self.metrics(name)
        except OSError:
            return -1
        return len(re.findall(r"^epaxos_peer_up\{.*\} 1\.0$", metrics, re.MULTILINE))

    def metrics(self, name: str) -> str:
        """A replica's page /metrics; raises OSError if it does not answer."""
        replica = self.config.replica(name)
        url = f"http://{replica.host}:{replica.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            return str(page.read().decode())

    @property
    def running(self) -> list[str]:
        """The names of the replicas that were started, and not stopped, killed or waited for."""
        return list(self._processes)

    def check(self) -> None:
        """Fail if a replica has ended by itself."""
        for name, process in self._processes.items():
            assert process.status is None, f"{name} ended with status {process.status}:\n{process.tail}"

    def process(self, name: str) -> Process:
        """The process of a running replica."""
        return self._processes[name]

    def log(self, name: str) -> str:
        """All that the processes of a replica have printed so far."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str) -> None:
        """Stop replicas in order, all if none is named; fail if one does not, or ended with an error."""
        stopping = {name: self._processes.pop(name) for name in names or self.running}
        for process in stopping.values():
            process.send(signal.SIGTERM)
        try:
            for name, process in stopping.items():
                status = process.wait()
                assert status == 0, f"{name} ended with status {status} when stopped:\n{process.tail}"
        finally:
            for process in stopping.values():
                process.kill()

    def wait(self, name: str) -> int:
        """Wait until a replica has ended by itself; its exit status."""
        process = self._processes.pop(name)
        try:
            return process.wait()
        finally:
            process.kill()

    def kill(self, *names: str) -> None:
        """Kill replicas with SIGKILL, all if none is named."""
        for name in names or self.running:
            self._processes.pop(name).kill()

    # -- other commands ------------------------------------------------------------------------------------

    def client(self, replica: str | None = None, **arguments: Any) -> Client:
        """A blocking client of this cluster; arguments are those of `Client`."""
        return Client(config=self.config, replica=replica, **arguments)

    def epaxos(
        self, *arguments: str, stdin: bytes = b"", stdout: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command `epaxos` for this cluster to its end."""
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

    def spawn(self, *arguments: str, log: str = "other.log") -> Process:
        """Start the command `epaxos` for this cluster beside others, with all it prints in the file `log`."""
        process = self._spawn(log, *arguments)
        self._others.append(process)
        return process

    def _spawn(self, log: str, *arguments: str) -> Process:
        command = [sys.executable, "-m", "epaxos", *arguments]
        return Process(command, self.directory / log, self.environment, self.working_directory)

    def close(self) -> None:
        """Kill what still runs, and give the ports back."""
        for process in (*self._others, *self._processes.values()):
            process.kill()
        self._processes.clear()
        self._others.clear()
        self._ports.close()


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
