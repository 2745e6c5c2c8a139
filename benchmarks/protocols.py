"""The service's two protocols side by side: by conflicts, by how many replicas, and by where the clients are."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.cluster import Cluster
from benchmarks.study import Case, Options, Picture, Results, Sample, Study, interleave, one_load

_ONE: Final = "alpha"
"""The replica that all clients are at; where somebody leads, they are at that one."""

_AT_ONE: Final = ("--replicas", _ONE)

_CHECKPOINT: Final = 8.0
"""Seconds in which a checkpoint comes, of which there is one in five."""


def protocols(study: Study, options: Options) -> Results:
    """Every load on fresh clusters of both protocols, in turn.

    Each begins after a checkpoint: a load of a second would else pay for what those before it have changed, and which
    of them does so is the same in each cycle.
    """

    def run(cluster: Cluster, case: Case, options: Options) -> Sample:
        if not options.tiny:
            cluster.checkpointed(_CHECKPOINT)
        one = cluster.leader() or _ONE
        return one_load(
            cluster, replace(case, load=[one if word == _ONE else word for word in case.load]), options
        )

    return interleave(study, options, run)


STUDY: Final = Study(
    "protocols",
    "EPaxos* and Multi-Paxos: writes in frames of 33, in memory; clients at all replicas, or at one, which leads",
    [
        Case(
            f"{n} replicas, {share} % on one key, {place}: {protocol}",
            ("--conflicts", str(share), *where),
            {"storage.engine": "memory", "protocol": protocol},
            n=n,
            x=share,
            group=f"{protocol}, {n} replicas, {place}",
        )
        for n in (3, 5)
        for protocol in ("epaxos", "multipaxos")
        for place, where in (("spread", ()), ("at one", _AT_ONE))
        for share in (0, 25, 100)
    ],
    ("cpu", "throughput", "p50", "p99", "max", "errors"),
    "3 replicas, 0 % on one key, spread: epaxos",
    Picture("lines", "cpu", "% of the commands on one key"),
    protocols,
)
