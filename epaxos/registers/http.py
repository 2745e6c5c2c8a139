"""Nodes that ask each other by HTTP, and programs that ask them.

Each request has a path of its own (/prepare, /accept, …), with the bytes of `epaxos.transport.registers` as body. A
refusal is 409, with the ballot that stands in the way in its body. For programs there are /propose, in JSON, and
/status.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import socket
import threading
from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from epaxos.errors import (
    Busy,
    ConfigError,
    EpaxosError,
    FrameError,
    NoAnswer,
    OperationFailed,
    Refused,
    StorageError,
)
from epaxos.protocol.registers.values import Conflict
from epaxos.registers.changes import LIMITS, Change
from epaxos.registers.transport import Unreachable
from epaxos.transport.registers import decode, encode

if TYPE_CHECKING:
    from epaxos.registers.node import Node

PATHS: Final = ("Prepare", "Accept", "Peek", "Remove", "List", "Configure", "Scan", "Follow")
"""Requests between nodes; the path is the name in small letters."""

LARGEST: Final = 4 * LIMITS.value
"""Bytes of a body at most."""

STATUSES: Final[tuple[tuple[type[EpaxosError], HTTPStatus], ...]] = (
    (Refused, HTTPStatus.BAD_REQUEST),
    (FrameError, HTTPStatus.BAD_REQUEST),
    (OperationFailed, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (NoAnswer, HTTPStatus.GATEWAY_TIMEOUT),
)
"""How errors are told."""


class _Connections:
    """Connections that are kept for the next request, to one address."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self._free: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def exchange(self, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        """Status and body of an answer.

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
            connection.request(method, path, body)
            response = connection.getresponse()
            found = response.status, response.read()
        except BaseException:
            connection.close()
            raise
        self._free.put(connection)
        return found

    def close(self) -> None:
        while not self._free.empty():
            self._free.get().close()


class HttpTransport:
    """How a node asks others, by their `addresses`: host and port by number."""

    def __init__(self, addresses: Mapping[int, tuple[str, int]]) -> None:
        self._connections = {peer: _Connections(address) for peer, address in addresses.items()}

    def locate(self, peer: int, address: tuple[str, int], *, again: bool = False) -> None:
        """See `LocatingTransport`."""
        known = self._connections.get(peer)
        if known is None or (not again and known.address != address):
            self._connections[peer] = _Connections(address)

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """See `Transport`."""
        if peer not in self._connections:
            raise Unreachable(f"node {peer} has no address here")
        path = f"/{type(request).__name__.lower()}"
        try:
            status, body = self._connections[peer].exchange("POST", path, encode(request), timeout)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"node {peer}: {type(error).__name__}: {error}") from error
        if status not in (HTTPStatus.OK, HTTPStatus.CONFLICT):
            raise Unreachable(f"node {peer} answers {status}: {body[:200].decode(errors='replace')}")
        return decode(body)

    def close(self) -> None:
        """See `Transport`."""
        for connections in self._connections.values():
            connections.close()


# -- the server --------------------------------------------------------------------------------------------------


class HttpServer:
    """Answers for a node on `host` and `port`, in threads of its own, until it is closed.

    Raises:
        ConfigError: nobody can listen there.
    """

    def __init__(self, node: Node, host: str, port: int) -> None:
        import uvicorn  # noqa: PLC0415 - clients do without

        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise ConfigError(f"node {node.id} cannot listen on {host}:{port}: {error.strerror}") from error
        # What is accepted inherits it. Without it, an answer's body waits for the acknowledgement of its head, 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        settings = uvicorn.Config(_application(node), log_config=None, lifespan="off", access_log=False)
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


def _application(node: Node) -> Any:
    """The pages of a node."""
    from starlette.applications import Starlette  # noqa: PLC0415 - clients do without
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def body_of(request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                raise FrameError("oversized", f"a body may have {LARGEST} bytes")
        return bytes(body)

    async def asked(request: Request) -> Response:
        message = decode(await body_of(request))
        if request.url.path != f"/{type(message).__name__.lower()}":
            raise FrameError("malformed", f"{request.url.path} takes no {type(message).__name__}")
        answer = await run_in_threadpool(node.handle, message)
        status = HTTPStatus.CONFLICT if isinstance(answer, Conflict) else HTTPStatus.OK
        return Response(encode(answer), status, media_type="application/msgpack")

    async def propose(request: Request) -> Response:
        told = await run_in_threadpool(propose_json, node, await body_of(request))
        return JSONResponse(told)

    async def manage(request: Request) -> Response:
        body = await body_of(request)
        return JSONResponse(await run_in_threadpool(manage_json, node, request.url.path[1:], body))

    async def status(request: Request) -> Response:
        del request
        return JSONResponse(node.status())

    async def failed(request: Request, error: Exception) -> Response:
        del request
        code = next(code for kind, code in STATUSES if isinstance(error, kind))
        return JSONResponse({"error": str(error)}, code)

    routes = [Route(f"/{name.lower()}", asked, methods=["POST"]) for name in PATHS]
    routes.append(Route("/propose", propose, methods=["POST"]))
    routes += [Route(f"/{name}", manage, methods=["POST"]) for name in MANAGED]
    routes.append(Route("/status", status))
    return Starlette(routes=routes, exception_handlers={kind: failed for kind, _ in STATUSES})


def propose_json(node: Node, body: bytes) -> dict[str, Any]:
    """Propose what a program asks for: {"key", "change", "arguments": […], "once": [client, number], "timeout"}.

    Texts are taken as UTF-8; {"base64": "…"} stands for any bytes, in answers too.

    Raises:
        Refused: it is nothing of that kind; and what `Node.propose` raises.
    """
    try:
        asked = json.loads(body)
        key, name = bytes_of(asked["key"]), str(asked["change"])
        arguments = tuple(bytes_of(item) for item in asked.get("arguments", ()))
        once = None if asked.get("once") is None else (int(asked["once"][0]), int(asked["once"][1]))
        timeout = float(asked.get("timeout", 2.0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Refused(
            'a proposal is {"key": text, "change": name, "arguments": […], "once": [client, number], '
            '"timeout": seconds}'
        ) from error
    if not 0 < timeout <= 60:
        raise Refused(f"timeout is {timeout}; allowed: above 0, up to 60 seconds")
    reply = node.propose(key, Change(name, arguments), timeout, once=once)
    result = reply.result._asdict() if hasattr(reply.result, "_asdict") else {"result": reply.result}
    told = {"value": reply.value, **result, "attempts": reply.attempts, "trips": reply.trips}
    return {name: text_of(item) for name, item in told.items()}


MANAGED: Final = ("collect", "grow", "shrink", "connect")
"""What `manage_json` does, by the names of its pages."""


def manage_json(node: Node, what: str, body: bytes) -> dict[str, Any]:
    """Do what an operator asks for: {"acceptor", "gone": […], "timeout", "nodes": {id: [host, port]}}, all optional.

    Raises:
        Refused: it is nothing of that kind; and what `Node.collect`, `grow` and `shrink` raise.
    """
    try:
        asked = json.loads(body or b"{}")
        gone = [int(id_) for id_ in asked.get("gone", ())]
        timeout = float(asked.get("timeout", 60.0))
        acceptor = int(asked["acceptor"]) if what in ("grow", "shrink") else 0
        nodes = {int(id_): (str(host), int(port)) for id_, (host, port) in asked.get("nodes", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(
            '{"acceptor": id, "gone": [ids], "timeout": seconds, "nodes": {id: [host, port]}} is what is asked for'
        ) from error
    if what == "connect":
        node.locate({id_: address for id_, address in nodes.items() if id_ != node.id})
    elif what == "grow":
        node.grow(acceptor, timeout, gone)
    elif what == "shrink":
        node.shrink(acceptor, timeout, gone)
    else:
        return {"removed": node.collect(timeout, gone).removed}
    return {"acceptors": list(node.configuration.accept)}


def bytes_of(item: Any) -> Any:
    """An argument as JSON has it: text and {"base64": …} are bytes, whole numbers themselves, null is None."""
    if item is None or type(item) is int:
        return item
    if isinstance(item, dict):
        return base64.b64decode(item["base64"], validate=True)
    if isinstance(item, str):
        return item.encode()
    raise TypeError("allowed: text, a whole number, null, or an object with base64")


def text_of(item: Any) -> Any:
    """The same the other way round."""
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(item).decode()}


def ask_json(
    addresses: Mapping[int, tuple[str, int]], path: str, asked: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    """Ask one node after another until one answers; what it tells.

    Only a request that does no harm twice may be sent to a second node: a proposal needs `once`, or changes nothing.

    Raises:
        Refused, OperationFailed, Busy, NoAnswer, StorageError: as the node says.
    """
    troubles = defaultdict(list)
    for node, address in addresses.items():
        connections = _Connections(address)
        try:
            method = "GET" if path == "/status" else "POST"
            status, body = connections.exchange(method, path, json.dumps(asked).encode(), timeout)
            told: dict[str, Any] = json.loads(body)
        except (OSError, ValueError, http.client.HTTPException) as error:
            troubles[str(error) or type(error).__name__].append(f"{node} ({address[0]}:{address[1]})")
            continue
        finally:
            connections.close()
        if status == HTTPStatus.OK:
            return told
        kind = next((kind for kind, code in STATUSES if code == status and kind is not FrameError), NoAnswer)
        if kind in (Refused, OperationFailed):
            raise kind(told.get("error", f"status {status}"))
        troubles[told.get("error", f"status {status}")].append(str(node))
    text = "; ".join(f"node {', '.join(nodes)}: {trouble}" for trouble, nodes in troubles.items())
    raise NoAnswer(text or "there is no node to ask")
