"""The pages of a replica for those who operate it: ``/metrics``, and how it does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from epaxos.metrics import Health


def page_routes(registry: CollectorRegistry, health: Callable[[], Health]) -> list[Route]:
    """The pages: what `registry` has, and what `health` says, which is called in the thread of the server."""

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

    return [Route(f"/{page.__name__}", page) for page in (metrics, livez, readyz, healthz)]


def _probe(wrong: Sequence[str]) -> Response:
    """What a probe is told: ok, or each reason on a line."""
    return text("\n".join(wrong) or "ok", _status(wrong))


def text(line: str, status: int) -> Response:
    """A page that is read by people."""
    return PlainTextResponse(f"{line}\n", status)


def _status(wrong: Sequence[str]) -> int:
    return HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
