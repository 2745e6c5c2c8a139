"""Two real clusters as one store."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from epaxos import AsyncGroupClient, GroupClient, MultiAborted, Op
from epaxos.cli.main import main
from epaxos.errors import Closed, Locked, Refused
from epaxos.groups.driving import command_of
from epaxos.groups.transaction import Fate, Transaction, record_key
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
        asyncio.run(without_threads(path, clusters))
        ended_by_hand(path, client, clusters)
        values = [result.unwrap() for result in client.bulk(map(Op.get, ACCOUNTS))]
        assert sum(int(value) for value in values if isinstance(value, bytes)) == 600
        listed_and_cleared(client)
        assert in_a_child(lambda: client.bulk(map(Op.get, ACCOUNTS))) == "Closed"
    with pytest.raises(Closed, match="the client is closed"):
        client.multi(map(Op.get, ACCOUNTS))


def listed_and_cleared(client: GroupClient) -> None:
    """Pages of several groups are merged."""
    client.bulk([Op.put(b"listed-%02d" % number, b"%d" % number) for number in range(20)])
    found, after = list[tuple[bytes, bytes]](), None
    while True:
        page = client.scan(b"listed-", after, 6)
        assert len(page.keys) <= 6
        found += page.items
        if (after := page.after) is None:
            break
    assert found == [(b"listed-%02d" % number, b"%d" % number) for number in range(20)]
    assert client.scan(b"listed-", b"listed-10", 3, values=False, reverse=True).keys == [
        b"listed-09",
        b"listed-08",
        b"listed-07",
    ]
    assert (client.count(b"account-"), client.count(b"listed-")) == (6, 20)
    with pytest.raises(Refused, match="operation 0 has no key"):
        client.bulk([Op.count()])
    assert client.delete_prefix(b"listed-") == 20
    assert client.count(b"listed-") == 0


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


async def without_threads(path: str, clusters: dict[bytes, LiveCluster]) -> None:
    """The same with the client for event loops: all at once, then a lock that a dead coordinator left."""
    async with AsyncGroupClient(path, timeout=20) as client:
        moves = [
            client.multi([Op.increment(ACCOUNTS[number % 3], -1), Op.increment(ACCOUNTS[3 + number % 3], 1)])
            for number in range(9)
        ]
        await asyncio.gather(*moves)
        with pytest.raises(MultiAborted, match=r"operation 1, cas of .account-1., failed"):
            await client.multi([Op.put(ACCOUNTS[0], b"x"), Op.cas(ACCOUNTS[1], b"none", b"x")])
        record, key = left_prepared(clusters, client, number=8)
        assert await client.get(key) is not None
        found = await client.bulk(map(Op.get, ACCOUNTS))
        assert sum(int(value) for result in found if isinstance(value := result.unwrap(), bytes)) == 600
        assert (await client.scan(b"account-")).keys == ACCOUNTS
        assert [one.record for one in await client.transactions()] == []
        assert await client.resolve(record, {b"east": 0, b"west": 0}) is Fate.OVER
        assert (await client.status("east")).generation == 0
        assert client.retries == {"silent": 0, "lost": 0, "busy": 0}
        with pytest.raises(Refused, match="belongs to no group"):
            await client.execute(Op.null())
    with pytest.raises(Closed, match="the client is closed"):
        await client.get(key)


def ended_by_hand(path: str, client: GroupClient, clusters: dict[bytes, LiveCluster]) -> None:
    """What a person sees of the locks of a dead coordinator, and does about them."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "-c", path])

    record, _ = left_prepared(clusters, client, number=9)
    (listed,) = json.loads(run("transactions", "list", "--json").stdout)
    assert (listed["state"], listed["locked"]) == ("undecided", {"east": 1})
    assert (
        run("transactions", "list").stdout == f"{record[-16:].hex()}  undecided      1 locked  east, west\n"
    )
    told = run("transactions", "resolve", listed["name"][:31])
    assert (told.exit_code, told.stdout) == (0, f"{record[-16:].hex()}  aborted\n")
    told = run("transactions", "resolve", listed["name"])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "no group has a record of" in told.stderr
    record, key = left_prepared(clusters, client, number=10)
    told = run("transactions", "resolve", "--all", "--commit")
    assert told.stdout == f"{record[-16:].hex()}  committed\n"
    assert client.get(key) == b"0"
    client.put(key, str(600 - sum(int(client.get(one) or b"0") for one in ACCOUNTS)).encode())
    assert run("status").stdout.count("quorum: 1 of 1") == 2
    assert sorted(json.loads(run("status", "--json").stdout)["groups"]) == ["east", "west"]
    loaded = run("bench", "--operations", "60", "--across", "40", "--within", "20", "--json", "-")
    kinds = json.loads(loaded.stdout)["kinds"]
    assert (loaded.exit_code, all(kind["operations"] for kind in kinds.values())) == (0, True)
    refused = run("bench", "--window", "5")
    assert (refused.exit_code, "--window needs a file of one cluster" in refused.stderr) == (2, True)
    refused = run("bench", "--across", "60", "--within", "60")
    assert (refused.exit_code, "120 % are more than all" in refused.stderr) == (2, True)
    other = Path(path).with_name("other.toml")
    other.write_text(Path(path).read_text().replace("8191", "9000").replace("8192", "9001"))
    with (
        GroupClient(str(other)) as stranger,
        pytest.raises(Refused, match=r"says 'east 0-9000'.* 'east 0-8191'"),
    ):
        stranger.get(key)


def left_prepared(
    clusters: dict[bytes, LiveCluster], client: GroupClient | AsyncGroupClient, number: int
) -> tuple[bytes, bytes]:
    """A transaction whose coordinator died with its first PREPARE: its record, and the key that it locked."""
    east = next(account for account in ACCOUNTS if client.group_of(account) == "east")
    west = next(account for account in ACCOUNTS if client.group_of(account) == "west")
    driven = Transaction(
        record_key(0, number),
        {b"east": 0, b"west": 0},
        {b"east": (b"\2", [east], [b"0"]), b"west": (b"\2", [west], [b"0"])},
    )
    first, *_ = driven.begin()
    with clusters[b"east"].client() as plain:
        assert plain.execute(command_of(driven, first))[0] == 0
    return driven.key, east


def left_by_a_dead_coordinator(client: GroupClient, clusters: dict[bytes, LiveCluster]) -> None:
    """It died with its first PREPARE; who meets the lock without the library is told, who has it goes on."""
    record, east = left_prepared(clusters, client, number=7)
    with clusters[b"east"].client() as plain:
        with pytest.raises(Locked, match="a transaction across groups has locked the key") as locked:
            plain.get(east)
        assert locked.value.groups == {b"east": 0, b"west": 0}
        told = clusters[b"east"].epaxos("get", east.decode())
        assert told.returncode == 1
        assert b"has locked the key" in told.stderr
    assert int(client.get(east) or b"0") > 0
    assert client.resolve(record, locked.value.groups) is Fate.OVER
