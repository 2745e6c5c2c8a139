"""Many seeds, on all cores, and what they exercised together."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, process_time
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.fleet import call_on
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.plan.plan import draw_plan
from epaxos.simulation.run import Outcome, Run
from epaxos.simulation.sweep.workers import Lost, call_all, cores

MOST_FAILURES: Final = 10
"""A sweep that has met so many failing seeds ends: more of them would say no more."""

SEED_LIMIT: Final = 300.0
"""Seconds of CPU that a seed may take, a hundred times what the largest ones do on a slow machine."""


class Failure(NamedTuple):
    """A seed that did not end clean; `replays` says whether it came to an end at all, so that it can be minimised."""

    seed: int
    verdict: Verdict
    text: str
    replays: bool = True


@dataclass(slots=True)
class Summary:
    """What some seeds came to.

    `marks` counts events, `met` the seeds in which each of them happened; `cpu` is in seconds of processes, `seconds`
    in those of a clock on the wall. `interrupted` says that it is of what had been done when Ctrl-C came.
    """

    seeds: int = 0
    commands: int = 0
    actions: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

    @property
    def verdict(self) -> Verdict:
        """The worst of all verdicts."""
        return max((failure.verdict for failure in self.failures), default=Verdict.CLEAN)

    def add(self, other: Summary) -> None:
        """Take in what other seeds came to."""
        self.seeds += other.seeds
        self.commands += other.commands
        self.actions += other.actions
        self.cpu += other.cpu
        self.failures += other.failures
        self.marks.update(other.marks)
        self.met.update(other.met)

    def add_outcome(self, outcome: Outcome) -> None:
        """Take in one run."""
        self.seeds += 1
        self.commands += outcome.commands
        self.actions += outcome.actions
        self.marks.update(outcome.marks)
        self.met.update(name for name, count in outcome.marks.items() if count)
        if outcome.verdict is not Verdict.CLEAN:
            self.failures.append(Failure(outcome.options.seed, outcome.verdict, outcome.text))

    def add_lost(self, seed: int, lost: Lost) -> None:
        """Take in a seed without an outcome: it hung, or its process died."""
        self.seeds += 1
        verdict = Verdict.LIVENESS if lost.hung else Verdict.CRASH
        self.failures.append(Failure(seed, verdict, lost.text, replays=False))


Progress: TypeAlias = Callable[[Summary], None]
"""Is shown the summary so far whenever it has grown."""


def run_seed(seed: int, overrides: Overrides = NO_OVERRIDES) -> Outcome:
    """Run one seed.

    Raises:
        ValueError: an override out of its range.
    """
    return Run(draw_plan(seed, overrides)).execute()


RunSeed: TypeAlias = Callable[[int, Overrides], Any]
"""Runs one seed of a system; a function of a module, which gives an `Outcome` of its kind."""


def run_seeds(
    seeds: Sequence[int], overrides: Overrides = NO_OVERRIDES, run: RunSeed | None = None
) -> Summary:
    """Run some seeds in this process."""
    summary = Summary()
    began = process_time()
    # A run makes few cycles and is soon over; looking for them all the time takes a tenth of it.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for seed in seeds:
            summary.add_outcome((run or run_seed)(seed, overrides))
    finally:
        if collecting:
            gc.enable()
        gc.collect()
    summary.cpu = process_time() - began
    return summary


def sweep(
    seeds: Sequence[int],
    overrides: Overrides = NO_OVERRIDES,
    jobs: int | None = None,
    duration: float | None = None,
    progress: Progress | None = None,
    run: RunSeed | None = None,
    scheduler: str | None = None,
) -> Summary:
    """Run seeds in several processes, by default one for each core that this one may use.

    Or, with the address of a `scheduler`, on the workers of a fleet.

    Begins no seed after `duration` seconds, nor once `MOST_FAILURES` have failed. A KeyboardInterrupt ends it at once,
    and the summary then is of what had been done.

    Raises:
        ValueError: an override out of its range.
        ConfigError: see `fleet.Fleet`.
    """
    draw_plan(0, overrides)
    total = Summary()
    began = monotonic()
    alone = partial(_run_alone, overrides=overrides, run=run)
    wanted = _wanted(seeds, total, None if duration is None else began + duration)
    limit = seed_limit(overrides)
    if scheduler is None:
        results = call_all(alone, wanted, jobs or cores(), limit)
    else:
        results = call_on(scheduler, alone, wanted, len(seeds), limit)
    try:
        with closing(results):
            for seed, result in results:
                if isinstance(result, Lost):
                    total.add_lost(seed, result)
                else:
                    total.add(result)
                total.seconds = monotonic() - began
                if progress is not None:
                    progress(total)
    except KeyboardInterrupt:
        total.interrupted = True
    total.seconds = monotonic() - began
    total.failures.sort()
    return total


def seed_limit(overrides: Overrides) -> float:
    """How many seconds of CPU a seed may take; with very many commands, more."""
    return SEED_LIMIT + (overrides.operations or 0) / 20


def _wanted(seeds: Iterable[int], total: Summary, end: float | None) -> Iterator[int]:
    """The seeds that there is still a reason to begin."""
    for seed in seeds:
        if len(total.failures) >= MOST_FAILURES or (end is not None and monotonic() >= end):
            return
        yield seed


def _run_alone(seed: int, overrides: Overrides, run: RunSeed | None) -> Summary:
    return run_seeds((seed,), overrides, run)
