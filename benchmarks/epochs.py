"""Epochs that end under load: what clients see of it, beside the same second without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Final

from benchmarks.cluster import read_report, running
from benchmarks.study import PRIMING, TINY, Case, Options, Results, Sample, Study, say
from epaxos.client.blocking import Client
from epaxos.config import load_config
from shared.processes import pause

SERIES: Final = ("--series", "50ms")
APART: Final = 2.5
"""Seconds from one end of an epoch to the next; a whole second of each is looked at, and one before it."""

BEFORE, DURING = "the same second without", "another epoch"
SLACK: Final = 0.2
"""Seconds between the two."""

PATIENCE: Final = 10.0


def epochs(study: Study, options: Options) -> Results:
    """Two rows for each load: seconds in which an epoch ended, and seconds before."""
    results = Results()
    for cycle in range(options.cycles):
        for case in study.chosen(options):
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
            _once(case, options, results)
    return results


def _once(case: Case, options: Options, results: Results) -> None:
    with running(case.settings, n=case.n, ports=options.ports) as (cluster, _):
        full = cluster.measure("--operations", TINY if options.tiny else PRIMING)["throughput"]
        rate = ("--rate", str(int(full / 2))) if case.name.startswith("half") else ()
        times = 1 if options.tiny or options.quick else 4
        load = cluster.start_load("--duration", f"{1 + times * APART + 1:g}s", *SERIES, *rate)
        before = cluster.executed()
        while cluster.executed() <= before and load.poll() is None:
            pause(0.05)  # until it has begun
        begun = []
        with Client(config=load_config(str(cluster.file))) as client:
            for _ in range(times):
                pause(APART - 1)
                begun.append(time())
                _refresh(client)
                pause(1)
        report = read_report(load)
    for moment in begun:
        for row, start in ((BEFORE, moment - 1 - SLACK), (DURING, moment)):
            results.add(f"{case.name}: {row}", _second(report["series"], start))
            results.described[f"{case.name}: {row}"] = case.describe()
    results.samples[f"{case.name}: {DURING}"][-1]["errors"] = float(report["errors"])


def _refresh(client: Client) -> None:
    """Begin another epoch, and wait until the replica that was asked is in it."""
    status = client.status()
    end = time() + PATIENCE
    while client.refresh(status.epoch, request=status.epoch + 1, replica=status.name).outcome != "done":
        if time() > end:
            raise TimeoutError(f"no epoch after {status.epoch} within {PATIENCE:g} s")
        pause(0.01)


def _second(series: Mapping[str, Any], start: float) -> Sample:
    """What all clients saw in the second from `start` (seconds of the epoch) on."""
    step = series["interval_s"]
    first = max(0, round((start - series["started"]) / step))
    part = slice(first, first + round(1 / step))
    some: Sequence[Mapping[str, Any]] = list(series["replicas"].values())
    return {
        "throughput": float(sum(sum(one["operations"][part]) for one in some)),
        "max": max(max(one["longest_ms"][part], default=0.0) for one in some),
    }


STUDY: Final = Study(
    "epochs",
    "Another epoch under load: `epaxos member refresh`, beside the same second without",
    [
        Case(f"{load} load, {protocol}", (), {"protocol": protocol, "storage.engine": "sqlite"})
        for protocol in ("epaxos", "multipaxos")
        for load in ("half", "full")
    ],
    ("throughput", "max", "errors"),
    "half load, epaxos: " + BEFORE,
    measure=epochs,
)
