from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from api_rig import Rig
from epaxos.client.commands import Op
from epaxos.client.reading import Look
from epaxos.client.results import CasResult, Cleared, MultiAborted, Page
from epaxos.doors.desk import Full
from epaxos.errors import (
    Busy,
    ClientError,
    Closed,
    Locked,
    NoAnswer,
    OperationFailed,
    Refused,
    SessionExpired,
    Untold,
)
from epaxos.security.rights import Rights, Role
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.reading import Reading
from epaxos.web.api.requests import JSON_BYTES
from epaxos.web.api.routes import _Download


@pytest.fixture
def rig() -> Rig:
    return Rig()


def problem(response: httpx.Response) -> tuple[int, str, bool]:
    """The status, the end of the type, and whether the command may have executed."""
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == response.status_code
    assert told["title"]
    assert told["detail"]
    return response.status_code, told["type"].removeprefix("tag:epaxos,2026:"), told["may_have_executed"]


def raising(error: Exception) -> Callable[[Op], Any]:
    def answer(_: Op) -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a", b"a"),
        ("a/b//c", b"a/b//c"),
        ("%00%ff%2F", b"\x00\xff/"),
        ("%25", b"%"),
        ("a+b", b"a+b"),
        ("%zz", b"%zz"),
        ("%C3%BC", "ü".encode()),
        ("a%0Ab%0D%0A", b"a\nb\r\n"),
        ("%2E%2E/v1/multi", b"../v1/multi"),
    ],
)
def test_a_key_is_any_bytes(rig: Rig, path: str, key: bytes) -> None:
    rig.store.answer = lambda _: b"\xff\x00"
    response = rig.ask("GET", f"/v1/kv/{path}")
    assert (response.status_code, response.content) == (200, b"\xff\x00")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert rig.store.asked == [(Op.get(key), 2.0, None)]


@pytest.mark.parametrize("path", ["/v1/k%76/foo", "/v1%2Fkv/foo", "/%761/kv/foo", "/v1/kv%2Ffoo", "/v1/kv"])
def test_what_comes_before_a_key_is_written_out(rig: Rig, path: str) -> None:
    assert problem(rig.ask("PUT", path, content=b"v")) == (404, "no-page", False)
    assert rig.store.asked == []


def test_no_value(rig: Rig) -> None:
    assert problem(rig.ask("GET", "/v1/kv/a")) == (404, "no-value", False)


def test_a_value_in_json(rig: Rig) -> None:
    rig.store.answer = lambda _: b"\xff"
    response = rig.ask("GET", "/v1/kv/a%ff", headers={"Accept": "application/json"})
    assert response.json() == {"key": {"base64": "Yf8="}, "value": {"base64": "/w=="}}


@pytest.mark.parametrize(("found", "status"), [(True, 200), (False, 404)])
def test_head_asks_whether_there_is_a_value(rig: Rig, *, found: bool, status: int) -> None:
    rig.store.answer = lambda _: found
    assert rig.ask("HEAD", "/v1/kv/a").status_code == status
    assert rig.store.asked[0][0] == Op.exists(b"a")


@pytest.mark.parametrize(
    ("query", "op"),
    [
        ("", Op.put(b"k", b"v")),
        ("?ttl=1.5", Op.put(b"k", b"v", ttl=1.5)),
        ("?keep_ttl=true", Op.put(b"k", b"v", keep_ttl=True)),
        ("?cas=a%ff%2B+b", Op.cas(b"k", b"a\xff+ b", b"v")),
        ("?cas=", Op.cas(b"k", b"", b"v")),
        ("?absent=true", Op.cas(b"k", None, b"v")),
        ("?cas=a&ttl=2", Op.multi([Op.expect(b"k", b"a"), Op.put(b"k", b"v", ttl=2)])),
        ("?absent=true&ttl=2", Op.multi([Op.absent(b"k"), Op.put(b"k", b"v", ttl=2)])),
    ],
)
def test_put(rig: Rig, query: str, op: Op) -> None:
    rig.store.answer = lambda _: CasResult(swapped=True, current=b"v")
    assert rig.ask("PUT", f"/v1/kv/k{query}", content=b"v").status_code == 204
    assert rig.store.asked[0][0] == op


def test_delete(rig: Rig) -> None:
    rig.store.answer = lambda _: True
    assert rig.ask("DELETE", "/v1/kv/k").json() == {"deleted": True}
    rig.store.answer = lambda _: CasResult(swapped=True, current=None)
    assert rig.ask("DELETE", "/v1/kv/k?cas=v&timeout=3").json() == {"deleted": True}
    assert rig.store.asked == [(Op.delete(b"k"), 2.0, None), (Op.cas(b"k", b"v", None), 3.0, None)]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_comparison_that_fails_tells_what_was_found(rig: Rig, method: str) -> None:
    rig.store.answer = lambda _: CasResult(swapped=False, current=b"other")
    response = rig.ask(method, "/v1/kv/k?cas=v")
    assert problem(response) == (412, "compared", False)
    assert response.json()["current"] == "other"


def test_commands_in_json(rig: Rig) -> None:
    rig.store.answer = lambda _: 7
    response = rig.ask("POST", "/v1/kv/k", json={"op": "increment", "amount": 2})
    assert response.json() == {"result": 7}
    rig.store.answer = lambda _: [None, b"v"]
    operations = [{"op": "put", "key": "a", "value": "v"}, {"op": "get", "key": "a"}]
    response = rig.ask("POST", "/v1/multi", json={"operations": operations}, headers={"Idempotency-Key": "x"})
    assert response.json() == {"results": [None, "v"]}
    assert rig.store.asked == [
        (Op.increment(b"k", 2), 2.0, None),
        (Op.multi([Op.put(b"a", b"v"), Op.get(b"a")]), 2.0, b"x"),
    ]


def test_a_page_of_keys(rig: Rig) -> None:
    rig.store.answer = lambda _: Page([b"a", b"\xff"], [b"1", b"\xfe"], more=True)
    told = rig.ask("GET", "/v1/scan?prefix=%ff&after=b&limit=2&reverse=true").json()
    byte = {"base64": "/w=="}
    entries = [{"key": "a", "value": "1"}, {"key": byte, "value": {"base64": "/g=="}}]
    assert told == {"entries": entries, "more": True, "after": byte}
    rig.store.answer = lambda _: Page([b"a"], None, more=False)
    assert rig.ask("GET", "/v1/scan?values=false").json() == {
        "entries": [{"key": "a"}],
        "more": False,
        "after": None,
    }
    assert [asked[0] for asked in rig.store.asked] == [
        Op.scan(b"\xff", b"b", 2, reverse=True),
        Op.scan(values=False),
    ]


def test_keys_are_counted_and_removed_by_prefix(rig: Rig) -> None:
    rig.store.answer = lambda _: 7
    assert rig.ask("GET", "/v1/count?prefix=a").json() == {"count": 7}
    rig.store.answer = lambda _: Cleared(2, b"b")
    headers = {"Idempotency-Key": "x"}
    told = rig.ask("DELETE", "/v1/scan?prefix=&after=a&limit=2", headers=headers).json()
    assert told == {"removed": 2, "more": True, "after": "b"}
    assert [asked[::2] for asked in rig.store.asked] == [
        (Op.count(b"a"), None),
        (Op.clear(b"", b"a", 2), b"x"),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Refused("no"), (400, "invalid", False)),
        (Busy("later"), (503, "busy", False)),
        (Full("no room"), (507, "full", False)),
        (NoAnswer("nothing"), (504, "no-answer", True)),
        (SessionExpired("late"), (504, "no-answer", True)),
        (Closed("closed"), (504, "no-answer", True)),
        (Untold("lost"), (500, "untold", True)),
        (OperationFailed("no number"), (409, "failed", False)),
        (Locked("locked", b"record", {}), (409, "failed", False)),
        (MultiAborted("one of them", 2, Outcome.NOT_A_NUMBER), (409, "failed", False)),
        (MultiAborted("one of them", 2, Outcome.COMPARE_FAILED), (412, "compared", False)),
        (ZeroDivisionError(), (500, "broken", True)),
    ],
)
def test_errors_say_whether_the_command_may_have_executed(
    rig: Rig, error: Exception, expected: tuple[int, str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    rig.store.answer = raising(error)
    response = rig.ask("PUT", "/v1/kv/k", content=b"v")
    assert problem(response) == expected
    assert ("retry-after" in response.headers) == (expected[0] in {503, 504, 507})
    assert bool(caplog.records) == (not isinstance(error, ClientError))
    if isinstance(error, MultiAborted):
        assert response.json()["operation"] == 2


def test_no_answer_that_certainly_did_not_execute_says_so(rig: Rig) -> None:
    error = NoAnswer("never sent")
    error.may_have_executed = False
    rig.store.answer = raising(error)
    assert problem(rig.ask("DELETE", "/v1/kv/k")) == (504, "no-answer", False)


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/v1/kv/", "the key is empty"),
        ("GET", "/v1/kv/a?reads=fast", 'reads: found "fast"; allowed: log or quorum or local'),
        ("GET", "/v1/count?reads=quorum", 'reads: found "quorum"; allowed: log or local'),
        ("GET", "/v1/kv/a?raeds=log", 'unknown parameter "raeds"; did you mean "reads"?'),
        ("GET", "/v1/kv/a?timeout=0", 'timeout: found "0"; allowed: a number of seconds above 0, at most 6'),
        ("GET", "/v1/kv/a?timeout=7", 'timeout: found "7"'),
        ("GET", "/v1/kv/a?timeout=nan", 'timeout: found "nan"'),
        ("GET", "/v1/kv/a?timeout=1&timeout=1", "timeout stands there twice"),
        ("PUT", "/v1/kv/a?ttl=-1", 'ttl: found "-1"'),
        ("PUT", "/v1/kv/a?ttl=1e99", "ttl is 1e+99 s"),
        ("PUT", "/v1/kv/a?ttl=1&keep_ttl=true", "put takes ttl or keep_ttl, not both"),
        ("PUT", "/v1/kv/a?cas=x&absent=true", "cas and absent exclude each other"),
        ("PUT", "/v1/kv/a?absent=yes", 'absent: found "yes"; allowed: false or true'),
        ("GET", "/v1/scan?limit=0", 'limit: found "0"; allowed: an integer from 1 to 10000'),
        ("GET", "/v1/scan?limit=1e3", 'limit: found "1e3"'),
        ("GET", "/v1/scan?limit=" + "9" * 30, "limit: found"),
        ("DELETE", "/v1/scan", "prefix is missing"),
        ("GET", "/v1/members?x=1", 'unknown parameter "x"; there are none here'),
        ("GET", "/v1/kv/a?" + "x&" * 20, "more than 16 parameters"),
    ],
)
def test_what_makes_no_sense(rig: Rig, method: str, path: str, detail: str) -> None:
    response = rig.ask(method, path)
    assert problem(response) == (400, "invalid", False)
    assert response.json()["detail"].startswith(detail)
    assert rig.store.asked == []


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_idempotency_key_is_neither_empty_nor_long(rig: Rig, key: str) -> None:
    response = rig.ask("PUT", "/v1/kv/k", headers={"Idempotency-Key": key})
    assert problem(response) == (400, "invalid", False)
    assert rig.store.asked == []


@pytest.mark.parametrize("path", ["/v1/kv/k", "/v1/multi"])
def test_json_must_be_called_that(rig: Rig, path: str) -> None:
    for headers in ({}, {"Content-Type": "text/plain"}):
        assert problem(rig.ask("POST", path, content=b"{}", headers=headers)) == (415, "no-json", False)


def test_bodies_are_bounded(rig: Rig) -> None:
    small = Rig(max_value=1000)

    async def endless(chunks: int = 1 << 20) -> Any:
        for _ in range(chunks):
            yield b"x" * 1000

    for content in (b"x" * 1001, endless()):
        response = small.ask("PUT", "/v1/kv/k", content=content)
        assert problem(response) == (413, "large", False)
        assert response.headers["connection"] == "close"
    headers = {"Content-Type": "application/json"}
    assert problem(rig.ask("POST", "/v1/multi", content=b" " * (JSON_BYTES + 1), headers=headers))[0] == 413
    assert small.ask("PUT", "/v1/kv/k", content=b"x" * 1000).status_code == 204


def test_the_memory_of_all_requests_is_bounded() -> None:
    rig = Rig(max_key=100, max_value=1000, max_frame=6196)  # eight such frames: 49 values
    reads = [{"op": "get", "key": "k"}] * 6
    rig.store.answer = lambda _: [b""] * 6

    async def asked(count: int) -> list[int]:
        async with httpx.AsyncClient(transport=rig._transport, base_url="http://replica") as client:
            calls = [client.post("/v1/multi", json={"operations": reads}) for _ in range(count)]
            return [response.status_code for response in await asyncio.gather(*calls)]

    assert set(asyncio.run(asked(20))) == {200, 503}
    assert set(asyncio.run(asked(8))) == {200}, "what was taken is given back"


LEVELS = ("off", "read", "write")
NEEDS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/kv/k", None, "read"),
    ("HEAD", "/v1/kv/k", None, "read"),
    ("PUT", "/v1/kv/k", None, "write"),
    ("DELETE", "/v1/kv/k", None, "write"),
    ("POST", "/v1/kv/k", {"op": "get"}, "read"),
    ("POST", "/v1/kv/k", {"op": "absent"}, "write"),
    ("POST", "/v1/multi", {"operations": [{"op": "exists", "key": "k"}]}, "read"),
    ("POST", "/v1/multi", {"operations": [{"op": "get", "key": "k"}, {"op": "delete", "key": "k"}]}, "write"),
    ("GET", "/v1/backup", None, "read"),
    ("GET", "/v1/scan", None, "read"),
    ("GET", "/v1/count", None, "read"),
    ("DELETE", "/v1/scan?prefix=a", None, "write"),
    ("GET", "/v1/status?digest=true", None, "read"),
    ("GET", "/v1/members", None, "off"),
    ("GET", "/v1/openapi.json", None, "off"),
]


def answer_of(op: Op) -> Any:
    answers = {
        Operation.MULTI: [],
        Operation.SCAN: Page([], [], more=False),
        Operation.CLEAR: Cleared(0, None),
    }
    return answers.get(Operation(op.operation), b"" if op.operation != Operation.COUNT else 0)


@pytest.mark.parametrize(("method", "path", "body", "level"), NEEDS)
def test_the_configuration_says_what_is_allowed(method: str, path: str, body: Any, level: str) -> None:
    for allowed in LEVELS:
        rig = Rig(allowed)
        rig.store.answer = answer_of
        response = rig.ask(method, path, json=body) if body else rig.ask(method, path)
        assert (response.status_code == 403) == (LEVELS.index(allowed) < LEVELS.index(level)), allowed
        assert not (response.status_code == 403 and rig.store.asked)


def test_all_that_is_not_there_is_told_as_a_problem(rig: Rig) -> None:
    assert problem(rig.ask("GET", "/v1/nothing")) == (404, "no-page", False)
    response = rig.ask("PATCH", "/v1/multi")
    assert problem(response) == (405, "no-method", False)
    assert response.headers["allow"] == "POST"


def test_members(rig: Rig) -> None:
    told = rig.ask("GET", "/v1/members").json()
    assert (told["cluster"], told["epoch"], told["quorum"]) == ("local", 0, 2)
    assert [(member["name"], member["self"], member["heard"]) for member in told["members"]] == [
        ("alpha", True, True),
        ("bravo", False, False),
        ("charlie", False, False),
    ]


class _Parts:
    """Stands for a backup in two parts."""

    ended = False

    async def parts(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("after", "bodies"),
    [
        (Rights("web", Role.ADMIN), [b"one", b"two", b""]),
        (Rights("web", Role.WRITE), [b"one"]),
        (Rights("web", Role.ADMIN, (b"a/",)), [b"one"]),
        (None, [b"one"]),
    ],
)
def test_a_backup_ends_with_the_rights_to_it(after: Rights | None, bodies: list[bytes]) -> None:
    backup, sent = _Parts(), list[bytes]()

    async def send(message: Any) -> None:
        if "body" in message:
            sent.append(message["body"])

    async def receive() -> Any:
        raise AssertionError

    def still() -> Rights | None:
        return after if sent else Rights("web", Role.ADMIN)

    scope = {"type": "http", "state": {"still": still}}
    asyncio.run(_Download(backup, "a.backup")(scope, receive, send))  # type: ignore[arg-type]  # all that it needs
    assert sent == bodies
    assert backup.ended


def test_how_a_value_is_read_is_up_to_who_asks() -> None:
    rig = Rig("read")
    rig.store.answer = lambda op: Look(b"v", 7) if op.argument == Reading.BEHIND else b"v"
    assert rig.ask("GET", "/v1/kv/k?reads=quorum").content == b"v"
    local = rig.ask("GET", "/v1/kv/k?reads=local")
    assert (local.content, local.headers["Epaxos-Behind"]) == (b"v", "7")
    rig.store.answer = lambda _: Look(b"v", None)
    shown = rig.ask("GET", "/v1/kv/k?reads=local", headers={"Accept": "application/json"})
    assert (shown.json()["value"], shown.headers["Epaxos-Behind"]) == ("v", "unknown")
    rig.store.answer = lambda _: 3
    rig.ask("GET", "/v1/count?reads=local")
    assert [op.argument for op, *_ in rig.store.asked] == [1, 3, 3, 2]
