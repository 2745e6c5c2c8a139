"""The report on the command line: through a command that has nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from epaxos.cli.topology import report_topology, topology_options
from epaxos.errors import ConfigError
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.topology import run
from epaxos.simulation.topology.report import summary

REGIONS = str(Path(__file__).parents[4] / "conf" / "regions-5.toml")
SITES = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")


@click.command()
@topology_options
@click.option("--operations", type=int)
@click.option("--seed", type=int)
@click.option("--json", "json_file")
@click.pass_context
def simulate(context: click.Context, /, topology: str, **given: Any) -> None:
    context.exit(report_topology(topology, **given))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, ["--topology", REGIONS, "--operations", "100", *arguments])


def test_the_table_shows_each_site_beside_its_optimum() -> None:
    result = call()
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].endswith(
        "regions-5.toml: 100 commands, 10 clients a site, no conflicts, all peers asked; latency in ms"
    )
    rows = [line.split() for line in lines if line.strip().startswith(SITES)]
    optima = ["68.0", "98.0", "120.0", "104.0", "140.0"]
    slow = ["216.0", "218.0", "323.0", "252.0", "338.0"]
    assert rows == [
        [site, "100.0%", best, best, best, "-", two, best, best]
        for site, best, two in zip(SITES, optima, slow, strict=True)
    ]
    assert max(map(len, lines[1:-2])) <= 80
    assert lines[-2] == "optimum: the time to the 2nd nearest peer; a fast quorum is 3 of 5"
    assert lines[-1].startswith("slow optimum: the time to the 3rd nearest peer, for a PreAccept round that")
    assert lines[-1].endswith("and that to the 2nd nearest; a slow quorum is 3")


def test_the_json_holds_the_same_and_the_options() -> None:
    result = call("--json", "-", "--seed", "7", "--clients", "4", "--conflicts", "50", "--thrifty", "nearest")
    report = json.loads(result.stdout)
    assert "50 % on one key, thrifty, the nearest asked" in result.stderr
    assert tuple(report["sites"]) == SITES
    assert sum(site["commands"] for site in report["sites"].values()) == 100
    for site in report["sites"].values():
        assert 0 < site["fast_path_ratio"] < 1
        assert site["commit_ms"]["p50"] >= site["optimum_ms"]["fast"]
        assert site["slow_commit_ms"]["p50"] >= site["optimum_ms"]["slow"]
        for percentile in ("p50", "p99", "max"):
            assert site["execution_ms"][percentile] >= site["commit_ms"][percentile]
    config = report["config"]
    assert (config["n"], config["f"], config["e"], config["slow_quorum"], config["fast_quorum"]) == (
        5,
        2,
        2,
        3,
        3,
    )
    assert (config["operations"], config["clients"], config["conflicts"]) == (100, 4, 50)
    assert (config["thrifty"], config["seed"], config["topology"]) == ("nearest", 7, REGIONS)


def test_the_json_goes_to_a_file_beside_the_table(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    result = call("--json", str(file))
    assert "us-east-1" in result.stdout
    assert json.loads(file.read_text())["config"]["operations"] == 100


def test_fewer_operations_than_clients_are_refused() -> None:
    result = call("--operations", "49")
    assert result.exit_code == 2
    assert (
        "--operations 49: at least 50 are needed, one for each client: 10 at each of 5 sites" in result.output
    )


@pytest.mark.parametrize("option", [("--conflicts", "101"), ("--clients", "0"), ("--thrifty", "maybe")])
def test_options_out_of_range_are_refused(option: tuple[str, str]) -> None:
    assert call(*option).exit_code == 2


def test_a_wrong_file_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('sites = ["a", "b"]\n')
    with pytest.raises(ConfigError, match=r"wrong\.toml: rtt: missing; allowed: a table, \[rtt\]$"):
        report_topology(str(file))


def test_findings_have_the_exit_codes_of_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(_: object) -> None:
        raise ViolationError("same state", "they differ")

    monkeypatch.setattr(run, "check_same_digest", differ)
    result = call()
    assert (result.exit_code, result.output) == (12, "simulate: same state: they differ\n")
    monkeypatch.setattr(run.TableNetwork, "send", lambda *_: None)
    result = call()
    assert result.exit_code == 10
    assert result.output.startswith("simulate: 100 commands wait:\n")


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert summary([]) == {"p50": None, "p99": None, "max": None}
    assert summary([0.3, 0.1, 0.2]) == {"p50": 200, "p99": 300, "max": 300}
    assert summary([number / 1000 for number in range(200, 0, -1)]) == {"p50": 100, "p99": 198, "max": 200}
