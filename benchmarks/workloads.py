"""The benchmarks that are cases under a load of `epaxos bench`: what is loaded, and what is looked at."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import psutil

from benchmarks.cluster import BenchmarkError, Cluster, Settings
from benchmarks.study import (
    Case,
    Options,
    Picture,
    Results,
    Sample,
    Study,
    clusters,
    interleave,
    load_of,
    one_load,
)
from epaxos.client import reading

MEMORY: Final[Settings] = {"storage.engine": "memory"}
DURABLE: Final[Settings] = {"storage.engine": "sqlite"}
ENGINES: Final = {"memory": MEMORY, "durable": DURABLE}
NO_CHECKPOINTS: Final[Settings] = {"storage.checkpoint": "1h", "storage.checkpoint_instances": 100_000_000}
LONE: Final = ("--batch", "1", "--window", "16", "--clients", "66")
FULL: Final = "frames of 33"
USUAL: Final = ("throughput", "cpu", "p50", "p99", "client")


def both(name: str, *load: str, x: float | None = None) -> list[Case]:
    """A load on either engine."""
    return [
        Case(f"{name}, {engine}", load, settings, x=x, group=engine) for engine, settings in ENGINES.items()
    ]


def by_engine(cases: Sequence[Case]) -> list[Case]:
    """Cases of one cluster beside one another, so that it is started once."""
    return sorted(cases, key=lambda case: list(ENGINES).index(case.group))


THROUGHPUT: Final = Study(
    "throughput",
    "Throughput: writes of 8 bytes, no conflicts, by how many commands travel in one frame",
    by_engine(
        [
            *both(FULL),
            *both("one command a frame, 66 sessions x 16", *LONE),
            *both("frames of 1000", "--batch", "1000"),
            *both("frames of 33, one replica loaded", "--replicas", "alpha"),
        ]
    ),
    USUAL,
    f"{FULL}, memory",
    Picture("bars", "throughput"),
)


def latency(study: Study, options: Options) -> Results:
    """One command at a time, beside the floor and a sync of the disk, which are measured in the same seconds."""

    def run(cluster: Cluster, case: Case, options: Options) -> Sample:
        sample = one_load(cluster, case, options)
        return sample | {"sync": sync_ms()}

    return interleave(study, options, run)


def sync_ms(times: int = 200) -> float:
    """Median ms of appending the bytes of a lone command's record to a file and syncing it."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(bytes(512))
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return 1000 * median(taken)


LATENCY: Final = Study(
    "latency",
    "Latency: one client, one command at a time; the floor is two bare ZeroMQ round trips",
    [
        *both("1 client", "--closed", "--clients", "1", "--floor"),
        Case("1 client of each replica, memory", ("--closed", "--floor"), MEMORY),
        Case("1,000 commands/s, memory", ("--rate", "1000", "--batch", "1", "--floor"), MEMORY),
    ],
    ("p50", "p99", "p999", "floor", "to_floor", "sync", "cpu"),
    "1 client, memory",
    Picture("bars", "p50"),
    latency,
)

CLIENT_COUNTS: Final = (1, 8, 66, 510, 1000)


def _clients(engine: str) -> list[Case]:
    own = [
        Case(
            f"{count:,} connection{'s' * (count > 1)}, {engine}",
            ("--closed", "--clients", str(count), "--connections", str(-(-count // 3))),
            ENGINES[engine],
            x=count,
            group=f"{engine}, own connections",
        )
        for count in CLIENT_COUNTS
    ]
    shared = [
        Case(
            f"{count:,} clients share 3 connections, {engine}",
            ("--closed", "--clients", str(count)),
            ENGINES[engine],
            x=count,
            group=f"{engine}, shared",
        )
        for count in (66, 510)
    ]
    return own + shared


CLIENTS: Final = Study(
    "clients",
    "Clients: each has one command under way, and waits for its answer",
    [*_clients("memory"), *_clients("durable")],
    USUAL,
    "66 connections, memory",
    Picture("lines", "throughput", "clients", log_x=True, log_y=True),
)

CONFLICTS: Final = Study(
    "conflicts",
    "Conflicts: writes in frames of 33, a part of them on one hot key, or Zipf over 100,000 keys; memory",
    [
        *(
            Case(f"{share} %", ("--conflicts", str(share)), MEMORY, x=share, group="one hot key")
            for share in (0, 2, 25, 50, 100)
        ),
        *(Case(f"Zipf {skew}", ("--zipf", str(skew)), MEMORY, x=None, group="Zipf") for skew in (0.99, 1.2)),
    ],
    ("cpu", "throughput", "fast", "p50", "p99", "max"),
    "0 %",
    Picture("lines", "cpu", "% of the commands on one key"),
)

SIZES: Final = (16, 256, 1024, 4096, 16384, 65536)


def _size(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def _window(size: int) -> str:
    """As many commands outstanding as come to 2 MiB, at most as many as usual."""
    return str(min(1000, 2**21 // size))


WARM_FROM: Final = 4096
"""Bytes of a value from which the memory that it needs costs more than all the rest."""


def touch_memory(size: int, *, huge: bool = False) -> float:
    """Take so many bytes of memory and give them back; CPU, µs a KiB.

    A virtual machine that has left memory unused for some seconds has to ask its host for each page again, which can be
    ten times as dear. `huge` takes it in large pages, where the system has them.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        began = time.process_time()
        memory[:: mmap.PAGESIZE] = bytes(len(range(0, size, mmap.PAGESIZE)))
        return (time.process_time() - began) * 1e6 / (size / 1024)


def values(study: Study, options: Options) -> Results:
    """Writes of values of one size; what a KiB of them costs, on a machine that has its memory at hand."""

    def run(cluster: Cluster, case: Case, options: Options) -> Sample:
        kib = (case.x or 0) / 1024
        if kib * 1024 >= WARM_FROM and not options.tiny:
            touch_memory(min(2**31, psutil.virtual_memory().available // 2), huge=True)
        fresh = touch_memory(2**26)
        sample = one_load(cluster, case, options) | {"fresh": fresh}
        sample["mb_s"] = sample["throughput"] * kib * 1024 / 1e6
        if "cpu" in sample:
            sample["cpu_kib"], sample["faults_kib"] = sample["cpu"] / kib, sample["faults"] / kib
        return sample

    return interleave(study, options, run)


VALUES: Final = Study(
    "values",
    "Values: writes of values of one size, frames of at most 33 commands, 1 MiB; at most 2 MiB outstanding a client",
    by_engine(
        [
            case
            for size in SIZES
            for case in both(_size(size), "--value-size", str(size), "--window", _window(size), x=size)
        ]
    ),
    ("cpu_kib", "throughput", "mb_s", "cpu", "faults_kib", "fresh", "p50", "p99"),
    "1 KiB, memory",
    Picture("lines", "mb_s", "bytes of a value", log_x=True, log_y=True),
    values,
)


READS: Final = Study(
    "reads",
    "Reads: a part of the commands in frames of 33, in the log unless it says otherwise; alone: one at a time",
    [
        *(
            Case(f"{share} % reads", ("--writes", str(100 - share)), MEMORY, x=share)
            for share in (0, 50, 90, 99)
        ),
        Case("50 % reads, Zipf 0.99", ("--writes", "50", "--zipf", "0.99"), MEMORY),
        *(
            Case(f"90 % reads{alone}, {reads}", ("--writes", "10", "--reads", reads, *more), MEMORY)
            for alone, more in (("", ()), (", alone", ("--closed",)))
            for reads in reading.READS
            if reads != "observer"  # no cluster that is measured has one
            if more or reads != "log"
        ),
    ],
    USUAL,
    "0 % reads",
    Picture("lines", "throughput", "% reads"),
)


def durability(study: Study, options: Options) -> Results:
    """What keeping the data costs, and how long its rounds take, over as long as two checkpoints take to come."""

    def run(cluster: Cluster, case: Case, options: Options) -> Sample:
        sample = one_load(cluster, case, options)
        sample["round_p999"], sample["round_max"] = cluster.slow_rounds()
        return sample

    return interleave(study, replace(options, duration=max(options.duration, 10.0)), run)


DURABILITY: Final = Study(
    "durability",
    "Durability: writes in frames of 33, by what is kept and when it is synced; ten seconds, two checkpoints",
    [
        Case("memory", (), MEMORY),
        Case("memory, no checkpoints", (), {**MEMORY, **NO_CHECKPOINTS}),
        Case("durable", (), DURABLE),
        Case("durable, no checkpoints", (), {**DURABLE, **NO_CHECKPOINTS}),
        Case("synced every 100 ms", (), {**DURABLE, "storage.sync": "interval"}),
    ],
    ("cpu", "throughput", "p50", "p99", "round_p999", "round_max"),
    "memory",
    Picture("bars", "cpu"),
    durability,
)

SCALE: Final = Study(
    "scale",
    "Replicas: writes in frames of 33; every replica executes every command",
    [Case(f"{n} replicas", (), MEMORY, n=n, x=n) for n in (3, 5, 7)],
    ("cpu", "throughput", "p50", "p99", "memory"),
    "3 replicas",
    Picture("bars", "cpu"),
)


def interpreters(study: Study, options: Options) -> Results:
    """The same loads with each of the interpreters given, the first of which is the baseline."""
    cases = [
        Case(f"{load}: {name}", arguments, MEMORY, python=python)
        for name, _, python in (given.partition("=") for given in options.pythons)
        for load, arguments in (("frames of 33", ()), ("one command a frame", LONE))
    ]
    results = Results()
    for cycle in range(options.cycles):
        for some in clusters(cases, backwards=bool(cycle % 2)):
            changed = Study(study.name, study.title, some, study.figures, "")
            try:
                once = interleave(changed, replace(options, cycles=1))
            except BenchmarkError as error:
                results.remarks.append(f"{some[0].name}: {error}")
                continue
            results.described |= once.described
            for name, samples in once.samples.items():
                results.add(name, samples[0])
    there = [case.name for case in cases if case.name in results.samples]
    results.samples = {name: results.samples[name] for name in sorted(there, key=load_of)}
    return results


INTERPRETERS: Final = Study(
    "interpreters",
    "Interpreters: the replicas and the load on each `--python`, in which the package is installed",
    [],
    ("cpu", "throughput", "p50", "p99", "client", "memory"),
    "",
    None,
    interpreters,
)


def beside(study: Study, options: Options) -> Results:
    """Cases under the same load beside one another in the table, though their clusters are others."""
    results = interleave(study, options)
    names = [*results.samples]
    loads = [load_of(name) for name in names]

    def place(name: str) -> tuple[int, bool]:
        return loads.index(load_of(name)), name.endswith(": keys")

    results.samples = {name: results.samples[name] for name in sorted(names, key=place)}
    return results


_KEYS: Final[Mapping[str, Settings]] = {"no keys": MEMORY, "keys": {**MEMORY, "security.keys": "keys"}}
_UNDER: Final = {
    FULL: (),
    "66 sessions x 16": LONE,
    "one client, one at a time": ("--clients", "1", "--batch", "1", "--window", "1"),
    "frames of 33, 1 KiB": ("--value-size", "1024"),
}

SECURITY: Final = Study(
    "security",
    "Security: the same loads without keys and with them, which encrypt all that is sent; memory",
    [
        Case(f"{load}: {name}", _UNDER[load], _KEYS[name])
        for load, name in [
            (FULL, "no keys"),
            *((load, "keys") for load in _UNDER),
            *((load, "no keys") for load in _UNDER if load != FULL),
        ]
    ],
    USUAL,
    "",
    measure=beside,
)

ALL: Final = (THROUGHPUT, LATENCY, CLIENTS, CONFLICTS, VALUES, READS, DURABILITY, SCALE)
