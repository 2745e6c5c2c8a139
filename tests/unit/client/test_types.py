"""What type checkers know of results: mypy proves the `assert_type`s, the tests that they are true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, assert_type

import pytest

from epaxos import JSON, MSGPACK, TEXT, AsyncClient, CasResult, Client, Codec, Op, Ops, Result
from epaxos.client.codecs import V
from epaxos.client.commands import T, as_columns
from epaxos.client.decoding import decode
from epaxos.client.methods import KeyMethods
from epaxos.errors import ClientError, NoAnswer, OperationFailed, Undecodable
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.store import Store


class Local(KeyMethods[V]):
    """A client of a store of its own."""

    def __init__(self, codec: Codec[V]) -> None:
        super().__init__(codec)
        self.store = Store(Limits(), lambda _: None)

    def execute(self, operation: Op[T], *, timeout: float | None = None) -> T:
        del timeout
        outcomes, values = self.store.execute(*as_columns([operation]))
        return decode(operation, outcomes[0], None if values is None else values[0])

    def _cluster_of(self, key: bytes) -> Client[V]:
        raise NotImplementedError(key)

    def _multi(self, operations: Iterable[Op[T]], timeout: float | None) -> list[T]:
        return self.execute(Op.multi(operations), timeout=timeout)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


POINT: Codec[Point] = Codec(
    "Point",
    lambda point: b"%d %d" % (point.x, point.y),
    lambda value: Point(*map(int, value.split(b" "))),
)


def test_a_client_returns_values_of_its_codec() -> None:
    client = Local(POINT)
    assert client.put(b"p", Point(1, 2)) is None  # type: ignore[func-returns-value]
    assert assert_type(client.get(b"p"), Point | None) == Point(1, 2)
    assert client.get(b"q") is None
    assert assert_type(client.exists(b"q"), bool) is False
    result = assert_type(client.cas(b"p", Point(1, 2), Point(3, 4)), CasResult[Point])
    assert result
    assert result == CasResult(swapped=True, current=Point(3, 4))
    failed = client.cas(b"p", None, Point(0, 0))
    assert not failed
    assert failed.current == Point(3, 4)
    assert assert_type(client.write_read(b"p", Point(5, 6)), Point | None) == Point(3, 4)
    assert (
        client.multi((client.op.expect(b"p", Point(5, 6)), client.op.absent(b"q"), Op.get(b"p")))[2] == b"5 6"
    )
    with pytest.raises(OperationFailed, match="operation 1, cas of"):
        client.multi([client.op.put(b"q", Point(0, 0)), client.op.expect(b"p", Point(7, 7))])
    assert client.cas(b"p", Point(5, 6), None)
    assert assert_type(client.delete(b"p"), bool) is False


def test_a_multi_of_a_tuple_has_the_type_of_each_result() -> None:
    client = Local(TEXT)
    number, text, raw, gone = assert_type(
        client.multi((Op.increment(b"n", 7), client.op.get(b"n"), Op.get(b"n"), Op.delete(b"n"))),
        tuple[int, str | None, bytes | None, bool],
    )
    assert (number, text, raw, gone) == (7, "7", b"7", True)
    several = assert_type(client.multi([client.op.get(key) for key in (b"a", b"b")]), Sequence[str | None])
    assert several == [None, None]


def what_type_checkers_know(client: Client, texts: Client[str]) -> None:
    """Never run: a mistake here is one of mypy's."""
    assert_type(Client(), Client[bytes])
    assert_type(Client(codec=TEXT), Client[str])
    assert_type(AsyncClient(codec=POINT), AsyncClient[Point])
    assert_type(client.get(b"k"), bytes | None)
    assert_type(texts.get(b"k"), str | None)
    assert_type(client.bulk([Op.increment(b"k")]), list[Result[int]])
    assert_type(client.execute(Op.multi([Op.delete(b"k")])), list[bool])
    texts.put(b"k", b"bytes")  # type: ignore[arg-type]
    client.put(b"k", "text")  # type: ignore[arg-type]
    Ops(POINT).put(b"k", "text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codec", "value", "stands"),
    [
        (TEXT, "grün", "grün".encode()),
        (JSON, {"b": [1, None], "a": "ü"}, '{"a":"ü","b":[1,null]}'.encode()),
        (MSGPACK, {"raw": b"\0"}, b"\x81\xa3raw\xc4\x01\0"),
    ],
)
def test_codecs_write_and_read(codec: Codec[Any], value: Any, stands: bytes) -> None:
    client = Local(codec)
    client.put(b"k", value)
    assert client.execute(Op.get(b"k")) == stands
    assert client.get(b"k") == value
    assert client.cas(b"k", value, value)


@pytest.mark.parametrize(
    ("codec", "value", "text"),
    [
        (TEXT, b"x", "value cannot be written as TEXT: it is no str but bytes"),
        (JSON, object(), "value cannot be written as JSON: Object of type object is not"),
        (JSON, float("nan"), "value cannot be written as JSON: Out of range float"),
        (JSON, None, "value must not be None, which says that there is no value; delete the key"),
        (MSGPACK, object(), "value cannot be written as MSGPACK: "),
    ],
)
def test_what_a_codec_has_no_bytes_for_is_told_before_anything_is_sent(
    codec: Codec[Any], value: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        Ops(codec).put(b"k", value)


def test_what_is_no_codec_is_refused() -> None:
    anything: Any = "json"
    with pytest.raises(TypeError, match=r"^codec must be a Codec, such as epaxos.JSON, not str$"):
        Ops(anything)


def test_bytes_that_a_codec_cannot_read_are_an_error_that_has_them() -> None:
    client = Local(JSON)
    client.execute(Op.put(b"k", b"{"))
    with pytest.raises(Undecodable, match="the value found is not JSON: ") as caught:
        client.get(b"k")
    assert caught.value.value == b"{"
    assert caught.value.may_have_executed


def test_numbers_and_suffixes_are_only_for_codecs_that_can_read_them() -> None:
    texts = Local(TEXT)
    assert texts.increment(b"n", 12) == 12
    assert texts.append(b"n", "ü") == 4
    assert texts.get(b"n") == "12ü"
    documents = Local(JSON)
    documents.increment(b"n", 12)
    assert documents.get(b"n") == 12
    with pytest.raises(TypeError, match="append joins bytes, which makes no value in JSON; use"):
        documents.append(b"n", 1)
    with pytest.raises(TypeError, match="increment leaves decimal digits, which are no value in MSGPACK"):
        Ops(MSGPACK).increment(b"n")


@pytest.mark.parametrize(
    "text",
    [
        "Op.get(b'a')",
        "Op.put(b'a', b'1')",
        "Op.write_read(b'a', b'')",
        "Op.delete(b'a')",
        "Op.exists(b'a')",
        "Op.cas(b'a', None, b'1')",
        "Op.cas(b'a', b'0', b'1')",
        "Op.cas(b'a', b'0', None)",
        "Op.increment(b'a', -5)",
        "Op.append(b'a', b'x')",
        "Op.pause(5)",
        "Op.null()",
        "Op.multi([Op.get(b'a'), Ops(JSON).put(b'b', {'x': 1}), Op.increment(b'c', 1)])",
        "Ops(TEXT).cas(b'a', None, 'x')",
        "Ops(JSON).get(b'a')",
        "Op(77, b'a', None)",
    ],
)
def test_a_command_is_shown_as_one_would_write_it(text: str) -> None:
    names = {"Op": Op, "Ops": Ops, "JSON": JSON, "TEXT": TEXT}
    assert repr(eval(text, names)) == text


def test_results_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        CasResult(swapped=True, current=b"").swapped = False  # type: ignore[misc]
    assert Result(1).unwrap() == 1
    with pytest.raises(ClientError, match="lost"):
        Result(error=NoAnswer("lost")).unwrap()


def test_a_bulk_call_or_a_multi_reads_each_value_with_its_own_codec() -> None:
    client = Local(MSGPACK)
    client.multi([client.op.put(b"m", [1]), Ops(JSON).put(b"j", [2])])
    assert client.multi([client.op.get(b"m"), Ops(JSON).get(b"j"), Op.get(b"j")]) == [[1], [2], b"[2]"]
    with pytest.raises(OperationFailed, match="operation 0, cas"):
        client.multi((client.op.cas(b"m", [7], [8]),))
