"""Sweeps on the workers of a fleet: one in this process, whose workers start the processes that a real one would."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import wan
from epaxos.errors import ConfigError
from epaxos.simulation import fleet
from epaxos.simulation.fleet import Command, Done, Fleet, FleetError, _Parts, call_on, execute, serve, sources
from epaxos.simulation.plan.options import Overrides
from epaxos.simulation.sweep.report import describe_summary
from epaxos.simulation.sweep.sweep import run_seeds, sweep
from epaxos.simulation.sweep.workers import Lost, call_all
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


def test_a_fleet_tells_what_is_told_here(scheduler: str) -> None:
    seeds, few = range(5), Overrides(operations=5)
    found, expected = sweep(seeds, few, scheduler=scheduler), run_seeds(seeds, few)
    found.seconds = found.cpu = expected.cpu = 0.0
    assert describe_summary(found, few) == describe_summary(expected, few)


def test_what_fails_there_fails_as_it_does_here(scheduler: str) -> None:
    found = sorted(call_on(scheduler, (12).__floordiv__, range(4), 4, 60.0))
    assert found == sorted(call_all((12).__floordiv__, range(4), 1, 60.0))
    assert "ZeroDivisionError" in str(found[0])
    assert list(call_on(scheduler, os._exit, [3], 1, 60.0)) == [
        (3, Lost("its process ended with status 3", hung=False))
    ]


def test_a_part_that_no_worker_ended_is_a_failure(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = fleet._Host.call

    def dies(host: fleet._Host, part: bytes) -> bytes:
        if 2 in pickle.loads(part)[1]:
            raise FleetError("KilledWorker")
        return call(host, part)

    monkeypatch.setattr(fleet._Host, "call", dies)
    lost = Lost(
        "seeds 2 to 2 were not run to their end; a worker of the fleet failed: KilledWorker", hung=False
    )
    found = dict(call_on(scheduler, abs, range(4), 4, 60.0))
    assert found == {0: 0, 1: 1, 2: lost, 3: 3}


def test_a_process_that_has_ended_is_begun_anew() -> None:
    part, wanted = pickle.dumps((abs, (-1,), 60.0)), sources()
    for _ in range(2):
        assert pickle.loads(serve(part, wanted))[1] == [(-1, 1)]
        fleet._here.host._process.kill()
        fleet._here.host._process.wait()


def test_parts_grow_to_some_seconds_and_shrink_towards_the_end() -> None:
    parts = _Parts(range(10_000), 10_000, 2)
    sizes = []
    for part in parts:
        sizes.append(len(part))
        parts.took(len(part), len(part) / 256)
    assert (sum(sizes), sizes[0], max(sizes), sizes[-2]) == (10_000, 1, 1280, 128)


def test_what_a_command_came_to(scheduler: str) -> None:
    words = Command(("-c", "import sys; print(sys.stdin.readline()); sys.exit('no')"), b"so\n")
    assert list(wan._run([("it", words)], scheduler)) == [("it", Done(1, b"so\n\n", b"no\n"))]


def test_hunts_on_a_fleet(scheduler: str) -> None:
    ((index, found),) = FleetHunter(scheduler).run([Task("", DEFAULT, 1)])
    assert (index, found.verdict, found.seeds) == (0, "CLEAN", 1)


def test_other_sources_are_refused() -> None:
    with pytest.raises(FleetError, match="others than where the sweep was started"):
        execute(Command(("-c", "")), "other sources")


def test_other_sources_are_refused_before_anything_runs(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter(["those of here"])
    monkeypatch.setattr(fleet, "sources", lambda: next(found, "others"))
    with pytest.raises(ConfigError, match=r"--scheduler: the sources of tcp://.* are others than here"):
        Fleet(scheduler)


def test_where_there_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_PATIENCE", 0.1)
    with pytest.raises(ConfigError, match=r"--scheduler: found 'tcp://127.0.0.1:1'"):
        Fleet("tcp://127.0.0.1:1")
