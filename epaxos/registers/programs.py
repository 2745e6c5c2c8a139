"""What programs ask of nodes, in JSON, whichever way it comes.

Texts are taken as UTF-8; {"base64": "…"} stands for any bytes, in answers too.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from epaxos.client.results import CasResult
from epaxos.errors import (
    Busy,
    Denied,
    EpaxosError,
    FrameError,
    NoAnswer,
    OperationFailed,
    Refused,
    StorageError,
)
from epaxos.registers.changes import Change
from epaxos.security.rights import EVERYTHING, Rights
from epaxos.statemachine.operations import Operation

if TYPE_CHECKING:
    from epaxos.registers.node import Node

_log: Final = logging.getLogger(__name__)

Address: TypeAlias = "tuple[str, int]"
"""Host and port."""

Exchange: TypeAlias = Callable[[int, Address, str, bytes, float], "tuple[int, bytes]"]
"""Takes a path and a body to a node, by its number and address, and brings status and body of its answer.

Raises `OSError` if there is none.
"""

MANAGED: Final = ("/collect", "/grow", "/shrink", "/connect")
"""What an operator asks for, by path."""

PAGES: Final = ("/propose", *MANAGED, "/status")

STATUSES: Final[tuple[tuple[type[EpaxosError], HTTPStatus], ...]] = (
    (Refused, HTTPStatus.BAD_REQUEST),
    (Denied, HTTPStatus.FORBIDDEN),
    (FrameError, HTTPStatus.BAD_REQUEST),
    (OperationFailed, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (NoAnswer, HTTPStatus.GATEWAY_TIMEOUT),
)
"""How errors are told."""


def answer(node: Node, path: str, body: bytes, rights: Rights = EVERYTHING) -> tuple[HTTPStatus, bytes]:
    """Status and JSON of what a program, which has these rights, asks a node for, under one of the `PAGES`."""
    try:
        if path == "/status":
            told = node.status()
        elif path == "/propose":
            told = _propose(node, body, rights)
        else:
            told = _manage(node, path, body, rights)
        return HTTPStatus.OK, json.dumps(told).encode()
    except EpaxosError as error:
        if isinstance(error, Denied):
            node.count("refused: denied")
        return status_of(error), told_of(error)
    except Exception as error:  # noqa: BLE001 - a program is told, and its node goes on
        _log.exception("node %s, %s", node.id, path)
        return HTTPStatus.GATEWAY_TIMEOUT, told_of(error)


def told_of(error: Exception) -> bytes:
    """An error in JSON."""
    text = str(error) if isinstance(error, EpaxosError) else f"{type(error).__name__}: {error}"
    return json.dumps({"error": text}).encode()


def status_of(error: EpaxosError) -> HTTPStatus:
    """How an error is told; what is none of the kinds that users know says nothing of what has happened."""
    return next((code for kind, code in STATUSES if isinstance(error, kind)), HTTPStatus.GATEWAY_TIMEOUT)


def _propose(node: Node, body: bytes, rights: Rights) -> dict[str, Any]:
    """Propose: {"key", "change", "arguments": […], "once": [client, number], "timeout"}."""
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
    # A function of a program's own may come to anything, so each needs what a write needs.
    operation = Operation.READ if name == "get" else Operation.WRITE
    rights.check(bytes((operation,)), (key,), None)
    reply = node.propose(key, Change(name, arguments), timeout, once=once)
    swap = reply.result if isinstance(reply.result, CasResult) else None
    result = {"result": reply.result} if swap is None else {"swapped": swap.swapped, "current": swap.current}
    told = {"value": reply.value, **result, "attempts": reply.attempts, "trips": reply.trips}
    return {name: text_of(item) for name, item in told.items()}


def _manage(node: Node, path: str, body: bytes, rights: Rights) -> dict[str, Any]:
    """Do what an operator asks for: {"acceptor", "gone": […], "timeout", "nodes": {id: [host, port]}}, all optional."""
    if path not in MANAGED:
        raise Refused(f"there is no {path[:40]}; allowed: {', '.join(PAGES)}")
    rights.check_everything(path)
    try:
        asked = json.loads(body or b"{}")
        gone = [int(id_) for id_ in asked.get("gone", ())]
        timeout = float(asked.get("timeout", 60.0))
        acceptor = int(asked["acceptor"]) if path in ("/grow", "/shrink") else 0
        nodes = {int(id_): (str(host), int(port)) for id_, (host, port) in asked.get("nodes", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(
            '{"acceptor": id, "gone": [ids], "timeout": seconds, "nodes": {id: [host, port]}} is what is asked for'
        ) from error
    if path == "/connect":
        node.locate({id_: address for id_, address in nodes.items() if id_ != node.id})
    elif path == "/grow":
        node.grow(acceptor, timeout, gone)
    elif path == "/shrink":
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


def ask(
    nodes: Mapping[int, Address], exchange: Exchange, path: str, asked: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    """Ask one node after another until one answers; what it tells.

    Only a request that does no harm twice may be sent to a second node: a proposal needs `once`, or changes nothing.

    Raises:
        Refused, OperationFailed, NoAnswer: as the node says.
    """
    troubles = defaultdict(list)
    for node, address in nodes.items():
        try:
            status, body = exchange(node, address, path, json.dumps(asked).encode(), timeout)
            told: dict[str, Any] = json.loads(body)
        except (OSError, ValueError) as error:
            troubles[str(error) or type(error).__name__].append(f"{node} ({address[0]}:{address[1]})")
            continue
        if status == HTTPStatus.OK:
            return told
        text = told.get("error", f"status {status}")
        if status == HTTPStatus.FORBIDDEN:
            raise Refused(text)
        for kind in (Refused, OperationFailed):
            if (kind, status) in STATUSES:
                raise kind(text)
        troubles[text].append(str(node))
    text = "; ".join(f"node {', '.join(nodes)}: {trouble}" for trouble, nodes in troubles.items())
    raise NoAnswer(text or "there is no node to ask")
