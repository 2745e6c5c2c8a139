"""Whole clusters of cores on hostile networks: what the protocol promises of every run (protocol 1, 2, 3.7)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from epaxos.protocol.epaxos.messages import Commit
from epaxos.protocol.ids import Row
from harness.cluster import PATIENCE, Cluster, run
from harness.commands import Access, barrier, get, put
from harness.driver import Outgoing
from harness.network import DEFERRED
from harness.options import Options, draw_commands, draw_options
from harness.verdict import decisions, judge

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
DELAY = 0.01  # seconds on the way, where a test needs to know
SIZES = [1, 2, 3, 4, 5, 7]


def judged(options: Options) -> Cluster:
    """Run and judge; a failure says with which options."""
    try:
        cluster = run(options)
        judge(cluster)
    except Exception as error:
        error.add_note(f"in the run of {options}")
        raise
    return cluster


def ended(options: Options, barriers: int, dying: Row | None = None) -> Cluster:
    """A run in which some replicas propose the end of the epoch, until all have come to it but one that dies."""
    cluster = Cluster(options)
    random = Random(f"end {options.seed}")
    for when, row, command in draw_commands(options):
        cluster.propose(row, command, when)
    for number in range(barriers):
        when = random.uniform(0, options.spread)
        cluster.propose(random.randrange(options.n), barrier(1000 + number, *(-1,) * options.n), when)
    if dying is not None:
        cluster.run_for(random.uniform(0, options.spread))
        cluster.kill(dying)
        row = random.choice([driver.row for driver in cluster.drivers])
        cluster.propose(row, barrier(2000, *(-1,) * options.n), options.spread)
    cluster.run_for(options.spread + 0.5)
    cluster.network.healed = True
    end = cluster.now + PATIENCE
    while any(driver.over is None for driver in cluster.drivers):
        assert cluster.now < end, f"stuck: {[driver.core.status() for driver in cluster.drivers]}"
        cluster.run_for(1.0)
    return cluster


def judge_end(cluster: Cluster) -> None:
    """One barrier, one cut, one state; and each command has executed, or is left to him whom a client asked (6.4)."""
    first = cluster.drivers[0]
    assert first.over is not None
    for driver in cluster.drivers:
        assert driver.over is not None
        assert (driver.over.barrier, driver.over.cut) == (first.over.barrier, first.over.cut)
        assert sorted(driver.machine.executed) == sorted(first.machine.executed)
        assert driver.machine.writes == first.machine.writes
        assert driver.machine.before == first.machine.before
    left = [driver.over.left for driver in cluster.drivers if driver.over is not None]
    names = [command.name for command in (*chain(*left), *cluster.late) if isinstance(command, Access)]
    over = {name for name, command in cluster.proposed.items() if command.ends}
    executed = set(first.machine.executed)
    assert len(over & executed) == 1
    assert len(names) == len(set(names))
    assert not {*names} & executed
    assert {*names, *executed} | over >= cluster.proposed.keys() - cluster.lost


def test_an_epoch_ends_alike_everywhere(times: int) -> None:
    marks: Counter[str] = Counter()
    for n, runs in ((1, 2), (2, 4), (3, 24), (4, 4), (5, 10)):
        for seed in range(runs * times):
            options = draw_options(n, seed)
            try:
                cluster = ended(options, 1 + seed % 3, seed % n if seed % 2 and options.quorums.f else None)
                judge_end(cluster)
            except Exception as error:
                error.add_note(f"in the run of {options}")
                raise
            marks += cluster.marks
            marks["left"] += any(driver.over.left for driver in cluster.drivers if driver.over is not None)
    assert marks.keys() >= {
        "left",
        "kept for the end",
        "silent after the end",
        "recovered",
        "Nack",
        "nops",
        "lost",
    }


@pytest.mark.parametrize(("n", "runs"), [(1, 3), (2, 8), (3, 18), (4, 8), (5, 8), (7, 5)])
def test_hostile_runs(n: int, runs: int, times: int) -> None:
    marks: Counter[str] = Counter()
    for seed in range(runs * times):
        marks += judged(draw_options(n, seed)).marks
    expected = {
        "fast",
        "slow",
        "cycles",
        "lost",
        "duplicated",
        "Accept",
        "CommitRequest",
        "Nack",
        "recovered",
    }
    if n > 1:
        assert not expected - marks.keys(), "runs that nothing happens in show nothing"


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_effects(seed: int) -> None:
    options = draw_options(5, seed)
    assert run(options).trace == run(options).trace
    assert run(options).trace != run(replace(options, seed=seed + 1000)).trace


def test_effects_do_not_depend_on_the_order_of_hashes() -> None:
    program = "from harness.cluster import run; from harness.options import draw_options; "
    program += "print([run(draw_options(n, 1)).trace for n in (3, 5)])"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


# -- the two paths -----------------------------------------------------------------------------------------


def proposing(options: Options, *commands: tuple[Row, Access]) -> Cluster:
    """All of these proposed at once."""
    cluster = Cluster(options)
    for row, command in commands:
        cluster.propose(row, command)
    return cluster


@pytest.mark.parametrize("thrifty", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_without_conflicts_everything_is_decided_in_one_round_trip(n: int, *, thrifty: bool) -> None:
    for options in _all_quorums(Options(n=n, thrifty=thrifty, delay=(DELAY, DELAY))):
        cluster = proposing(
            options, *((name % n, Access(name, (b"all",), (b"%d" % name,))) for name in range(4 * n))
        )
        cluster.finish()
        judge(cluster)
        round_trip = 2 * DELAY if n > 1 else 0.0
        assert paths_and_times(cluster) == [("fast", round_trip)] * 4 * n
        assert "Accept" not in cluster.marks


def paths_and_times(cluster: Cluster) -> list[tuple[str, float]]:
    """How every instance was decided, and after how many seconds."""
    return [(note.path, round(note.seconds, 9)) for driver in cluster.drivers for note in driver.notes]


def _all_quorums(options: Options) -> list[Options]:
    n = options.n
    pairs = {(f, e) for f in range(n) for e in range(f + 1) if n >= max(2 * e + f - 1, 2 * f + 1)}
    return [replace(options, f=f, e=e) for f, e in sorted(pairs)]


@pytest.mark.parametrize("n", SIZES)
def test_reads_do_not_conflict_with_reads(n: int) -> None:
    cluster = proposing(Options(n=n), *((name % n, get(name, b"x", b"y")) for name in range(3 * n)))
    cluster.finish()
    judge(cluster)
    assert cluster.marks["fast"] == 3 * n
    assert {deps for _, deps, _ in decisions(cluster.drivers[0]).values()} == {(-1,) * n}


@pytest.mark.parametrize("thrifty", [False, True])
@pytest.mark.parametrize("n", SIZES[1:])
def test_conflicting_commands_of_one_moment_take_the_slow_path(n: int, *, thrifty: bool) -> None:
    for options in _all_quorums(Options(n=n, thrifty=thrifty, delay=(DELAY, DELAY))):
        cluster = proposing(options, *((row, put(row, b"x")) for row in range(n)))
        cluster.finish()
        judge(cluster)
        assert paths_and_times(cluster) == [("slow", 4 * DELAY)] * n


@pytest.mark.parametrize("n", SIZES)
def test_a_conflict_with_something_that_all_know_does_not_cost_the_fast_path(n: int) -> None:
    cluster = Cluster(Options(n=n, delay=(DELAY, DELAY)))
    for name in range(8):
        cluster.propose(name % n, put(name, b"x"))
        cluster.run_for(3 * DELAY + DEFERRED)
    cluster.finish()
    judge(cluster)
    assert cluster.marks["fast"] == 8
    assert cluster.drivers[0].machine.executed == list(range(8))


def test_a_command_proposed_later_by_the_same_replica_executes_later() -> None:
    cluster = proposing(Options(n=5), *((1, put(name, b"x")) for name in range(20)))
    cluster.finish()
    judge(cluster)
    assert cluster.drivers[4].machine.executed == list(range(20))
    assert cluster.marks["fast"] == 20


# -- messages that come twice, or not at all ---------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("thrifty", [False, True])
def test_delivering_every_message_twice_changes_nothing(n: int, *, thrifty: bool) -> None:
    single, double = (_by_content(n, doubled, thrifty=thrifty) for doubled in (False, True))
    judge(double)
    assert double.marks["slow"] > 0 or n == 1
    for one, other in zip(single.drivers, double.drivers, strict=True):
        assert decisions(one) == decisions(other)
        assert one.disk == other.disk
        assert one.components == other.components
        assert one.notes == other.notes


def _by_content(n: int, doubled: bool, *, thrifty: bool) -> Cluster:  # noqa: FBT001 - the one thing that differs
    options = Options(
        seed=n, n=n, thrifty=thrifty, commands=40, keys=3, width=2, reads=0.3, spread=0.3, delay=(0.001, 0.04)
    )
    cluster = Cluster(options)
    cluster.network.by_content = True
    cluster.network.doubled = doubled
    for when, row, command in draw_commands(options):
        cluster.propose(row, command, when)
    cluster.run_for(2.0)
    assert cluster.finished
    return cluster


@pytest.mark.parametrize("n", SIZES[1:])
def test_beacons_bring_decisions_whose_commits_were_all_lost(n: int) -> None:
    def lose_first_commits(_: Row, outgoing: Outgoing) -> bool:
        return not (isinstance(outgoing.message, Commit) and outgoing.deferrable)

    cluster = proposing(Options(n=n), *((0, put(name, b"%d" % (name % 3))) for name in range(30)))
    cluster.network.intercept = lose_first_commits
    cluster.run_for(0.5)
    judge(cluster)
    assert cluster.marks["CommitRequest"] > 0
    assert cluster.marks["recovery started"] == 0


@pytest.mark.parametrize("thrifty", [False, True])
@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_f_unreachable_replicas_stop_nobody_and_catch_up_later(n: int, *, thrifty: bool) -> None:
    options = Options(n=n, thrifty=thrifty, delay=(0.001, 0.02))
    dead = range(options.quorums.f)
    alive = range(options.quorums.f, n)
    cluster = proposing(options, *((alive[name % len(alive)], put(name, b"x")) for name in range(12)))
    cluster.network.intercept = lambda sender, outgoing: sender in alive and outgoing.receiver in alive
    cluster.run_for(3.0)
    assert all(len(cluster.drivers[row].machine.executed) == 12 for row in alive)
    assert all(cluster.drivers[row].machine.executed == [] for row in dead)
    cluster.network.intercept = None
    cluster.finish()
    judge(cluster)


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_fewer_than_a_slow_quorum_decide_nothing(n: int) -> None:
    options = Options(n=n)
    few = range(options.quorums.slow - 1)
    cluster = proposing(options, *((row, put(row, b"x")) for row in few))
    cluster.network.intercept = lambda sender, outgoing: sender in few and outgoing.receiver in few
    cluster.run_for(5.0)
    assert all(decisions(driver) == {} for driver in cluster.drivers)
    cluster.network.intercept = None
    cluster.finish()
    judge(cluster)
