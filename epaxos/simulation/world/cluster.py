"""A simulated cluster: replicas, network, clients and the faults that a plan has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count
from typing import Any

from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import Row
from epaxos.simulation.plan.faults import (
    BadDisk,
    Comeback,
    Crash,
    Drift,
    Fault,
    Partition,
    Pause,
    PowerLoss,
    SlowDisk,
    Storm,
)
from epaxos.simulation.plan.options import Options
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.world.clients import Client, Surroundings
from epaxos.simulation.world.network import HostileNetwork
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.replica import MakeCore, Replica, Stamp, World
from epaxos.simulation.world.schedule import Schedule


def make_settings(options: Options, row: Row) -> Settings:
    """The core's settings: its defaults, with all times scaled to the run's network."""
    settings = Settings(row, options.quorums, thrifty=options.thrifty, retain=options.retain)
    times: dict[str, Any] = {
        field.name: value * options.patience
        for field in fields(Settings)
        if type(value := getattr(settings, field.name)) is float
    }
    return replace(settings, **(times | {"fast_path_timeout": options.fast_path}))


class Cluster:
    """All that a plan needs to run, on a schedule of its own; nothing happens before `start`."""

    def __init__(self, plan: Plan, observer: Observer, make_core: MakeCore) -> None:
        options = plan.options
        self.schedule = Schedule()
        self._plan = plan
        self._observer = observer
        self.network = HostileNetwork(options, self.schedule, observer, self._deliver)
        world = World(
            options,
            self.schedule,
            self.network,
            observer,
            lambda row: make_settings(options, row),
            make_core,
        )
        self.replicas = [Replica(world, row) for row in range(options.replicas)]
        sessions = count(1)
        surroundings = Surroundings(options, self.schedule, observer, self.replicas, lambda: next(sessions))
        self.clients = [Client(surroundings, script) for script in plan.scripts]

    @property
    def living(self) -> list[Replica]:
        """The replicas that run."""
        return [replica for replica in self.replicas if replica.alive]

    def start(self) -> None:
        """Start everybody, and let the faults come."""
        for replica in self.replicas:
            replica.start(acquainted=self._plan.options.acquainted)
        for client in self.clients:
            client.start()
        for fault in self._plan.faults:
            self.schedule.at(fault.when, self._strike, fault)

    def _deliver(self, sender: Row, receiver: Row, message: Any, stamp: Stamp) -> None:
        if self.replicas[receiver].alive:
            self._observer.delivered(sender, receiver, message)
            self.replicas[receiver].receive(sender, message, stamp)
        else:
            self._observer.lost(sender, receiver, message)

    # -- faults --------------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        self._observer.happened(str(fault))
        if isinstance(fault, Crash):
            self._crash(fault)
        elif isinstance(fault, PowerLoss):
            self._observer.noted("power lost")
            self.replicas[fault.row].lose_power()
        elif isinstance(fault, Partition):
            self._observer.noted(f"partition: {fault.shape}")
            self.network.cut(fault.cuts)
            self._later(fault.duration, self.network.mend, fault.cuts)
        elif isinstance(fault, Storm):
            self._observer.noted("storm")
            self.network.begin_storm(fault.loss, fault.slowness)
            self._later(fault.duration, self.network.end_storm, fault.loss, fault.slowness)
        elif isinstance(fault, Pause):
            self._observer.noted("replica paused")
            self.replicas[fault.row].pause()
            self._later(fault.duration, self.replicas[fault.row].go_on)
        elif isinstance(fault, SlowDisk):
            self._observer.noted("slow disk")
            disk = self.replicas[fault.row].disk
            disk.slowness = fault.slowness
            self._later(fault.duration, setattr, disk, "slowness", 1.0)
        elif isinstance(fault, BadDisk):
            self.replicas[fault.row].disk.failing = True
            self._later(fault.duration, self._mend_disk, self.replicas[fault.row])
        elif isinstance(fault, Comeback):
            self._observer.noted("replica back without its disk")
            self.replicas[fault.row].lose_disk(self._plan.options.replicas + fault.row)
        elif isinstance(fault, Drift):
            self._observer.noted("clock drifts")
            self.replicas[fault.row].drift(fault.rate)

    def _crash(self, crash: Crash) -> None:
        replica = self.replicas[crash.row]
        if crash.effects or crash.kind is not None:
            replica.fuse, replica.fuse_kind = crash.effects, crash.kind
        else:
            replica.crash()
        if crash.down is not None:
            self._later(crash.down, self._restart, replica)

    def _mend_disk(self, replica: Replica) -> None:
        """Somebody puts it right, and starts the replica again if it has noticed."""
        replica.disk.failing = False
        if replica.failed:
            self._restart(replica)

    def _restart(self, replica: Replica) -> None:
        if replica.alive and not replica.failed:
            replica.fuse = None
        elif replica.row not in self._dead():
            replica.crash()
            replica.start()

    def _dead(self) -> set[Row]:
        """The replicas that have stopped for good by now."""
        now = self.schedule.now
        return {
            fault.row
            for fault in self._plan.faults
            if fault.when <= now
            and (isinstance(fault, PowerLoss) or (isinstance(fault, Crash) and fault.down is None))
        }

    def _later(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something later, unless the faults are over by then: `calm` has done it."""
        when = self.schedule.now + delay
        if when < self._plan.options.phase:
            self.schedule.at(when, action, *arguments)

    def calm(self) -> None:
        """End all faults: mend the network, go on, restart; only those who stopped for good stay away."""
        self._observer.happened("the faults are over")
        self.network.calm()
        dead = self._dead()
        for replica in self.replicas:
            if replica.row in dead:
                self._observer.noted("replica dead for good")
                replica.crash()
                continue
            replica.disk.calm()
            if replica.failed:
                replica.crash()
            if not replica.alive:
                replica.start()
            replica.calm()
        for client in self.clients:
            client.calm()
