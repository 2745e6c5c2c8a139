"""The page and its events, without a browser: `tests/integration/test_http.py` has one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from epaxos.actors.assembly import limits_of
from epaxos.actors.health import Standing
from epaxos.actors.process import Inside
from epaxos.errors import Busy
from epaxos.security.rights import Rights, Role
from epaxos.web import application
from epaxos.web.api.store import Store
from epaxos.web.live import Live
from lone_replica import LoneReplica

TOLD = {
    "uptime_s": 7.0,
    "leader": None,
    "seen": [5, 3, -1],
    "executed": [4, 3, -1],
    "peers": {"bravo": {"behind": 2, "round_trip_s": 0.001}},
    "waiting": [],
    "observes": False,
    "age_s": None,
    "observers": {"oscar#0000000000000007": {"online": True, "behind": 4}},
}


class Rig:
    """The page of a replica that answers questions with `told`, or fails to."""

    def __init__(self) -> None:
        there = LoneReplica()
        parts: Any = type("Parts", (), {"stats": there.stats, "configuration": there.config.initial})
        self.stats = there.stats
        self.told: dict[str, Any] | None = dict(TOLD)
        inside = Inside(there.config, "alpha", parts, Standing(), there.gate)
        store = Store(there.gate, there.config, limits_of(there.config))
        store.told = self._told  # type: ignore[method-assign]
        self.live = Live(inside, store)
        self.app = application(self.live.routes())

    async def _told(self, **options: Any) -> dict[str, Any]:
        assert options == {"waiting": 200}
        if self.told is None:
            raise Busy("it is stuck")
        return self.told


def running(test: Callable[[Rig], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epaxos.web.live.INTERVAL", 0.01)

    async def run() -> None:
        rig = Rig()
        task = asyncio.create_task(rig.live.run())
        try:
            await test(rig)
        finally:
            task.cancel()

    asyncio.run(run())


class Watcher:
    """Someone with the page open; `events` are what it was told."""

    def __init__(self, rig: Rig, **state: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self._gone = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/live", "headers": []}
        scope |= {"query_string": b"", "state": state}
        self.task = asyncio.create_task(rig.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        body = message.get("body", b"")
        if body:
            assert body.startswith(b"data: ")
            assert body.endswith(b"\n\n")
            self.events.append(json.loads(body[6:]))
            self._came.set()

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not (self.events and condition(self.events[-1])):
            self._came.clear()
            await self._came.wait()
        return self.events[-1]

    async def leave(self) -> None:
        self._gone.set()
        await self.task


def test_events_tell_all_at_first_and_then_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        one, other = Watcher(rig), Watcher(rig)
        told = await one.until(lambda event: event["replica"]["answers"])
        first = one.events[0]
        assert len(first["fields"]) == 11
        assert "samples" in first
        assert "samples" not in told
        assert len(told["sample"]) == 11
        assert (told["replica"]["behind"], told["replica"]["uptime"]) == (1, 7.0)
        assert [member["heard"] for member in told["members"]] == [True, False, False]
        assert told["members"][1]["behind"] == 2
        assert told["observers"] == [{"name": "oscar", "self": False, "heard": True, "behind": 4}]
        rig.told = TOLD | {"observes": True, "age_s": 0.5}
        told = await one.until(lambda event: event["observers"][0]["self"])
        assert told["observers"] == [{"name": "alpha", "self": True, "heard": True, "age": 0.5}]
        await asyncio.gather(one.leave(), other.leave())
        assert rig.live._watched == 0

    running(test, monkeypatch)


def test_events_end_with_the_rights_to_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Rights | None] = [Rights("watcher", Role.READ)]

    async def test(rig: Rig) -> None:
        watcher = Watcher(rig, still=lambda: listed[0])
        await watcher.until(lambda event: "fields" not in event)
        listed[0] = None
        async with asyncio.timeout(5):
            await watcher.task
        assert rig.live._watched == 0

    running(test, monkeypatch)


def test_a_replica_that_does_not_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        watcher = Watcher(rig)
        await watcher.until(lambda event: event["replica"]["answers"])
        rig.told = None
        told = await watcher.until(lambda event: not event["replica"]["answers"])
        assert told["replica"]["uptime"] is None
        assert told["waiting"] == {"stuck": 0, "longest": 0.0, "graph": []}
        await watcher.leave()

    running(test, monkeypatch)


def test_what_does_not_get_on_is_told_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        monkeypatch.setattr("epaxos.web.live.STUCK", 0.05)
        entry = {"row": 1, "slot": 7, "phase": 1, "known": True, "ballot": 0, "deps": [-1] * 3, "commands": 1}
        rig.told = TOLD | {"waiting": [entry]}
        watcher = Watcher(rig)
        told = await watcher.until(lambda event: event["waiting"]["stuck"] > 0)
        assert told["waiting"]["graph"] == [[1, 7]]
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(rig.app), base_url="http://replica"
        ) as client:
            drawn = await client.get("/waiting.svg")
        assert drawn.headers["content-type"].startswith("image/svg+xml")
        assert "B.7" in drawn.text
        await watcher.leave()

    running(test, monkeypatch)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    rig = Rig()

    async def asked() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(rig.app), base_url="http://replica"
        ) as client:
            return [await client.get(path) for path in ("/", "/page.css", "/page.js")]

    for response in asyncio.run(asked()):
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        text = response.text.replace("http://www.w3.org/", "")
        assert "http://" not in text
        assert "https://" not in text
    page = asyncio.run(asked())[0].text
    for path in ("metrics", "livez", "readyz", "healthz"):
        assert f'href="/{path}"' in page
