"""What is told of a replica that catches up by a peer's checkpoint: a line now and then, and metrics."""

from __future__ import annotations

import logging
from typing import Final

from epaxos.checkpoint.keeper import CatchUp
from epaxos.metrics import ReplicaStats

_log = logging.getLogger(__name__)

_EVERY: Final = 2.0
"""Seconds between two lines."""


class CatchUpReporter:
    """Compares how far catching up is with how far it was."""

    def __init__(self, stats: ReplicaStats) -> None:
        self._stats = stats
        self._before: CatchUp | None = None
        self._began = 0.0
        self._logged = 0.0
        self._caught_up = 0

    def note(self, progress: CatchUp | None, caught_up: int, now: float) -> None:
        """Take where it is at `now` (seconds, monotonic), None while this replica does not catch up.

        `caught_up` is how often it has, since the start.
        """
        before, self._before = self._before, progress
        if progress is None:
            if before is not None:
                self._end(before, now, done=caught_up > self._caught_up)
            self._caught_up = caught_up
            return
        self._stats.catch_up = (progress.rows, progress.size)
        if before is None:
            self._began = now
        if before is None or before.stage != progress.stage or now - self._logged >= _EVERY:
            self._logged = now
            _log.info("catching up from %s: %s, %s", progress.peer, progress.stage, _amount(progress))

    def _end(self, last: CatchUp, now: float, *, done: bool) -> None:
        if done:
            self._stats.caught_up()
            _log.info("caught up in %.1f s by %s", now - self._began, _amount(last))
        else:
            self._stats.catch_up = None
            _log.warning(
                "%s did not send its checkpoint to the end; asking again when more is missed", last.peer
            )


def _amount(progress: CatchUp) -> str:
    return f"{progress.rows:,} rows, {progress.size / 1e6:.1f} MB"
