"""Latencies over a map: the core and the state machine over a table of round trips, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from statistics import mean
from typing import Any, Final

from benchmarks.cluster import BenchmarkError
from benchmarks.study import Case, Options, Picture, Results, Sample, Study, say
from epaxos.errors import EpaxosError
from epaxos.simulation.fleet import Command, Done, Fleet, execute

MAPS: Final = ("regions-3", "regions-5", "regions-7")
CONFLICTS: Final = (0, 2, 25, 100)
_LED: Final = ("--protocol", "multipaxos", "--learn")
VARIANTS: Final = (
    ("", (), CONFLICTS),
    (", a leader, votes to all", (*_LED, "votes"), (0, 100)),
    (", a leader, votes to it", (*_LED, "commits"), (0, 100)),
)
"""How a case is called, how it is run, and with which shares of conflicts; a leader does not see any."""


def wan(study: Study, options: Options) -> Results:
    """Virtual time needs no cycles: the same seed gives the same figures."""
    results = Results()
    chosen = study.chosen(options)
    told: dict[str, Sample] = {}
    for name, done in _run([(case.name, _simulation(case)) for case in chosen], options.scheduler):
        say(f"{study.name}: {name}")
        if done.status:
            raise BenchmarkError(f"epaxos simulate: {done.errors.decode(errors='replace').strip()[-300:]}")
        told[name] = _over(json.loads(done.output))
    for case in chosen:
        results.add(case.name, told[case.name])
        results.described[case.name] = "epaxos simulate --topology " + " ".join(case.load)
    return results


def _simulation(case: Case) -> Command:
    return Command(("-m", "epaxos", "simulate", "--topology", *case.load, "--json", "-"))


def _run(commands: Iterable[tuple[str, Command]], scheduler: str) -> Iterator[tuple[str, Done]]:
    """Here, one after the other, or on the workers of a scheduler."""
    if not scheduler:
        yield from ((name, execute(command)) for name, command in commands)
        return
    try:
        with Fleet(scheduler) as fleet:
            yield from fleet.run(commands)
    except EpaxosError as error:
        raise BenchmarkError(str(error)) from error


def _over(report: dict[str, Any]) -> Sample:
    """Means over the sites, each of which counts the same; with a leader there is no commit but that of the answer."""
    sites = list(report["sites"].values())
    answered = {
        "execution": mean(site["execution_ms"]["p50"] for site in sites),
        "execution_p99": mean(site["execution_ms"]["p99"] for site in sites),
    }
    if "commit_ms" not in sites[0]:
        return answered | {"optimum": mean(site["optimum_ms"]["execution"] for site in sites)}
    return answered | {
        "commit": mean(site["commit_ms"]["p50"] for site in sites),
        "optimum": mean(site["optimum_ms"]["fast"] for site in sites),
        "commit_p99": mean(site["commit_ms"]["p99"] for site in sites),
        "fast": mean(site["fast_path_ratio"] for site in sites),
    }


STUDY: Final = Study(
    "wan",
    "Over a map: ten clients at each site, one command each; means over the sites, in virtual time",
    [
        Case(
            f"{place[-1]} regions: {share} % on one key{called}",
            (f"conf/{place}.toml", "--conflicts", str(share), *led),
            n=int(place[-1]),
            x=share,
            group=f"{place[-1]} regions{called}",
        )
        for place in MAPS
        for called, led, shares in VARIANTS
        for share in shares
    ],
    ("execution", "execution_p99", "commit", "optimum", "commit_p99", "fast"),
    "3 regions: 0 % on one key",
    Picture("lines", "execution", "% of the commands on one key"),
    wan,
)
