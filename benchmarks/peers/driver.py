"""A load by a system's own Python client: `driver KIND PORTS CLIENTS WINDOW SECONDS` prints a sample as JSON.

Each client has `WINDOW` commands under way and issues the next when one is answered. The latency of a command counts
from its sending; those that go together count together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from epaxos.bench.histogram import Latencies

VALUE: Final = b"12345678"
WARMUP: Final = 0.3
PATIENCE: Final = 30.0

Command = Callable[[int], Awaitable[int]]
"""Does what belongs to one number, and says how many commands that was."""


class Watch:
    """Counts the commands that are answered between the end of the warm-up and the end."""

    def __init__(self, seconds: float) -> None:
        self.latencies = Latencies()
        self.begin = time.perf_counter() + WARMUP
        self.end = self.begin + seconds
        self._last = self.begin
        self._cpu = time.process_time()
        self._all = 0

    def note(self, sent: float, count: int = 1) -> bool:
        """So many commands that were sent then are answered now; whether to go on."""
        now = time.perf_counter()
        self._all += count
        if self.begin <= sent and now <= self.end:
            self.latencies.record(round((now - sent) * 1e9), count)
            self._last = now
        return now < self.end

    def sample(self) -> dict[str, float]:
        """What was measured; `operations` are all commands, those of the warm-up included."""
        shown = self.latencies.summary()
        return {
            "operations": float(self._all),
            "throughput": self.latencies.count / max(1e-9, self._last - self.begin),
            "p50": shown["p50"] or 0.0,
            "p99": shown["p99"] or 0.0,
            "client": (time.process_time() - self._cpu) * 1e6 / max(1, self._all),
        }


async def repeat(command: Command, number: int, watch: Watch) -> None:
    """One command after another."""
    going = True
    while going:
        sent = time.perf_counter()
        going = watch.note(sent, await command(number))
        number += 1


async def in_tasks(commands: Sequence[Command], seconds: float) -> Watch:
    """As many commands under way as there are in the list."""
    watch = Watch(seconds)
    await asyncio.gather(*(repeat(command, 7919 * at, watch) for at, command in enumerate(commands)))
    return watch


async def etcd(ports: Sequence[int], clients: int, window: int, seconds: float) -> Watch:
    """A channel a member, which clients share in turn."""
    import aetcd  # noqa: PLC0415 optional

    async with AsyncExitStack() as stack:
        made = [aetcd.Client(host="127.0.0.1", port=port) for port in ports]
        members: list[Any] = [await stack.enter_async_context(member) for member in made]

        def command(member: Any) -> Command:
            async def put(number: int) -> int:
                await member.put(b"%08d" % (number % 10_000), VALUE)
                return 1

            return put

        await command(members[0])(0)
        return await in_tasks(
            [command(members[at % len(members)]) for at in range(clients * window)], seconds
        )


async def redis(ports: Sequence[int], clients: int, window: int, seconds: float) -> Watch:
    """A connection a client; a pipeline of SETs, and one WAIT for them."""
    from redis.asyncio import Redis  # noqa: PLC0415 optional

    async with AsyncExitStack() as stack:
        made = [Redis(port=ports[0], single_connection_client=True) for _ in range(clients)]
        connections: list[Any] = [await stack.enter_async_context(connection) for connection in made]

        def command(connection: Any) -> Command:
            async def put(number: int) -> int:
                async with connection.pipeline(transaction=False) as pipe:
                    for key in range(number, number + window):
                        pipe.set(b"%08d" % (key % 10_000), VALUE)
                    pipe.wait(1, 1000)
                    answers = await pipe.execute()
                if answers[-1] < 1:
                    raise RuntimeError("no replica has it after a second")
                return window

            return put

        end = time.monotonic() + PATIENCE
        while await connections[0].wait(2, 100) < 2:
            if time.monotonic() > end:
                raise RuntimeError("the replicas do not come")
            await connections[0].set("probe", VALUE)
        await command(connections[0])(0)
        return await in_tasks([command(connection) for connection in connections], seconds)


async def nats(ports: Sequence[int], clients: int, window: int, seconds: float) -> Watch:
    """At most 64 connections, over the servers in turn."""
    from nats import connect  # noqa: PLC0415 optional
    from nats.errors import Error  # noqa: PLC0415
    from nats.js.api import KeyValueConfig, StorageType  # noqa: PLC0415

    count = min(clients * window, 64)
    connections = [await connect(f"nats://127.0.0.1:{ports[at % len(ports)]}") for at in range(count)]
    config = KeyValueConfig(bucket="peers", replicas=3, storage=StorageType.MEMORY)
    end = time.monotonic() + PATIENCE
    while True:  # until the servers have found one another
        try:
            await connections[0].jetstream().create_key_value(config)
            break
        except Error:  # time-outs among them
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.3)
    buckets = [await connection.jetstream(timeout=PATIENCE).key_value("peers") for connection in connections]

    def command(bucket: Any) -> Command:
        async def put(number: int) -> int:
            await bucket.put(f"{number % 10_000:08d}", VALUE)
            return 1

        return put

    watch = await in_tasks([command(buckets[at % count]) for at in range(clients * window)], seconds)
    for connection in connections:
        await connection.close()
    return watch


def zookeeper(ports: Sequence[int], clients: int, window: int, seconds: float) -> Watch:
    """Sessions that share the commands under way; each answer issues the next command in its session's thread."""
    from kazoo.client import KazooClient  # noqa: PLC0415 optional
    from kazoo.exceptions import NodeExistsError  # noqa: PLC0415

    count = min(clients, 9)
    sessions = [KazooClient(f"127.0.0.1:{ports[at % len(ports)]}", timeout=PATIENCE) for at in range(count)]
    for session in sessions:
        session.start(timeout=PATIENCE)
    with contextlib.suppress(NodeExistsError):
        sessions[0].create("/peers")
        for made in [sessions[0].create_async(f"/peers/{number}") for number in range(1000)]:
            made.get(timeout=PATIENCE)
    watch = Watch(seconds)
    under_way = threading.Semaphore(0)

    def issue(session: Any, number: int) -> None:
        sent = time.perf_counter()

        def answered(result: Any) -> None:
            result.get_nowait()
            if watch.note(sent):
                issue(session, number + 1)
            else:
                under_way.release()

        session.set_async(f"/peers/{number % 1000}", VALUE).rawlink(answered)

    for at in range(clients * window):
        issue(sessions[at % count], 79 * at)
    for _ in range(clients * window):
        if not under_way.acquire(timeout=seconds + PATIENCE):
            raise RuntimeError("commands are not answered")
    for session in sessions:
        session.stop()
        session.close()
    return watch


def pysyncobj(ports: Sequence[int], clients: int, window: int, seconds: float) -> dict[str, float]:
    """Tell the replicated processes to load themselves; their samples together."""
    shares = [len(range(at, clients * window, len(ports))) for at in range(len(ports))]
    asked = []
    for port, share in zip(ports, shares, strict=True):
        connection = socket.create_connection(("127.0.0.1", port), timeout=seconds + PATIENCE)
        connection.sendall(f"{share} {seconds}\n".encode())
        asked.append(connection.makefile())
    found = [json.loads(line) for line in (file.readline() for file in asked)]
    loaded = [some for some in found if some["throughput"]] or found
    return {
        "operations": sum(some["operations"] for some in found),
        "throughput": sum(some["throughput"] for some in loaded),
        "p50": sorted(some["p50"] for some in loaded)[len(loaded) // 2],
        "p99": max(some["p99"] for some in loaded),
    }


def main(kind: str, ports: str, clients: str, window: str, seconds: str) -> None:
    """Load, and print what was measured."""
    given = ([int(port) for port in ports.split(",")], int(clients), int(window), float(seconds))
    if kind == "pysyncobj":
        sample = pysyncobj(*given)
    elif kind == "zookeeper":
        sample = zookeeper(*given).sample()
    else:
        sample = asyncio.run({"etcd": etcd, "redis": redis, "nats": nats}[kind](*given)).sample()
    print(json.dumps(sample))


if __name__ == "__main__":
    main(*sys.argv[1:])
