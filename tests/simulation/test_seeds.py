"""Whole clusters from seeds: a fixed set, and fresh ones, which each run draws anew and prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.plan.drawing import chain, draw_options
from epaxos.simulation.plan.faults import draw_faults
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import draw_workload
from epaxos.simulation.run import Run
from epaxos.simulation.sweep.sweep import run_seed

INTERESTING = (
    "commit: slow",
    "commit: recovered",
    "component of several",
    "no-op executed",
    "replica restarted",
)


LED = (
    "commit: forwarded",
    "commit: recovered",
    "deposed",
    "voted anew for another value",
    "replica restarted",
)
LED_SEEDS = (1, 2, 13, 16, 19, 21)
"""Much happens in these, and none takes long."""


def check(seeds: Iterable[int], overrides: Overrides = NO_OVERRIDES) -> Counter[str]:
    """Run the seeds, each of which must be clean; how often what happened in them."""
    marks: Counter[str] = Counter()
    for seed in seeds:
        outcome = run_seed(seed, overrides)
        assert outcome.verdict is Verdict.CLEAN, f"seed {seed}: {outcome.text}"
        marks.update(outcome.marks)
    return marks


def test_no_seed_breaks_safety_or_stops_the_cluster_and_interesting_things_happen(times: int) -> None:
    marks = check(range(20 * times))
    assert not [mark for mark in INTERESTING if not marks[mark]]


def test_no_seed_breaks_a_cluster_with_a_leader(fresh_seed: int, times: int) -> None:
    led = Overrides(protocol="multipaxos")
    seeds = LED_SEEDS if times == 1 else range(6 * times)
    marks = check(seeds, led) + check(range(fresh_seed, fresh_seed + 3 * times), led)
    assert not [mark for mark in LED if not marks[mark]]


def test_in_a_chain_a_leader_is_outvoted_before_it_hears_of_another() -> None:
    options = chain(draw_options(19, Overrides(5, frozenset({"crash", "partition"}), 12, "multipaxos")))
    outcome = Run(Plan(options, draw_workload(options), draw_faults(options))).execute()
    assert outcome.verdict is Verdict.CLEAN, outcome.text
    assert outcome.marks["leader outvoted"]


def test_no_seed_breaks_a_group(fresh_seed: int, times: int) -> None:
    across = Overrides(mix="transactions")
    check(range(2 * times), across)
    check(range(fresh_seed, fresh_seed + 2 * times), across)


def test_a_run_does_not_end_before_those_who_joined_are_there() -> None:
    kinds = frozenset({"loss", "reorder", "partition", "pause", "refresh", "member"})
    check(range(70186, 70187), Overrides(faults=kinds))


def test_a_run_waits_for_no_observer_that_was_down_while_all_whom_it_knew_left() -> None:
    check(range(103891, 103892))


def test_a_watcher_may_be_told_a_change_again_by_a_replica_that_has_begun_again() -> None:
    check(range(1002081, 1002082), Overrides(operations=6))


def test_an_observer_may_have_executed_what_nobody_has_that_votes() -> None:
    check(range(283375610, 283375611))


def test_voters_may_go_on_from_what_only_an_observer_has_executed() -> None:
    faults = {
        "loss",
        "duplicate",
        "reorder",
        "partition",
        "crash",
        "death",
        "pause",
        "disk",
        "refresh",
        "member",
    }
    check(range(374, 375), Overrides(faults=frozenset(faults), operations=12))


def test_no_two_checkpoints_of_one_life_are_mixed() -> None:
    check(range(1012491, 1012492), Overrides(operations=6))


def test_no_fresh_seed_does(fresh_seed: int, times: int) -> None:
    check(range(fresh_seed, fresh_seed + 8 * times))


def test_a_seed_is_a_run() -> None:
    assert run_seed(7) == run_seed(7)
