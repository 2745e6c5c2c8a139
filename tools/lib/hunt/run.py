"""What a hunt does once its patches are in place: runs seeds of the simulator, or plays a directed schedule.

Everything that is hunted is imported here, so this module may be imported only after `mutation.install`.
"""

from __future__ import annotations

import gc
import select
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epaxos.errors import InvariantError
from epaxos.simulation import commit as transactions
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.groups import run as groups
from epaxos.simulation.groups.plan import draw_plan as draw_groups
from epaxos.simulation.plan.drawing import chain, draw_options, rivals, steady
from epaxos.simulation.plan.fates import CHAIN, RIVALS, STEADY, Bias, Mute
from epaxos.simulation.plan.faults import draw_faults
from epaxos.simulation.plan.options import Overrides, stream
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import draw_workload
from epaxos.simulation.registers import run as registers
from epaxos.simulation.registers.plan import draw_plan as draw_registers
from epaxos.simulation.run import Outcome, Run
from hunt.task import Found, Task
from mutants.mutation import Draw

if TYPE_CHECKING:
    import pytest

ROOT: Final = Path(__file__).resolve().parents[3]

MUTED: Final = 0.6
"""How likely a replica is mute in a kind of messages, and then towards another replica."""

SLOW: Final = 30.0
"""How much longer the slow kinds of messages take."""

COLLECT_EVERY: Final = 50
"""After so many seeds cycles are looked for; a run makes few, and looking all the time takes a tenth of it."""


def hunt(task: Task) -> Found:
    """Run seeds of the simulator until one does not end clean."""
    gc.disable()
    tried = 0
    for tried, seed in enumerate(range(task.first, task.first + task.seeds), 1):
        outcome = run(seed, task.draw)
        if outcome.verdict is not Verdict.CLEAN:
            return _found(outcome.verdict.name, outcome.text, tried)
        if tried % COLLECT_EVERY == 0:
            gc.collect()
        if _abandoned():
            break
    return _found("CLEAN", "", tried)


def run(seed: int, wanted: Draw) -> Outcome | groups.Outcome | registers.Outcome | transactions.Result:
    """Run a seed of the system that is wanted."""
    if wanted.system == "transactions":
        return transactions.run_seed(seed)
    if wanted.system == "groups":
        options: dict[str, Any] = dict(wanted.options)
        return groups.Run(draw_groups(seed, overrides(wanted._replace(system="")), **options)).execute()
    if wanted.system == "registers":
        given: dict[str, Any] = dict(wanted.options)
        plan = draw_registers(seed, overrides(wanted._replace(system="")), **given)
        return registers.Run(plan).execute()
    return Run(draw(seed, wanted)).execute()


def overrides(wanted: Draw) -> Overrides:
    """What is decided instead of the seed."""
    faults = None if wanted.faults is None else frozenset(wanted.faults.split(","))
    return Overrides(wanted.replicas, faults, wanted.operations, wanted.system or "epaxos")


def draw(seed: int, wanted: Draw) -> Plan:
    """The plan of a seed of clusters."""
    options = draw_options(seed, overrides(wanted))
    changes: dict[str, Any] = dict(wanted.options)
    arranged = {RIVALS: rivals, CHAIN: chain, STEADY: steady}.get(changes.get("leaders", ""))
    options = arranged(options) if arranged else options
    if wanted.muted:
        changes["mutes"] = draw_mutes(seed, wanted.muted, options.replicas)
    if wanted.slow:
        changes["bias"] = tuple(Bias(kind, 0.0, SLOW) for kind in wanted.slow)
    if "mutes" in changes:
        changes["mutes"] = tuple(Mute(*mute) for mute in changes["mutes"])
    changes |= {name: options.delay * value for name, value in wanted.times}
    options = replace(options, **changes)
    return Plan(options, draw_workload(options), draw_faults(options))


def draw_mutes(seed: int, kinds: Sequence[str], n: int) -> tuple[Mute, ...]:
    """Which links lose which of the kinds."""
    random = stream(seed, "hunt")
    return tuple(
        Mute(kind, sender, receiver)
        for sender in range(n)
        for kind in kinds
        if random.random() < MUTED
        for receiver in range(n)
        if receiver != sender and random.random() < MUTED
    )


def play(task: Task) -> Found:
    """Play a directed schedule: a transcript of tests/scenario, or a test, "file::function"."""
    sys.path.append(str(ROOT / "tests" / "support"))
    file, _, test = task.schedule.partition("::")
    try:
        if test:
            return _run_test(ROOT / file, test)
        return _play_transcript(ROOT / "tests" / "scenario" / file)
    except InvariantError as error:
        return _found("SAFETY", f"a core stops: {error}", 0)


def _play_transcript(file: Path) -> Found:
    from scenario.mail import ScenarioError  # noqa: PLC0415 - what tests share is no part of the program
    from scenario.script import Script  # noqa: PLC0415

    try:
        Script(file.read_text(encoding="utf-8"))
    except ScenarioError as error:
        return _found("SAFETY", f"schedule: {error}", 0)
    return _found("CLEAN", "", 0)


class _Watcher:
    """What went wrong in the tests that pytest runs: the first error, and where."""

    def __init__(self) -> None:
        self.found: pytest.ExceptionInfo[BaseException] | None = None
        self.passed = 0

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """See pytest."""
        self.found = self.found or call.excinfo
        self.passed += call.when == "call" and call.excinfo is None


def _run_test(file: Path, name: str) -> Found:
    """Run a test; only what tests assert themselves counts, not an assertion that fails in the program."""
    import pytest  # noqa: PLC0415 - seeds need none

    watcher = _Watcher()
    less = ("--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler")
    with redirect_stdout(StringIO()):
        pytest.main(
            [f"{file}::{name}", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), *less], [watcher]
        )
    if watcher.found is None:
        return _found("CLEAN" if watcher.passed else "CRASH", "" if watcher.passed else f"no test {name}", 0)
    where = watcher.found.traceback[-1]
    if isinstance(watcher.found.value, pytest.fail.Exception) or (
        isinstance(watcher.found.value, AssertionError) and Path(where.path).is_relative_to(ROOT / "tests")
    ):
        return _found("SAFETY", f"directed test: {str(where.statement).strip()}".partition("\n")[0], 0)
    return _found("CRASH", str(watcher.found.getrepr()), 0)


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
