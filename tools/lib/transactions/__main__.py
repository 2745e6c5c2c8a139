"""Runs transactions over registers or a cluster, kills all that takes part, and proves that none is split or stuck.

Managers, resources and the nodes of the registers, or the replicas of the cluster, are processes. A manager is killed
before or after one of its effects, a resource before or after something that it was asked for or does to recover, a
node at any moment, one at a time, so that a majority lives. What is killed comes back with what it had on disk, but for
managers: nobody misses them. In the end nothing may be prepared, and each transaction must have been committed by all
resources that it names, or by none.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, Self

from epaxos.errors import EpaxosError
from epaxos.protocol.commit import decode
from epaxos.registers import http, programs
from epaxos.simulation.plan.options import stream
from epaxos.testing import ClusterFailed, LocalCluster
from shared.processes import Interrupted, catch_signals, pause
from transactions.processes import Place, fork, run_manager, run_node, run_resource

NODES: Final = 3
POLL: Final = 0.005
CALM: Final = 60.0
"""Seconds until everything must have ended, once nobody is killed any more."""


class StuckError(EpaxosError):
    """Something does not end, or not in time; the text says what."""


def main(argv: Sequence[str]) -> int:
    """Run; 0 if all is well, 1 if not, 128 + signal if interrupted."""
    arguments = parse(argv)
    print(f"tools/transactions --seed {arguments.seed}: {arguments.transactions} transactions", flush=True)
    catch_signals()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="epaxos-transactions-") as folder,
            Run(arguments, folder) as run,
        ):
            run.load()
            run.calm()
            run.report()
            return judge(run.place)
    except (StuckError, ClusterFailed) as error:
        print(f"STUCK: {error}")
        return 1
    except Interrupted as interruption:
        print(f"tools/transactions: {interruption}; everything is stopped", file=sys.stderr)
        return interruption.status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/transactions", description=__doc__, allow_abbrev=False)
    options: tuple[tuple[str, type, object, str], ...] = (
        ("transactions", int, 1000, "how many"),
        ("managers", int, 4, "how many run at a time"),
        ("resources", int, 3, "of these each transaction names some"),
        ("kill", float, 0.5, "how likely a manager is killed; resources and nodes follow, 0 kills nobody"),
        ("refuse", float, 0.1, "how likely a resource votes against a transaction"),
        ("limit", float, 600.0, "seconds until it must be over"),
        ("seed", int, SystemRandom().randrange(10**9), "of what is decided by chance"),
    )
    for name, kind, default, text in options:
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text}; default: %(default)s")
    parser.add_argument(
        "--over",
        choices=("registers", "cluster"),
        default="registers",
        help="what keeps the votes; default: %(default)s",
    )
    arguments = parser.parse_args(argv)
    if min(arguments.transactions, arguments.managers, arguments.resources) < 1:
        parser.error("--transactions, --managers and --resources must be 1 or more")
    if not (0 <= arguments.kill <= 1 and 0 <= arguments.refuse <= 1):
        parser.error("--kill and --refuse must be from 0 to 1")
    return arguments


class Run:
    """Starts what is to run, kills it and starts it again; ends all of it with the `with` block."""

    def __init__(self, arguments: argparse.Namespace, folder: str) -> None:
        self._arguments = arguments
        self._random = stream(arguments.seed, "run")
        self._began = time.monotonic()
        names = tuple(f"resource-{place}" for place in range(arguments.resources))
        self._cluster = None
        if arguments.over == "cluster":
            self._cluster = LocalCluster(NODES, durable=True, directory=Path(folder) / "cluster")
        nodes = 0 if self._cluster else NODES
        ports = _free_ports(nodes + len(names))
        self.place = Place(
            Path(folder),
            dict(enumerate(ports[:nodes])),
            dict(zip(names, ports[nodes:], strict=True)),
            str(self._cluster.path) if self._cluster else None,
        )
        self._log = Path(folder) / "log"
        self._proposers = iter(range(100, 10**9))
        self._running: dict[int, tuple[str, Any]] = {}
        self._kill: float = arguments.kill
        self._next_blow = 0.0
        self._recovering: int | str | None = None
        self._holder = "node" if self._cluster is None else "replica"
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        (self.place.folder / "ended").mkdir()
        for name in self.place.resources:
            for what in ("prepared", "committed"):
                self.place.of(name, what).mkdir(parents=True)
        if self._cluster is not None:
            self._cluster.start().wait_until_ready()
        for id_ in self.place.nodes:
            self._start("node", id_)
        for id_ in self.place.nodes:
            self._wait_for(lambda id_=id_: self._answers(id_), f"node {id_} does not answer")
        for name in self.place.resources:
            self._start("resource", name)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        for pid in self._running:
            os.waitpid(pid, 0)
        if self._cluster is not None:
            self._cluster.close()

    def _start(self, kind: str, what: Any) -> None:
        random, proposer, place = (
            stream(self._random.randrange(10**9), kind),
            next(self._proposers),
            self.place,
        )
        body = {
            "node": lambda: run_node(place, what),
            "resource": lambda: run_resource(
                place, what, proposer, random, self._kill, self._arguments.refuse
            ),
            "manager": lambda: run_manager(place, what, proposer, random, self._kill),
        }[kind]
        self._running[fork(body, self._log)] = kind, what

    # -- while it runs -----------------------------------------------------------------------------------------

    def load(self) -> None:
        """Run the transactions, among blows."""
        numbers = iter(range(self._arguments.transactions))
        left = self._arguments.transactions
        while left:
            while sum(kind == "manager" for kind, _ in self._running.values()) < self._arguments.managers:
                number = next(numbers, None)
                if number is None:
                    break
                self._start("manager", number)
            self._strike()
            left -= self._reap()
            self._check_limit()
            pause(POLL)

    def _reap(self) -> int:
        """Start again what has been killed; how many managers have ended."""
        ended = 0
        for pid, (kind, what) in list(self._running.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            del self._running[pid]
            if os.WIFSIGNALED(status):
                self.killed[kind] += 1
            else:
                self._see_that_it_may_end(kind, what, os.WEXITSTATUS(status))
            if kind == "manager":
                ended += 1
            else:
                self._start(kind, what)
        return ended

    def _see_that_it_may_end(self, kind: str, what: Any, status: int) -> None:
        """Only a manager ends by itself."""
        if kind != "manager" or status:
            raise StuckError(f"{kind} {what} ended with status {status}: {self._log.read_text()[-2000:]}")

    def _strike(self) -> None:
        """Kill a node, or a replica, if all are there; the next one when it has come back."""
        if not self._kill or time.monotonic() < self._next_blow:
            return
        if self._recovering is not None:
            if not self._answers(self._recovering):
                self._next_blow = time.monotonic() + 0.1
                return
            self._recovering = None
            self._next_blow = time.monotonic() + self._random.uniform(0.2, 2.0)
            return
        if self._cluster is not None:
            self._recovering = self._random.choice(self._cluster.names)
            self._cluster.kill(self._recovering)
            self.killed["replica"] += 1
            self._cluster.start(self._recovering)
            return
        nodes = [(pid, what) for pid, (kind, what) in self._running.items() if kind == "node"]
        pid, self._recovering = self._random.choice(nodes)
        os.kill(pid, signal.SIGKILL)

    def _answers(self, id_: int | str) -> bool:
        if isinstance(id_, str):
            assert self._cluster is not None
            self._cluster.check()
            return self._cluster.heard_by(id_) == NODES - 1
        with suppress(EpaxosError):
            place = {id_: self.place.nodes[id_]}
            return bool(programs.ask(place, http.exchange, "/status", {}, 0.5))
        return False

    def calm(self) -> None:
        """Kill nobody any more, and wait until nothing is prepared."""
        self._kill = 0.0
        for pid, (kind, _) in list(self._running.items()):
            if kind == "resource":  # those that come after it know no death
                os.kill(pid, signal.SIGKILL)
        self._wait_for(
            lambda: not list(self._prepared()), lambda: f"prepared for ever: {', '.join(self._prepared())}"
        )

    def _prepared(self) -> Iterator[str]:
        for name in self.place.resources:
            for file in self.place.of(name, "prepared").iterdir():
                yield f"{file.name} at {name}"

    def _wait_for(self, condition: Any, otherwise: Any) -> None:
        end = time.monotonic() + CALM
        while not condition():
            self._reap()
            if time.monotonic() > end:
                raise StuckError(otherwise if isinstance(otherwise, str) else otherwise())
            pause(0.05)

    def _check_limit(self) -> None:
        if time.monotonic() - self._began > self._arguments.limit:
            raise StuckError(f"{self._arguments.limit:.0f} s were not enough")

    # -- afterwards --------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Say what happened."""
        ended = read_ended(self.place)
        outcomes = Counter(told["outcome"] for told in ended)
        told = ", ".join(f"{outcomes[name]} {name}" for name in sorted(outcomes))
        killed = ", ".join(f"{self.killed[kind]} {kind}s" for kind in ("manager", "resource", self._holder))
        print(f"{len(ended)} managers came to an end: {told}")
        print(f"killed over {self._arguments.over}: {killed}; {time.monotonic() - self._began:.1f} s")
        if ended:
            seconds = sorted(found["seconds"] for found in ended)
            print(
                f"a transaction took {1000 * statistics.median(seconds):.1f} ms, the longest {seconds[-1]:.2f} s"
            )


def _free_ports(count: int) -> list[tuple[str, int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [("127.0.0.1", found.getsockname()[1]) for found in sockets]


def read_ended(place: Place) -> list[dict[str, Any]]:
    """What managers that were not killed came to."""
    return [json.loads(file.read_text()) for file in (place.folder / "ended").iterdir()]


def judge(place: Place) -> int:
    """See that each transaction was committed by all or by none, as its manager said."""
    committed: dict[str, set[str]] = {}
    named: dict[str, set[str]] = {}
    for name in place.resources:
        for file in place.of(name, "committed").iterdir():
            committed.setdefault(file.name, set()).add(name)
            named[file.name] = set(decode(file.name, file.read_bytes()).resources)
    split = [
        f"{id_} at {sorted(there)} of {sorted(named[id_])}"
        for id_, there in committed.items()
        if there != named[id_]
    ]
    for told in read_ended(place):
        wanted = set(told["resources"]) if told["outcome"] == "committed" else set()
        found = committed.get(told["id"], set())
        if told["outcome"] in ("committed", "aborted") and found != wanted:
            split.append(f"{told['id']} {told['outcome']}, but committed at {sorted(found)}")
    for text in split:
        print(f"SPLIT: {text}")
    if not split:
        print(f"{len(committed)} transactions committed; none split, none stuck")
    return int(bool(split))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
