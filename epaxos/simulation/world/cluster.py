"""A simulated cluster: replicas, network, clients and the faults that a plan has for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

from epaxos.protocol.ids import Row
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.watching import Watching
from epaxos.simulation.plan.faults import Change, Crash, Fault, PowerLoss, Refresh
from epaxos.simulation.plan.options import stream
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.profile import PROFILES
from epaxos.simulation.world.changes import Overseer, as_before, drawn_voters
from epaxos.simulation.world.clients import Client, Surroundings
from epaxos.simulation.world.era import name_of
from epaxos.simulation.world.links import Stamp
from epaxos.simulation.world.making import MakeCore, World
from epaxos.simulation.world.network import HostileNetwork
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.replica import Replica
from epaxos.simulation.world.schedule import Schedule
from epaxos.simulation.world.striking import Stricken
from epaxos.simulation.world.watchers import Watcher


class Cluster(Stricken[Replica]):
    """All that a plan needs to run, on a schedule of its own if none is given; nothing happens before `start`."""

    def __init__(
        self,
        plan: Plan,
        observer: Observer,
        make_core: MakeCore | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        options = plan.options
        self.schedule = schedule or Schedule()
        super().__init__(observer, plan.faults, options.phase)
        self.plan = plan
        self.network = HostileNetwork(options, self.schedule, observer, self._deliver)
        self._doomed = {
            fault.row
            for fault in plan.faults
            if isinstance(fault, PowerLoss) or (isinstance(fault, Crash) and fault.down is None)
        }
        self._proposed: list[Configuration] = []
        world = World(
            options,
            self.schedule,
            self.network,
            observer,
            lambda protocol, row: PROFILES[protocol].settings(options, row),
            make_core,
            self._doomed,
            self._proposed,
        )
        self.replicas = [Replica(world, host) for host in range(options.hosts)]
        self.overseer = Overseer(options, self.schedule, observer, self.replicas, self._doomed)
        sessions = count(1)
        self.surroundings = Surroundings(
            options, self.schedule, observer, self.replicas, lambda: next(sessions)
        )
        self.clients = [Client(self.surroundings, script) for script in plan.scripts]
        self.watchers: list[Watcher] = []

    def watch(self, checker: Watching) -> None:
        """Have as many watchers as the plan says; before the start."""
        count = self.plan.options.watchers
        self.watchers = [Watcher(self.surroundings, checker, number) for number in range(count)]

    @property
    def living(self) -> list[Replica]:
        """The replicas that run and vote in the last epoch that any has come to."""
        alive = [replica for replica in self.replicas if replica.alive]
        last = max((replica.configuration for replica in alive), default=None)
        return [replica for replica in alive if last is None or name_of(replica.row) in last.names]

    @property
    def observing(self) -> list[Replica]:
        """The observers that run, and have not come to vote, or to be removed, or to be left alone."""
        return [
            replica
            for replica in self.replicas
            if replica.alive and replica.observes and not self._is_alone(replica)
        ]

    def _is_alone(self, replica: Replica) -> bool:
        """Whether all that it knows have left, and nobody knows it: it was down meanwhile (protocol 6.10)."""
        return not any(
            other.name in replica.audience or replica.name in other.audience
            for other in self.replicas
            if other.alive and other is not replica
        )

    def start(self) -> None:
        """Start everybody, and let the faults come."""
        for replica in self.replicas:
            replica.start(acquainted=self.plan.options.acquainted)
        for client in self.clients:
            client.start()
        for watcher in self.watchers:
            watcher.start()
        self._let_faults_come()

    def _strike(self, fault: Fault) -> None:
        if isinstance(fault, Refresh):
            self._observer.happened(str(fault))
            wanted = (
                partial(drawn_voters, self.plan.options.hosts, fault.change) if fault.change else as_before
            )
            self.replicas[fault.row].refresh(wanted, other=fault.other)
        elif isinstance(fault, Change):
            self._observer.happened(str(fault))
            self.overseer.see_to(fault)
        else:
            super()._strike(fault)

    def _deliver(self, sender: Row, receiver: Row, message: Any, stamp: Stamp) -> None:
        if self.replicas[receiver].alive:
            self._observer.delivered(sender, receiver, message)
            self.replicas[receiver].receive(sender, message, stamp)
        else:
            self._observer.lost(sender, receiver, message)

    def calm(self) -> None:
        """End all faults, those of clients too."""
        super().calm()
        for client in self.clients:
            client.calm()
        for watcher in self.watchers:
            watcher.calm()

    def keep_fewest(self, open_epochs: Sequence[Configuration]) -> None:
        """Stop for good whom the open epochs can do without: all but n - f of each, and whoever votes in none.

        And those that may follow them, whose barrier was proposed: some replica, or a message, may know it.
        """
        dead = {name_of(row) for row in self._dead()}
        begun = max(epoch.epoch for epoch in open_epochs)
        open_epochs = [*open_epochs, *(it for it in self._proposed if it.epoch == begun + 1)]
        left = [epoch.f - len(dead.intersection(epoch.names)) for epoch in open_epochs]
        running = [replica for replica in self.replicas if replica.alive and not replica.observes]
        stream(self.plan.options.seed, "fewest").shuffle(running)
        for replica in running:
            votes = [replica.name in epoch.names for epoch in open_epochs]
            if all(more > 0 for more, there in zip(left, votes, strict=True) if there):
                left = [more - there for more, there in zip(left, votes, strict=True)]
                self._observer.noted("replica stopped that n - f can do without")
                self._observer.happened(f"replica {replica.row} stops for good")
                self._doomed.add(replica.row)
                replica.crash()
