"""A replica is killed under load, the leader if there is one, and comes back: throughput and latency over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from time import time
from typing import Any, Final

from benchmarks.cluster import Report, read_report, running
from benchmarks.study import TINY, Case, Options, Picture, Results, Sample, Study, say
from shared.processes import pause

KILLED: Final = "charlie"
LOAD: Final = ("--rate", "2000", "--clients", "12", "--batch", "1", "--timeout", "3s", "--series", "20ms")
PHASES: Final = ("before", "away", "back")
DRAWN: Final = 3
"""Clusters of so many replicas are in the picture, the others in the table alone."""

SHOWN: Final = 10
"""Intervals of the series that are one point of the picture."""


def failover(study: Study, options: Options) -> Results:
    """A row for each phase: before the kill, until the start, and after it."""
    results = Results()
    for cycle in range(options.cycles):
        for case in study.chosen(options):
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
            _once(case, options, results)
    return results


def _once(case: Case, options: Options, results: Results) -> None:
    seconds = 3 if options.tiny else 12 if options.quick else 24
    with running(case.settings, n=case.n, ports=options.ports) as (cluster, line):
        cluster.load("--operations", TINY if options.tiny else "3000")
        before = cluster.executed()
        less = ("--rate", "200") if options.tiny else ()
        load = cluster.start_load("--duration", f"{seconds}s", *case.load, *less)
        while cluster.executed() <= before and load.poll() is None:
            pause(0.05)  # until it has begun
        pause(seconds / 4)
        victim = cluster.leader() or KILLED
        cluster.kill(victim)
        killed = time()
        pause(seconds / 3)
        started = time()
        cluster.start(victim, line)
        cluster.wait()
        serving = time() - started
        report = read_report(load)
    edges = [report["series"]["started"], killed, started, started + seconds]
    for phase, sample in zip(PHASES, _phases(report["series"], edges, victim), strict=True):
        results.add(f"{case.name}: {phase}", sample)
        results.described[f"{case.name}: {phase}"] = case.describe()
    _note_all(results, case, report, serving, victim)
    if case.n == DRAWN and case.name not in results.series:
        results.series[case.name] = _shown(report["series"], edges, victim)


def _note_all(results: Results, case: Case, report: Report, serving: float, victim: str) -> None:
    """What is of the whole run stands in the row of the phase that it is about."""
    gaps = {name: some["longest_gap_ms"] for name, some in report["series"]["replicas"].items()}
    away = results.samples[f"{case.name}: away"][-1]
    away["gap_away"] = gaps.pop(victim)
    away["gap"] = max(gaps.values())
    results.samples[f"{case.name}: back"][-1]["serving"] = serving
    results.samples[f"{case.name}: before"][-1]["errors"] = float(report["errors"])


def _phases(series: Mapping[str, Any], edges: Sequence[float], victim: str) -> list[Sample]:
    """What the clients of the healthy replicas saw between each two edges (seconds of the epoch)."""
    step = series["interval_s"]
    found = []
    for begin, end in pairwise(edges):
        first, last = (round((edge - edges[0]) / step) for edge in (begin, end))
        healthy = [some for name, some in series["replicas"].items() if name != victim]
        counts = [count for some in healthy for count in some["operations"][first:last]]
        means = [mean for some in healthy for mean in some["mean_ms"][first:last]]
        total = sum(counts)
        spent = sum(mean * count for mean, count in zip(means, counts, strict=True) if count)
        length = max(1, min(last, len(healthy[0]["operations"])) - first)
        found.append(
            {
                "throughput": total / (length * step),
                "mean": spent / max(1, total),
                "max": max(longest for some in healthy for longest in [0, *some["longest_ms"][first:last]]),
            }
        )
    return found


def _shown(series: Mapping[str, Any], edges: Sequence[float], victim: str) -> dict[str, Any]:
    """The series of a picture: seconds, commands a second and longest latencies, of the healthy and of the others."""
    step = series["interval_s"]
    names = {"clients of the others": [name for name in series["replicas"] if name != victim]}
    names["clients of the one killed"] = [victim]
    points = len(series["replicas"][victim]["operations"]) // SHOWN
    shown: dict[str, Any] = {
        "seconds": [round(point * SHOWN * step, 3) for point in range(points)],
        "killed": round(edges[1] - edges[0], 2),
        "started": round(edges[2] - edges[0], 2),
    }
    for label, members in names.items():
        some = [series["replicas"][name] for name in members]
        slices = [slice(point * SHOWN, (point + 1) * SHOWN) for point in range(points)]
        shown[label] = {
            "throughput": [
                sum(sum(one["operations"][part]) for one in some) / SHOWN / step for part in slices
            ],
            "longest_ms": [max(max(one["longest_ms"][part]) for one in some) for part in slices],
        }
    return shown


STUDY: Final = Study(
    "failover",
    f"Failover: 2,000 lone commands a second; {KILLED} or who leads is killed and started again; others' clients",
    [
        Case("no conflicts", LOAD),
        *(
            Case(f"25 % on a hot key{which}", (*LOAD, "--conflicts", "25"), {"protocol": protocol}, n)
            for protocol, n, which in (
                ("epaxos", 3, ""),
                ("multipaxos", 3, ", the leader of Multi-Paxos"),
                ("epaxos", 5, ", 5 replicas"),
                ("multipaxos", 5, ", 5 replicas, the leader of Multi-Paxos"),
            )
        ),
    ],
    ("throughput", "mean", "max", "gap", "gap_away", "serving", "errors"),
    "no conflicts: before",
    Picture("series", "throughput", "seconds"),
    failover,
)
