"""Sweeps on the workers of a fleet: one in this process, whose workers start the processes that a real one would."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import wan
from epaxos.errors import ConfigError
from epaxos.simulation import fleet
from epaxos.simulation.fleet import Command, Done, Fleet, FleetError, call_on, execute
from epaxos.simulation.plan.options import Overrides
from epaxos.simulation.sweep.sweep import run_seeds, sweep
from epaxos.simulation.sweep.workers import Lost
from hunt.hunter import FleetHunter
from hunt.task import Task
from mutants.mutation import DEFAULT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    dask: Any = importlib.import_module("distributed")
    with dask.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp://"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_fleet_comes_to_what_its_seeds_do_here(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "PART", 2)
    seeds, few = range(3), Overrides(operations=5)
    found, expected = sweep(seeds, few, scheduler=scheduler), run_seeds(seeds, few)
    assert (found.seeds, found.commands, found.actions) == (3, expected.commands, expected.actions)
    assert (found.marks, found.met, found.failures) == (expected.marks, expected.met, [])


def test_a_seed_whose_process_dies_is_a_result_there_too(scheduler: str) -> None:
    assert list(call_on(scheduler, os._exit, [3], 60.0)) == [
        (3, Lost("its process ended with status 3", hung=False))
    ]


def test_what_a_command_came_to(scheduler: str) -> None:
    words = Command(("-c", "import sys; print(sys.stdin.readline()); sys.exit('no')"), b"so\n")
    assert list(wan._run([("it", words)], scheduler)) == [("it", Done(1, b"so\n\n", b"no\n"))]


def test_hunts_on_a_fleet(scheduler: str) -> None:
    ((index, found),) = FleetHunter(scheduler).run([Task("", DEFAULT, 1)])
    assert (index, found.verdict, found.seeds) == (0, "CLEAN", 1)


def test_other_sources_are_refused() -> None:
    with pytest.raises(FleetError, match="others than where the sweep was started"):
        execute(Command(("-c", "")), "other sources")


def test_where_there_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_PATIENCE", 0.1)
    with pytest.raises(ConfigError, match=r"--scheduler: found 'tcp://127.0.0.1:1'"):
        Fleet("tcp://127.0.0.1:1")
