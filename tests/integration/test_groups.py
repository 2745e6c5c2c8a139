"""Two real clusters as one store."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from epaxos import MultiAborted, Op
from epaxos.errors import Closed, Locked, Refused
from epaxos.groups import GroupClient
from epaxos.groups.transaction import Fate, Transaction
from live_cluster import ClusterMaker, LiveCluster

ACCOUNTS = [b"account-%d" % number for number in range(6)]


@pytest.fixture
def two(cluster: ClusterMaker) -> tuple[str, dict[bytes, LiveCluster]]:
    """A `groups.toml`, and its clusters by name, of one replica each."""
    clusters = {name: cluster(1) for name in (b"east", b"west")}
    tables = [
        f'[[groups]]\nname = "{name.decode()}"\nconfig = "{alive.path}"\nslots = "{slots}"\n'
        for (name, alive), slots in zip(clusters.items(), ("0-8191", "8192-16383"), strict=True)
    ]
    path = Path(clusters[b"east"].directory).parent / "groups.toml"
    path.write_text("\n".join(tables))
    return str(path), clusters


def test_operations_on_several_groups_are_executed_as_one(two: tuple[str, dict[bytes, LiveCluster]]) -> None:
    path, clusters = two
    with GroupClient(path, timeout=20) as client:
        client.bulk([Op.put(account, b"100") for account in ACCOUNTS])
        assert {client.group_of(account) for account in ACCOUNTS} == {"east", "west"}
        with ThreadPoolExecutor(3) as pool:
            movers = [pool.submit(move, path, seed) for seed in range(2)]
            while not all(mover.done() for mover in movers):
                assert sum(int(value or b"") for value in client.multi(map(Op.get, ACCOUNTS))) == 600
            for mover in movers:
                mover.result()
        with pytest.raises(MultiAborted, match=r"operation 1, cas of .account-1., failed") as failed:
            client.multi(
                [Op.put(ACCOUNTS[0], b"x"), Op.cas(ACCOUNTS[1], b"none", b"x"), Op.put(ACCOUNTS[2], b"x")]
            )
        assert failed.value.part == 1
        with pytest.raises(Refused, match="value of 2097152 bytes"):
            client.multi([Op.put(ACCOUNTS[0], b"x"), Op.put(ACCOUNTS[1], b"x" * 2**21)])
        left_by_a_dead_coordinator(client, clusters)
        values = [result.unwrap() for result in client.bulk(map(Op.get, ACCOUNTS))]
        assert sum(int(value) for value in values if isinstance(value, bytes)) == 600
        assert in_a_child(lambda: client.bulk(map(Op.get, ACCOUNTS))) == "Closed"
    with pytest.raises(Closed, match="the client is closed"):
        client.multi(map(Op.get, ACCOUNTS))


def in_a_child(call: Callable[[], object]) -> str:
    """What is raised in a process that is forked off."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it is what is wanted
            os.write(writer, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        text = told.read().decode()
    os.waitpid(child, 0)
    return text


def move(path: str, seed: int) -> None:
    random = Random(seed)
    with GroupClient(path, timeout=20) as client:
        for _ in range(30):
            source, target = random.sample(ACCOUNTS, 2)
            client.multi([Op.increment(source, -1), Op.increment(target, 1)])


def left_by_a_dead_coordinator(client: GroupClient, clusters: dict[bytes, LiveCluster]) -> None:
    """It died with its first PREPARE; who meets the lock without the library is told, who has it goes on."""
    east = next(account for account in ACCOUNTS if client.group_of(account) == "east")
    west = next(account for account in ACCOUNTS if client.group_of(account) == "west")
    driven = Transaction(
        bytes.fromhex("00657061786f7300") + bytes(15) + b"\7",
        {b"east": 0, b"west": 0},
        {b"east": (b"\2", [east], [b"0"]), b"west": (b"\2", [west], [b"0"])},
    )
    first, *_ = driven.begin()
    with clusters[b"east"].client() as plain:
        assert plain.execute(Op(int(first.operation), driven.key, first.argument))[0] == 0  # type: ignore[arg-type]
        with pytest.raises(Locked, match="a transaction across groups has locked the key") as locked:
            plain.get(east)
        assert locked.value.groups == {b"east": 0, b"west": 0}
        told = clusters[b"east"].epaxos("get", east.decode())
        assert told.returncode == 1
        assert b"has locked the key" in told.stderr
    assert int(client.get(east) or b"0") > 0
    assert client.resolve(locked.value.record, locked.value.groups) is Fate.OVER
