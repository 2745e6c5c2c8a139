"""Latencies in an HDR histogram: every command counts, three significant digits, constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Final

from hdrh.histogram import HdrHistogram

_LOWEST: Final = 1_000  # ns: a microsecond is far below any round trip
_HIGHEST: Final = 3_600_000_000_000  # ns: an hour is longer than any command may take
_DIGITS: Final = 3

Curve = Sequence[tuple[float, float]]
"""Points of a distribution, ascending: how many percent of the commands took so long at most, in milliseconds."""

NINES: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)
"""Percentiles to mark on an axis that gives each further nine as much room; see `nines`."""

_TICKS: Final = 10
"""Points of a curve to each half of what is left of the way to 100 %."""

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
"""The percentiles that are reported, by their names in the JSON report."""


def nines(percentile: float) -> float:
    """Where a percentile below 100 stands: 90 at 1, 99 at 2, 99.9 at 3."""
    return -log10(1 - percentile / 100)


class Latencies:
    """How long commands took, in nanoseconds going in and milliseconds coming out."""

    __slots__ = ("_histogram", "longest")

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
        self.longest = 0

    @property
    def count(self) -> int:
        """How many commands were recorded."""
        total: int = self._histogram.get_total_count()
        return total

    def record(self, nanoseconds: int, count: int = 1) -> None:
        """Record `count` commands of one latency; beyond an hour counts as an hour."""
        nanoseconds = min(max(nanoseconds, 0), _HIGHEST)
        self._histogram.record_value(nanoseconds, count)
        self.longest = max(self.longest, nanoseconds)

    def add(self, other: Latencies) -> None:
        """Add what another histogram holds to this one."""
        self._histogram.add(other._histogram)
        self.longest = max(self.longest, other.longest)

    def summary(self) -> dict[str, float | None]:
        """p50, p90, p99, p999 and max in milliseconds; None each where nothing was recorded."""
        if not self.count:
            return dict.fromkeys((*PERCENTILES, "max"))
        found = self._histogram.get_percentile_to_value_dict(PERCENTILES.values())
        shown: dict[str, float | None] = {
            name: _milliseconds(min(found[percentile], self.longest))
            for name, percentile in PERCENTILES.items()
        }
        shown["max"] = _milliseconds(self.longest)
        return shown

    def curve(self) -> Curve:
        """The distribution, closer and closer to 100 %; empty where nothing was recorded."""
        if not self.count:
            return []
        steps = self._histogram.get_percentile_iterator(_TICKS)
        levels = {step.percentile_level_iterated_to: step.value_iterated_to for step in steps}
        return [
            (level, _milliseconds(min(nanoseconds, self.longest))) for level, nanoseconds in levels.items()
        ]


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 4)
