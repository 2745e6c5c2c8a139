"""Run the standard workloads against a cluster of separate processes, several cycles, and compare them.

Machines are shared and change their speed, so the scenarios take turns (A B C A B C …) and each is compared with
the first one of its own cycle: the ratio's median says more than any single figure.

    python benchmarks/scenarios.py -c conf/local.toml --cycles 5 --json results.json
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

EPAXOS = [sys.executable, "-m", "epaxos"]
START_SECONDS = 30.0

SCENARIOS = {
    "writes": [],
    "one client, closed loop": ["--closed", "--clients", "1", "--floor"],
    "30 clients, closed loop": ["--closed", "--clients", "30"],
    "1 command a frame": ["--batch", "1", "--window", "100"],
    "10 commands a frame": ["--batch", "10"],
    "1000 commands a frame": ["--batch", "1000"],
    "2 % on a hot key": ["--conflicts", "2"],
    "25 % on a hot key": ["--conflicts", "25"],
    "100 % on a hot key": ["--conflicts", "100"],
    "half reads, Zipf 0.99": ["--writes", "50", "--zipf", "0.99"],
    "values of 1 KiB": ["--value-size", "1024"],
    "one replica loaded": ["--replicas", "alpha"],
}

Report = Mapping[str, Any]


@contextmanager
def cluster(config: str) -> Iterator[None]:
    """All replicas of the configuration, as processes of their own."""
    process = subprocess.Popen([*EPAXOS, "up", "-c", config], stdout=subprocess.DEVNULL)
    try:
        _wait_until_ready(config, process)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_until_ready(config: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    probe = [*EPAXOS, "bench", "-c", config, "--operations", "1", "--no-progress"]
    while subprocess.run(probe, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("scenarios: the cluster did not start")


def run(config: str, arguments: Sequence[str], duration: str) -> Report:
    """One run of the benchmark."""
    command = [*EPAXOS, "bench", "-c", config, "--duration", duration, "--warmup", "500ms", *arguments]
    ended = subprocess.run(
        [*command, "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    report: Report = json.loads(ended.stdout)
    return report


def row(name: str, reports: Sequence[Report], bases: Sequence[Report]) -> str:
    """A line of the table: medians over the cycles, and the median of the ratios."""
    throughput = median(report["throughput_ops"] for report in reports)
    ratio = median(
        report["throughput_ops"] / base["throughput_ops"] for report, base in zip(reports, bases, strict=True)
    )
    p50, p99 = (median(report["latency_ms"][name] for report in reports) for name in ("p50", "p99"))
    fast = median(report["fast_path_ratio"] or 0 for report in reports)
    errors = sum(report["errors"] for report in reports)
    floors = [report["floor"]["latency_p50_ratio"] for report in reports if report["floor"]]
    floor = f"{median(floors):6.2f}" if floors else "     -"
    return f"{name:26}{throughput:12,.0f}{ratio:7.2f}{p50:9.2f}{p99:9.2f}{fast:7.0%} {floor}{errors:7}"


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", default="conf/local.toml", help="the cluster (%(default)s)")
    parser.add_argument("--cycles", type=int, default=3, help="how often each is run (%(default)s)")
    parser.add_argument("--duration", default="3s", help="of each run (%(default)s)")
    parser.add_argument("--only", default="", help="run those whose names contain this, and the first one")
    parser.add_argument("--json", help="write all reports to this file")
    given = parser.parse_args()
    first = next(iter(SCENARIOS))
    chosen = [name for name in SCENARIOS if name == first or given.only in name]
    reports: dict[str, list[Report]] = {name: [] for name in chosen}
    with cluster(given.config):
        for cycle in range(given.cycles):
            for name in chosen:
                print(f"cycle {cycle + 1}: {name}", file=sys.stderr)
                reports[name].append(run(given.config, SCENARIOS[name], given.duration))
    print(f"{'':26}{'commands/s':>12}{'ratio':>7}{'p50 ms':>9}{'p99 ms':>9}{'fast':>7} /floor errors")
    for name in chosen:
        print(row(name, reports[name], reports[first]))
    if given.json:
        Path(given.json).write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
