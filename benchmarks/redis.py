"""redis-benchmark against the Redis door of three durable replicas, and against a redis-server that syncs each write.

Both take turns, each started anew, on free ports of this machine. Needs Debian's redis-server and redis-tools.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from differential.__main__ import redis_server
from epaxos.testing import LocalCluster

_OURS: Final = "epaxos, 3 replicas"
_THEIRS: Final = "redis, alone"
_TESTS: Final = ("SET", "GET", "INCR")
_PATIENCE: Final = 600.0  # seconds

Figures = dict[str, dict[str, float]]
"""Of each test, commands a second, and milliseconds of the median and the 99th percentile."""


def main(argv: Sequence[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks/run redis", description=__doc__, allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=200_000, help="of each test (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=50, help="at once (default: %(default)s)")
    parser.add_argument("--pipelines", default="1,16", help="requests sent at once (default: %(default)s)")
    parser.add_argument("--cycles", type=int, default=1, help="how often in turn (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args(argv)
    if not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        print("benchmarks/run redis: no redis-server and redis-benchmark here", file=sys.stderr)
        return 2
    pipelines = [int(text) for text in options.pipelines.split(",")]
    measured: dict[tuple[int, str], list[Figures]] = {}
    for cycle in range(options.cycles):
        for name in (_OURS, _THEIRS) if cycle % 2 == 0 else (_THEIRS, _OURS):
            with _server(name) as port:
                for pipeline in pipelines:
                    figures = measure(port, options.requests, options.connections, pipeline)
                    measured.setdefault((pipeline, name), []).append(figures)
    show(measured, pipelines)
    if options.json:
        options.json.write_text(
            json.dumps({f"{name}, P {pipeline}": runs for (pipeline, name), runs in measured.items()})
        )
    return 0


@contextmanager
def _server(name: str) -> Iterator[int]:
    if name == _OURS:
        with LocalCluster(durable=True, redis=True) as cluster:
            port = cluster.config.replicas[0].redis_port
            assert port is not None
            yield port
        return
    always = ("--appendonly", "yes", "--appendfsync", "always")
    with tempfile.TemporaryDirectory() as place, redis_server(*always, "--dir", place) as (_, port):
        yield port


def measure(port: int, requests: int, connections: int, pipeline: int) -> Figures:
    """What redis-benchmark finds."""
    numbers = {"-p": port, "-n": requests, "-c": connections, "-P": pipeline, "-r": 100_000}
    words = [str(word) for pair in numbers.items() for word in pair]
    command = ["redis-benchmark", "-t", ",".join(_TESTS).lower(), "--csv", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    rows = csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"'))
    return {
        row["test"]: {
            "rps": float(row["rps"]),
            "p50": float(row["p50_latency_ms"]),
            "p99": float(row["p99_latency_ms"]),
        }
        for row in rows
    }


def show(measured: dict[tuple[int, str], list[Figures]], pipelines: Sequence[int]) -> None:
    """Print medians of all cycles."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in (_OURS, _THEIRS):
        for column in (f"{name}: commands/s", "p50 ms", "p99 ms"):
            table.add_column(column, justify="right")
    for pipeline in pipelines:
        for test in _TESTS:
            cells = []
            for name in (_OURS, _THEIRS):
                runs = measured[pipeline, name]
                rps, p50, p99 = (median(run[test][what] for run in runs) for what in ("rps", "p50", "p99"))
                cells += [f"{rps:,.0f}", f"{p50:.2f}", f"{p99:.2f}"]
            table.add_row(f"{test}, -P {pipeline}", *cells)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
