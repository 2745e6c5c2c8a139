"""What clients do where a program forks, calls from a signal handler, runs out of descriptors, or asks for too much."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Any, NoReturn

import pytest
import zmq

from epaxos import AsyncClient, Busy, Client, ClientError, Closed, NoAnswer, Op
from epaxos.client.drivers.base import FORKED
from epaxos.client.drivers.wire import Wire
from stub_cluster import Act, StubCluster


@pytest.fixture
def cluster() -> Iterator[StubCluster]:
    with StubCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: StubCluster) -> Iterator[Client]:
    with Client(config=cluster.config, replica="alpha", timeout=5.0) as client:
        yield client


def descriptors() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def comes_true(condition: Callable[[], bool]) -> bool:
    """Within some seconds: the replicas of these tests hold ends of connections in this process."""
    deadline = monotonic() + 5.0
    while not condition():
        if monotonic() > deadline:
            return False
        sleep(0.01)
    return True


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20.0))


def outcome_in_child(program: Callable[[], None]) -> int:
    """Run `program` in a forked child: 0 if it returns, 7 if the client fails, 1 for anything else."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            program()
            code = 0
        except ClientError as error:
            code = 7 if FORKED in str(error) else 1
        finally:
            os._exit(code)
    return exit_code(child)


def exit_code(child: int) -> int:
    """How a child ends, within ten seconds."""
    deadline = monotonic() + 10.0
    while monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child did not end")


@contextmanager
def on_alarm(handler: Callable[[], object], after: float) -> Iterator[None]:
    """Have `handler` called as a signal handler once, `after` so many seconds."""

    def handle(_signal: int, _frame: object) -> None:
        handler()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """A system that gives this process `count` more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 20, hard))
    try:
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(count):
                os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Forks and copies


def test_a_child_may_not_use_an_async_client_of_its_parent(cluster: StubCluster) -> None:
    client = AsyncClient(config=cluster.config)  # as an application makes it that forks its workers later
    assert outcome_in_child(lambda: run(client.put(b"k", b"child"))) == 7
    assert outcome_in_child(lambda: run(client.close())) == 0

    async def own() -> None:
        async with AsyncClient(config=cluster.config) as another:
            assert await another.increment(b"n") == 1

    assert outcome_in_child(lambda: run(own())) == 0

    async def parent() -> None:
        assert await client.increment(b"n") == 2
        await client.close()

    run(parent())
    assert {key for batch in cluster.batches() for key in batch.keys} == {b"n"}


def test_a_child_that_goes_on_with_the_loop_is_not_kept_waiting(cluster: StubCluster) -> None:
    cluster.replicas[0].delay = 0.3

    async def main() -> None:
        async with AsyncClient(config=cluster.config, replica="alpha") as client:
            await client.null()
            call = asyncio.ensure_future(client.increment(b"n"))
            await asyncio.sleep(0.1)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    await call
                except NoAnswer as error:
                    await client.close()
                    code = 7 if FORKED in str(error) else 1
                finally:
                    os._exit(code)
            assert await asyncio.to_thread(exit_code, child) == 7
            assert await call == 1
            assert await client.increment(b"n") == 2

    run(main())


def test_forks_leave_the_calls_of_the_parent_alone(cluster: StubCluster, client: Client) -> None:
    stop = threading.Event()

    def work() -> list[int]:
        numbers = []
        while not stop.is_set():
            numbers.append(client.increment(b"n"))
        return numbers

    def child() -> None:
        with Client(config=cluster.config) as own:
            own.increment(b"of children")
        client.close()
        client.get(b"k")

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(work) for _ in range(3)]
        outcomes = {outcome_in_child(child) for _ in range(10)}
        stop.set()
        numbers = sorted(number for call in calls for number in call.result())
    assert outcomes == {7}
    assert numbers == list(range(1, len(numbers) + 1))
    assert client.get(b"of children") == b"10"


def test_a_fork_in_a_signal_handler_ends_the_call_in_the_child_alone(
    cluster: StubCluster, client: Client
) -> None:
    cluster.replicas[0].delay = 0.4
    children: list[int] = []
    with on_alarm(lambda: children.append(os.fork()), 0.1):
        try:
            assert client.increment(b"n") == 1
        except Closed:
            if children == [0]:
                os._exit(7)
            raise
        if children == [0]:
            os._exit(1)
    assert exit_code(children[0]) == 7
    assert client.increment(b"n") == 2


def test_children_of_multiprocessing_are_refused(client: Client) -> None:
    client.put(b"k", b"v")
    texts = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        try:
            client.get(b"k")
        except Closed as error:
            texts.put(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(10.0)
    assert process.exitcode == 0
    assert FORKED in texts.get()
    assert client.get(b"k") == b"v"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nothing_of_a_client_can_be_copied(
    duplicate: Callable[[object], object], cluster: StubCluster, client: Client
) -> None:
    client.put(b"k", b"v")
    asynchronous = AsyncClient(config=cluster.config)
    driver = client._driver
    session = driver._session
    for thing in (client, asynchronous, driver, session, session._ledger, session.submit(Op.null(), 0.0)):
        with pytest.raises(TypeError, match="can be neither copied nor pickled"):
            duplicate(thing)
    run(asynchronous.close())


# Calls on top of calls


@pytest.mark.parametrize("method", ["put", "bulk", "status", "failing"])
def test_a_signal_handler_may_call(cluster: StubCluster, client: Client, method: str) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.4
    seen: list[object] = []

    def handler() -> None:
        if method == "put":
            client.put(b"worker", b"stopped")
        elif method == "bulk":
            seen.extend(result.unwrap() for result in client.bulk([Op.increment(b"bulk")] * 3))
        elif method == "status":
            seen.append(client.status(replica="bravo").name)
        else:
            with pytest.raises(NoAnswer):
                client.put(b"k", b"v", timeout=0.01)

    with on_alarm(handler, 0.1):
        assert client.increment(b"n") == 1
    assert client.increment(b"n") == 2
    assert seen == {"bulk": [1, 2, 3], "status": ["bravo"]}.get(method, [])
    assert client.get(b"worker") == (b"stopped" if method == "put" else None)


def test_a_signal_handler_may_call_while_another_thread_drives(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].delay = 0.4
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        driving = pool.submit(client.increment, b"driver")
        sleep(0.1)
        with on_alarm(lambda: seen.append(client.increment(b"handler")), 0.1):
            assert client.increment(b"n") == 1
        assert driving.result(5.0) == 1
    assert seen == [1]


def test_a_signal_handler_may_close(cluster: StubCluster) -> None:
    cluster.replicas[0].behave = lambda _: Act.IGNORE
    before = len(descriptors())
    client = Client(config=cluster.config, replica="alpha", timeout=20.0)
    begun = monotonic()
    with on_alarm(client.close, 0.1), pytest.raises(Closed):
        client.put(b"k", b"v")
    assert monotonic() - begun < 10.0
    assert comes_true(lambda: len(descriptors()) <= before)
    with pytest.raises(Closed):
        client.get(b"k")


def test_a_signal_handler_that_raises_leaves_the_client_usable(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].behave = lambda batch: Act.IGNORE if b"lost" in batch.keys else Act.ANSWER

    def give_up() -> NoReturn:
        raise TimeoutError  # a kind of OSError, without a number

    with on_alarm(give_up, 0.1), pytest.raises(TimeoutError):
        client.put(b"lost", b"v", timeout=30.0)
    assert client.increment(b"n") == 1


def test_an_interrupt_while_a_socket_is_made_leaves_the_client_usable(client: Client) -> None:
    """Its context waits for all its sockets when it ends, also for one that only the traceback holds."""

    def interrupt(frame: FrameType, event: str, _argument: object) -> None:
        if event == "return" and frame.f_code is zmq.Socket.__init__.__code__:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.put(b"k", b"v")
    finally:
        sys.setprofile(None)
    assert client.increment(b"n") == 1


def test_signal_handlers_that_raise_anywhere_lose_nobodys_call(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is broken off: each call ends, and what is acknowledged has executed once."""
    # It may strike a finalizer, and then also the hook that pytest reports such errors by.
    monkeypatch.setattr(sys, "unraisablehook", lambda _error: None)

    class Interrupted(Exception):
        pass

    def interrupt(_signal: int, _frame: object) -> None:
        if armed:
            raise Interrupted

    armed = False
    acknowledged = broken = 0
    stop = threading.Event()

    def work() -> tuple[list[int], int]:
        numbers, failed = [], 0
        while not stop.is_set():
            try:
                numbers.append(client.increment(b"n"))
            except NoAnswer as error:
                failed += error.may_have_executed
        return numbers, failed

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(2) as pool:
            workers = [pool.submit(work) for _ in range(2)]
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            numbers = []
            deadline = monotonic() + 2.0
            while monotonic() < deadline:
                try:
                    armed = True
                    numbers.append(client.increment(b"n"))
                    armed = False
                except (Interrupted, NoAnswer):
                    armed = False
                    broken += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            stop.set()
            others = [worker.result(10.0) for worker in workers]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    told = [*numbers, *(number for part, _ in others for number in part)]
    acknowledged = len(told)
    assert broken > 3
    assert acknowledged > 3
    assert len(set(told)) == acknowledged
    total = client.increment(b"n", 0)
    assert acknowledged <= total <= acknowledged + broken + sum(failed for _, failed in others)


@pytest.mark.parametrize("step", ["_hand_over", "_promote", "_release", "_begin_anew"])
def test_a_driver_that_is_broken_off_at_its_worst_keeps_nobody_waiting(
    cluster: StubCluster, client: Client, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it hands over, or after it has named its successor and before that is told, and so on."""
    client.null()
    cluster.replicas[0].delay = 0.3
    driver = client._driver
    plain = getattr(driver, step)
    interrupts = [KeyboardInterrupt()]

    def broken_off(*arguments: Any) -> object:
        if step == "_promote":
            plain(*arguments)
        if step == "_release":
            driver._followers.pop(arguments[0], None)
        if interrupts:
            raise interrupts.pop()
        return None if step == "_promote" else plain(*arguments)

    if step == "_begin_anew":
        monkeypatch.setattr(Wire, "pump", fail_once(RuntimeError("boom")))
    monkeypatch.setattr(driver, step, broken_off)
    with ThreadPoolExecutor(3) as pool:
        calls = []
        for _ in range(3):
            calls.append(pool.submit(client.increment, b"n"))
            sleep(0.05)
        ends = [call.exception(5.0) for call in calls]
    assert not interrupts
    assert all(isinstance(end, NoAnswer | KeyboardInterrupt | None) for end in ends)
    begun = monotonic()
    assert client.increment(b"n") <= 4
    assert monotonic() - begun < 4.0


def test_a_close_that_is_broken_off_is_gone_on_with(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.null()
    wire = client._driver._wire
    plain, interrupts = wire._unwatch, [KeyboardInterrupt()]

    def broken_off(descriptor: int) -> None:
        plain(descriptor)
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(wire, "_unwatch", broken_off)
    client._driver._at_work = True  # as in the middle of a turn: the next call begins anew
    with pytest.raises(KeyboardInterrupt):
        wire.close(farewell=False)
    assert client.increment(b"n") == 1


def test_a_finalizer_may_call(cluster: StubCluster, client: Client) -> None:
    cluster.replicas[0].delay = 0.2
    seen: list[int] = []

    class Leaving:
        def __del__(self) -> None:
            seen.append(client.increment(b"n"))

    def callback(phase: str, _: object) -> None:
        if phase == "start" and len(seen) < 2:
            seen.append(client.increment(b"n"))

    def collect() -> None:
        one, other = Leaving(), Leaving()
        one.partner, other.partner = other, one  # type: ignore[attr-defined]
        del one, other
        gc.collect()

    gc.callbacks.append(callback)
    try:
        with on_alarm(collect, 0.1):
            client.put(b"k", b"v")
    finally:
        gc.callbacks.remove(callback)
    assert len(seen) >= 3
    assert sorted(seen) == list(range(1, len(seen) + 1))


# Failures of the system and of the client itself


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_without_descriptors_calls_fail_in_time_and_say_why(cluster: StubCluster, left: int) -> None:
    """From two to four left, libzmq would abort the process."""

    def judge(error: BaseException | None) -> None:
        if error is not None:
            assert isinstance(error, NoAnswer)
            assert not error.may_have_executed
            assert "Too many open files" in str(error)
        else:
            assert left > 5

    async def asynchronous() -> None:
        client = AsyncClient(config=cluster.config, timeout=0.3)
        with descriptors_left(left):
            (error,) = await asyncio.gather(client.put(b"k", b"v"), return_exceptions=True)
        judge(error)
        await client.put(b"k", b"v", timeout=5.0)
        await client.close()

    def main() -> None:
        client = Client(config=cluster.config, timeout=0.3)
        with descriptors_left(left):
            result = client.bulk([Op.put(b"k", b"v")])[0]
        judge(result.error)
        client.put(b"k", b"v", timeout=5.0)
        client.close()
        run(asynchronous())

    begun = monotonic()
    assert outcome_in_child(main) == 0
    assert monotonic() - begun < 5.0


def test_without_descriptors_no_client_is_made(cluster: StubCluster) -> None:
    def main() -> None:
        with (
            descriptors_left(1),
            pytest.raises(ClientError, match="no client can be made: Too many open files"),
        ):
            Client(config=cluster.config)

    assert outcome_in_child(main) == 0


def test_the_programs_own_sockets_take_no_room_from_a_client(client: Client) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    context.set(zmq.MAX_SOCKETS, 2)
    sockets: list[zmq.Socket[bytes]] = []
    try:
        sockets += [context.socket(zmq.DEALER), context.socket(zmq.DEALER)]
        with pytest.raises(zmq.ZMQError):
            context.socket(zmq.DEALER)
        client.put(b"k", b"v")
    finally:
        for socket in sockets:
            socket.close(linger=0)
        context.term()


def test_clients_that_are_dropped_leave_nothing(cluster: StubCluster) -> None:
    def nothing_left() -> bool:
        gc.collect()
        return len(descriptors()) <= before[0] and threads() <= before[1]

    before = len(descriptors()), threads()
    for _ in range(20):
        Client(config=cluster.config).put(b"k", b"v")
    assert comes_true(nothing_left)

    async def main() -> None:
        for _ in range(20):
            await AsyncClient(config=cluster.config).put(b"k", b"v")
        for _ in range(50):
            gc.collect()
            await asyncio.sleep(0.05)
            if len(descriptors()) <= before[0] + 5 and threads() <= before[1]:  # five are the loop's own
                return
        raise AssertionError

    run(main())


def fail_once(error: Exception) -> Callable[..., bool]:
    """In place of `Wire.pump`: raises once."""
    pump = Wire.pump
    errors = [error]

    def failing(wire: Wire[Any], now: float) -> bool:
        if errors and wire._session._ledger.flights:
            raise errors.pop()
        return pump(wire, now)

    return failing


def test_a_turn_that_fails_ends_the_calls_and_the_client_goes_on(
    cluster: StubCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.null()
    cluster.replicas[0].delay = 0.2
    monkeypatch.setattr(Wire, "pump", fail_once(RuntimeError("boom")))
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(client.increment, b"n") for _ in range(3)]
        errors = [call.exception(5.0) for call in calls]
    assert all(isinstance(error, NoAnswer | None) for error in errors)
    told = [error for error in errors if isinstance(error, NoAnswer)]
    assert told
    assert all("the client failed: RuntimeError: boom" in str(error) for error in told)
    doubtful = sum(error.may_have_executed for error in told)
    assert 1 <= client.increment(b"n") <= 4 - len(told) + doubtful


def test_a_turn_of_the_loop_that_fails_ends_the_calls_and_the_client_goes_on(
    cluster: StubCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.replicas[0].delay = 0.1

    async def main() -> None:
        async with AsyncClient(config=cluster.config, replica="alpha") as client:
            await client.null()
            monkeypatch.setattr(Wire, "pump", fail_once(RuntimeError("boom")))
            calls = [client.increment(b"n"), client.status(), client.bulk([Op.put(b"k", b"v")] * 3)]
            number, status, bulk = await asyncio.gather(*calls, return_exceptions=True)
            for error in (number, status):
                assert isinstance(error, NoAnswer)
                assert "the client failed: RuntimeError: boom" in str(error)
            assert isinstance(bulk, list)
            assert all(isinstance(result.error, NoAnswer) for result in bulk)
            assert await client.increment(b"n") in {1, 2}

    run(main())


def test_a_poller_that_fails_ends_the_call(client: Client) -> None:
    class Poller:
        def register(self, *_: object) -> None: ...

        def unregister(self, _: object) -> None: ...

        def poll(self, _: object) -> NoReturn:
            raise OSError(22, "Invalid argument")

    client._driver._poller = Poller()  # type: ignore[assignment]
    with pytest.raises(NoAnswer, match=r"the client failed: OSError: \[Errno 22\] Invalid argument"):
        client.put(b"k", b"v")
    client._driver._poller = select.poll()
    client._driver._watch(client._driver._bell.fileno())
    client._driver._start_over("a new poller", ())
    client.put(b"k", b"v")


@pytest.mark.parametrize("call", ["connect", "recv", "send"])
def test_what_zeromq_refuses_is_trouble_with_one_replica(
    cluster: StubCluster, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(zmq.Socket, call)
    bad = f"tcp://127.0.0.1:{cluster.replicas[0].port}"

    def failing(socket: zmq.Socket[bytes], *arguments: Any, **options: Any) -> Any:
        known = socket.getsockopt(zmq.LAST_ENDPOINT) if socket.type == zmq.DEALER else b""
        assert isinstance(known, bytes)
        if bad in (known.rstrip(b"\0").decode(), *arguments):
            raise zmq.ZMQError(zmq.ETERM)
        return plain(socket, *arguments, **options)

    monkeypatch.setattr(zmq.Socket, call, failing)
    with Client(config=cluster.config, replica="alpha", timeout=3.0) as client:
        client.put(b"k", b"v")
        for replica in cluster.replicas[1:]:
            replica.stop()
        give_up = monotonic() + 10
        told = ""  # the first may find the others before they are known to be gone
        while not told or (call != "recv" and "alpha: Context was terminated" not in told):
            with pytest.raises(NoAnswer) as caught:
                client.get(b"k", timeout=0.5)
            told = str(caught.value)
            assert monotonic() < give_up, told


# Large calls


def test_a_bulk_call_keeps_its_time_and_says_what_became_of_each_command(
    cluster: StubCluster, client: Client
) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.5
    client.null()
    operations = [
        Op.put(b"%d" % number, b"v") if number % 2 else Op.get(b"%d" % number) for number in range(100_000)
    ]
    begun = monotonic()
    results = client.bulk(operations, timeout=2.0)
    assert 1.9 < monotonic() - begun < 20.0
    done = [result.ok for result in results]
    doubtful = [result.error is not None and result.error.may_have_executed for result in results]
    assert any(done)
    assert not all(done)
    sleep(0.6)  # what is on its way arrives
    seen = {key for batch in cluster.batches() for key in batch.keys}
    for position, (operation, result) in enumerate(zip(operations, results, strict=True)):
        if operation.key not in seen:
            assert not done[position]
            assert not doubtful[position]
            assert "was not sent within 2 s" in str(result.error)
        elif result.error is not None:
            assert doubtful[position] == (position % 2 == 1)
            assert ("may have executed" in str(result.error)) == (position % 2 == 1)


def test_a_bulk_call_leaves_room_for_others(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.3
    client.null()
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(client.bulk, [Op.put(b"k", b"v")] * 100_000, timeout=4.0)
        sleep(0.5)
        begun = monotonic()
        client.get(b"other")
        assert monotonic() - begun < 3.0
        assert not large.done()
        large.result(10.0)


def test_a_bulk_call_does_not_flood_a_silent_replica(cluster: StubCluster) -> None:
    cluster.replicas[0].behave = lambda _: Act.IGNORE
    endpoint = f"127.0.0.1:{cluster.replicas[0].port}"
    with Client(endpoint, timeout=0.6, tries=1) as client:
        results = client.bulk([Op.put(b"k", b"v")] * 100_000)
    assert len(cluster.replicas[0].batches) <= 5  # its last frame included
    assert sum(result.error is not None and result.error.may_have_executed for result in results) <= 5000
    assert not any(result.ok for result in results)


def test_a_bulk_call_tells_the_true_reason(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.BUSY
    results = client.bulk([Op.put(b"k", b"v")] * 20_000, timeout=0.5)
    assert any(isinstance(result.error, Busy) for result in results)
    assert all(isinstance(result.error, Busy | NoAnswer) for result in results)
    assert not any("could not be reached" in str(result.error) for result in results)
    for replica in cluster.replicas:
        replica.stop()
    results = client.bulk([Op.put(b"k", b"v")] * 20_000, timeout=0.5)
    assert {str(result.error) for result in results} == {
        "alpha, bravo, charlie could not be reached within 0.5 s; the command was not sent"
    }


def test_a_bulk_call_that_is_closed_or_cancelled_sends_no_more(cluster: StubCluster) -> None:
    for replica in cluster.replicas:
        replica.delay = 0.2
    operations = [Op.put(b"k", b"v")] * 50_000

    async def main() -> None:
        client = AsyncClient(config=cluster.config)
        call = asyncio.ensure_future(client.bulk(operations))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.sleep(0.5)
        assert len(cluster.batches()) <= 4
        closed = asyncio.ensure_future(client.bulk(operations))
        await asyncio.sleep(0.1)
        await client.close()
        results = await closed
        assert all(isinstance(result.error, Closed) for result in results)
        assert sum(result.error is not None and result.error.may_have_executed for result in results) <= 4000

    run(main())


def test_a_read_without_answer_is_not_said_to_have_executed(cluster: StubCluster, client: Client) -> None:
    for replica in cluster.replicas:
        replica.behave = lambda _: Act.IGNORE
    reads: list[Callable[[], object]] = [
        lambda: client.get(b"k", timeout=0.1),
        lambda: client.null(timeout=0.1),
        lambda: client.multi([Op.get(b"a"), Op.get(b"b")], timeout=0.1),
    ]
    for read in reads:
        with pytest.raises(NoAnswer, match=r"^no answer from .* within 0\.1 s$") as caught:
            read()
        assert not caught.value.may_have_executed
    told = [result.error for result in client.bulk([Op.get(b"k"), Op.put(b"k", b"v")], timeout=0.1)]
    assert [error and error.may_have_executed for error in told] == [False, True]
    with pytest.raises(NoAnswer, match="may have executed") as caught:
        client.multi([Op.get(b"a"), Op.put(b"b", b"")], timeout=0.1)
    assert caught.value.may_have_executed
