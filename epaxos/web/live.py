"""The page to look at, and what keeps it up to date: server-sent events, one a second."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from epaxos.actors.health import examine
from epaxos.actors.process import Inside
from epaxos.errors import ClientError
from epaxos.protocol.membership import called
from epaxos.security.tokens import rights_now
from epaxos.web.api.problems import BUSY, Problem
from epaxos.web.api.store import Store
from epaxos.web.roster import list_members
from epaxos.web.sampler import Sample, Sampler
from epaxos.web.server import connection_of
from epaxos.web.waiting import ASKED_FOR, Waiting

_log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two samples."""

STUCK: Final = 2.0
"""Seconds for which an instance waits until it is shown: at least two samples saw it."""

_SENDING: Final = 30.0
"""Seconds in which an event must leave."""

_ANSWERING: Final = 2.0
"""Seconds after which a replica that does not answer is shown as one that does not."""

_FILES: Final = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Nothing from elsewhere, nothing to be framed by others; the drawing brings its own style along.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class Live:
    """What the page of a replica shows; `run` keeps it up to date."""

    def __init__(self, inside: Inside, store: Store) -> None:
        self._inside = inside
        self._store = store
        stats = inside.parts.stats
        self._sampler = Sampler(stats)
        self._waiting = Waiting()
        self._told: Mapping[str, Any] | None = None
        self._watched = 0
        self._tick = asyncio.Event()

    def routes(self) -> list[Route]:
        """The page, what it needs, and its events."""
        pages = files(__package__).joinpath("static")
        bodies = {path: pages.joinpath(name).read_bytes() for path, name in _FILES.items()}

        async def page(request: Request) -> Response:
            path = request.scope["path"]
            kind = _TYPES[_FILES[path].rpartition(".")[2]]
            return Response(bodies[path], headers=_HEADERS, media_type=kind)

        async def graph(_: Request) -> Response:
            rows = len(self._inside.parts.stats.rows)
            drawn = self._waiting.draw(self._waiting.stuck(time.time(), STUCK), rows)
            return Response(drawn, headers=_HEADERS, media_type="image/svg+xml")

        events = Route("/live", _Events(self), methods=["GET"])
        return [*(Route(path, page) for path in _FILES), Route("/waiting.svg", graph), events]

    async def run(self) -> None:
        """Take a sample each second, and tell those who watch."""
        asking: asyncio.Task[None] | None = None
        while True:
            self._sampler.take(time.time(), self._health())
            if self._watched and (asking is None or asking.done()):
                asking = asyncio.create_task(self._ask())
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()
            await asyncio.sleep(INTERVAL)

    async def _ask(self) -> None:
        """Ask the replica itself; while it is stuck, what it said last is not shown any longer."""
        try:
            async with asyncio.timeout(_ANSWERING):
                told = await self._store.told(waiting=ASKED_FOR)
        except (ClientError, TimeoutError):
            self._told = None
        else:
            self._told = told
            self._waiting.look(told["waiting"], time.time())

    def _health(self) -> Any:
        config, _, parts, standing, *_ = self._inside
        return examine(config, standing, parts.stats)

    async def wait(self) -> None:
        """Until there is news."""
        await self._tick.wait()

    def watch(self, change: int) -> None:
        """One more watches, or one fewer."""
        self._watched += change

    def everything(self) -> dict[str, Any]:
        """What a page is told that has just been opened."""
        return {"fields": Sample._fields, "samples": list(self._sampler.samples), **self.news()}

    def news(self) -> dict[str, Any]:
        """What it is told each second."""
        samples = self._sampler.samples
        return {
            "sample": samples[-1] if samples else None,
            "changes": [change._asdict() for change in self._sampler.changes],
            "replica": self._replica(),
            "members": self._members(),
            "observers": self._observers(),
            "waiting": self._stuck(),
        }

    def _replica(self) -> dict[str, Any]:
        config, name, parts, *_ = self._inside
        health, stats, told = self._health(), parts.stats, self._told or {}
        return {
            "name": name,
            "cluster": config.name,
            "protocol": stats.protocol,
            "version": health.facts["version"],
            "epoch": stats.epoch,
            "level": stats.level,
            "quorum": stats.quorum,
            "dead": list(health.dead),
            "reasons": list(health.unready),
            "answers": self._told is not None,
            "uptime": told.get("uptime_s"),
            "leader": told.get("leader"),
            "keys": stats.gauges.keys,
            "sessions": stats.gauges.sessions,
            "behind": sum(
                max(0, seen - executed)
                for seen, executed in zip(told.get("seen", ()), told.get("executed", ()), strict=True)
            ),
            "commits": dict(stats.commits.copy()),
            "catch_up": told.get("catch_up"),
            "storage": self._storage(told),
        }

    def _storage(self, told: Mapping[str, Any]) -> dict[str, Any]:
        config, name, parts, standing, *_ = self._inside
        stats = parts.stats
        place = config.storage.directory_of(name)
        free = total = None
        if config.storage.engine != "memory":
            with suppress(OSError):
                usage = shutil.disk_usage(place)
                free, total = usage.free, usage.total
        last = stats.checkpointed_at
        return {
            "engine": config.storage.engine,
            "sync": config.storage.sync,
            "bytes": stats.storage_bytes,
            "free": free,
            "total": total,
            "failed": standing.trouble or None,
            "refused": told.get("checkpoint_refused"),
            "checkpoint_age": None if last is None else time.monotonic() - last,
        }

    def _members(self) -> list[dict[str, Any]]:
        config, _, parts, *_ = self._inside
        told = (self._told or {}).get("peers", {})
        members = list_members(config, parts.configuration, parts.stats)
        return [member | told.get(member["id"], {}) for member in members]

    def _observers(self) -> list[dict[str, Any]]:
        """Who has no vote: this replica, with how old its state may be, or those that follow here."""
        told = self._told or {}
        if told.get("observes"):
            return [{"name": self._inside.name, "self": True, "heard": True, "age": told["age_s"]}]
        return [
            {"name": called(observer), "self": False, "heard": one["online"], "behind": one["behind"]}
            for observer, one in told.get("observers", {}).items()
        ]

    def _stuck(self) -> dict[str, Any]:
        now = time.time()
        stuck = self._waiting.stuck(now, STUCK) if self._told is not None else []
        return {
            "stuck": len(stuck),
            "longest": self._waiting.oldest(now) if stuck else 0.0,
            "graph": [[*place] for place in stuck],
        }


class _Events:
    """The events of a page, until it is closed, or may not be seen any more; an ASGI application."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an event each second, the first one with all that is known."""
        connection = connection_of(scope)
        if connection is not None and not connection.seat("stream", _SENDING):
            await Problem(BUSY, "as many pages are open as may be").response()(scope, receive, send)
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        gone = asyncio.create_task(_until_gone(receive))
        self._live.watch(1)
        try:
            told = self._live.everything()
            while not gone.done() and scope["method"] == "GET":
                if connection is not None:
                    connection.cut_after(_SENDING)
                body = f"data: {json.dumps(told)}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await self._live.wait()
                if rights_now(scope) is None:
                    break
                told = self._live.news()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._live.watch(-1)
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
