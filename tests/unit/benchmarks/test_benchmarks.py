"""Each benchmark with a cluster that only says what it was asked for; that it runs at all is in integration."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks import (
    bars,
    failover,
    groups,
    guard,
    keys,
    plots,
    registers,
    report,
    study,
    wan,
    watch,
    workloads,
)
from benchmarks.__main__ import DOCUMENT, EVERYTHING, STUDIES, chosen_of, main, parse
from benchmarks.bars import Bar
from benchmarks.cluster import BenchmarkError, Cluster, Processes, Settings, figures_of
from benchmarks.peers import compare
from benchmarks.peers.driver import Watch
from benchmarks.peers.peer import Peer
from benchmarks.peers.systems import ALL
from benchmarks.study import Case, Options, Results, Study, clusters
from epaxos.cli.bench import bench, make_options
from epaxos.cli.main import main as entry
from epaxos.config import load_config
from epaxos.simulation.fleet import Done
from shared.processes import Children

FIGURES = dict.fromkeys(study.FIGURES, 1.0)
SERIES = {
    "started": 100.0,
    "interval_s": 0.1,
    "replicas": {
        name: {
            "operations": [10] * 5 + [0] * 5 + [20] * 20,
            "mean_ms": [1.0] * 5 + [None] * 5 + [3.0] * 20,
            "longest_ms": [2.0] * 5 + [0.0] * 5 + [500.0] * 20,
            "longest_gap_ms": 510.0 if name == failover.KILLED else 60.0,
        }
        for name in ("alpha", "bravo", "charlie")
    },
}


class FakeCluster:
    """Takes any load, and says that all of it cost the same."""

    names = ("alpha", "bravo", "charlie")

    def __init__(self, log: list[str], settings: Settings, options: dict[str, Any]) -> None:
        self._log = log
        self._executed = count()
        self.used = self
        log.append(f"start {options.get('n', 3)} {settings.get('storage.engine')}")

    def __getattr__(self, name: str) -> Any:
        answers = {
            "memory": 10**9,
            "rounds": {},
            "slow_rounds": (1.0, 2.0),
            "executed": next(self._executed),
            "start_load": self,
        }

        def note(*arguments: object) -> object:
            self._log.append(" ".join((name, *map(str, arguments))))
            return answers.get(name)

        return note

    def measure(self, *arguments: str) -> study.Sample:
        self._log.append(" ".join(("measure", *arguments)))
        return dict(FIGURES)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals are for the tests again after a program of the benchmarks has run here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to the clusters that the benchmarks started."""
    said: list[str] = []

    @contextmanager
    def running(settings: Settings, **options: Any) -> Iterator[tuple[FakeCluster, int]]:
        yield FakeCluster(said, settings, options), 0

    for module in (study, failover, keys, compare, guard, watch):
        monkeypatch.setattr(module, "running", running)
        monkeypatch.setattr(module, "pause", lambda *_: None)
    monkeypatch.setattr(failover, "read_report", lambda _: {"errors": 0, "series": SERIES})
    moments = cycle([100.5, 101.0, 101.25])  # of the kill, of the start, and when it serves
    monkeypatch.setattr(failover, "time", lambda: next(moments))
    monkeypatch.setattr(workloads, "sync_ms", lambda: 1.0)
    monkeypatch.setattr(workloads, "touch_memory", lambda size, huge=False: 1.0)  # noqa: ARG005  not two GiB of it
    monkeypatch.setattr(compare, "ALL", ())
    monkeypatch.setattr(wan, "_run", lambda commands, _: [(name, _simulated()) for name, _ in commands])
    return said


def _simulated() -> Done:
    site = {
        "commit_ms": {"p50": 2.0, "p99": 3.0},
        "optimum_ms": {"fast": 1.0},
        "execution_ms": {"p50": 4.0, "p99": 5.0},
        "fast_path_ratio": 0.5,
    }
    return Done(0, json.dumps({"sites": {"us": site, "eu": site}}).encode(), b"")


def all_cases() -> list[Case]:
    loads = [
        case
        for some in STUDIES.values()
        if some not in (wan.STUDY, registers.STUDY, groups.STUDY)
        for case in some.cases
    ]
    return loads + [Case(name, load) for name, load in guard.SCENARIOS.items()]


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_a_case_is_a_load_and_a_cluster_that_exist(case: Case, tmp_path: Path) -> None:
    cluster = Cluster(Children(), tmp_path, case.settings, n=case.n)
    config = load_config(str(cluster.file), environ={})
    assert len(config.replicas) == case.n
    command = cluster.command("--warmup", "300ms", *case.load)
    with entry.make_context("epaxos", ["bench"]) as outer:  # whose names for --help are its own from then on
        given = bench.make_context("bench", command[command.index("bench") + 1 :], outer).params
    for name in ("config_file", "json_file", "html_file", "plot", "progress"):
        given.pop(name)
    assert make_options(config, **given).clients


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_benchmark_measures_its_baseline_and_shows_what_it_promises(name: str, log: list[str]) -> None:
    results = STUDIES[name].measure(STUDIES[name], Options(cycles=2, duration=0.1, quick=True))
    chosen = STUDIES[name]
    assert results.ratio(chosen.baseline, chosen.baseline, chosen.figures[0]) == 1
    assert set(results.described) == set(results.samples)
    for figure in chosen.figures:
        assert any(results.values(case, figure) for case in results.samples), figure
    for row in report.rows(chosen, results):
        assert len(row) == len(report.headings(chosen))
    assert name == "wan" or log


def test_registers_are_measured() -> None:
    results = registers.STUDY.measure(registers.STUDY, Options(cycles=1, tiny=True))
    samples = [sample for samples in results.samples.values() for sample in samples]
    assert all((sample["throughput"] > 0) == (sample.get("cpu_all", 0) > 0) for sample in samples)
    assert len(results.samples) == 2


def test_watchers_are_there_while_the_load_is(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def watching(_: object, count: int, what: str) -> Iterator[study.Sample]:
        log.append(f"watch {count} {what}")
        yield {"told": float(count)}
        log.append("watch no more")

    monkeypatch.setattr(watch, "watching", watching)
    results = watch.STUDY.measure(watch.STUDY, Options(cycles=2, duration=0.1))
    assert [results.median(case.name, "told") for case in watch.STUDY.cases] == [0, 10, 200, 10, 200, 10]
    assert [line.split()[0] for line in log] == ["start", "load", "watch", "measure", "watch"] * 12
    assert watch.prefix_of(watch.SOME, 7) == b"000007"
    assert watch.prefix_of(watch.OTHER, 7) == b"other.7"
    assert watch.prefix_of(watch.ALL, 7) == b""


def test_lists_are_made_while_the_load_is(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def list_all(_: object) -> study.Sample:
        log.append("list")
        return {"took": 1.0, "page_max": 2.0, "listed": 3.0}

    monkeypatch.setattr(keys, "list_all", list_all)
    results = keys.SCAN.measure(keys.SCAN, Options(cycles=2, quick=True))
    assert [results.median(case.name, "listed") for case in keys.SCAN.cases] == [1, 1, 3, 3, 1]
    assert [line.split()[0] for line in log].count("list") == 4
    assert {line.split()[2] for line in log if line.startswith("load")} == {"100000"}
    assert results.ratio(keys.SCAN.cases[-1].name, keys.SCAN.baseline, "cpu") == 1


@pytest.mark.parametrize("case", groups.STUDY.cases, ids=lambda case: case.name)
def test_a_case_of_groups_is_a_load_that_exists(case: Case) -> None:
    with entry.make_context("epaxos", ["bench"]) as outer:
        given = bench.make_context("bench", ["-c", "groups.toml", *case.load], outer).params
    assert 0 <= given["across"] + given["within"] <= 100
    assert given["clients"] == (1 if case.load[1] == "1" else groups.CALLERS * int(case.group))


def test_the_package_of_a_source_is_used_wherever_the_benchmark_was_started(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import epaxos, json; print(json.dumps(epaxos.__file__))'\n"
    )
    python.chmod(0o755)
    source = tmp_path / "source" / "epaxos" / "__init__.py"
    source.parent.mkdir(parents=True)
    source.touch()
    cluster = Cluster(Children(), tmp_path, {}, python=str(python), source=tmp_path / "source")
    told: object = cluster.load()
    assert told == str(source)


def test_cases_take_turns_on_clusters_that_they_share() -> None:
    cases = [Case("a"), Case("b"), Case("c", n=5), Case("d", settings={"storage.engine": "memory"}, n=5)]
    assert [[case.name for case in some] for some in clusters(cases, backwards=False)] == [
        ["a", "b"],
        ["c"],
        ["d"],
    ]
    assert [[case.name for case in some] for some in clusters(cases, backwards=True)] == [
        ["d"],
        ["c"],
        ["b", "a"],
    ]


def test_a_cluster_is_loaded_before_anything_is_measured(log: list[str]) -> None:
    STUDIES["reads"].measure(STUDIES["reads"], Options(cycles=1))
    assert log[:2] == ["start 3 memory", f"load --operations {study.PRIMING}"]
    assert log[2].startswith("measure ")


def test_the_longest_round_is_one_since_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"alpha": [(0.01, 5.0), (0.1, 6.0)], "bravo": [(0.01, 7.0), (0.1, 7.0)]}
    after = {"alpha": [(0.01, 8.0), (0.1, 9.0)], "bravo": [(0.01, 8.0), (0.1, 8.0)]}
    cluster = Cluster.__new__(Cluster)
    monkeypatch.setattr(Cluster, "rounds", lambda _: after)
    assert cluster.slow_rounds() == (100.0, 100.0)
    assert cluster.slow_rounds(before) == (10.0, 10.0)


def test_ratios_are_those_of_each_cycle() -> None:
    results = Results(
        {"a": [{"cpu": 1.0}, {"cpu": 10.0}, {"cpu": 3.0}], "b": [{"cpu": 2.0}, {"cpu": 5.0}, {}]}
    )
    assert results.median("a", "cpu") == 3
    assert results.ratio("b", "a", "cpu") == 1.25
    assert results.median("a", "p50") is None
    assert results.ratio("a", "b", "p50") is None


def test_a_failover_is_told_by_its_phases(log: list[str]) -> None:
    results = failover.failover(failover.STUDY, Options(cycles=1, tiny=True))
    before, away, back = (results.samples[f"no conflicts: {phase}"][0] for phase in failover.PHASES)
    assert before == {"throughput": 200.0, "mean": 1.0, "max": 2.0, "errors": 0.0}
    assert away == {"throughput": 0.0, "mean": 0.0, "max": 0.0, "gap": 60.0, "gap_away": 510.0}
    assert back == {"throughput": 400.0, "mean": 3.0, "max": 500.0, "serving": 0.25}
    moves = [line for line in log if line.startswith(("kill", "start charlie"))]
    assert moves == ["kill charlie", "start charlie 0"] * 2


def test_what_a_load_reports_becomes_figures() -> None:
    latency = {"p50": 1.0, "p99": 2.0, "p999": 3.0, "max": 4.0}
    told = {"throughput_ops": 5, "latency_ms": latency, "fast_path_ratio": None, "errors": 0}
    generator = {"cpu_us_per_operation": 7}
    figures = figures_of(told | {"generator": generator, "floor": {"p50_ms": 0.5, "latency_p50_ratio": 2.0}})
    assert figures["to_floor"] == 2.0
    assert figures["client"] == 7.0
    assert "fast" not in figures
    assert set(figures) <= set(study.FIGURES)
    assert "floor" not in figures_of(told | {"generator": generator, "floor": None})


# -- reports ---------------------------------------------------------------------------------------------------


def _measured(*names: str) -> dict[str, tuple[Study, Results]]:
    options = Options(cycles=2, duration=0.1, quick=True)
    return {name: (STUDIES[name], STUDIES[name].measure(STUDIES[name], options)) for name in names}


@pytest.mark.usefixtures("log")
def test_a_report_can_be_read_again() -> None:
    measured = _measured("reads", "failover")
    told = report.as_json({"cores": 2}, measured)
    where, again = report.from_json(json.dumps(told), STUDIES)
    assert where == {"cores": 2}
    assert report.as_json(where, again) == told
    with pytest.raises(BenchmarkError, match="not a report of benchmarks/run --json"):
        report.from_json("{}", STUDIES)


def test_a_reader_is_told_where_longest_times_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    took = cycle([1.0] * 98 + [9.0] * 2)
    clock = iter(x for each in took for x in (0.0, each))
    monkeypatch.setattr("benchmarks.report.time.thread_time", lambda: next(clock))
    monkeypatch.setattr("benchmarks.report.time.sleep", lambda _: None)
    where = report.machine(Options(tiny=True))
    assert where["uneven"] == 9.0
    assert " and took 9 medians for the slowest hundredth of plain work; " in report.machine_line(where)
    even = report.machine_line(where | {"uneven": 2.9})
    assert "% busy before; " in even
    del where["uneven"]
    assert report.machine_line(where) == even, "of a report before that was told"


def test_a_document_gets_new_figures_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    end = "<!-- figures: end -->\n"
    two = f"b\n<!-- figures: two -->\n{end}"
    document.write_text(f"a\n<!-- figures: one -->\nold\n{end}{two}")
    report.fill(document, {"one": "new\n"})
    report.fill(document, {"one": "newer\n", "three": "nowhere\n"})
    assert document.read_text() == f"a\n<!-- figures: one -->\nnewer\n{end}{two}"


def test_the_document_has_a_place_for_every_benchmark_and_the_pictures_that_it_shows() -> None:
    text = DOCUMENT.read_text()
    assert {name for _, name, _ in report.BLOCK.findall(text)} == {*STUDIES, "bars", "machine"}
    for place in re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (DOCUMENT.parent / place).is_file(), place


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("name", ["conflicts", "failover", "peers"])
def test_pictures_are_small_and_come_in_light_and_dark(name: str, tmp_path: Path) -> None:
    drawn = plots.draw(*_measured(name)[name], tmp_path)
    assert [file.name for file in drawn] == [f"{name}-light.svg", f"{name}-dark.svg"]
    for file in drawn:
        assert ET.parse(file).getroot().tag.endswith("svg")
        assert file.stat().st_size < 80_000, file


def test_a_bar_says_whether_it_is_held() -> None:
    measured = {"s": Results({"c": [{"cpu": 3.0}], "d": [{"cpu": 2.0}]})}
    assert Bar("x", "9", 3.0, bars.median("s", "c", "cpu")).row(measured) == [
        "x",
        "9",
        "3.00",
        "≤ 3.00",
        "yes",
    ]
    assert Bar("x", "9", 2.0, bars.ratio("s", "d", "c", "cpu"), more=True).row(measured)[2:] == [
        "0.67",
        "≥ 2.00",
        "no",
    ]
    assert Bar("x", "9", 2.0, bars.median("t", "c", "cpu")).row(measured)[2:] == ["-", "≤ 2.00", "-"]


@pytest.mark.usefixtures("log")
def test_every_bar_finds_its_figures() -> None:
    options = Options(cycles=2, duration=0.1, quick=True)
    studies = [study for study, _ in chosen_of(parse(["bars"]), options)]
    results = {study.name: study.measure(study, options) for study in studies}
    load = "64 clients, durable"
    for peer in ALL:
        results["peers"].samples[f"{load}: {peer.name}"] = results["peers"].samples[f"{load}: {compare.OURS}"]
    assert [row for row in bars.rows(results) if "-" in row[2:]] == []


# -- the command line and the others --------------------------------------------------------------------------


def test_the_command_prints_tables_and_writes_what_was_asked_for(
    log: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    assert main(["wan", "reads", "--tiny", "--json", str(file)]) == 0
    assert log
    assert set(json.loads(file.read_text())["studies"]) == {"reads", "wan"}
    capsys.readouterr()
    assert main(["--read", str(file), "--plots", str(tmp_path)]) == 0
    assert (tmp_path / "wan-dark.svg").exists()
    assert "Bars" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nothing"], "found nothing; allowed: all, bars, throughput"),
        ([], "found no name"),
        (["reads", "--cycles", "0"], "--cycles 0: must be more than 0"),
        (["interpreters"], "interpreters needs --python NAME=COMMAND"),
        (["interpreters", "--python", "python3.14"], "--python: found no NAME=COMMAND"),
    ],
)
def test_a_mistake_gets_a_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_benchmark_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    def fail(*_: object) -> None:
        raise BenchmarkError("no")

    monkeypatch.setattr(wan, "_run", fail)
    assert main(["wan", "reads", "--tiny"]) == 1
    assert log


@pytest.mark.usefixtures("log")
def test_what_is_not_whole_renews_no_table_and_no_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither when it is measured nor when it is read again."""
    blocks: list[set[str]] = []
    drawn: list[str] = []
    monkeypatch.setattr(plots, "draw", lambda study, *_: drawn.append(study.name))
    monkeypatch.setattr(report, "fill", lambda _, some: blocks.append(set(some)))
    file = str(tmp_path / "report.json")
    monkeypatch.setattr(bars, "NEEDS", {"reads": bars.Need(["90 % reads"]), "clients": bars.Need()})
    assert main(["bars", "--tiny", "--json", file, "--document"]) == 0
    assert main(["--read", file, "--document"]) == 0
    assert set().union(*blocks) == {"bars"}
    assert not drawn


def test_interpreters_are_compared_to_the_first(log: list[str]) -> None:
    options = Options(cycles=1, tiny=True, pythons=["one=/bin/one", "two=env X=1 /bin/two"])
    chosen = STUDIES["interpreters"]
    results = chosen.measure(chosen, options)
    assert next(iter(results.samples)).endswith(": one")
    assert len([line for line in log if line.startswith("start")]) == 2


@pytest.mark.parametrize(("limit", "status"), [("1.1", 0), ("0.9", 1)])
def test_the_guard_judges_by_its_limit(
    limit: str, status: int, log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["guard", "HEAD", "--cycles", "1", "--only", "hot key", "--limit", limit]) == status
    assert f"highest ratio 1.00; {'too high' if status else 'fine'}" in capsys.readouterr().out
    assert len([line for line in log if line.startswith("measure")]) == 6


def test_a_peer_that_is_missing_says_how_to_install_it() -> None:
    class Absent(Peer):
        name = "Absent"
        programs: ClassVar = {"no-such-program": "apt install absent"}
        packages: ClassVar = {"no_such_module": "pip install absent"}

    assert Absent.missing() == "Absent is left out; to have it: apt install absent and pip install absent"
    assert all(peer.settings and peer.client for peer in ALL)


def test_a_driver_counts_what_was_answered_in_its_time() -> None:

    watch = Watch(0.05)
    watch.begin, watch.end = 1.0, 2.0
    assert not watch.note(0.5)
    sample = watch.sample()
    assert (sample["operations"], sample["throughput"], sample["p50"]) == (1.0, 0.0, 0.0)


def test_processes_count_what_they_use() -> None:
    program = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before that it may be but a fork
        used = Processes()
        used.watch([process])
        assert used.memory() > 10**6
        assert used.cpu() >= 0
        assert used.faults() > 100
        process.communicate(b"\n")


def test_commands_in_error_are_told_beside_the_table() -> None:
    results = Results({"a": [{"errors": 0.0}], "b": [{"errors": 2.0}, {"errors": 1.0}]}, remarks=["and more"])
    assert report.remarks(results) == ["b: 3 commands in error.", "and more"]
