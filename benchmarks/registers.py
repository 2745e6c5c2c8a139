"""Registers: by keys, proposers, round trips and transport, beside a conditional write of the service.

All nodes and all proposers are in this one process, so that CPU is that of everybody together; of the service's it is
that of the replicas. `disk` is memory between nodes whose stores are SQLite, synced at each write.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.cluster import ROOT, Cluster, running
from benchmarks.study import Case, Options, Results, Sample, Study, say
from epaxos import Client, Op
from epaxos.config import load_config
from epaxos.errors import ClientError
from epaxos.registers import EngineStore, MemoryNetwork, MemoryStore, Node, Transport
from epaxos.registers.http import HttpServer, HttpTransport
from epaxos.registers.zeromq import ZeroMqServer, ZeroMqTransport
from shared.processes import pause

NODES: Final = 3
FIRST_PORT: Final = 4310
TRANSPORTS: Final = ("memory", "disk", "HTTP", "ZeroMQ")
SERVICES: Final = ("memory", "sqlite")
LATE: Final = 0.99

Change = Callable[[bytes], object]
"""Changes the register, or the key, of this name."""


class Load(NamedTuple):
    """Changes of so many keys, drawn evenly, by so many proposers, each a thread."""

    keys: int
    proposers: int

    def __str__(self) -> str:
        keys = "1 key" if self.keys == 1 else f"{self.keys:,} keys"
        return f"{keys}, {self.proposers} proposer{'s' * (self.proposers > 1)}"


LOADS: Final = tuple(Load(*both) for both in product((1, 1000), (1, 3)))


def start(stack: ExitStack, transport: str, *, direct: bool, first_port: int = FIRST_PORT) -> list[Node]:
    """Three nodes that know each other."""
    network = MemoryNetwork()
    addresses = {id_: ("127.0.0.1", first_port + id_) for id_ in range(NODES)}
    ways: dict[str, Callable[[int], Transport]] = {
        "http": lambda _: HttpTransport(addresses),
        "zeromq": lambda _: ZeroMqTransport(addresses),
    }
    servers: dict[str, Any] = {"http": HttpServer, "zeromq": ZeroMqServer}
    kind = transport.lower()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    nodes = []
    for id_ in range(NODES):
        store = EngineStore(folder / str(id_), id_) if kind == "disk" else MemoryStore()
        way = ways.get(kind, network.transport)(id_)
        node = stack.enter_context(Node(id_, store, way, direct=direct))
        node.connect(*range(NODES))
        network.serve(id_, node.handle)
        if kind in servers:
            stack.enter_context(servers[kind](node, *addresses[id_]))
        nodes.append(node)
    return nodes


def drive(changes: Sequence[Change], keys: int, seconds: float) -> Sample:
    """Make changes from one thread each."""
    latencies: list[float] = []
    errors = [0]
    end = time.monotonic() + seconds

    def run(number: int, change: Change) -> None:
        chosen = random.Random(number)
        while (began := time.monotonic()) < end:
            try:
                change(b"key %d" % chosen.randrange(keys))
                latencies.append(time.monotonic() - began)
            except ClientError:
                errors[0] += 1

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate(changes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    sample = {"throughput": len(latencies) / seconds, "errors": float(errors[0])}
    if latencies:
        sample["p50"], sample["p99"] = (
            latencies[int(share * (len(latencies) - 1))] * 1e3 for share in (0.5, LATE)
        )
    return sample


def of_registers(case: Case, options: Options) -> Sample:
    """One case of registers."""
    keys, proposers, transport, trips = case.load
    with ExitStack() as stack:
        nodes = start(stack, transport, direct=trips == "1", first_port=options.ports)

        def increment(node: Node) -> Change:
            return lambda key: node.propose(key, Op.increment(key), 5.0)

        changes = [increment(node) for node in nodes[: int(proposers)]]
        for change in changes:
            change(b"key 0")  # connections are there from here on
        cpu = time.process_time()
        sample = drive(changes, int(keys), seconds(options))
        return _with_cpu(sample, time.process_time() - cpu, options)


def of_service(cluster: Cluster, case: Case, options: Options) -> Sample:
    """The same with `cas` of the service: each client writes what follows from what it saw last."""
    keys, proposers, *_ = case.load
    with ExitStack() as stack:
        config = load_config(str(cluster.file))

        def swap(name: str) -> Change:
            client = stack.enter_context(Client(config=config, replica=name))
            seen: dict[bytes, bytes | None] = {}

            def change(key: bytes) -> None:
                held = seen.get(key)
                found = client.cas(key, held, b"%d" % (int(held or b"0") + 1))
                seen[key] = found.current

            return change

        changes = [swap(name) for name in cluster.names[: int(proposers)]]
        for change in changes:
            change(b"key 0")
        cpu = cluster.used.cpu()
        sample = drive(changes, int(keys), seconds(options))
        return _with_cpu(sample, cluster.used.cpu() - cpu, options)


def seconds(options: Options) -> float:
    """How long a case is loaded."""
    return 0.05 if options.tiny else options.duration


def _with_cpu(sample: Sample, cpu: float, options: Options) -> Sample:
    made = sample["throughput"] * seconds(options)
    return sample | ({"cpu_all": cpu * 1e6 / made} if made else {})


def measure(study: Study, options: Options) -> Results:
    """Each case once a cycle: the clusters of the service beside the registers."""
    results = Results()
    chosen = study.chosen(options)
    for cycle in range(options.cycles):
        say(f"{study.name}, cycle {cycle + 1} of {options.cycles}")
        for case in chosen if cycle % 2 == 0 else chosen[::-1]:
            if case.group == "registers":
                pause()
                results.add(case.name, of_registers(case, options))
        for engine in SERVICES:
            cases = [case for case in chosen if case.group == engine]
            if cases:
                with running({"storage.engine": engine}, ports=options.ports + 10, source=ROOT) as (
                    cluster,
                    _,
                ):
                    for case in cases:
                        pause()
                        results.add(case.name, of_service(cluster, case, options))
    results.samples = {case.name: results.samples[case.name] for case in chosen}
    results.described = {case.name: " ".join(case.load) for case in chosen}
    return results


def _cases() -> list[Case]:
    found = []
    for load in LOADS:
        numbers = (str(load.keys), str(load.proposers))
        for transport, trips in product(TRANSPORTS, ("1", "2")):
            name = f"{load}: {transport}, {'one round trip' if trips == '1' else 'two'}"
            found.append(Case(name, (*numbers, transport, trips), group="registers"))
        for engine in SERVICES:
            name = f"{load}: cas of the service, {'memory' if engine == 'memory' else 'durable'}"
            found.append(Case(name, numbers, group=engine))
    return found


STUDY: Final = Study(
    "registers",
    "Registers: increments, three nodes in one process; and `cas` of a service of three replicas",
    _cases(),
    ("throughput", "p50", "p99", "cpu_all", "errors"),
    "1 key, 1 proposer: memory, one round trip",
    None,
    measure,
)
