"""Every mutant still fits the source, the quick ones are caught, and what shows nothing does not pass."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from epaxos.simulation.checkers.violation import Verdict
from hunt.run import draw, run
from hunt.task import Found, Task
from mutants import __main__ as mutants
from mutants.__main__ import control, parse, same_seeds, task_of, verdict
from mutants.catalogue import CONSEQUENCES_ONLY, MUTANTS, find
from mutants.mutation import (
    DEFAULT,
    SMALL,
    Draw,
    MovedError,
    Mutant,
    Patch,
    altered,
    by_module,
    compile_altered,
    install,
)
from mutants.report import BEGIN, END, Row, listed, reasons, refresh

QUICK = {"slow-quorum-too-small": 0, "nop-despite-fast-path": 57, "floor-not-raised": 0}
"""Mutants, and seeds from which it does not take many more to catch them."""

ROOT = Path(mutants.__file__).resolve().parents[3]
HUNT = [sys.executable, str(ROOT / "tools" / "lib" / "run.py"), "hunt"]


def hunt(task: Task) -> Found:
    command = [*HUNT, json.dumps(task)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process:
        assert process.stdout is not None
        return Found(*json.loads(process.stdout.read()))


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def arguments(*argv: str) -> argparse.Namespace:
    return parse(argv)


# -- the table ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_source(mutant: Mutant) -> None:
    for module, patches in by_module(mutant.patches).items():
        compile_altered(source_of(module), patches)


def test_checks_that_consequences_leave_out_fit_the_source() -> None:
    for module, patches in by_module(CONSEQUENCES_ONLY).items():
        compile_altered(source_of(module), patches)


def test_names_are_names() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and " " not in name for name in names)


def test_draws_with_one_name_are_one_draw() -> None:
    draws = {draw for mutant in MUTANTS for draw in (mutant.draw, mutant.damage) if draw is not None}
    assert len({draw.name for draw in draws}) == len(draws)


def test_no_draw_takes_silence_between_two_beacons_for_absence() -> None:
    for wanted in {mutant.draw for mutant in MUTANTS if not mutant.draw.system}:
        options = [draw(seed, wanted).options for seed in range(20)]
        assert all(drawn.offline > 2 * drawn.beacon for drawn in options), wanted.name


@pytest.mark.parametrize("system", sorted({mutant.draw.system for mutant in MUTANTS}))
def test_every_system_runs(system: str) -> None:
    assert run(1, Draw("any", operations=4, system=system)).verdict is Verdict.CLEAN


def test_schedules_exist() -> None:
    for schedule in filter(None, (mutant.schedule for mutant in MUTANTS)):
        file, _, test = schedule.partition("::")
        if test:
            assert f"def {test}(" in (ROOT / file).read_text(), schedule
        else:
            assert (ROOT / "tests" / "scenario" / file).is_file(), schedule


# -- hunting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "first"), QUICK.items())
def test_quick_mutant_is_caught(name: str, first: int) -> None:
    found = hunt(Task(name, find(name).draw, seeds=200, first=first))
    assert found.verdict == "SAFETY", found


def test_unchanged_program_is_clean() -> None:
    found = hunt(Task("", SMALL, seeds=10))
    assert (found.verdict, found.seeds) == ("CLEAN", 10)


def test_hunt_begins_where_it_is_told() -> None:
    caught = find("retry-executed-twice")
    seeds = hunt(Task(caught.name, caught.draw, seeds=200)).seeds
    assert seeds > 1
    again = hunt(Task(caught.name, caught.draw, seeds=1, first=seeds - 1))
    assert (again.verdict, again.seeds) == ("SAFETY", 1)


def test_schedule_is_clean_without_its_mutant() -> None:
    mutant = find("one-ballot")
    schedule = "counterexample-single-ballot.txt"
    assert hunt(Task("", DEFAULT, 1, schedule=schedule)).verdict == "CLEAN"
    assert hunt(Task(mutant.name, DEFAULT, 1, schedule=schedule)).verdict == "SAFETY"


@pytest.mark.parametrize(("mutant", "verdict"), [("", "CLEAN"), ("held-answered", "SAFETY")])
def test_directed_test_is_played_as_a_schedule(mutant: str, verdict: str) -> None:
    schedule = find("held-answered").schedule
    assert hunt(Task(mutant, DEFAULT, 1, schedule=schedule)).verdict == verdict


def test_task_survives_its_way_through_json() -> None:
    tasks = [Task(mutant.name, mutant.draw, 7, first=3, schedule="x") for mutant in MUTANTS]
    assert [Task.load(json.dumps(task)) for task in tasks] == tasks


# -- patches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["nothing", "old and old"])
def test_text_that_is_not_there_once(source: str) -> None:
    with pytest.raises(MovedError, match=r"the source moved: a\.module holds 'old'"):
        altered(source, [Patch("a.module", "old", "new")])


def test_module_that_is_imported_already() -> None:
    with pytest.raises(MovedError, match="imported before it could be changed: mutants"):
        install([Patch("mutants", "x", "y"), Patch("epaxos.never", "x", "y")])


# -- the verdict -------------------------------------------------------------------------------------------

HARMLESS = Mutant("m", "a bug", "1", harmless="of a reason")
BENIGN = Mutant("m", "no bug", "1", benign="of a reason")


def row(verdict: str, mutant: Mutant = HARMLESS, replicas: int | None = None) -> Row:
    return Row(mutant, Task("m", DEFAULT, 9), Found(verdict, "checker", "what\nit says", 5, 1.0), replicas)


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([row("SAFETY"), row("LIVENESS")], 0),
        ([row("SAFETY"), row("CLEAN")], 1),
        ([row("CLEAN", replicas=3)], 0),
        ([row("CLEAN", Mutant("m", "a bug", "1"), replicas=3)], 1),
        ([row("CLEAN", BENIGN)], 0),
        ([row("SAFETY", BENIGN)], 1),
        ([row("CRASH", BENIGN)], 1),
        ([row("CRASH")], 1),
        ([row("MOVED")], 1),
    ],
)
def test_status(rows: list[Row], status: int) -> None:
    assert verdict(rows) == status


def test_survivor_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    verdict([row("CLEAN")])
    assert "SURVIVED: m: a bug" in capsys.readouterr().out


def test_what_does_no_harm_is_not_hunted_for_long() -> None:
    assert task_of(BENIGN, arguments("--seeds", "95")).seeds == 10


def test_control_runs_every_draw_and_schedule_once() -> None:
    tasks = [Task("a", SMALL, 9), Task("b", SMALL, 9), Task("c", DEFAULT, 9, schedule="x.txt")]
    unchanged = control(tasks, 30)
    assert [task.mutant for task in unchanged] == [""] * 3
    assert [(task.draw.name, task.seeds) for task in unchanged[:2]] == [("small", 30), ("default", 30)]
    assert unchanged[2].schedule == "x.txt"


def test_seeds_that_caught_are_run_unchanged() -> None:
    assert same_seeds([row("SAFETY"), row("SAFETY"), row("CLEAN")]) == [Task("", DEFAULT, 1, first=4)]


def test_replicas_replace_those_of_the_draw() -> None:
    mutant = Mutant("m", "a bug", "1", draw=Draw("some", replicas=5), schedule="x.txt")
    task = task_of(mutant, arguments("--replicas", "3"))
    assert (task.draw.name, task.draw.replicas, task.schedule) == ("some; n=3", 3, "")


@pytest.mark.parametrize("argv", [("--only", "nobody"), ("--seeds", "0"), ("--jobs", "many")])
def test_arguments_that_are_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments(*argv)


def test_table_of_a_document_is_refreshed(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    known = [Mutant(name, "a bug", "1") for name in "lmn"]
    file.write_text(f"before\n{BEGIN.format('mutants')}\n|`n`|n|\n|`gone`|x|\nold\n{END}\nafter\n")
    refresh(file, [row("SAFETY")], "mutants", known)
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert listed(text, "mutants") == {
        "m": "|`m`|a bug|1|5|default|safety: checker|harmless|",
        "n": "|`n`|n|",
    }
    assert "old" not in text


def test_document_without_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("nothing")
    with pytest.raises(ValueError, match="there must be"):
        refresh(file, [], "mutants", MUTANTS)


def test_document_lists_the_mutants_that_there_are() -> None:
    """Run `tools/mutants --only NAME --markdown docs/mutants.md` if this fails."""
    text = (ROOT / "docs" / "mutants.md").read_text()
    names = [mutant.name for mutant in MUTANTS]
    lines = listed(text, "mutants")
    assert list(lines) == names
    for mutant in MUTANTS:
        bug = mutant.bug.replace("|", r"\|")
        assert lines[mutant.name].startswith(f"|`{mutant.name}`|{bug}|")
        assert "SURVIVED" not in lines[mutant.name]
    assert reasons(MUTANTS) in text
    of_consequences = listed(text, "consequences")
    assert list(of_consequences) == [name for name in names if name in of_consequences]
