"""Hunts one mutant in this process: seed after seed, until one does not end clean. `tools/mutants` starts it.

Reads what to do as JSON from its argument (`Task`) and prints as JSON what came of it (`Found`). Nothing of `epaxos` may
be imported before the patches are in place, hence the imports inside functions.
"""

from __future__ import annotations

import gc
import json
import select
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import mutations
from mutation import Draw, MovedError, Patch, install

ROOT: Final = Path(__file__).resolve().parent.parent.parent
COLLECT_EVERY: Final = 50
"""After so many seeds cycles are looked for; a run makes few, and looking all the time takes a tenth of it."""


class Task(NamedTuple):
    """What to hunt: a mutant by name, or "" for the program as it is.

    `seeds` is how many to try at most, from 0. With `consequences`, checks that assert a rule are taken away.
    """

    mutant: str
    draw: Draw
    seeds: int
    consequences: bool = False
    schedule: str = ""

    @classmethod
    def load(cls, text: str) -> Task:
        """The task that `json.dumps` of a task gives."""
        mutant, draw, *rest = json.loads(text)
        *fields, options = draw
        return cls(mutant, Draw(*fields, tuple((name, value) for name, value in options)), *rest)


class Found(NamedTuple):
    """What came of a task.

    verdict   name of a `Verdict`; CLEAN if nothing was found
    checker   which one found it, "liveness" or "traceback"
    text      what it said
    seeds     how many were tried, that of the finding counted
    seconds   of this process
    """

    verdict: str
    checker: str
    text: str
    seeds: int
    seconds: float


def main(argv: list[str]) -> int:
    """Do the task and print what was found."""
    task = Task.load(argv[0])
    try:
        install(patches_of(task))
        found = play(task) if task.schedule else hunt(task)
    except MovedError as error:
        found = Found("MOVED", "", str(error), 0, 0.0)
    print(json.dumps(found), flush=True)
    return 0


def patches_of(task: Task) -> tuple[Patch, ...]:
    """What to change in this process."""
    patches = mutations.find(task.mutant).patches if task.mutant else ()
    return (*patches, *mutations.CONSEQUENCES_ONLY) if task.consequences else patches


def hunt(task: Task) -> Found:
    """Run seeds of the simulator until one does not end clean."""
    from epaxos.simulation.checkers.violation import Verdict
    from epaxos.simulation.run import Run

    gc.disable()
    seed = -1
    for seed in range(task.seeds):
        outcome = Run(draw(seed, task.draw)).execute()
        if outcome.verdict is not Verdict.CLEAN:
            return _found(outcome.verdict.name, outcome.text, seed + 1)
        if seed % COLLECT_EVERY == COLLECT_EVERY - 1:
            gc.collect()
        if _abandoned():
            break
    return _found("CLEAN", "", seed + 1)


def draw(seed: int, wanted: Draw) -> Any:
    """The plan of a seed (`epaxos.simulation.cluster.Plan`)."""
    from epaxos.simulation.cluster import Plan
    from epaxos.simulation.faults import draw_faults
    from epaxos.simulation.options import Overrides, draw_options
    from epaxos.simulation.workload import draw_workload

    faults = None if wanted.faults is None else frozenset(wanted.faults.split(","))
    options = draw_options(seed, Overrides(wanted.replicas, faults, wanted.operations))
    fixed: dict[str, Any] = dict(wanted.options)
    options = replace(options, **fixed)
    return Plan(options, draw_workload(options), draw_faults(options))


def play(task: Task) -> Found:
    """Play a directed schedule of tests/scenario."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from epaxos.errors import InvariantError
    from scenario.script import Script
    from scenario.world import ScenarioError

    try:
        Script((ROOT / "tests" / "scenario" / task.schedule).read_text(encoding="utf-8"))
    except ScenarioError as error:
        return _found("SAFETY", f"schedule: {error}", 0)
    except InvariantError as error:
        return _found("SAFETY", f"a core stops: {error}", 0)
    return _found("CLEAN", "", 0)


def _found(verdict: str, text: str, seeds: int) -> Found:
    if verdict == "CLEAN":
        checker = ""
    elif verdict == "SAFETY":
        checker = text.partition(":")[0]
    else:
        checker = {"LIVENESS": "progress"}.get(verdict, "traceback")
    return Found(verdict, checker, text, seeds, time.process_time())


def _abandoned() -> bool:
    """Whether the program that started this one has ended: standard input is a pipe that ends with it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
