"""The progress bar of a run, on standard error."""

from __future__ import annotations

from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

_EVERY: Final = 3
"""The load reports ten times a second; drawing costs CPU that the replicas want."""


class ProgressBar:
    """A bar that is drawn by the load's own thread, so that no other competes with it.

    A context manager; `update` is a `load.Progress`.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("load"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[answered]:>12,} commands"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("load", total=1.0, answered=0)
        self._calls = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, share: float, answered: int) -> None:
        """Show that this share of the load (0 to 1) is done and so many commands are answered."""
        self._calls += 1
        if self._calls % _EVERY == 0:
            self._bar.update(self._task, completed=share, answered=answered, refresh=True)
