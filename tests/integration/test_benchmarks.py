"""The benchmarks with real clusters, as small as can be: that they run at all, and leave nothing behind."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from pathlib import Path

from live_cluster import PORTS, ROOT

SMALLEST = ["--tiny", "--only", "no conflicts"]
BENCHMARKS = [sys.executable, str(ROOT / "tools" / "lib" / "run.py"), "benchmarks"]


def free_ports(count: int) -> int:
    """The first of so many ports in a row on which nothing listens, below those that other tests use."""
    while True:
        first = random.randrange(PORTS.start - 4000, PORTS.start - count)
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def test_a_load_and_a_failover_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = subprocess.run(
        [*BENCHMARKS, "reads", "failover", "--ports", str(free_ports(9)), "--json", str(file), *SMALLEST],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    studies = json.loads(file.read_text())["studies"]
    baseline = studies["reads"]["cases"]["0 % reads"]["median"]
    assert baseline["errors"] == 0
    assert min(baseline[name] for name in ("throughput", "cpu", "p50", "memory")) > 0
    away, back = (
        studies["failover"]["cases"][f"no conflicts: {phase}"]["median"] for phase in ("away", "back")
    )
    assert min(away["gap"], away["gap_away"]) > 0
    assert back["serving"] > 0
