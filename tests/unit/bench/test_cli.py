"""`epaxos bench` from the command line to its exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from epaxos.cli import bench as module
from epaxos.cli.bench import bench
from epaxos.cli.main import main
from epaxos.config import Config
from fake_cluster import Asked, FakeCluster


@pytest.fixture
def run(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "load_any", lambda _: cluster.config)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["bench", *arguments])

    return invoke


def test_a_table_for_people(run: Any) -> None:
    result = run("--operations", "500", "--conflicts", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("500 commands in ")
    assert "100 % writes, 2 % on one hot key" in lines[0]
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    for name in ("alpha", "bravo", "charlie", "all"):
        assert len(rows[name]) == 9
        assert rows[name][-2:] == ["100.0%", "0"]
    assert max(map(len, lines[1:10])) <= 80
    assert result.stderr == ""


def test_json_for_programs(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    result = run("--operations", "500", "--seed", "7", "--warmup", "100", "--json", str(file))
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert report["operations"] == 500
    assert report["errors"] == 0
    assert report["errors_by_kind"] == {}
    assert report["throughput_ops"] == pytest.approx(500 / report["elapsed_s"], rel=0.01)
    latencies = report["latency_ms"]
    assert set(latencies) == {"p50", "p90", "p99", "p999", "max"}
    assert (
        0 < latencies["p50"] <= latencies["p90"] <= latencies["p99"] <= latencies["p999"] <= latencies["max"]
    )
    assert report["fast_path_ratio"] == 1
    assert sum(replica["operations"] for replica in report["replicas"].values()) == 500
    assert set(report["replicas"]["alpha"]) >= set(latencies) - set(latencies) | {
        "latency_ms",
        "throughput_ops",
    }
    config = report["config"]
    assert (config["seed"], config["operations"], config["duration"]) == (7, 500, None)
    assert config["warmup_operations"] == 100
    assert config["version"]
    assert config["cluster"]["name"] == "fake"
    assert report["floor"] is None
    assert report["verify"] is None


def test_an_observer_has_a_row_of_its_own_and_the_age_of_its_state(
    run: Any, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    *voters, observer = cluster.config.replicas
    config = replace(cluster.config, replicas=tuple(voters), observers=(observer,))
    monkeypatch.setattr(module, "load_any", lambda _: config)
    cluster.status["age_s"] = 0.25
    result = run("--operations", "500", "--reads", "observer", "--writes", "20")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["alpha"][-2:] == ["100.0%", "0"]
    observed = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["charlie"])
    assert (len(observed.split()), observed.split()[-1]) == (9, "0")
    text = "charlie has no vote: these are reads, and the age of its state was 0.250 s at most at the end"
    assert text in result.stdout


def test_json_on_stdout_leaves_the_table_to_stderr(run: Any) -> None:
    result = run("--operations", "100", "--json", "-")
    assert json.loads(result.stdout)["operations"] == 100
    assert "commands/s" in result.stderr


def test_verify_and_floor(run: Any) -> None:
    result = run("--operations", "1000", "--conflicts", "25", "--verify", "--floor", "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["verify"]["fine"]
    assert report["verify"]["commands"] == 1000
    assert report["verify"]["digests"] == {"alpha": "d1", "bravo": "d1", "charlie": "d1"}
    assert report["floor"]["round_trips"] > 0
    ratio = report["latency_ms"]["p50"] / report["floor"]["p50_ms"]
    assert report["floor"]["latency_p50_ratio"] == pytest.approx(ratio, abs=0.01)
    assert "state: identical on 3 replicas" in result.stderr


def test_a_page_that_needs_nothing_else_and_charts_in_the_terminal(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = run("--operations", "2000", "--series", "10ms", "--html", str(file), "--plot")
    assert result.exit_code == 0, result.output
    text = file.read_text()
    assert text.count("<svg") == 3  # over time, percentiles, distribution
    for words in ("commands/s", "50 %", "charlie", "latency, ms", "Command", "processor", "var(--ink)"):
        assert words in text
    asked_for = re.findall(r'(?:src|href)="(?!#)([^"]*)"|(url\((?!#)|@import)', text)
    assert asked_for == [("data:,", "")]  # the icon
    assert "#1f2328" not in text.split("</style>")[1]  # each ink is the page's
    assert "commands/s over seconds" in result.stdout
    assert "latency in ms by percentile" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--html", "-", "--json", "-"], "exclude each other"),
        (["--plot"], "bench --plot needs what is not installed here (plotext): pip install 'epaxos[plots]'"),
    ],
)
def test_charts_that_cannot_be_made_are_refused_before_the_run(
    run: Any, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, arguments: list[str], words: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "plotext" else found(name))
    result = run("--operations", "9", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert cluster.asked == []


def test_states_that_differ_fail_the_verification(run: Any, cluster: FakeCluster) -> None:
    cluster.digests[2] = "d2"
    result = run("--operations", "100", "--verify")
    assert result.exit_code == 1
    assert "states differ" in result.stdout


def test_errors_are_told_by_kind_and_in_the_exit_code(run: Any, cluster: FakeCluster) -> None:
    cluster.behave = lambda asked: cluster.refused(asked.batch, "no")
    result = run("--operations", "99")
    assert result.exit_code == 1
    assert "error: 99 x refused" in result.stdout
    assert "refused: no" in result.stdout


def test_a_replica_that_does_not_answer_is_left_out_and_told(
    run: Any, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epaxos.bench.run._PATIENCE", 0.3)
    cluster.silent = {1}
    result = run("--operations", "300")
    assert result.exit_code == 1
    assert "error: bravo does not answer" in result.stdout
    assert {asked.replica for asked in cluster.asked} == {0, 2}


def test_no_replica_at_all_is_one_line(nobody: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epaxos.bench.run._PATIENCE", 0.3)
    monkeypatch.setattr(module, "load_any", lambda _: nobody)
    result = CliRunner().invoke(main, ["bench", "--operations", "10"])
    assert result.exit_code == 3
    assert result.stderr.startswith("epaxos bench: no replica of fake (fake.toml) answers: alpha at tcp://")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_the_progress_bar_is_on_stderr_and_only_when_wanted(run: Any) -> None:
    assert "%" in run("--duration", "250ms", "--progress").stderr
    assert run("--operations", "100", "--no-progress").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--operations", "10", "--duration", "1s"], ["--operations", "--duration", "exclude"]),
        (["--closed", "--window", "10"], ["--closed", "--window", "exclude"]),
        (["--closed", "--rate", "10"], ["--closed", "--rate", "exclude"]),
        (["--closed", "--batch", "10"], ["--closed", "--batch", "exclude"]),
        (["--conflicts", "5", "--zipf", "1"], ["--conflicts", "--zipf", "exclude"]),
        (["--duration", "10k"], ["--duration", "'10k'", "500ms"]),
        (["--warmup", "soon"], ["--warmup", "'soon'", "500ms"]),
        (["--writes", "120"], ["--writes 120", "0 to 100"]),
        (["--replicas", "alpha,brav"], ["brav", "bravo"]),
        (["--replicas", ","], ["--replicas", "at least one"]),
        (["--json", "/nowhere/report.json"], ["--json", "/nowhere/report.json", "No such file"]),
        (["--value-size", "2000000"], ["--value-size 2000000", "1048576"]),
    ],
)
def test_bad_options_say_what_is_allowed(run: Any, arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    (message,) = result.stderr.splitlines()
    assert all(word in message for word in words), message


def test_the_default_is_a_few_seconds_of_open_loop(cluster: FakeCluster) -> None:
    given: dict[str, Any] = dict.fromkeys(
        ("operations", "duration", "window", "rate", "clients", "replicas", "batch", "timeout", "tries")
    )
    given |= {"key_size": 8, "value_size": 8}
    options = module.make_options(cluster.config, closed=False, across=0.0, within=0.0, **given)
    assert options.stop.seconds == 5
    assert options.clients == 3
    assert options.timeout == cluster.config.client.timeout


def test_ctrl_c_prints_what_was_measured(run: Any, cluster: FakeCluster) -> None:
    def interrupt_after_some(_: Asked) -> None:
        if len(cluster.asked) == 200:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    cluster.behave = interrupt_after_some
    before = signal.getsignal(signal.SIGINT)
    result = run("--duration", "60s")
    assert result.exit_code == 130
    assert "interrupted: these are the figures until then" in result.stdout
    assert signal.getsignal(signal.SIGINT) is before


def test_help_is_complete(run: Any) -> None:
    text = run("--help").output
    for option in bench.params:
        assert option.opts[0] in text
    assert "Exit codes" in text
