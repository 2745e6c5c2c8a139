"""The verdict of tools/test names what failed, and pytest comes last."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import check
from check import Result, Step, main, steps, verdict


def test_verdict_when_all_is_well() -> None:
    results = [Result("lint", 0, 0.12), Result("tests", 0, 61.0)]
    assert verdict(results) == "tools/test: all steps passed [lint 0.1 s, tests 61.0 s]"


def test_verdict_names_every_step_that_failed() -> None:
    results = [Result("lint", 1, 0.1), Result("types", 0, 2.0), Result("tests", 2, 3.0)]
    assert "FAILED: lint (exit status 1), tests (exit status 2)" in verdict(results)


def test_tests_come_last_and_take_the_arguments() -> None:
    *_, last = steps(["-k", "quorum"])
    assert last.name == "tests"
    assert last.command[-2:] == ("-k", "quorum")


def test_step_after_a_failing_one_runs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = Path(sys.executable).name
    fail = Step("first", (program, "-c", "print('why it failed'); raise SystemExit(1)"))
    succeed = Step("second", (program, "-c", "print('ran too')"))
    monkeypatch.setattr(check, "steps", lambda _: [fail, succeed])
    monkeypatch.setattr(check, "catch_signals", lambda: None)
    assert main([]) == 1
    printed = capfd.readouterr().out
    assert "why it failed" in printed
    assert "ran too" in printed
    assert printed.splitlines()[-1].startswith("tools/test: FAILED: first (exit status 1) [")
