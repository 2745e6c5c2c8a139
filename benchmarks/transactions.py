"""What Paxos commit costs beside a cluster's `multi`, and beside a two-phase commit whose manager waits for nobody.

Over a cluster that runs (`epaxos up -c FILE`), and over registers in this process; all ways in turn, one transaction at
a time, with resources that do nothing:

    benchmarks/run transactions -c conf/local.toml [--seconds 2] [--resources 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.registers import start
from epaxos import Client, Op
from epaxos.commit import ClusterVotes, Manager, Outcome, RegisterVotes, Transaction, Vote, encode
from epaxos.config import load_config

ROUNDS = 4


class Nothing:
    """A resource that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, transaction: Transaction) -> Vote:
        """See `Resource`."""
        del transaction
        return Vote.PREPARED

    def commit(self, transaction: Transaction) -> None:
        """See `Resource`."""

    def abort(self, transaction: Transaction) -> None:
        """See `Resource`."""


def two_phases(file: Path, resources: list[Nothing]) -> Callable[[], object]:
    """A two-phase commit with one manager, who writes to his own disk what it comes to."""
    log = file.open("ab")

    def run() -> None:
        transaction = Transaction("t", tuple(resource.name for resource in resources))
        assert all(resource.prepare(transaction) is Vote.PREPARED for resource in resources)
        log.write(encode(transaction))
        log.flush()
        os.fsync(log.fileno())
        for resource in resources:
            resource.commit(transaction)

    return run


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run transactions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--resources", type=int, default=2)
    arguments = parser.parse_args(argv)
    resources = [Nothing(f"r{place}") for place in range(arguments.resources)]
    with ExitStack() as stack:
        client = stack.enter_context(Client(config=load_config(arguments.config)))
        puts = [Op.put(resource.name.encode(), b"value") for resource in resources]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways: dict[str, Callable[[], object]] = {
            "one put": lambda: client.put(b"r0", b"value"),
            "multi": lambda: client.multi(puts),
            "two-phase commit, one manager": two_phases(folder / "log", resources),
        }
        votes = {"a cluster": ClusterVotes(client)} | {
            f"registers, {transport}": RegisterVotes(start(stack, transport, direct=True)[0])
            for transport in ("memory", "disk", "http")
        }
        for name, kept in votes.items():
            manager = stack.enter_context(Manager(kept))
            ways[f"Paxos commit, {name}"] = lambda manager=manager: manager.run(resources).outcome  # type: ignore[misc]
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                end = time.monotonic() + arguments.seconds / ROUNDS
                while (began := time.monotonic()) < end:
                    assert way() in (None, Outcome.COMMITTED) or name == "multi"
                    seconds[name].append(time.monotonic() - began)
        print(f"{'way':34}{'p50 ms':>8}{'p99 ms':>8}{'times':>8}")
        for name, found in seconds.items():
            late = statistics.quantiles(found, n=100)[98]
            print(f"{name:34}{statistics.median(found) * 1e3:8.2f}{late * 1e3:8.2f}{len(found):8,}")
    return 0
