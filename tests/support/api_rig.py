"""The API of a replica without the replica: requests without connections, and a store that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from epaxos.client.commands import Op
from epaxos.config import default_replicas, make_config
from epaxos.metrics import ReplicaStats
from epaxos.web import application
from epaxos.web.api.routes import Api


class FakeStore:
    """Answers each command with what `answer` says of it, and notes it."""

    longest = 6.0

    def __init__(self) -> None:
        self.asked: list[tuple[Op, float, bytes | None]] = []
        self.answer: Callable[[Op], Any] = lambda _: None

    async def execute(self, op: Op, limit: float, once: bytes | None = None, token: str = "") -> Any:
        """Note it."""
        assert not token
        self.asked.append((op, limit, once))
        await asyncio.sleep(0)
        return self.answer(op)

    def close(self) -> None:
        """Nothing is open."""


class Rig:
    """The API at a `level`, with other `settings`; `store` stands for the cluster."""

    def __init__(self, level: str = "write", **settings: object) -> None:
        document = {"http": {"api": level}, "replicas": default_replicas(3)} | settings
        config = make_config(document)
        stats = ReplicaStats(("alpha", "bravo", "charlie"), 0, ["NULL"], ["Beacon"], 2)
        self.store = FakeStore()
        self.api = Api(config, "alpha", stats, self.store, lambda: config.initial)  # type: ignore[arg-type]  # all that it needs of one
        self._transport = httpx.ASGITransport(application(self.api.routes()))

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request."""

        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://replica") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())
