"""The log of commands that took long, for those who look for the reason: bounded, and safe to read on a terminal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf
from typing import Final

from epaxos.config import format_duration
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.operations import Operation

_log = logging.getLogger(__name__)

AT_MOST: Final = 10
"""Lines within"""

INTERVAL: Final = 10.0
"""seconds; what is beyond them is counted, and told with the next line."""

SHOWN: Final = 3
"""Commands of a frame that are shown, and"""

LONGEST: Final = 40
"""bytes of a key; values are never shown."""


class SlowLog:
    """Notes commands of clients whose answer took longer than `threshold` seconds; 0 for none."""

    def __init__(self, threshold: float, stats: ReplicaStats) -> None:
        self._threshold = threshold or inf
        self._stats = stats
        self._until = -inf
        self._lines = self._untold = 0

    def before(self, now: float) -> float:
        """What came before that, and is answered now, took too long."""
        return now - self._threshold

    def note(self, operations: bytes, keys: Sequence[bytes], seconds: float, now: float) -> None:
        """A frame with these commands took so long, until `now`."""
        self._stats.slow_commands += len(operations)
        if now >= self._until:
            self._until, self._lines = now + INTERVAL, 0
        self._lines += 1
        if self._lines > AT_MOST:
            self._untold += 1
            return
        shown = [
            f"{Operation(code).name} {_safe(key)}".rstrip()
            for code, key in zip(operations, keys, strict=True)
        ][:SHOWN]
        more = f" and {len(operations) - SHOWN} more" if len(operations) > SHOWN else ""
        untold = f"; {self._untold} other frames were not shown" if self._untold else ""
        self._untold = 0
        _log.warning(
            "slow: %s took %s here: %s%s%s",
            _commands(len(operations)),
            format_duration(round(seconds, 3)),
            ", ".join(shown),
            more,
            untold,
        )


def _commands(count: int) -> str:
    return "1 command" if count == 1 else f"{count} commands"


def _safe(key: bytes) -> str:
    """A key as ASCII without anything that steers a terminal, cut off."""
    if not key:
        return ""
    text = (
        key[:LONGEST]
        .decode("ascii", "backslashreplace")
        .encode("unicode_escape")
        .decode()
        .replace('"', '\\"')
    )
    return f'"{text}"' + ("…" if len(key) > LONGEST else "")
