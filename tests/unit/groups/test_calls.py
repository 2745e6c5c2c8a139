"""Calls of a client of several groups, whose clusters are replaced by what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from epaxos import AsyncGroupClient, ClientError, Closed, GroupClient, Locked, NoAnswer, Op, Result
from epaxos.groups.map import Groups, load_groups

RECORD = b"\0txn" + bytes(16)


CLUSTER = """
[[replicas]]
pid = 1
name = "alpha"
host = "127.0.0.1"
port = {0}1
client_port = {0}2
metrics_port = {0}3
"""


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    tables = []
    for number, (name, slots) in enumerate((("east", "0-8191"), ("west", "8192-16383"))):
        (tmp_path / f"{name}.toml").write_text(CLUSTER.format(2100 + number))
        tables.append(f'[[groups]]\nname = "{name}"\nconfig = "{name}.toml"\nslots = "{slots}"')
    (tmp_path / "groups.toml").write_text("\n".join(tables))
    return load_groups(str(tmp_path / "groups.toml"))


def cluster(groups: Groups, name: str, *answers: list[Result[Any]] | ClientError) -> Mock:
    """The client of one group: what its bulk calls come to, one after the other."""
    return Mock(timeout=1.0, execute=Mock(return_value=groups.told_to(name)), bulk=Mock(side_effect=answers))


@pytest.fixture
def client(groups: Groups) -> Iterator[GroupClient[bytes]]:
    with GroupClient(groups, timeout=5.0) as made:
        for one in made._clients.values():
            one.close()
        yield made


def one_of(groups: Groups, name: str) -> bytes:
    return next(key for number in range(100) if groups.of(key := b"%d" % number).name == name)


def locked_for(other: bytes) -> Locked:
    return Locked("met a lock", RECORD, {other: 0})


@pytest.mark.parametrize(
    ("lock", "after"),
    [
        (locked_for(b"nobody-knows"), Locked),  # whose transaction is also one of a group of another file
        (locked_for(b"east"), Closed),
    ],
)
def test_what_cannot_be_done_about_a_lock_is_no_failure_of_what_has_executed(
    groups: Groups, client: GroupClient[bytes], lock: Locked, after: type[ClientError]
) -> None:
    again: list[Result[Any]] | ClientError = [Result(error=lock)] if after is Locked else Closed("closed")
    east = cluster(groups, "east", [Result(b"1"), Result(error=lock)], again)
    west = cluster(groups, "west", [Result(b"2")])
    client._clients = {b"east": east, b"west": west}
    key, other = one_of(groups, "east"), one_of(groups, "west")
    first, second, third = client.bulk([Op.get(key), Op.put(key, b"x"), Op.get(other)])
    assert (first.unwrap(), third.unwrap()) == (b"1", b"2")
    assert second.error is lock
    assert east.bulk.call_count == 2


def test_a_group_that_takes_nothing_is_no_failure_of_the_others(
    groups: Groups, client: GroupClient[bytes]
) -> None:
    failure = NoAnswer("closed meanwhile")
    east, west = cluster(groups, "east", failure), cluster(groups, "west", [Result(b"2")])
    client._clients = {b"east": east, b"west": west}
    first, second = client.bulk([Op.get(one_of(groups, "east")), Op.get(one_of(groups, "west"))])
    assert (first.error, second.unwrap()) == (failure, b"2")


def test_closing_that_is_cancelled_closes_all_the_same(groups: Groups) -> None:
    class Drive:
        given_up = False

        async def wait(self, until: float) -> None:
            await asyncio.sleep(until)

        def give_up(self) -> None:
            self.given_up = True

    async def close() -> None:
        client = AsyncGroupClient(groups, timeout=60.0)
        drive = Drive()
        client._drives = {drive}  # type: ignore[arg-type]
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert drive.given_up
        for one in client._clients.values():
            with pytest.raises(Closed):
                await one.get(b"key")

    asyncio.run(close())


def test_closing_that_is_interrupted_closes_all_the_same(groups: Groups) -> None:
    client = GroupClient(groups)
    drive = Mock(wait=Mock(side_effect=KeyboardInterrupt))
    client._drives = {drive}
    with pytest.raises(KeyboardInterrupt):
        client.close()
    drive.give_up.assert_called_once_with()
    for one in client._clients.values():
        with pytest.raises(Closed):
            one.get(b"key")
