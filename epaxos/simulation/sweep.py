"""Many seeds, on all cores, and what they exercised together."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from time import process_time
from typing import NamedTuple, TypeAlias

from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.cluster import draw_plan
from epaxos.simulation.options import NO_OVERRIDES, Overrides
from epaxos.simulation.run import Outcome, Run

CHUNK = 20
"""How many seeds a process takes at a time."""


class Failure(NamedTuple):
    """A seed that did not end clean."""

    seed: int
    verdict: Verdict
    text: str


@dataclass(slots=True)
class Summary:
    """What some seeds came to.

    `marks` counts events, `met` the seeds in which each of them happened; `cpu` is in seconds of processes.
    """

    seeds: int = 0
    commands: int = 0
    actions: int = 0
    cpu: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

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


Progress: TypeAlias = Callable[[Summary], None]
"""Is shown the summary so far whenever it has grown."""


def run_seed(seed: int, overrides: Overrides = NO_OVERRIDES) -> Outcome:
    """Run one seed.

    Raises:
        ValueError: an override out of its range.
    """
    return Run(draw_plan(seed, overrides)).execute()


def run_seeds(seeds: Sequence[int], overrides: Overrides = NO_OVERRIDES) -> Summary:
    """Run some seeds in this process."""
    summary = Summary()
    began = process_time()
    # A run makes few cycles and is soon over; looking for them all the time takes a tenth of it.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for seed in seeds:
            summary.add_outcome(run_seed(seed, overrides))
    finally:
        if collecting:
            gc.enable()
        gc.collect()
    summary.cpu = process_time() - began
    return summary


def sweep(
    seeds: range,
    overrides: Overrides = NO_OVERRIDES,
    jobs: int | None = None,
    progress: Progress | None = None,
    most_failures: int = 10,
) -> Summary:
    """Run seeds in several processes, by default as many as there are cores for this one.

    Ends early once `most_failures` seeds have failed. A KeyboardInterrupt ends it too: the summary then is of what
    had been done.
    """
    total = Summary()
    jobs = jobs or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(jobs) as pool:
        chunks = _chunks(seeds)
        under_way = {pool.submit(run_seeds, chunk, overrides) for chunk in islice(chunks, 2 * jobs)}
        try:
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                _take(done, total, progress)
                if len(total.failures) < most_failures:
                    under_way |= {
                        pool.submit(run_seeds, chunk, overrides) for chunk in islice(chunks, len(done))
                    }
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    total.failures.sort()
    return total


def _chunks(seeds: range) -> Iterator[range]:
    return (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))


def _take(done: set[Future[Summary]], total: Summary, progress: Progress | None) -> None:
    for future in done:
        total.add(future.result())
    if progress is not None:
        progress(total)
