from __future__ import annotations

import asyncio
from typing import Any

import pytest

from epaxos.watching.position import parse_position
from epaxos.web.api import watch as module
from epaxos.web.api.watch import Events, Watch

PLACE = parse_position("0:1,0@7.0")
NEWS = {"position": PLACE.as_fields(), "cursor": [7, 1, 0], "keys": [], "values": []}
ANSWERS: list[dict[str, Any]] = [
    {"behind": "a checkpoint is being merged"},
    NEWS | {"state": [[b"a"], [b"1"], True]},
    NEWS | {"state": None},
    NEWS | {"state": [[], [], False]},
    NEWS | {"state": None},
    {"compacted": "it is not kept here"},
]


def test_no_event_has_an_id_until_the_state_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET", 1)
    answers, sent = list(ANSWERS), []

    class Store:
        async def told(self, **_: object) -> dict[str, Any]:
            return {"watch": answers.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b"").decode())

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def run() -> None:
        store: Any = Store()
        watch = Watch(store, b"", None, state=True)
        await Events(watch, await watch.ask(0.0))({}, receive, send)

    asyncio.run(run())
    assert [text.partition("\n")[0] for text in sent if text] == [
        ":",
        "event: reset",
        ":",
        f"id: {PLACE}",
        f"id: {PLACE}",
        "event: compacted",
    ]
