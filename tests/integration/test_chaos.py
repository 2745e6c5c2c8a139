"""tools/chaos kills a real replica under load, finds nothing wrong, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.__main__ import main
from live_cluster import ROOT

CHAOS = [sys.executable, str(ROOT / "tools" / "lib" / "run.py"), "chaos"]
SHORT = ["--duration", "6s", "--interval", "2s", "--clients", "2", "--bulk", "200"]


def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start it with a temporary directory of its own."""
    return subprocess.Popen(
        [*CHAOS, *SHORT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(directory)} | environment,
    )


def remains(directory: Path) -> list[str]:
    """Processes whose command line names the directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if str(directory) in line:
            found.append(line)
    return found


@pytest.mark.timeout(60)
def test_survivors_of_a_kill_answer_right_and_in_time(tmp_path: Path) -> None:
    process = start(tmp_path, "--faults", "kill", "--seed", "5", "--watchers", "6", "--json")
    printed, said = process.communicate(timeout=50)
    report = json.loads(printed)
    assert process.returncode == 0, said + printed
    assert sum(report["faults"].values()) == sum(report["kills"].values()) == 1
    (event,) = report["events"]
    assert event["kind"].startswith("kill")
    assert 0 < event["begin"] < event["end"] == pytest.approx(report["seconds"], abs=0.002)
    assert report["longest_gap"]["seconds"] <= 3 * report["timeout"]
    assert report["errors"]["healthy"] == {}
    assert report["findings"] == []
    assert report["apart"] == report["missed"] == []
    assert report["watchers"]["changes"] > 100
    assert "--seed 5" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(100)
def test_replicas_come_back_one_by_one_and_all_together(tmp_path: Path) -> None:
    kinds = ["--faults", "restart,restart-all", "--duration", "60s", "--seed", "1493"]
    process = start(tmp_path, *kinds, "--kills", "6", "--all-down", "1", "--json")
    printed, said = process.communicate(timeout=90)
    report = json.loads(printed)
    assert process.returncode == 0, said + printed
    assert sum(report["kills"].values()) == report["restarts"] >= 6
    assert report["all_down"] >= 1
    assert report["done"]["resumes"] >= 4
    assert report["audits"][0]["answered"] > 100
    assert report["audits"][0]["wrong"] == report["findings"] == report["apart"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(60)
def test_replicas_are_drained_and_come_back_whoever_of_them_leads(tmp_path: Path) -> None:
    options = ["--faults", "drain", "--duration", "8s", "--seed", "40", "--json"]  # each of them once
    process = start(tmp_path, *options, EPAXOS_PROTOCOL="multipaxos")
    printed, said = process.communicate(timeout=50)
    report = json.loads(printed)
    assert process.returncode == 0, said + printed
    assert report["restarts"] == 3
    assert sum(report["kills"].values()) == 0
    assert report["audits"][0]["wrong"] == report["findings"] == report["apart"] == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("number", "faults"),
    [(signal.SIGINT, "pause"), (signal.SIGINT, "restart-all"), (signal.SIGKILL, "pause")],
)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_nothing_is_left_however_it_ends_even_a_replica_that_stood_still(
    tmp_path: Path, number: signal.Signals, faults: str
) -> None:
    process = start(tmp_path, "--faults", faults, "--seed", "1")
    assert process.stderr is not None
    for line in process.stderr:
        if f" s  {faults} " in line:
            break
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    deadline = time.monotonic() + 20
    while remains(tmp_path):
        assert time.monotonic() < deadline, remains(tmp_path)
        time.sleep(0.1)
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["--faults", "fire"], "--faults: found fire; allowed: one or more of kill, pause, cut, delay"),
        (
            ["--faults", "restart", "--engine", "memory"],
            "--engine: found memory; allowed: sqlite, for restarts",
        ),
        (["--faults", "pause", "--kills", "3"], "--kills: found 3; allowed: above 0, with kills or restarts"),
        (
            ["--faults", "restart", "--all-down", "3"],
            "--all-down: found 3; allowed: above 0, with restart-all",
        ),
        (["--interval", "1s"], "--interval: found 1.0; allowed: twice the time-out or more"),
        (["--duration", "5s"], "--duration: found 5.0; allowed: three intervals or more"),
        (["--replicas", "2"], "--replicas: found 2; allowed: 3 to 7"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*SHORT, *arguments])
        assert ended.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"tools/chaos: error: {text}")
