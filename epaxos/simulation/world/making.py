"""What a simulated replica is made of, of what is durable or of a peer's checkpoint, as `actors.assembly` makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from epaxos.checkpoint.collector import Collector, CollectorSettings
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.keeper import Keeper, KeeperSettings
from epaxos.checkpoint.transfer import Source
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.protocol.contract import Core, Durable
from epaxos.protocol.ids import Name, Row, Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import NOBODY, Configuration
from epaxos.protocol.spectator import Spectator
from epaxos.simulation.plan.options import Options, stream
from epaxos.simulation.world.disk import Disk, Then
from epaxos.simulation.world.era import Era, host_of, of_epoch
from epaxos.simulation.world.frontdoor import LONGEST_VALUE
from epaxos.simulation.world.links import Links
from epaxos.simulation.world.network import Network
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.post import Post
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.sessions import Budget

MakeCore: TypeAlias = Callable[[Any, Any, Durable], Core[Any]]
"""Makes a core from settings of its protocol, a seeded generator and what is durable."""

LIMITS = Limits(key=64, value=LONGEST_VALUE, pause=3, window=1)
"""Small enough for values to reach them."""


class World(NamedTuple):
    """What all replicas of a run share.

    `doomed` are those that will stop for good, `proposed` what was to follow an epoch as somebody asked for it;
    `settings` are those of a protocol's core in a row; `make_core` makes one in the place of that of the protocol.
    """

    options: Options
    schedule: Schedule
    network: Network
    observer: Observer
    settings: Callable[[str, Row], Any]
    make_core: MakeCore | None
    doomed: set[int]
    proposed: list[Configuration]


class KeeperDrives(NamedTuple):
    """What a keeper asks for (`checkpoint.keeper.Keeper`)."""

    make_fetched: Callable[[], Fetched]
    number: Callable[[], int]
    round_trip: Callable[[Name], float]
    load: Callable[[Fetched], Iterator[None]]


class Making:
    """Makes them for host `row` in life number `life`: no two draw the same.

    `step`, `later` and `sleep` are what the host does before each effect, after a while, and when a PAUSE executes.
    """

    def __init__(
        self,
        world: World,
        row: int,
        life: int,
        links: Links,
        step: Callable[..., None],
        later: Callable[[float, Then], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._world = world
        self._options = world.options
        self._row = row
        self._life = life
        self._links = links
        self._step = step
        self._later = later
        self._sleep = sleep

    def of_checkpoint(
        self, checkpoint: Fetched, records: Iterable[Instance], truncated: Vector
    ) -> tuple[Era, StateMachine]:
        """The epoch of a checkpoint and of what the log has of it, and a state machine; neither has its state yet."""
        kept = self._options.kept
        durable = Durable(records, truncated, checkpoint.executed, checkpoint.entries, checkpoint.vectors)
        machine = StateMachine(LIMITS, self._sleep, Budget(kept, 3 * kept), pace=1)
        return self.era(checkpoint.configuration, durable), machine

    def era(self, configuration: Configuration, durable: Durable) -> Era:
        """An epoch, with what is durable of it."""
        world, epoch = self._world, configuration.epoch
        purpose = f"core {self._row} {self._life}" + (f" {epoch}" if epoch else "")
        hosts = tuple(map(host_of, configuration.names))
        row = hosts.index(self._row) if self._row in hosts else None
        observer = Observer() if row is None else world.observer.of_epoch(configuration)
        post = Post(
            of_epoch(configuration, row),
            len(hosts) if row is None else row,
            hosts,
            self._links,
            observer,
            self._options.commit_delay,
            self._step,
            self._later,
        )
        generator = stream(self._options.seed, purpose)
        quorums = configuration.quorums
        kind = KINDS[configuration.protocol]
        own = world.settings(kind.name, row or 0)
        settings = replace(own, row=quorums.n if row is None else row, quorums=quorums)
        core = (world.make_core or kind.make)(settings, generator, durable)
        if row is None:
            interval = math.inf if NOBODY in configuration.names else self._options.beacon
            core = Spectator(core, kind, quorums, interval, generator.getrandbits(61))
        return Era(epoch, configuration, row, hosts, core, post, observer)

    def keeper(
        self, era: Era, machine: StateMachine, disk: Disk, checkpoint: Fetched, drives: KeeperDrives
    ) -> Keeper:
        """What writes checkpoints from this one on, which is durable, and fetches those of others."""
        options = self._options
        writer = CheckpointWriter(
            era.core,
            machine,
            era.configuration,
            disk.stage,
            disk.snapshot,
            options.slice,
            growth=options.growth,
            lasting=options.lasting,
        )
        writer.loaded(checkpoint)
        # Anew for each epoch that one begins in: two transfers of one life with one origin could be mixed.
        origins = stream(options.seed, f"source {self._row} {self._life} {era.epoch}")
        source = Source(options.lease, disk.snapshot, lambda: origins.randrange(2**62), options.chunk)
        times = KeeperSettings(
            options.checkpoint, options.checkpoint_size, options.patience / 4, options.merging, 1
        )
        return Keeper(era.core, writer, source, times, *drives)

    def collector(self, era: Era) -> Collector:
        """What proposes collections in an epoch; never where this replica has no vote."""
        options, configuration = self._options, era.configuration
        collector = Collector(
            CollectorSettings(
                options.collect,
                era.row or 0,
                configuration.n,
                configuration.quorums.slow,
                options.max_instances,
                era.kind.owned,
            )
        )
        if era.row is None:
            collector.proposed()
        return collector
