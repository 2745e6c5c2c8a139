"""What a replica serves over HTTP: its pages and its API, in a thread of their own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from http import HTTPStatus
from time import monotonic
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from epaxos.actors.assembly import limits_of
from epaxos.actors.health import examine
from epaxos.actors.porter import PAGES, Failures
from epaxos.actors.process import Inside
from epaxos.metrics import make_registry
from epaxos.security.tokens import Tokens
from epaxos.web.api.problems import NO_METHOD, NO_PAGE, Problem
from epaxos.web.api.routes import Api
from epaxos.web.api.store import Store
from epaxos.web.hosts import Hosts
from epaxos.web.live import Live
from epaxos.web.pages import page_routes, text
from epaxos.web.server import LIMITS, Limits, Server

_log = logging.getLogger(__name__)

_API: Final = "/v1/"


def open_pages(inside: Inside, sockets: Sequence[socket.socket]) -> Server:
    """Serve the pages and the API of a replica until closed; `sockets` listen, and are closed with it."""
    config, name, parts, standing, gate, access = inside
    registry = make_registry(parts.stats, name)
    store = Store(gate, config, limits_of(config))
    api, live = Api(config, name, parts.stats, store, lambda: parts.configuration), Live(inside, store)
    pages = page_routes(registry, lambda: examine(config, standing, parts.stats))

    async def beside() -> None:
        try:
            await live.run()
        finally:
            store.close()

    served: ASGIApp = application([*live.routes(), *pages, *api.routes()])
    if access is None:
        served = Hosts(served, config)
    else:
        failures = Failures(parts.stats)  # of one thread, as the Replica's are of another
        served = Tokens(served, access, lambda address: failures.note("token", PAGES, address, monotonic()))
    return Server(sockets, served, beside, certificate=config.security.certificate)


def application(routes: Sequence[Route]) -> Starlette:
    """Routes, and what is said of all else."""
    handlers = {404: _missing, 405: _no_method, 500: _failed}
    made = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]  # of narrower errors
    made.router.redirect_slashes = False
    return made


async def _missing(request: Request, _: Exception) -> Response:
    if request.scope["path"].startswith(_API):
        return Problem(NO_PAGE, "not found; /v1/openapi.json has all there are").response()
    return text("not found; there are /metrics, /livez, /readyz, /healthz and /v1/", HTTPStatus.NOT_FOUND)


async def _no_method(request: Request, error: HTTPException) -> Response:
    allowed = dict(error.headers or {})
    if request.scope["path"].startswith(_API):
        response = Problem(NO_METHOD, f"allowed: {allowed.get('Allow', '')}").response()
    else:
        response = text("method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
    response.headers.update(allowed)
    return response


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("making the page %s failed", request.scope["path"], exc_info=error)
    return text("failed; the log of the replica says why", HTTPStatus.INTERNAL_SERVER_ERROR)


__all__ = ["LIMITS", "Limits", "Server", "application", "open_pages"]
