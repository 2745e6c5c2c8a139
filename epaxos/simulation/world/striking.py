"""Faults, as they strike the machines and the network of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from epaxos.protocol.ids import Row
from epaxos.simulation.plan.faults import (
    BadDisk,
    Comeback,
    Crash,
    Drift,
    Fault,
    Leave,
    Partition,
    Pause,
    PowerLoss,
    SlowDisk,
    Storm,
)
from epaxos.simulation.world.disk import Disk
from epaxos.simulation.world.network import HostileNetwork
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule


class Machine(Protocol):
    """What can fail."""

    row: Row
    alive: bool
    failed: bool
    retired: bool
    fuse: int | None
    fuse_kind: str | None
    disk: Disk

    def start(self) -> None:
        """Begin, or begin again, with what is durable."""

    def crash(self) -> None:
        """Stop at once."""

    def retire(self) -> None:
        """Finish what there is, in order to stop."""

    def pause(self) -> None:
        """Stand still."""

    def go_on(self) -> None:
        """End a pause."""

    def drift(self, rate: float) -> None:
        """Run the clock at another rate."""

    def calm(self) -> None:
        """No fault of this machine from now on."""

    def lose_disk(self, incarnation: int) -> None:
        """Come back with nothing that was promised."""

    def lose_power(self) -> None:
        """Stop for good, and lose what is not synced."""


Struck = TypeVar("Struck", bound=Machine)


class Stricken(Generic[Struck]):
    """A world in which faults happen until `phase` ends; `replicas` are its machines, by their rows."""

    schedule: Schedule
    network: HostileNetwork
    replicas: Sequence[Struck]

    def __init__(self, observer: Observer, faults: Sequence[Fault], phase: float) -> None:
        self._observer = observer
        self._faults = faults
        self._phase = phase

    def _let_faults_come(self) -> None:
        for fault in self._faults:
            self.schedule.at(fault.when, self._strike, fault)

    def _strike(self, fault: Fault) -> None:
        self._observer.happened(str(fault))
        if isinstance(fault, Crash):
            self._crash(fault)
        elif isinstance(fault, PowerLoss):
            self._observer.noted("power lost")
            self.replicas[fault.row].lose_power()
        elif isinstance(fault, Partition | Storm):
            self._strike_links(fault)
        elif isinstance(fault, Pause):
            self._observer.noted("replica paused")
            self.replicas[fault.row].pause()
            self._later(fault.duration, self.replicas[fault.row].go_on)
        elif isinstance(fault, SlowDisk | BadDisk):
            self._strike_disk(fault)
        elif isinstance(fault, Comeback):
            self._observer.noted("replica back without its disk")
            self.replicas[fault.row].lose_disk(len(self.replicas) + fault.row)
        elif isinstance(fault, Leave):
            self._let_leave(fault)
        elif isinstance(fault, Drift):
            self._observer.noted("clock drifts")
            self.replicas[fault.row].drift(fault.rate)

    def _strike_links(self, fault: Partition | Storm) -> None:
        if isinstance(fault, Partition):
            self._observer.noted(f"partition: {fault.shape}")
            self.network.cut(fault.cuts)
            self._later(fault.duration, self.network.mend, fault.cuts)
        else:
            self._observer.noted("storm")
            self.network.begin_storm(fault.loss, fault.slowness)
            self._later(fault.duration, self.network.end_storm, fault.loss, fault.slowness)

    def _strike_disk(self, fault: SlowDisk | BadDisk) -> None:
        disk = self.replicas[fault.row].disk
        if isinstance(fault, SlowDisk):
            self._observer.noted("slow disk")
            disk.slowness = fault.slowness
            self._later(fault.duration, setattr, disk, "slowness", 1.0)
        else:
            disk.failing = True
            self._later(fault.duration, self._mend_disk, self.replicas[fault.row])

    def _let_leave(self, leave: Leave) -> None:
        replica = self.replicas[leave.row]
        if replica.alive:
            self._observer.noted("replica takes leave")
            replica.retire()
            self._later(leave.duration, self._start_again, replica)

    def _crash(self, crash: Crash) -> None:
        replica = self.replicas[crash.row]
        if crash.effects or crash.kind is not None:
            replica.fuse, replica.fuse_kind = crash.effects, crash.kind
        else:
            replica.crash()
        if crash.down is not None:
            self._later(crash.down, self._restart, replica)

    def _start_again(self, replica: Struck) -> None:
        """One that has taken leave is back, unless it has stopped for good meanwhile."""
        if replica.alive and replica.retired:
            replica.crash()
            replica.start()

    def _mend_disk(self, replica: Struck) -> None:
        """Somebody puts it right, and starts the replica again if it has noticed."""
        replica.disk.failing = False
        if replica.failed:
            self._restart(replica)

    def _restart(self, replica: Struck) -> None:
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
            for fault in self._faults
            if fault.when <= now
            and (isinstance(fault, PowerLoss) or (isinstance(fault, Crash) and fault.down is None))
        }

    def _later(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something later, unless the faults are over by then: `calm` has done it."""
        when = self.schedule.now + delay
        if when < self._phase:
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
            if replica.failed or replica.retired:
                replica.crash()
            if not replica.alive:
                replica.start()
            replica.calm()
