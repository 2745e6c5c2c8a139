"""The pages of a replica: ``/metrics``, and how it does, over HTTP in threads of their own.

They are for operators, but the port may be reachable by anybody, and they share a process with a replica.
So whatever a client does is bounded: one request a connection, a deadline for the whole of it (a timeout for
each read would let a client that sends a byte now and then stay for ever), and a limit on connections served
at once; those beyond it get a 503 straight away.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Final, NamedTuple, Self

from prometheus_client import CollectorRegistry, make_wsgi_app


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

_TEXT: Final = "text/plain; charset=utf-8"
_INDEX: Final = b"""<!DOCTYPE html>
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


class MetricsServer:
    """Serves a registry and a health check until closed; running once made.

    Args:
        sockets: listening, one an address; closed with this.
        registry: what ``/metrics`` shows.
        health: what ``/livez``, ``/readyz`` and ``/healthz`` show; called from the threads of the pages.
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
        pages = _Pages(registry, health)
        self.port: int = sockets[0].getsockname()[1]
        self._servers = [_Server(listening, pages, max_connections, deadline) for listening in sockets]
        self._threads = [
            threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening and cut what is being served; a second call does nothing."""
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
            server.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Page(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def _text_page(status: int, text: str) -> _Page:
    return _Page(status, [("Content-Type", _TEXT)], text.encode() + b"\n")


def _status(wrong: Sequence[str]) -> int:
    return HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK


def _probe(wrong: Sequence[str]) -> _Page:
    """What a probe is told: ok, or each reason on a line."""
    return _text_page(_status(wrong), "\n".join(wrong) or "ok")


class _Pages:
    """What there is to see, without the HTTP around it."""

    def __init__(self, registry: CollectorRegistry, health: Callable[[], Health]) -> None:
        self._metrics_app: Callable[..., list[bytes]] = make_wsgi_app(registry)
        self._health = health

    def find(self, target: str, accept: str, accept_encoding: str) -> _Page:
        """The page for the target of a request line."""
        path, _, query = target.partition("?")
        if path == "/metrics":
            return self._metrics(query, accept, accept_encoding)
        if path == "/livez":
            return _probe(self._health().dead)
        if path == "/readyz":
            return _probe(self._health().unready)
        if path == "/healthz":
            return self._healthz()
        if path == "/":
            return _Page(HTTPStatus.OK, [("Content-Type", "text/html; charset=utf-8")], _INDEX)
        return _text_page(HTTPStatus.NOT_FOUND, "not found; there are /metrics, /livez, /readyz and /healthz")

    def _metrics(self, query: str, accept: str, accept_encoding: str) -> _Page:
        """The registry in the format and compression that the client accepts.

        prometheus_client offers that negotiation as a WSGI application, which is a function like another.
        """
        status = ""
        headers: list[tuple[str, str]] = []

        def start_response(app_status: str, app_headers: list[tuple[str, str]]) -> None:
            nonlocal status
            status = app_status
            headers.extend(app_headers)

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": query,
            "HTTP_ACCEPT": accept,
            "HTTP_ACCEPT_ENCODING": accept_encoding,
        }
        body = b"".join(self._metrics_app(environ, start_response))
        return _Page(int(status.split(maxsplit=1)[0]), headers, body)

    def _healthz(self) -> _Page:
        dead, unready, facts = self._health()
        told = {"healthy": not unready, "live": not dead, "reasons": unready, **facts}
        body = json.dumps(told).encode() + b"\n"
        return _Page(_status(unready), [("Content-Type", "application/json")], body)


class _Server(ThreadingTCPServer):
    """A thread a connection, of which there are few and none for long.

    Not `http.server.HTTPServer`, which asks the name service for its own full name.
    """

    daemon_threads = True

    def __init__(
        self, listening: socket.socket, pages: _Pages, max_connections: int, deadline: float
    ) -> None:
        self.pages = pages
        self._max_connections = max_connections
        self._allowed = deadline
        self._deadlines: dict[Any, float] = {}  # by socket
        self._lock = threading.Lock()  # over _deadlines
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread, or turn it away."""
        with self._lock:
            full = len(self._deadlines) >= self._max_connections
            if not full:
                self._deadlines[request] = time.monotonic() + self._allowed
        if full:
            request.sendall(_BUSY)  # fits the empty buffer of a new connection: cannot block
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended, in whatever way."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by `serve_forever` between connections and twice a second."""
        self.cut(time.monotonic())

    def cut(self, now: float = float("inf")) -> None:
        """End the connections whose deadline has passed at `now`; their threads wake up and finish."""
        with self._lock:
            overdue = [request for request, deadline in self._deadlines.items() if deadline <= now]
        for request in overdue:
            with suppress(OSError):  # its thread, or the client, has closed it meanwhile
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handler ended with an exception; a client that went away is no news."""
        del request
        if isinstance(sys.exception(), OSError):
            _log.debug("metrics client %s went away", client_address)
        else:
            _log.exception("serving metrics to %s failed", client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET or HEAD; HTTP/1.0, so that a connection is one request."""

    server: _Server
    server_version = "epaxos"
    sys_version = ""

    def do_GET(self) -> None:
        self._send(self._find(), with_body=True)

    def do_HEAD(self) -> None:
        self._send(self._find(), with_body=False)

    def do_POST(self) -> None:
        page = _text_page(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
        page.headers.append(("Allow", "GET, HEAD"))
        self._send(page, with_body=True)

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815

    def _find(self) -> _Page:
        accept = self.headers.get("Accept", "")
        accept_encoding = self.headers.get("Accept-Encoding", "")
        try:
            return self.server.pages.find(self.path, accept, accept_encoding)
        except Exception:  # noqa: BLE001 - whatever a collector or the health check raises is answered
            _log.exception("making the page %r failed", self.path)
            return _text_page(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the log of the replica says why")

    def _send(self, page: _Page, *, with_body: bool) -> None:
        self.send_response(page.status)
        for name, value in page.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Requests are of no interest in the log of a replica unless somebody hunts for something."""
        _log.debug("%s: %r", self.address_string(), format % args)
