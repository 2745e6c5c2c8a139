"""Runs over tables: without conflicts every command commits in the least time that the table allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaxos.protocol.ids import Row
from epaxos.protocol.multipaxos.state import Learn
from epaxos.protocol.quorums import Quorums, allowed
from epaxos.simulation.checkers.violation import NoProgressError
from epaxos.simulation.topology.optimum import find_leader, find_led_optimum, find_optimum
from epaxos.simulation.topology.run import Load, SiteResult, TableNetwork, Thrifty, run_topology
from epaxos.simulation.topology.table import Table, read_table
from epaxos.simulation.world.observer import Observer

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[4] / "conf"
NOISE = 1e-9
"""Seconds by which sums of delays may differ."""

BEST = [Thrifty.OFF, Thrifty.NEAREST]
"""Whoever asks these can be as fast as the table allows."""


class Sent(Observer):
    """Counts what leaves by type."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        if row not in receivers:
            self.kinds[type(message).__name__] += 1


def regions(n: int) -> Table:
    return read_table(str(CONF / f"regions-{n}.toml"))


def commits(site: SiteResult) -> list[float]:
    return sorted(time for times in site.commits.values() for time in times)


def quorum_time(table: Table, row: Row, quorum: int) -> float:
    """How long the fastest of all quorums with this owner takes: the definition, without a shortcut."""
    peers = [peer for peer in range(len(table.sites)) if peer != row]
    return min(max(table.rtt[row][peer] for peer in group) for group in combinations(peers, quorum - 1))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(2, 7))
    times = {pair: draw(st.integers(1, 400)) / 1000 for pair in combinations(range(n), 2)}
    rtt = tuple(tuple(times.get((min(a, b), max(a, b)), 0.0) for b in range(n)) for a in range(n))
    crashes = [(f, e) for f in range(n) for e in range(f + 1) if allowed(n, f, e)]
    f, e = draw(st.sampled_from(crashes))
    return Table("drawn", tuple(f"site{row}" for row in range(n)), Quorums(n, f, e), rtt)


@pytest.mark.parametrize("thrifty", BEST)
@pytest.mark.parametrize("n", [3, 5, 7])
def test_without_conflicts_the_median_of_each_site_is_the_optimum_of_its_fast_quorum(
    n: int, thrifty: Thrifty
) -> None:
    table = regions(n)
    result = run_topology(table, Load(operations=40 * n, clients=3, thrifty=thrifty))
    for row, site in enumerate(result.sites):
        optimum = quorum_time(table, row, table.quorums.fast)
        assert median(commits(site)) == pytest.approx(optimum, abs=NOISE)
        assert median(site.executions) == pytest.approx(optimum, abs=NOISE)
        assert find_optimum(table, row, thrifty=thrifty is Thrifty.NEAREST).fast == optimum


def test_the_optimum_of_five_regions_is_the_time_to_the_second_nearest() -> None:
    fast = [find_optimum(regions(5), row, thrifty=False).fast for row in range(5)]
    assert fast == [0.068, 0.098, 0.120, 0.104, 0.140]


@settings(max_examples=16)
@given(table=tables(), thrifty=st.sampled_from(BEST), seed=st.integers(0, 9))
def test_without_conflicts_every_command_takes_the_optimum_over_any_table(
    table: Table, thrifty: Thrifty, seed: int
) -> None:
    result = run_topology(table, Load(operations=5 * len(table.sites), clients=2, thrifty=thrifty, seed=seed))
    for row, site in enumerate(result.sites):
        optimum = quorum_time(table, row, table.quorums.fast)
        assert site.commits.keys() == {"fast"}
        assert site.commits["fast"] + site.executions == pytest.approx(
            [optimum] * 2 * len(site.executions), abs=NOISE
        )


@settings(max_examples=16)
@given(
    table=tables(),
    thrifty=st.sampled_from(Thrifty),
    conflicts=st.sampled_from([10, 50, 100]),
    seed=st.integers(0, 9),
)
def test_with_conflicts_everything_commits_once_and_nothing_beats_the_optimum(
    table: Table, thrifty: Thrifty, conflicts: float, seed: int
) -> None:
    sent = Sent()
    load = Load(operations=10 * len(table.sites), clients=2, conflicts=conflicts, thrifty=thrifty, seed=seed)
    result = run_topology(table, load, [sent])
    paths: Counter[str] = Counter()
    for row, site in enumerate(result.sites):
        optimum = find_optimum(table, row, thrifty=thrifty is not Thrifty.OFF)
        paths.update({path: len(times) for path, times in site.commits.items()})
        assert min(site.commits.get("fast", [1])) >= optimum.fast - NOISE
        assert min(site.commits.get("slow", [1])) >= optimum.slow - NOISE
        for committed, executed in zip(commits(site), sorted(site.executions), strict=True):
            assert executed >= committed - NOISE
    assert paths.total() == load.operations
    assert paths.keys() <= {"fast", "slow"}
    # A second PreAccept or Accept, or a Recover, would mean that a time-out was too short.
    assert sent.kinds["PreAccept"] == load.operations
    assert sent.kinds["Commit"] >= load.operations
    assert sent.kinds.keys() <= {"PreAccept", "PreAcceptOK", "Accept", "AcceptOK", "Commit"}


@pytest.mark.parametrize("thrifty", BEST)
def test_the_slow_optimum_is_reached(thrifty: Thrifty) -> None:
    table = regions(5)
    result = run_topology(table, Load(operations=800, conflicts=30, thrifty=thrifty))
    for row, site in enumerate(result.sites):
        optimum = find_optimum(table, row, thrifty=thrifty is Thrifty.NEAREST).slow
        assert min(site.commits["slow"]) == pytest.approx(optimum, abs=NOISE)


def test_the_slow_optimum_is_that_of_two_rounds() -> None:
    table = regions(5)
    # Two of four peers give a quorum of three; without thrift it takes three of them to rule out the fast path.
    assert find_optimum(table, 0, thrifty=True).slow == pytest.approx(0.068 + 0.068)
    assert find_optimum(table, 0, thrifty=False).slow == pytest.approx(0.148 + 0.068)


def test_along_the_ring_an_owner_waits_for_those_behind_it() -> None:
    table = regions(5)
    result = run_topology(table, Load(operations=200, clients=2, thrifty=Thrifty.RING))
    for row, site in enumerate(result.sites):
        slowest = max(table.rtt[row][(row + step) % 5] for step in (1, 2))
        assert commits(site) == pytest.approx([slowest] * len(commits(site)), abs=NOISE)


def test_a_seed_decides_the_run() -> None:
    loads = [Load(operations=100, clients=3, conflicts=30, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (run_topology(regions(3), load).sites for load in loads)
    assert first == again != other


def test_each_client_has_a_command_and_there_must_be_one_for_each() -> None:
    result = run_topology(regions(3), Load(operations=12, clients=4))
    assert [len(site.executions) for site in result.sites] == [4, 4, 4]
    with pytest.raises(ValueError, match="fewer commands than clients"):
        run_topology(regions(3), Load(operations=11, clients=4))


def test_a_run_that_gets_stuck_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableNetwork, "send", lambda *_: None)
    with pytest.raises(NoProgressError, match="30 commands wait:\n  replica 0, epoch 0: "):
        run_topology(regions(3), Load(operations=30, clients=10))


@pytest.mark.parametrize("learn", list(Learn))
@pytest.mark.parametrize("n", [3, 5])
def test_with_a_leader_each_site_sees_the_least_that_the_table_allows(n: int, learn: Learn) -> None:
    table = regions(n)
    leader = find_leader(table, learn)
    load = Load(operations=20 * n, clients=2, conflicts=50, leader=leader, learn=learn)
    for row, site in enumerate(run_topology(table, load).sites):
        optimum = find_led_optimum(table, row, leader, learn)
        assert site.executions == pytest.approx([optimum] * len(site.executions))
