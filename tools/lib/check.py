"""Runs everything a change must pass: linters, strict types, the import contract, all tests.

Every step runs, also after one has failed. `--fast` leaves out the tests that start processes, sweep seeds or are
marked slow. All other arguments are pytest's; paths are taken from the repository's root.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from shared.processes import Children, Interrupted, catch_signals

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(sys.executable).parent
TIMES = PROGRAMS.parent / ".test-seconds.json"  # of the last runs that passed, by kind
KEPT = 9  # of which so many are kept
QUIET: Final = {"--fast": 45, "all": 320}  # seconds on two quiet cores: what to expect before any run
# Two more than the two cores: tests that start processes wait most of their time.
WORKERS: Final = 4
# Leaves the bytecode of all tests behind, and of what they import, while `mypy` keeps one core busy: the workers,
# which begin at the same moment, would each compile all of it.
COMPILE: Final = ("pytest", "--numprocesses=1", "-k", "none_has_this_name")
FAST: Final = ("tests/unit", "tests/scenario", "-m", "not slow")


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
        Step(
            "tests",
            ("pytest", f"--numprocesses={WORKERS}", "--dist=worksteal", "--instafail", *pytest_arguments),
        ),
    ]


def main(argv: Sequence[str]) -> int:
    """Run all steps and print the verdict; 0 if all passed."""
    catch_signals()
    kind = "--fast" if "--fast" in argv else "all"
    chosen = [argument for argument in argv if argument != "--fast"]
    is_whole = not chosen
    if is_whole:
        print(f"tools/test: {expectation(kind)}", flush=True)
    try:
        with Children(stop_signal=signal.SIGINT) as children:  # pytest then tears its clusters down
            results = run_all(steps([*FAST, *chosen] if kind == "--fast" else chosen), children)
    except Interrupted as interruption:
        print(f"tools/test: {interruption}", flush=True)
        return interruption.status
    print(verdict(results), flush=True)
    if any(result.status for result in results):
        return 1
    if is_whole:
        remember(kind, sum(result.seconds for result in results))
    return 0


def expectation(kind: str) -> str:
    """How long a run of this kind takes, from those that passed here, else as on a quiet machine."""
    seconds = _times().get(kind)
    if not seconds:
        return f"takes about {QUIET[kind]} s on two quiet cores"
    spread = f"{min(seconds):.0f} to {max(seconds):.0f} in {len(seconds)} runs"
    return f"usually takes {median(seconds):.0f} s here ({spread})"


def remember(kind: str, seconds: float) -> None:
    """Keep how long a run took."""
    times = _times()
    times[kind] = [*times.get(kind, []), round(seconds, 1)][-KEPT:]
    TIMES.write_text(json.dumps(times))


def _times() -> dict[str, list[float]]:
    with suppress(OSError, ValueError):
        times: dict[str, list[float]] = json.loads(TIMES.read_text())
        return times
    return {}


def run_all(chosen: Sequence[Step], children: Children) -> list[Result]:
    """Run one step after the other; beside those before the tests, which come last, all is compiled."""
    with Path(os.devnull).open("wb") as nowhere:
        compiling = children.start([PROGRAMS / COMPILE[0], *COMPILE[1:]], output=nowhere, cwd=ROOT)
    results = [run(step, children) for step in chosen[:-1]]
    children.wait(compiling)
    return [*results, run(chosen[-1], children)]


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
