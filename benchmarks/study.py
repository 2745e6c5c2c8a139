"""Cases in turn, cycle by cycle, and what their figures say: medians, ranges, and ratios to a baseline.

Machines are shared and change their speed, so cases take turns (A B C, C B A, A B C …) and each is compared with the
baseline of its own cycle: the median of these ratios says more than any single figure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.cluster import ROOT, Cluster, Settings, running
from shared.processes import pause

PRIMING: Final = "200000"
"""Commands before the first case: a cluster's first second is much cheaper, as its maps are still small."""

TINY: Final = "300"

Sample = dict[str, float]
"""What one run of a case measured, by the names of `FIGURES`."""


class Figure(NamedTuple):
    """How a figure is headed and written."""

    title: str
    pattern: str = "{:,.2f}"

    def show(self, value: float | None) -> str:
        """A value as text; a dash where there is none."""
        return "-" if value is None else self.pattern.format(value)


FIGURES: Final[Mapping[str, Figure]] = {
    "throughput": Figure("commands/s", "{:,.0f}"),
    "cpu": Figure("CPU, µs a command and replica"),
    "cpu_all": Figure("CPU of all servers, µs a command", "{:,.1f}"),
    "cpu_kib": Figure("CPU, µs a KiB and replica"),
    "faults": Figure("page faults a command and replica"),
    "faults_kib": Figure("page faults a KiB and replica"),
    "fresh": Figure("a fresh KiB of memory, µs"),
    "client": Figure("the load's own CPU, µs a command", "{:,.1f}"),
    "mean": Figure("mean ms"),
    "p50": Figure("p50 ms"),
    "p99": Figure("p99 ms"),
    "p999": Figure("p99.9 ms"),
    "max": Figure("longest ms", "{:,.1f}"),
    "floor": Figure("floor ms", "{:,.3f}"),
    "to_floor": Figure("p50 / floor", "{:,.1f}"),
    "sync": Figure("a sync, ms", "{:,.2f}"),
    "fast": Figure("fast path", "{:.0%}"),
    "errors": Figure("errors", "{:,.0f}"),
    "memory": Figure("memory of a replica, MB", "{:,.0f}"),
    "remembered": Figure("remembered of keys, numbers a replica", "{:,.0f}"),
    "bytes_key": Figure("bytes a key and replica", "{:,.0f}"),
    "mb_s": Figure("MB/s", "{:,.1f}"),
    "round_p999": Figure("99.9 % of rounds below, ms", "{:,.0f}"),
    "round_max": Figure("all rounds below, ms", "{:,.0f}"),
    "fill_max": Figure("all rounds below while the keys were written, ms", "{:,.0f}"),
    "page_max": Figure("longest page, ms", "{:,.0f}"),
    "listed": Figure("keys listed", "{:,.0f}"),
    "told": Figure("changes told", "{:,.0f}"),
    "watching": Figure("the watchers' CPU, µs a change", "{:,.1f}"),
    "gaps": Figure("gaps told", "{:,.0f}"),
    "gap": Figure("longest time without an answer, ms", "{:,.0f}"),
    "gap_away": Figure("the same, clients of the one killed, ms", "{:,.0f}"),
    "took": Figure("took, s"),
    "serving": Figure("serving again after, s"),
    "optimum": Figure("least that the map allows, ms", "{:,.0f}"),
    "commit": Figure("commit p50, ms", "{:,.0f}"),
    "commit_p99": Figure("commit p99, ms", "{:,.0f}"),
    "execution": Figure("answer p50, ms", "{:,.0f}"),
    "execution_p99": Figure("answer p99, ms", "{:,.0f}"),
}


@dataclass(frozen=True)
class Case:
    """A load on a cluster with these settings; `x` and `group` say where it stands in a picture."""

    name: str
    load: Sequence[str] = ()
    settings: Settings = field(default_factory=dict)
    n: int = 3
    x: float | None = None
    group: str = ""
    python: str = sys.executable

    @property
    def cluster(self) -> tuple[Any, ...]:
        """What tells the cluster that it needs from others."""
        return (sorted(self.settings.items()), self.n, self.python)

    def describe(self) -> str:
        """Its settings and its load, as a person would write them."""
        settings = ", ".join(f"{key} = {value}" for key, value in self.settings.items())
        load = " ".join(self.load) or "the defaults of epaxos bench"
        return f"{self.n} replicas, {settings or 'default settings'}; {load}"


class Picture(NamedTuple):
    """How a study is drawn: `kind` is `lines`, over the cases' `x`, or `bars`; `figure` is what is drawn."""

    kind: str
    figure: str
    across: str = ""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Options:
    """How much of everything: a `duration` (s) of each run, and so many cycles; `ports` are the first ones used.

    `quick` leaves out what takes minutes; `tiny` measures nothing worth reading, and shows that it works. `only` are
    texts of which one is in the name of each case that is measured, beside the baseline; all are, without any. What
    runs in virtual time does so on the workers of a `scheduler` of Dask, if there is one.
    """

    cycles: int = 5
    duration: float = 3.0
    quick: bool = False
    tiny: bool = False
    ports: int = 25_000
    pythons: Sequence[str] = ()
    only: Sequence[str] = ()
    scheduler: str = ""

    def are_for(self, name: str) -> bool:
        """Whether something of this name is to be measured."""
        return not self.only or any(text in name for text in self.only)


@dataclass
class Results:
    """What a study measured: samples by case, one a cycle; `described` tells how each case was set.

    `series` has what a picture over time needs, `remarks` what a reader must know beside the table. What `is_whole` has
    all cases of its study; what has not renews no table of the document.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    is_whole: bool = True

    def add(self, case: str, sample: Sample) -> None:
        """One more run of a case."""
        self.samples.setdefault(case, []).append(sample)

    def values(self, case: str, figure: str) -> list[float]:
        """All that was measured, cycle by cycle."""
        return [sample[figure] for sample in self.samples.get(case, []) if figure in sample]

    def median(self, case: str, figure: str) -> float | None:
        """The median over the cycles; None if nothing was measured."""
        values = self.values(case, figure)
        return median(values) if values else None

    def ratio(self, case: str, other: str, figure: str) -> float | None:
        """The median of one case's ratio to another, cycle by cycle."""
        pairs = zip(self.samples.get(case, []), self.samples.get(other, []), strict=False)
        ratios = [a[figure] / b[figure] for a, b in pairs if figure in a and b.get(figure)]
        return median(ratios) if ratios else None


@dataclass(frozen=True)
class Study:
    """A benchmark: its cases, and what is shown of them.

    The first of `figures` is the main one: it is shown with its range and its ratio to the `baseline`. Cases that are
    named `LOAD: NAME` are compared with the first of their load. `measure` runs the cases; by default each is one load
    on its cluster.
    """

    name: str
    title: str
    cases: Sequence[Case]
    figures: Sequence[str]
    baseline: str
    picture: Picture | None = None
    measure: Callable[[Study, Options], Results] = lambda study, options: interleave(study, options, one_load)

    def baseline_of(self, case: str, results: Results) -> str:
        """The case that another is compared with."""
        load = load_of(case)
        return next(name for name in results.samples if load_of(name) == load) if load else self.baseline

    def of(self, names: Sequence[str]) -> Study:
        """The same of some of its cases, of which the first stands for a baseline that is not among them."""
        cases = [case for case in self.cases if case.name in names]
        lacks = any(case.name == self.baseline for case in self.cases) and self.baseline not in names
        return replace(self, cases=cases, baseline=cases[0].name if lacks else self.baseline)

    def chosen(self, options: Options) -> list[Case]:
        """The cases whose names contain what was asked for, and the baseline; two are enough to see that it works."""
        found = [case for case in self.cases if options.are_for(case.name) or case.name == self.baseline]
        return found[:2] if options.tiny else found


def load_of(case: str) -> str:
    """What comes before the colon in the name of a case that is one of several under that load."""
    return case.partition(": ")[0] if ": " in case else ""


def one_load(cluster: Cluster, case: Case, options: Options) -> Sample:
    """A load of the usual length."""
    if options.tiny:
        return cluster.measure("--operations", TINY, *case.load)
    return cluster.measure("--warmup", "300ms", "--duration", f"{options.duration:g}s", *case.load)


def interleave(
    study: Study, options: Options, run: Callable[[Cluster, Case, Options], Sample] = one_load
) -> Results:
    """Run every case once a cycle, on a fresh cluster that it shares with its neighbours of the same settings."""
    results = Results()
    for cycle in range(options.cycles):
        for cases in clusters(study.chosen(options), backwards=bool(cycle % 2)):
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {cases[0].describe().split(';')[0]}")
            first = cases[0]
            with running(
                first.settings, n=first.n, ports=options.ports, python=first.python, source=ROOT
            ) as (cluster, _):
                cluster.load("--operations", TINY if options.tiny else PRIMING)
                for case in cases:
                    pause()
                    results.add(case.name, run(cluster, case, options))
    ordered = {case.name: case for case in study.chosen(options)}
    results.samples = {name: results.samples[name] for name in ordered}
    results.described = {name: case.describe() for name, case in ordered.items()}
    return results


def clusters(cases: Sequence[Case], *, backwards: bool) -> Iterator[list[Case]]:
    """The cases by the clusters that they need, all in the order given or all the other way round."""
    order = list(reversed(cases)) if backwards else list(cases)
    for _, group in groupby(order, key=lambda case: case.cluster):
        yield list(group)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)
