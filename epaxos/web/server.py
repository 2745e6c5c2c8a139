"""The HTTP server of a replica: uvicorn in a thread of its own, and what any connection may take of it.

It shares a process with a replica, and its port may be reachable by anybody. So whatever a client does is bounded. A
connection begins in a place for pages and has a deadline as a whole: a timeout for each read
would let a client that sends a byte now and then stay for ever. With its first request to the API it moves to a place
there (`Connection.seat`), where it may ask again and again, each time for so long, and be idle for so long. So clients
of the API never keep probes and Prometheus out. Who finds no place gets a 503 straight away.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

Place: TypeAlias = Literal["page", "api", "stream"]
"""What a connection is there for; a stream is an answer that has no end of its own, or comes in many parts."""


class Limits(NamedTuple):
    """What connections may take.

    pages, api, streams  places of each kind
    deadline             seconds that a connection may take which only asks for pages
    idle                 seconds from one answer of the API to the next request, of which they are the last to come
    """

    pages: int = 256
    api: int = 256
    streams: int = 32
    deadline: float = 5.0
    idle: float = 60.0

    def of(self, place: Place) -> int:
        """How many places of a kind there are."""
        return {"page": self.pages, "api": self.api, "stream": self.streams}[place]


LIMITS: Final = Limits()

_BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
_CONNECTION: Final = "epaxos.connection"
"""Where a scope has the connection that its request came over."""

_log = logging.getLogger(__name__)

_THREAD: Final = "epaxos-pages"


class Server:
    """Serves an application until closed; running once made.

    Args:
        sockets: listening, one an address; closed with this.
        application: called in the thread of this server.
        beside: runs there too, until it is cancelled once no more is served.
        limits: what connections may take.
        certificate: PEM file of a certificate and its key, with which it speaks TLS.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        application: ASGIApp,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        *,
        limits: Limits = LIMITS,
        certificate: str = "",
    ) -> None:
        self.port: int = sockets[0].getsockname()[1]
        logging.getLogger("uvicorn.error").addFilter(_is_of_others)
        settings = uvicorn.Config(
            application,
            http=_bounded(limits),
            ssl_certfile=certificate or None,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(limits.idle),
            timeout_graceful_shutdown=0,
            backlog=2 * limits.pages,
        )
        self._server = _Server(settings, beside)
        self._thread = threading.Thread(
            target=self._server.run, args=(list(sockets),), name=_THREAD, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is being served; a second call does nothing."""
        self._server.end()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_of_others(record: logging.LogRecord) -> bool:
    """What clients do wrong is of no interest in a replica's log, and faults of a page are logged by it; but a program

    around the replica may have a uvicorn of its own.
    """
    return record.threadName != _THREAD


class _Server(uvicorn.Server):
    def __init__(
        self, settings: uvicorn.Config, beside: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        super().__init__(settings)
        self._beside = beside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = asyncio.Event()

    def end(self) -> None:
        """Serve no more; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ends.set)

    async def main_loop(self) -> None:
        """Date answers once a second, and end when told to.

        uvicorn's own looks ten times a second whether to end: a fifth of an idle replica's wake-ups.
        """
        self._loop = (
            asyncio.get_running_loop()
        )  # before the first look, which would miss an end told just now
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), 1.0)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_complain)
        task = None
        if self._beside is not None:
            task = asyncio.create_task(self._beside())
            task.add_done_callback(_tell_failure)
        try:
            await super().serve(sockets)
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("what runs beside the pages failed", exc_info=task.exception())


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Without descriptors nobody can be let in for a second; asyncio would say so again and again, at length."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        _log.debug("%s: %s", context["message"], error)
    else:
        loop.default_exception_handler(context)


class Connection(H11Protocol):
    """A connection in one of the places; one that found none is told so, and nothing that it sends is looked at."""

    limits: Limits
    taken: dict[Place, set[Connection]]
    """The places that are taken, of the whole server."""

    place: Place | None = None
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """It may take a place for pages."""
        self.transport = transport
        if not self._sit("page"):
            transport.write(_BUSY)
            transport.close()
            return
        self.cut_after(self.limits.deadline)
        # Not by the settings, which silence the logger of the whole process: the program around may serve too.
        self.access_log = False
        served = self.app

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            await served({**scope, _CONNECTION: self}, receive, send)

        self.app = enter
        super().connection_made(transport)

    def seat(self, place: Place, seconds: float) -> bool:
        """Take a place, to answer a request within so many seconds; returns whether there is one."""
        if self.place != place and not self._sit(place):
            return False
        self.cut_after(seconds)
        return True

    def _sit(self, place: Place) -> bool:
        if len(self.taken[place]) >= self.limits.of(place):
            return False
        self._leave()
        self.place = place
        self.taken[place].add(self)
        return True

    def _leave(self) -> None:
        if self.place is not None:
            self.taken[self.place].discard(self)

    def cut_after(self, seconds: float) -> None:
        """Give it so long from now on."""
        if self._cut is not None:
            self._cut.cancel()
        self._cut = self.loop.call_later(seconds, self.transport.abort)

    def on_response_complete(self) -> None:
        """Wait for the next request of a client of the API."""
        if self.place == "api":
            self.cut_after(self.limits.idle)
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Nothing, where it has no place."""
        if self.place is not None:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free its place."""
        if self.place is None:
            return
        self._leave()
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)


def connection_of(scope: Scope) -> Connection | None:
    """The connection that a request came over; None where it came in another way, as in a test."""
    found = scope.get(_CONNECTION)
    return found if isinstance(found, Connection) else None


def _bounded(most: Limits) -> type[asyncio.Protocol]:
    """Connections that share their places: uvicorn takes a class."""

    class Bounded(Connection):
        limits = most
        taken: dict[Place, set[Connection]] = {"page": set(), "api": set(), "stream": set()}  # noqa: RUF012

    return Bounded
