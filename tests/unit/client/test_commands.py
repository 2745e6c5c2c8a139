from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import epaxos
from epaxos.client.commands import Op, as_columns, weigh
from epaxos.client.decoding import decode
from epaxos.client.results import CasResult, MultiAborted
from epaxos.errors import OperationFailed, Refused, Untold
from epaxos.statemachine.batch import Limits, decode_batch, encode_batch
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, Outcome
from epaxos.statemachine.store import Store

KEYS = st.binary(min_size=1, max_size=3)
VALUES = st.binary(max_size=4) | st.integers(-20, 20).map(lambda number: b"%d" % number)
SIMPLE = st.one_of(
    st.builds(Op.get, KEYS),
    st.builds(Op.put, KEYS, VALUES),
    st.builds(Op.write_read, KEYS, VALUES),
    st.builds(Op.delete, KEYS),
    st.builds(Op.exists, KEYS),
    st.builds(Op.cas, KEYS, st.none() | VALUES, st.none() | VALUES),
    st.builds(Op.increment, KEYS, st.integers(INTEGER_MIN, INTEGER_MAX)),
    st.builds(Op.append, KEYS, VALUES),
)
OPERATIONS = st.one_of(
    SIMPLE,
    st.builds(Op.pause, st.integers(0, 100)),
    st.builds(Op.null),
    st.builds(
        Op.scan, VALUES, st.none() | KEYS, st.integers(1, 5), values=st.booleans(), reverse=st.booleans()
    ),
    st.builds(Op.count, VALUES),
    st.builds(Op.clear, VALUES, st.none() | KEYS, st.integers(1, 5)),
    st.builds(Op.multi, st.lists(SIMPLE, min_size=1, max_size=4)),
)


def executed(store: Store, op: Op) -> object:
    """What the operation returns when a replica executes it."""
    batch = decode_batch(encode_batch(1, 1, 1, *as_columns([op])))
    outcomes, values = store.execute(batch.operations, batch.keys, batch.arguments)
    return decode(op, outcomes[0], None if values is None else values[0])


def new_store() -> Store:
    return Store(Limits(value=8), lambda _: None)


@given(OPERATIONS)
def test_replicas_take_what_the_constructors_make(op: Op) -> None:
    check_batch(decode_batch(encode_batch(1, 1, 1, *as_columns([op]))), Limits())


@given(OPERATIONS)
def test_a_command_is_never_heavier_on_the_wire_than_it_was_weighed(op: Op) -> None:
    one = len(encode_batch(2**64 - 1, 2**63 - 1, 2**63 - 1, *as_columns([op])))
    assert one <= weigh(*op[:3], 1) + 64


@given(st.lists(OPERATIONS, max_size=12))
def test_whatever_a_replica_answers_becomes_a_result_or_a_failure(operations: list[Op]) -> None:
    store = new_store()
    for op in operations:
        with suppress(OperationFailed):
            executed(store, op)


def test_results() -> None:
    store = new_store()
    steps: list[tuple[Op, object]] = [
        (Op.get(b"k"), None),
        (Op.put(b"k", b"1"), None),
        (Op.get(b"k"), b"1"),
        (Op.write_read(b"k", b"2"), b"1"),
        (Op.write_read(b"other", b""), None),
        (Op.get(b"other"), b""),
        (Op.cas(b"k", b"wrong", b"3"), CasResult(swapped=False, current=b"2")),
        (Op.cas(b"k", b"2", b"3"), CasResult(swapped=True, current=b"3")),
        (Op.cas(b"absent", b"", b"3"), CasResult(swapped=False, current=None)),
        (Op.cas(b"absent", None, b"4"), CasResult(swapped=True, current=b"4")),
        (Op.expect(b"absent", b"4"), CasResult(swapped=True, current=b"4")),
        (Op.absent(b"absent"), CasResult(swapped=False, current=b"4")),
        (Op.cas(b"absent", b"4", None), CasResult(swapped=True, current=None)),
        (Op.absent(b"absent"), CasResult(swapped=True, current=None)),
        (Op.get(b"absent"), None),
        (Op.increment(b"k"), 4),
        (Op.increment(b"k", -5), -1),
        (Op.increment(b"new", 7), 7),
        (Op.append(b"k", b"23"), 4),
        (Op.exists(b"k"), True),
        (Op.delete(b"k"), True),
        (Op.exists(b"k"), False),
        (Op.delete(b"k"), False),
        (Op.null(), None),
        (Op.pause(1), None),
        (
            Op.multi([Op.put(b"m", b"1"), Op.increment(b"m"), Op.get(b"none"), Op.delete(b"none")]),
            [None, 2, None, False],
        ),
    ]
    assert [executed(store, op) for op, _ in steps] == [result for _, result in steps]


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (Op.increment(b"text"), 'increment of "text" failed and changed nothing: the value found is not'),
        (Op.increment(b"large", INTEGER_MAX), "outside -2\\*\\*63 to 2\\*\\*63 - 1"),
        (Op.append(b"text", b"123456"), 'append of "text" failed .* longer than the cluster allows'),
        (Op.increment(b"\xff" * 40), "increment of 0x(ff){32}… failed"),
        (Op(8, b"", 101), "pause failed .* outside"),
        (Op(99, b"", None), "operation 99 failed .* malformed"),
    ],
)
def test_failures_say_what_and_why(op: Op, reason: str) -> None:
    store = new_store()
    executed(store, Op.put(b"text", b"text"))
    executed(store, Op.put(b"large", b"9"))
    executed(store, Op.put(b"\xff" * 40, b"text"))
    with pytest.raises(OperationFailed, match=reason):
        executed(store, op)


def test_an_aborted_multi_says_which_operation_failed() -> None:
    store = new_store()
    op = Op.multi([Op.get(b"a"), Op.put(b"a", b"1"), Op.cas(b"key" * 100, b"x", b"y"), Op.increment(b"a")])
    with pytest.raises(MultiAborted) as caught:
        executed(store, op)
    assert (caught.value.part, caught.value.outcome) == (2, Outcome.COMPARE_FAILED)
    assert 'its operation 2, cas of "keykey' in str(caught.value)
    assert "..." in str(caught.value)
    assert executed(store, Op.get(b"a")) is None


@pytest.mark.parametrize("value", [None, 1, [b"\x00"], [b"\x00", [1, 2]], [b"\x00\x00", [1]], ["x", [1]]])
def test_a_malformed_answer_to_a_multi_is_no_result(value: Any) -> None:
    with pytest.raises(Untold):
        decode(Op.multi([Op.get(b"a")]), Outcome.DONE, value)
    with pytest.raises(OperationFailed, match="the replicas found it malformed"):
        decode(Op.multi([Op.get(b"a")]), Outcome.ABORTED, value)


OF_EACH_KIND = [
    Op.get(b"k"),
    Op.put(b"k", b""),
    Op.write_read(b"k", b""),
    Op.delete(b"k"),
    Op.cas(b"k", None, b""),
    Op.increment(b"k"),
    Op.multi([Op.get(b"k")]),
]


@pytest.mark.parametrize("op", OF_EACH_KIND)
def test_an_outcome_that_does_not_tell_the_result_is_an_error_of_its_own(op: Op) -> None:
    with pytest.raises(Untold, match="was executed, but its answer was lost") as caught:
        decode(op, Outcome.FORGOTTEN, None)
    assert caught.value.may_have_executed


@pytest.mark.parametrize("op", OF_EACH_KIND)
def test_an_unknown_outcome_is_an_error(op: Op) -> None:
    with pytest.raises(Untold, match="outcome 77, makes no sense here"):
        decode(op, 77, None)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda op: op.get("k"), "key must be bytes, not str; encode it first"),
        (lambda op: op.get(bytearray(b"k")), "key must be bytes, not bytearray"),
        (lambda op: op.put(b"k", 1), "value must be bytes, not int"),
        (lambda op: op.put(b"k", None), "value must be bytes, not NoneType"),
        (lambda op: op.cas(b"k", "x", b""), "expected must be bytes, not str"),
        (lambda op: op.cas(b"k", b"", 1), "new must be bytes"),
        (lambda op: op.expect(b"k", 1), "expected must be bytes"),
        (lambda op: op.increment(b"k", 1.0), "amount must be an int, not float"),
        (lambda op: op.increment(b"k", True), "amount must be an int, not bool"),
        (lambda op: op.append(b"k", [1]), "suffix must be bytes, not list"),
        (lambda op: op.pause("1"), "milliseconds must be an int"),
        (lambda op: op.multi(op.get(b"k")), "a list of Op, not one Op"),
        (
            lambda op: op.multi([Op.get(b"k"), b"k"]),
            "operation 1 must be an Op like Op.get\\(key\\), not bytes",
        ),
        (lambda op: op.multi([(1, b"k", None)]), "operation 0 must be an Op like Op.get\\(key\\), not tuple"),
    ],
)
def test_wrong_types_are_told_before_anything_is_sent(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call(Op)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Op.get(b""), "the key is empty; it needs at least 1 byte"),
        (
            lambda: Op.increment(b"k", 2**63),
            "amount is 9223372036854775808; allowed: -9223372036854775808 to",
        ),
        (lambda: Op.pause(-1), "milliseconds is -1; allowed: 0 to"),
        (lambda: Op.multi([]), "multi needs at least one operation"),
        (lambda: Op.multi([Op.get(b"k"), Op.null()]), "multi may not hold null \\(its operation 1\\)"),
        (lambda: Op.multi([Op.multi([Op.get(b"k")])]), "multi may not hold multi \\(its operation 0\\)"),
        (lambda: Op.multi([Op.pause(1)]), "multi may not hold pause"),
    ],
)
def test_what_no_replica_takes_is_refused_before_anything_is_sent(make: Any, text: str) -> None:
    with pytest.raises(Refused, match=text) as caught:
        make()
    assert not caught.value.may_have_executed


def test_the_package_exports_what_clients_need() -> None:
    for name in epaxos.__all__:
        assert getattr(epaxos, name) is not None
    assert dir(epaxos) == sorted(epaxos.__all__)
    assert epaxos.Op is Op
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = epaxos.nonsense  # type: ignore[attr-defined]
