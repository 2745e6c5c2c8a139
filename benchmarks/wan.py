"""Latencies over a map: the core and the state machine over a table of round trips, in virtual time."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import mean
from typing import Any, Final

from benchmarks.cluster import ROOT, BenchmarkError
from benchmarks.study import Case, Options, Picture, Results, Sample, Study, say

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
    for case in study.chosen(options):
        say(f"{study.name}: {case.name}")
        results.add(case.name, _over(_simulate(*case.load)))
        results.described[case.name] = "epaxos simulate --topology " + " ".join(case.load)
    return results


def _simulate(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "epaxos", "simulate", "--topology", *arguments, "--json", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"epaxos simulate: {done.stderr.decode(errors='replace').strip()[-300:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


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
