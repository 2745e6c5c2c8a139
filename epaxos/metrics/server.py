"""The pages of a replica: ``/metrics``, and how it does, over HTTP in a thread of their own.

They are for operators, but the port may be reachable by anybody, and they share a process with a replica.
So whatever a client does is bounded: a deadline for the whole of a connection (a timeout for each read would let a
client that sends a byte now and then stay for ever), and a limit on connections served at once; those beyond it get a
503 straight away.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol


class Health(NamedTuple):
    """How a replica does.

    dead     why it does not live, a line each; such a process should be started again
    unready  why it cannot serve clients; what is dead is not ready either
    facts    what else JSON shall tell
    """

    dead: Sequence[str]
    unready: Sequence[str]
    facts: Mapping[str, object]


MAX_CONNECTIONS: Final = 8
DEADLINE: Final = 5.0
"""Seconds that a connection may take; Prometheus gives up after ten by default."""

_INDEX: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>epaxos</title></head>
<body><h1>epaxos</h1>
<p><a href="/metrics">metrics</a> for Prometheus</p>
<p><a href="/readyz">readiness</a>: whether this replica can serve, and why not</p>
<p><a href="/healthz">health</a>: the same, and more, as JSON</p>
<p><a href="/livez">liveness</a>: whether its process should be left alone</p>
</body></html>
"""
_BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)

_THREAD: Final = "epaxos-pages"


class MetricsServer:
    """Serves a registry and a health check until closed; running once made.

    Args:
        sockets: listening, one an address; closed with this.
        registry: what ``/metrics`` shows.
        health: what ``/livez``, ``/readyz`` and ``/healthz`` show; called from the thread of the pages.
        max_connections: connections served at once.
        deadline: seconds that one of them may take.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        registry: CollectorRegistry,
        health: Callable[[], Health],
        *,
        max_connections: int = MAX_CONNECTIONS,
        deadline: float = DEADLINE,
    ) -> None:
        self.port: int = sockets[0].getsockname()[1]
        logging.getLogger("uvicorn.error").addFilter(_is_of_others)
        settings = uvicorn.Config(
            _application(registry, health),
            http=_bounded(max_connections, deadline),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=0,
            backlog=2 * max_connections,
        )
        self._server = _Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, args=(list(sockets),), name=_THREAD, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is being served; a second call does nothing."""
        self._server.should_exit = True
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
    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_complain)
        await super().serve(sockets)


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Without descriptors nobody can be let in for a second; asyncio would say so again and again, at length."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        _log.debug("%s: %s", context["message"], error)
    else:
        loop.default_exception_handler(context)


def _bounded(most: int, deadline: float) -> type[asyncio.Protocol]:
    """HTTP for `most` connections at once, each for `deadline` seconds."""
    served: set[asyncio.Protocol] = set()

    class Bounded(H11Protocol):
        """A connection; one too many is told so, and nothing that it sends is looked at."""

        def connection_made(self, transport: Any) -> None:
            if len(served) >= most:
                transport.write(_BUSY)
                transport.close()
                return
            served.add(self)
            self._cut = asyncio.get_running_loop().call_later(deadline, transport.abort)
            # Not by the settings, which silence the logger of the whole process: the program around may serve too.
            self.access_log = False
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if self in served:
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self in served:
                served.remove(self)
                self._cut.cancel()
                super().connection_lost(exc)

    return Bounded


def _application(registry: CollectorRegistry, health: Callable[[], Health]) -> Starlette:
    """The pages."""

    async def index(_: Request) -> Response:
        return HTMLResponse(_INDEX)

    async def metrics(request: Request) -> Response:
        chosen = request.query_params.getlist("name[]")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(registry.restricted_registry(chosen) if chosen else registry)
        headers = {"Content-Type": content_type}
        if gzip_accepted(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"], body = "gzip", gzip.compress(body)
        return Response(body, headers=headers)

    async def livez(_: Request) -> Response:
        return _probe(health().dead)

    async def readyz(_: Request) -> Response:
        return _probe(health().unready)

    async def healthz(_: Request) -> Response:
        dead, unready, facts = health()
        told = {"healthy": not unready, "live": not dead, "reasons": unready, **facts}
        return Response(json.dumps(told) + "\n", _status(unready), media_type="application/json")

    async def missing(_: Request, __: Exception) -> Response:
        return _text("not found; there are /metrics, /livez, /readyz and /healthz", HTTPStatus.NOT_FOUND)

    async def failed(request: Request, error: Exception) -> Response:
        _log.error("making the page %s failed", request.url.path, exc_info=error)
        return _text("failed; the log of the replica says why", HTTPStatus.INTERNAL_SERVER_ERROR)

    routes = [Route(f"/{page.__name__}", page) for page in (metrics, livez, readyz, healthz)]
    found = Starlette(routes=[Route("/", index), *routes], exception_handlers={404: missing, 500: failed})
    found.router.redirect_slashes = False
    return found


def _probe(wrong: Sequence[str]) -> Response:
    """What a probe is told: ok, or each reason on a line."""
    return _text("\n".join(wrong) or "ok", _status(wrong))


def _text(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status)


def _status(wrong: Sequence[str]) -> int:
    return HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
