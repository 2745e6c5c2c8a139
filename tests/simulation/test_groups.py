"""Groups from seeds: a fixed set, and fresh ones, which each run draws anew and prints."""

from __future__ import annotations

from collections import Counter

from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.groups.run import Outcome, run_seed


def check(seeds: range) -> list[Outcome]:
    outcomes = [run_seed(seed) for seed in seeds]
    for outcome in outcomes:
        assert outcome.verdict is Verdict.CLEAN, f"seed {outcome.options.seed}: {outcome.text}"
    return outcomes


def test_no_seed_splits_a_transaction_or_leaves_a_lock() -> None:
    marks = sum(
        (outcome.marks for outcome in check(range(3, 8))), Counter()
    )  # 2 takes longer than all of these
    wanted = ("multi across groups done", "multi across groups: a condition failed", "caller died in a call")
    assert not [mark for mark in wanted if not marks[mark]]


def test_no_fresh_seed_does(fresh_seed: int, times: int) -> None:
    check(range(fresh_seed, fresh_seed + 2 * times))


def test_command() -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["simulate", "--groups", "2", "--seeds", "3:5", "--jobs", "1"])
    assert (result.exit_code, "2 seeds in" in result.output) == (0, True), result.output
    result = runner.invoke(main, ["simulate", "--groups", "2", "--seed", "1", "--trace"])
    assert (
        result.exit_code,
        "--groups and --trace, --picture or --mix exclude each other" in result.stderr,
    ) == (
        2,
        True,
    )
