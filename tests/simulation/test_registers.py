"""Registers from seeds: a fixed set, and fresh ones, which each run draws anew and prints."""

from __future__ import annotations

from collections import Counter

from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.registers.run import Outcome, run_seed


def check(seeds: range) -> list[Outcome]:
    outcomes = [run_seed(seed) for seed in seeds]
    for outcome in outcomes:
        assert outcome.verdict is Verdict.CLEAN, f"seed {outcome.options.seed}: {outcome.text}"
    return outcomes


def test_no_seed_breaks_safety_or_stops_the_registers(times: int) -> None:
    marks = sum((outcome.marks for outcome in check(range(80 * times))), Counter())
    wanted = (
        "register removed",
        "task done: grow",
        "task done: shrink",
        "proposal unknown",
        "process restarted",
    )
    assert not [mark for mark in wanted if not marks[mark]]


def test_no_fresh_seed_does(fresh_seed: int, times: int) -> None:
    check(range(fresh_seed, fresh_seed + 40 * times))


def test_command() -> None:
    result = CliRunner().invoke(main, ["registers", "simulate", "--seeds", "0:20", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "20 seeds in" in result.output


def test_command_line_that_is_refused() -> None:
    result = CliRunner().invoke(main, ["registers", "simulate", "--seed", "1", "--seeds", "1:2"])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
