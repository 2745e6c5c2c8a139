"""Making a failing run small: fewer faults, fewer commands, a plainer network, as long as it fails the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import Frame, Script
from epaxos.simulation.run import Outcome, kind_of

Item = TypeVar("Item")

MOST_RUNS: Final = 400
MOST_ACTIONS: Final = 4_000_000
"""What may be spent; counted, not timed, so that a failure is minimised to the same path every time."""

_PLAINER: Final[tuple[dict[str, Any], ...]] = (
    {"loss": 0.0},
    {"duplicate": 0.0},
    {"bias": ()},
    {"mutes": ()},
    {"rate": 0.0},
    {"spread": "fixed", "fifo": True},
    {"spread": "uniform"},
    {"disk": "instant", "disk_delay": 0.0},
    {"disk": "blocking"},
    {"cpu": 0.0, "round": 1},
    {"early": False},
    {"ahead": 0},
    {"commit_delay": 0.0},
    {"skew": 0.0},
    {"client_loss": 0.0},
    {"regroup": 0.0, "abandon": 0.0},
    {"thrifty": False},
    {"window": 1},
    {"aggregate": True, "max_batch": 1000, "max_instances": 64},
)
"""What may be simplified about a run, one after the other."""


class Minimiser:
    """Looks for a smaller plan that fails as `outcome` did; `run` runs a plan."""

    def __init__(self, plan: Plan, outcome: Outcome, run: Callable[[Plan], Outcome]) -> None:
        self.plan = plan
        self.outcome = outcome
        self.runs = 0
        self._kind = _kind(outcome)
        self._run = run
        self._actions = 0

    def minimise(self) -> None:
        """Make `plan` smaller, and `outcome` what it comes to, until nothing helps or enough was spent."""
        before = None
        while before != self.plan and not self._spent:
            before = self.plan
            self._drop_faults()
            self._drop_frames()
            self._simplify()

    @property
    def _spent(self) -> bool:
        return self.runs >= MOST_RUNS or self._actions >= MOST_ACTIONS

    def _fails(self, plan: Plan) -> bool:
        """Whether a plan fails the same way; if so, it is the best so far."""
        if self._spent:
            return False
        outcome = self._run(plan)
        self.runs += 1
        self._actions += outcome.actions
        if outcome.verdict is not self.outcome.verdict or _kind(outcome) != self._kind:
            return False
        self.plan, self.outcome = plan, outcome
        return True

    def _drop_faults(self) -> None:
        options, scripts, faults = self.plan
        _reduce(list(faults), lambda some: self._fails(Plan(options, scripts, tuple(some))))

    def _drop_frames(self) -> None:
        options, scripts, faults = self.plan
        frames = [(script.name, frame) for script in scripts for frame in script.frames]
        _reduce(frames, lambda some: self._fails(Plan(options, _scripts(scripts, some), faults)))

    def _simplify(self) -> None:
        for change in _PLAINER:
            options = replace(self.plan.options, **change)
            if options != self.plan.options:
                self._fails(self.plan._replace(options=options))


def _kind(outcome: Outcome) -> str:
    return kind_of(outcome.verdict, outcome.text)


def _scripts(scripts: Sequence[Script], frames: Sequence[tuple[int, Frame]]) -> tuple[Script, ...]:
    """The scripts with only these frames; a client without any stays, so that the others keep their places."""
    return tuple(
        Script(script.name, tuple(frame for name, frame in frames if name == script.name))
        for script in scripts
    )


def _reduce(items: list[Item], fails: Callable[[list[Item]], bool]) -> None:
    """Delta debugging: leave out larger, then smaller parts, as long as it fails without them."""
    size = len(items)
    while items and size:
        start = 0
        while start < len(items):
            rest = items[:start] + items[start + size :]
            if fails(rest):
                items = rest
            else:
                start += size
        size = min(size // 2, len(items))
