"""A proxy between replicas: one link for each direction of each pair, which can be stopped, closed, slowed and mended.

A replica connects to each of its peers and sends on that connection only; all that comes back on it are ZeroMQ's
greetings and refusals. So the connection that alpha opens to bravo *is* the direction from alpha to bravo, and
a link carries or holds both directions of its bytes.

The file of a replica tells where each first member is to be reached, so every pair of those has a port of its own.
One that joins tells all others the same place: that of a `Porch`, which sees by the connection who it is that comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Final

import psutil

HOST: Final = "127.0.0.1"

CHUNK: Final = 64 * 1024
"""Bytes taken from a connection at a time."""

HELD: Final = 64
"""Chunks that a direction of a connection holds at most; beyond them the sender has to wait."""


class Link:
    """Carries what `sender` sends to `receiver`, whichever ports that listens on.

    `delay` (seconds) is added to the way of every byte. `carried` counts bytes. What is done to it may be done several
    times, by faults that overlap, and lasts until it was undone as often.
    """

    def __init__(self, sender: str, receiver: str) -> None:
        self.sender = sender
        self.receiver = receiver
        self.delay = 0.0
        self.carried = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._stopped = 0
        self._severed = 0
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, target: int) -> int:
        """Listen for what is meant for the port `target`, on a port that the system chooses; which it is."""
        if target not in self._servers:

            async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self.connect(reader, writer, target)

            self._servers[target] = await asyncio.start_server(connect, HOST, 0)
        return _port(self._servers[target])

    async def close(self) -> None:
        """Listen no more, and end all connections."""
        for server in self._servers.values():
            server.close()
        self._end_connections()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stop(self) -> None:
        """Hold all bytes, with the connections left as they are: to both ends the other one is silent."""
        self._stopped += 1
        self._flows.clear()

    def flow(self) -> None:
        """Undo `stop`: carry bytes again; those that were held go first."""
        self._stopped -= 1
        if not self._stopped:
            self._flows.set()

    def sever(self) -> None:
        """End the connections, and every new one at once; what was under way is lost."""
        self._severed += 1
        self._end_connections()

    def splice(self) -> None:
        """Undo `sever`: let connections be made again."""
        self._severed -= 1

    def _end_connections(self) -> None:
        for connection in self._connections:
            connection.cancel()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """Carry what a connection brings to the port `target`, until one side ends."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._severed:
                await self._join(reader, writer, target)
        except (OSError, asyncio.CancelledError):
            pass  # the receiver is not there, or the link is severed: both look to the sender like this
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """Connect to the receiver and carry bytes both ways until one side ends."""
        far_reader, far_writer = await asyncio.open_connection(HOST, target)
        ways = [
            asyncio.ensure_future(self._carry(*way)) for way in ((reader, far_writer), (far_reader, writer))
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bring bytes from `reader` to `writer` until there are no more."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD)
        taking = asyncio.ensure_future(_take(reader, held))
        try:
            with suppress(OSError):
                await self._give(held, writer)
        finally:
            taking.cancel()

    async def _give(self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            came, data = await held.get()
            if self.delay:
                await asyncio.sleep(came + self.delay - loop.time())
            await self._flows.wait()
            if not data:
                return
            self.carried += len(data)
            writer.write(data)
            await writer.drain()


async def _take(reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
    """Put what `reader` brings, with the time it came, into `held`; an empty one stands for the end."""
    loop = asyncio.get_running_loop()
    data = b"."
    while data:
        try:
            data = await reader.read(CHUNK)
        except OSError:
            data = b""
        await held.put((loop.time(), data))


class Porch:
    """Where one that joins is reached by all: hands each connection to the link of who has made it.

    `link_of` is asked with the port from which a connection comes; None ends that.
    """

    def __init__(self, target: int, link_of: Callable[[int], Awaitable[Link | None]]) -> None:
        self._target = target
        self._link_of = link_of
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listen, on a port that the system chooses; which it is."""
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, HOST, 0)
        return _port(self._server)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = await self._link_of(writer.get_extra_info("peername")[1])
        if link is None:
            writer.transport.abort()
        else:
            await link.connect(reader, writer, self._target)


class Callers:
    """Finds out which process has made a connection, by the port from which it comes.

    The system has to be asked for all connections of a process, which takes milliseconds: not in the thread that
    carries the bytes of all links, and once for all who came before.
    """

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._asked = -inf
        self._found: dict[int, str] = {}

    async def find(self, port: int, processes: Callable[[], Mapping[str, int]]) -> str | None:
        """Which of the `processes`, ids by name, has an end of a connection at a port of this machine."""
        clock = asyncio.get_running_loop().time
        came = clock()
        async with self._asking:
            if self._asked <= came:
                self._asked = clock()
                self._found = await asyncio.to_thread(_ports_of, processes())
        return self._found.get(port)


def _ports_of(processes: Mapping[str, int]) -> dict[int, str]:
    """The ports of this machine at which processes have ends of connections, with their names."""
    found = {}
    for name, pid in processes.items():
        with suppress(psutil.Error):  # it has just ended
            ends = psutil.Process(pid).net_connections("tcp4")
            found.update({end.laddr.port: name for end in ends})
    return found


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
