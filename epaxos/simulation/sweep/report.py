"""What a run, or a sweep, is told of: as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from epaxos.simulation.coverage import grouped, unmet
from epaxos.simulation.failure.explain import replay_command, version
from epaxos.simulation.plan.options import Overrides
from epaxos.simulation.run import Outcome
from epaxos.simulation.sweep.sweep import MOST_FAILURES, Summary

WIDTH = 48
"""Of the names of what was exercised, with their indentation."""


def missed(summary: Summary, overrides: Overrides) -> list[str]:
    """What so many seeds must have met and have not. What the command line decides may rule anything out."""
    if not overrides.draws_all:
        return []
    wanted = unmet(summary.marks, overrides.subject)
    return [name for name, enough in wanted.items() if summary.seeds >= enough]


def describe_outcome(outcome: Outcome) -> str:
    """How a single run went, and what it exercised."""
    answered = (
        f"{outcome.verdict.name.lower()}: {outcome.commands} commands answered, {outcome.actions:,} actions, "
        f"{outcome.seconds:.3f} s of virtual time"
    )
    return "\n".join([answered, *_exercised(outcome.marks, None, outcome.options.protocol)])


def describe_summary(summary: Summary, overrides: Overrides) -> str:
    """What seeds came to, and what they exercised."""
    lines = [*_exercised(summary.marks, summary.met, overrides.subject), *_figures(summary)]
    lost = missed(summary, overrides)
    if lost:
        lines.append(f"NEVER EXERCISED, though so many seeds must: {_names(lost)}")
    wanted = unmet(summary.marks, overrides.subject) if overrides.draws_all else {}
    if rest := [name for name in wanted if name not in lost]:
        lines.append(f"not exercised by so few seeds: {_names(rest)}")
    return "\n".join(lines)


def _figures(summary: Summary) -> Iterator[str]:
    hours = summary.cpu / 3600
    yield (
        f"{summary.seeds:,} seeds in {summary.seconds:.1f} s ({_rate(summary.seeds, summary.seconds)} "
        f"seeds/s), {len(summary.failures)} failed{_ended_early(summary)}"
    )
    yield (
        f"{summary.commands:,} commands, {summary.actions:,} actions; a core: "
        f"{_rate(summary.commands, hours * 60)} commands a minute, {_rate(summary.seeds, hours)} seeds an hour"
    )


def _ended_early(summary: Summary) -> str:
    if summary.interrupted:
        return "; interrupted"
    return "; ended early" if len(summary.failures) >= MOST_FAILURES else ""


def _rate(count: int, time: float) -> str:
    rate = count / time if time else 0.0
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _names(names: list[str]) -> str:
    return ", ".join(name.removesuffix(":") for name in names)


def _exercised(marks: Mapping[str, int], met: Mapping[str, int] | None, protocol: str) -> Iterator[str]:
    """A line for each event: how many times it happened and, with `met`, in how many seeds."""
    yield f"{'exercised':<{WIDTH}}{'times':>12}" + ("" if met is None else f"{'seeds':>12}")
    for group, names in grouped(marks, protocol).items():
        yield f"  {group}"
        for name in names:
            seeds = "" if met is None else f"{met[name]:>12,}"
            yield f"    {name:<{WIDTH - 4}}{marks[name]:>12,}{seeds}"


def as_json(summary: Summary, overrides: Overrides) -> dict[str, Any]:
    """The same for programs; docs/simulator.md has the keys."""
    failures = [
        {
            "seed": failure.seed,
            "verdict": failure.verdict.name.lower(),
            "text": failure.text,
            "replay": replay_command(failure.seed, overrides),
        }
        for failure in summary.failures
    ]
    return {
        "version": version(),
        "seeds": summary.seeds,
        "interrupted": summary.interrupted,
        "verdict": summary.verdict.name.lower(),
        "failures": failures,
        "commands": summary.commands,
        "actions": summary.actions,
        "seconds": summary.seconds,
        "cpu_s": summary.cpu,
        "commands_per_core_minute": summary.commands / summary.cpu * 60 if summary.cpu else None,
        "exercised": {
            mark: {"times": summary.marks[mark], "seeds": summary.met[mark]}
            for names in grouped(summary.marks, overrides.subject).values()
            for mark in names
        },
        "never_exercised": missed(summary, overrides),
    }
