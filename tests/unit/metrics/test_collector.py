from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from epaxos.metrics import (
    DIRECTIONS,
    DROP_REASONS,
    ERROR_KINDS,
    Gauges,
    ReplicaCollector,
    ReplicaStats,
)
from epaxos.version import NEWEST, __version__

Value = Callable[..., float | None]


def test_every_series_is_there_from_the_start(stats: ReplicaStats, value: Value) -> None:
    for kind in ERROR_KINDS:
        assert value("epaxos_errors_total", kind=kind) == 0
    for path in ("fast", "slow", "recovered"):
        assert value("epaxos_commits_total", path=path) == 0
    for operation in ("null", "read", "write", "writeread", "cas", "multi"):
        assert value("epaxos_executed_commands_total", operation=operation) == 0
    for peer in ("alpha", "charlie"):
        assert value("epaxos_peer_up", peer=peer) == 0
        for reason in DROP_REASONS:
            assert value("epaxos_messages_dropped_total", peer=peer, reason=reason) == 0
        for direction in DIRECTIONS:
            labels = {"direction": direction, "type": "Beacon", "peer": peer}
            assert value("epaxos_messages_total", **labels) == 0
            assert value("epaxos_message_bytes_total", **labels) == 0
    for row in stats.replicas:
        assert value("epaxos_committed_slot", row=row) == -1
        assert value("epaxos_executed_slot", row=row) == -1
        assert value("epaxos_truncated_slot", row=row) == -1
    for gauge in ("storage_failed", "catch_up_active", "catch_up_rows", "catch_up_bytes"):
        assert value(f"epaxos_{gauge}") == 0


def test_a_replica_is_no_peer_of_its_own(value: Value) -> None:
    assert value("epaxos_peer_up", peer="bravo") is None


def test_build_info(value: Value) -> None:
    assert value("epaxos_build_info", version=__version__, level=str(NEWEST), name="bravo") == 1


def test_proposals_and_commits(stats: ReplicaStats, value: Value) -> None:
    stats.proposed(33)
    stats.proposed(7)
    stats.committed("fast", 0.0004)
    stats.committed("slow", 0.004)
    stats.execution_latency.observe(0.005)
    stats.duplicates += 3
    assert value("epaxos_proposals_total") == 40
    assert value("epaxos_instances_proposed_total") == 2
    assert value("epaxos_batch_size_commands_bucket", le="10.0") == 1
    assert value("epaxos_batch_size_commands_bucket", le="50.0") == 2
    assert value("epaxos_batch_size_commands_sum") == 40
    assert value("epaxos_commits_total", path="fast") == 1
    assert value("epaxos_commits_total", path="slow") == 1
    assert value("epaxos_commit_latency_seconds_bucket", le="0.0005") == 1
    assert value("epaxos_commit_latency_seconds_bucket", le="+Inf") == 2
    assert value("epaxos_commit_latency_seconds_count") == 2
    assert value("epaxos_commit_latency_seconds_sum") == pytest.approx(0.0044)
    assert value("epaxos_execution_latency_seconds_sum") == 0.005
    assert value("epaxos_duplicate_commands_total") == 3


def test_execution(stats: ReplicaStats, value: Value) -> None:
    for code in (1, 2, 2, 9):
        stats.executed[code] += 1
    stats.component_size.observe(1, 5)
    stats.component_size.observe(4)
    assert value("epaxos_executed_commands_total", operation="read") == 1
    assert value("epaxos_executed_commands_total", operation="write") == 2
    assert value("epaxos_executed_commands_total", operation="multi") == 1
    assert value("epaxos_component_size_instances_bucket", le="1.0") == 5
    assert value("epaxos_component_size_instances_count") == 6


def test_rounds(stats: ReplicaStats, value: Value) -> None:
    stats.round_done(events=120, waited=0.002, seconds=0.003)
    stats.round_done(events=4, waited=0.0, seconds=0.0001)
    assert value("epaxos_rounds_total") == 2
    assert value("epaxos_mailbox_depth") == 4
    assert value("epaxos_round_events_sum") == 124
    assert value("epaxos_mailbox_wait_seconds_sum") == 0.002
    assert value("epaxos_round_duration_seconds_sum") == pytest.approx(0.0031)


def test_traffic(stats: ReplicaStats, value: Value) -> None:
    sent = stats.message_traffic("sent", "PreAccept", "charlie")
    sent.messages += 2
    sent.bytes += 500
    labels = {"direction": "sent", "type": "PreAccept", "peer": "charlie"}
    assert value("epaxos_messages_total", **labels) == 2
    assert value("epaxos_message_bytes_total", **labels) == 500
    assert value("epaxos_messages_total", **{**labels, "direction": "received"}) == 0


def test_peers(stats: ReplicaStats, value: Value) -> None:
    stats.peer_up["alpha"] = True
    stats.peer_round_trip["alpha"] = 0.004
    stats.peer_waiting["charlie"] = 70_000
    stats.messages_dropped("charlie", "offline", 7)
    assert value("epaxos_peer_up", peer="alpha") == 1
    assert value("epaxos_peer_up", peer="charlie") == 0
    assert value("epaxos_peer_round_trip_seconds", peer="alpha") == 0.004
    assert value("epaxos_peer_round_trip_seconds", peer="charlie") == 0
    assert value("epaxos_peer_waiting_bytes", peer="charlie") == 70_000
    assert value("epaxos_messages_dropped_total", peer="charlie", reason="offline") == 7


def test_gauges(stats: ReplicaStats, value: Value) -> None:
    stats.gauges = Gauges(
        committed=(5, 6, 7),
        executed=(4, 5, 6),
        pending=3,
        in_flight=2,
        keys=100,
        sessions=9,
        remembered=8,
        truncated=(1, 2, 3),
        log=12,
    )
    assert value("epaxos_committed_slot", row="charlie") == 7
    assert value("epaxos_executed_slot", row="alpha") == 4
    assert value("epaxos_pending_instances") == 3
    assert value("epaxos_in_flight_instances") == 2
    assert value("epaxos_keys") == 100
    assert value("epaxos_sessions") == 9
    assert value("epaxos_remembered_numbers") == 8
    assert value("epaxos_truncated_slot", row="bravo") == 2
    assert value("epaxos_log_instances") == 12


def test_storage(stats: ReplicaStats, value: Value) -> None:
    stats.persisted(records=30, seconds=0.0008)
    stats.persisted(records=2, seconds=0.004)
    stats.storage_bytes = 123_456
    stats.storage_failed = True
    assert value("epaxos_records_total") == 32
    assert value("epaxos_persist_seconds_bucket", le="0.001") == 1
    assert value("epaxos_persist_seconds_sum") == pytest.approx(0.0048)
    assert value("epaxos_storage_bytes") == 123_456
    assert value("epaxos_storage_failed") == 1


def test_checkpoints_and_their_age(stats: ReplicaStats) -> None:
    now = 100.0
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(stats, "bravo", lambda: now))
    now = 107.0
    assert registry.get_sample_value("epaxos_checkpoint_age_seconds") == 7, "since the start"
    stats.checkpointed(seconds=2.0, now=109.0)
    now = 110.0
    assert registry.get_sample_value("epaxos_checkpoint_age_seconds") == 1
    assert registry.get_sample_value("epaxos_checkpoints_total") == 1
    assert registry.get_sample_value("epaxos_checkpoint_seconds_bucket", {"le": "2.5"}) == 1
    assert registry.get_sample_value("epaxos_checkpoint_seconds_sum") == 2


def test_catching_up(stats: ReplicaStats, value: Value) -> None:
    stats.catch_up = (0, 0)
    assert value("epaxos_catch_up_active") == 1, "nothing has come yet"
    stats.catch_up = (70, 9000)
    stats.served_bytes += 500
    assert value("epaxos_catch_up_rows") == 70
    assert value("epaxos_catch_up_bytes") == 9000
    assert value("epaxos_checkpoints_served_bytes_total") == 500
    stats.caught_up()
    assert value("epaxos_catch_up_active") == 0
    assert value("epaxos_catch_up_rows") == 0
    assert value("epaxos_catch_ups_total") == 1


def test_an_unforeseen_error_appears(stats: ReplicaStats, value: Value) -> None:
    stats.error("meteorite")
    assert value("epaxos_errors_total", kind="meteorite") == 1


def test_both_formats_are_well_formed_and_say_the_same(stats: ReplicaStats) -> None:
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(stats, "bravo", lambda: 1.0))
    stats.proposed(3)
    text = list(text_string_to_metric_families(generate_latest(registry).decode()))
    openmetrics: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # the library's gap
    strict = list(parse_openmetrics(openmetrics.decode()))  # type: ignore[no-untyped-call]  # the same
    ours = [
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("epaxos_")
        }
        for families in (text, strict)
    ]
    assert ours[0] == ours[1]
    assert ours[0]["epaxos_proposals_total", ()] == 3


def test_every_family_has_a_help_text_that_is_a_sentence(registry: CollectorRegistry) -> None:
    families = [family for family in registry.collect() if family.name.startswith("epaxos_")]
    assert families
    for family in families:
        assert family.documentation[0].isupper()
        assert family.documentation.endswith(".")


def test_process_and_interpreter_are_there(registry: CollectorRegistry) -> None:
    names = {family.name for family in registry.collect()}
    assert {"python_info", "python_gc_collections"} <= names


def test_a_registry_takes_a_replica_once(stats: ReplicaStats, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(ReplicaCollector(stats, "bravo"))


def test_scrapes_while_counting_stay_consistent(stats: ReplicaStats, registry: CollectorRegistry) -> None:
    """Counters only rise, buckets are cumulative, and a dict that grows disturbs nobody."""
    stop = threading.Event()

    def count() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            stats.proposed(step % 2000)
            stats.committed("fast", step % 100 / 1000)
            stats.error(f"kind {step % 500}")
            stats.gauges = Gauges((step,) * 3, (step,) * 3)

    writer = threading.Thread(target=count)
    writer.start()
    try:
        last: dict[tuple[str, str], float] = defaultdict(float)
        for _ in range(40):
            _check_scrape(registry, last)
    finally:
        stop.set()
        writer.join()
    assert last["epaxos_proposals_total", "{}"] > 0


def _check_scrape(registry: CollectorRegistry, last: dict[tuple[str, str], float]) -> None:
    slots = set()
    for family in registry.collect():
        buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        for sample in family.samples:
            if sample.name.endswith("_count"):
                assert sample.value == buckets[-1]
            if sample.name.endswith(("_total", "_count", "_bucket")):
                key = sample.name, str(sample.labels)
                assert sample.value >= last[key]
                last[key] = sample.value
            if sample.name == "epaxos_committed_slot":
                slots.add(sample.value)
    assert len(slots) == 1
