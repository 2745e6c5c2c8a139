"""What is told of a seed that failed: what was found, how to see it again, and a small run that fails the same way."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields

from epaxos.simulation.failure.minimise import Minimiser
from epaxos.simulation.failure.path import find_path
from epaxos.simulation.plan.options import Overrides, shown
from epaxos.simulation.plan.plan import Plan, draw_plan
from epaxos.simulation.run import Outcome, Run
from epaxos.simulation.sweep.sweep import Failure
from epaxos.version import __version__


def version() -> str:
    """What a seed's run depends on: Python's generators of chance are Python's."""
    return f"epaxos {__version__}, Python {platform.python_version()}"


def replay_command(seed: int, overrides: Overrides) -> str:
    """The command that runs a seed again."""
    return shlex.join(["epaxos", "simulate", "--seed", str(seed), *overrides.arguments()])


def headline(failure: Failure, overrides: Overrides) -> str:
    """What failed and how to see it again, in a few lines."""
    return "\n".join(
        [
            f"seed {failure.seed} FAILS: {failure.verdict.name.lower()}",
            *_indented(failure.text),
            f"  version  {version()}",
            f"  replay   {replay_command(failure.seed, overrides)}",
        ]
    )


def explain_seed(seed: int, overrides: Overrides, *, everything: bool = False) -> str:
    """Run a failing seed again and `explain` it."""
    plan = draw_plan(seed, overrides)
    return explain(plan, Run(plan).execute(), everything=everything)


def explain(plan: Plan, outcome: Outcome, *, everything: bool = False) -> str:
    """Look for a small run that fails as `outcome` did, and tell its path."""
    minimiser = Minimiser(plan, outcome, lambda smaller: Run(smaller).execute())
    minimiser.minimise()
    small, found = minimiser.plan, minimiser.outcome
    subject, path = find_path(small, found, everything=everything)
    return "\n".join(
        [
            f"minimised in {minimiser.runs} runs, to {_share(plan, small)}",
            *_changes(plan, small),
            *_indented(found.text),
            f"path of {subject}, by virtual time and replica:",
            *path,
        ]
    )


def _share(plan: Plan, small: Plan) -> str:
    """How much of a plan is left in the smaller one."""
    return f"{_commands(small)} of {_commands(plan)} commands and {len(small.faults)} of {len(plan.faults)} faults"


def _commands(plan: Plan) -> int:
    return sum(len(frame.commands) for script in plan.scripts for frame in script.frames)


def _changes(plan: Plan, small: Plan) -> Sequence[str]:
    """The options that the smaller plan has otherwise."""
    changed = [
        f"{field.name}={shown(getattr(small.options, field.name))}"
        for field in fields(small.options)
        if getattr(small.options, field.name) != getattr(plan.options, field.name)
    ]
    return [f"  with {' '.join(changed)}"] if changed else []


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())
