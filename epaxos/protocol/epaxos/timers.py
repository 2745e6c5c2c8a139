"""Deadlines as values: what is due when, on the clock that the driver passes in."""

from __future__ import annotations

import heapq
import math
from collections.abc import Container
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
    """A heap of deadlines; one that is wanted no more goes by `forget`, or is skipped by its owner when it comes up.

    `next_deadline` is the earliest one, infinity if there is none.
    """

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self.next_deadline = math.inf

    def set(self, when: float, kind: TimerKind, place: InstanceId) -> None:
        """Add a deadline."""
        heapq.heappush(self._heap, Timer(when, kind, place))
        self.next_deadline = self._heap[0].when

    def forget(self, led: Container[InstanceId]) -> None:
        """Drop the earliest deadlines as long as they are of who led what nobody leads any more.

        Nearly all are: each proposal has one, which lies far behind its decision, and coming up in vain costs a round.
        """
        heap = self._heap
        while heap and heap[0].kind is not TimerKind.RECOVERY and heap[0].id not in led:
            heapq.heappop(heap)
        self.next_deadline = heap[0].when if heap else math.inf

    def take_due(self, now: float) -> list[Timer]:
        """Remove and return the deadlines up to `now`, earliest first."""
        due = []
        while self._heap and self._heap[0].when <= now:
            due.append(heapq.heappop(self._heap))
        self.next_deadline = self._heap[0].when if self._heap else math.inf
        return due
