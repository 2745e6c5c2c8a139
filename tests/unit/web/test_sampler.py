from __future__ import annotations

import pytest

from epaxos.metrics import LATENCY_BOUNDS, Health, Histogram, ReplicaStats
from epaxos.web.sampler import KEPT, Sampler, quantile

WELL = Health((), (), {})
ILL = Health((), ("no quorum",), {})


@pytest.fixture
def stats() -> ReplicaStats:
    return ReplicaStats(("alpha", "bravo", "charlie"), 0, ["NULL", "WRITE"], ["Beacon"], 2)


def test_a_sample_is_of_the_time_since_the_last(stats: ReplicaStats) -> None:
    sampler = Sampler(stats)
    first = sampler.take(100.0, WELL)
    assert (first.executed, first.median, first.late, first.sync) == (0.0, None, None, None)
    stats.executed[1] += 50
    stats.proposed(20)
    stats.committed("fast", 0.001)
    stats.committed("recovered", 0.0)
    stats.execution_latency.observe(0.002, 99)
    stats.execution_latency.observe(2.0)
    stats.persisted(3, 0.004)
    sample = sampler.take(102.0, WELL)
    assert (sample.executed, sample.proposed) == (25.0, 10.0)
    assert sample.paths == {"fast": 0.5, "slow": 0.0, "recovered": 0.5}
    assert sample.median is not None
    assert sample.late is not None
    assert sample.sync is not None
    assert 0.001 < sample.median <= 0.0025
    assert sample.late == pytest.approx(0.0025)
    assert 0.0025 < sample.sync <= 0.005
    assert sampler.take(103.0, WELL).median is None, "nothing since"


def test_samples_are_bounded(stats: ReplicaStats) -> None:
    sampler = Sampler(stats)
    for second in range(2 * KEPT):
        stats.peer_up["bravo"] = bool(second % 2)
        sampler.take(float(second), WELL)
    assert len(sampler.samples) == KEPT
    assert sampler.samples[-1].at == 2 * KEPT - 1
    assert len(sampler.changes) < 100


def test_what_changes_is_said_once(stats: ReplicaStats) -> None:
    sampler = Sampler(stats)
    sampler.take(1.0, ILL)
    assert not sampler.changes
    stats.peer_up["bravo"] = True
    sampler.take(2.0, WELL)
    sampler.take(3.0, WELL)
    assert [tuple(change) for change in sampler.changes] == [
        (2.0, "good", "bravo is heard"),
        (2.0, "good", "a quorum is heard"),
        (2.0, "good", "this replica serves"),
    ]
    sampler.changes.clear()
    stats.peer_up["bravo"] = False
    stats.storage_failed = True
    stats.epoch = 1
    stats.catch_up = 1, 2
    stats.committed("recovered", 0.0)
    sampler.take(4.0, ILL)
    stats.catch_up = None
    sampler.take(5.0, ILL)
    assert [change.text for change in sampler.changes] == [
        "bravo is not heard",
        "no quorum: nothing commits here",
        "this replica does not serve",
        "the disk failed",
        "it fetches the checkpoint of a peer",
        "epoch 1 has begun",
        "1 instance of a silent owner recovered",
        "it has caught up by the checkpoint of a peer",
    ]


@pytest.mark.parametrize(
    ("seconds", "share", "low", "high"),
    [
        ([], 0.5, None, None),
        ([0.002] * 10, 0.5, 0.001, 0.0025),
        ([0.002] * 99 + [0.2], 0.99, 0.001, 0.0025),
        ([0.002] * 98 + [0.2] * 2, 0.99, 0.1, 0.25),
        ([100.0], 0.5, 10.0, 10.0),
    ],
)
def test_quantiles_lie_in_their_bucket(
    seconds: list[float], share: float, low: float | None, high: float | None
) -> None:
    histogram = Histogram(LATENCY_BOUNDS)
    for value in seconds:
        histogram.observe(value)
    found = quantile(histogram, histogram.counts, share)
    assert found is None if low is None or high is None else found is not None and low <= found <= high
