"""Metrics: counted in plain attributes, turned into Prometheus families when somebody asks.

The Replica's thread counts in a `ReplicaStats`; `make_registry` puts it, and the figures of the process,
behind a Prometheus registry, which `epaxos.web` serves over HTTP.
Every metric is described in ``docs/metrics.md``.
"""

from epaxos.metrics.collector import ReplicaCollector, make_registry
from epaxos.metrics.health import Health
from epaxos.metrics.histogram import (
    BATCH_BOUNDS,
    CHECKPOINT_BOUNDS,
    COMPONENT_BOUNDS,
    EVENT_BOUNDS,
    LATENCY_BOUNDS,
    Histogram,
)
from epaxos.metrics.stats import (
    COMMIT_PATHS,
    DIRECTIONS,
    DROP_REASONS,
    ERROR_KINDS,
    Gauges,
    ReplicaStats,
    Traffic,
)

__all__ = [
    "BATCH_BOUNDS",
    "CHECKPOINT_BOUNDS",
    "COMMIT_PATHS",
    "COMPONENT_BOUNDS",
    "DIRECTIONS",
    "DROP_REASONS",
    "ERROR_KINDS",
    "EVENT_BOUNDS",
    "LATENCY_BOUNDS",
    "Gauges",
    "Health",
    "Histogram",
    "ReplicaCollector",
    "ReplicaStats",
    "Traffic",
    "make_registry",
]
