from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from time import monotonic
from typing import Any, TypeVar

import pytest

from epaxos import AsyncClient, Busy, CasResult, Closed, NoAnswer, Op, OperationFailed, Refused
from epaxos.client.drivers.wire import Wire
from epaxos.client.status import Status
from stub_cluster import Act, StubCluster

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20.0))


@pytest.fixture
def cluster() -> Iterator[StubCluster]:
    with StubCluster() as cluster:
        yield cluster


def client_of(cluster: StubCluster) -> AsyncClient:
    return AsyncClient(config=cluster.config, replica="alpha")


def test_all_methods(cluster: StubCluster) -> None:
    async def main() -> None:
        async with client_of(cluster) as client:
            assert await client.get(b"k") is None
            await client.put(b"k", b"1")
            assert await client.get(b"k") == b"1"
            assert await client.write_read(b"k", b"2") == b"1"
            assert await client.cas(b"k", b"2", b"3") == CasResult(swapped=True, current=b"3")
            assert await client.increment(b"k") == 4
            assert await client.append(b"k", b"!") == 2
            assert await client.delete(b"k") is True
            await client.pause(1)
            await client.null()
            assert await client.multi([Op.put(b"a", b"1"), Op.increment(b"a")]) == [None, 2]
            assert (await client.scan(b"a")).items == [(b"a", b"2")]
            assert (await client.count(), await client.delete_prefix(b"z")) == (1, 0)
            results = await client.bulk([Op.increment(b"n"), Op.get(b"none"), Op.increment(b"n")])
            assert [result.value for result in results] == [1, None, 2]
            assert await client.bulk([]) == []
            assert await client.status(digest=True) == Status(
                name="alpha", others={"asked": {"digest": True, "transactions": False}}
            )
            assert await client.status(replica="bravo") == Status(
                name="bravo", others={"asked": {"digest": False, "transactions": False}}
            )
            assert client.replicas == ("alpha", "bravo", "charlie")
            assert "tcp://127.0.0.1" in repr(client)
            with pytest.raises(OperationFailed):
                await client.multi([Op.cas(b"k", b"x", b"y")])

    run(main())


def test_calls_of_one_turn_of_the_loop_share_a_frame(cluster: StubCluster) -> None:
    async def main() -> None:
        async with client_of(cluster) as client:
            await client.null()
            numbers = await asyncio.gather(*(client.increment(b"n") for _ in range(500)))
            assert sorted(numbers) == list(range(1, 501))

    run(main())
    assert [len(batch) for batch in cluster.replicas[0].batches][:2] == [1, 500]


def test_many_tasks_with_many_calls(cluster: StubCluster) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.002

    async def main() -> None:
        async with client_of(cluster) as client:

            async def task() -> list[int]:
                return [await client.increment(b"n") for _ in range(20)]

            numbers = await asyncio.gather(*(task() for _ in range(50)))
            assert sorted(number for task in numbers for number in task) == list(range(1, 1001))

    run(main())


def test_errors(cluster: StubCluster) -> None:
    async def main() -> None:
        async with client_of(cluster) as client:
            with pytest.raises(Refused, match="alpha refused the command: key of 70000 bytes"):
                await client.put(b"k" * 70_000, b"v")
            with pytest.raises(ValueError, match="timeout"):
                await client.get(b"k", timeout=0)
            for replica in cluster.replicas:
                replica.behave = lambda _: Act.BUSY
            told: Exception | None = None
            while not isinstance(told, Busy):  # a last try that a slow machine did not answer hides it
                with pytest.raises((Busy, NoAnswer)) as busy:
                    await client.put(b"k", b"v", timeout=0.2)
                told = busy.value
            assert not told.may_have_executed
            for replica in cluster.replicas:
                replica.behave = lambda _: Act.MUTE
            begun = monotonic()
            with pytest.raises(NoAnswer) as silent:
                await client.put(b"k", b"v", timeout=0.3)
            assert silent.value.may_have_executed
            assert 0.3 <= monotonic() - begun < 4.0

    run(main())
    assert cluster.executed() == 1


def test_a_lost_answer_is_fetched_from_another_replica_and_executes_once(cluster: StubCluster) -> None:
    cluster.replicas[0].behave = lambda _: Act.MUTE

    async def main() -> int:
        async with client_of(cluster) as client:
            return await client.increment(b"n", timeout=0.6)

    assert run(main()) == 1
    assert cluster.executed() == 1


def test_a_replica_that_dies_with_the_command_is_not_waited_for(cluster: StubCluster) -> None:
    async def main() -> None:
        async with client_of(cluster) as client:
            await client.null()
            cluster.replicas[0].behave = lambda _: Act.MUTE
            call = asyncio.ensure_future(client.increment(b"n", timeout=15.0))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(cluster.replicas[0].stop)
            begun = monotonic()
            assert await call == 1
            assert monotonic() - begun < 5.0

    run(main())


def test_a_cancelled_call_is_not_sent_again(cluster: StubCluster) -> None:
    cluster.replicas[0].behave = lambda batch: Act.IGNORE if b"lost" in batch.keys else Act.ANSWER

    async def main() -> None:
        async with client_of(cluster) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.put(b"lost", b"v", timeout=1.0), 0.1)
            await asyncio.sleep(0.5)
            await client.put(b"k", b"v")

    run(main())
    assert [batch.keys for batch in cluster.batches()] == [[b"lost"], [b"k"]]
    assert cluster.batches()[1].acked == 2


def test_closing_ends_calls_of_other_tasks(cluster: StubCluster) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.IGNORE

    async def main() -> None:
        client = client_of(cluster)
        call = asyncio.ensure_future(client.put(b"k", b"v"))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(Closed) as caught:
            await call
        assert caught.value.may_have_executed
        await client.close()
        with pytest.raises(Closed) as late:
            await client.put(b"k", b"v")
        assert not late.value.may_have_executed

    run(main())


def test_the_loop_goes_on_until_the_farewell_has_left(
    cluster: StubCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        client = client_of(cluster)
        await client.null()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        end = Wire.end

        def slowly(wire: Wire[Any]) -> None:
            asyncio.run_coroutine_threadsafe(ended.wait(), loop).result(10.0)
            end(wire)

        monkeypatch.setattr(Wire, "end", slowly)
        loop.call_later(0.01, ended.set)
        await client.close()

    run(main())


def test_a_client_that_was_never_used_can_be_closed(cluster: StubCluster) -> None:
    run(client_of(cluster).close())


def test_a_client_belongs_to_one_loop(cluster: StubCluster) -> None:
    client = client_of(cluster)
    run(client.null())
    with pytest.raises(RuntimeError, match="belongs to the event loop of its first call"):
        run(client.null())
    run(client.close())


def test_closing_acknowledges_what_was_delivered(cluster: StubCluster) -> None:
    async def main() -> None:
        async with client_of(cluster) as client:
            await client.put(b"k", b"v" * 1000)
            await client.bulk([Op.get(b"k")] * 50)

    run(main())
    assert cluster.await_farewell().acked == 52
