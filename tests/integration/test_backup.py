"""Backups of running replicas, what becomes of them, and replicas that lost their data: real processes and disks."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from live_cluster import ClusterMaker, LiveCluster

DURABLE: dict[str, Any] = {
    "timeout": "400ms",
    "beacon": "50ms",
    "client": {"timeout": "10s", "tries": 10},
    "storage": {"engine": "sqlite", "sync": "never", "checkpoint": "300ms"},
}


def directory_of(alive: LiveCluster, name: str) -> Path:
    return alive.config.storage.directory_of(name)


def duplicates(alive: LiveCluster, name: str) -> float:
    """How many frames a replica has refused because another one spoke under the name of a peer."""
    found = re.search(
        r'^epaxos_errors_total\{kind="duplicate_name"\} (.*)$', alive.metrics(name), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


def wait_until_alike(alive: LiveCluster) -> None:
    """Wait until all replicas have executed the same, and hold the same."""
    deadline = time.monotonic() + 10
    with alive.client() as client:
        while len({client.status(digest=True, replica=name).digest for name in alive.names}) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)


class Load(threading.Thread):
    """Increments a key through each replica, one after the other, until told to stop."""

    def __init__(self, alive: LiveCluster) -> None:
        super().__init__(daemon=True)
        self._alive = alive
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        with self._alive.client() as client:
            while not self._over.is_set():
                self.count = client.increment(b"count")

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.count


def test_a_loaded_replica_is_saved_and_a_new_cluster_goes_on_from_there(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    load = Load(alive)
    with alive.client("bravo") as client:
        load.start()
        for number in range(100):
            client.put(b"key %d" % number, b"value %d" % number)
        client.delete(b"key 0")
        before = client.increment(b"count", 0)
        saved = alive.epaxos("backup", "bravo", "saved")
    assert saved.returncode == 0, saved.stderr
    assert saved.stdout.startswith(b"saved: 100 keys and ")
    after = load.stop()
    file = alive.directory / "saved"
    assert alive.epaxos("restore", "saved").returncode == 2, "not into the same cluster"

    new = cluster(3, start=False, **DURABLE, name="new")
    restored = new.epaxos("restore", str(file))
    assert restored.returncode == 0, restored.stderr
    new.start().wait_until_ready()
    with new.client("charlie") as client:
        assert client.get(b"key 0") is None
        assert all(client.get(b"key %d" % number) == b"value %d" % number for number in range(1, 100))
        count = int(client.get(b"count") or b"0")
        assert before <= count <= after
        assert client.increment(b"count") == count + 1
    wait_until_alike(new)


def test_a_restored_replica_without_its_directory_is_refused(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client() as client:
        client.put(b"key", b"value")
    assert alive.epaxos("backup", "alpha", "saved").returncode == 0
    new = cluster(3, start=False, **DURABLE, name="new")
    assert new.epaxos("restore", str(alive.directory / "saved")).returncode == 0
    shutil.rmtree(directory_of(new, "bravo"))
    new.start("alpha", "bravo")
    assert new.wait("bravo") == 1, "alpha was told whom to expect"
    assert f"{directory_of(new, 'bravo')} was new, and is removed again" in new.log("bravo")
    new.start("charlie").wait_until_ready()
    with new.client() as client:
        assert client.get(b"key") == b"value"


def test_a_replica_that_lost_its_directory_does_not_vote_and_says_what_to_do(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    with alive.client("alpha") as client:
        client.put(b"key", b"value")
        alive.stop("charlie")
        shutil.rmtree(directory_of(alive, "charlie"))
        alive.start("charlie")
        assert alive.wait("charlie") == 1
        client.put(b"key", b"other")
        assert client.get(b"key") == b"other"
    last = alive.log("charlie").splitlines()[-1]
    assert last.startswith(("epaxos: refused by alpha", "epaxos: refused by bravo"))
    for words in (
        "charlie is another one than the charlie heard before",
        "give charlie back the data directory that it last ran with",
        "epaxos member replace charlie",
        f"{directory_of(alive, 'charlie')} was new, and is removed again",
    ):
        assert words in last
    assert sum(duplicates(alive, name) for name in ("alpha", "bravo")) >= 1
    for name in ("alpha", "bravo"):
        assert alive.log(name).count("peer charlie is online") == 1, "no frame of the new one was taken"
    rejoining = alive.epaxos("serve", "--name", "charlie", "--rejoin")
    assert rejoining.returncode == 2
    assert b"charlie cannot rejoin a cluster in which it has voted" in rejoining.stderr


def test_a_running_and_a_killed_replica_are_inspected(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE)
    load = Load(alive)
    load.start()
    with alive.client("charlie") as client:
        client.put(b"key", b"value")
    running = alive.epaxos("inspect", str(directory_of(alive, "charlie")), "--json")
    assert running.returncode == 0, running.stderr
    told = json.loads(running.stdout)
    assert told["used_by"] == str(alive.process("charlie").pid)
    assert told["rows"][2]["executed"] >= 0
    alive.kill("charlie")
    count = load.stop()
    killed = json.loads(alive.epaxos("inspect", str(directory_of(alive, "charlie")), "--json").stdout)
    assert killed["used_by"] is None
    before, after = ([row["executed"] for row in some["rows"]] for some in (told, killed))
    assert all(map(int.__le__, before, after))
    assert count > 0
    alive.start("charlie").wait_until_ready()
