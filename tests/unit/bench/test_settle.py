from __future__ import annotations

import pytest

from epaxos.bench.links import Links
from epaxos.bench.settle import Settled, settle
from fake_cluster import FakeCluster


def settled(cluster: FakeCluster, patience: float) -> Settled:
    with Links(cluster.config.replicas, cluster.config) as links:
        return settle(links, patience)


def test_equal_digests_at_one_frontier_are_identical_states(cluster: FakeCluster) -> None:
    found = settled(cluster, 5)
    assert found.identical
    assert found.digests == {"alpha": "d1", "bravo": "d1", "charlie": "d1"}


def test_different_digests_at_one_frontier_are_different_states(cluster: FakeCluster) -> None:
    cluster.digests[1] = "d2"
    found = settled(cluster, 5)
    assert found.settled
    assert not found.identical
    assert found.digests["bravo"] == "d2"


def test_replicas_with_instances_to_execute_do_not_settle(cluster: FakeCluster) -> None:
    cluster.status["pending"] = 1
    found = settled(cluster, 0.3)
    assert not found.settled
    assert not found.identical


def test_replicas_that_answer_are_compared_without_the_others(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epaxos.bench.settle._ABSENT_AFTER", 0.2)
    cluster.silent = {2}
    found = settled(cluster, 5)
    assert found.identical
    assert found.digests == {"alpha": "d1", "bravo": "d1"}
    assert found.missing == ("charlie",)


def test_no_replica_at_all_does_not_settle(cluster: FakeCluster) -> None:
    cluster.silent = {0, 1, 2}
    assert not settled(cluster, 0.3).settled
