"""Virtual time: what happens when, and the clocks that replicas read."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TypeAlias

Action: TypeAlias = Callable[..., None]


class Schedule:
    """Actions by the virtual time (seconds) at which they are due; those of one time run as they were added."""

    def __init__(self) -> None:
        self.now = 0.0
        self.actions = 0
        self._heap: list[tuple[float, int, Action, tuple[object, ...]]] = []
        self._added = 0

    def at(self, when: float, action: Action, *arguments: object) -> None:
        """Run `action(*arguments)` at a time, which is now if it has passed."""
        self._added += 1
        heapq.heappush(self._heap, (max(self.now, when), self._added, action, arguments))

    def after(self, delay: float, action: Action, *arguments: object) -> None:
        """Run `action(*arguments)` in `delay` seconds."""
        self._added += 1
        heapq.heappush(self._heap, (self.now + delay, self._added, action, arguments))

    def step(self, until: float) -> bool:
        """Run the next action, if it is due by `until`; else only move the time there and return False."""
        due = bool(self._heap) and self._heap[0][0] <= until
        self.run(until, self.actions + 1)
        return due

    def run(self, until: float, most: float = math.inf) -> None:
        """Run all actions that are due by `until`, and move the time there; no more than `most` in all."""
        heap = self._heap
        while heap and heap[0][0] <= until and self.actions < most:
            self.now, _, action, arguments = heapq.heappop(heap)
            self.actions += 1
            action(*arguments)
        if self.actions < most:
            self.now = max(self.now, until)


class LocalClock:
    """A monotonic clock of one machine: it begins anywhere and runs too fast or too slow."""

    def __init__(self, schedule: Schedule, reading: float, rate: float) -> None:
        self._schedule = schedule
        self._since = schedule.now
        self._reading = reading
        self._rate = rate

    @property
    def now(self) -> float:
        """What the clock reads, in its own seconds."""
        return self._reading + (self._schedule.now - self._since) * self._rate

    def set_rate(self, rate: float) -> None:
        """From now on, run at `rate` local seconds a second."""
        self._reading, self._since = self.now, self._schedule.now
        self._rate = rate

    def virtual(self, reading: float) -> float:
        """The virtual time at which the clock will read this much if its rate stays."""
        return self._since + (reading - self._reading) / self._rate
