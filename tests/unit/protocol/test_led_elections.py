"""Elections over links that are cut one by one: somebody leads whom a quorum hears, and then nobody campaigns."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from random import Random

import pytest

from epaxos.protocol.contract import Lead, Measured, PeerStatus, Receive, Tick
from epaxos.protocol.ids import Row
from epaxos.protocol.multipaxos.core import MultiPaxos
from epaxos.protocol.multipaxos.messages import Prepare, Promised
from epaxos.protocol.multipaxos.state import Settings
from epaxos.protocol.quorums import make_quorums
from epaxos.protocol.roundtrips import RoundTrip
from led_cluster import TIMEOUT, LedCluster


def all_but(n: int, *links: tuple[Row, Row]) -> list[tuple[Row, Row]]:
    """The links of n replicas without some."""
    kept = {frozenset(link) for link in links}
    return [(a, b) for a in range(n) for b in range(a) if frozenset((a, b)) not in kept]


def of(n: int, replica: Row) -> list[tuple[Row, Row]]:
    """The links of one replica."""
    return [(replica, other) for other in range(n) if other != replica]


PATTERNS: dict[str, tuple[int, Iterable[tuple[Row, Row]]]] = {
    "one link of three": (3, [(0, 1)]),
    "another link of three": (3, [(1, 2)]),
    "one of three alone": (3, of(3, 1)),
    "chain of three": (3, all_but(3, (0, 1), (1, 2))),
    "chain of five": (5, all_but(5, (0, 1), (1, 2), (2, 3), (3, 4))),
    "bridge of five": (5, all_but(5, (0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4))),
    "star of five": (5, all_but(5, *of(5, 3))),
    "two of five alone": (5, [*of(5, 0), *of(5, 1)]),
    "ring of five": (5, all_but(5, (0, 1), (1, 2), (2, 3), (3, 4), (4, 0))),
    "half of four": (4, [(0, 2), (0, 3), (1, 3)]),
}


def cut_around(cluster: LedCluster, links: Iterable[tuple[Row, Row]], centre: Row) -> None:
    """Cut links, with the replicas numbered anew so that another one stands in the place of each."""
    cluster.cut_links([((a + centre) % cluster.n, (b + centre) % cluster.n) for a, b in links])


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_with_some_links_cut_somebody_leads_and_nobody_campaigns(name: str, place: int) -> None:
    n, links = PATTERNS[name]
    cluster = LedCluster(n, seed=place)
    cluster.run(5 * TIMEOUT)
    cut_around(cluster, links, place)
    cluster.run(20 * TIMEOUT)
    before = cluster.campaigns
    asked = [
        row for row in range(n) if sum((row, peer) not in cluster.cut for peer in range(n)) >= (n + 2) // 2
    ]
    for row in asked:
        cluster.propose(row, f"key-{row}")
    cluster.run(20 * TIMEOUT)
    assert cluster.campaigns == before
    assert asked
    for row in asked:
        assert set(cluster.executed[row]) == {
            f"key-{other}" for other in asked
        }  # some twice: a session sees to it


def test_the_first_leader_is_there_before_a_time_out() -> None:
    cluster = LedCluster(3)
    cluster.run(TIMEOUT)
    assert len(cluster.leaders) == 1
    assert cluster.campaigns == 1


def test_a_leader_that_dies_is_replaced_within_half_a_time_out_of_its_silence() -> None:
    cluster = LedCluster(5)
    cluster.run(5 * TIMEOUT)
    (leader,) = cluster.leaders
    cluster.dead.add(leader)
    cluster.run(1.1 * TIMEOUT)
    cluster.run(0.5 * TIMEOUT)
    (follower,) = cluster.leaders
    assert follower != leader


def test_a_promise_to_a_candidate_that_failed_keeps_nobody_from_voting_for_ever() -> None:
    cluster = LedCluster(3)
    cluster.run(5 * TIMEOUT)
    (leader,) = cluster.leaders
    other, last = (row for row in range(3) if row != leader)
    cluster.cores[last].on_event(Receive(other, Prepare(300 + other, 0)), cluster.now)
    cluster.run(5 * TIMEOUT)
    assert min(core.status().ballot for core in cluster.cores) > 300
    cluster.dead.add(other)
    cluster.propose(last, "key")
    cluster.run(10 * TIMEOUT)
    assert set(cluster.executed[last]) == {"key"}


def test_a_leader_that_only_one_hears_is_replaced() -> None:
    cluster = LedCluster(5)
    cluster.run(5 * TIMEOUT)
    (leader,) = cluster.leaders
    friend, *others = (row for row in range(5) if row != leader)
    cluster.cut_links((leader, other) for other in others)
    cluster.run(10 * TIMEOUT)
    assert set(cluster.leaders) - {leader}
    cluster.propose(friend, "key")
    cluster.run(5 * TIMEOUT)
    assert set(cluster.executed[friend]) == {"key"}


def test_who_alone_has_lost_the_leader_does_not_campaign() -> None:
    cluster = LedCluster(5)
    cluster.run(5 * TIMEOUT)
    (leader,) = cluster.leaders
    before = cluster.campaigns
    cluster.cut_links([(leader, (leader + 1) % 5)])
    cluster.run(20 * TIMEOUT)
    assert cluster.campaigns == before


def happy_leader(cluster: LedCluster) -> Row:
    """The replica whose leading is heard of by now."""
    (leader,) = {core.status().leader for core in cluster.cores}
    assert leader is not None
    return leader


def test_leaders_that_die_far_away_are_replaced_in_one_campaign() -> None:
    for n, delay, seed in product((3, 5), (0.1, 0.15, 0.25), range(3)):
        cluster = LedCluster(n, seed=seed, delay=delay)
        cluster.run(10 * TIMEOUT)
        leader = happy_leader(cluster)
        before = cluster.campaigns
        cluster.dead.add(leader)
        cluster.run(10 * TIMEOUT)
        assert len(cluster.leaders) == 1
        assert cluster.campaigns == before + 1


def test_leaders_that_get_their_quorum_back_lead_on() -> None:
    for delay, seed in product((0.002, 0.1, 0.15), range(3)):
        cluster = LedCluster(3, seed=seed, delay=delay)
        cluster.run(8 * TIMEOUT)
        leader = happy_leader(cluster)
        cluster.cut_links(all_but(3))
        cluster.run(2 * TIMEOUT)
        cluster.propose(leader, "key")
        cluster.run(10 * TIMEOUT)
        before = cluster.campaigns
        cluster.cut.clear()
        cluster.run(10 * TIMEOUT)
        assert cluster.leaders == [leader]
        assert cluster.campaigns == before
        assert set(cluster.executed[leader]) == {"key"}


def test_a_leader_that_takes_leave_is_replaced_within_round_trips() -> None:
    cluster = LedCluster(3)
    cluster.run(5 * TIMEOUT)
    leader = happy_leader(cluster)
    before = cluster.campaigns
    cluster.retire(leader)
    cluster.run(10 * cluster.delay)
    cluster.dead.add(leader)
    assert cluster.leaders == [(leader + 1) % 3]
    cluster.propose((leader + 2) % 3, "key")
    cluster.run(10 * TIMEOUT)
    assert cluster.campaigns == before + 1
    assert cluster.executed[(leader + 1) % 3] == ["key"]


def test_who_leads_on_waits_for_others_to_come_and_then_as_long_as_they_took_to_answer_before() -> None:
    core = MultiPaxos(Settings(0, make_quorums(3), timeout=TIMEOUT), Random(0))
    for peer in (1, 2):
        trip = RoundTrip()
        trip.measured(TIMEOUT / 2)
        core.on_event(Measured(peer, trip), 0.0)
        core.on_event(PeerStatus(peer, online=False), 0.0)  # they have yet to come to the epoch
    core.on_event(Lead(), 0.0)
    for tick in range(1, 40):
        core.on_event(Tick(), tick * TIMEOUT / 20)
    ballot = core.status().ballot
    core.on_event(PeerStatus(1, online=True), 2 * TIMEOUT)
    core.on_event(Tick(), 4 * TIMEOUT)
    for row in (0, 1):
        core.on_event(Receive(row, Promised(ballot, 0, (), -1)), 4 * TIMEOUT)
    assert core.status().leader == 0
