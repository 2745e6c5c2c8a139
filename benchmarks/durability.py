"""What keeping the data costs, and how long coming back takes: measured on a cluster of separate processes.

    python benchmarks/durability.py cost      throughput, latency and rounds: durable beside memory, interleaved
    python benchmarks/durability.py endless   memory and disk under endless load on a fixed set of keys
    python benchmarks/durability.py away      a replica is away, comes back and catches up while the load goes on
    python benchmarks/durability.py restart   how long a replica with many keys takes from its start to serving

Each starts the replicas of a configuration with data in a temporary directory, and stops them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from epaxos.config import load_config

EPAXOS: Final = [sys.executable, "-m", "epaxos"]
START_SECONDS: Final = 60.0

Report = Mapping[str, Any]


class Cluster:
    """The replicas of a configuration, as processes that can be stopped and started one by one."""

    def __init__(self, config: str, data: Path, settings: Mapping[str, str]) -> None:
        self.config = config
        self.data = data
        self.names = [replica.name for replica in load_config(config).replicas]
        self._metrics = {
            replica.name: f"http://{replica.host}:{replica.metrics_port}/metrics"
            for replica in load_config(config).replicas
        }
        self._environment = {**os.environ, "EPAXOS_STORAGE_DIRECTORY": str(data), **settings}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one replica."""
        command = [*EPAXOS, "serve", "-c", self.config, "-n", name, "--log-level", "warning"]
        self._processes[name] = subprocess.Popen(command, env=self._environment)

    def kill(self, name: str) -> None:
        """End one replica with SIGKILL."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all replicas in order."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            process.wait()

    def wait_until_ready(self) -> None:
        """Wait until a command is answered."""
        end = time.monotonic() + START_SECONDS
        probe = [*EPAXOS, "bench", "-c", self.config, "--operations", "3", "--no-progress"]
        while subprocess.run(probe, capture_output=True, check=False).returncode:
            if time.monotonic() > end:
                sys.exit("durability: the cluster did not start")

    def bench(self, *arguments: str) -> Report:
        """One run of the benchmark."""
        command = [*EPAXOS, "bench", "-c", self.config, "--no-progress", "--json", "-", *arguments]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        report: Report = json.loads(ended.stdout)
        return report

    def status(self) -> dict[str, Any]:
        """What each replica that answers tells of itself, by name; without digests, which take long."""
        command = [*EPAXOS, "status", "-c", self.config, "--json"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return {
            replica["name"]: replica
            for replica in json.loads(ended.stdout)["replicas"]
            if replica["reachable"]
        }

    def metric(self, name: str, series: str) -> float:
        """One figure of one replica's metrics; -1 if it does not answer."""
        try:
            lines = self._page(name)
        except OSError:
            return -1.0
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(series + " ")), 0.0)

    def slow_rounds(self, name: str) -> tuple[float, float]:
        """Bounds of the round times below which 99.9 % and all of them stay, in ms."""
        lines = self._page(name)
        prefix = 'epaxos_round_duration_seconds_bucket{le="'
        buckets = [
            (float(line[len(prefix) :].partition('"')[0]), float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith(prefix)
        ]
        total = buckets[-1][1]
        tail = next(bound for bound, count in buckets if count >= 0.999 * total)
        return 1000 * tail, 1000 * next(bound for bound, count in buckets if count >= total)

    def _page(self, name: str) -> list[str]:
        with urllib.request.urlopen(self._metrics[name], timeout=5) as answer:  # noqa: S310 - our own address
            page: str = answer.read().decode()
        return page.splitlines()

    def memory(self) -> list[int]:
        """Resident memory of each replica in MB."""
        return [_resident(process.pid) for process in self._processes.values()]

    def disk(self) -> list[int]:
        """What each data directory takes in MB."""
        return [_size(self.data / name) for name in self.names if (self.data / name).is_dir()]


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file()) >> 20


@contextmanager
def running(config: str, **settings: str) -> Iterator[Cluster]:
    """A cluster whose data goes with it."""
    with tempfile.TemporaryDirectory(prefix="epaxos-durability-") as directory:
        cluster = Cluster(
            config, Path(directory), {f"EPAXOS_{key}": value for key, value in settings.items()}
        )
        try:
            for name in cluster.names:
                cluster.start(name)
            cluster.wait_until_ready()
            yield cluster
        finally:
            cluster.stop()


# -- what is measured ------------------------------------------------------------------------------------------

VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "memory": {"STORAGE_ENGINE": "memory"},
    "sqlite": {"STORAGE_ENGINE": "sqlite"},
    "sqlite, no checkpoints": {"STORAGE_ENGINE": "sqlite", "STORAGE_CHECKPOINT": "1h"}
    | {"STORAGE_CHECKPOINT_INSTANCES": "100000000"},
    "sqlite, sync interval": {"STORAGE_ENGINE": "sqlite", "STORAGE_SYNC": "interval"},
}


def cost(config: str, cycles: int) -> None:
    """Throughput and latency of each variant in turn."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in VARIANTS}
    for _ in range(cycles):
        for name, settings in VARIANTS.items():
            with running(config, **settings) as cluster:
                load = cluster.bench("--duration", "8s", "--warmup", "1s")
                tail, longest = cluster.slow_rounds(cluster.names[0])
                alone = cluster.bench("--closed", "--clients", "1", "--operations", "3000")
            found[name].append(
                (
                    load["throughput_ops"],
                    load["latency_ms"]["p50"],
                    load["latency_ms"]["p99"],
                    alone["latency_ms"]["p50"],
                    tail,
                    longest,
                )
            )
            print(name, *(f"{figure:,.2f}" for figure in found[name][-1]), file=sys.stderr)
    print(f"raw append and fdatasync of one round (4 records, 4 KB): {_floor():.3f} ms")
    print(
        f"{'':24}{'commands/s':>12}{'p50':>8}{'p99':>8}{'closed p50':>12}{'round p99.9':>13}{'longest':>9} ms"
    )
    for name, rows in found.items():
        columns = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(
            f"{name:24}{columns[0]:12,.0f}{columns[1]:8.2f}{columns[2]:8.2f}{columns[3]:12.3f}{columns[4]:13.1f}{columns[5]:9.1f}"
        )


def _floor() -> float:
    """Median ms of appending the bytes of a round to a file and syncing it."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(500):
            began = time.perf_counter()
            file.write(bytes(4096 + 4 * 120))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def endless(config: str, millions: int, rate: int) -> None:
    """Memory and disk after every million commands on 100,000 keys; at full speed if `rate` is 0."""
    load = ["--rate", str(rate)] if rate else []
    with running(config) as cluster:
        print(f"{'commands':>12}{'commands/s':>12}   resident MB        directory MB")
        for million in range(1, millions + 1):
            report = cluster.bench("--operations", "1000000", *load)
            shown = "  ".join(map(str, cluster.memory())), "  ".join(map(str, cluster.disk()))
            print(f"{million:10} M{report['throughput_ops']:12,.0f}   {shown[0]:18} {shown[1]}", flush=True)


def away(config: str, commands: int, rate: int) -> None:
    """A replica misses many commands, comes back and catches up, while the others are loaded at a rate."""
    with running(config, STORAGE_RETAIN="4000000", STORAGE_CHECKPOINT="2s") as cluster:
        *others, absent = cluster.names
        load = ["--rate", str(rate), "--replicas", ",".join(others)]
        cluster.bench("--operations", "500000")
        before = cluster.bench("--duration", "8s", *load)
        _show("all there", before)
        cluster.kill(absent)
        missed = cluster.bench("--operations", str(commands), "--replicas", ",".join(others))
        _show(f"away for {commands:,} commands at full speed", missed)
        time.sleep(1)
        command = [*EPAXOS, "bench", "-c", config, "--no-progress", "--json", "-", "--duration", "25s", *load]
        under_way = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(2)
        cluster.start(absent)
        began = time.monotonic()
        while cluster.metric(absent, "epaxos_catch_ups_total") < 1 and time.monotonic() - began < 60:
            time.sleep(0.2)
        print(f"caught up by a peer's checkpoint {time.monotonic() - began:.1f} s after its start")
        during, _ = under_way.communicate()
        _show("while it comes back and catches up", json.loads(during))
        _show("all there again", cluster.bench("--duration", "8s", *load))
        _wait_until_alike(cluster, began)


def _wait_until_alike(cluster: Cluster, began: float) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        statuses = cluster.status()
        if len({status["digest"] for status in statuses.values()}) == 1 and len(statuses) == len(
            cluster.names
        ):
            print(f"all replicas alike, digest {next(iter(statuses.values()))['digest'][:16]}…")
            return
        time.sleep(0.5)
    sys.exit(f"durability: not alike {time.monotonic() - began:.0f} s after the start")


def _show(what: str, report: Report) -> None:
    latency = report["latency_ms"]
    print(
        f"{what}: {report['throughput_ops']:,.0f} commands/s, p50 {latency['p50']:.2f}, p99 {latency['p99']:.2f}, "
        f"longest {latency['max']:.0f} ms, errors {report['errors']}",
        flush=True,
    )


def restart(config: str, keys: int) -> None:
    """From the start of a killed replica to its first answer to a scrape, and to being level with the others."""
    with running(config) as cluster:
        cluster.bench("--operations", str(2 * keys), "--keys", str(keys))
        time.sleep(7)  # the last checkpoint is durable
        name = cluster.names[0]
        held = round(cluster.metric(name, "epaxos_keys"))
        for _ in range(3):
            cluster.kill(name)
            began = time.monotonic()
            cluster.start(name)
            while cluster.metric(name, "epaxos_rounds_total") <= 0:
                time.sleep(0.02)
            print(f"{held:,} keys: serving {time.monotonic() - began:.2f} s after its start", flush=True)
            time.sleep(2)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "endless", "away", "restart"))
    parser.add_argument("-c", "--config", default="conf/local.toml", help="the cluster (%(default)s)")
    parser.add_argument("--cycles", type=int, default=5, help="cost: how often each is run (%(default)s)")
    parser.add_argument("--millions", type=int, default=10, help="endless: commands (%(default)s M)")
    parser.add_argument("--missed", type=int, default=1_000_000, help="away: commands missed (%(default)s)")
    parser.add_argument(
        "--rate", type=int, default=0, help="commands a second; 0: endless at full speed, away at 20,000"
    )
    parser.add_argument("--keys", type=int, default=1_000_000, help="restart: keys (%(default)s)")
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.config, given.cycles)
    elif given.what == "endless":
        endless(given.config, given.millions, given.rate)
    elif given.what == "away":
        away(given.config, given.missed, given.rate or 20_000)
    else:
        restart(given.config, given.keys)


if __name__ == "__main__":
    main()
