"""Nodes that ask each other by HTTP, and programs that ask them.

Each request has a path of its own (/prepare, /accept, …), with the bytes of `epaxos.transport.registers` as body. A
refusal is 409, with the ballot that stands in the way in its body. Headers say who asks, whom, and who answers
(`epaxos.registers.identity`). For programs there are the pages of `epaxos.registers.programs`, in JSON. Where nodes
have keys they ask each other over ZeroMQ alone, and programs here name a token.
"""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Collection, Mapping
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from epaxos.errors import ConfigError, EpaxosError, FrameError
from epaxos.protocol.registers.values import Conflict
from epaxos.registers.changes import LIMITS
from epaxos.registers.guard import PORT, Counts, check_listening
from epaxos.registers.programs import PAGES, STATUSES, Address, answer, status_of, told_of
from epaxos.registers.transport import Unreachable
from epaxos.security.access import Access
from epaxos.security.rights import EVERYTHING
from epaxos.transport.registers import decode, encode, malformed

if TYPE_CHECKING:
    from epaxos.registers.node import Node

PATHS: Final = ("Prepare", "Accept", "Peek", "Remove", "List", "Configure", "Scan", "Follow")
"""Requests between nodes; the path is the name in small letters."""

SENDER: Final = "Registers-From"
"""A header: number and incarnation of the node that asks, or answers."""

ADDRESSEE: Final = "Registers-To"
"""A header: the incarnation that is asked; 0 or nothing is any."""

_JSON: Final = "application/json"

LARGEST: Final = 4 * LIMITS.value
"""Bytes of a body at most."""


class _Connections:
    """Connections that are kept for the next request, to one address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._free: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def exchange(
        self, method: str, path: str, body: bytes, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str]:
        """Status, body and sender of an answer.

        Raises:
            OSError, http.client.HTTPException: there is none.
        """
        try:
            connection = self._free.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(*self.address)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            found = response.status, response.read(), response.headers.get(SENDER, "")
        except BaseException:
            connection.close()
            raise
        self._free.put(connection)
        return found

    def close(self) -> None:
        while not self._free.empty():
            self._free.get().close()


class HttpTransport:
    """How a node asks others, by their `addresses`: host and port by number. One that belongs to none only reads."""

    def __init__(self, addresses: Mapping[int, Address]) -> None:
        self._connections = {peer: _Connections(address) for peer, address in addresses.items()}
        self._node: Node | None = None

    def belongs_to(self, node: Node) -> None:
        """See `NamedTransport`."""
        self._node = node

    def locate(self, peer: int, address: Address, *, again: bool = False) -> None:
        """See `LocatingTransport`."""
        known = self._connections.get(peer)
        if known is None or (not again and known.address != address):
            self._connections[peer] = _Connections(address)

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """See `Transport`."""
        if peer not in self._connections:
            raise Unreachable(f"node {peer} has no address here")
        headers = {}
        if self._node is not None:
            own = self._node.identity
            headers = {SENDER: f"{own.id}/{own.incarnation}", ADDRESSEE: f"{own.known(peer)}"}
        path = f"/{type(request).__name__.lower()}"
        try:
            status, body, sender = self._connections[peer].exchange(
                "POST", path, encode(request), timeout, headers
            )
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"node {peer}: {type(error).__name__}: {error}") from error
        if self._node is not None and sender:
            self._node.identity.recognise(peer, _sender(sender)[1])
        if status not in (HTTPStatus.OK, HTTPStatus.CONFLICT):
            raise Unreachable(f"node {peer} answers {status}: {body[:200].decode(errors='replace')}")
        if self._node is not None and not sender:
            malformed(f"node {peer} does not say who it is")
        return decode(body)

    def close(self) -> None:
        """See `Transport`."""
        for connections in self._connections.values():
            connections.close()


def exchange(_: int, address: Address, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    """See `programs.Exchange`."""
    connections = _Connections(address)
    try:
        method = "GET" if path == "/status" else "POST"
        return connections.exchange(method, path, body, timeout, {})[:2]
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connections.close()


def _sender(header: str) -> tuple[int | None, int]:
    """Number and incarnation of a node; None and 0 of somebody who is none."""
    if not header:
        return None, 0
    id_, _, incarnation = header.partition("/")
    if not (id_.isdecimal() and incarnation.isdecimal()) or len(header) > 40:
        malformed(f"{header[:40]!r} names no node")
    return int(id_), int(incarnation)


# -- the server --------------------------------------------------------------------------------------------------


class HttpServer:
    """Answers for a node on `host` and `port`, in threads of its own, until it is closed.

    access       the lists of who comes in, by token: programs alone then; None where nobody is asked
    certificate  PEM file of a certificate and its key, with which it speaks TLS
    insecure     that no stranger can reach it, though others than this machine do

    Raises:
        ConfigError: nobody can listen there, or strangers could come in.
    """

    def __init__(
        self,
        node: Node,
        host: str,
        port: int,
        access: Access | None = None,
        *,
        certificate: str = "",
        insecure: bool = False,
    ) -> None:
        import uvicorn  # noqa: PLC0415 - clients do without

        check_listening(node.id, host, access, insecure=insecure)
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise ConfigError(f"node {node.id} cannot listen on {host}:{port}: {error.strerror}") from error
        # What is accepted inherits it. Without it, an answer's body waits for the acknowledgement of its head, 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        settings = uvicorn.Config(
            _application(node) if access is None else _guarded(node, access),
            ssl_certfile=certificate or None,
            log_config=None,
            lifespan="off",
            access_log=False,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="registers-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _guarded(node: Node, access: Access) -> Any:
    """The pages for programs, for those who name a token."""
    from epaxos.actors.porter import Failures  # noqa: PLC0415 - clients do without
    from epaxos.security.tokens import Tokens  # noqa: PLC0415

    failures = Failures(Counts(node))  # of one thread, as those of the other socket are of another
    pages = _application(node, PAGES)
    return Tokens(pages, access, lambda address: failures.note("token", PORT, address, monotonic()), ())


def _application(node: Node, only: Collection[str] = ()) -> Any:
    """The pages of a node, or some of them."""
    from starlette.applications import Starlette  # noqa: PLC0415 - clients do without
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def body_of(request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                raise FrameError("oversized", f"a body may have {LARGEST} bytes")
        return bytes(body)

    own = {SENDER: f"{node.id}/{node.incarnation}"}

    def handled(path: str, sender: str, addressee: str, body: bytes) -> Any:
        try:
            message = decode(body)
            if path != f"/{type(message).__name__.lower()}":
                malformed(f"{path} takes no {type(message).__name__}")
            whom = int(addressee) if addressee.isdecimal() and len(addressee) <= 20 else -1
            node.identity.admit(*_sender(sender), whom, message)
        except FrameError as error:
            node.count(f"refused: {error.kind}")
            raise
        return node.handle(message)

    async def asked(request: Request) -> Response:
        headers = request.headers
        body = await body_of(request)
        found = await run_in_threadpool(
            handled, request.url.path, headers.get(SENDER, ""), headers.get(ADDRESSEE, "0"), body
        )
        status = HTTPStatus.CONFLICT if isinstance(found, Conflict) else HTTPStatus.OK
        return Response(encode(found), status, own, media_type="application/msgpack")

    async def page(request: Request) -> Response:
        rights = getattr(request.state, "rights", EVERYTHING)
        status, told = await run_in_threadpool(answer, node, request.url.path, await body_of(request), rights)
        return Response(told, status, media_type=_JSON)

    async def failed(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, EpaxosError)
        return Response(told_of(error), status_of(error), own, media_type=_JSON)

    routes = [Route(f"/{name.lower()}", asked, methods=["POST"]) for name in PATHS]
    routes += [Route(path, page, methods=["GET" if path == "/status" else "POST"]) for path in PAGES]
    routes = [route for route in routes if not only or route.path in only]
    return Starlette(routes=routes, exception_handlers={kind: failed for kind, _ in STATUSES})
