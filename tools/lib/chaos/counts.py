"""What replicas that are killed now and then have done all in all: from their logs, which stay, and their metrics.

Metrics begin at 0 with every process, so they are asked for every second, and the last figures of each process add up.
What it did between that and its death is not counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chaos.cluster import Cluster
from chaos.proxy import HOST

EVERY: Final = 1.0
"""Seconds between two looks at the metrics."""

METRICS: Final[Mapping[str, str]] = {
    "epaxos_checkpoints_total": "checkpoints",
    "epaxos_checkpoint_seconds_sum": "seconds of checkpoints",
    "epaxos_catch_ups_total": "catch-ups by metrics",
    'epaxos_commits_total{path="recovered"}': "recovered",
}

LINES: Final[Mapping[str, str]] = {
    "resumed with": "resumes",
    "caught up in": "catch-ups",
    ": fetching, 0 rows": "catch-ups begun",
}

_DONE: Final = ", 0 instances open"
_LIMIT: Final = 1.0


class Counts:
    """The figures of every process of every replica."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], dict[str, float]] = {}

    async def watch(self, cluster: Cluster) -> None:
        """Ask for the metrics of the replicas that run, for ever."""
        ports = {replica.name: replica.metrics_port for replica in cluster.config.replicas}
        while True:
            await asyncio.sleep(EVERY)
            for replica in [replica for replica in cluster.all if replica.runs]:
                life = replica.lives
                try:
                    async with asyncio.timeout(_LIMIT):
                        text = await _get(ports[replica.name])
                except (OSError, TimeoutError):
                    continue  # it starts, or has been killed
                if life == replica.lives and replica.runs:
                    self.take(replica.directory.name, life, text)

    def take(self, name: str, life: int, text: str) -> None:
        """The metrics of the process that is the `life`-th of a replica."""
        found = {}
        for line in text.splitlines():
            metric, _, value = line.partition(" ")
            if metric in METRICS:
                found[METRICS[metric]] = float(value)
        if found:
            self._last[name, life] = found

    @property
    def totals(self) -> Counter[str]:
        """The sums."""
        totals: Counter[str] = Counter()
        for figures in self._last.values():
            for what, value in figures.items():
                totals[what] += value  # type: ignore[assignment]  # seconds are no whole number
        return totals


def count_lines(log: Path) -> Counter[str]:
    """How often a replica's log tells of each thing."""
    counts: Counter[str] = Counter()
    with log.open(errors="replace") as lines:
        for line in lines:
            for text, what in LINES.items():
                if text in line:
                    counts[what] += 1
                    if what == "resumes" and _DONE not in line:
                        counts["resumes with open instances"] += 1
    return counts


async def _get(port: int) -> str:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        return (await reader.read(-1)).decode(errors="replace")
    finally:
        writer.transport.abort()
