"""How long a peer takes to answer, from the round trips measured with it: RFC 6298's estimate, without a clock."""

from __future__ import annotations

from typing import Final

_WEIGHT, _DEVIATION_WEIGHT, _DEVIATIONS = 1 / 8, 1 / 4, 4

LEAP: Final = 4.0
"""Seconds by which one round trip may exceed twice what one hardly ever exceeds; beyond that it counts no more.

Who was stopped for an hour measures an hour, and would wait for hours for who died meanwhile. A link that has become
so slow is believed after some more of them.
"""


class RoundTrip:
    """Seconds: `mean` of the round trips measured with one peer, and `longest`, what an answer hardly ever exceeds.

    Both are 0 until one was measured: then nothing is known, and only what is configured counts.
    """

    __slots__ = ("_deviation", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._deviation = 0.0

    @property
    def longest(self) -> float:
        """The mean and four times the mean deviation, as in TCP."""
        return self.mean + _DEVIATIONS * self._deviation

    def copy(self) -> RoundTrip:
        """Another one that begins with what was measured so far."""
        copy = RoundTrip()
        copy.mean, copy._deviation = self.mean, self._deviation
        return copy

    def measured(self, seconds: float) -> None:
        """Take one more round trip."""
        seconds = min(seconds, 2 * self.longest + LEAP)
        if not self.mean:
            self.mean, self._deviation = seconds, seconds / 2
            return
        self._deviation += _DEVIATION_WEIGHT * (abs(seconds - self.mean) - self._deviation)
        self.mean += _WEIGHT * (seconds - self.mean)


_SILENT: Final = 2
"""Longest round trips with a peer of which one may be without a sign of it."""


def silence(timeout: float, longest: float) -> float:
    """How long a peer may be silent before it counts as away: as configured, or two round trips if they are longer."""
    return max(timeout, _SILENT * longest)


STAMPS_PER_SECOND: Final = 1_000_000


def stamp_of(now: float) -> int:
    """A time as it travels, to be sent back as it is."""
    return int(now * STAMPS_PER_SECOND)


def time_of(stamp: int) -> float:
    """The time that a stamp stands for."""
    return stamp / STAMPS_PER_SECOND
