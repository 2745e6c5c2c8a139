"""RESP: requests out of bytes however they come, and replies in both versions."""

from __future__ import annotations

from random import Random

import pytest

from epaxos.doors.redis.resp import (
    INLINE_MOST,
    Map,
    Members,
    NullArray,
    Parser,
    Push,
    RedisError,
    Reply,
    Request,
    Text,
    encode,
    split_line,
)

MANY = 10**9


def parse(data: bytes, *cuts: int, bulk: int = 1000, request: int = 10_000) -> tuple[list[Request], str]:
    """All requests of some bytes that come in pieces, and what is wrong with the rest."""
    parser = Parser(bulk, request)
    requests: list[Request] = []
    for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
        parser.feed(data[start:stop])
        more, wrong = parser.take(MANY, MANY)
        requests += more
        if wrong is not None:
            return requests, str(wrong)
    return requests, ""


STREAM = (
    b"*1\r\n$4\r\nPING\r\nPING hello\r\n\r\n*0\r\n*-1\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n"
    b"set \"a b\" 'c'\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\nECHO last\n"
)
REQUESTS = [
    [b"PING"],
    [b"PING", b"hello"],
    [b"SET", b"k", b"\r\n\r\n"],
    [b"set", b"a b", b"c"],
    [b"GET", b""],
    [b"ECHO", b"last"],
]


def test_requests_are_the_same_in_whatever_pieces_they_come() -> None:
    assert parse(STREAM) == (REQUESTS, "")
    assert parse(STREAM, *range(1, len(STREAM))) == (REQUESTS, "")
    random = Random(1)
    for _ in range(50):
        assert parse(STREAM, *sorted(random.sample(range(1, len(STREAM)), 4))) == (REQUESTS, "")


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$1001\r\n", "invalid bulk length"),
        (b"*1\r\n$1 \r\n", "invalid bulk length"),
        (b"*11\r\n" + b"$1000\r\n" + b"x" * 1000 + b"\r\n", "expected '$', got"),
        (b"*" + b"1" * INLINE_MOST + b"1", "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * INLINE_MOST + b"1", "too big bulk count string"),
        (b"x" * (INLINE_MOST + 1), "too big inline request"),
        (b'set "a\r\n', "unbalanced quotes in request"),
        (b"set 'a'b\r\n", "unbalanced quotes in request"),
        (b"*12\r\n" + b"$1000\r\n%b\r\n" % (b"x" * 1000) * 10, "too big request"),
    ],
)
def test_what_is_no_request_is_told_as_redis_does(data: bytes, wrong: str) -> None:
    more = b"$1\r\nPING\r\n" * 3 if data.endswith(b"\r\n") else b""
    requests, found = parse(b"PING\r\n" + data + more)
    assert requests == [[b"PING"]]
    assert found.startswith(wrong)


def test_what_a_length_claims_takes_no_memory_before_it_comes() -> None:
    parser = Parser(2**30, 2**30)
    parser.feed(b"*1000000\r\n$1000000000\r\nx")
    assert parser.take(MANY, MANY) == ([], None)
    assert not parser.ready
    assert parser.held < 2**31  # what has been promised counts, so that it is bounded
    assert len(parser._buffer) == 1


def test_no_more_is_parsed_than_is_asked_for() -> None:
    parser = Parser(1000, 1000)
    parser.feed(b"PING\r\n" * 10)
    assert len(parser.take(3, MANY)[0]) == 3
    assert len(parser.take(MANY, 5)[0]) == 2
    assert len(parser.take(MANY, MANY)[0]) == 5
    assert parser.held == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  a  b ", [b"a", b"b"]),
        (rb'"\x41\n\"\q" c', [b'A\n"q', b"c"]),
        (rb"'\'\n'", [rb"'\n"]),
        (b'a"b c"', [b"ab c"]),
        (rb'"\x4" ', [b"x4"]),
        (b'"a', None),
        (b"'a' 'b", None),
    ],
)
def test_words_of_a_line(line: bytes, words: Request | None) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("reply", "two", "three"),
    [
        (b"a\r\nb", b"$4\r\na\r\nb\r\n", None),
        ("OK", b"+OK\r\n", None),
        (-5, b":-5\r\n", None),
        (None, b"$-1\r\n", b"_\r\n"),
        (NullArray(), b"*-1\r\n", b"_\r\n"),
        (RedisError("ERR a\r\nb"), b"-ERR a  b\r\n", None),
        ([b"a", [1, None]], b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n", b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n"),
        (Map([(b"a", 1)]), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (Members(["a"]), b"*1\r\n+a\r\n", b"~1\r\n+a\r\n"),
        (Push([b"a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"),
        (Text("hello"), b"$5\r\nhello\r\n", b"=9\r\ntxt:hello\r\n"),
    ],
)
def test_replies(reply: Reply, two: bytes, three: bytes | None) -> None:
    assert encode(reply, 2) == two
    assert encode(reply, 3) == (two if three is None else three)
