"""What bad input gets: a clear answer and a count, and nothing is lost or stopped."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest
import toml
import zmq

from epaxos import AsyncClient, Client, Op, OperationFailed, Refused
from epaxos.config import load_config
from epaxos.statemachine.batch import encode_batch
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.version import NEWEST, known
from fuzz.__main__ import fuzz
from fuzz.barrage import connect, counted_errors, difference, learn_insiders, receive, zmq_context
from fuzz.hostile import Forge
from live_cluster import PORT_KEYS, ClusterMaker, LiveCluster, clusters

SMALL: dict[str, Any] = {"max_key": 1024, "max_value": 4096, "max_frame": 16_384}
"""Limits under which oversized frames are quickly made."""


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """A cluster for tests that do it no harm."""
    for make in clusters(tmp_path_factory.mktemp("hostile")):
        yield make(3, **SMALL)


def rewritten(original: LiveCluster, file: str, changes: dict[str, Any], **replicas: dict[str, Any]) -> Path:
    """A copy of a cluster's configuration with other settings and, by name, replicas with other addresses."""
    settings = toml.loads(original.path.read_text()) | changes
    settings["replicas"] = [each | replicas.get(each["name"], {}) for each in settings["replicas"]]
    path = original.directory / file
    path.write_text(toml.dumps(settings))
    return path


def use(alive: LiveCluster, file: Path) -> None:
    """Let a cluster that does not run yet use another configuration."""
    file.replace(alive.path)
    alive.config = load_config(str(alive.path), environ={})


def wait_for(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        time.sleep(0.02)


def lines_with(text: str, *words: str) -> list[str]:
    """The lines that hold all the words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]


# -- frames ------------------------------------------------------------------------------------------------


def test_random_and_mutated_frames(cluster: ClusterMaker) -> None:
    """A short run of tools/fuzz: nothing stops, every answer under load is right, all frames are counted."""
    attacked = cluster(3, start=False, redis=True, **SMALL)
    attacked.start("alpha", "bravo")
    insiders = learn_insiders(attacked.config, listen_as=2, wanted=2)
    attacked.start("charlie").wait_until_ready()
    with attacked.client("alpha") as client:
        for number in range(100):
            client.put(b"key %d" % number, b"value %d" % number)
    assert fuzz(attacked.config, 200, 1, insiders, attacked.check) == []
    with attacked.client("charlie") as client:
        for number in range(100):
            assert client.get(b"key %d" % number) == b"value %d" % number
    for name in attacked.names:
        assert "Traceback" not in attacked.log(name)


def test_malformed_frame_of_a_client_is_answered(alive: LiveCluster) -> None:
    alpha = alive.config.replica("alpha")
    before = counted_errors(alpha)
    with zmq_context() as context:
        client = connect(context, alpha.client_endpoint)
        client.send(seal(Kind.REQUEST, alive.config.fingerprint, b"no batch"))
        [answer] = receive(client, alpha)
    frame = open_frame(answer, alive.config.fingerprint, alive.config.max_frame)
    assert frame.kind == Kind.REFUSED
    number, first, count, index, text = msgpack.unpackb(frame.body)
    assert (number, first, count, index) == (0, 0, 0, -1)
    assert text.startswith("not a batch: ")
    assert difference(before, counted_errors(alpha)) == {"malformed": 1}
    [line] = lines_with(alive.log("alpha"), "refused a client's frame (malformed) from 127.0.0.1: ")
    assert "further ones are only counted" in line


def test_client_of_another_cluster_is_told_so(alive: LiveCluster) -> None:
    other = load_config(str(rewritten(alive, "other-client.toml", {"name": "other"})), environ={})
    with Client(config=other, replica="alpha") as client, pytest.raises(Refused, match="cluster"):
        client.get(b"key")


# -- commands ----------------------------------------------------------------------------------------------


def test_key_and_value_over_the_limit(alive: LiveCluster) -> None:
    alpha = alive.config.replica("alpha")
    before = counted_errors(alpha)
    with alive.client("alpha") as client:
        client.put(b"k" * 1024, b"v" * 4096)
        with pytest.raises(Refused, match="key of 1025 bytes; at most 1024 are allowed") as refused:
            client.put(b"k" * 1025, b"value")
        assert not refused.value.may_have_executed
        with pytest.raises(Refused, match="value of 4097 bytes; at most 4096 are allowed"):
            client.put(b"key", b"v" * 4097)
        assert client.get(b"key") is None
        assert client.get(b"k" * 1024) == b"v" * 4096
    assert difference(before, counted_errors(alpha)) == {"refused": 2}
    for arguments, stdin in ((("put", "k" * 1025, "value"), b""), (("put", "key", "-"), b"v" * 4097)):
        done = alive.epaxos(*arguments, stdin=stdin)
        assert done.returncode == 2
        assert done.stdout == b""
        [line] = done.stderr.decode().splitlines()
        assert "1024" in line or "4096" in line


def test_frame_of_the_largest_size_allowed_is_executed(alive: LiveCluster) -> None:
    """What replicas put around it on its way to their peers must not make it too large."""
    fingerprint, size = alive.config.fingerprint, alive.config.max_frame
    keys = [b"large %d" % number for number in range(4)]
    values = [b"v" * 4096] * 3
    spare = size - len(
        seal(Kind.REQUEST, fingerprint, encode_batch(1, 1, 1, b"\x02" * 4, keys, [*values, bytes(999)]))
    )
    frame = seal(
        Kind.REQUEST,
        fingerprint,
        encode_batch(1, 1, 1, b"\x02" * 4, keys, [*values, bytes(999 + spare)]),
    )
    assert len(frame) == size
    with zmq_context() as context:
        alpha = alive.config.replica("alpha")
        client = connect(context, alpha.client_endpoint)
        client.send(frame)
        [answer] = receive(client, alpha)
    assert open_frame(answer, fingerprint, size).kind == Kind.REPLY
    with alive.client("bravo") as reader:
        assert reader.get(b"large 0") == values[0]


def test_bad_operation_is_refused_and_its_companions_are_done(alive: LiveCluster) -> None:
    with alive.client("alpha") as client:
        results = client.bulk([Op.put(b"one", b"1"), Op(77, b"key", None), Op.put(b"two", b"2")])
        assert [result.ok for result in results] == [True, False, True]
        with pytest.raises(Refused, match="unknown operation 77"):
            results[1].unwrap()
        assert (client.get(b"one"), client.get(b"two")) == (b"1", b"2")


def test_increment_of_something_else_than_a_number(alive: LiveCluster) -> None:
    with alive.client("alpha") as client:
        client.put(b"text", b"hello")
        with pytest.raises(OperationFailed, match="not a 64-bit integer"):
            client.increment(b"text")
        assert client.get(b"text") == b"hello"
    done = alive.epaxos("incr", "text")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_busy_replicas_turn_away_and_clients_come_back(cluster: ClusterMaker) -> None:
    crowded = cluster(3, max_pending=8, max_batch=4, client={"timeout": "20s"})

    async def count(times: int) -> None:
        async with AsyncClient(config=crowded.config, replica="alpha") as client:
            await asyncio.gather(*(client.increment(b"count") for _ in range(times)))

    async def crowd() -> None:
        await asyncio.gather(*(count(100) for _ in range(5)))

    asyncio.run(crowd())
    with crowded.client("bravo") as client:
        assert client.get(b"count") == b"500"
    assert total(crowded.metrics("alpha"), 'epaxos_errors_total{kind="busy"}') > 0


def total(page: str, series: str) -> float:
    """The value of one series of a page of metrics."""
    [line] = [line for line in page.splitlines() if line.startswith(f"{series} ")]
    return float(line.split()[-1])


# -- addresses and names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PORT_KEYS)
def test_port_in_use(cluster: ClusterMaker, key: str) -> None:
    alone = cluster(3, start=False)
    port = getattr(alone.config.replica("alpha"), key)
    with socket.create_server(("127.0.0.1", port)):
        done = alone.epaxos("serve", "--name", "alpha")
    assert done.returncode == 2
    [line] = lines_with(done.stderr.decode(), "epaxos: ")
    assert f"127.0.0.1:{port}" in line
    assert "the port is in use" in line
    assert key in line
    assert b"Traceback" not in done.stderr


def test_replica_started_twice(alive: LiveCluster) -> None:
    done = alive.epaxos("serve", "--name", "alpha")
    assert done.returncode == 2
    [line] = lines_with(done.stderr.decode(), "epaxos: ")
    assert "the port is in use" in line
    with alive.client("alpha", tries=1) as client:
        client.put(b"still", b"there")


def test_peer_whose_name_does_not_resolve(cluster: ClusterMaker) -> None:
    lost = cluster(3, storage={"engine": "sqlite", "directory": "kept"})
    lost.stop("alpha", "bravo", "charlie")
    use(lost, rewritten(lost, "lost.toml", {}, charlie={"host": "no-such-host.invalid"}))
    lost.start("alpha", "bravo").wait_until_ready()
    with lost.client("alpha") as client:
        client.put(b"key", b"value")
        assert client.get(b"key") == b"value"
    wait_for(lambda: total(lost.metrics("alpha"), 'epaxos_errors_total{kind="resolve"}') == 1)
    [line] = lines_with(lost.log("alpha"), "does not resolve")
    assert "peer charlie is out of reach at no-such-host.invalid:" in line
    assert 'host "no-such-host.invalid" does not resolve' in line


def second_process(original: LiveCluster, ports: LiveCluster, name: str, changes: dict[str, Any]) -> Path:
    """A configuration in which the replica `name` has ports of another cluster, so that it can be started."""
    address = ports.config.replica(name)
    return rewritten(
        original, f"second-{name}.toml", changes, **{name: {key: getattr(address, key) for key in PORT_KEYS}}
    )


def test_second_replica_of_a_name_is_refused(cluster: ClusterMaker) -> None:
    first = cluster(3)
    file = second_process(first, cluster(3, start=False), "alpha", {})
    with first.client("alpha", tries=1) as client:
        client.put(b"key", b"value")
        second = first.spawn("serve", "--config", str(file), "--name", "alpha", log="second.log")
        assert second.wait() == 1
        assert client.increment(b"count") == 1
        assert client.status().peers["bravo"].online
    [line] = lines_with(second.printed, "epaxos: ")
    assert ": alpha is another one than the alpha heard before" in line
    assert "refused by " in line
    # One refusal is enough for the second to stop, so only one of the two may have heard of it.
    peers = [name for name in ("bravo", "charlie") if lines_with(first.log(name), "duplicate_name")]
    assert peers
    for name in peers:
        [line] = lines_with(first.log(name), "duplicate_name")
        assert "two replicas run under this name" in line
        assert counted_errors(first.config.replica(name))["duplicate_name"] > 0
    assert "duplicate_name" not in first.log("alpha")


def test_replica_of_another_cluster_is_refused(cluster: ClusterMaker) -> None:
    first = cluster(3)
    file = second_process(first, cluster(3, start=False), "alpha", {"name": "other"})
    second = first.spawn("serve", "--config", str(file), "--name", "alpha", log="second.log")
    assert second.wait() == 1
    [line] = lines_with(second.printed, "epaxos: ")
    assert "refused by bravo, charlie: frame of cluster " in line
    for name in ("bravo", "charlie"):
        assert len(lines_with(first.log(name), "(cluster)")) == 1
        assert counted_errors(first.config.replica(name))["cluster"] > 0
    with first.client("alpha") as client:
        client.put(b"key", b"value")


def test_replica_of_another_version_is_refused(alive: LiveCluster) -> None:
    alpha = alive.config.replica("alpha")
    before = counted_errors(alpha)
    frame = Forge(alive.config, 0, None, Random(1)).of_version(NEWEST + 1).parts[0]
    with zmq_context() as context:
        peer = connect(context, alpha.peer_endpoint)
        for _ in range(10):
            peer.send(frame)
        answers = [receive(peer, alpha) for _ in range(10)]
    opened = open_frame(answers[0][0], 0, alive.config.max_frame)
    text = f"version: frame of level {NEWEST + 1}; this program knows {known()}"
    assert opened[:3] == (Kind.PEER_REFUSED, 0, text.encode())
    assert difference(before, counted_errors(alpha)) == {"version": 10}
    assert len(lines_with(alive.log("alpha"), "(version) from 127.0.0.1: ")) == 1


@pytest.mark.parametrize("strangers", ["mute", "clients"])
def test_more_clients_than_descriptors(cluster: ClusterMaker, strangers: str) -> None:
    """Those that are there go on, peers and pages too; what is too many is turned away, and comes back."""
    crowded = cluster(3, storage={"engine": "sqlite"})
    alpha, process = crowded.config.replica("alpha"), crowded.process("alpha")
    limit = len(list(Path(f"/proc/{process.pid}/fd").iterdir())) + 150
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as stack, crowded.client("alpha") as client:
        client.put(b"key", b"value")
        context = stack.enter_context(zmq_context())
        kept: list[zmq.Socket[bytes]] = []
        for _ in range(300):
            if strangers == "clients":
                kept.append(context.socket(zmq.DEALER))
                kept[-1].set(zmq.LINGER, 0)
                kept[-1].set(
                    zmq.RECONNECT_IVL, 2000
                )  # else they come back in swarms, a few thousand a second
                kept[-1].connect(alpha.client_endpoint)
                kept[-1].send(b"nonsense", zmq.NOBLOCK)
            else:
                made = socket.create_connection(("127.0.0.1", alpha.client_port), timeout=5)
                stack.enter_context(closing(made))
        wait_for(lambda: bool(counted_errors(alpha)["descriptors"]))
        for number in range(5):
            client.put(b"key", b"%d" % number, timeout=1.0)
            url = f"http://127.0.0.1:{alpha.metrics_port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as page:
                assert page.read() == b"ok\n"
            time.sleep(0.1)
        crowded.stop("charlie")
        crowded.start("charlie").wait_until_ready()  # alpha has room for a peer that is back
        assert len(lines_with(crowded.log("alpha"), "out of file descriptors: of", "turned away")) == 1
    wait_for(lambda: len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < limit - 100)
    with crowded.client("alpha", tries=1) as client:
        client.put(b"key", b"again")
    assert not lines_with(crowded.log("alpha"), "Traceback")
