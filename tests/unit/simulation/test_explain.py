"""Failing seeds become small, and what is told of them leads to what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import broken_cores
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.failure import minimise
from epaxos.simulation.failure.explain import explain, explain_seed, headline, replay_command
from epaxos.simulation.failure.minimise import Minimiser
from epaxos.simulation.failure.path import FIRST, LAST, find_path
from epaxos.simulation.plan.options import FAULTS, NO_OVERRIDES, Overrides
from epaxos.simulation.plan.plan import Plan, draw_plan
from epaxos.simulation.run import Outcome, Run, kind_of
from epaxos.simulation.sweep.sweep import Failure
from epaxos.version import __version__


def run(plan: Plan) -> Outcome:
    return Run(plan).execute()


def minimised(seed: int, overrides: Overrides = NO_OVERRIDES) -> Minimiser:
    plan = draw_plan(seed, overrides)
    minimiser = Minimiser(plan, run(plan), run)
    minimiser.minimise()
    return minimiser


def commands(plan: Plan) -> int:
    return sum(len(frame.commands) for script in plan.scripts for frame in script.frames)


@pytest.mark.parametrize(
    ("broken", "seed", "verdict", "kind"),
    [
        (broken_cores.hasty, 0, Verdict.SAFETY, "quorum"),
        (broken_cores.blind, 538, Verdict.SAFETY, "visibility"),
    ],
)
def test_a_failure_becomes_small_and_stays_the_same(
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
    seed: int,
    verdict: Verdict,
    kind: str,
) -> None:
    broken(monkeypatch)
    check_small(minimised(seed), verdict, kind)


def check_small(small: Minimiser, verdict: Verdict, kind: str) -> None:
    assert small.outcome.verdict is verdict
    assert kind in kind_of(verdict, small.outcome.text)
    assert commands(small.plan) <= 3
    assert len(small.plan.faults) <= 2
    assert run(small.plan) == small.outcome


def test_what_does_not_finish_becomes_smaller_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.trusting(monkeypatch)
    monkeypatch.setattr(minimise, "MOST_RUNS", 6)
    small = minimised(131)
    assert small.runs == 6
    assert small.outcome.verdict is Verdict.LIVENESS
    assert len(small.plan.faults) < len(draw_plan(131).faults)
    subject, path = find_path(small.plan, small.outcome)
    assert subject.places, "nobody can tell what others wait for"
    assert path


def test_the_same_failure_is_explained_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.hasty(monkeypatch)
    plan = draw_plan(0)
    text = explain(plan, run(plan))
    assert text == explain_seed(0, NO_OVERRIDES)
    assert "of 61 commands" in text.splitlines()[0]


def test_the_path_of_a_violation_is_that_of_its_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.blind(monkeypatch)
    plan = draw_plan(538)
    outcome = run(plan)
    subject, path = find_path(plan, outcome)
    assert set(outcome.places) == subject.places
    assert len(outcome.places) == 2
    messages = [
        line for line in path if re.search(r" ms +\d +(->|<-) ", line) and "CommitRequest" not in line
    ]
    assert messages
    assert all(any(f" {place} " in f"{line} " for place in outcome.places) for line in messages)
    assert any("asks" in line for line in path), "commands are not followed"
    assert any("CRASHES" in line for line in path), "what concerns all is left out"
    _, everything = find_path(plan, outcome, everything=True)
    assert any("Beacon" in line for line in everything)
    assert [line for line in everything if line in set(path)] == path


def test_a_crash_becomes_small_and_its_path_leads_to_its_last_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken_cores.fragile(monkeypatch)
    small = minimised(1)
    check_small(small, Verdict.CRASH, "KeyError")
    _, path = find_path(small.plan, small.outcome)
    assert "Recover " in path[-1]


def test_a_long_path_of_everything_loses_its_middle() -> None:
    plan = draw_plan(0)
    subject, path = find_path(plan, run(plan))
    assert str(subject) == "everything"
    assert len(path) == FIRST + 1 + LAST
    assert path[FIRST].endswith(" events left out")


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (NO_OVERRIDES, "epaxos simulate --seed 5"),
        (Overrides(replicas=4, operations=9), "epaxos simulate --seed 5 --replicas 4 --operations 9"),
        (Overrides(faults=frozenset()), "epaxos simulate --seed 5 --faults none"),
        (Overrides(faults=frozenset({"crash", "loss"})), "epaxos simulate --seed 5 --faults loss,crash"),
        (Overrides(faults=frozenset(FAULTS)), f"epaxos simulate --seed 5 --faults {','.join(FAULTS)}"),
    ],
)
def test_the_replay_command_has_the_overrides(overrides: Overrides, command: str) -> None:
    assert replay_command(5, overrides) == command


def test_the_headline_has_what_it_takes_to_see_it_again() -> None:
    text = headline(Failure(5, Verdict.SAFETY, "agreement: two\nlines"), Overrides(replicas=3))
    assert text.splitlines()[:3] == ["seed 5 FAILS: safety", "  agreement: two", "  lines"]
    assert f"epaxos {__version__}, Python 3." in text
    assert text.endswith("  replay   epaxos simulate --seed 5 --replicas 3")


def test_kinds_of_crashes_are_told_apart_by_their_place() -> None:
    first = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x\nKeyError: 1\n'
    second = first.replace("KeyError: 1", "KeyError: 2")
    third = first.replace("line 3", "line 4")
    assert kind_of(Verdict.CRASH, first) == kind_of(Verdict.CRASH, second)
    assert kind_of(Verdict.CRASH, first) != kind_of(Verdict.CRASH, third)
