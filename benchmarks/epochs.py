"""Epochs that end under load, for other members or the same: what clients see of it, beside the same without."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from signal import SIGINT
from time import time
from typing import Any, Final

from benchmarks.cluster import BenchmarkError, Cluster, Report, read_report, running
from benchmarks.study import PRIMING, TINY, Case, Options, Results, Sample, Study, say
from epaxos import Op
from epaxos.client.blocking import Client
from epaxos.client.results import Result
from epaxos.config import load_config
from shared.processes import pause

SERIES: Final = ("--series", "50ms")
LONGEST: Final = 900.0
"""Seconds that a load goes on if nobody ends it."""

GONE: Final = 10
"""Of so many keys one more is written and deleted again, before anything is measured."""

PART: Final = 8
"""What part of what three replicas take is left to seven, and to those that come, who share as many cores."""

_AT_ONCE: Final = 10_000
"""Keys that are deleted in one call."""

WITHOUT, REFRESH = "the same second without", "another epoch"
ADD, REPLACE, DEAD, ALL = "one more", "one replaced", "a dead one replaced", "all three replaced"
BEFORE, AFTER = "before", "after"
SIZES: Final = (3, 5, 7, 3)

SLACK: Final = 0.2
"""Seconds between what is looked at and what was before it."""

PATIENCE: Final = 10.0
AWAY: Final = 2.0
"""Seconds for which one is dead before somebody replaces it."""

Span = tuple[float, float]
"""From when to when (s of the epoch)."""


def epochs(study: Study, options: Options) -> Results:
    """A row for each kind of change: while it came about, a second at least, and what it took."""
    results = Results()
    for cycle in range(options.cycles):
        for case in study.chosen(options):
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
            with running(case.settings, n=case.n, ports=options.ports) as (cluster, line):
                if case.x is None:
                    _change_once(cluster, line, case, options, results)
                else:
                    _grow_and_shrink(cluster, line, case, options, results)
    results.samples = {name: results.samples[name] for name in sorted(results.samples, key=_place(study))}
    return results


def _change_once(cluster: Cluster, line: int, case: Case, options: Options, results: Results) -> None:
    """Every kind of change, one after another."""
    full = cluster.measure("--operations", TINY if options.tiny else PRIMING)["throughput"]
    load = _begin(cluster, full / 2 if case.name.startswith("half") else None)
    spans: dict[str, list[Span]] = {}
    try:
        pause(1 + SLACK)
        for _ in range(1 if options.tiny or options.quick else 4):
            now = time()
            spans.setdefault(WITHOUT, []).append((now - 1 - SLACK, now - SLACK))
            spans.setdefault(REFRESH, []).append(_refresh(cluster))
            pause(1.5 + SLACK)
        for what, change in _CHANGES:
            spans[what] = [change(cluster, line)]
            pause(1 + SLACK)
    finally:
        load.send_signal(SIGINT)
    report = read_report(load)
    for what, some in spans.items():
        for span in some:
            _add(results, case, what, _seen(report["series"], span))
    _note_errors(results, case, report)


def _refresh(cluster: Cluster) -> Span:
    """Begin another epoch, and wait until the replica that was asked is in it."""
    began = time()
    with Client(config=load_config(str(cluster.file), environ={})) as client:
        status = client.status()
        while client.refresh(status.epoch, request=status.epoch + 1, replica=status.name).outcome != "done":
            if time() > began + PATIENCE:
                raise BenchmarkError(f"no epoch after {status.epoch} within {PATIENCE:g} s")
            pause(0.01)
    return began, time()


def _add_one(cluster: Cluster, line: int) -> Span:
    newcomer = cluster.bring(line)
    return cluster.change("add", newcomer, newcomer=newcomer)


def _replace(cluster: Cluster, line: int) -> Span:
    leaver, newcomer = cluster.members[0], cluster.bring(line)
    began, end = cluster.change("replace", leaver, newcomer, newcomer=newcomer)
    cluster.left(leaver)
    return began, end


def _replace_dead(cluster: Cluster, line: int) -> Span:
    dead = cluster.members[0]
    cluster.kill(dead)
    pause(AWAY)
    newcomer = cluster.bring(line)
    return cluster.change("replace", dead, newcomer, newcomer=newcomer)


def _replace_all(cluster: Cluster, line: int) -> Span:
    """One after another, those that were brought for it at last too."""
    spans = [_replace(cluster, line) for _ in list(cluster.members)[:3]]
    return spans[0][0], spans[-1][1]


_CHANGES: Final[Sequence[tuple[str, Callable[[Cluster, int], Span]]]] = (
    (ADD, _add_one),
    (REPLACE, _replace),
    (DEAD, _replace_dead),
    (ALL, _replace_all),
)


def _grow_and_shrink(cluster: Cluster, line: int, case: Case, options: Options, results: Results) -> None:
    """From one of `SIZES` to the next, with many keys, under a part of what the cluster takes at first.

    Replicas remember something of each key, and of those that are gone: `remembered` tells how much.
    """
    keys = _keys(case, options)
    cluster.load("--operations", str(keys), "--keys", str(keys))
    _delete(cluster, keys // GONE)
    full = cluster.measure("--operations", TINY if options.tiny else PRIMING, "--keys", str(keys))
    kept = {BEFORE: cluster.kept()}
    load = _begin(cluster, full["throughput"] / PART, "--keys", str(keys))
    spans: dict[str, Span] = {}
    try:
        pause(2)
        spans[BEFORE] = (time() - 1 - SLACK, time() - SLACK)
        for before, size in pairwise(SIZES):
            step = f"{before} to {size}"
            if size > before:
                newcomers = [cluster.bring(line) for _ in range(size - before)]
                spans[step] = cluster.change("add", *newcomers, newcomer=newcomers[-1])
            else:
                leavers = cluster.members[: before - size]
                spans[step] = cluster.change("remove", *leavers)
                for leaver in leavers:
                    cluster.left(leaver)
            kept[step] = cluster.kept()
            pause(1)
        pause(1 + SLACK)
        spans[AFTER] = (time() - 1 - SLACK, time() - SLACK)
    finally:
        load.send_signal(SIGINT)
    report = read_report(load)
    kept[AFTER] = cluster.kept()
    for what, span in spans.items():
        _add(results, case, what, _seen(report["series"], span) | kept[what])
    _note_errors(results, case, report)


def _delete(cluster: Cluster, count: int) -> None:
    """Write and delete so many other keys."""
    with Client(config=load_config(str(cluster.file), environ={})) as client:
        for first in range(0, count, _AT_ONCE):
            names = [b"gone %d" % number for number in range(first, min(first + _AT_ONCE, count))]
            written: list[Result[Any]] = [*client.bulk([Op.put(name, b"") for name in names])]
            for result in (*written, *client.bulk([Op.delete(name) for name in names])):
                result.unwrap()


def _keys(case: Case, options: Options) -> int:
    return int(TINY) if options.tiny else round(case.x or 0) // (10 if options.quick else 1)


def _begin(cluster: Cluster, rate: float | None, *more: str) -> subprocess.Popen[bytes]:
    """A load that goes on until it is ended; it has begun."""
    before = cluster.executed()
    at = () if rate is None else ("--rate", str(int(rate)))
    load = cluster.start_load("--duration", f"{LONGEST:g}s", *SERIES, *at, *more)
    while cluster.executed() <= before and load.poll() is None:
        pause(0.05)
    return load


def _add(results: Results, case: Case, what: str, sample: Sample) -> None:
    results.add(f"{case.name}: {what}", sample)
    results.described[f"{case.name}: {what}"] = case.describe()


def _note_errors(results: Results, case: Case, report: Report) -> None:
    """Those of the whole load, which stand in the first row of its case."""
    first = next(name for name in results.samples if name.startswith(f"{case.name}: "))
    results.samples[first][-1]["errors"] = float(report["errors"])
    if report["errors"]:
        results.remarks.append(f"{case.name}: errors of the clients: {report['errors_by_kind']}")


def _seen(series: Mapping[str, Any], span: Span) -> Sample:
    """What all clients saw in that time, or in the second from its beginning on if that is longer."""
    step = series["interval_s"]
    first, last = (max(0, round((moment - series["started"]) / step)) for moment in span)
    part = slice(first, max(last, first + round(1 / step)))
    some: Sequence[Mapping[str, Any]] = list(series["replicas"].values())
    intervals = max(1, *(len(one["operations"][part]) for one in some))
    return {
        "throughput": sum(sum(one["operations"][part]) for one in some) / (intervals * step),
        "max": max(max(one["longest_ms"][part], default=0.0) for one in some),
        "took": span[1] - span[0],
    }


def _place(study: Study) -> Callable[[str], int]:
    """Where a row stands: by its case, and within it as it was added."""
    names = [case.name for case in study.cases]
    return lambda row: names.index(row.rpartition(": ")[0])


STUDY: Final = Study(
    "epochs",
    "Another epoch under load, with the same members or others: while that comes about, beside a second without",
    [
        *(
            Case(f"{load} load, {protocol}", (), {"protocol": protocol, "storage.engine": "sqlite"})
            for protocol in ("epaxos", "multipaxos")
            for load in ("half", "full")
        ),
        Case(
            f"{' - '.join(map(str, SIZES))} with many keys",
            (),
            {"protocol": "epaxos", "storage.engine": "sqlite", "collect": "1h"},
            x=10**6,
        ),
    ],
    ("throughput", "max", "took", "memory", "remembered", "errors"),
    "half load, epaxos: " + WITHOUT,
    measure=epochs,
)
