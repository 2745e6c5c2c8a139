"""Our replicas as processes of this machine: started, loaded, killed, and what they used meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import toml

from epaxos.client.blocking import Client
from epaxos.config import default_replicas, load_config
from epaxos.errors import ClientError
from epaxos.security.making import Listing, add_client, init_keys
from shared.figures import Figures, fetch
from shared.processes import Children, lifeline, pause

ROOT: Final = Path(__file__).resolve().parent.parent
PORT_KEYS: Final = ("port", "client_port", "metrics_port")
MOST: Final = 8
"""Of how many replicas a cluster is at first, at most; the ports of those that join come behind theirs."""

START_SECONDS: Final = 30.0
CHANGE_SECONDS: Final = 300.0
"""How long a change of members may take: who joins has to fetch a million keys first."""

_MINOR_FAULTS: Final = 7
"""Its place in /proc/PID/stat, behind the name."""

LONGEST_LOAD: Final = 600.0
"""Seconds after which a load is taken for hung: every benchmark ends by itself."""

Report = Mapping[str, Any]
Rounds = Mapping[str, Sequence[tuple[float, float]]]
"""A histogram of each replica: bounds, and how many are up to each."""

Settings = Mapping[str, str | int | bool]
"""Keys of the configuration with their values; a key of a section is written `storage.engine`."""


class BenchmarkError(Exception):
    """A benchmark cannot go on; one line says why."""


class Processes:
    """Processes whose use of this machine is asked for: each is counted with its children."""

    def __init__(self) -> None:
        self._known: list[psutil.Process] = []

    def watch(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Count these from now on, and no others."""
        roots = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        self._known = [some for root in roots for some in (root, *root.children(recursive=True))]

    def cpu(self) -> float:
        """Seconds of CPU that they have used, all together."""
        return sum(sum(process.cpu_times()[:2]) for process in self._known)

    def memory(self) -> int:
        """Bytes of memory that are resident, all together."""
        return sum(process.memory_info().rss for process in self._known)

    def faults(self) -> int:
        """How often they touched a page of memory that was not there, all together; 0 if the system does not say."""
        return sum(_faults(process.pid) for process in self._known)


def _faults(pid: int) -> int:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(line.rpartition(")")[2].split()[_MINOR_FAULTS])


class Cluster:
    """A cluster of ours with `n` replicas on the ports from `ports` on; `place` takes all its files.

    `python` runs the replicas and their load, of the package that is found in `source`, if that is given. What a load
    reports comes with what the replicas used.
    """

    def __init__(
        self,
        children: Children,
        place: Path,
        settings: Settings,
        *,
        n: int = 3,
        ports: int = 25_000,
        python: str = sys.executable,
        source: Path | None = None,
    ) -> None:
        self._children = children
        self._place = place
        self._settings = settings
        self._first = ports + MOST * len(PORT_KEYS)
        self._program = [*python.split(), "-m", "epaxos"]
        self._environment = {name: value for name, value in os.environ.items() if name[:7] != "EPAXOS_"}
        if source is not None:
            self._environment["PYTHONPATH"] = str(source)
        self._files: dict[str, Path] = {}
        replicas = default_replicas(n)
        for number, replica in enumerate(replicas):
            replica.update({key: ports + n * kind + number for kind, key in enumerate(PORT_KEYS)})
        self.names = [str(replica["name"]) for replica in replicas]
        self._pages = {str(some["name"]): f"{some['host']}:{some['metrics_port']}" for some in replicas}
        self.file = place / "epaxos.toml"
        self._replicas = {str(replica["name"]): replica for replica in replicas}
        self._write(self.file, replicas)
        self._token = _make_keys(self.file) if "security.keys" in settings else ""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.used = Processes()

    def start(self, name: str, line: int) -> None:
        """Start one replica; it ends when the file descriptor `line` does."""
        file = self._files.get(name, self.file)
        command = [*self._program, "serve", "-c", str(file), "-n", name, "--supervised"]
        command += ["--join"] if name in self._files else []
        with (self._place / f"{name}.log").open("ab") as log:
            started = self._children.start(
                [*command, "--log-level", "warning"],
                output=log,
                lifeline=line,
                environment=self._environment,
                cwd=self._place,  # `python -m` looks there first, before what `source` says
            )
        self._running[name] = started
        self.used.watch(list(self._running.values()))

    def _write(self, file: Path, replicas: Sequence[Mapping[str, Any]]) -> None:
        directory = {"storage.directory": str(self._place / "data")}
        file.write_text(toml.dumps(_nested(directory | dict(self._settings)) | {"replicas": replicas}))

    def bring(self, line: int) -> str:
        """Start another one that is to join, and wait until it answers; its name.

        Raises:
            BenchmarkError: it does not.
        """
        used = len(self._replicas)
        replica = default_replicas(used + 1)[-1]
        name = str(replica["name"])
        replica.update(
            {key: self._first + len(PORT_KEYS) * used + kind for kind, key in enumerate(PORT_KEYS)}
        )
        members = [self._replicas[member] for member in self._running]
        self._replicas[name] = replica
        self._pages[name] = f"{replica['host']}:{replica['metrics_port']}"
        self._files[name] = self._place / f"{name}.toml"
        self._write(self._files[name], [*members, replica])
        self.start(name, line)
        with Client(config=load_config(str(self._files[name]), environ={})) as client:
            self._await(
                lambda: client.status(replica=name, timeout=1.0).name == name, f"{name} does not answer"
            )
        return name

    def change(self, *words: str, newcomer: str | None = None) -> tuple[float, float]:
        """Run `epaxos member`; when that began, and when it was done and who came was ready (s of the epoch).

        Raises:
            BenchmarkError: it is not done.
        """
        file = self._place / "operators.toml"
        self._write(file, [self._replicas[name] for name in self._running])
        began = time.time()
        command = [*self._program, "member", *words, "-c", str(file), "--timeout", f"{CHANGE_SECONDS:g}s"]
        done = subprocess.run(
            command, cwd=self._place, env=self._environment, capture_output=True, check=False
        )
        if done.returncode:
            raise BenchmarkError(f"member {' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
        if newcomer is not None:
            self._await(lambda: bool(fetch(f"{self._pages[newcomer]}/readyz")), f"{newcomer} is not ready")
        return began, time.time()

    def left(self, name: str) -> None:
        """Wait until one that was removed has ended by itself.

        Raises:
            BenchmarkError: it does not.
        """
        process = self._running.pop(name)
        self._await(lambda: process.poll() is not None, f"{name} was removed and still runs")
        self._children.forget(process)
        self.used.watch(list(self._running.values()))

    def _await(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(ClientError, OSError):
                if done():
                    return
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{otherwise} after {START_SECONDS:.0f} s")
            pause(0.02)

    @property
    def members(self) -> list[str]:
        """Who runs, those that have joined last at the end."""
        return list(self._running)

    def kill(self, name: str) -> None:
        """End one replica with SIGKILL."""
        process = self._running.pop(name)
        self._children.forget(process)
        process.kill()
        process.wait()
        self.used.watch(list(self._running.values()))

    def wait(self) -> None:
        """Wait until all replicas that run serve clients and hear one another.

        Raises:
            BenchmarkError: one ended, or it takes too long.
        """
        end = time.monotonic() + START_SECONDS
        for name, process in self._running.items():
            while not self._is_ready(name):
                if process.poll() is not None or time.monotonic() > end:
                    text = (self._place / f"{name}.log").read_text(errors="replace").strip()
                    raise BenchmarkError(
                        f"replica {name} did not start: {text.splitlines()[-1:] or 'no log'}"
                    )
                pause(0.02)

    def _is_ready(self, name: str) -> bool:
        try:
            fetch(f"{self._pages[name]}/readyz")
            heard = self.scrape(name).total("epaxos_replicas_heard")
        except OSError:
            return False
        return heard == len(self._running)

    def scrape(self, name: str) -> Figures:
        """The metrics of a replica."""
        return Figures(fetch(f"{self._pages[name]}/metrics", self._token))

    def command(self, *arguments: str) -> list[str]:
        """The command line of a load on this cluster, whose report goes to its standard output."""
        return [*self._program, "bench", "-c", str(self.file), "--no-progress", "--json", "-", *arguments]

    def load(self, *arguments: str) -> Report:
        """Run `epaxos bench`; its report.

        Raises:
            BenchmarkError: it made none.
        """
        return read_report(self.start_load(*arguments))

    def start_load(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin `epaxos bench`; `read_report` waits for its end."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self._place,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def leader(self) -> str | None:
        """Who leads by its own account, of a protocol with a leader."""
        leads = (name for name in self._running if self.scrape(name).total("epaxos_leads"))
        return next(leads, None)

    def checkpointed(self, within: float) -> None:
        """Wait for a checkpoint of each replica, at most `within` seconds: where nothing is new there comes none."""
        deadline = time.monotonic() + within
        left = {name: self.scrape(name).total("epaxos_checkpoints_total") for name in self._running}
        while left and time.monotonic() < deadline:
            pause(0.1)
            left = {
                name: count
                for name, count in left.items()
                if self.scrape(name).total("epaxos_checkpoints_total") == count
            }

    def kept(self) -> dict[str, float]:
        """The figures of what each replica holds, on the average: memory, and numbers that are remembered of keys."""
        remembered = [self.scrape(name).total("epaxos_remembered_numbers") for name in self._running]
        n = len(self._running)
        return {"memory": self.used.memory() / n / 1e6, "remembered": sum(remembered) / n}

    def executed(self) -> float:
        """Commands that a replica has executed since its start, of the first that runs."""
        return self.scrape(next(iter(self._running))).total("epaxos_executed_commands_total")

    def measure(self, *arguments: str) -> dict[str, float]:
        """One load and what it took: the figures of `study.FIGURES` that it has."""
        executed, cpu, faults = self.executed(), self.used.cpu(), self.used.faults()
        report = self.load(*arguments)
        cpu, executed = self.used.cpu() - cpu, self.executed() - executed
        figures = figures_of(report)
        if executed:
            figures["cpu"] = cpu * 1e6 / executed / len(self._running)
            figures["faults"] = (self.used.faults() - faults) / executed / len(self._running)
        figures["memory"] = self.used.memory() / len(self._running) / 1e6
        return figures

    def rounds(self) -> Rounds:
        """How many rounds of each replica took up to which time (s), since its start."""
        return {name: self.scrape(name).buckets("epaxos_round_duration_seconds") for name in self._running}

    def slow_rounds(self, since: Rounds | None = None) -> tuple[float, float]:
        """Bounds (ms) of the round times below which 99.9 % and all of them stay, of the slowest replica.

        Since the start, or since what `rounds` said then.
        """
        found = []
        for name, buckets in self.rounds().items():
            before = (since or {}).get(name, [(bound, 0.0) for bound, _ in buckets])
            counts = [(bound, now - then) for (bound, now), (_, then) in zip(buckets, before, strict=True)]
            found.append((_bound(counts, 0.999), _bound(counts, 1.0)))
        return max(found)[0], max(longest for _, longest in found)


def _make_keys(file: Path) -> str:
    """Make the keys of a cluster; the token with which its pages are shown."""
    config = load_config(str(file), environ={})
    keys = Path(config.security.keys)
    init_keys(config, keys)
    return add_client(keys, "pages", Listing("read"), token=True)


def read_report(load: subprocess.Popen[bytes]) -> Report:
    """Wait for a load; its report.

    Raises:
        BenchmarkError: it made none, or not in time.
    """
    try:
        out, errors = load.communicate(timeout=LONGEST_LOAD)
    except BaseException as error:
        load.kill()
        load.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BenchmarkError(f"a load did not end within {LONGEST_LOAD:.0f} s") from error
        raise
    if not out:
        raise BenchmarkError(f"a load failed: {errors.decode(errors='replace').strip()[-300:]}")
    report: Report = json.loads(out)
    return report


def figures_of(report: Report) -> dict[str, float]:
    """The figures of a report of `epaxos bench`, by the names of `study.FIGURES`."""
    latency = report["latency_ms"]
    found = {
        "throughput": report["throughput_ops"],
        **{name: latency[name] for name in ("p50", "p99", "p999", "max")},
        "fast": report["fast_path_ratio"],
        "errors": report["errors"],
        "client": report["generator"]["cpu_us_per_operation"],
    }
    if report["floor"]:
        found |= {"floor": report["floor"]["p50_ms"], "to_floor": report["floor"]["latency_p50_ratio"]}
    return {name: float(value) for name, value in found.items() if value is not None}


@contextmanager
def running(settings: Settings, **options: Any) -> Iterator[tuple[Cluster, int]]:
    """A cluster whose replicas serve, and the descriptor for starting one again; all of it goes at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="epaxos-benchmark-") as place,
        lifeline() as line,
        Children() as children,
    ):
        cluster = Cluster(children, Path(place), settings, **options)
        for name in cluster.names:
            cluster.start(name, line)
        cluster.wait()
        yield cluster, line


def _bound(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """The lowest bound (ms) of a histogram that holds this share."""
    return 1000 * next(bound for bound, count in buckets if count >= share * buckets[-1][1])


def _nested(settings: Settings) -> dict[str, Any]:
    nested: dict[str, Any] = {"name": "benchmark"}
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested
