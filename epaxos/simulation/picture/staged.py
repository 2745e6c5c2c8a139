"""Small runs of the simulator without chance, which show how the protocol goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Final, NamedTuple

from epaxos.protocol.quorums import Quorums
from epaxos.simulation.checkers.reference import Command
from epaxos.simulation.picture.seen import Seen
from epaxos.simulation.plan.faults import Crash, Fault
from epaxos.simulation.plan.options import stream
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import Frame, Script
from epaxos.simulation.topology.run import Load, make_options
from epaxos.simulation.topology.table import Table
from epaxos.simulation.world.cluster import Cluster
from epaxos.statemachine.operations import Operation

N: Final = 3
DELAY: Final = 0.010
"""Seconds that a message takes, within a few percent."""


class Ask(NamedTuple):
    """A client's write: at which replica's, when (in delays), and of which key."""

    row: int
    when: float
    key: str


class Story(NamedTuple):
    """A run: what clients ask for and what goes wrong, how long it lasts (in delays), and what it is called."""

    title: str
    asks: Sequence[Ask]
    faults: Sequence[Fault]
    lasts: float
    patience: float = 100.0


STORIES: Final = {
    "fast-path": Story(
        "Fast path: nobody knows a conflict, so one round trip to a quorum decides", [Ask(0, 0, "x")], [], 5
    ),
    "slow-path": Story(
        "Slow path: A and B write one key at once; what B hears differs from what it proposed, so it asks for a vote",
        [Ask(0, 0, "x"), Ask(1, 0.3, "x")],
        [],
        9,
    ),
    "recovery": Story(
        "Recovery: A has answered its client and dies before anybody hears of that; others find out what it decided",
        [Ask(0, 0, "x")],
        [Crash(2.7 * DELAY, 0, 0, None)],
        100,
        25.0,
    ),
}
"""Those that the documents show, by the names of their pictures."""


def play(story: Story) -> Seen:
    """Run it, and see what happens."""
    seen = Seen()
    cluster = Cluster(_plan(story), seen)
    seen.clock = cluster.schedule
    cluster.start()
    while cluster.schedule.step(story.lasts * DELAY):
        pass
    return seen


def _plan(story: Story) -> Plan:
    table = Table("", tuple(f"r{row}" for row in range(N)), Quorums(N, 1, 1), ((2 * DELAY,) * N,) * N)
    options = replace(
        make_options(table, Load(clients=len(story.asks))),
        keys=1,
        clients=len(story.asks),
        operations=len(story.asks),
        patience=story.patience * DELAY,
        fast_path=3 * DELAY,
        commit_delay=DELAY / 2,
        beacon=5 * DELAY,
        offline=8 * DELAY,
        phase=story.lasts * DELAY,
        client_timeout=1e9,
    )
    names = [_client_of(ask.row) for ask in story.asks]
    scripts = [
        Script(name, (Frame(ask.when * DELAY, (Command(Operation.WRITE, ask.key.encode(), b"%d" % index),)),))
        for index, (name, ask) in enumerate(zip(names, story.asks, strict=True))
    ]
    return Plan(options, tuple(scripts), tuple(story.faults))


def _client_of(row: int) -> int:
    """The name of a client whose replica this is."""
    return next(name for name in count(100 * row) if stream(0, f"client {name}").randrange(N) == row)
