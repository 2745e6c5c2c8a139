"""The verdict of tools/test names what failed, and pytest comes last."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import check
from check import Result, Step, expectation, main, remember, steps, verdict


@pytest.fixture(autouse=True)
def _nothing_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "COMPILE", (Path(sys.executable).name, "-c", ""))


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


def test_only_whole_runs_that_passed_say_how_long_one_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "TIMES", tmp_path / "times.json")
    program = Path(sys.executable).name
    chosen: list[list[str]] = []

    def one_step(arguments: list[str]) -> list[Step]:
        chosen.append(arguments)
        return [Step("tests", (program, "-c", ""))]

    monkeypatch.setattr(check, "steps", one_step)
    monkeypatch.setattr(check, "catch_signals", lambda: None)
    assert "on two quiet cores" in expectation("all")
    assert main(["-k", "quorum"]) == 0
    assert "on two quiet cores" in expectation("all")
    assert main(["--fast"]) == 0
    assert "1 runs" in expectation("--fast")
    assert "on two quiet cores" in expectation("all")
    for seconds in range(20):
        remember("all", float(seconds))
    assert "usually takes 15 s here (11 to 19 in 9 runs)" in expectation("all")
    assert chosen == [["-k", "quorum"], [*check.FAST]]
    assert "takes about 45 s on two quiet cores" in capfd.readouterr().out
