"""How those are slowed down, counted and told apart who come by HTTP or with a password."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import httpx
import msgpack
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from epaxos.actors.assembly import limits_of
from epaxos.config import Config
from epaxos.doors.desk import Command, Result
from epaxos.security.access import Access
from epaxos.security.making import Listing, add_client, remove
from epaxos.security.passwords import Passwords, hash_password
from epaxos.security.patience import ADDRESSES, FIRST, FORGOTTEN, LONGEST, Patience
from epaxos.security.rights import Rights
from epaxos.security.tokens import Tokens
from epaxos.statemachine.operations import Operation
from epaxos.web import application
from epaxos.web.api.routes import Api
from epaxos.web.api.store import Store
from lone_replica import LoneReplica


def test_each_failure_doubles_the_delay() -> None:
    patience = Patience()
    delays = [patience.failed("here", 0.0) for _ in range(8)]
    assert delays[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert delays[-1] == LONGEST
    assert patience.left("here", 1.0) == LONGEST - 1.0
    assert patience.left("elsewhere", 1.0) == 0.0
    assert patience.failed("elsewhere", 1.0) == FIRST
    assert patience.failed("here", LONGEST + FORGOTTEN + 1.0) == FIRST
    patience.succeeded("here")
    assert patience.left("here", LONGEST + FORGOTTEN + 1.0) == 0.0


def test_the_last_addresses_are_remembered() -> None:
    patience = Patience()
    for number in range(ADDRESSES + 1):
        patience.failed(str(number), 0.0)
    assert patience.left("0", 0.0) == 0.0
    assert patience.left("1", 0.0) == FIRST


class Site:
    """Pages behind a list of tokens, with a clock of their own."""

    def __init__(self, config: Config) -> None:
        self.failed: list[str] = []
        self.now = 0.0
        self.access = Access.of(config, "alpha")
        routes = [Route(path, self._page) for path in ("/who", "/livez")]
        guarded = Tokens(Starlette(routes=routes), self.access, self.failed.append, clock=lambda: self.now)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://alpha")

    @staticmethod
    async def _page(request: Request) -> PlainTextResponse:
        rights = getattr(request.state, "rights", None)
        return PlainTextResponse(rights.name if rights else "anybody")

    async def get(self, path: str, authorization: str | None = None) -> tuple[int, str]:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await self.client.get(path, headers=headers)
        return answer.status_code, answer.text


async def _visit(config: Config, token: str, other: str) -> None:
    site = Site(config)
    assert await site.get("/livez") == (200, "anybody")
    assert await site.get("/who", f"Bearer {token}") == (200, "page")
    assert await site.get("/who", f"bearer {token} ") == (200, "page")
    browser = b64encode(f"anybody:{token}".encode()).decode()
    assert await site.get("/who", f"Basic {browser}") == (200, "page")
    assert (await site.get("/who"))[0] == 401
    assert site.failed == []
    assert (await site.get("/who", token))[0] == 401
    for wrong in ("Bearer wrong", "Bearer", f"Basic {token}", "Basic Zm9v", "Basic ____", "Basic"):
        assert (await site.get("/who", wrong))[0] == 429
    assert site.failed == ["127.0.0.1"] * 7
    assert await site.get("/who", f"Bearer {token}") == (200, "page")  # nobody can lock out who has one
    site.now = 2 * FIRST
    assert (await site.get("/who", "Bearer wrong"))[0] == 401
    assert await site.get("/who", f"Bearer {other}") == (200, "other")
    remove(Path(config.security.keys), "other")
    site.access.reload()
    site.now = 60.0
    assert (await site.get("/who", f"Bearer {other}"))[0] == 401


def test_pages_are_for_those_with_a_token(secure: Config) -> None:
    keys = Path(secure.security.keys)
    tokens = [add_client(keys, name, Listing("read"), token=True) for name in ("page", "other")]
    asyncio.run(_visit(secure, *tokens))


class _Desk:
    """Notes in which session commands are asked for."""

    def __init__(self) -> None:
        self.sessions: list[int] = []

    async def execute(self, _: Command, session: int = 0) -> Result:
        self.sessions.append(session)
        return 0, None


def test_a_command_under_an_idempotency_key_is_that_of_its_token(secure: Config) -> None:
    config = replace(secure, http=replace(secure.http, api="write"))
    keys = Path(secure.security.keys)
    tokens = [add_client(keys, name, Listing("write"), token=True) for name in ("page", "other")]

    async def put() -> list[int]:
        desk, there = _Desk(), LoneReplica()
        store = Store(there.gate, config, limits_of(config))
        store._opened = desk  # type: ignore[assignment]  # all that it needs of one
        served = application(Api(config, "alpha", there.stats, store, lambda: config.initial).routes())
        guarded = Tokens(served, Access.of(secure, "alpha"), lambda _: None)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(guarded), base_url="http://alpha"
        ) as client:
            for token in (tokens[0], tokens[1], tokens[0]):
                headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "order-4711"}
                assert (await client.put("/v1/kv/a", content=b"b", headers=headers)).status_code == 204
        return desk.sessions

    mine, others, again = asyncio.run(put())
    assert mine == again != others
    public = msgpack.packb([config.fingerprint, b"order-4711", int(Operation.WRITE), b"a", b"b"])
    assert int.from_bytes(blake2b(public, digest_size=8).digest(), "big") not in (mine, others)


def test_passwords(secure: Config) -> None:
    keys = Path(secure.security.keys)
    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    add_client(keys, "cache", Listing("write", ["cache:"], hashed))
    failed: list[str] = []
    access = Access.of(secure, "alpha")
    passwords = Passwords(access, failed.append)
    rights = passwords.check("cache", "correct horse", "here", 0.0)
    assert isinstance(rights, Rights)
    assert rights.prefixes == (b"cache:",)
    assert passwords.check("cache", "wrong", "here", 0.0) == FIRST
    assert passwords.check("cache", "correct horse", "here", 0.05) == pytest.approx(
        FIRST - 0.05
    )  # not looked at
    assert failed == ["here"]
    assert isinstance(passwords.check("cache", "correct horse", "elsewhere", 0.05), Rights)
    for number, (name, password) in enumerate([("admin", ""), ("nobody", "nobody"), ("cache", "")]):
        assert passwords.check(name, password, f"address {number}", 0.0) == FIRST
    assert passwords.still("cache", hashed) == rights
    assert passwords.still("cache", "another") is passwords.still("admin", "") is None
    remove(keys, "cache")
    access.reload()
    assert passwords.still("cache", hashed) is None
