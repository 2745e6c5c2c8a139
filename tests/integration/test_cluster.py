"""Real replicas, real sockets: they agree, outlive one of them, and start, stop and tell of themselves in order."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from epaxos import AsyncClient, Client, Op
from epaxos.bench.options import Amount, BenchOptions
from epaxos.bench.run import Result, run_bench
from epaxos.client.status import Status
from epaxos.config import ReplicaAddress
from epaxos.errors import NoAnswer
from live_cluster import ClusterMaker, LiveCluster
from namespaces import needs_namespaces, run_apart

HOT_SHARE = 25.0  # percent of the commands on one key

PEER_TIMEOUT = 0.4
"""Seconds of silence after which the replicas of the tests with a dead one count it as offline."""

FAST_FAILURE: dict[str, Any] = {
    "timeout": "400ms",
    "beacon": "50ms",
    "client": {"timeout": "5s", "tries": 10},
}


def load(alive: LiveCluster, **changes: Any) -> Result:
    """Load all replicas that run, check every answer, and compare the states afterwards."""
    names = tuple(alive.running)
    options: dict[str, Any] = {"stop": Amount(operations=4000), "window": 200, "timeout": 20.0} | changes
    return run_bench(
        alive.config,
        BenchOptions(replicas=names, clients=len(names), conflicts=HOT_SHARE, verify=True, **options),
    )


def wait_for(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        time.sleep(0.02)


def page(replica: ReplicaAddress, path: str) -> tuple[int, str]:
    """A page of a replica over HTTP: status and text."""
    url = f"http://{replica.host}:{replica.metrics_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def statuses(alive: LiveCluster, *, digest: bool = False) -> list[Status]:
    """What the running replicas tell of themselves."""
    with alive.client(timeout=10.0) as client:
        return [client.status(digest=digest, replica=name) for name in alive.running]


def settled(alive: LiveCluster) -> bool:
    """Whether the running replicas have executed all they know, the same, and hold the same state."""
    told = statuses(alive, digest=True)
    return (
        all(status.pending == 0 for status in told)
        and len({tuple(status.executed) for status in told}) == 1
        and len({status.digest for status in told}) == 1
    )


# -- agreement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thrifty", [False, True], ids=["all", "thrifty"])
@pytest.mark.parametrize("n", [3, 5])
def test_replicas_agree_under_conflicts(cluster: ClusterMaker, n: int, *, thrifty: bool) -> None:
    alive = cluster(n, thrifty=thrifty)
    result = load(alive, writes=75)
    assert result.verification is not None
    assert result.verification.findings.commands == 4000
    assert result.verification.findings.texts == []
    assert result.verification.states.identical
    assert len(result.verification.states.digests) == n
    total = result.measured.total()
    assert total.operations == 4000
    assert dict(total.errors) == {}
    assert result.fine
    assert [status.executed_commands for status in statuses(alive)] == [4000] * n


def test_replicas_agree_without_aggregation(cluster: ClusterMaker) -> None:
    alive = cluster(3, aggregate=False)
    result = load(alive, stop=Amount(operations=1000), window=100)
    assert result.fine, result.verification
    with alive.client("alpha") as client:
        before = client.status()
        assert client.bulk([Op.increment(b"count")] * 20)[-1].unwrap() == 20
        after = client.status()
    assert after.proposals - before.proposals == 20
    assert not after.others, "epaxos.client.status has no place for these"
    assert after.committed[0] - before.committed[0] == 20  # one instance each


# -- one replica dies --------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Increments its own key through one replica, one after the other, until told to stop.

    `times` are when the answers came and `numbers` what they said.
    """

    def __init__(self, alive: LiveCluster, replica: str) -> None:
        super().__init__(daemon=True)
        self.times: list[float] = []
        self.numbers: list[int] = []
        self.error: Exception | None = None
        self._client = alive.client(replica)
        self._key = f"written at {replica}".encode()
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with self._client as client:
                while not self._over.is_set():
                    client.append(b"shared", b"x")
                    self.numbers.append(client.increment(self._key))
                    self.times.append(time.monotonic())
        except Exception as error:  # noqa: BLE001 - the test looks at it, whatever it is
            self.error = error

    def stop(self) -> None:
        self._over.set()
        self.join()

    @property
    def longest_gap(self) -> float:
        """The longest time between two answers, in seconds."""
        return max(later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False))


@contextmanager
def writers(alive: LiveCluster) -> Iterator[dict[str, Writer]]:
    """A writer at every replica."""
    running = {name: Writer(alive, name) for name in alive.running}
    for writer in running.values():
        writer.start()
    try:
        yield running
    finally:
        for writer in running.values():
            writer.stop()


@pytest.mark.parametrize("thrifty", [False, True], ids=["all", "thrifty"])
def test_survivors_go_on_when_a_replica_is_killed(cluster: ClusterMaker, *, thrifty: bool) -> None:
    alive = cluster(3, thrifty=thrifty, **FAST_FAILURE)
    with writers(alive) as running:
        wait_for(lambda: all(len(writer.times) >= 20 for writer in running.values()))
        alive.kill("charlie")
        killed = time.monotonic()
        survivors = [running["alpha"], running["bravo"]]
        wait_for(lambda: all(writer.times[-1] > killed + 4 * PEER_TIMEOUT for writer in survivors))
    for name, writer in running.items():
        assert writer.error is None, name
        assert writer.numbers == list(range(1, len(writer.numbers) + 1)), name  # each executed exactly once
    for writer in survivors:
        assert writer.longest_gap < 3 * PEER_TIMEOUT
    wait_for(lambda: settled(alive))
    with alive.client("alpha") as client:
        shared = client.get(b"shared")
        assert shared is not None
        assert len(shared) >= sum(len(writer.numbers) for writer in running.values())
        assert not client.status().peers["charlie"].online
    assert "peer charlie is offline: silent for more than " in alive.log(
        "alpha"
    )  # for longer where round trips are
    assert 'epaxos_peer_up{peer="charlie"} 0.0' in alive.metrics("alpha")


def test_a_leader_that_is_killed_under_load_is_replaced(cluster: ClusterMaker) -> None:
    alive = cluster(3, protocol="multipaxos", **FAST_FAILURE)
    with writers(alive) as running:
        wait_for(lambda: all(len(writer.times) >= 20 for writer in running.values()))
        with alive.client("alpha") as client:
            leader = client.status().leader
        assert leader is not None
        alive.kill(leader)
        killed = time.monotonic()
        survivors = [name for name in running if name != leader]
        wait_for(lambda: all(running[name].times[-1] > killed + 4 * PEER_TIMEOUT for name in survivors))
    for name, writer in running.items():
        assert writer.error is None, name
        assert writer.numbers == list(range(1, len(writer.numbers) + 1)), name  # each executed exactly once
    wait_for(lambda: settled(alive))
    with alive.client(survivors[0]) as client:
        status = client.status()
        assert status.leader is not None
        assert status.leader in survivors
        assert len(client.get(b"shared") or b"") >= sum(len(writer.numbers) for writer in running.values())
    assert "\nepaxos_leads 1.0\n" in alive.metrics(status.leader)


def test_values_end_though_the_replica_is_away_whose_turn_it_is(cluster: ClusterMaker) -> None:
    alive = cluster(3, **FAST_FAILURE)
    keys = [b"%d" % number for number in range(30)]
    with alive.client("alpha") as client:
        client.put(b"long", b"v", ttl=1000)
        begun = time.monotonic()
        client.bulk([client.op.put(key, b"v", ttl=0.5) for key in keys])
        assert [client.ttl(key) is None for key in (b"long", b"absent")] == [False, True]
        alive.kill("charlie")
        wait_for(lambda: not any(result.unwrap() for result in client.bulk(map(client.op.get, keys))))
        assert time.monotonic() >= begun + 0.5
        assert 900 < (client.ttl(b"long") or 0) <= 1000
        assert client.persist(b"long")
        assert client.ttl(b"long") is None
        assert client.get(b"long") == b"v"


def test_a_lock_outlives_a_replica_and_not_its_holder(cluster: ClusterMaker) -> None:
    alive = cluster(3, **FAST_FAILURE)
    with alive.client("charlie") as holder, alive.client("alpha") as other:
        held = holder.lock(b"lock", ttl=3.0).acquire()
        assert held is not None
        alive.kill("charlie")
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            assert held.is_held
            assert other.lock(b"lock", ttl=3.0).acquire(timeout=0) is None
            time.sleep(0.1)
        holder.close()
        assert held.lost.wait(5.0)
        assert not held.is_held
        with other.lock(b"lock", ttl=3.0) as next_:
            assert next_.token == held.token + 1


def test_replica_that_lost_its_memory_is_refused(cluster: ClusterMaker) -> None:
    alive = cluster(3, **FAST_FAILURE)
    with alive.client("alpha") as client:
        client.put(b"key", b"value")
        alive.kill("charlie")
        alive.start("charlie")
        assert alive.wait("charlie") == 1
        said = [line for line in alive.log("charlie").splitlines() if "refuse" in line]
        assert all("may not vote" in line and "restart the whole cluster" in line for line in said), said
        assert said[-1].startswith(("epaxos: refused by alpha", "epaxos: refused by bravo"))
        assert client.get(b"key") == b"value"
    lines = [
        line
        for name in ("alpha", "bravo")
        for line in alive.log(name).splitlines()
        if "duplicate_name" in line
    ]
    assert 1 <= len(lines) <= 2, "one line a peer, and one refusal is enough for charlie to stop"
    assert all("charlie is another one than the charlie heard before" in line for line in lines)


# -- start and stop ----------------------------------------------------------------------------------------


def test_sigterm_ends_a_loaded_replica_at_once(cluster: ClusterMaker) -> None:
    alive = cluster(3)
    with alive.client("alpha") as client:
        client.put(b"key", b"value")
        began = time.monotonic()
        alive.stop()  # fails unless all end with 0
        assert time.monotonic() - began < 4.5
    for name in alive.names:
        assert "stopping on SIGTERM" in alive.log(name)
        assert "Traceback" not in alive.log(name)


def test_uptime_ends_a_replica(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    began = time.monotonic()
    alive.start("alpha", options=["--uptime", "1s"])
    assert alive.wait("alpha") == 0
    assert time.monotonic() - began >= 1.0


def test_replicas_may_start_in_any_order(cluster: ClusterMaker) -> None:
    alive = cluster(3, start=False)
    alive.start("charlie")
    with alive.client("charlie", timeout=20.0) as client:
        client.status(replica="charlie")
        with pytest.raises(NoAnswer, match="charlie could not serve") as caught:
            client.put(b"too", b"early", timeout=1.0)
        assert not caught.value.may_have_executed
        writing = threading.Thread(target=client.put, args=(b"early", b"bird"))
        writing.start()  # waits for a quorum
        time.sleep(0.3)
        alive.start("alpha", "bravo")
        writing.join(20)
        assert client.get(b"early") == b"bird"
    alive.wait_until_ready()


def test_pages(cluster: ClusterMaker) -> None:
    alive = cluster(3)
    with alive.client("bravo") as client:
        client.put(b"key", b"value")
        client.get(b"key")
        bravo = alive.config.replica("bravo")
        metrics, deadline = "", time.monotonic() + 10
        # Gauges follow some times a second.
        while "epaxos_keys 1.0" not in metrics.splitlines() and time.monotonic() < deadline:
            _, metrics = page(bravo, "/metrics")  # before the client's farewell, which is proposed too
    status, health = page(bravo, "/healthz")
    assert status == 200
    assert json.loads(health)["healthy"] is True
    assert page(bravo, "/livez") == page(bravo, "/readyz") == (200, "ok\n")
    lines = metrics.splitlines()
    for line in (
        "epaxos_proposals_total 2.0",
        'epaxos_executed_commands_total{operation="write"} 1.0',
        'epaxos_executed_commands_total{operation="read"} 1.0',
        'epaxos_peer_up{peer="alpha"} 1.0',
        "epaxos_quorum_heard 1.0",
        "epaxos_replicas_heard 3.0",
        "epaxos_keys 1.0",
        "epaxos_pending_instances 0.0",
    ):
        assert line in lines, line
    assert page(bravo, "/no-such-page")[0] == 404


# -- clients -----------------------------------------------------------------------------------------------


def test_client_without_answer_goes_to_another_replica(cluster: ClusterMaker) -> None:
    alive = cluster(3, client={"timeout": "6s", "tries": 3})
    with alive.client("alpha") as client:
        assert client.increment(b"count") == 1
        alive.process("alpha").send(signal.SIGSTOP)
        try:
            assert client.increment(b"count") == 2
        finally:
            alive.process("alpha").send(signal.SIGCONT)
        # Alpha now proposes the same request once more; it must not execute a second time anywhere.
        wait_for(lambda: settled(alive))
        for name in alive.names:
            with alive.client(name) as other:
                assert other.get(b"count") == b"2"


def test_async_client_goes_to_another_replica(cluster: ClusterMaker) -> None:
    alive = cluster(3, client={"timeout": "6s", "tries": 3})

    async def count() -> list[int]:
        async with AsyncClient(config=alive.config, replica="bravo") as client:
            numbers = [await client.increment(b"count")]
            alive.kill("bravo")
            numbers += await asyncio.gather(*(client.increment(b"count") for _ in range(50)))
            return numbers

    assert sorted(asyncio.run(count())) == list(range(1, 52))
    wait_for(lambda: settled(alive))
    with Client(config=alive.config, replica="alpha") as client:
        assert client.get(b"count") == b"51"


@needs_namespaces
def test_a_connection_that_dies_alone_is_made_anew(tmp_path: Path) -> None:
    """Heartbeats pass on the other one, so nobody is offline. The system by itself waits for a quarter of an hour."""
    assert run_apart("dead_connection.py", tmp_path)["slowest"] < 20
