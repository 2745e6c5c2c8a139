"""The machine under a simulated replica: its disk, its clock, and all that happens to it.

What runs on it takes rounds. Between two effects of one it may crash (`step`), and what is lost then is all but the
disk. A paused machine does nothing until it goes on, and then first what has waited for that.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from epaxos.errors import WriteFailed
from epaxos.protocol.ids import Row
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.violation import NoProgressError
from epaxos.simulation.plan.options import Options, stream
from epaxos.simulation.world.disk import Disk, Then
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import LocalClock, Schedule

LARGEST_ROUND = 10_000
"""How many events a round takes in once the faults are over, as many as the Replica actor's by default."""

_LATER = 1e-7
"""Added to the time of an alarm, so that rounding does not wake a replica just before its deadline."""

_MOST_ROUNDS = 100_000
"""What no replica needs at one moment of virtual time."""


class Crashed(Exception):
    """The replica stops here."""


class Fused:
    """What may crash between two effects: after `fuse` of them or, with a `fuse_kind`, of messages of that kind."""

    fuse: int | None = None
    fuse_kind: str | None = None

    def _step(self, message: object = None) -> None:
        """An effect is about to happen, perhaps the sending of a message: the last moment for a crash before it."""
        if self.fuse is not None:
            if self.fuse_kind is not None and type(message).__name__ != self.fuse_kind:
                return
            self.fuse -= 1
            if self.fuse < 0:
                raise Crashed


class Host(Fused, ABC):
    """Machine number `row` of a run; what runs on it says when it has something to do, and does it.

    initial  the configuration that is known without a disk
    starts   how often it has; 0 before the first time
    alive    whether a process runs on it, which does nothing while it is `paused`, and takes part in nothing once its
             disk has `failed`
    """

    clock: LocalClock

    def __init__(
        self, options: Options, schedule: Schedule, observer: Observer, row: Row, initial: Configuration
    ) -> None:
        self._initial = initial
        self._options = options
        self._schedule = schedule
        self._observer = observer
        self._random = stream(options.seed, f"replica {row}")
        self.row = row
        self.starts = 0
        self.alive = self.paused = self.failed = False
        self.disk = self._make_disk()
        self._asleep = False
        self._calm = False
        self._cpu = options.cpu
        self._round_size = options.round
        self._held: list[Then] = []
        self._round_due = False
        self._alarm = math.inf
        self._next_due: tuple[float, float] | None = None

    def _make_disk(self) -> Disk:
        return Disk(
            self._options,
            self._schedule,
            self._random,
            self._step,
            self._on_durable,
            self._guard_unless_paused,
            self._initial,
        )

    # -- what runs on it -----------------------------------------------------------------------------------

    @abstractmethod
    def _on_durable(self, record: Any, epoch: int) -> None:
        """A record of an epoch has become durable."""

    @abstractmethod
    def _on_crash(self) -> None:
        """It is about to stop: the last moment at which it is as it was."""

    @abstractmethod
    def _has_work(self) -> bool:
        """Whether there is something for a round; if it only has to come, `_next_due` may say when, for the alarm."""

    @abstractmethod
    def _round(self) -> None:
        """Do it."""

    @abstractmethod
    def _deadlines(self) -> tuple[float, float]:
        """When the next round is due, for one thing and for another, of which each may have to wait for something."""

    # -- its life ------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        """A process begins on it, with nothing but the disk."""
        skew = self._options.skew * (2 * self._random.random() - 1)
        self.starts += 1
        self.alive = True
        self.fuse = None
        self.paused = self.failed = self._asleep = False
        self.clock = LocalClock(self._schedule, 1000 * self._random.random(), 1 + skew)
        self._held = []
        self._round_due = False
        self._alarm = math.inf
        self._next_due = None

    def crash(self) -> None:
        """Stop at once."""
        if not self.alive:
            return
        self.alive = False
        self.fuse = None
        self._on_crash()
        self._observer.stopped(self.row)
        if self.disk.crash():
            self._observer.noted("write torn by a crash")

    def lose_power(self) -> None:
        """Stop at once, with the machine: what its disk has not synced is gone."""
        self.crash()
        if self.disk.lose_power():
            self._observer.noted("promises lost with the power")

    def _stop_promising(self) -> None:
        """The disk has failed: what the core holds by now may not be durable, so no more of it may leave or execute."""
        self._observer.noted("disk failed")
        self._observer.happened(f"disk of {self.row} has failed")
        self.failed = True
        self.disk.crash()

    def pause(self) -> None:
        """Stand still: what arrives waits."""
        self.paused = True

    def go_on(self) -> None:
        """End a pause; what waited for that goes with a crash, as all does that is not on the disk."""
        self.paused = False
        if self._asleep:
            return
        held, self._held = self._held, []
        for action in held:
            if self.alive:
                self._guard(action)
        self._poke()

    def _sleep(self, seconds: float) -> None:
        """A PAUSE executes: the replica stands still when the effects of its round are done."""
        if seconds and not self._asleep:
            self._observer.noted("replica asleep in a PAUSE")
            self._asleep = True
            self._schedule.after(seconds, self._wake, self.starts)

    def _wake(self, start: int) -> None:
        if start == self.starts and self._asleep:
            self._asleep = False
            if not self.paused:
                self.go_on()

    @property
    def _stands(self) -> bool:
        return self.paused or self._asleep

    def drift(self, rate: float) -> None:
        """Run the clock at another rate."""
        if self.alive:
            self.clock.set_rate(rate)
            self._set_alarm()

    def calm(self) -> None:
        """No fault of this machine from now on."""
        self.fuse = None
        self._calm = True
        self._cpu = min(self._cpu, self._options.calm_delay)
        self._round_size = LARGEST_ROUND
        self.disk.calm()
        if self.alive:
            self.drift(1.0)
            self.go_on()

    # -- between two effects -------------------------------------------------------------------------------

    def _guard(self, action: Then) -> None:
        """Do something that may end in a crash, then take the rounds that are due."""
        try:
            action()
            self._take_rounds()
        except Crashed:
            self._observer.noted("crash between two effects")
            self.crash()
        except WriteFailed:
            self._stop_promising()

    def _guard_unless_paused(self, action: Then) -> None:
        """The same; a paused replica does it when it goes on."""
        if self.paused or self._asleep:
            self._held.append(action)
        else:
            self._guard(action)

    def _later(self, delay: float, action: Then) -> None:
        """Do something after a while, unless this life is over by then."""
        self._schedule.after(delay, self._do_later, self.starts, action)

    def _do_later(self, start: int, action: Then) -> None:
        if start == self.starts and self.alive:
            self._guard_unless_paused(action)

    # -- rounds --------------------------------------------------------------------------------------------

    def _poke(self) -> None:
        """There is something to do."""
        if not self._options.cpu:
            self._guard(_nothing)
        elif not self._round_due:
            self._round_due = True
            self._schedule.after(self._cpu, self._on_turn, self.starts)

    def _on_turn(self, start: int) -> None:
        if start == self.starts and self.alive:
            self._round_due = False
            self._guard(self._take_round)

    def _take_round(self) -> None:
        if self._may_go_on():
            self._round()

    def _take_rounds(self) -> None:
        if self._options.cpu:
            if self._may_go_on() and not self._round_due:
                self._round_due = True
                self._schedule.after(self._cpu, self._on_turn, self.starts)
        else:
            rounds = 0
            while self._may_go_on():
                self._round()
                rounds += 1
                if rounds > _MOST_ROUNDS:
                    raise NoProgressError(f"replica {self.row} takes rounds without end at one moment")
        self._set_alarm()

    def _may_go_on(self) -> bool:
        self._next_due = None
        if not self.alive or self.paused or self._asleep or self.failed:
            return False
        return self._has_work()

    def _set_alarm(self) -> None:
        """Wake when the next deadline comes; one that has passed waits for what keeps the replica."""
        core, keeper = self._next_due or self._deadlines()
        self._next_due, now = None, self.clock.now
        deadline = min(core, keeper)
        if deadline <= now:  # one of the two waits; the other's time comes all the same
            deadline = max(keeper, core)
        if deadline == math.inf or not self.alive:
            return
        when = self.clock.virtual(deadline) + _LATER
        if when < self._alarm and now < deadline:
            self._alarm = when
            self._schedule.at(when, self._on_alarm, self.starts, when)

    def _on_alarm(self, start: int, when: float) -> None:
        if start == self.starts and self.alive and when == self._alarm:
            self._alarm = math.inf
            self._poke()


def _nothing() -> None:
    """Nothing but the rounds that are due."""
