"""What users' tests get: `epaxos.testing`. The fixture `epaxos_cluster` is used in `test_client_live`."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from epaxos import JSON
from epaxos.errors import ConfigError
from epaxos.testing import ClusterFailed, LocalCluster, cluster
from epaxos.testing.processes import Ports, Process


@pytest.mark.epaxos_cluster(1, durable=True, client={"timeout": "5s"})
def test_a_durable_replica_comes_back_with_its_data(epaxos_cluster: LocalCluster) -> None:
    assert epaxos_cluster.config.client.timeout == 5.0
    with epaxos_cluster.client(codec=JSON) as client:
        client.put(b"key", {"a": 1})
        epaxos_cluster.restart()
        assert client.get(b"key") == {"a": 1}

    async def ask() -> bytes | None:
        async with epaxos_cluster.async_client() as client:
            epaxos_cluster.pause("alpha")
            asked = asyncio.create_task(client.get(b"key"))
            await asyncio.sleep(0.05)
            epaxos_cluster.resume("alpha")
            return await asked

    assert asyncio.run(ask()) == b'{"a":1}'
    with pytest.raises(ClusterFailed, match="alpha runs already"):
        epaxos_cluster.start()
    epaxos_cluster.stop()
    with pytest.raises(ClusterFailed, match="alpha does not run; running: none"):
        epaxos_cluster.kill("alpha")


def test_a_cluster_leaves_nothing_behind_and_says_what_cannot_be() -> None:
    cluster = LocalCluster(3)
    assert cluster.path.exists()
    with pytest.raises(ClusterFailed, match="cannot come back; use LocalCluster"):
        cluster.restart("alpha")
    cluster.close()
    assert not cluster.directory.exists()
    anything: Any = "3"
    with pytest.raises(TypeError, match="replicas must be a number, not str"):
        LocalCluster(anything)
    with pytest.raises(ValueError, match="replicas is 0; it must be at least 1"):
        LocalCluster(0)


def test_a_cluster_that_cannot_be_made_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[Ports] = []

    def reserve(count: int) -> Ports:
        reserved.append(Ports(count))
        return reserved[-1]

    monkeypatch.setattr(cluster, "Ports", reserve)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", partial(tempfile.TemporaryDirectory, dir=tmp_path))
    with pytest.raises(ConfigError, match="mailboxes"):
        LocalCluster(mailboxes=1)
    assert (reserved[0]._locks, list(tmp_path.iterdir())) == ([], [])


def test_a_fork_is_what_a_process_would_be(tmp_path: Path) -> None:
    """It is where it is started, with its own environment, files and status, and gone when it is killed."""
    (tmp_path / "epaxos.toml").write_text("name = 7\n")
    environment = {name: text for name, text in os.environ.items() if not name.startswith("EPAXOS_")}

    def start(*arguments: str, **more: str) -> Process:
        return Process(arguments, tmp_path / "log", environment | more, kind=0)

    process = start("serve", "--name", "alpha")
    assert process.wait(30) == 2
    assert process.printed.startswith("epaxos: epaxos.toml: name: found 7")
    process.kill()
    process = start("serve", EPAXOS_CONFIG="none.toml")
    with pytest.raises(ClusterFailed, match="still runs after 0 s"):
        process.wait(0)
    assert process.wait(30) == 2
    assert "none.toml" in process.tail
    process.kill()
    process = start("put", "key")  # reads what it is given
    assert os.getpgid(process.pid) == process.pid
    process.kill()
    assert process.status == -signal.SIGKILL
