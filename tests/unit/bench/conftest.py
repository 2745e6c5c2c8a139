from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from epaxos.bench.options import Amount, BenchOptions
from epaxos.config import Config
from fake_cluster import FakeCluster, config_of


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    fake = FakeCluster()
    fake.start()
    yield fake
    fake.stop()
    assert fake.problems == []


@pytest.fixture
def nobody() -> Config:
    """A cluster of which no replica runs."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return config_of(ports)


@pytest.fixture
def options() -> Callable[..., BenchOptions]:
    """Options of a small run; what is given replaces the default."""

    def make(**given: Any) -> BenchOptions:
        fixed: dict[str, Any] = {
            "replicas": ("alpha", "bravo", "charlie"),
            "clients": 3,
            "stop": Amount(operations=1000),
            "window": 100,
            "batch": 10,
            "keys": 1000,
            "timeout": 9.0,
        }
        return BenchOptions(**(fixed | given))

    return make
