"""What a large number of seeds of registers must meet, and the report of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from epaxos.simulation.sweep.sweep import Summary

OFTEN: Final = 2_000
"""So many seeds must meet each of these; the rarest comes in one of a hundred."""

USUAL: Final = (
    "done in one round trip",
    "done in two round trips",
    "done in more round trips",
    "done at the first ballot",
    "first ballot refused",
    "proposal failed",
    "proposal unknown",
    "asked again after doubt",
    "attempt lost, and another made",
    "attempt held over a change of acceptors",
    "register removed",
    "removal refused",
    "observer goes on from a position",
    "observer begins anew",
    "task done: collect",
    "task done: grow",
    "task done: shrink",
    "task taken over: collect",
    "task taken over: grow",
    "task taken over: shrink",
    "process restarted",
    "replica dead for good",
    "replica paused",
    "crash between two effects",
    "write torn by a crash",
    "disk failed",
    "message lost",
    "message duplicated",
    "message overtaken",
    "history: linearizable",
)


def unmet(marks: Mapping[str, int]) -> list[str]:
    """What none of these marks is."""
    return [name for name in USUAL if not marks[name]]


def missed(summary: Summary) -> list[str]:
    """What so many seeds must have met and have not."""
    return unmet(summary.marks) if summary.seeds >= OFTEN else []


def describe(summary: Summary) -> Iterator[str]:
    """What seeds came to, a line each."""
    yield f"{'exercised':<48}{'times':>12}{'seeds':>12}"
    for mark in sorted(summary.marks):
        yield f"  {mark:<46}{summary.marks[mark]:>12,}{summary.met[mark]:>12,}"
    yield (
        f"{summary.seeds:,} seeds in {summary.seconds:.1f} s, {summary.commands:,} commands, "
        f"{len(summary.failures)} failed"
    )
    if names := missed(summary):
        yield f"NEVER EXERCISED, though so many seeds must: {', '.join(names)}"
    for failure in summary.failures:
        yield f"seed {failure.seed}: {failure.verdict.name.lower()}: {failure.text}"
