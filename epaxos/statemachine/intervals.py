"""Sets of integers as sorted, disjoint intervals in one flat list: [start, end, start, end, …].

An interval holds its start and not its end. Intervals that touch are joined, so equal sets are equal lists.
The number of bounds at or below an integer is odd if and only if the integer is in the set; every function
here rests on that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def is_free(bounds: Sequence[int], first: int, end: int) -> bool:
    """Whether none of the integers from `first` up to, not including, `end` is in the set; first < end."""
    below = bisect_right(bounds, first)
    return below % 2 == 0 and bisect_left(bounds, end, below) == below


def missing(bounds: Sequence[int], first: int, end: int) -> list[tuple[int, int]]:
    """The parts of the interval from `first` to `end` that are not in the set, ascending; first < end."""
    below = bisect_right(bounds, first)
    above = bisect_left(bounds, end, below)
    cuts = list(bounds[below:above])
    if below % 2 == 0:
        cuts.insert(0, first)
    if above % 2 == 0:
        cuts.append(end)
    return list(zip(cuts[::2], cuts[1::2], strict=True))


def add(bounds: list[int], first: int, end: int) -> None:
    """Put the integers from `first` up to, not including, `end` into the set; first < end."""
    below = bisect_left(bounds, first)
    above = bisect_right(bounds, end, below)
    joined = [] if below % 2 else [first]
    if above % 2 == 0:
        joined.append(end)
    bounds[below:above] = joined


def pairs(bounds: Sequence[int]) -> list[tuple[int, int]]:
    """The intervals of the set, ascending."""
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def is_canonical(bounds: Sequence[int]) -> bool:
    """Whether the integers are the bounds of a set as this module keeps it."""
    return len(bounds) % 2 == 0 and all(map(int.__lt__, bounds, bounds[1:]))
