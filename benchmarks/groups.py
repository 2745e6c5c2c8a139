"""Groups: one, two and four clusters of three replicas as one store, with commands across them.

The load is that of `epaxos bench` over groups: callers of the client library, each with one command outstanding. All of
it is on this machine, so throughput grows with groups only where there are cores; CPU a command says what they cost.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.cluster import ROOT, Cluster, read_report, running
from benchmarks.study import TINY, Case, Options, Results, Sample, Study, say
from epaxos.groups.map import SLOTS
from shared.processes import pause

APART: Final = 20
"""Ports between the first of one cluster and of the next."""

CALLERS: Final = 32
"""Of a group, so that each has as much to do however many there are."""

ALONE: Final = ("--clients", "1")
"""A caller whose latency is that of the protocol, as nothing waits."""


@contextmanager
def groups(count: int, options: Options) -> Iterator[tuple[Path, list[Cluster]]]:
    """So many clusters, and the file that makes one store of them."""
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(
                running({}, n=1 if options.tiny else 3, ports=options.ports + APART * place, source=ROOT)
            )[0]
            for place in range(count)
        ]
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "groups.toml"
        bounds = [SLOTS * place // count for place in range(count + 1)]
        file.write_text(
            "".join(
                f'[[groups]]\nname = "g{place}"\nconfig = "{cluster.file}"\n'
                f'slots = "{bounds[place]}-{bounds[place + 1] - 1}"\n'
                for place, cluster in enumerate(clusters)
            )
        )
        yield file, clusters


def load(file: Path, clusters: Sequence[Cluster], case: Case, options: Options) -> Sample:
    """One load, and what all replicas used meanwhile."""
    how = ["--operations", TINY] if options.tiny else ["--duration", f"{options.duration:g}s"]
    command = clusters[0].command(*how, *case.load)
    command[command.index("-c") + 1] = str(file)
    cpu = sum(cluster.used.cpu() for cluster in clusters)
    report = read_report(
        subprocess.Popen(command, cwd=file.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    )
    cpu = sum(cluster.used.cpu() for cluster in clusters) - cpu
    latency = report["latency_ms"]
    return {
        "throughput": report["throughput_ops"],
        "p50": latency["p50"],
        "p99": latency["p99"],
        "cpu_all": cpu * 1e6 / max(1, report["operations"]),
        "client": report["generator"]["cpu_us_per_operation"],
        "errors": float(report["errors"]),
    }


def measure(study: Study, options: Options) -> Results:
    """Each case once a cycle, those of as many groups on the same clusters."""
    results = Results()
    chosen = study.chosen(options)
    counts = sorted({int(case.group) for case in chosen})
    for cycle in range(options.cycles):
        for count in counts if cycle % 2 == 0 else counts[::-1]:
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {count} groups")
            with groups(count, options) as (file, clusters):
                load(file, clusters, Case("", ()), options)
                for case in chosen:
                    if int(case.group) == count:
                        pause()
                        results.add(case.name, load(file, clusters, case, options))
    results.samples = {case.name: results.samples[case.name] for case in chosen}
    results.described = {
        case.name: f"{case.group} clusters of 3 replicas; {' '.join(case.load)}" for case in chosen
    }
    return results


def _cases() -> list[Case]:
    found = [Case("1 group", ("--clients", str(CALLERS)), group="1")]
    for count in (2, 4):
        for share in (0, 10, 50):
            how = f"{share} % of the commands across" if share else "nothing across"
            callers = ("--clients", str(CALLERS * count), "--across", str(share))
            found.append(Case(f"{count} groups, {how}", callers, group=str(count)))
    found += [
        Case("one caller, a write", ALONE, group="2"),
        Case("one caller, a multi of one group", (*ALONE, "--within", "100"), group="2"),
        Case("one caller, a multi across two groups", (*ALONE, "--across", "100"), group="2"),
    ]
    return found


STUDY: Final = Study(
    "groups",
    "Groups: callers of the client library, three replicas a group, all on this machine",
    _cases(),
    ("throughput", "p50", "p99", "cpu_all", "client", "errors"),
    "1 group",
    None,
    measure,
)
