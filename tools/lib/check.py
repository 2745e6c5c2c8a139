"""Runs everything a change must pass: linters, strict types, the import contract, all tests.

Every step runs, also after one has failed. Arguments are pytest's; paths are taken from the
repository's root.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.processes import Children, Interrupted, catch_signals

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(sys.executable).parent


class Step(NamedTuple):
    """One command, by the name it has in the verdict."""

    name: str
    command: tuple[str, ...]


class Result(NamedTuple):
    """How one step went, and how long it took."""

    name: str
    status: int
    seconds: float


def steps(pytest_arguments: Sequence[str]) -> list[Step]:
    """What to run; pytest comes last, so that its summary stands at the end of the output."""
    return [
        Step("lint", ("ruff", "check", ".")),
        Step("format", ("ruff", "format", "--check", ".")),
        Step("types", ("mypy",)),
        Step("imports", ("lint-imports", "--no-logo")),
        Step("tests", ("pytest", "--numprocesses=2", "--dist=worksteal", *pytest_arguments)),
    ]


def main(argv: Sequence[str]) -> int:
    """Run all steps and print the verdict; 0 if all passed."""
    catch_signals()
    try:
        with Children(stop_signal=signal.SIGINT) as children:  # pytest then tears its clusters down
            results = [run(step, children) for step in steps(argv)]
    except Interrupted as interruption:
        print(f"tools/test: {interruption}", flush=True)
        return interruption.status
    print(verdict(results), flush=True)
    return int(any(result.status for result in results))


def run(step: Step, children: Children) -> Result:
    """Run one step with its output shown as it comes."""
    program, *arguments = step.command
    print(f"--- {step.name}: {' '.join(step.command)}", flush=True)
    began = time.monotonic()
    status = children.wait(children.start([PROGRAMS / program, *arguments], cwd=ROOT))
    return Result(step.name, status, time.monotonic() - began)


def verdict(results: Sequence[Result]) -> str:
    """One line: what failed, or that nothing did, and how long each step took."""
    times = ", ".join(f"{result.name} {result.seconds:.1f} s" for result in results)
    failed = [f"{result.name} (exit status {result.status})" for result in results if result.status]
    outcome = f"FAILED: {', '.join(failed)}" if failed else "all steps passed"
    return f"tools/test: {outcome} [{times}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
