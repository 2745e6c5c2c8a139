from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from epaxos.metrics import ReplicaStats, make_registry
from epaxos.statemachine.operations import Operation

Value = Callable[..., float | None]


@pytest.fixture
def stats() -> ReplicaStats:
    """Of bravo, the second of three replicas."""
    return ReplicaStats(
        replicas=("alpha", "bravo", "charlie"),
        row=1,
        operations=[operation.name for operation in Operation],
        message_types=("PreAccept", "PreAcceptOK", "Beacon"),
        quorum=2,
    )


@pytest.fixture
def registry(stats: ReplicaStats) -> CollectorRegistry:
    return make_registry(stats, "bravo")


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """The value of a sample as a scrape shows it now, None if there is no such sample."""

    def read(name: str, /, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return read
