from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import Result

import broken_cores
from epaxos.cli import simulate
from epaxos.simulation.coverage import GROUPS
from epaxos.simulation.run import Outcome
from epaxos.simulation.sweep.sweep import Summary
from epaxos.transport.pages import EPAXOS_PAGE
from epaxos.version import __version__

Run = Callable[..., Result]
Break = Callable[[pytest.MonkeyPatch], None]
SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parents[3]


# -- one seed ------------------------------------------------------------------------------------------------


def test_one_seed_tells_what_it_drew_and_what_it_exercised(run: Run) -> None:
    result = run("simulate", "--seed", "7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"seed 7 of epaxos {__version__}, Python 3.")
    assert "  replicas=7  f=3  e=2  " in result.stdout
    assert re.search(r"^clean: 8 commands answered, .* s of virtual time$", result.stdout, re.MULTILINE)
    assert re.search(r"^  commits\n    commit: fast +\d$", result.stdout, re.MULTILINE)
    assert result.stdout == run("simulate", "--seed", "7").stdout


def test_without_a_seed_a_fresh_one_is_drawn_and_named(run: Run) -> None:
    first, second = (run("simulate", "--operations", "2", "--faults", "none") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    seeds = [result.stdout.split()[1] for result in (first, second)]
    assert seeds[0] != seeds[1]
    assert f"seed={seeds[0]} " in first.stdout


def test_overrides(run: Run) -> None:
    page = run(
        "simulate", "--seed", "7", "--replicas", "4", "--faults", "loss, crash", "--operations", "5"
    ).stdout
    assert "replicas=4" in page.split()
    assert "faults=loss,crash" in page.split()
    assert "clean: 5 commands answered" in page
    assert "faults=none" in run("simulate", "--seed", "7", "--faults", "none").stdout.split()
    assert "duplicate,reorder,storm" in run("simulate", "--seed", "7", "--faults", "all").stdout


def test_a_picture_has_every_message_and_what_came_of_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "seed.svg"
    few = ("simulate", "--seed", "7", "--replicas", "3", "--operations", "3", "--faults", "none")
    result = run(*few, "--picture", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    svg = ET.parse(file).getroot()
    arrows = [path for path in svg.iter(f"{SVG}path") if (path.get("class") or "").startswith("message")]
    assert f"{file}: {len(arrows)} messages\n" in result.stdout
    texts = ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]
    assert len(arrows) == len([text for text in texts if text in EPAXOS_PAGE.names.values()]) > 6
    assert {"A", "B", "C"} < set(texts)
    assert sum(text.startswith("answers the client of ") for text in texts) == 3
    (place,) = {text.rpartition(" ")[2] for text in texts if text.startswith("answers")} & {
        "A.0",
        "B.0",
        "C.0",
    }
    assert run(*few, "--picture", "-", "--around", place).stdout.count('class="message') < len(arrows)
    for words in (
        ["--around", "Z.1", "--picture", "-"],
        ["--around", "A.0"],
        ["--seeds", "0:2", "--picture", "-"],
    ):
        assert run(*few[:1], *words).exit_code == 2


def test_a_trace_has_every_message(run: Run) -> None:
    traces = ((str(seed), run("simulate", "--seed", str(seed), "--trace").stdout) for seed in range(7, 100))
    seed, page = next(trace for trace in traces if "LOST" in trace[1] and "RESTARTS with" in trace[1])
    for event in (
        r"client \d+ asks 1: \w+",
        r"-> \d.*  PreAccept \d\.0 command=\[",
        r"<- \d  PreAcceptOK ",
        "LOST",
    ):
        assert re.search(event, page), event
    for event in (
        r"writes \d\.0 COMMITTED ",
        r"DECIDES \d\.\d+ \(fast\)",
        "CRASHES",
        "RESTARTS with",
        "executes ",
    ):
        assert re.search(event, page), event
    assert "-- the faults are over" in page
    assert "  Beacon " not in page
    assert page.splitlines()[-1] == run("simulate", "--seed", seed).stdout.splitlines()[-1]
    assert "  Beacon " in run("simulate", "--seed", seed, "--trace", "--everything").stdout


@pytest.mark.parametrize(
    ("broken", "seed", "code", "finding"),
    [
        (broken_cores.hasty, 0, 12, "safety\n  quorum: replica 0 decides 0.0 = "),
        (broken_cores.fragile, 1, 11, "crash\n  Traceback (most recent call last):\n"),
        (broken_cores.trusting, 131, 10, "liveness\n  not finished "),
    ],
)
def test_exit_codes_tell_failures_apart(
    run: Run, monkeypatch: pytest.MonkeyPatch, broken: Break, seed: int, code: int, finding: str
) -> None:
    broken(monkeypatch)
    result = run("simulate", "--seed", str(seed), "--no-minimise")
    assert result.exit_code == code
    assert f"seed {seed} FAILS: {finding}" in result.stdout
    assert "minimised" not in result.stdout


def test_a_failure_can_be_replayed_and_comes_with_its_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.hasty(monkeypatch)
    overrides = ("--replicas", "5", "--operations", "4")
    results = (run("simulate", "--seed", str(seed), *overrides) for seed in range(100))
    result = next(result for result in results if result.exit_code)
    assert result.exit_code == 12
    [command] = re.findall(r"^  replay   epaxos (.*)$", result.stdout, re.MULTILINE)
    assert run(*command.split()).stdout == result.stdout
    assert f"  version  epaxos {__version__}, Python 3." in result.stdout
    path = result.stdout.partition("minimised in ")[2].splitlines()
    assert path[-1].endswith("(fast)")
    assert any("PreAccept " in line for line in path)


# -- many seeds ----------------------------------------------------------------------------------------------


def test_a_sweep_sums_up_what_was_exercised(run: Run) -> None:
    result = run("simulate", "--seeds", "3:8", "--jobs", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"^    commit: slow +[\d,]+ +\d+$", result.stdout, re.MULTILINE)
    assert re.search(r"^5 seeds in [\d.]+ s \([\d.,]+ seeds/s\), 0 failed$", result.stdout, re.MULTILINE)
    assert re.search(r"a core: [\d,]+ commands a minute, [\d,]+ seeds an hour$", result.stdout, re.MULTILINE)
    assert "not exercised by so few seeds: " in result.stdout


def test_a_summary_for_programs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    shown = run("simulate", "--seeds", "3:6", "--jobs", "1", "--json", str(file))
    report = json.loads(file.read_text())
    assert (report["seeds"], report["verdict"], report["failures"]) == (3, "clean", [])
    assert report["exercised"]["commit: fast"]["seeds"] <= 3
    assert "3 seeds in" in shown.stdout
    piped = run("simulate", "--seeds", "3:6", "--jobs", "1", "--json", "-")
    assert json.loads(piped.stdout)["exercised"] == report["exercised"]
    assert "3 seeds in" in piped.stderr


def test_a_progress_bar_only_where_it_is_wanted(run: Run) -> None:
    result = run("simulate", "--seeds", "3:6", "--jobs", "1", "--progress")
    assert "0 failed" in result.stderr
    assert "\r" not in result.stdout


def test_a_sweep_names_all_failures_and_explains_one_of_a_kind(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_cores.hasty(monkeypatch)
    result = run("simulate", "--seeds", "0:6", "--jobs", "1", "--replicas", "3")
    assert result.exit_code == 12
    assert len(re.findall(r"^seed \d+ FAILS: safety$", result.stdout, re.MULTILINE)) == 1
    others = re.findall(r"^seed (\d+) fails like one of these: epaxos (.*)$", result.stdout, re.MULTILINE)
    assert others
    for seed, command in others:
        assert command == f"simulate --seed {seed} --replicas 3"
    assert len(re.findall(r"^seed \d+, minimised in \d+ runs", result.stdout, re.MULTILINE)) == 1


def test_the_worst_of_several_failures_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_cores.hasty(monkeypatch)
    broken_cores.fragile(monkeypatch)
    report = json.loads(
        run("simulate", "--seeds", "0:16", "--jobs", "1", "--no-minimise", "--json", "-").stdout
    )
    assert {failure["verdict"] for failure in report["failures"]} == {"safety", "crash"}
    assert report["verdict"] == "safety"


def test_a_large_sweep_that_met_too_little_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = Summary(seeds=5000)
    summary.marks.update(name for names in GROUPS.values() for name in names if name != "storm")
    monkeypatch.setattr(simulate, "sweep", lambda *_: summary)
    result = run("simulate", "--seeds", "0:5000")
    assert result.exit_code == 1
    assert "NEVER EXERCISED, though so many seeds must: storm\n" in result.stdout


def test_seeds_that_never_end_are_named_and_not_minimised(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr("epaxos.simulation.sweep.sweep.run_seed", die)
    result = run("simulate", "--seeds", "4:6", "--jobs", "1")
    assert result.exit_code == 11
    for seed in (4, 5):
        assert (
            f"seed {seed} FAILS: crash\n  its process was killed by SIGKILL (out of memory?)\n"
            in result.stdout
        )
    assert "minimised" not in result.stdout


def test_ctrl_c_prints_what_had_been_done() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "epaxos", "simulate", "--seeds", "0:1000000", "--jobs", "1", "--progress"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        text=True,
    )
    assert process.stderr is not None
    shown = ""
    while not re.search(r"[1-9]\d* done", shown):
        shown += process.stderr.read(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    printed, complaints = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "0 failed; interrupted\n" in printed
    assert "Traceback" not in printed + complaints
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--seeds", "5"],
            "'--seeds': found '5'; allowed: A:B, seeds from A up to and without B, like 0:1000",
        ),
        (["--seeds", "5:5"], "'--seeds': found '5:5'; allowed: A:B"),
        (["--seeds", "-1:5"], "'--seeds': found '-1:5'; allowed: A:B"),
        (["--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--replicas", "16"], "'--replicas': 16 is not in the range 1<=x<=15"),
        (["--operations", "0"], "'--operations': 0 is not in the range"),
        (["--faults", "loss,fire"], "'--faults': found 'fire'; allowed: all, none, or some of loss, "),
        (["--duration", "5x"], "'--duration': found '5x'; allowed: a duration like "),
        (["--seed", "1", "--seeds", "0:2"], "--seed N and a sweep (--seeds, --duration) exclude each other"),
        (
            ["--trace", "--duration", "1s"],
            "--trace or --picture and a sweep (--seeds, --duration) exclude each other",
        ),
        (["--seed", "1", "--jobs", "2"], "--jobs and a single seed exclude each other"),
        (["--json", "/none/summary.json"], "'--json': cannot write '/none/summary.json'"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(run: Run, words: list[str], line: str) -> None:
    result = run("simulate", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1
