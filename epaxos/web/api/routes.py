"""What the API answers, path by path; `docs/http.md` says it in words, `api.openapi` in its own language."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from epaxos.backup.saving import Moment
from epaxos.client.commands import Op, T, only_reads, parts_of
from epaxos.client.reading import READS, look_at, read_as
from epaxos.config import Config
from epaxos.config.keys import HTTP_LEVELS, READ, WRITE
from epaxos.errors import BackupError, ClientError, Compacted, Denied
from epaxos.metrics import ReplicaStats
from epaxos.protocol.membership import Configuration
from epaxos.security.rights import EVERYTHING, Rights
from epaxos.security.tokens import rights_now
from epaxos.statemachine.operations import PAGE_BYTES, PAGE_KEYS, Operation
from epaxos.watching.position import parse_position
from epaxos.web.api import openapi
from epaxos.web.api.backup import Backup
from epaxos.web.api.problems import (
    BROKEN,
    BUSY,
    CLOSED,
    COMPACTED,
    COMPARED,
    DENIED,
    INVALID,
    NO_BACKUP,
    NO_VALUE,
    Problem,
    of_error,
)
from epaxos.web.api.requests import (
    BODY_TIME,
    Held,
    Query,
    Room,
    key_of,
    once_of,
    read_body,
    read_json_body,
)
from epaxos.web.api.store import Store
from epaxos.web.api.values import read_command, read_json, read_operations, tell, tell_bytes
from epaxos.web.api.watch import Events, Watch
from epaxos.web.roster import list_members
from epaxos.web.server import connection_of

_log = logging.getLogger(__name__)

KEYS: Final = "/v1/kv/"

BEHIND: Final = "Epaxos-Behind"
AGE: Final = "Epaxos-Age"
"""The header of what is read locally: how many instances the replica has heard of and not executed, or "unknown"."""

_READS: Final = {name: name for name in READS}
_READS_OF_ALL: Final = {name: name for name in READS if name != "quorum"}
_AS_BYTES: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_FRAMES: Final = 8
"""Largest frames, of which bodies and results may take as much memory as these would."""

_TELLS: Final = frozenset({Operation.READ, Operation.WRITEREAD, Operation.CAS})
"""Operations of which a value comes back."""

_PAGE: Final = 1000
"""Keys of a page, if nothing is said."""

_BACKUP: Final = "a backup"
"""What needs rights, in words."""

_SLICE: Final = 64 * 1024
_SENDING: Final = 30.0
"""Seconds for an answer to leave, and for each part of a stream."""

_PATIENCE: Final = 10.0
"""Seconds for a checkpoint to be written, beside the interval at which they are begun (as `epaxos backup`)."""


class Asked(NamedTuple):
    """A request, and the memory that it holds."""

    request: Request
    held: Held

    @property
    def once(self) -> bytes | None:
        """Its Idempotency-Key."""
        return once_of(self.request.headers)

    @property
    def token(self) -> str:
        """The bearer token of who asks; "" where nobody is asked for one."""
        return getattr(self.request.state, "token", "")

    @property
    def rights(self) -> Rights:
        """What who asks may do; anything, where nobody is asked for a token."""
        return getattr(self.request.state, "rights", EVERYTHING)

    def query(self, *allowed: str) -> Query:
        """Its parameters, of which these are allowed."""
        return Query(self.request.scope, allowed)

    def key(self) -> bytes:
        """The key in its path."""
        return key_of(self.request.scope, KEYS)


Answer: TypeAlias = Callable[[Asked], Awaitable[Response]]


def all_parts_of(op: Op) -> list[Op]:
    """The operations of a multi; another command itself."""
    return parts_of(op) if op.operation == Operation.MULTI else [op]


class Endpoint:
    """An ASGI application for the methods of one path; whatever happens becomes an answer, and is bounded."""

    def __init__(
        self, answers: Mapping[str, Answer], room: Room, longest: float, denied: Callable[[], None]
    ) -> None:
        self._answers = answers
        self._denied = denied
        self._room = room
        self._seconds = BODY_TIME + longest + _SENDING

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        connection = connection_of(scope)
        with self._room.hold() as held:
            if connection is not None and not connection.seat("api", self._seconds):
                response = Problem(BUSY, "there are as many connections to the API as may be").response()
            else:
                response = await self._answer(Asked(Request(scope, receive), held))
            await response(scope, receive, send)

    async def _answer(self, asked: Asked) -> Response:
        try:
            return await self._answers[asked.request.method](asked)
        except Problem as problem:
            return problem.response()
        except Denied as error:
            self._denied()
            return Problem(DENIED, str(error)).response()
        except ClientError as error:
            return of_error(error).response()
        except Exception as error:  # noqa: BLE001 - whatever it is, the replica goes on
            path = asked.request.scope["path"]
            _log.error("answering %s %s failed", asked.request.method, path, exc_info=error)
            text = "the log of the replica says why"
            return Problem(BROKEN, text, may_have_executed=True).response()


class Sliced(Response):
    """A body that goes out in slices, each when those before it have left: what is not read does not pile up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for start in range(0, len(body), _SLICE):
            part = bytes(body[start : start + _SLICE])
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def as_json(told: object) -> Response:
    """An answer in JSON."""
    return Sliced(json.dumps(told) + "\n", 200, {"Cache-Control": "no-store"}, "application/json")


class KeyRoute(Route):
    """The path of a key as it was sent: a key may hold any byte, a line's end too, and begins where `key_of` cuts."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See starlette."""
        if scope["type"] != "http" or not scope["raw_path"].startswith(KEYS.encode()):
            return Match.NONE, {}
        return super().matches({**scope, "path": KEYS})


class Api:
    """The API of the replica `name`; `stats` is what it counts, `store` executes commands.

    `configuration` tells that of the running epoch.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        stats: ReplicaStats,
        store: Store,
        configuration: Callable[[], Configuration],
    ) -> None:
        self._configuration = configuration
        self._config = config
        self._name = name
        self._stats = stats
        self._level = HTTP_LEVELS.index(config.http.api)
        self._store = store

    def routes(self) -> list[Route]:
        """All paths; the document of OpenAPI speaks of the same."""
        room = Room(_FRAMES * self._config.max_frame)
        paths: dict[str, dict[str, Answer]] = {
            f"{KEYS}{{key:path}}": {
                "GET": self._get,
                "HEAD": self._exists,
                "PUT": self._put,
                "DELETE": self._delete,
                "POST": self._command,
            },
            "/v1/multi": {"POST": self._multi},
            "/v1/scan": {"GET": self._scan, "DELETE": self._clear},
            "/v1/count": {"GET": self._count},
            "/v1/watch": {"GET": self._watch},
            "/v1/status": {"GET": self._status},
            "/v1/members": {"GET": self._members},
            "/v1/backup": {"GET": self._backup},
            "/v1/openapi.json": {"GET": self._openapi},
        }
        for answers in paths.values():
            if "GET" in answers:
                answers.setdefault("HEAD", answers["GET"])
        longest, denied = self._store.longest, partial(self._stats.error, "forbidden")
        return [
            (KeyRoute if path.startswith(KEYS) else Route)(
                path, Endpoint(answers, room, longest, denied), methods=list(answers)
            )
            for path, answers in paths.items()
        ]

    def _allow(self, level: str) -> None:
        if self._level < HTTP_LEVELS.index(level):
            found = self._config.http.api
            text = f'http.api is "{found}" in the configuration of this replica; this needs "{level}"'
            raise Problem(CLOSED, text)

    def _limit(self, query: Query) -> float:
        """How long a command may take: as long as a call of a client, if nothing is said."""
        return query.seconds("timeout", self._store.longest) or self._config.client.timeout

    async def _execute(self, asked: Asked, op: Op[T], limit: float) -> T:
        """Execute a command that who asks may have executed; first, there is room for what comes back."""
        asked.rights.check(bytes((op.operation,)), [op.key], [op.argument])
        if op.operation == Operation.SCAN:
            most = PAGE_BYTES + self._config.max_key + self._config.max_value
        else:
            most = sum(part.operation in _TELLS for part in all_parts_of(op)) * self._config.max_value
        asked.held.grow(min(most, self._config.max_frame))
        return await self._store.execute(op, limit, asked.once, asked.token)

    # -- keys ----------------------------------------------------------------------------------------------

    async def _get(self, asked: Asked) -> Response:
        self._allow(READ)
        query = asked.query("reads", "timeout")
        key = asked.key()
        value, behind = await self._read(asked, key, query)
        if value is None:
            raise Problem(NO_VALUE, f"{json.dumps(tell_bytes(key))} has no value")
        if "application/json" in asked.request.headers.get("accept", ""):
            response = as_json({"key": tell_bytes(key), "value": tell_bytes(value)})
            response.headers.update(behind)
            return response
        return Sliced(value, 200, {**_AS_BYTES, **behind}, "application/octet-stream")

    async def _read(self, asked: Asked, key: bytes, query: Query) -> tuple[bytes | None, dict[str, str]]:
        """The value of a key; with a header, if it is read locally, that tells what the replica has not executed."""
        reads, limit = query.choice("reads", _READS, default="log"), self._limit(query)
        if reads not in ("local", "observer"):
            return await self._execute(asked, read_as(Op.get(key), reads), limit), {}
        found: Any = await self._execute(asked, look_at(Op.get(key), reads), limit)
        if reads == "observer":
            return found.value, {AGE: "unknown" if found.age is None else f"{found.age:.3f}"}
        return found.value, {BEHIND: "unknown" if found.behind is None else str(found.behind)}

    async def _exists(self, asked: Asked) -> Response:
        self._allow(READ)
        query = asked.query("reads", "timeout")
        op = read_as(Op.exists(asked.key()), query.choice("reads", _READS, default="log"))
        found = await self._execute(asked, op, self._limit(query))
        response = Response(b"", 200 if found else 404, {"Cache-Control": "no-store"})
        del response.headers["content-length"]  # that of the value is not known
        return response

    async def _put(self, asked: Asked) -> Response:
        self._allow(WRITE)
        query = asked.query("cas", "absent", "ttl", "keep_ttl", "timeout")
        expected, absent, ttl = query.bytes("cas"), query.switch("absent"), query.seconds("ttl")
        keep = query.switch("keep_ttl")
        if absent and expected is not None:
            raise Problem(INVALID, "cas and absent exclude each other")
        key = asked.key()
        value = await read_body(asked.request, asked.held, self._config.max_value)
        if expected is None and not absent:
            await self._execute(asked, Op.put(key, value, ttl=ttl, keep_ttl=keep), self._limit(query))
        elif ttl is None and not keep:
            await self._compare_and_swap(asked, Op.cas(key, expected, value), self._limit(query))
        else:
            only = Op.absent(key) if absent else Op.cas(key, expected, expected)
            both = Op.multi([only, Op.put(key, value, ttl=ttl, keep_ttl=keep)])
            await self._execute(asked, both, self._limit(query))
        return Response(b"", 204, {"Cache-Control": "no-store"})

    async def _delete(self, asked: Asked) -> Response:
        self._allow(WRITE)
        query = asked.query("cas", "timeout")
        key, expected = asked.key(), query.bytes("cas")
        if expected is None:
            return as_json({"deleted": await self._execute(asked, Op.delete(key), self._limit(query))})
        await self._compare_and_swap(asked, Op.cas(key, expected, None), self._limit(query))
        return as_json({"deleted": True})

    async def _compare_and_swap(self, asked: Asked, op: Op[Any], limit: float) -> None:
        done = await self._execute(asked, op, limit)
        if not done.swapped:
            current = tell_bytes(done.current)
            raise Problem(COMPARED, f"{json.dumps(tell_bytes(op.key))} has another value", current=current)

    async def _command(self, asked: Asked) -> Response:
        query = asked.query("timeout")
        key = asked.key()
        self._allow(READ)
        op = read_command(read_json(await read_json_body(asked.request, asked.held)), "body", key)
        self._allow(READ if only_reads(op) else WRITE)
        return as_json({"result": tell(await self._execute(asked, op, self._limit(query)))})

    async def _multi(self, asked: Asked) -> Response:
        query = asked.query("timeout")
        self._allow(READ)
        parts = read_operations(await read_json_body(asked.request, asked.held))
        op = Op.multi(parts)
        self._allow(READ if only_reads(op) else WRITE)
        results = await self._execute(asked, op, self._limit(query))
        return as_json({"results": [tell(result) for result in results]})

    # -- many keys -----------------------------------------------------------------------------------------

    async def _scan(self, asked: Asked) -> Response:
        self._allow(READ)
        query = asked.query("prefix", "after", "limit", "values", "reverse", "reads", "timeout")
        values = query.switch("values", default=True)
        op = Op.scan(
            query.bytes("prefix") or b"",
            query.bytes("after"),
            query.integer("limit", 1, PAGE_KEYS, _PAGE),
            values=values,
            reverse=query.switch("reverse"),
        )
        op = read_as(op, query.choice("reads", _READS_OF_ALL, default="log"))
        page = await self._execute(asked, op, self._limit(query))
        keys = map(tell_bytes, page.keys)
        entries = (
            [{"key": key, "value": tell_bytes(value)} for key, value in zip(keys, page.values, strict=True)]
            if page.values is not None
            else [{"key": key} for key in keys]
        )
        return as_json({"entries": entries, "more": page.more, "after": tell_bytes(page.after)})

    async def _clear(self, asked: Asked) -> Response:
        self._allow(WRITE)
        query = asked.query("prefix", "after", "limit", "timeout")
        prefix = query.bytes("prefix")
        if prefix is None:
            raise Problem(INVALID, "prefix is missing; prefix= alone is all keys")
        op = Op.clear(prefix, query.bytes("after"), query.integer("limit", 1, PAGE_KEYS, _PAGE))
        done = await self._execute(asked, op, self._limit(query))
        return as_json(
            {"removed": done.removed, "more": done.after is not None, "after": tell_bytes(done.after)}
        )

    async def _count(self, asked: Asked) -> Response:
        self._allow(READ)
        query = asked.query("prefix", "reads", "timeout")
        op = read_as(
            Op.count(query.bytes("prefix") or b""), query.choice("reads", _READS_OF_ALL, default="log")
        )
        return as_json({"count": await self._execute(asked, op, self._limit(query))})

    async def _watch(self, asked: Asked) -> Response:
        self._allow(READ)
        query = asked.query("prefix", "since", "state")
        prefix = query.bytes("prefix") or b""
        text = asked.request.headers.get("last-event-id") or (query.bytes("since") or b"").decode("latin-1")
        asked.rights.check_question({"watch": {"prefix": prefix}})
        try:
            since = parse_position(text) if text else None
        except ValueError as error:
            raise Problem(INVALID, f"since: {error}") from error
        if asked.request.method == "HEAD":
            return Response(b"", 200, media_type="text/event-stream")
        connection = connection_of(asked.request.scope)
        if connection is not None and not connection.seat("stream", _SENDING):
            raise Problem(BUSY, "there are as many streams as may be")
        watch = Watch(self._store, prefix, since, state=query.switch("state"))
        try:
            return Events(watch, await watch.ask(0.0))
        except Compacted as error:
            raise Problem(COMPACTED, str(error)) from error

    # -- the replica ---------------------------------------------------------------------------------------

    async def _status(self, asked: Asked) -> Response:
        query = asked.query("digest")
        digest = query.switch("digest")
        if digest:
            self._allow(READ)
            asked.rights.check_question({"digest": True})
        return as_json((await self._store.status(digest=digest)).as_dict())

    async def _members(self, asked: Asked) -> Response:
        asked.query()
        config, stats = self._config, self._stats
        members = list_members(config, self._configuration(), stats)
        told = {"cluster": config.name, "protocol": stats.protocol, "epoch": stats.epoch}
        f, e = stats.thresholds
        return as_json(
            {**told, "f": f, "e": e, "quorum": stats.quorum, "members": members},
        )

    async def _backup(self, asked: Asked) -> Response:
        self._allow(READ)
        asked.rights.check_everything(_BACKUP)
        at_once = asked.query("at_once").switch("at_once")
        config = self._config
        if config.storage.engine == "memory":
            raise Problem(NO_BACKUP, 'storage.engine is "memory": there is nothing on disk to copy')
        connection = connection_of(asked.request.scope)
        patience = 0.0 if at_once else config.storage.checkpoint + _PATIENCE
        if connection is not None and not connection.seat("stream", patience + _SENDING):
            raise Problem(BUSY, "there are as many streams as may be")
        wanted = None
        if not at_once:
            status = await self._store.status()
            wanted = Moment(status.epoch, tuple(status.seen))
        try:
            path = config.storage.directory_of(self._name)
            backup = await Backup.begin(path, wanted, patience)
        except BackupError as error:
            raise Problem(NO_BACKUP, str(error)) from error
        if asked.request.method == "HEAD":
            await backup.end()
            return Response(b"", 200)
        return _Download(backup, f"{config.name}-{self._name}.backup")

    async def _openapi(self, asked: Asked) -> Response:
        asked.query()
        return as_json(openapi.document())


class _Download(Response):
    """A backup, of which each part must leave in time, to one who may have it still.

    Broken off if it comes to no good end, so that this is seen.
    """

    def __init__(self, backup: Backup, name: str) -> None:
        super().__init__(None, 200, {"Content-Disposition": f'attachment; filename="{name}"'})
        self._backup = backup

    @staticmethod
    def _check(scope: Scope) -> None:
        rights = rights_now(scope)
        if rights is None:
            raise BackupError("the token is not on the list any more")
        rights.check_everything(_BACKUP)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [
            (b"content-type", b"application/octet-stream"),
            *((name, value) for name, value in self.raw_headers if name != b"content-length"),
        ]
        connection = connection_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for part in self._backup.parts():
                self._check(scope)
                if connection is not None:
                    connection.cut_after(_SENDING)
                async with asyncio.timeout(_SENDING):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (BackupError, TimeoutError, Denied) as error:
            _log.warning("a backup over HTTP was broken off: %s", error)
            if connection is not None:
                connection.transport.abort()
        finally:
            await self._backup.end()
