from __future__ import annotations

import json

import pytest

from epaxos.client.commands import Op
from epaxos.client.results import CasResult
from epaxos.web.api.problems import Problem
from epaxos.web.api.values import FORMS, read_command, read_json, read_operations, tell


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (b"text", "text"),
        ("ü".encode(), "ü"),
        (b"\xff\x00", {"base64": "/wA="}),
        (b"", ""),
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (CasResult(swapped=False, current=b"\xff"), {"swapped": False, "current": {"base64": "/w=="}}),
    ],
)
def test_results(result: object, told: object) -> None:
    assert tell(result) == told


@pytest.mark.parametrize(
    ("said", "op"),
    [
        ({"op": "get", "key": "a"}, Op.get(b"a")),
        ({"op": "get", "key": {"base64": "/w=="}}, Op.get(b"\xff")),
        ({"op": "exists", "key": "a"}, Op.exists(b"a")),
        ({"op": "put", "key": "a", "value": ""}, Op.put(b"a", b"")),
        ({"op": "put", "key": "a", "value": "v", "ttl": 1.5}, Op.put(b"a", b"v", ttl=1.5)),
        ({"op": "put", "key": "a", "value": "v", "keep_ttl": True}, Op.put(b"a", b"v", keep_ttl=True)),
        ({"op": "write_read", "key": "a", "value": "v"}, Op.write_read(b"a", b"v")),
        ({"op": "delete", "key": "a"}, Op.delete(b"a")),
        ({"op": "cas", "key": "a", "expected": None, "new": "v"}, Op.cas(b"a", None, b"v")),
        ({"op": "cas", "key": "a", "expected": "v", "new": None}, Op.cas(b"a", b"v", None)),
        ({"op": "expect", "key": "a", "value": "v"}, Op.expect(b"a", b"v")),
        ({"op": "absent", "key": "a"}, Op.absent(b"a")),
        ({"op": "increment", "key": "a"}, Op.increment(b"a")),
        ({"op": "increment", "key": "a", "amount": -(2**63)}, Op.increment(b"a", -(2**63))),
        ({"op": "append", "key": "a", "value": "v"}, Op.append(b"a", b"v")),
        ({"op": "expire", "key": "a", "ttl": 2}, Op.expire(b"a", 2)),
        ({"op": "persist", "key": "a"}, Op.persist(b"a")),
    ],
)
def test_commands(said: dict[str, object], op: Op) -> None:
    body = json.dumps({"operations": [said]}).encode()
    assert read_operations(body) == [op]
    key = {"key": said.pop("key")}
    assert read_command(said, "body", op.key) == op
    with pytest.raises(Problem, match="unknown field"):
        read_command(said | key, "body", op.key)


def test_every_command_is_tried_above() -> None:
    tried = {case[0]["op"] for case in test_commands.pytestmark[0].args[1]}
    assert tried == set(FORMS)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([], "operations[0]: found an array; allowed: an object"),
        ({}, "operations[0].op: found nothing; allowed: one of get, exists, "),
        ({"op": ["get"]}, "operations[0].op: found an array; allowed: one of "),
        ({"op": "gte", "key": "a"}, 'operations[0].op: found "gte"; allowed: one of '),
        ({"op": "get"}, "operations[0]: get needs key; key is missing"),
        ({"op": "get", "key": "a", "kay": 1}, 'operations[0]: unknown field "kay"; did you mean "key"?'),
        ({"op": "get", "key": ""}, "operations[0]: the key is empty"),
        ({"op": "get", "key": 1}, 'operations[0].key: found 1; allowed: a string, or {"base64": "…"}'),
        ({"op": "get", "key": "\ud800"}, "operations[0].key: found "),
        ({"op": "get", "key": {"base64": "?"}}, "operations[0].key: found a table"),
        ({"op": "get", "key": {"base64": "/w=="}, "x" * 10_000: 1}, "operations[0]: unknown field "),
        ({"op": "put", "key": "a", "value": None}, "operations[0].value: found nothing"),
        ({"op": "put", "key": "a", "value": "v", "ttl": 0}, "operations[0].ttl: found 0; allowed: a number"),
        ({"op": "put", "key": "a", "value": "v", "ttl": True}, "operations[0].ttl: found true"),
        ({"op": "put", "key": "a", "value": "v", "ttl": 1e300}, "operations[0]: ttl is 1e+300 s; allowed: "),
        ({"op": "expire", "key": "a", "ttl": 10**300}, "operations[0]: ttl is 1e+300 s; allowed: "),
        ({"op": "expire", "key": "a", "ttl": 10**400}, "operations[0].ttl: found an integer of 1329 bits; "),
        (
            {"op": "put", "key": "a", "value": "v", "ttl": 1, "keep_ttl": True},
            "operations[0]: put takes ttl or",
        ),
        ({"op": "put", "key": "a", "value": "v", "keep_ttl": 1}, "operations[0].keep_ttl: found 1; allowed"),
        ({"op": "increment", "key": "a", "amount": 2**63}, "operations[0].amount: found 9223372036854775808"),
        ({"op": "increment", "key": "a", "amount": 1.0}, "operations[0].amount: found 1.0; allowed: an int"),
    ],
)
def test_what_is_no_command(said: object, text: str) -> None:
    with pytest.raises(Problem) as raised:
        read_operations(json.dumps({"operations": [said]}).encode())
    assert str(raised.value).startswith(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 1_000_000,
        b"NaN",
        b"1" * 10_000,
        b"{}",
        b'{"operations": []}',
        b'{"operations": {}}',
        b'{"operations": [{"op": "get", "key": "a"}], "more": 1}',
    ],
)
def test_what_is_no_multi(body: bytes) -> None:
    with pytest.raises(Problem):
        read_operations(body)


def test_json_is_what_the_standard_says() -> None:
    with pytest.raises(Problem, match="Infinity is no JSON"):
        read_json(b'{"ttl": Infinity}')
