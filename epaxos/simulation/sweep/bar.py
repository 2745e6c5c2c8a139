"""The progress bar of a sweep, on standard error."""

from __future__ import annotations

from time import monotonic
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from epaxos.simulation.sweep.sweep import Summary

_EVERY: Final = 0.2
"""Seconds between two drawings; the seeds want the CPU."""


class ProgressBar:
    """A bar over `seeds` seeds or `duration` seconds, whichever ends first.

    Drawn by the caller's own thread: processes are forked beside it, which another thread would endanger. A context
    manager; `update` is a `sweep.Progress`.
    """

    def __init__(self, console: Console, seeds: int, duration: float | None) -> None:
        self._seeds = seeds
        self._duration = duration
        self._drawn = 0.0
        self._bar = Progress(
            TextColumn("seeds"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn(
                "{task.fields[done]:,} done, {task.fields[rate]:,.1f}/s, {task.fields[failed]} failed"
            ),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("seeds", total=1.0, done=0, rate=0.0, failed=0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, summary: Summary) -> None:
        """Show how far the sweep is."""
        if monotonic() - self._drawn < _EVERY:
            return
        self._drawn = monotonic()
        share = summary.seeds / self._seeds
        if self._duration is not None:
            share = max(share, min(1.0, summary.seconds / self._duration))
        self._bar.update(
            self._task,
            completed=share,
            done=summary.seeds,
            rate=summary.seeds / summary.seconds if summary.seconds else 0.0,
            failed=len(summary.failures),
            refresh=True,
        )
