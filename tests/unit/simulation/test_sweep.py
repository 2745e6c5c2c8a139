from __future__ import annotations

import os
import signal
import time

import pytest

import broken_cores
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.run import Outcome
from epaxos.simulation.sweep import sweep as module
from epaxos.simulation.sweep import workers
from epaxos.simulation.sweep.sweep import MOST_FAILURES, Failure, Summary, run_seed, run_seeds, sweep

pytestmark = pytest.mark.slow

SEEDS = range(3, 9)


def test_a_sweep_comes_to_what_its_seeds_do() -> None:
    expected = run_seeds(SEEDS)
    shown: list[int] = []
    found = sweep(SEEDS, jobs=2, progress=lambda summary: shown.append(summary.seeds))
    assert (found.seeds, found.commands, found.actions) == (6, expected.commands, expected.actions)
    assert (found.marks, found.met, found.failures) == (expected.marks, expected.met, [])
    assert shown == list(range(1, 7))
    assert found.cpu > 0
    assert found.verdict is Verdict.CLEAN


def test_overrides_reach_every_seed() -> None:
    found = sweep(range(3), Overrides(replicas=1, faults=frozenset(), operations=5), jobs=1)
    assert found.commands == 15


def test_an_override_out_of_its_range() -> None:
    with pytest.raises(ValueError, match="--replicas 99"):
        sweep(SEEDS, Overrides(replicas=99))


def test_a_sweep_ends_in_time() -> None:
    began = time.monotonic()
    found = sweep(range(10**9), jobs=1, duration=0.3)
    assert 0 < found.seeds < 10**6
    assert time.monotonic() - began < 30


def test_a_sweep_ends_after_some_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.hasty(monkeypatch)
    found = sweep(range(10**9), jobs=1)
    assert len(found.failures) in (MOST_FAILURES, MOST_FAILURES + 1)  # one more has begun by then
    assert found.seeds < 100
    assert found.verdict is Verdict.SAFETY
    assert found.failures == sorted(found.failures)


def test_seeds_that_hang_or_kill_their_process_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(seed: int, _: Overrides = NO_OVERRIDES) -> Outcome:
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        while seed == 4:
            pass
        return run_seed(seed, Overrides(3, frozenset(), 1))  # far from the limit, also on a busy machine

    monkeypatch.setattr(module, "run_seed", run)
    monkeypatch.setattr(module, "SEED_LIMIT", 1.5)
    monkeypatch.setattr(
        workers, "PATIENCE", 60
    )  # a busy machine may give a process less than a tenth of a core
    found = sweep(range(6), jobs=2)
    assert found.seeds == 6
    assert found.failures == [
        Failure(2, Verdict.CRASH, "its process was killed by SIGKILL (out of memory?)", replays=False),
        Failure(4, Verdict.LIVENESS, "did not end within 1.5 s of CPU", replays=False),
    ]
    assert found.verdict is Verdict.CRASH


def test_an_interrupt_leaves_what_had_been_done() -> None:
    def interrupt(summary: Summary) -> None:
        if summary.seeds == 3:
            raise KeyboardInterrupt

    found = sweep(range(10**9), jobs=2, progress=interrupt)
    assert found.interrupted
    assert found.seeds == 3
