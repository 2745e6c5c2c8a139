"""Deadlines as values: what is due when, on the clock that the driver passes in."""

from __future__ import annotations

import heapq
import math
from enum import IntEnum
from typing import NamedTuple

from epaxos.protocol.ids import InstanceId


class TimerKind(IntEnum):
    """What to do with the instance when the time has come (protocol 4.9)."""

    FAST_PATH = 1  # stop waiting for a fast quorum
    RETRY = 2  # send again to those who have not answered
    RECOVERY = 3  # the same for a recovery; begin anew after some rounds of it


class Timer(NamedTuple):
    """A deadline in seconds on the driver's clock."""

    when: float
    kind: TimerKind
    id: InstanceId


class Timers:
    """A heap of deadlines; one that is no longer wanted is skipped by its owner when it comes up.

    `next_deadline` is the earliest one, infinity if there is none.
    """

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self.next_deadline = math.inf

    def set(self, when: float, kind: TimerKind, place: InstanceId) -> None:
        """Add a deadline."""
        heapq.heappush(self._heap, Timer(when, kind, place))
        self.next_deadline = self._heap[0].when

    def take_due(self, now: float) -> list[Timer]:
        """Remove and return the deadlines up to `now`, earliest first."""
        due = []
        while self._heap and self._heap[0].when <= now:
            due.append(heapq.heappop(self._heap))
        self.next_deadline = self._heap[0].when if self._heap else math.inf
        return due
