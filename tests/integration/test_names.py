"""Host names: replicas and clients meet at whatever a name means, and wait for no name server."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import toml

from epaxos import AsyncClient, Client, NoAnswer
from epaxos.bench.options import Amount, BenchOptions
from epaxos.bench.run import run_bench
from epaxos.config import load_config
from live_cluster import ClusterMaker, LiveCluster
from namespaces import needs_namespaces, run_apart
from stub_cluster import StubCluster
from stub_resolver.sitecustomize import resolver

QUICK: dict[str, Any] = {"timeout": "400ms", "beacon": "50ms"}
BOTH = ("127.0.0.1", "::1")


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@pytest.fixture
def named(cluster: ClusterMaker, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveCluster]:
    """A cluster, not started, whose replicas are at hosts of these names, or for which `hosts` has other ones."""

    def make(*, hosts: Sequence[str] = (), engine: str = "memory", **replicas: Any) -> LiveCluster:
        made = cluster(3, start=False, storage={"engine": engine}, **QUICK)
        settings = toml.loads(made.path.read_text()) | {"security": {"insecure": True}}
        for row, replica in enumerate(settings["replicas"]):
            replica["host"] = hosts[row] if hosts else f"{replica['name']}.test"
            replica.update(replicas.get(replica["name"], {}))
        made.path.write_text(toml.dumps(settings))
        made.config = load_config(str(made.path), environ={})
        made.resolve({})
        monkeypatch.setattr(socket, "getaddrinfo", resolver(made.hosts))
        return made

    return make


def check_service(alive: LiveCluster) -> None:
    """Every way to ask it, for its replicas that run."""
    running = alive.running
    with alive.client(running[0]) as client:
        client.put(b"key", b"value")

    async def ask() -> list[bytes | None]:
        async with AsyncClient(config=alive.config, replica=running[-1]) as asking:
            return [await asking.get(b"key")]

    assert asyncio.run(ask()) == [b"value"]
    assert alive.epaxos("get", "key").stdout == b"value"
    options = BenchOptions(replicas=tuple(running), clients=1, stop=Amount(operations=100), verify=True)
    assert run_bench(alive.config, options).fine


@needs_ipv6
@pytest.mark.parametrize(
    "addresses",
    [BOTH, BOTH[::-1], ("::1",), ("127.0.1.1", "127.0.0.1"), ("2001:db8::1", "127.0.0.1")],
    ids=["v4-v6", "v6-v4", "v6", "debian", "half-ours"],
)
def test_a_cluster_forms_at_whatever_its_names_mean(
    named: Callable[..., LiveCluster],
    addresses: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive = named(hosts=["host.test"] * 3)
    alive.resolve({"host.test": addresses})
    alive.start()
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps({"host.test": addresses[-1:]}))
    # Whoever reads pages would wait for seconds at each address that is silent.
    with monkeypatch.context() as here:
        here.setattr(socket, "getaddrinfo", resolver(ours))
        alive.wait_until_ready()
    check_service(alive)
    for replica in alive.config.replicas:
        for address in set(addresses) - {"2001:db8::1"}:
            for port in (replica.port, replica.client_port, replica.metrics_port):
                socket.create_connection((address, port), timeout=5).close()


@needs_ipv6
def test_a_cluster_on_ipv6_addresses(named: Callable[..., LiveCluster]) -> None:
    alive = named(hosts=["::1"] * 3).start().wait_until_ready()
    check_service(alive)
    assert "listening for peers on [::1]:" in alive.log("alpha")


@needs_ipv6
def test_replicas_that_see_different_addresses_meet(named: Callable[..., LiveCluster]) -> None:
    """Alpha listens on IPv4 alone, and its peers know an IPv6 address of it, where nobody is, first."""
    alive = named(alpha={"listen": "127.0.0.1"})
    alive.resolve({"alpha.test": ["::1", "127.0.0.1"], "bravo.test": ["127.0.0.1"], "charlie.test": ["::1"]})
    alive.start().wait_until_ready()
    check_service(alive)


@pytest.mark.parametrize("listen", ["0.0.0.0", pytest.param("::", marks=needs_ipv6)])
def test_listening_apart_from_the_host(named: Callable[..., LiveCluster], listen: str) -> None:
    """As behind NAT or in a container: `host` is not an address of this machine as far as the replica knows."""
    alive = named(**{name: {"listen": listen} for name in ("alpha", "bravo", "charlie")})
    alive.resolve({f"{name}.test": ["127.0.0.3"] for name in ("alpha", "bravo", "charlie")})
    alive.start().wait_until_ready()
    check_service(alive)
    port = alive.config.replicas[0].metrics_port
    for address in ["127.0.0.1", *(["::1"] if listen == "::" else [])]:
        where = f"[{address}]" if ":" in address else address
        with urllib.request.urlopen(f"http://{where}:{port}/metrics", timeout=5) as answer:
            assert answer.status == 200


def test_a_silent_name_server_and_a_dead_replica_stop_nobody(named: Callable[..., LiveCluster]) -> None:
    alive = named()
    names = [f"{name}.test" for name in alive.names]
    here = {name: ["127.0.0.1"] for name in names}
    alive.resolve(here)
    alive.start().wait_until_ready()
    alive.resolve(dict.fromkeys(names))
    alive.kill("charlie")
    stop = time.monotonic() + 3.0  # some look-ups, each of which is never answered
    slowest = 0.0
    alpha, bravo, _ = (f"127.0.0.1:{replica.client_port}" for replica in alive.config.replicas)
    with Client([alpha, bravo], config=alive.config) as client:
        while time.monotonic() < stop:
            began = time.monotonic()
            client.put(b"key", b"value", timeout=5.0)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
    assert slowest < 4.0


@needs_namespaces
def test_a_real_name_server_that_is_silent_stops_nobody(tmp_path: Path) -> None:
    found = run_apart("silent_name_server.py", tmp_path)
    assert found["questions"] > 0, "nobody asked it"
    assert found["slowest"] < 4.0, found
    assert found["writes"] > 10, found


def test_a_replica_that_comes_back_elsewhere_is_found(named: Callable[..., LiveCluster]) -> None:
    """As a container does that is made anew; and the others are there before its name leads anywhere."""
    alive = named(engine="sqlite", charlie={"listen": "0.0.0.0"})
    known: dict[str, list[str] | None] = {"alpha.test": ["127.0.0.1"], "bravo.test": ["127.0.0.1"]}
    alive.resolve(known | {"charlie.test": []})
    alive.start("alpha", "bravo")
    deadline = time.monotonic() + 10
    while "quorum: hears alpha, bravo" not in alive.log("alpha"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "peer charlie is out of reach at charlie.test:" in alive.log("alpha")
    assert 'host "charlie.test" does not resolve' in alive.log("alpha")
    alive.resolve(known | {"charlie.test": ["127.0.0.4"]})
    alive.start("charlie").wait_until_ready()
    alive.stop("charlie")
    alive.resolve(known | {"charlie.test": ["127.0.0.5"]})
    settings = toml.loads(alive.path.read_text())
    settings["replicas"][2]["listen"] = "127.0.0.5"
    alive.path.write_text(toml.dumps(settings))
    alive.start("charlie").wait_until_ready()
    check_service(alive)


def test_a_replica_whose_own_name_means_nothing_says_so_and_leaves_nothing(
    named: Callable[..., LiveCluster],
) -> None:
    alive = named(engine="sqlite")
    alive.resolve({"alpha.test": []})
    done = alive.epaxos("serve", "--name", "alpha")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1] == (
        'epaxos: replica alpha: cannot listen: host "alpha.test" does not resolve (Name or service not known); '
        "correct `host`, or set `listen` to an address"
    )
    assert not (alive.directory / "epaxos-data").exists()


def test_a_replica_whose_own_name_hangs_can_be_stopped(named: Callable[..., LiveCluster]) -> None:
    alive = named()
    alive.resolve({"alpha.test": None})
    alive.start("alpha")
    deadline = time.monotonic() + 10
    while "replica alpha (row 0)" not in alive.log("alpha"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    alive.stop("alpha")
    assert "stopping on SIGTERM" in alive.log("alpha")


# -- clients ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StubCluster]]:
    """Replicas on 127.0.0.1, where names mean `hosts` to their clients, and may come to mean others."""
    table = tmp_path / "hosts.json"
    with StubCluster() as cluster:
        monkeypatch.setattr(socket, "getaddrinfo", resolver(table))

        def mean(**hosts: list[str] | None) -> StubCluster:
            table.write_text(json.dumps({f"{name}.test": addresses for name, addresses in hosts.items()}))
            return cluster

        yield mean


def test_a_name_that_hangs_delays_no_blocking_call(stub: Callable[..., StubCluster]) -> None:
    good = f"127.0.0.1:{stub(hangs=None, none=[]).replicas[0].port}"
    began = time.monotonic()
    with Client(["hangs.test:1", "none.test:2", good], timeout=5.0) as client:
        client.put(b"key", b"value")
        assert client.get(b"key") == b"value"
    assert time.monotonic() - began < 4.0


def test_a_name_that_hangs_delays_no_call_of_a_task(stub: Callable[..., StubCluster]) -> None:
    good = f"127.0.0.1:{stub(hangs=None, none=[]).replicas[0].port}"

    async def ask() -> float:
        began = time.monotonic()
        async with AsyncClient(["hangs.test:1", "none.test:2", good], timeout=5.0) as client:
            await asyncio.gather(*(client.put(b"key", b"value") for _ in range(10)))
        return time.monotonic() - began

    assert asyncio.run(ask()) < 4.0


@pytest.mark.parametrize("timeout", [0.2, 1.5])
def test_where_no_name_leads_anywhere_calls_end_in_time_and_say_why(
    stub: Callable[..., StubCluster], timeout: float
) -> None:
    stub(hangs=None, none=[])
    endpoints = ["hangs.test:1", "none.test:2"]
    expected = r"\(none\.test:2: host \"none\.test\" does not resolve \(Name or service not known\)\)"
    began = time.monotonic()
    with Client(endpoints, timeout=timeout) as client, pytest.raises(NoAnswer, match=expected):
        client.get(b"key")
    assert timeout <= time.monotonic() - began < timeout + 3.0

    async def ask() -> None:
        async with AsyncClient(endpoints, timeout=timeout) as client:
            await client.get(b"key")

    began = time.monotonic()
    with pytest.raises(NoAnswer, match=expected):
        asyncio.run(ask())
    assert timeout <= time.monotonic() - began < timeout + 3.0


def test_clients_that_come_and_go_leave_no_crowd_of_threads(stub: Callable[..., StubCluster]) -> None:
    good = f"127.0.0.1:{stub(hangs=None).replicas[0].port}"
    before = threading.active_count()
    for _ in range(20):
        with Client(["hangs.test:1", good]) as client:
            client.null()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_call_follows_a_name_to_where_its_replica_is_now(
    stub: Callable[..., StubCluster], kind: str
) -> None:
    cluster = stub(moves=["127.0.0.9"])
    endpoint = f"moves.test:{cluster.replicas[0].port}"
    threading.Timer(0.5, stub, kwargs={"moves": ["127.0.0.1"]}).start()
    if kind == "blocking":
        with Client(endpoint, timeout=10.0) as client:
            client.put(b"key", b"value")
    else:

        async def put() -> None:
            async with AsyncClient(endpoint, timeout=10.0) as client:
                await client.put(b"key", b"value")

        asyncio.run(put())


@needs_ipv6
def test_a_client_meets_a_replica_that_is_at_one_of_its_addresses(stub: Callable[..., StubCluster]) -> None:
    """As with `localhost`, where IPv6 comes first and a replica listens on 127.0.0.1."""
    cluster = stub(host=["::1", "127.0.0.1"])
    began = time.monotonic()
    with Client(f"host.test:{cluster.replicas[0].port}") as client:
        client.put(b"key", b"value")
    assert time.monotonic() - began < 4.0
