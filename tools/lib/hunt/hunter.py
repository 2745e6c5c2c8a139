"""Runs hunts in several processes at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from epaxos.simulation.fleet import ROOT, Command, Fleet
from hunt.task import Found, Task
from shared.processes import POLL, Children, pause

PROGRAM: Final = Path(__file__).resolve().parents[1] / "run.py"


class Hunter:
    """Starts `jobs` hunts at a time as `children`; `folder` takes their outputs, `line` ends with this program."""

    def __init__(self, jobs: int, children: Children, folder: Path, line: int) -> None:
        self._jobs = jobs
        self._children = children
        self._folder = folder
        self._line = line

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Found]]:
        """Do all tasks; their indexes and what came of them, as they end.

        Raises:
            Interrupted: a signal came first.
        """
        waiting = list(enumerate(tasks))
        under_way: dict[int, subprocess.Popen[bytes]] = {}
        while waiting or under_way:
            while waiting and len(under_way) < self._jobs:
                index, task = waiting.pop(0)
                under_way[index] = self._start(index, task)
            ended = [index for index, process in under_way.items() if process.poll() is not None]
            for index in ended:
                del under_way[index]
                yield index, self._read(index)
            if not ended:
                pause(POLL)

    def _start(self, index: int, task: Task) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(PROGRAM), "hunt", json.dumps(task)]
        with self._output(index).open("wb") as output:
            return self._children.start(command, output=output, lifeline=self._line)

    def _output(self, index: int) -> Path:
        return self._folder / f"{index}.json"

    def _read(self, index: int) -> Found:
        return _found(self._output(index).read_text(encoding="utf-8"))


class FleetHunter:
    """Hunts on the workers of a scheduler of Dask, one in a process of its own as here."""

    def __init__(self, scheduler: str) -> None:
        self._scheduler = scheduler

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Found]]:
        """Do all tasks, as `Hunter` does.

        Raises:
            ConfigError, FleetError: see `Fleet`.
        """
        with Fleet(self._scheduler) as fleet:
            program = str(PROGRAM.relative_to(ROOT))
            commands = [Command((program, "hunt", json.dumps(task))) for task in tasks]
            for index, done in fleet.run(enumerate(commands)):
                yield index, _found((done.output + done.errors).decode(errors="replace"))


def _found(text: str) -> Found:
    """What a process that has ended printed; a traceback counts as a crash."""
    try:
        return Found(*json.loads(text))
    except (ValueError, TypeError):
        return Found("CRASH", "traceback", text, 0, 0.0)
