"""What one client can make replicas keep or hold is bounded: real processes, disks and sockets."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from epaxos import Op
from epaxos.statemachine.batch import encode_batch
from epaxos.transport.framing import Kind, seal
from live_cluster import ClusterMaker, LiveCluster

DURABLE: dict[str, Any] = {
    "client": {"timeout": "20s", "tries": 3},
    "storage": {"engine": "sqlite", "sync": "never", "checkpoint": "200ms"},
}
MIB = 2**20


def metric(alive: LiveCluster, name: str, of: str) -> float:
    found = re.search(rf"^{of} (.*)$", alive.metrics(name), re.MULTILINE)
    assert found, of
    return float(found[1])


def memory(alive: LiveCluster, name: str) -> int:
    """The most memory that a replica has had, in bytes."""
    status = Path(f"/proc/{alive.process(name).pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


def wait_for_checkpoints(alive: LiveCluster) -> None:
    """Wait until every replica has written another two."""
    before = {name: metric(alive, name, "epaxos_checkpoints_total") for name in alive.names}
    deadline = time.monotonic() + 20
    with alive.client() as client:
        while any(metric(alive, name, "epaxos_checkpoints_total") < before[name] + 2 for name in alive.names):
            client.put(b"go on", b"")
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_many_reads_of_a_large_value_are_told_and_leave_nothing(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client() as client:
        client.put(b"page", bytes(MIB))
        results = client.bulk([Op.get(b"page") for _ in range(150)])
        assert [result.value for result in results] == [bytes(MIB)] * 150
        with pytest.raises(Exception, match="longer than the cluster allows"):
            client.multi([Op.get(b"page"), Op.put(b"never", b"")] * 40)
        assert client.get(b"never") is None
        wait_for_checkpoints(alive)
    for name in alive.names:
        assert metric(alive, name, "epaxos_storage_bytes") < 20 * MIB
        assert metric(alive, name, "epaxos_results_kept_bytes") < 10_000
    alive.kill(*alive.names)
    alive.start().wait_until_ready()
    with alive.client() as client:
        assert client.get(b"page") == bytes(MIB)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_clients_that_ask_for_very_much_and_do_not_read_hold_little(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client() as client:
        client.put(b"page", bytes(MIB))
        before = memory(alive, "alpha")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stuck_clients = [context.socket(zmq.DEALER) for _ in range(2)]
        for session, stuck in enumerate(stuck_clients, 1001):
            stuck.setsockopt(zmq.RCVHWM, 1)
            stuck.connect(alive.config.replica("alpha").client_endpoint)
            for number in range(60):
                batch = encode_batch(session, 1 + 25 * number, 1, b"\x01" * 25, [b"page"] * 25, None)
                stuck.send(seal(Kind.REQUEST, alive.config.fingerprint, batch))
        deadline = time.monotonic() + 20
        while metric(alive, "alpha", "epaxos_replies_cut_total") < 60:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert metric(alive, "alpha", "epaxos_replies_waiting_bytes") <= 8 * 32 * MIB
        assert memory(alive, "alpha") - before < 500 * MIB
    with alive.client("alpha") as client:  # the others go on
        assert client.bulk([Op.get(b"page")] * 20)[19].value == bytes(MIB)
    alive.stop("alpha")
    for stuck in stuck_clients:
        stuck.close(linger=0)
    context.term()
