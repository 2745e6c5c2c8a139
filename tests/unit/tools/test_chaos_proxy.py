"""Links carry bytes, and hold, lose or delay them when they are told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping

import pytest

from chaos import proxy as chaos_proxy
from chaos.proxy import HOST, Callers, Link, Porch

SHORT = 0.05


class Line:
    """A link, what its sender writes to, and what its receiver has got; an `echo` of each line goes back."""

    def __init__(self) -> None:
        self.got = b""
        self.link = Link("alpha", "bravo")
        self.target = self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._receive, HOST, 0)
        self.target = self._server.sockets[0].getsockname()[1]
        self.port = await self.link.open(self.target)
        await self.connect()

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(HOST, self.port)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            self.got += data
            writer.write(data)
        writer.close()

    async def ask(self, data: bytes) -> bytes:
        """What comes back; nothing where the connection ends, in order or not."""
        try:
            self.writer.write(data)
            return await asyncio.wait_for(self.reader.read(1000), 5)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        await self.link.close()
        self._server.close()
        self.writer.transport.abort()


def run(test: Callable[[Line], Awaitable[None]]) -> None:
    async def body() -> None:
        line = Line()
        await line.open()
        try:
            await test(line)
        finally:
            await line.close()

    asyncio.run(body())


def test_bytes_are_carried_both_ways() -> None:
    async def test(line: Line) -> None:
        assert await line.ask(b"hello") == b"hello"
        assert line.link.carried == 10

    run(test)


def test_stopped_link_holds_bytes_until_it_flows() -> None:
    async def test(line: Line) -> None:
        await line.ask(b"a")
        line.link.stop()
        line.link.stop()
        line.writer.write(b"b")
        line.link.flow()
        await asyncio.sleep(SHORT)
        assert line.got == b"a"
        line.link.flow()
        assert await line.ask(b"") == b"b"

    run(test)


def test_what_a_stopped_link_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_proxy, "HELD", 2)

    async def test(line: Line) -> None:
        line.link.stop()
        for _ in range(2000):
            line.writer.write(bytes(chaos_proxy.CHUNK))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.writer.drain(), 4 * SHORT)

    run(test)


def test_severed_link_ends_its_connections_and_new_ones() -> None:
    async def test(line: Line) -> None:
        await line.ask(b"a")
        line.link.sever()
        assert await line.ask(b"b") == b""
        await line.connect()
        assert await line.ask(b"c") == b""
        line.link.splice()
        await line.connect()
        assert await line.ask(b"d") == b"d"
        assert line.got == b"ad"

    run(test)


def test_delay_is_added_to_both_ways() -> None:
    async def test(line: Line) -> None:
        line.link.delay = SHORT
        before = asyncio.get_running_loop().time()
        assert await line.ask(b"a") == b"a"
        assert asyncio.get_running_loop().time() - before >= 2 * SHORT

    run(test)


def test_receiver_that_is_not_there_looks_like_a_connection_that_ends() -> None:
    async def test(line: Line) -> None:
        line._server.close()
        await line.connect()
        assert await line.ask(b"a") == b""

    run(test)


def test_who_comes_to_a_porch_goes_on_by_a_link_and_strangers_do_not() -> None:
    async def test(line: Line) -> None:
        came: list[int] = []

        async def link_of(port: int) -> Link | None:
            came.append(port)
            return line.link if len(came) == 1 else None

        porch = Porch(line.target, link_of)
        line.port = await porch.open()
        await line.connect()
        assert await line.ask(b"a") == b"a"
        assert came == [line.writer.get_extra_info("sockname")[1]]
        line.link.sever()
        assert await line.ask(b"b") == b""
        await line.connect()
        assert await line.ask(b"c") == b""
        porch.close()

    run(test)


def test_whose_a_connection_is_the_system_tells_once_for_all_who_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    ask = chaos_proxy._ports_of

    def ports_of(processes: Mapping[str, int]) -> dict[int, str]:
        asked.append(processes)
        return ask(processes)

    async def test(line: Line) -> None:
        callers, processes = Callers(), {"alpha": os.getpid()}
        ports = [line.writer.get_extra_info("sockname")[1], line.target, 1]
        found = await asyncio.gather(*(callers.find(port, lambda: processes) for port in ports))
        assert found == ["alpha", "alpha", None]
        assert len(asked) == 2  # for the first, and then for those who came meanwhile
        processes.clear()
        assert await callers.find(ports[0], lambda: processes) is None

    monkeypatch.setattr(chaos_proxy, "_ports_of", ports_of)
    run(test)
