"""Turns a `ReplicaStats` into Prometheus metric families, when scraped and only then.

**Reading another thread's figures.** A scrape runs in a thread of the metrics server while the Replica's
thread goes on counting, without a lock between them. That is sound because there is one writer and because
each read below is a single step of the interpreter: loading an attribute or an item gives the old or the new
object, never a torn one, and copying a list or a dict is one C call that runs no Python code and so does not
give up the GIL half-way (an interpreter without a GIL locks the container for that call). Containers are
therefore copied first and looped over afterwards; looping over the original could meet a dict that changes
its size, and `list(d.items())` allocates on its way, where the garbage collector may run Python code.

What this does not give is one instant for all figures: a histogram's sum may lack an observation that its
buckets have, and two metrics may be a round apart. The next scrape repairs both, and counters never run
backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from epaxos.metrics.histogram import Histogram
from epaxos.metrics.stats import Gauges, ReplicaStats
from epaxos.version import NEWEST, __version__


def make_registry(stats: ReplicaStats, replica_name: str) -> CollectorRegistry:
    """A registry of its own with a replica's metrics and those of its process and interpreter."""
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(stats, replica_name))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ReplicaCollector(Collector):
    """Metric families of one replica, made anew from its `ReplicaStats` for every scrape.

    `clock` is that of `ReplicaStats.checkpointed`.
    """

    def __init__(
        self, stats: ReplicaStats, replica_name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stats = stats
        self._clock = clock
        self._born = clock()
        self._build = {"version": __version__, "level": str(NEWEST), "name": replica_name}

    def describe(self) -> Iterable[Metric]:
        """The names; the registry needs them to refuse a name given twice and to serve a selection."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """All families; safe to call from any thread, and from several at once."""
        yield InfoMetricFamily(
            "epaxos_build",
            "Version of this replica's program, the newest level that it knows, and its name.",
            self._build,
        )
        for name, text, read in _COUNTERS:
            yield CounterMetricFamily(name, text, read(self._stats))
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(name, text, read(self._stats))
        yield GaugeMetricFamily(
            "epaxos_checkpoint_age_seconds",
            "Time since this replica's last checkpoint became durable, or since its start.",
            self._checkpoint_age(),
        )
        for name, text, pick in _HISTOGRAMS:
            histogram = pick(self._stats)
            buckets = _cumulated(histogram)  # before the sum, as the writer does
            yield HistogramMetricFamily(name, text, buckets, histogram.sum)
        yield from _labelled_counters(self._stats)
        yield from _labelled_gauges(self._stats)
        yield from _traffic(self._stats)

    def _checkpoint_age(self) -> float:
        last = self._stats.checkpointed_at  # before the clock is read, so that the age is not negative
        return self._clock() - (self._born if last is None else last)


_COUNTERS: Final[tuple[tuple[str, str, Callable[[ReplicaStats], float]], ...]] = (
    (
        "epaxos_proposals_total",
        "Commands of clients that this replica has proposed.",
        lambda stats: stats.proposals,
    ),
    (
        "epaxos_instances_proposed_total",
        "Instances that this replica has proposed.",
        lambda stats: stats.instances,
    ),
    (
        "epaxos_duplicate_commands_total",
        "Commands that a client sent again and that were answered from its session.",
        lambda stats: stats.duplicates,
    ),
    (
        "epaxos_rounds_total",
        "Rounds: times that the replica took what was waiting in its mailbox.",
        lambda stats: stats.rounds,
    ),
    (
        "epaxos_records_total",
        "Records of the log that were written.",
        lambda stats: stats.records,
    ),
    (
        "epaxos_checkpoints_total",
        "Checkpoints of this replica that became durable.",
        lambda stats: stats.checkpoints,
    ),
    (
        "epaxos_catch_ups_total",
        "Times that this replica has caught up by a peer's checkpoint.",
        lambda stats: stats.catch_ups,
    ),
    (
        "epaxos_checkpoints_served_bytes_total",
        "Bytes of checkpoints that were sent to peers.",
        lambda stats: stats.served_bytes,
    ),
    (
        "epaxos_void_total",
        "Own proposals that an epoch ended without, and that went on in the next one.",
        lambda stats: stats.void,
    ),
    (
        "epaxos_slow_commands_total",
        "Commands of clients whose answer took longer than the key `slow` allows.",
        lambda stats: stats.slow_commands,
    ),
    (
        "epaxos_elections_total",
        "Times that this replica has become the leader; 0 with a protocol without one.",
        lambda stats: stats.gauges.elections,
    ),
    (
        "epaxos_replies_cut_total",
        "Replies to clients without some of the results, for which there was no room.",
        lambda stats: stats.replies_cut,
    ),
    (
        "epaxos_replies_dropped_total",
        "Replies to clients that were dropped because those before them had not been sent.",
        lambda stats: stats.replies_dropped,
    ),
    (
        "epaxos_watch_changes_told_total",
        "Changes that those who watch keys were told.",
        lambda stats: stats.watch.told,
    ),
    (
        "epaxos_watch_compacted_total",
        "Times that one of them was told that changes are not kept here.",
        lambda stats: stats.watch.compacted,
    ),
    (
        "epaxos_redis_commands_total",
        "Commands of clients of Redis that were answered.",
        lambda stats: stats.redis["commands"],
    ),
    (
        "epaxos_redis_rejected_total",
        "Connections of clients of Redis that were turned away, as there were too many.",
        lambda stats: stats.redis["rejected"],
    ),
    (
        "epaxos_redis_cut_total",
        "Connections of clients of Redis that were cut: they did not read, or subscribers missed something.",
        lambda stats: stats.redis["cut"],
    ),
    (
        "epaxos_redis_protocol_errors_total",
        "Connections of clients of Redis that were closed for what they sent.",
        lambda stats: stats.redis["protocol_errors"],
    ),
)

_NOTHING: Final = (0, 0)
"""Rows and bytes of a checkpoint that is not fetched."""

_GAUGES: Final[tuple[tuple[str, str, Callable[[ReplicaStats], float]], ...]] = (
    (
        "epaxos_results_kept_bytes",
        "Bytes of the results that are kept until clients acknowledge them.",
        lambda stats: stats.kept_bytes,
    ),
    (
        "epaxos_replies_waiting_bytes",
        "Bytes of replies to clients that have not been sent yet.",
        lambda stats: stats.replies_waiting,
    ),
    (
        "epaxos_watchers",
        "Questions of those who watch keys that wait here.",
        lambda stats: stats.watch.waiting,
    ),
    (
        "epaxos_watch_history_bytes",
        "Bytes of changes that are kept for them.",
        lambda stats: stats.watch.kept,
    ),
    (
        "epaxos_mailbox_depth",
        "Events that the last round found in the mailbox.",
        lambda stats: stats.mailbox_depth,
    ),
    (
        "epaxos_pending_instances",
        "Instances that this replica knows and has not executed.",
        lambda stats: stats.gauges.pending,
    ),
    (
        "epaxos_in_flight_instances",
        "Instances that this replica coordinates and that are not committed.",
        lambda stats: stats.gauges.in_flight,
    ),
    (
        "epaxos_epoch",
        "Number of the cluster's configuration in which this replica votes.",
        lambda stats: stats.epoch,
    ),
    (
        "epaxos_level",
        "Level of what replicas send one another and keep.",
        lambda stats: stats.level,
    ),
    (
        "epaxos_leads",
        "Whether this replica leads: 1 or 0.",
        lambda stats: stats.gauges.leads,
    ),
    (
        "epaxos_ballot",
        "Highest ballot that this replica knows, of a protocol with a leader.",
        lambda stats: stats.gauges.ballot,
    ),
    (
        "epaxos_redis_connections",
        "Connections of clients of Redis.",
        lambda stats: stats.redis["open"],
    ),
    ("epaxos_keys", "Keys that have a value.", lambda stats: stats.gauges.keys),
    ("epaxos_sessions", "Client sessions remembered.", lambda stats: stats.gauges.sessions),
    (
        "epaxos_remembered_numbers",
        "Numbers remembered of keys that were touched of late.",
        lambda stats: stats.gauges.remembered,
    ),
    (
        "epaxos_log_instances",
        "Instances that the log holds in memory.",
        lambda stats: stats.gauges.log,
    ),
    (
        "epaxos_quorum_heard",
        "Whether this replica hears as many, itself included, as a commit takes: 1 or 0.",
        lambda stats: int(stats.hears_quorum),
    ),
    ("epaxos_observes", "Whether this is an observer: 1 or 0.", lambda stats: int(stats.observing.observes)),
    (
        "epaxos_observer_age_seconds",
        "How much older the state of an observer is at most than what anybody was answered.",
        lambda stats: stats.observing.age,
    ),
    (
        "epaxos_replicas_heard",
        "Replicas that this one hears and that hear it, itself included.",
        lambda stats: len(stats.heard),
    ),
    (
        "epaxos_checkpoint_refused",
        "Whether the last checkpoint had a row that cannot be written.",
        lambda stats: int(stats.checkpoint_refused),
    ),
    (
        "epaxos_storage_failed",
        "Whether a write to the disk has failed, after which this replica promises nothing more: 1 or 0.",
        lambda stats: int(stats.storage_failed),
    ),
    (
        "epaxos_storage_full",
        "Whether this replica takes nothing that makes its data grow, for lack of room on its disk: 1 or 0.",
        lambda stats: int(stats.storage_full),
    ),
    (
        "epaxos_storage_room_bytes",
        "Bytes by which the data may grow before that.",
        lambda stats: stats.storage_room,
    ),
    (
        "epaxos_storage_bytes",
        "Size of the data directory's files.",
        lambda stats: stats.storage_bytes,
    ),
    (
        "epaxos_catch_up_active",
        "Whether this replica is catching up by a peer's checkpoint: 1 or 0.",
        lambda stats: int(stats.catch_up is not None),
    ),
    (
        "epaxos_catch_up_rows",
        "Rows of the peer's checkpoint that have come; 0 if there is none.",
        lambda stats: (stats.catch_up or _NOTHING)[0],
    ),
    (
        "epaxos_catch_up_bytes",
        "Bytes of the peer's checkpoint that have come; 0 if there is none.",
        lambda stats: (stats.catch_up or _NOTHING)[1],
    ),
)

_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[ReplicaStats], Histogram]], ...]] = (
    (
        "epaxos_commit_latency_seconds",
        "Time from the proposal of an own instance to its commit.",
        lambda stats: stats.commit_latency,
    ),
    (
        "epaxos_execution_latency_seconds",
        "Time from the proposal of an own instance to its execution.",
        lambda stats: stats.execution_latency,
    ),
    (
        "epaxos_quiesce_seconds",
        "Time for which commands were kept, from when the end of an epoch came in sight until the next one began.",
        lambda stats: stats.quiesce,
    ),
    (
        "epaxos_batch_size_commands",
        "Commands in an own instance.",
        lambda stats: stats.batch_size,
    ),
    (
        "epaxos_component_size_instances",
        "Instances that depend on one another and were executed as one.",
        lambda stats: stats.component_size,
    ),
    (
        "epaxos_mailbox_wait_seconds",
        "Longest time that an event of a round can have waited for it.",
        lambda stats: stats.mailbox_wait,
    ),
    (
        "epaxos_round_duration_seconds",
        "Time that a round took, from the first event taken to the last effect performed.",
        lambda stats: stats.round_duration,
    ),
    (
        "epaxos_round_events",
        "Events that a round found in the mailbox.",
        lambda stats: stats.round_events,
    ),
    (
        "epaxos_persist_seconds",
        "Time that the commit of a round's records took.",
        lambda stats: stats.persist_duration,
    ),
    (
        "epaxos_checkpoint_seconds",
        "Time from the cut of a checkpoint until it was durable.",
        lambda stats: stats.checkpoint_duration,
    ),
)


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """The buckets as Prometheus wants them: each with all below it, the last without a bound."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts.copy()), strict=True))


def _labelled_counters(stats: ReplicaStats) -> Iterator[Metric]:
    commits = CounterMetricFamily(
        "epaxos_commits_total", "Instances that this replica coordinated to their commit.", labels=["path"]
    )
    for path, count in stats.commits.copy().items():
        commits.add_metric([path], count)
    yield commits

    executed = CounterMetricFamily(
        "epaxos_executed_commands_total", "Commands executed, whoever proposed them.", labels=["operation"]
    )
    for operation, count in zip(stats.operations, stats.executed.copy(), strict=True):
        executed.add_metric([operation], count)
    yield executed

    errors = CounterMetricFamily(
        "epaxos_errors_total", "Bad input and failures that were met and dealt with.", labels=["kind"]
    )
    for kind, count in stats.errors.copy().items():
        errors.add_metric([kind], count)
    yield errors


def _labelled_gauges(stats: ReplicaStats) -> Iterator[Metric]:
    for name, meaning, values in (
        ("up", "Whether a peer and this replica hear each other: 1 or 0.", stats.peer_up),
        (
            "round_trip_seconds",
            "Mean round trip with a peer, queues left out; 0 if unknown.",
            stats.peer_round_trip,
        ),
        ("epoch", "Epoch in which a peer was last heard.", stats.peer_epoch),
        ("level", "Newest level that a peer's program knows; 0 while it is away.", stats.peer_level),
        ("waiting_bytes", "Bytes that wait to be sent to a peer.", stats.peer_waiting),
    ):
        family = GaugeMetricFamily(f"epaxos_peer_{name}", meaning, labels=["peer"])
        for peer, value in values.copy().items():
            family.add_metric([peer], value)
        yield family

    gauges: Gauges = stats.gauges
    yield _frontier(
        "epaxos_committed_slot",
        "Highest slot of a row up to which everything is committed here; -1 if nothing is.",
        zip(stats.rows, gauges.committed, strict=False),
    )
    yield _frontier(
        "epaxos_executed_slot",
        "Highest slot of a row up to which everything is executed here; -1 if nothing is.",
        zip(stats.rows, gauges.executed, strict=False),
    )
    yield _frontier(
        "epaxos_truncated_slot",
        "Highest slot of a row up to which the log has been dropped here; -1 if it never was.",
        zip(stats.rows, gauges.truncated or (-1,) * len(stats.rows), strict=False),
    )


def _frontier(name: str, text: str, slots: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["row"])
    for owner, slot in slots:
        family.add_metric([owner], slot)
    return family


def _traffic(stats: ReplicaStats) -> Iterator[Metric]:
    labels = ["direction", "type", "peer"]
    messages = CounterMetricFamily(
        "epaxos_messages_total", "Messages exchanged with a peer, by type.", labels=labels
    )
    size = CounterMetricFamily(
        "epaxos_message_bytes_total",
        "Encoded size of the messages exchanged with a peer, by type.",
        labels=labels,
    )
    for key, traffic in stats.traffic.copy().items():
        messages.add_metric(key, traffic.messages)
        size.add_metric(key, traffic.bytes)
    yield messages
    yield size

    dropped = CounterMetricFamily(
        "epaxos_messages_dropped_total",
        "Messages to a peer that were thrown away: its queue was full, or it is offline.",
        labels=["peer", "reason"],
    )
    for dropped_key, count in stats.dropped.copy().items():
        dropped.add_metric(dropped_key, count)
    yield dropped
