"""A histogram with fixed buckets that costs one bisection and two additions an observation."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

LATENCY_BOUNDS: Final = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Seconds: from a tenth of the fastest commit on one machine to far beyond every timeout."""

CHECKPOINT_BOUNDS: Final = (
    *(5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
"""Seconds: from a checkpoint of a few keys to one of a state that fills a machine."""

BATCH_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Commands in one instance; a client's frame is not split, so more than `max_batch` is possible."""

COMPONENT_BOUNDS: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000)
"""Instances executed as one; fine where a component should be, coarse where it never should."""

EVENT_BOUNDS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Events in one round; 0 is a round that only a timer woke, 10,000 a full mailbox by default."""


class Histogram:
    """Observations counted by bucket; written by one thread, readable from any (see `collector`).

    bounds  upper bounds of the buckets, inclusive and ascending; beyond the last is one bucket more
    counts  observations by bucket, not cumulated; one longer than `bounds`
    sum     sum of everything observed, in the unit of the bounds

    Raises:
        ValueError: there is no bound, or they are not finite and strictly ascending.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        if not bounds or not all(map(math.isfinite, bounds)) or any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(f"bounds of a histogram must be finite and strictly ascending, not {bounds}")
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `value`, `count` times over."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        """How many observations there were; summed up when asked, so that it always fits the buckets."""
        return sum(self.counts)
