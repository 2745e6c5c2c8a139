"""Epochs that follow one another in real clusters under load, with replicas that are killed around their ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import toml

from epaxos import Client, Status, version
from epaxos.config import Config, default_replicas, load_config
from epaxos.errors import ClientError
from live_cluster import PORT_KEYS, ROOT, ClusterMaker, LiveCluster, Ports, Process

SETTINGS: dict[str, Any] = {
    "timeout": "150ms",
    "beacon": "30ms",
    "client": {"timeout": "20s", "tries": 20},
    "storage": {"engine": "sqlite", "sync": "never"},
}
PATIENCE = 20.0


class Load(threading.Thread):
    """Increments a key of its own and one of all, through any replica, until told to stop."""

    def __init__(self, alive: LiveCluster, key: bytes) -> None:
        super().__init__(daemon=True)
        self._alive = alive
        self._key = key
        self._over = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        with self._alive.client() as client:
            while not self._over.is_set():
                self.seen.append(client.increment(self._key))
                client.increment(b"all")

    def stop(self) -> int:
        """How often it did; each time the number had grown by one."""
        self._over.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        assert self.seen == list(range(1, len(self.seen) + 1))
        return len(self.seen)


@contextmanager
def load_on(alive: LiveCluster, after: Config | None = None) -> Iterator[list[Load]]:
    """Load, and then a look at what has come of it, at the replicas of the file `after`."""
    loads = [Load(alive, b"%d" % number) for number in range(3)]
    for load in loads:
        load.start()
    yield loads
    total = sum(load.stop() for load in loads)
    with Client(config=after or alive.config) as client:
        assert client.get(b"all") == b"%d" % total


def refresh(alive: LiveCluster, base: int, replica: str = "alpha", protocol: str | None = None) -> int:
    """Ask for the epoch after `base`, as soon as it may be asked for; which it is."""
    deadline = time.monotonic() + PATIENCE
    with alive.client() as client:
        while (
            told := client.refresh(base, request=base + 1, replica=replica, protocol=protocol)
        ).outcome != "done":
            # On a busy machine a replica may not have heard another for a moment.
            passing = any(text in told.text for text in ("takes no requests", "replicas are up", "lags; ask"))
            assert told.outcome in ("proposed", "early") or passing, told
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return told.epoch


def wait_until_alike(alive: LiveCluster, epoch: int) -> None:
    """Wait until all replicas are in an epoch and hold the same."""
    deadline = time.monotonic() + PATIENCE
    with alive.client() as client:
        while True:
            found = [client.status(digest=True, replica=name) for name in alive.names]
            if {it.epoch for it in found} == {epoch} and len({it.digest for it in found}) == 1:
                return
            assert time.monotonic() < deadline, [(it.epoch, it.executed, it.digest) for it in found]
            time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["epaxos", "multipaxos"])
def test_epochs_follow_one_another_under_load_and_whoever_was_away_comes_to_the_last_one(
    cluster: ClusterMaker, protocol: str
) -> None:
    """Who sleeps through two of them, longer than their logs are kept, gets a checkpoint in the place of its own.

    The cluster goes to the other protocol and back meanwhile; who sleeps has come to the other one by then.
    """
    alive = cluster(3, protocol=protocol, **SETTINGS)
    observer = observe(alive)
    [other] = {"epaxos", "multipaxos"} - {protocol}
    with load_on(alive):
        made = alive.epaxos("member", "change", "--protocol", other)
        text = f"epoch 1 established by {other}: alpha, bravo, charlie\n"
        assert (made.returncode, made.stdout.decode()) == (0, text), made.stderr
        wait_until(alive, lambda told: {told(name).protocol for name in alive.names} == {other})
        alive.restart("bravo")
        wait_until(alive, lambda told: told("bravo").epoch == 1 and not told("bravo").reasons)
        alive.kill("charlie")
        assert [refresh(alive, 1), refresh(alive, 2, "bravo", protocol)] == [2, 3]
        time.sleep(10 * 0.15)  # as long as ended epochs are kept in memory for those who lag
        alive.start("charlie")
        wait_until_alike_in_epoch(alive, "charlie", 3)
        assert "catching up from" in alive.log("charlie")
    wait_until_alike(alive, 3)
    wait_until(alive, lambda told: {told(name).protocol for name in alive.names} == {protocol})
    look_at(observer, alive, 3)
    replace_a_lost_directory(alive)
    look_at(observe(alive), alive, 4)
    if protocol == "epaxos":
        replace_all(alive)
    else:
        move_one(alive)
        remove_one(alive)


def observe(alive: LiveCluster) -> Process:
    """Start one without a vote, with an empty directory; the file of the others says nothing of it."""
    path = Path(alive.directory, "observed.toml")
    if not path.exists():
        ports = alive.more_ports(len(PORT_KEYS))
        other = default_replicas(4)[3] | dict(zip(PORT_KEYS, ports, strict=True), name="oscar")
        path.write_text(toml.dumps({**toml.loads(alive.path.read_text()), "observers": [other]}))
    return alive.spawn("serve", "-c", path.name, "--name", "oscar", log="oscar.log")


def look_at(observer: Process, alive: LiveCluster, epoch: int) -> None:
    """It has what the others have, says how old that is, and has no vote; it is gone then, with its directory."""
    config = load_config(str(Path(alive.directory, "observed.toml")), environ={})
    with Client(config=config) as client:
        client.put(b"seen", b"%d" % epoch)
        deadline = time.monotonic() + PATIENCE
        while (seen := client.look(b"seen", reads="observer")).value != b"%d" % epoch or not seen.age:
            assert time.monotonic() < deadline, (seen, observer.tail)
            time.sleep(0.05)
        told = client.status(replica="oscar")
        assert (told.epoch, told.row, told.members) == (epoch, None, client.status(replica="bravo").members)
    observer.kill()
    shutil.rmtree(config.storage.directory_of("oscar"))


def replace_a_lost_directory(alive: LiveCluster) -> None:
    """Another alpha takes the place of the one whose directory is lost."""
    with alive.client() as client:
        client.delete_prefix(b"")  # the load counts from 1
    with load_on(alive):
        alive.kill("alpha")
        shutil.rmtree(alive.config.storage.directory_of("alpha"))
        alive.start("alpha", options=("--join",))
        follows_without_a_vote(alive, "alpha")
        made = alive.epaxos("member", "replace", "alpha", "alpha")
        assert (made.returncode, made.stdout, made.stderr) == (
            0,
            b"epoch 4 established: bravo, charlie, alpha\n",
            b"",
        )
        wait_until(alive, lambda told: told("alpha").row == 2 and not told("alpha").reasons)
        assert alive.log("alpha").count("caught up in") == 1, "it had the state before it had a vote"
        alive.restart("alpha")  # as what it was let in, whatever its command line says
        assert "are others than in" not in alive.log("alpha")


def follows_without_a_vote(alive: LiveCluster, name: str, config: Config | None = None) -> None:
    """One that is to join has come to the epoch of the others, and executes what they decide."""
    wait_until(alive, lambda told: told(name).row is None and bool(told(name).members), config)
    with Client(config=config or alive.config) as client:
        executed = sum(client.status(replica=name).executed)
    wait_until(alive, lambda told: sum(told(name).executed) > executed, config)


def replace_all(alive: LiveCluster) -> None:
    """Three others take the places of all, whose directories go; clients that were there before go on with them."""
    with alive.client("alpha") as idle, closing(Ports(3 * len(PORT_KEYS))) as ports:
        idle.delete_prefix(b"")
        wider = with_others(alive, ports)
        for name in ("delta", "echo", "foxtrot"):
            alive.spawn("serve", "--join", "-c", "wider.toml", "--name", name, log=f"{name}.log")
        wait_until(alive, lambda told: all(told(it.name).row is None for it in wider.replicas[3:]), wider)
        with load_on(alive, wider) as loads:
            for command in (("add", "delta", "echo", "foxtrot"), ("remove", *alive.names)):
                made = alive.epaxos("member", *command, "-c", "wider.toml")
                assert made.returncode == 0, made.stderr
                idle.null()  # a call now and then is enough to hear of them
            assert made.stdout == b"epoch 6 established: delta, echo, foxtrot\n"
            for name in alive.names:
                assert alive.wait(name) == 0
                shutil.rmtree(alive.config.storage.directory_of(name))
            reached = [len(load.seen) for load in loads]
            deadline = time.monotonic() + PATIENCE
            while any(len(load.seen) < before + 2 for load, before in zip(loads, reached, strict=True)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert int(idle.get(b"all") or 0) == sum(len(load.seen) for load in loads)
        assert idle.replicas == ("delta", "echo", "foxtrot")


def test_a_pod_with_an_empty_volume_joins_and_is_put_in_its_place(cluster: ClusterMaker) -> None:
    """By the script of conf/kubernetes: at a first start it begins with the others, later it replaces itself."""
    alive = cluster(3, start=False, **SETTINGS)
    volume = alive.config.storage.directory_of("charlie").parent
    environ = alive.environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EPAXOS_CONFIG": str(alive.path),
        "EPAXOS_REPLICA": "charlie",
        "EPAXOS_STORAGE_DIRECTORY": str(volume),
        "TMPDIR": str(alive.directory),
        "PATIENCE": "300ms",
        "TRIES": "1",
    }

    script = str(ROOT / "conf" / "kubernetes" / "volume.sh")

    def place() -> str:
        command = ["sh", script, "place"]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    @contextmanager
    def pod(log: str) -> Iterator[None]:
        with (
            (alive.directory / log).open("wb") as output,
            subprocess.Popen(["sh", script, "start"], env=environ, stdout=output, stderr=output) as process,
        ):
            try:
                yield
            finally:
                process.kill()

    def said(log: str) -> str:
        return (alive.directory / log).read_text().partition("\n")[0]

    with pod("first.log"):
        assert place() == "", "it begins with the others"
        alive.start("alpha", "bravo")
        with alive.client(timeout=PATIENCE) as client:
            client.put(b"key", b"value")
    assert said("first.log").startswith("nobody serves: charlie begins with the others. ")
    shutil.rmtree(volume / "charlie")
    environ |= {"PATIENCE": "10s", "TRIES": "5"}
    with pod("second.log"):
        assert place() == "epoch 1 established: alpha, bravo, charlie\n"
        assert place() == "", "that is done"
        with alive.client("charlie") as client:
            assert client.get(b"key") == b"value"
    assert said("second.log") == "the cluster has begun, and this volume is new: charlie joins"


def with_others(alive: LiveCluster, ports: Ports) -> Config:
    """The file of the cluster with three replicas more, that are to join."""
    numbers = iter(ports.numbers)
    document = toml.loads(alive.path.read_text())
    others = default_replicas(6)[3:]
    document["replicas"] += [other | {key: next(numbers) for key in PORT_KEYS} for other in others]
    path = Path(alive.directory) / "wider.toml"
    path.write_text(toml.dumps(document))
    return load_config(str(path), environ={})


def move_one(alive: LiveCluster) -> None:
    """A member goes on at other ports, of which only its own file knows; the others are told, and clients by them."""
    with alive.client() as client:
        client.delete_prefix(b"")  # the load counts from 1
    document = toml.loads(alive.path.read_text())
    [bravo] = [replica for replica in document["replicas"] if replica["name"] == "bravo"]
    bravo |= dict(zip(PORT_KEYS, alive.more_ports(len(PORT_KEYS)), strict=True))
    path = Path(alive.directory, "moved.toml")
    path.write_text(toml.dumps(document))
    with load_on(alive):
        alive.stop("bravo")
        alive.spawn("serve", "-c", path.name, "--name", "bravo", log="moved.log")
        made = alive.epaxos("member", "move", "bravo", "-c", path.name)
        assert (made.returncode, made.stdout) == (0, b"epoch 5 established: bravo, charlie, alpha\n"), made
        wait_until(alive, lambda told: told("charlie").epoch == told("bravo").epoch == 5)
    with alive.client("bravo") as client:
        assert client.get(b"all") is not None


def remove_one(alive: LiveCluster) -> None:
    """A member goes, and ends by itself."""
    with alive.client() as client:
        client.delete_prefix(b"")  # the load counts from 1
    with load_on(alive):
        made = alive.epaxos("member", "remove", "charlie")
        assert (made.returncode, made.stdout) == (0, b"epoch 6 established: bravo, alpha\n")
        assert alive.wait("charlie") == 0
    assert "it has been removed" in alive.log("charlie")
    again = alive.spawn("serve", "-n", "charlie", log="again.log")
    assert again.wait() == 0
    assert "a charlie that has been removed from the cluster" in again.printed
    wait_until(alive, lambda told: told("alpha").digest == told("bravo").digest)
    wait_until(
        alive, lambda told: told("alpha").members == told("bravo").members == ["bravo", told("alpha").id]
    )


def wait_until(
    alive: LiveCluster, holds: Callable[[Callable[[str], Status]], bool], config: Config | None = None
) -> None:
    """Wait until something holds of what replicas tell of themselves."""
    deadline = time.monotonic() + PATIENCE
    with Client(config=config or alive.config) as client:
        while True:
            with suppress(ClientError):
                if holds(lambda name: client.status(digest=True, replica=name, timeout=1.0)):
                    return
            assert time.monotonic() < deadline
            time.sleep(0.02)


def wait_until_alike_in_epoch(alive: LiveCluster, name: str, epoch: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with alive.client() as client:
        while client.status(replica=name).epoch != epoch:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_all_that_are_killed_just_after_an_epoch_began_come_to_it_again(cluster: ClusterMaker) -> None:
    """No checkpoint of it may be there yet: what led to it is in the log, and so is what they promised in it.

    One of them comes back as a program that knows one level more, the others later; then also to other thresholds than
    those of their file.
    """
    alive = cluster(3, **SETTINGS)
    with load_on(alive):
        assert refresh(alive, 0) == 1
        alive.kill(*alive.names)
        alive.start("alpha", "charlie")
        alive.ahead = True
        alive.start("bravo")
    wait_until_alike(alive, 1)
    made = alive.epaxos("member", "refresh", "--expect-epoch", "1", "--json")
    assert (made.returncode, json.loads(made.stdout)["epoch"]) == (0, 2)
    again = alive.epaxos("member", "refresh", "--expect-epoch", "1")
    assert (again.returncode, again.stderr) == (
        2,
        b"epaxos member refresh: the cluster is in epoch 2, not in 1; nothing is changed\n",
    )
    lower = alive.epaxos("member", "thresholds", "--e", "0")
    assert (lower.returncode, lower.stdout) == (0, b"epoch 3 established: alpha, bravo, charlie\n")
    upgrade(alive)
    with alive.client() as client:
        assert {(it.f, it.e) for it in [client.status(replica=name) for name in ("alpha", "charlie")]} == {
            (1, 0)
        }


def upgrade(alive: LiveCluster) -> None:
    """The level is raised once all know the next one, under load, and no program comes back that does not."""
    now = version.NEWEST
    early = alive.epaxos("upgrade")
    text = f"epaxos upgrade: alpha: the cluster is at level {now}, and more is not known to alpha, charlie\n"
    assert (early.returncode, early.stderr.decode()) == (2, text)
    with alive.client() as client:
        client.delete_prefix(b"")  # the load counts from 1
    with load_on(alive):
        for name in ("alpha", "charlie"):
            alive.restart(name)
        made = alive.epaxos("upgrade")
    text = f"epoch 4 established at level {now + 1}: alpha, bravo, charlie\n"
    assert (made.returncode, made.stdout.decode(), made.stderr) == (0, text, b"")
    wait_until_alike(alive, 4)
    alive.stop("bravo")
    alive.ahead = False
    alive.start("bravo")
    assert alive.wait("bravo") == 1
    assert f"bravo is of level {now + 1}; this program knows {version.known()}: start" in alive.log("bravo")
