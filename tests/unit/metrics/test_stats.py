from __future__ import annotations

import re

import pytest

from epaxos.errors import FrameError
from epaxos.metrics import ERROR_KINDS, ReplicaStats


def test_every_kind_of_frame_error_is_known() -> None:
    kinds = re.findall(r"``(\w+)``", FrameError.__doc__ or "")
    assert "malformed" in kinds
    assert set(kinds) <= set(ERROR_KINDS)


def test_an_unforeseen_kind_of_error_is_counted_and_stops_nothing(stats: ReplicaStats) -> None:
    stats.error("meteorite", 2)
    stats.error("meteorite")
    assert stats.errors["meteorite"] == 3


def test_peers_are_the_others(stats: ReplicaStats) -> None:
    assert stats.peers == ("alpha", "charlie")


@pytest.mark.parametrize(("row", "peers"), [(0, ("bravo",)), (1, ("alpha",))])
def test_the_first_and_the_last_replica_have_peers_too(row: int, peers: tuple[str, ...]) -> None:
    assert ReplicaStats(("alpha", "bravo"), row, ["NULL"], ["Beacon"], 1).peers == peers


def test_a_replica_alone_has_no_peers() -> None:
    stats = ReplicaStats(("alpha",), 0, ["NULL"], ["Beacon"], 1)
    assert (stats.peers, stats.traffic, stats.dropped, stats.peer_up) == ((), {}, {}, {})


def test_labels_from_the_network_are_not_taken(stats: ReplicaStats) -> None:
    with pytest.raises(KeyError):
        stats.message_traffic("received", "PreAccept", "mallory")
    with pytest.raises(KeyError):
        stats.message_traffic("received", "Nonsense", "alpha")


def test_a_recovered_instance_has_no_commit_latency(stats: ReplicaStats) -> None:
    stats.committed("fast", 0.001)
    stats.committed("slow", 0.002)
    stats.committed("recovered", 3.0)
    assert stats.commits == {"fast": 1, "slow": 1, "recovered": 1}
    assert stats.commit_latency.count == 2
    assert stats.commit_latency.sum == pytest.approx(0.003)


def test_catching_up_ends_with_one_more_time_that_it_did(stats: ReplicaStats) -> None:
    stats.catch_up = (10, 400)
    stats.caught_up()
    left: tuple[int, int] | None = stats.catch_up
    assert left is None
    assert stats.catch_ups == 1


def test_no_attribute_can_be_added_by_a_slip_of_the_pen(stats: ReplicaStats) -> None:
    with pytest.raises(AttributeError):
        stats.proposal = 1  # type: ignore[attr-defined]  # the slip


def test_a_replica_hears_itself_and_the_peers_that_are_up() -> None:
    stats = ReplicaStats(("alpha", "bravo", "charlie"), 1, [], [], 2)
    assert (stats.heard, stats.has_quorum) == (["bravo"], False)
    stats.peer_up["charlie"] = True
    assert (stats.heard, stats.has_quorum) == (["bravo", "charlie"], True)
