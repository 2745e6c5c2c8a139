"""How replicas begin and end: where their data is, what becomes of it, and what clients notice; real processes."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from epaxos.errors import ClientError
from live_cluster import ClusterMaker, LiveCluster

DURABLE: dict[str, Any] = {
    "timeout": "400ms",
    "beacon": "50ms",
    "client": {"timeout": "5s", "tries": 5},
    "storage": {"engine": "sqlite", "sync": "never", "checkpoint": "300ms", "directory": "kept"},
}


def directory_of(alive: LiveCluster, name: str) -> Path:
    return alive.config.storage.directory_of(name)


def wait_for_log(alive: LiveCluster, name: str, words: str) -> str:
    """The first line of a replica's log with these words."""
    deadline = time.monotonic() + 10
    while True:
        for line in alive.log(name).splitlines():
            if words in line:
                return line
        assert time.monotonic() < deadline, f"{words!r} does not come:\n{alive.log(name)}"
        time.sleep(0.02)


def test_the_data_is_beside_the_file_wherever_a_replica_is_started(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client() as client:
        client.put(b"key", b"value")
    place = alive.directory / "kept" / "alpha"
    assert f"data directory {place} is new: this replica begins without data" in alive.log("alpha")
    alive.stop()
    (alive.directory / "elsewhere").mkdir()
    alive.working_directory = alive.directory / "elsewhere"
    alive.start().wait_until_ready()
    with alive.client() as client:
        assert client.get(b"key") == b"value"
    assert f"data directory {place} holds what was kept before" in alive.log("alpha")
    for command in (("backup", "alpha", "saved"), ("inspect", str(place))):
        ran = alive.epaxos(*command)
        assert ran.returncode == 0, ran.stderr
    assert [file.name for file in alive.working_directory.iterdir()] == ["saved"]


@pytest.mark.parametrize("moved", [True, False])
def test_a_directory_that_goes_is_a_failed_disk(cluster: ClusterMaker, *, moved: bool) -> None:
    alive = cluster(3, **DURABLE)
    place = directory_of(alive, "alpha")
    with alive.client("alpha") as client:
        client.put(b"key", b"before")
        if moved:
            place.rename(place.with_name("away"))
        else:
            shutil.rmtree(place)
        client.put(b"key", b"after")
        assert client.status(replica="bravo")["executed"][0] == client.status(replica="alpha")["executed"][0]
    line = wait_for_log(alive, "alpha", "the disk failed, so this replica takes no part any more")
    assert f"{place} was moved or removed while the replica used it" in line
    assert alive.process("alpha").stop() == 0
    alive.wait("alpha")
    if moved:
        place.with_name("away").rename(place)
        alive.start("alpha").wait_until_ready()
        with alive.client("alpha") as client:
            assert client.get(b"key") == b"after"


def test_an_idle_replica_notices_too(cluster: ClusterMaker) -> None:
    alive = cluster(1, **DURABLE)
    shutil.rmtree(directory_of(alive, "alpha"))
    wait_for_log(alive, "alpha", "the disk failed")
    with alive.client(timeout=0.5) as client, pytest.raises(ClientError):
        client.put(b"key", b"value")


@pytest.mark.parametrize("key", ["metrics_port", "client_port"])
def test_a_start_that_fails_leaves_nothing_behind(cluster: ClusterMaker, key: str) -> None:
    alive = cluster(3, start=False, **DURABLE)
    with socket.create_server(("127.0.0.1", getattr(alive.config.replica("alpha"), key))):
        alive.start("alpha")
        assert alive.wait("alpha") == 2
    assert not (alive.directory / "kept").exists()


def test_a_new_directory_in_place_of_a_known_one_is_refused_and_removed(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client("alpha") as client:
        client.put(b"key", b"value")
    place = directory_of(alive, "charlie")
    alive.stop("charlie")
    place.rename(place.with_name("away"))
    alive.start("charlie")
    assert alive.wait("charlie") == 1
    last = alive.log("charlie").splitlines()[-1]
    assert f"Its data directory {place} was new, and is removed again" in last
    assert not place.exists()
    place.with_name("away").rename(place)
    alive.start("charlie").wait_until_ready()
    with alive.client("charlie") as client:
        assert client.get(b"key") == b"value"
