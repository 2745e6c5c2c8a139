"""Hunts one mutant in this process: seed after seed, until one does not end clean. `tools/mutants` starts it.

Reads what to do as JSON from its argument (`hunt.task.Task`) and prints as JSON what came of it (`hunt.task.Found`).
"""

from __future__ import annotations

import json
import sys

from hunt.task import Found, Task
from mutants import catalogue
from mutants.mutation import MovedError, Patch, install


def main(argv: list[str]) -> int:
    """Do the task and print what was found."""
    task = Task.load(argv[0])
    try:
        install(patches_of(task))
        from hunt.run import hunt, play  # noqa: PLC0415 - imports what the patches change

        found = play(task) if task.schedule else hunt(task)
    except MovedError as error:
        found = Found("MOVED", "", str(error), 0, 0.0)
    print(json.dumps(found), flush=True)
    return 0


def patches_of(task: Task) -> tuple[Patch, ...]:
    """What to change in this process."""
    patches = catalogue.find(task.mutant).patches if task.mutant else ()
    return (*patches, *catalogue.CONSEQUENCES_ONLY) if task.consequences else patches


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
