"""What is to be looked at when; things that are settled by then are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Generic, Protocol, TypeVar


class Finite(Protocol):
    """Something that can be settled before its time comes."""

    @property
    def settled(self) -> bool:
        """Whether nobody needs to look at it any more."""


Item = TypeVar("Item", bound=Finite)


class Alarms(Generic[Item]):
    """Items with a time each, in seconds; an item may have several."""

    __slots__ = ("_heap", "_tie")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._tie = count()

    def set(self, when: float, item: Item) -> None:
        """Have `item` looked at `when`."""
        heappush(self._heap, (when, next(self._tie), item))

    def next(self) -> float:
        """When the next item is due that is not settled; infinite if there is none."""
        heap = self._heap
        while heap:
            when, _, item = heap[0]
            if not item.settled:
                return when
            heappop(heap)
        return inf

    def due(self, now: float) -> Iterator[Item]:
        """Take out, one by one, the items whose time has come and that are not settled by then."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, item = heappop(heap)
            if not item.settled:
                yield item
