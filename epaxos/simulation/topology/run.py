"""A run over a table: the replicas of the simulator and the load, with delays and without anything that goes wrong.

A message takes half the round-trip time of its two sites, always. Processing and writing to disk take none. No
message is lost and nobody crashes, so no time-out has anything to do: all are longer than what they wait for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from epaxos.protocol.contract import Effects, Event
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import Row
from epaxos.protocol.kinds import EPAXOS, KINDS, MULTIPAXOS
from epaxos.protocol.multipaxos.state import Learn
from epaxos.protocol.multipaxos.state import Settings as LedSettings
from epaxos.simulation.checkers.progress import check_same_digest, describe_unsettled, settled
from epaxos.simulation.checkers.violation import NoProgressError
from epaxos.simulation.plan.options import MANY, Options, stream
from epaxos.simulation.topology.clients import Budget, Client
from epaxos.simulation.topology.table import Table
from epaxos.simulation.world.host import LARGEST_ROUND
from epaxos.simulation.world.making import World
from epaxos.simulation.world.observer import Observer, Observers
from epaxos.simulation.world.replica import Replica
from epaxos.simulation.world.schedule import Schedule

PATIENCE: Final = 100
"""Longest round-trip times without any answer, after which something is stuck.

Everybody waits with one command, so what is in flight is bounded, and so is what one command can wait for.
"""

_NEVER: Final = 1e9
"""Seconds; a finite stand-in for infinity, since it gets multiplied by a chance that may be 0."""


BEACON: Final = 2
"""Longest round-trip times between two beacons, by which a leader sees that it is followed."""

ELECTION: Final = 40
"""Longest round-trip times that the election of the leader may take; clients begin then."""


class Thrifty(StrEnum):
    """Whom an owner asks: everybody, or as many as a quorum needs, behind it in the ring or nearest to it."""

    OFF = "off"
    RING = "ring"
    NEAREST = "nearest"


class Load(NamedTuple):
    """What is asked of the cluster.

    operations  commands of all clients together; at least one for each client
    clients     clients at each site
    conflicts   percent of the commands that write one shared key; the others are on keys of their own
    thrifty     whom an owner asks
    seed        decides the rest: when clients begin, and which commands conflict
    leader      the row of the leader, with Multi-Paxos; None with EPaxos
    learn       how followers learn what is chosen then
    """

    operations: int = 2000
    clients: int = 10
    conflicts: float = 0.0
    thrifty: Thrifty = Thrifty.OFF
    seed: int = 0
    leader: Row | None = None
    learn: Learn = Learn.VOTES

    @property
    def protocol(self) -> str:
        """Which one runs."""
        return EPAXOS.name if self.leader is None else MULTIPAXOS.name


class SiteResult(NamedTuple):
    """Latencies at one site, in seconds.

    `commits` are, by the path that they took, the times from a proposal to its commit at the owner; `executions`
    those to the answer, which comes after the execution.
    """

    commits: dict[str, list[float]]
    executions: list[float]


class Result(NamedTuple):
    """What a run has measured, a result for each site; `seconds` of virtual time passed."""

    table: Table
    load: Load
    sites: tuple[SiteResult, ...]
    seconds: float


class TableNetwork:
    """A `Network` that delivers everything once, in order, after half a round-trip time."""

    def __init__(self, table: Table, schedule: Schedule) -> None:
        self._delays = [[time / 2 for time in row] for row in table.rtt]
        self._schedule = schedule
        self.replicas: Sequence[Replica] = ()

    def send(self, sender: Row, receiver: Row, message: Any, stamp: Any) -> None:
        """See `Network`."""
        delay = self._delays[sender][receiver]
        self._schedule.after(delay, self.replicas[receiver].receive, sender, message, stamp)


class _Commits(Observer):
    """Collects the latencies of commits by row and path."""

    def __init__(self, n: int) -> None:
        self.by_row: list[dict[str, list[float]]] = [defaultdict(list) for _ in range(n)]

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:  # noqa: ARG002 - see Observer
        """See `Observer`."""
        for note in effects.commits:
            self.by_row[row][note.path].append(note.seconds)


def run_topology(table: Table, load: Load, extra: Sequence[Observer] = ()) -> Result:
    """Run the load until all of it is answered; `extra` observers see what happens.

    Raises:
        ValueError: fewer commands than clients.
        NoProgressError: a command is not answered.
        ViolationError: the replicas do not hold the same in the end.
        InvariantError: a core stops.
    """
    if load.operations < load.clients * len(table.sites):
        raise ValueError("fewer commands than clients")
    run = _Run(table, load, extra)
    run.execute()
    return run.result()


class _Run:
    """All that a run consists of."""

    def __init__(self, table: Table, load: Load, extra: Sequence[Observer]) -> None:
        self._table = table
        self._load = load
        self._schedule = Schedule()
        self._commits = _Commits(len(table.sites))
        network = TableNetwork(table, self._schedule)
        world = World(
            make_options(table, load),
            self._schedule,
            network,
            Observers([*extra, self._commits]),
            lambda _, row: (
                make_settings(table, load.thrifty, row)
                if load.leader is None
                else make_led_settings(table, load.learn, row, load.leader)
            ),
            KINDS[load.protocol].make,
            set(),
            [],
        )
        self._replicas = network.replicas = [Replica(world, row) for row in range(len(table.sites))]
        self._budget = Budget(load.operations, load.clients * len(table.sites))
        self._clients = [
            [self._make_client(row * load.clients + index, row) for index in range(load.clients)]
            for row in range(len(table.sites))
        ]

    def _make_client(self, index: int, row: Row) -> Client:
        random = stream(self._load.seed, f"client {index}")
        conflicts = self._load.conflicts / 100
        client = Client(index + 1, self._replicas[row], self._schedule, random, conflicts, self._budget)
        # In step, clients would meet one another's commands always or never.
        begin = 0 if self._load.leader is None else ELECTION
        self._schedule.at(self._table.longest * (begin + random.random()), client.ask)
        return client

    def execute(self) -> None:
        """Run until all commands are answered and all replicas have heard of all of them."""
        for replica in self._replicas:
            replica.start(acquainted=True)
        while self._budget.unanswered:
            self._await_answer()
        until = self._schedule.now + 2 * self._table.longest
        while self._schedule.step(until):
            pass
        if not settled(self._replicas):
            raise NoProgressError(f"replicas do not hear of all:\n{describe_unsettled(self._replicas)}")
        check_same_digest(self._replicas)

    def _await_answer(self) -> None:
        schedule, budget = self._schedule, self._budget
        before = budget.unanswered
        until = schedule.now + PATIENCE * self._table.longest
        while budget.unanswered == before:
            if not schedule.step(until):
                raise NoProgressError(f"{before} commands wait:\n{describe_unsettled(self._replicas)}")

    def result(self) -> Result:
        """What was measured."""
        sites = tuple(
            SiteResult(dict(commits), [time for client in clients for time in client.latencies])
            for commits, clients in zip(self._commits.by_row, self._clients, strict=True)
        )
        return Result(self._table, self._load, sites, self._schedule.now)


def make_settings(table: Table, thrifty: Thrifty, row: Row) -> Settings:
    """The core's settings at one site.

    The longest round-trip time bounds each wait: for the answers of a phase, from when it began; for others to hear
    of a decision, two phases and one way after they first heard of the instance.
    """
    longest = table.longest
    return Settings(
        row,
        table.quorums,
        thrifty=thrifty is not Thrifty.OFF,
        preferred=table.nearest(row) if thrifty is Thrifty.NEAREST else (),
        fast_path_timeout=2 * longest,
        retry=4 * longest,
        retry_limit=8 * longest,
        recovery_timeout=4 * longest,
    )


def make_led_settings(table: Table, learn: Learn, row: Row, leader: Row) -> LedSettings:
    """The same with a leader: nobody else ever has the patience to campaign."""
    longest = table.longest
    return LedSettings(
        row,
        table.quorums,
        learn,
        beacon=BEACON * longest,
        retry=4 * longest,
        retry_limit=8 * longest,
        timeout=4 * longest if row == leader else _NEVER,
        retain=int(_NEVER),
    )


def make_options(table: Table, load: Load) -> Options:
    """The simulator's options, without anything hostile; those that only its own network or clients read are idle."""
    n, f, e = table.quorums
    return Options(
        seed=load.seed,
        protocol=load.protocol,
        learn=load.learn.value,
        leaders="",
        scale="large",
        replicas=n,
        f=f,
        e=e,
        spares=0,
        observers=0,
        thrifty=load.thrifty is not Thrifty.OFF,
        patience=table.longest,
        fast_path=table.longest,
        max_instances=load.clients,
        aggregate=False,
        max_batch=1,
        clients=load.clients * n,
        whole=0.0,
        reads=0.0,
        operations=load.operations,
        window=1,
        frame=1,
        results=MANY,
        kept=MANY,
        think=0.0,
        keys=0,
        hot=load.conflicts / 100,
        mix="writes",
        padding=0,
        watchers=0,
        history=0,
        always=False,
        client_timeout=math.inf,
        client_loss=0.0,
        regroup=0.0,
        abandon=0.0,
        delay=table.longest / 2,
        spread="fixed",
        fifo=True,
        loss=0.0,
        duplicate=0.0,
        rate=0.0,
        queue=0,
        bias=(),
        mutes=(),
        disk="instant",
        disk_delay=0.0,
        sync=0.0,
        checkpoint=_NEVER,
        checkpoint_size=int(_NEVER),
        retain=int(_NEVER),
        collect=1e9,
        chunk=1,
        slice=1,
        growth=1,
        lasting=True,
        merging=1,
        lease=_NEVER,
        early=False,
        ahead=0,
        cpu=0.0,
        round=LARGEST_ROUND,
        commit_delay=0.0,
        # Nothing is lost that a beacon could reveal, and nobody is silent who could be reported.
        beacon=_NEVER if load.leader is None else BEACON * table.longest,
        offline=_NEVER,
        acquainted=True,
        skew=0.0,
        phase=0.0,
        faults=frozenset(),
        troubles=0,
        dead=0,
        comeback=0.0,
    )
