"""Clients against real replicas; what a client does when replicas misbehave is shown with stubs, elsewhere."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from epaxos import (
    AsyncClient,
    CasResult,
    Changed,
    Client,
    MultiAborted,
    NoAnswer,
    Op,
    OperationFailed,
    Position,
    Refused,
    Reset,
    Synced,
)
from epaxos.client.results import Result
from epaxos.client.status import Status
from epaxos.commit import AsyncClusterVotes, AsyncManager, ClusterVotes, Manager, Outcome, Transaction, Vote
from epaxos.protocol.commit import key_of
from epaxos.testing import LocalCluster
from live_cluster import ClusterMaker


class Box:
    """A resource of transactions."""

    def __init__(self, name: str) -> None:
        self.name, self.vote, self.committed = name, Vote.PREPARED, False

    def prepare(self, transaction: Transaction) -> Vote:
        assert self.name in transaction.resources
        return self.vote

    def commit(self, transaction: Transaction) -> None:
        assert self.name in transaction.resources
        self.committed = True

    def abort(self, transaction: Transaction) -> None:
        assert self.name in transaction.resources


class Awaited:
    """The same for asyncio."""

    def __init__(self, box: Box) -> None:
        self.name, self._box = box.name, box

    async def prepare(self, transaction: Transaction) -> Vote:
        return self._box.prepare(transaction)

    async def commit(self, transaction: Transaction) -> None:
        self._box.commit(transaction)

    async def abort(self, transaction: Transaction) -> None:
        self._box.abort(transaction)


def read_in_all_ways(alive: LocalCluster, client: Client) -> None:
    with alive.client("alpha") as writer:
        for number in range(20):
            writer.put(b"r", b"%d" % number)
            assert client.get(b"r", reads="quorum") == b"%d" % number
    assert client.exists(b"r", reads="quorum")
    assert client.get(b"r", reads="local") == b"19"  # it has just been read here
    assert client.look(b"r").value == b"19"
    assert client.look(b"absent").value is None
    assert client.count(b"r", reads="local") == 1
    assert client.scan(b"r", reads="local").items == [(b"r", b"19")]
    gets = [Op.get(b"r"), Op.exists(b"absent")]
    assert [result.value for result in client.bulk(gets, reads="quorum")] == [b"19", False]
    assert [result.value for result in client.bulk([*gets, Op.put(b"r", b"x")])] == [b"19", False, None]
    with pytest.raises(Refused, match="scan cannot be read by a quorum"):
        client.scan(reads="quorum")
    with pytest.raises(Refused, match="put is nothing that is read"):
        client.bulk([Op.put(b"r", b"x")], reads="quorum")
    watch_in_both_ways(alive, client)


def watch_in_both_ways(alive: LocalCluster, client: Client) -> None:
    with client.watch(b"w/") as changes:
        before = changes.position
        assert before is not None
        assert any(before.marks), "of which cluster it is"
        client.put(b"x", b"0")
        client.put(b"w/1", b"1")
        assert next(changes) == Changed(b"w/1", b"1", changes.position)
    with client.watch(b"w/", state=True) as changes:
        assert [changes.get(60) for _ in range(2)] == [Reset(), Changed(b"w/1", b"1", None)]
        assert isinstance(next(changes), Synced)
    asyncio.run(_watch_on(alive, before))


async def _watch_on(alive: LocalCluster, position: Position | None) -> None:
    asynchronous = AsyncClient(config=alive.config, replica="charlie")
    async with asynchronous as client, client.watch(b"w", since=position, state=True) as changes:
        assert await changes.get(60) == Changed(b"w/1", b"1", changes.position)
        await client.delete(b"w/1")
        async for event in changes:
            assert event == Changed(b"w/1", None, changes.position)
            break


def test_every_method_of_both_clients(epaxos_cluster: LocalCluster) -> None:
    alive = epaxos_cluster

    def blocking(client: Client) -> None:
        client.put(b"k", b"1")
        assert client.get(b"k") == b"1"
        assert client.write_read(b"k", b"2") == b"1"
        assert client.cas(b"k", b"1", b"3") == CasResult(swapped=False, current=b"2")
        assert client.increment(b"k", 40) == 42
        assert client.append(b"k", b"!") == 3
        with pytest.raises(OperationFailed):
            client.increment(b"k")
        with pytest.raises(Refused):
            client.pause(10**9)
        client.pause(1)
        client.null()
        with pytest.raises(MultiAborted, match="its operation 1, cas"):
            client.multi([Op.put(b"a", b"1"), Op.cas(b"k", None, b"x")])
        assert client.multi([Op.get(b"a"), Op.put(b"a", b"1"), Op.get(b"a")]) == [None, None, b"1"]
        assert [result.value for result in client.bulk([Op.increment(b"n")] * 2500)] == list(range(1, 2501))
        assert client.delete(b"k") is True

    def transactions(client: Client) -> None:
        one, other = Box("one"), Box("other")
        with Manager(ClusterVotes(client)) as manager:
            ended = manager.run([one, other])
            assert (ended.outcome, one.committed, other.committed) == (Outcome.COMMITTED, True, True)
            assert manager.recover(ended.transaction, [one]).outcome is Outcome.FORGOTTEN
            transaction = manager.begin(["one", "other"], b"meta")
            assert client.get(key_of(transaction.id)) == b"one other\nmeta"
            one.vote = Vote.ABORTED
            manager.vote(transaction, one)
            assert manager.recover(transaction, [one, other]).outcome is Outcome.ABORTED
            keys = [key_of(transaction.id, name) for name in (None, "one", "other")]
            assert [client.get(key) for key in keys] == [None] * 3

    async def asynchronous() -> None:
        async with AsyncClient(config=alive.config, replica="charlie", reads="quorum") as client:
            assert (await client.get(b"r"), await client.exists(b"r")) == (b"x", True)
            assert (await client.look(b"r")).value == b"x"
            assert await client.bulk([Op.get(b"r")], reads="local") == [Result(b"x")]
            numbers = await asyncio.gather(*(client.increment(b"n") for _ in range(300)))
            assert sorted(numbers) == list(range(2501, 2801))
            one = Box("one")
            awaited = AsyncManager(AsyncClusterVotes(client))
            assert (await awaited.run([Awaited(one)])).outcome is Outcome.COMMITTED
            assert one.committed
            statuses = [await client.status(replica=name, digest=True) for name in client.replicas]
            assert [status.name for status in statuses] == ["alpha", "bravo", "charlie"]

    with alive.client("bravo") as client:
        blocking(client)
        read_in_all_ways(alive, client)
        transactions(client)
    asyncio.run(asynchronous())


def test_calls_survive_the_death_of_their_replica_and_execute_once(cluster: ClusterMaker) -> None:
    alive = cluster(3, client={"timeout": "10s"})

    def count(client: Client) -> tuple[list[int], int]:
        numbers, doubtful = [], 0
        for _ in range(100):
            try:
                numbers.append(client.increment(b"n"))
            except NoAnswer:
                doubtful += 1
        return numbers, doubtful

    with alive.client("alpha") as client, ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(count, client) for _ in range(4)]
        while not (client.get(b"n") or b"").startswith(b"1"):
            pass
        alive.kill("alpha")
        outcomes = [call.result() for call in counts]
        total = client.increment(b"n", 0)
    numbers = [number for numbers, _ in outcomes for number in numbers]
    assert len(set(numbers)) == len(numbers)
    assert len(numbers) <= total <= len(numbers) + sum(doubtful for _, doubtful in outcomes)


def _kept(status: Status) -> bool:
    return bool(status.sessions + status.remembered)


def test_sessions_of_clients_that_are_gone_end_and_those_that_were_silent_begin_anew(
    cluster: ClusterMaker,
) -> None:
    alive = cluster(3, collect="100ms")
    with alive.client("alpha") as client:
        assert client.increment(b"n") == 1
        for _ in range(20):
            with alive.client("bravo") as another:
                another.increment(b"m")
        client.bulk([Op.put(b"key-%d" % number, b"value") for number in range(1000)])
        client.bulk([Op.delete(b"key-%d" % number) for number in range(1000)])
        deadline = time.monotonic() + 30
        while any(_kept(client.status(replica=name)) for name in client.replicas):
            assert time.monotonic() < deadline, "something of clients or keys that are gone was kept"
            time.sleep(0.1)
        assert client.increment(b"n") == 2
        assert [result.value for result in client.bulk([Op.increment(b"n")] * 10)] == list(range(3, 13))
        statuses = [client.status(replica=name, digest=True) for name in client.replicas]
        assert all(status.generation > 10 for status in statuses)
        assert client.get(b"m") == b"20"
