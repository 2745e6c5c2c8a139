from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep, thread_time
from typing import Any

import pytest

from epaxos import (
    Busy,
    CasResult,
    Client,
    ClientError,
    Closed,
    ConfigError,
    MultiAborted,
    NoAnswer,
    Op,
    OperationFailed,
    Page,
    Refused,
)
from epaxos.client.status import Status
from epaxos.statemachine.batch import Batch
from stub_cluster import Act, StubCluster


@pytest.fixture
def cluster() -> Iterator[StubCluster]:
    with StubCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: StubCluster) -> Iterator[Client]:
    with Client(config=cluster.config, replica="alpha") as client:
        yield client


def once(act: Act) -> Callable[[Batch], Act]:
    """Behave like that the first time, then well."""
    acts = iter([act])
    return lambda _: next(acts, Act.ANSWER)


def test_all_methods(client: Client) -> None:
    assert client.get(b"k") is None
    client.put(b"k", b"1")
    assert client.get(b"k") == b"1"
    assert client.write_read(b"k", b"2") == b"1"
    assert client.cas(b"k", b"1", b"3") == CasResult(swapped=False, current=b"2")
    assert client.cas(b"k", b"2", b"3") == CasResult(swapped=True, current=b"3")
    assert client.increment(b"k") == 4
    assert client.increment(b"k", -10) == -6
    assert client.append(b"k", b"!") == 3
    assert client.delete(b"k") is True
    assert client.delete(b"k") is False
    client.pause(1)
    client.null()
    assert client.multi([Op.put(b"a", b"1"), Op.increment(b"a"), Op.get(b"b")]) == [None, 2, None]
    client.put(b"b", b"x")
    page = client.scan(limit=1)
    assert (page.items, page.more, page.after) == ([(b"a", b"2")], True, b"a")
    assert client.scan(after=page.after, values=False) == Page([b"b"], None, more=False)
    assert client.scan(reverse=True).keys == [b"b", b"a"]
    assert client.count(b"a") == 1
    client.bulk([Op.put(b"p%d" % number, b"") for number in range(1001)])
    assert client.delete_prefix(b"p") == 1001
    assert client.count() == 2
    assert client.replicas == ("alpha", "bravo", "charlie")
    assert "tcp://127.0.0.1" in repr(client)


def test_endpoints_alone_are_enough(cluster: StubCluster) -> None:
    with Client(f"127.0.0.1:{cluster.replicas[1].port}") as client:
        client.put(b"k", b"v")
        assert len(cluster.replicas[1].batches) == 1


def test_failures_are_typed(client: Client) -> None:
    client.put(b"k", b"text")
    with pytest.raises(OperationFailed, match='increment of "k" failed'):
        client.increment(b"k")
    with pytest.raises(MultiAborted, match='operation 1, cas of "k", failed'):
        client.multi([Op.put(b"x", b"y"), Op.cas(b"k", b"other", b"new")])
    assert client.get(b"x") is None


def test_a_bulk_call_is_one_frame_and_each_command_stands_for_itself(
    cluster: StubCluster, client: Client
) -> None:
    client.put(b"t", b"text")
    results = client.bulk([Op.put(b"k", b"v"), Op.increment(b"t"), Op.get(b"k"), Op.delete(b"none")])
    assert [result.ok for result in results] == [True, False, True, True]
    assert [result.value for result in results] == [None, None, b"v", False]
    assert isinstance(results[1].error, OperationFailed)
    with pytest.raises(OperationFailed):
        results[1].unwrap()
    assert results[2].unwrap() == b"v"
    assert len(cluster.replicas[0].batches) == 2
    assert client.bulk([]) == []


def test_a_large_bulk_call_takes_several_frames(cluster: StubCluster, client: Client) -> None:
    results = client.bulk(Op.increment(b"n") for _ in range(2500))
    assert [result.value for result in results] == list(range(1, 2501))
    assert sorted(len(batch) for batch in cluster.batches()) == [500, 1000, 1000]


def test_a_refused_command_of_a_bulk_call_fails_alone(client: Client) -> None:
    results = client.bulk([Op.increment(b"n"), Op.put(b"k" * 70_000, b""), Op.increment(b"n")])
    assert [result.value for result in results] == [1, None, 2]
    assert isinstance(results[1].error, Refused)
    assert "alpha refused the command: key of 70000 bytes" in str(results[1].error)
    assert not results[1].error.may_have_executed


def test_status(client: Client) -> None:
    assert client.status() == Status(name="alpha", others={"asked": {"digest": False, "transactions": False}})
    assert client.status(digest=True, replica="charlie") == Status(
        name="charlie", others={"asked": {"digest": True, "transactions": False}}
    )
    with pytest.raises(ConfigError):
        client.status(replica="delta")


def test_wrong_arguments_are_told_at_once(cluster: StubCluster, client: Client) -> None:
    key: Any = "k"
    with pytest.raises(TypeError):
        client.get(key)
    with pytest.raises(Refused):
        client.put(b"", b"v")
    with pytest.raises(ValueError, match="timeout is -1"):
        client.get(b"k", timeout=-1)
    with pytest.raises(TypeError):
        client.bulk([key])
    assert cluster.batches() == []


def test_a_lost_answer_is_fetched_from_another_replica_and_executes_once(
    cluster: StubCluster, client: Client
) -> None:
    cluster.replicas[0].behave = lambda _: Act.MUTE
    assert client.increment(b"n", timeout=0.6) == 1
    first, second = cluster.batches()
    assert (first.client, first.first) == (second.client, second.first)
    assert client.increment(b"n") == 2
    assert cluster.executed() == 2


def test_busy_replicas_are_asked_again(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = once(Act.BUSY)
    client.put(b"k", b"v")
    assert cluster.executed() == 1


def test_always_busy_did_not_execute(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.BUSY
    told: Exception | None = None
    while not isinstance(told, Busy):  # a last try that a slow machine did not answer hides it
        with pytest.raises((Busy, NoAnswer)) as caught:
            client.put(b"k", b"v", timeout=0.3)
        told = caught.value
    assert not told.may_have_executed
    assert cluster.executed() == 0


def test_no_answer_says_that_it_may_have_executed(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.MUTE
    begun = monotonic()
    with pytest.raises(NoAnswer, match=r"no answer from alpha, bravo, charlie within 0.3 s") as caught:
        client.put(b"k", b"v", timeout=0.3)
    assert 0.3 <= monotonic() - begun < 4.0
    assert caught.value.may_have_executed
    assert cluster.executed() == 1


def test_a_dead_replica_costs_little(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].stop()
    begun = monotonic()
    client.put(b"k", b"v", timeout=9.0)
    assert monotonic() - begun < 2.5


def test_a_replica_that_dies_with_the_command_is_not_waited_for(cluster: StubCluster, client: Client) -> None:
    client.null()
    alpha = cluster.replicas[0]
    alpha.behave = lambda _: Act.MUTE
    killer = threading.Timer(0.1, alpha.stop)
    killer.start()
    begun = monotonic()
    assert client.increment(b"n", timeout=20.0) == 1
    assert monotonic() - begun < 5.0
    killer.join()


def test_a_replica_that_comes_back_is_used_again(cluster: StubCluster, client: Client) -> None:
    client.put(b"k", b"1")
    cluster.replicas[0].stop()
    client.put(b"k", b"2")
    cluster.revive(0)
    deadline = monotonic() + 5.0
    while not cluster.replicas[0].batches:
        assert monotonic() < deadline
        client.put(b"k", b"3")
        sleep(0.02)


def test_without_any_replica_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            Client(f"127.0.0.1:{unused.getsockname()[1]}", timeout=0.2) as client,
            pytest.raises(
                NoAnswer, match=r"could not be reached within 0\.2 s; the command was not sent"
            ) as caught,
        ):
            client.put(b"k", b"v")
    assert not caught.value.may_have_executed


def test_a_client_waits_for_a_replica_that_is_just_starting(cluster: StubCluster) -> None:
    cluster.replicas[1].stop()
    starter = threading.Timer(0.2, cluster.revive, [1])
    starter.start()
    with Client(f"127.0.0.1:{cluster.replicas[1].port}", timeout=5.0) as client:
        client.put(b"k", b"v")
    starter.join()


def test_another_cluster_is_refused(cluster: StubCluster) -> None:
    with StubCluster("other") as other:
        endpoints = [f"127.0.0.1:{replica.port}" for replica in other.replicas]
        with Client(endpoints, config=cluster.config) as client:
            with pytest.raises(Refused, match="cluster") as caught:
                client.put(b"k", b"v")
            assert not caught.value.may_have_executed
            with pytest.raises(Refused, match="cluster"):
                client.status()


def test_frames_that_are_none_of_the_protocol_do_no_harm(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].noise = (b"", b"EP", os.urandom(40))
    client.put(b"k", b"v")
    assert client.get(b"k") == b"v"


# Threads


def test_threads_share_a_client(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.005

    def work(_: int) -> list[int]:
        return [client.increment(b"n") for _ in range(25)]

    with ThreadPoolExecutor(16) as pool:
        numbers = sorted(number for numbers in pool.map(work, range(16)) for number in numbers)
    assert numbers == list(range(1, 401))
    assert len(cluster.batches()) < 400, "not one frame held the commands of two threads"


def test_threads_that_wait_cost_nothing(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.3
    used = []

    def work() -> None:
        begun = thread_time()
        client.null()
        used.append(thread_time() - begun)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(used) == 4
    assert max(used) < 0.05


def test_each_thread_has_its_own_time_limit(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda batch: Act.IGNORE if b"lost" in batch.keys else Act.ANSWER

    def call(timeout: float) -> float:
        begun = monotonic()
        with pytest.raises(NoAnswer):
            client.put(b"lost", b"", timeout=timeout)
        return monotonic() - begun

    with ThreadPoolExecutor(3) as pool:
        spans = list(pool.map(call, [2.0, 0.2, 1.0]))
    for span, timeout in zip(spans, [2.0, 0.2, 1.0], strict=True):
        assert timeout <= span < timeout + 0.7
    client.put(b"k", b"v")


def test_refusals_reach_the_thread_that_is_to_blame(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].delay = 0.02

    def call(index: int) -> bool:
        key = b"k" * 70_000 if index % 5 == 0 else b"k%d" % index
        try:
            client.put(key, b"v")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(call, range(40))) == [index % 5 != 0 for index in range(40)]


def test_a_command_too_large_for_a_frame_fails_only_its_thread(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].delay = 0.1
    huge = [Op.put(b"k", bytes(2**20))] * 40
    with ThreadPoolExecutor(3) as pool:
        before = pool.submit(client.null)
        call = pool.submit(client.multi, huge)
        after = pool.submit(client.null)
        with pytest.raises(Refused, match="a frame holds at most"):
            call.result()
        before.result()
        after.result()


def test_closing_ends_calls_of_other_threads(cluster: StubCluster) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.IGNORE
    client = Client(config=cluster.config)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.put, b"k", b"v", timeout=30.0) for _ in range(4)]
        while not cluster.batches():
            sleep(0.01)
        client.close()
        for call in calls:
            with pytest.raises(Closed):
                call.result(timeout=5.0)
    client.close()
    with pytest.raises(Closed) as caught:
        client.get(b"k")
    assert not caught.value.may_have_executed


def test_an_interrupted_call_leaves_the_client_usable(cluster: StubCluster, client: Client) -> None:
    acts = iter([Act.IGNORE])

    def behave(_: Batch) -> Act:
        if (act := next(acts, Act.ANSWER)) is Act.IGNORE:
            signal.setitimer(signal.ITIMER_REAL, 0.1)  # from when the command is there: the client waits
        return act

    cluster.replicas[0].behave = behave

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.put(b"k", b"v", timeout=30.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.put(b"k", b"v2")
    assert cluster.batches()[-1].acked == 2


def test_an_interrupted_driver_hands_over_to_a_waiting_thread(cluster: StubCluster, client: Client) -> None:
    client.null()
    alpha = cluster.replicas[0]
    alpha.delay = 0.4
    results: list[object] = []
    follower = threading.Thread(target=lambda: results.append(client.increment(b"n", timeout=10.0)))

    def behave(batch: Batch) -> Act:
        if b"lost" not in batch.keys:
            return Act.ANSWER
        if follower.ident is None:
            follower.start()
            signal.setitimer(signal.ITIMER_REAL, 0.25)  # the follower waits by then
        return Act.IGNORE

    alpha.behave = behave

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.put(b"lost", b"", timeout=30.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    follower.join(20.0)
    assert results == [1]


def test_a_forked_child_may_not_use_its_parents_session(client: Client) -> None:
    client.put(b"k", b"v")
    child = os.fork()
    if child == 0:
        try:
            client.get(b"k")
        except ClientError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert client.get(b"k") == b"v"


def test_closing_acknowledges_what_was_delivered(cluster: StubCluster) -> None:
    with Client(config=cluster.config) as client:
        client.put(b"k", b"v" * 1000)
        client.bulk([Op.get(b"k")] * 50)
    assert cluster.await_farewell().acked == 52
