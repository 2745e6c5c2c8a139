"""What a command costs a replica in CPU, in this tree and in a commit, so that a slow-down is noticed before it lands.

    benchmarks/run guard main                  this working tree beside the commit `main`
    benchmarks/run guard v1 --cycles 7 --only "hot key" --engine sqlite
    benchmarks/run guard --keys                this tree with keys (docs/security.md) beside the same without

CPU a command is steadier than throughput on a machine that others use too. Each cycle starts a cluster of either
tree, the order changing from cycle to cycle, and runs the chosen workloads on it with that tree's own load generator.
The ratio is of this tree to the other, cycle by cycle; its median counts, and beside it stands the range. Ends with
status 1 if a median is above `--limit`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.cluster import ROOT, BenchmarkError, Settings, running
from benchmarks.study import PRIMING, Sample, say
from shared.processes import Interrupted, catch_signals, pause

SCENARIOS: Final[Mapping[str, Sequence[str]]] = {
    "writes": (),
    "one client, closed loop": ("--closed", "--clients", "1"),
    "30 clients, closed loop": ("--closed", "--clients", "30"),
    "66 clients, closed loop": ("--closed", "--clients", "66"),
    "510 clients, closed loop": ("--closed", "--clients", "510"),
    "66 sessions x 16": ("--batch", "1", "--window", "16", "--clients", "66"),
    "1 command a frame": ("--batch", "1", "--window", "100"),
    "10 commands a frame": ("--batch", "10"),
    "1000 commands a frame": ("--batch", "1000"),
    "2 % on a hot key": ("--conflicts", "2"),
    "25 % on a hot key": ("--conflicts", "25"),
    "100 % on a hot key": ("--conflicts", "100"),
    "half reads, Zipf 0.99": ("--writes", "50", "--zipf", "0.99"),
    "values of 1 KiB": ("--value-size", "1024"),
    "values of 64 KiB": ("--value-size", "65536", "--batch", "1", "--window", "20"),
    "one replica loaded": ("--replicas", "alpha"),
}

Pair = tuple[Sample, Sample]
"""One workload in one cycle: this tree and the other."""


@contextmanager
def source_of(commit: str) -> Iterator[Path]:
    """A copy of what a commit holds.

    Raises:
        BenchmarkError: there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="epaxos-guard-") as place:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)  # noqa: S607
        if archive.returncode:
            raise BenchmarkError(f"guard: {archive.stderr.decode(errors='replace').strip()}")
        subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)  # noqa: S607
        yield Path(place)


def measure(
    source: Path, settings: Settings, chosen: Sequence[str], given: argparse.Namespace
) -> dict[str, Sample]:
    """The chosen workloads on one cluster of a tree."""
    found = {}
    with running(settings, source=source, ports=given.ports) as (cluster, _):
        cluster.load("--operations", PRIMING)
        for name in chosen:
            pause()
            found[name] = cluster.measure("--duration", given.duration, *SCENARIOS[name])
    return found


def compare(given: argparse.Namespace) -> float:
    """All cycles and their table; the highest median of a ratio."""
    chosen = [name for name in SCENARIOS if given.only in name]
    pairs: dict[str, list[Pair]] = {name: [] for name in chosen}
    plain: Settings = {"storage.engine": given.engine}
    settings: tuple[Settings, Settings] = plain, plain
    if given.keys:
        settings = {**plain, "security.keys": "keys"}, plain
    sides = ("with keys", "without") if given.keys else ("this tree", given.commit)
    with nullcontext(ROOT) if given.keys else source_of(given.commit) as other:
        trees = (ROOT, other)
        for cycle in range(given.cycles):
            found: dict[int, dict[str, Sample]] = {}
            for side in (0, 1) if cycle % 2 else (1, 0):
                say(f"guard, cycle {cycle + 1} of {given.cycles}: {sides[side]}")
                found[side] = measure(trees[side], settings[side], chosen, given)
            for name in chosen:
                pairs[name].append((found[0][name], found[1][name]))
    return max(row(name, some) for name, some in pairs.items())


def row(name: str, pairs: Sequence[Pair]) -> float:
    """Print a line of the table; the ratio's median."""
    ours, theirs = ([pair[side]["cpu"] for pair in pairs] for side in (0, 1))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    speeds = [median(pair[side]["throughput"] for pair in pairs) for side in (0, 1)]
    middles = [median(pair[side]["p50"] for pair in pairs) for side in (0, 1)]
    print(
        f"{name:26}{median(ours):9.2f} µs{median(theirs):9.2f} µs   ratio {median(ratios):5.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})   {speeds[0]:9,.0f}/s {speeds[1]:9,.0f}/s"
        f"   p50 {middles[0]:7.2f} {middles[1]:7.2f} ms"
    )
    return median(ratios)


def main(argv: Sequence[str]) -> int:
    """Compare, print the table, and say whether it holds the limit."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit", nargs="?", default="HEAD", help="the other side (%(default)s)")
    parser.add_argument("--keys", action="store_true", help="in place of a commit: the same without keys")
    parser.add_argument("--cycles", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--duration", default="3s", help="of each run (%(default)s)")
    parser.add_argument("--only", default="", help="only workloads whose names contain this")
    parser.add_argument("--engine", default="memory", help="storage.engine of all replicas (%(default)s)")
    parser.add_argument("--limit", type=float, default=1.1, help="highest ratio that is fine (%(default)s)")
    parser.add_argument("--ports", type=int, default=25_000, help="first of the ports (%(default)s)")
    given = parser.parse_args(argv)
    catch_signals()
    try:
        worst = compare(given)
    except Interrupted as interruption:
        say(str(interruption))
        return interruption.status
    except BenchmarkError as error:
        say(str(error))
        return 1
    print(
        f"highest ratio {worst:.2f}; {'fine' if worst <= given.limit else 'too high'} (limit {given.limit})"
    )
    return int(worst > given.limit)
