"""What many keys cost in memory, CPU and pauses, and whether a million commands cost what the million before did."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.cluster import Cluster, Settings, running
from benchmarks.study import PRIMING, TINY, Case, Options, Picture, Results, Sample, Study, say
from benchmarks.workloads import DURABLE, MEMORY
from shared.processes import pause

SETTLE_SECONDS: Final = 8.0
"""By then a checkpoint has come, and what it makes unnecessary is gone."""

LONG: Final = 10.0
"""Seconds of load, in which two checkpoints come."""

FEW: Final = 1000


def keys(study: Study, options: Options) -> Results:
    """Write every key once, look at memory, then load the cluster as usual; a durable replica also starts again."""
    results = Results()
    for cycle in range(options.cycles):
        for case in study.chosen(options):
            if options.quick and (case.x or 0) > 1e6:
                continue
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
            with running(case.settings, ports=options.ports) as (cluster, line):
                results.add(case.name, _fill(cluster, round(case.x or 0), options))
                results.described[case.name] = case.describe()
                if case.group == "durable":
                    results.samples[case.name][-1]["serving"] = _again(cluster, line, options)
    return results


def _fill(cluster: Cluster, count: int, options: Options) -> Sample:
    cluster.load("--operations", TINY if options.tiny else PRIMING, "--keys", str(FEW))
    before = cluster.used.memory()
    if count > FEW and not options.tiny:
        cluster.load("--operations", str(count), "--keys", str(count))
        pause(SETTLE_SECONDS)
    rounds, filling = cluster.rounds(), cluster.slow_rounds()[1]
    grown = (cluster.used.memory() - before) / len(cluster.names)
    amount = ["--operations", TINY] if options.tiny else ["--duration", f"{max(LONG, options.duration):g}s"]
    sample = cluster.measure("--keys", str(count), *amount)
    if count > 100 * FEW:
        sample["bytes_key"] = grown / (count - FEW)
        sample["fill_max"] = filling
    sample["round_p999"], sample["round_max"] = cluster.slow_rounds(rounds)
    return sample


def _again(cluster: Cluster, line: int, options: Options) -> float:
    """Seconds from the start of a killed replica until it serves."""
    pause(0 if options.tiny else SETTLE_SECONDS)
    name = cluster.names[0]
    cluster.kill(name)
    began = time.monotonic()
    cluster.start(name, line)
    cluster.wait()
    return time.monotonic() - began


def growth(study: Study, options: Options) -> Results:
    """One million commands after another on the same 100,000 keys."""
    results = Results()
    case = study.cases[0]
    for cycle in range(options.cycles):
        with running(case.settings, ports=options.ports) as (cluster, _):
            for million in range(1, (2 if options.tiny else 4 if options.quick else 10) + 1):
                say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: million {million}")
                pause()
                name = f"million {million}"
                results.add(name, cluster.measure("--operations", TINY if options.tiny else "1000000"))
                results.described[name] = case.describe()
    return results


def _keys(count: int, engine: str, settings: Settings) -> Case:
    return Case(f"{count:,} keys, {engine}", (), settings, x=count, group=engine)


KEYS: Final = Study(
    "keys",
    "Keys of 8 bytes with values of 8 bytes: memory, CPU and the longest round, over ten seconds",
    [
        *(_keys(10**power, "memory", MEMORY) for power in (3, 5, 6, 7)),
        _keys(10**6, "memory, Multi-Paxos", {**MEMORY, "protocol": "multipaxos"}),
        _keys(10**6, "durable", DURABLE),
    ],
    ("cpu", "throughput", "bytes_key", "memory", "round_p999", "round_max", "fill_max", "serving"),
    f"{FEW:,} keys, memory",
    Picture("lines", "cpu", "keys", log_x=True),
    keys,
)

GROWTH: Final = Study(
    "growth",
    "Endurance: one million commands after another on 100,000 keys, durable",
    [Case("a million commands", (), DURABLE)],
    ("cpu", "throughput", "memory", "p50", "p99"),
    "million 2",
    None,
    growth,
)
