"""What registers cost: changes a second, their latencies, and CPU, by keys, proposers, round trips and transport.

All nodes and all proposers are in this one process, so that CPU is that of everybody together:

    .venv/bin/python benchmarks/registers.py [--seconds 1.5] [--transport memory|http|disk]

`disk` is memory between nodes whose stores are SQLite, synced at each write.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from epaxos import Op
from epaxos.errors import ClientError
from epaxos.registers import EngineStore, MemoryNetwork, MemoryStore, Node
from epaxos.registers.http import HttpServer, HttpTransport

NODES = 3
FIRST_PORT = 4310


def start(stack: ExitStack, transport: str, *, direct: bool) -> list[Node]:
    """Three nodes that know each other."""
    network = MemoryNetwork()
    addresses = {id_: ("127.0.0.1", FIRST_PORT + id_) for id_ in range(NODES)}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    nodes = []
    for id_ in range(NODES):
        store = EngineStore(folder / str(id_), id_) if transport == "disk" else MemoryStore()
        way = HttpTransport(addresses) if transport == "http" else network.transport(id_)
        node = stack.enter_context(Node(id_, store, way, direct=direct))
        node.connect(*range(NODES))
        network.serve(id_, node.handle)
        if transport == "http":
            stack.enter_context(HttpServer(node, *addresses[id_]))
        nodes.append(node)
    return nodes


def run(nodes: list[Node], keys: int, proposers: int, seconds: float) -> tuple[list[float], int]:
    """Change registers from one thread a proposer; latencies in seconds, and how many were not done."""
    latencies: list[float] = []
    failed = [0]
    end = time.monotonic() + seconds

    def propose(node: Node) -> None:
        chosen = random.Random(node.id)
        while (began := time.monotonic()) < end:
            key = b"key %d" % chosen.randrange(keys)
            try:
                node.propose(key, Op.increment(key))
                latencies.append(time.monotonic() - began)
            except ClientError:
                failed[0] += 1

    threads = [threading.Thread(target=propose, args=(node,)) for node in nodes[:proposers]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(latencies), failed[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--transport", choices=("memory", "http", "disk"), action="append")
    arguments = parser.parse_args()
    print("transport   keys  proposers  direct  changes/s  p50 ms  p99 ms  CPU µs  failed")
    for transport in arguments.transport or ("memory", "disk", "http"):
        for keys, proposers, direct in product((1, 1000), (1, 3), (True, False)):
            with ExitStack() as stack:
                nodes = start(stack, transport, direct=direct)
                cpu = time.process_time()
                latencies, failed = run(nodes, keys, proposers, arguments.seconds)
                cpu = time.process_time() - cpu
            count = max(len(latencies), 1)
            middle, late = (latencies[int(share * (count - 1))] * 1e3 for share in (0.5, 0.99))
            print(
                f"{transport:9}{keys:7}{proposers:11}{direct!s:>8}{count / arguments.seconds:11,.0f}{middle:8.2f}"
                f"{late:8.2f}{cpu / count * 1e6:8,.0f}{failed:8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
