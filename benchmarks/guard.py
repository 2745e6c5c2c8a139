"""Compare what a command costs in two commits, in CPU of a replica: a slow-down is noticed before it lands.

    python benchmarks/guard.py main                  this working tree beside the commit `main`
    python benchmarks/guard.py v1 --cycles 7 --only "hot key" --engine sqlite

CPU a command is steadier than throughput on a machine that others use too. Each cycle starts a cluster of either
tree, the order changing from cycle to cycle, and runs the chosen workloads on it with that tree's own load generator.
The ratio is of this tree to the other, cycle by cycle; its median counts, and beside it stands the range. Ends with
status 1 if a median is above `--limit`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from scenarios import SCENARIOS, START_SECONDS

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIG: Final = ROOT / "conf" / "local.toml"
CPU: Final = "process_cpu_seconds_total "


class Tree:
    """One state of the source, whose cluster is started and loaded by its own commands."""

    def __init__(self, source: Path, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = {**os.environ, "PYTHONPATH": str(source), **environment}
        replicas = tomllib.loads(CONFIG.read_text())["replicas"]
        self._pages = [f"http://{replica['host']}:{replica['metrics_port']}/metrics" for replica in replicas]

    @contextmanager
    def cluster(self) -> Iterator[None]:
        """The replicas of `CONFIG` with data of their own, until the end of the block."""
        with tempfile.TemporaryDirectory(prefix="epaxos-guard-") as data:
            self._environment["EPAXOS_STORAGE_DIRECTORY"] = data
            process = self._start("up", "-c", str(CONFIG))
            try:
                self._wait(process)
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()

    def cost(self, duration: str, arguments: Sequence[str]) -> tuple[float, float]:
        """Microseconds of a replica's CPU for a command, and commands a second, under one workload."""
        before = self._cpu()
        loaded = self._load("--duration", duration, *arguments)
        used = self._cpu() - before
        operations = loaded["operations"]
        return used * 1e6 / operations / len(self._pages), loaded["throughput_ops"]

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "epaxos", *arguments],
            cwd=self._source,
            env=self._environment,
            stdout=subprocess.PIPE if arguments[0] == "bench" else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _load(self, *arguments: str) -> dict[str, Any]:
        with self._start("bench", "-c", str(CONFIG), "--json", "-", *arguments) as process:
            assert process.stdout is not None
            report: dict[str, Any] = json.loads(process.stdout.read() or b"{}")
            return report

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._load("--operations", "10").get("operations") or self._unreachable():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"guard: the cluster of {self._source} did not start")

    def _unreachable(self) -> bool:
        return bool(self._load("--operations", "10")["unreachable"])

    def _cpu(self) -> float:
        """Seconds of CPU that the replicas have used, all together."""
        pages = []
        for page in self._pages:
            with urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310 - an http address of this machine
                pages.append(answer.read().decode())
        lines = [line for page in pages for line in page.splitlines() if line.startswith(CPU)]
        return sum(float(line.removeprefix(CPU)) for line in lines)


@contextmanager
def source_of(commit: str) -> Iterator[Path]:
    """A copy of what a commit holds."""
    with tempfile.TemporaryDirectory(prefix="epaxos-guard-") as place:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)  # noqa: S607
        subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)  # noqa: S607
        yield Path(place)


def main() -> int:
    """Compare, print the table, and say whether it holds the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the other side")
    parser.add_argument("--cycles", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--duration", default="3s", help="of each run (%(default)s)")
    parser.add_argument("--only", default="", help="only workloads whose names contain this")
    parser.add_argument("--engine", default="memory", help="storage.engine of all replicas (%(default)s)")
    parser.add_argument("--limit", type=float, default=1.1, help="highest ratio that is fine (%(default)s)")
    given = parser.parse_args()
    chosen = {name: arguments for name, arguments in SCENARIOS.items() if given.only in name}
    environment = {"EPAXOS_STORAGE_ENGINE": given.engine}
    costs: dict[str, list[tuple[tuple[float, float], ...]]] = {name: [] for name in chosen}
    with source_of(given.commit) as other:
        trees = (Tree(ROOT, environment), Tree(other, environment))
        for cycle in range(given.cycles):
            found: dict[int, dict[str, tuple[float, float]]] = {}
            for side in (0, 1) if cycle % 2 else (1, 0):
                print(f"cycle {cycle + 1}: {('this tree', given.commit)[side]}", file=sys.stderr)
                with trees[side].cluster():
                    found[side] = {
                        name: trees[side].cost(given.duration, arguments)
                        for name, arguments in chosen.items()
                    }
            for name in chosen:
                costs[name].append((found[0][name], found[1][name]))
    worst = max([row(name, pairs) for name, pairs in costs.items()])
    print(
        f"highest ratio {worst:.2f}; {'fine' if worst <= given.limit else 'too high'} (limit {given.limit})"
    )
    return int(worst > given.limit)


def row(name: str, pairs: Sequence[tuple[tuple[float, float], ...]]) -> float:
    """Print a line of the table; the ratio's median."""
    ours, theirs = ([pair[side][0] for pair in pairs] for side in (0, 1))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    speeds = [median(pair[side][1] for pair in pairs) for side in (0, 1)]
    print(
        f"{name:26}{median(ours):9.2f} µs{median(theirs):9.2f} µs   ratio {median(ratios):5.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})   {speeds[0]:9,.0f}/s {speeds[1]:9,.0f}/s"
    )
    return median(ratios)


if __name__ == "__main__":
    sys.exit(main())
