"""What many keys cost in memory, CPU and pauses, also listed; whether a million commands cost what those before did."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.cluster import START_SECONDS, Cluster, Settings, running
from benchmarks.study import PRIMING, TINY, Case, Options, Picture, Results, Sample, Study, say
from benchmarks.workloads import DURABLE, MEMORY
from epaxos.client.blocking import Client
from epaxos.config import load_config
from shared.processes import pause

SETTLE_SECONDS: Final = 8.0
"""By then a checkpoint has come, and what it makes unnecessary is gone."""

LONG: Final = 10.0
"""Seconds of load, in which two checkpoints come."""

FEW: Final = 1000
PAGE: Final = 1000
BESIDE: Final = 5
"""How many times as long as others a load is beside which all keys are listed."""

INSERTS: Final = "inserts"
STEADY: Final = ("--rate", "20000")


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


def scan(study: Study, options: Options) -> Results:
    """Cases in their order on one cluster: a list of all keys changes what an insert costs from then on."""
    results = Results()
    count = str(FEW if options.tiny else 10**5 if options.quick else 10**6)
    for cycle in range(options.cycles):
        with running(study.cases[0].settings, ports=options.ports) as (cluster, _):
            cluster.load("--operations", count, "--keys", count)
            for case in study.cases:
                say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
                pause()
                length = ["--duration", f"{(BESIDE if case.x else 1) * options.duration:g}s"]
                if options.tiny:
                    length = ["--operations", TINY]
                elif case.group == INSERTS:
                    length = ["--operations", count, "--keys", count]
                rounds = cluster.rounds()
                with ThreadPoolExecutor(1) as beside:
                    lists = beside.submit(list_all, cluster.file) if case.x else None
                    sample = cluster.measure(*case.load, *length)
                    sample |= lists.result() if lists else {}
                sample["round_p999"], sample["round_max"] = cluster.slow_rounds(rounds)
                results.add(case.name, sample)
                results.described[case.name] = case.describe()
    return results


def list_all(file: Path) -> Sample:
    """List all keys with their values by pages, one after the other: how long that takes, and the longest page."""
    longest, listed, after = 0.0, 0, None
    began = time.monotonic()
    with Client(config=load_config(str(file), environ={}), timeout=START_SECONDS) as client:
        while True:
            asked = time.monotonic()
            page = client.scan(after=after, limit=PAGE)
            longest = max(longest, time.monotonic() - asked)
            listed += len(page.keys)
            if (after := page.after) is None:
                break
    return {"took": time.monotonic() - began, "page_max": 1000 * longest, "listed": float(listed)}


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

SCAN: Final = Study(
    "scan",
    "A million keys listed by pages of 1,000 beside a load, in memory; each row on what those before it left",
    [
        Case("inserts: before any list", ("--key-size", "12"), MEMORY, group=INSERTS),
        Case("20,000 writes a second: alone", STEADY, MEMORY),
        Case("20,000 writes a second: the first list", STEADY, MEMORY, x=1),
        Case("20,000 writes a second: another list", STEADY, MEMORY, x=2),
        Case("inserts: after a list", ("--key-size", "16"), MEMORY, group=INSERTS),
    ],
    ("cpu", "throughput", "p99", "max", "round_p999", "round_max", "took", "page_max", "listed"),
    "inserts: before any list",
    measure=scan,
)
