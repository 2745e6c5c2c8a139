"""All systems in turn, ours first, under one workload: writes of 8 bytes to keys of 8 bytes."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

from benchmarks.cluster import BenchmarkError, Cluster, running
from benchmarks.peers.peer import Load, Peer
from benchmarks.peers.systems import ALL
from benchmarks.study import TINY, Options, Picture, Results, Sample, Study, say
from benchmarks.workloads import ENGINES
from shared.processes import Children, pause

LOADS: Final = (("1 client", 1, 1), ("64 clients", 64, 1), ("63 clients x 16", 63, 16))
OURS: Final = "epaxos, 3 replicas"
DURABLE: Final = "durable"
MEMORY_ONLY: Final = "in memory"
APART: Final = 40
"""Ports between two systems."""


def peers(study: Study, options: Options) -> Results:
    """Every system once a cycle, on servers started for it; those that are not installed get a line."""
    results = Results()
    there = [] if options.tiny else [peer for peer in ALL if peer.missing() is None]
    results.remarks = [line for peer in ALL if (line := peer.missing()) is not None]
    for cycle in range(options.cycles):
        for engine in ENGINES:
            _ours(engine, cycle, options, results)
        for number, peer in enumerate(there[::-1] if cycle % 2 else there, 1):
            if options.are_for(peer.name):
                say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {peer.name}")
                try:
                    _theirs(peer(options.ports + APART * number), options, results)
                except BenchmarkError as error:
                    results.remarks.append(f"{peer.name} failed in cycle {cycle + 1}: {error}")
    _in_order(results)
    return results


def _ours(engine: str, cycle: int, options: Options, results: Results) -> None:
    name = OURS
    say(f"peers, cycle {cycle + 1} of {options.cycles}: {name}, {engine}")
    kept = {"memory": MEMORY_ONLY, "durable": DURABLE}[engine]
    with running(ENGINES[engine], ports=options.ports) as (cluster, _):
        cluster.load("--operations", TINY if options.tiny else "20000")
        for load, clients, window in LOADS:
            pause()
            results.add(f"{load}, {kept}: {name}", _our_load(cluster, clients, window, options))
            results.described[f"{load}, {kept}: {name}"] = (
                f"storage.engine = {ENGINES[engine]['storage.engine']}, the rest as it comes; "
                "epaxos bench, a connection a client"
            )


def _our_load(cluster: Cluster, clients: int, window: int, options: Options) -> Sample:
    frames = ("--window", str(window), "--batch", str(window)) if window > 1 else ("--closed",)
    length = f"{round(1000 * options.duration)}ms"
    connections = str(-(-clients // len(cluster.names)))
    sample = cluster.measure(
        *("--warmup", "300ms", "--duration", length, *frames),
        *("--clients", str(clients), "--connections", connections, "--keys", "10000"),
    )
    sample["cpu_all"] = sample.pop("cpu") * len(cluster.names)
    return sample


def _theirs(peer: Peer, options: Options, results: Results) -> None:
    with ExitStack() as stack:
        place: AbstractContextManager[str] = tempfile.TemporaryDirectory(prefix="epaxos-peer-")
        directory = stack.enter_context(place)
        peer.start(Path(directory), stack.enter_context(Children()))
        for load, clients, window in LOADS:
            pause()
            name = f"{load}, {DURABLE if peer.durable else MEMORY_ONLY}: {peer.name}"
            results.add(name, peer.measure(Load(load, clients, window, options.duration)))
            results.described[name] = f"{peer.settings}; {peer.client}"


def _in_order(results: Results) -> None:
    """By load, the durable systems before those in memory, ours first in each."""
    names = [
        f"{load}, {kept}: {name}"
        for kept, durable in ((DURABLE, True), (MEMORY_ONLY, False))
        for load, _, _ in LOADS
        for name in (OURS, *(peer.name for peer in ALL if peer.durable == durable))
    ]
    results.samples = {name: results.samples[name] for name in names if name in results.samples}
    results.described = {name: results.described[name] for name in results.samples}


STUDY: Final = Study(
    "peers",
    "Beside others: writes of 8 bytes, without conflicts, by 1 client, 64 clients, and 63 clients with 16 under way",
    [],
    ("throughput", "p50", "p99", "cpu_all", "client"),
    f"64 clients, {DURABLE}: {OURS}",
    Picture("bars", "throughput", log_x=True),
    peers,
)
