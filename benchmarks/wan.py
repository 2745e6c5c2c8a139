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
    """Means over the sites, each of which counts the same."""
    sites = report["sites"].values()
    return {
        "commit": mean(site["commit_ms"]["p50"] for site in sites),
        "optimum": mean(site["optimum_ms"]["fast"] for site in sites),
        "commit_p99": mean(site["commit_ms"]["p99"] for site in sites),
        "execution": mean(site["execution_ms"]["p50"] for site in sites),
        "fast": mean(site["fast_path_ratio"] for site in sites),
    }


STUDY: Final = Study(
    "wan",
    "Over a map: ten clients at each site, one command each; means over the sites, in virtual time",
    [
        Case(
            f"{place[-1]} regions: {share} % on one key",
            (f"conf/{place}.toml", "--conflicts", str(share)),
            n=int(place[-1]),
            x=share,
            group=f"{place[-1]} regions",
        )
        for place in MAPS
        for share in CONFLICTS
    ],
    ("execution", "commit", "optimum", "commit_p99", "fast"),
    "3 regions: 0 % on one key",
    Picture("lines", "execution", "% of the commands on one key"),
    wan,
)
