"""How replicas begin and end: where their data is, what becomes of it, and what clients notice; real processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
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


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
        wait_until(
            lambda: client.status(replica="bravo").executed[0] == client.status(replica="alpha").executed[0]
        )
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


class Caller(threading.Thread):
    """Increments a key of its own, beginning with one replica, and notes how long its calls take."""

    def __init__(self, alive: LiveCluster, name: str) -> None:
        super().__init__(daemon=True)
        self._alive = alive
        self._name = name
        self._over = threading.Event()
        self.worst = 0.0
        self.count = 0
        self.answered = 0

    def run(self) -> None:
        with self._alive.client(self._name) as client:
            while not self._over.is_set():
                began = time.monotonic()
                self.answered = client.increment(self._name.encode())
                self.worst = max(self.worst, time.monotonic() - began)
                self.count += 1

    def stop(self) -> None:
        self._over.set()
        self.join(20)
        assert not self.is_alive()


def test_clients_hardly_notice_a_rolling_restart(cluster: ClusterMaker) -> None:
    """Whoever stops ends what it has begun, and says so: no call waits for a time-out, of which there is a long one."""
    alive = cluster(3, **DURABLE | {"timeout": "5s"})
    callers = [Caller(alive, name) for name in alive.names]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    for name in alive.names:
        alive.stop(name)
        alive.start(name).wait_until_ready()
        wait_until_it_serves(alive, name)
    for caller in callers:
        caller.stop()
        assert caller.answered == caller.count > 0, "each increment executed once"
    assert max(caller.worst for caller in callers) < 2.5, [caller.worst for caller in callers]
    for name in alive.names:
        assert re.search(
            r"stopped: all that was taken is answered, .* \(\d\.\d\d s\)$", alive.log(name), re.MULTILINE
        )
        others = (other for other in alive.names if other != name)
        assert all(f"peer {name} is offline: it is stopping" in alive.log(other) for other in others)


def wait_until_it_serves(alive: LiveCluster, name: str) -> None:
    replica = alive.config.replica(name)
    deadline = time.monotonic() + 10
    while True:
        with suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{replica.host}:{replica.metrics_port}/readyz", timeout=5).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_replica_that_stops_leaves_nothing_to_redo(cluster: ClusterMaker) -> None:
    alive = cluster(3, **DURABLE | {"storage": DURABLE["storage"] | {"checkpoint": "1h"}})
    with alive.client("alpha") as client:
        for number in range(50):
            client.put(b"key %d" % number, b"value")
    alive.stop()
    rows = json.loads(alive.epaxos("inspect", str(directory_of(alive, "alpha")), "--json").stdout)["rows"]
    assert rows[0]["executed"] >= 49, "the checkpoint has all of them"


@pytest.fixture
def cut_off(cluster: ClusterMaker) -> Iterator[LiveCluster]:
    """A cluster of which only alpha runs, with a command under way that it cannot finish."""
    alive = cluster(3, **DURABLE)
    others = [alive.process(name) for name in ("bravo", "charlie")]
    over = threading.Event()
    calling = threading.Thread(target=call_in_vain, args=(alive, over), daemon=True)
    for process in others:
        process.send(signal.SIGSTOP)
    calling.start()
    try:
        deadline = time.monotonic() + 10
        while "epaxos_in_flight_instances 1.0" not in alive.metrics("alpha"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield alive
    finally:
        over.set()
        for process in others:
            process.send(signal.SIGCONT)
        calling.join(20)


def call_in_vain(alive: LiveCluster, over: threading.Event) -> None:
    with alive.client("alpha", timeout=3.0) as client, suppress(ClientError):
        while not over.is_set():  # the first ones may be faster than the signals that stop the others
            client.put(b"key", b"value")


def test_a_replica_waits_five_seconds_for_what_it_cannot_finish(cut_off: LiveCluster) -> None:
    began = time.monotonic()
    assert cut_off.process("alpha").stop() == 0
    assert 4.5 < time.monotonic() - began < 20
    cut_off.wait("alpha")
    assert (
        "stopped: after 5.0 s with 1 commands of clients unanswered" in cut_off.log("alpha").splitlines()[-1]
    )


def test_a_second_signal_ends_it_at_once(cut_off: LiveCluster) -> None:
    process = cut_off.process("alpha")
    process.send(signal.SIGTERM)
    wait_for_log(cut_off, "alpha", "stopping on SIGTERM")
    time.sleep(0.3)
    assert process.status is None
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 4.5
    cut_off.wait("alpha")
    assert "stopped: at once" in cut_off.log("alpha").splitlines()[-1]


def test_an_uptime_that_is_over_ends_in_the_same_way(cluster: ClusterMaker) -> None:
    alive = cluster(1, start=False, **DURABLE)
    alive.start("alpha", options=("--uptime", "500ms"))
    assert alive.wait("alpha") == 0
    assert "stopping on the end of its uptime" in alive.log("alpha")
    assert "stopped: all that was taken is answered" in alive.log("alpha").splitlines()[-1]


def test_a_replica_that_begins_anew_alone_waits_for_those_that_may_know_another(
    cluster: ClusterMaker,
) -> None:
    """Bravo, started without its data beside a charlie that never knew it, is refused before charlie believes it.

    What alpha has remembered counts also though nothing has begun: a replica is known to both others before.
    """
    alive = cluster(3, start=False, **DURABLE).start("alpha", "bravo")
    known = "this one is known to {} of {}, charlie"
    wait_for_log(alive, "alpha", known.format("bravo", "bravo"))
    wait_for_log(alive, "bravo", known.format("alpha", "alpha"))
    alive.stop("alpha", "bravo")
    place = directory_of(alive, "bravo")
    place.rename(place.with_name("away"))
    alive.start()
    assert alive.wait("bravo") == 1  # its directory goes, unless charlie has known it by its number


@pytest.mark.parametrize("peers_restart", [False, True])
def test_an_earlier_copy_of_a_directory_is_refused(cluster: ClusterMaker, *, peers_restart: bool) -> None:
    alive = cluster(3, **DURABLE | {"storage": {"directory": "kept", "checkpoint": "300ms"}})
    place = directory_of(alive, "charlie")
    with alive.client("alpha") as client:
        client.put(b"key", b"1")
        alive.stop("charlie")
        shutil.copytree(place, place.with_name("copy"))
        alive.start("charlie").wait_until_ready()
        for number in range(2, 10):
            client.put(b"key", b"%d" % number)
        alive.stop("charlie")
    if peers_restart:
        time.sleep(1.0)  # they have a checkpoint, and with it a note of what charlie had
        alive.kill()
        alive.start("alpha", "bravo")
    place.rename(place.with_name("true"))
    place.with_name("copy").rename(place)
    alive.start("charlie")
    assert alive.wait("charlie") == 1
    last = alive.log("charlie").splitlines()[-1]
    assert "charlie runs on an earlier copy of its data directory: it lacks " in last
    shutil.rmtree(place)
    place.with_name("true").rename(place)
    alive.start("charlie").wait_until_ready()
    with alive.client("charlie") as client:
        assert client.get(b"key") == b"9"
