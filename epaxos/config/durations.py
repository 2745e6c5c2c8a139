"""Durations as people write them: "500ms", "1m30s", "1h", or a number of seconds; microseconds are the finest unit."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_MICROSECONDS: Final = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
"""The units, each with its length, the longest first: the order in which they stand in a duration."""

_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,12}}(?:\.[0-9]{{1,6}})?){unit})?" for unit in _MICROSECONDS)
)


def parse_duration(text: str) -> float:
    """The seconds that `text` says.

    Each unit stands at most once and longer ones come first; a number may have a decimal fraction ("1.5s"). A number
    alone is seconds.

    Raises:
        ValueError: `text` is no duration, or not a whole number of microseconds.
    """
    match = _DURATION.fullmatch(f"{text}s" if text.replace(".", "").isdigit() else text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration")
    numbers = match.groupdict(default="0")
    microseconds = sum(Decimal(number) * _MICROSECONDS[unit] for unit, number in numbers.items())
    if microseconds % 1:
        raise ValueError(f"{text!r} is no whole number of microseconds")
    return int(microseconds) / 1_000_000


def format_duration(seconds: float) -> str:
    """The shortest duration of whole numbers that says `seconds`, rounded to microseconds.

    Raises:
        ValueError: `seconds` is negative, infinite or not a number.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} seconds cannot be written as a duration")
    rest = round(Decimal(seconds) * 1_000_000)  # exactly: in floats 600000000001 s would be read back as less
    parts = []
    for unit, length in _MICROSECONDS.items():
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
