"""Clients and libraries of Redis, unchanged, before a durable cluster of three replicas."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from aiocache import RedisCache as AioCache
from django.conf import settings as django_settings

from live_cluster import LiveCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    made = LiveCluster(tmp_path_factory.mktemp("redis"), 3, {"redis": True, "storage": {"engine": "sqlite"}})
    try:
        made.start().wait_until_ready()
        yield made
        made.check()
    finally:
        made.close()


@pytest.fixture
def ports(cluster: LiveCluster) -> list[int]:
    return [replica.redis_port or 0 for replica in cluster.config.replicas]


def test_redis_py_with_pipelines_and_transactions_at_all_replicas(ports: list[int]) -> None:
    for port, protocol in zip(ports, (2, 3, 2), strict=True):
        with redis.Redis(port=port, protocol=protocol) as client:
            pipeline: Any = client.pipeline(transaction=False)
            for number in range(300):
                pipeline.set(f"many:{number}", number)
                pipeline.get(f"many:{number}")
            assert pipeline.execute()[-1] == b"299"
            client.set("greeting", "hello", ex=100)
            assert 0 < client.ttl("greeting") <= 100
            assert client.getex("greeting", persist=True) == b"hello"
            assert client.ttl("greeting") == -1
    others = [redis.Redis(port=port) for port in ports]

    def add(client: Any) -> None:
        for _ in range(10):
            client.transaction(_increment, "counter")

    threads = [threading.Thread(target=add, args=(client,)) for client in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.get("counter") for client in others] == [b"30"] * 3
    for client in others:
        client.close()


def _increment(pipe: Any) -> None:
    current = int(pipe.get("counter") or 0)
    pipe.multi()
    pipe.set("counter", current + 1)


def test_redis_py_with_asyncio(ports: list[int]) -> None:
    async def use() -> None:
        async with redis.asyncio.Redis(port=ports[1]) as client:
            await asyncio.gather(*[client.incr("async") for _ in range(50)])
            assert await client.get("async") == b"50"
            assert await client.set("lock", "me", nx=True, px=60_000)
            assert not await client.set("lock", "you", nx=True, px=60_000)

    asyncio.run(use())


def test_a_key_ends_and_is_gone_everywhere(ports: list[int]) -> None:
    clients = [redis.Redis(port=port) for port in ports]
    listener: Any = clients[1]
    told = listener.pubsub(ignore_subscribe_messages=True)
    told.subscribe("__keyspace@0__:short")
    told.get_message(timeout=10)
    clients[0].set("short", "x", px=30)
    for client in clients:
        while client.exists("short"):
            pass
        assert client.ttl("short") == -2
    events: list[Any] = []
    while len(events) < 3:
        message = told.get_message(timeout=10)
        assert message is not None or len(events) == 0
        events += [message["data"]] if message else []
    assert events == [b"set", b"expire", b"expired"]
    told.close()
    for client in clients:
        client.close()


def test_the_cache_of_django(ports: list[int]) -> None:
    location = f"redis://127.0.0.1:{ports[2]}"
    backend = "django.core.cache.backends.redis.RedisCache"
    if not django_settings.configured:
        django_settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": location}})
    from django.core.cache import cache  # noqa: PLC0415 - it needs the settings

    cache.set("a", {"b": [1, 2]}, 60)
    assert cache.get("a") == {"b": [1, 2]}
    assert not cache.add("a", 1)
    assert cache.add("n", 1, None)
    assert cache.incr("n", 4) == 5
    cache.set_many({"x": 1, "y": "two"}, 60)
    assert cache.get_many(["x", "y", "z"]) == {"x": 1, "y": "two"}
    assert cache.touch("x", 120)
    assert cache.has_key("y")
    cache.delete_many(["x", "y"])
    assert cache.get("x", "gone") == "gone"
    assert cache.get_or_set("made", lambda: 42) == 42
    assert cache.clear()
    assert cache.get("made") is None
    cache.close()


def test_the_cache_of_aiocache(ports: list[int]) -> None:
    async def use() -> None:
        cache = AioCache(endpoint="127.0.0.1", port=ports[0], namespace="aio:")
        await cache.set("a", "1", ttl=60)
        assert await cache.get("a") == "1"
        assert await cache.increment("n", 5) == 5
        assert await cache.multi_set([("x", "1"), ("y", "2")], ttl=60)
        assert await cache.multi_get(["x", "y", "z"]) == ["1", "2", None]
        with pytest.raises(ValueError, match="already exists"):
            await cache.add("a", "2")
        assert await cache.exists("a")
        assert await cache.expire("a", 30)
        assert await cache.delete("a") == 1
        await cache.close()

    asyncio.run(use())


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here: Debian's redis-tools")
def test_redis_cli_and_redis_benchmark(ports: list[int]) -> None:
    cli = ["redis-cli", "-p", str(ports[0])]
    assert _run(*cli, "set", "from-cli", "1") == "OK\n"
    assert _run(*cli, "-3", "incr", "from-cli") == "2\n"
    assert "role:master" in _run(*cli, "info")
    benchmark = _run(
        "redis-benchmark", "-p", str(ports[1]), "-t", "set,get,incr", "-n", "2000", "-P", "16", "--csv"
    )
    assert [line.split(",")[0] for line in benchmark.splitlines()[-3:]] == ['"SET"', '"GET"', '"INCR"']


def test_a_replica_that_stops_lets_go_of_its_clients(cluster: LiveCluster, ports: list[int]) -> None:
    """And the others have all that it answered; last, since it ends a replica for all tests of the module."""
    with redis.Redis(port=ports[0]) as client, redis.Redis(port=ports[1]) as other:
        client.set("last", "word")
        cluster.stop("alpha")
        assert other.get("last") == b"word"
        assert other.incr("after") == 1
        with pytest.raises(redis.ConnectionError):
            client.get("last")
