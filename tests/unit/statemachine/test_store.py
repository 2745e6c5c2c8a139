from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.statemachine import values as values_module
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, Operation, Outcome
from epaxos.statemachine.results import Value
from epaxos.statemachine.store import Store
from epaxos.statemachine.values import Frozen

LIMITS = Limits(key=8, value=24, pause=100)
State: TypeAlias = dict[bytes, bytes]
Command: TypeAlias = tuple[int, bytes, object]
Answer: TypeAlias = tuple[int, object]


def no_sleep(_: float) -> None:
    pass


def make_store(state: State | None = None) -> Store:
    store = Store(LIMITS, no_sleep)
    if state:
        run(store, [(Operation.WRITE, key, value) for key, value in state.items()])
    return store


def run(store: Store, commands: Sequence[Command]) -> list[Answer]:
    """Execute commands as columns and give the answers command by command."""
    arguments = [argument for _, _, argument in commands]
    outcomes, values = store.execute(
        bytes(operation for operation, _, _ in commands),
        [key for _, key, _ in commands],
        cast("list[Argument]", arguments) if any(a is not None for a in arguments) else None,
    )
    assert type(outcomes) is bytes
    assert len(outcomes) == len(commands)
    if values is None:
        return [(outcome, None) for outcome in outcomes]
    assert any(value is not None for value in values)
    return list(zip(outcomes, values, strict=True))


# The model: one command at a time on a plain dict, written to be read and not to be fast.


def model_number(value: bytes) -> int | None:
    digits = value.removeprefix(b"-")
    if 1 <= len(digits) <= 19 and set(digits) <= set(b"0123456789"):
        number = int(value.decode())
        if INTEGER_MIN <= number <= INTEGER_MAX and value == b"%d" % number:
            return number
    return None


def model_increment(state: State, key: bytes, amount: int) -> Answer:
    current = model_number(state.get(key, b"0"))
    if current is None:
        return Outcome.NOT_A_NUMBER, None
    if not INTEGER_MIN <= current + amount <= INTEGER_MAX:
        return Outcome.OUT_OF_RANGE, None
    state[key] = str(current + amount).encode()
    return Outcome.DONE, current + amount


def model_multi(state: State, argument: tuple[bytes, list[bytes], list[object]]) -> Answer:
    trial = dict(state)
    answers = [model(trial, *part) for part in zip(*argument, strict=True)]
    value = [bytes(outcome for outcome, _ in answers), [value for _, value in answers]]
    if any(outcome >= Outcome.COMPARE_FAILED for outcome, _ in answers):
        return Outcome.ABORTED, value
    state.clear()
    state.update(trial)
    return Outcome.DONE, value


def model(state: State, operation: int, key: bytes, argument: object) -> Answer:  # noqa: PLR0911, C901
    match operation, argument:
        case Operation.NULL | Operation.PAUSE, _:
            return Outcome.DONE, None
        case ((Operation.READ | Operation.EXISTS), _):
            found = Outcome.DONE if key in state else Outcome.NOT_FOUND
            return found, state.get(key) if operation == Operation.READ else None
        case Operation.DELETE, _:
            return (Outcome.NOT_FOUND if state.pop(key, None) is None else Outcome.DONE), None
        case Operation.WRITE, bytes(value):
            state[key] = value
            return Outcome.DONE, None
        case Operation.WRITEREAD, bytes(value):
            previous = state.get(key)
            state[key] = value
            return Outcome.DONE, previous
        case Operation.CAS, [expected, (bytes() | None) as new]:
            if state.get(key) != expected:
                return Outcome.COMPARE_FAILED, state.get(key)
            state.pop(key, None)
            state.update({key: new} if new is not None else {})
            return Outcome.DONE, None
        case Operation.INCREMENT, int(amount):
            return model_increment(state, key, amount)
        case Operation.APPEND, bytes(suffix):
            if len(state.get(key, b"")) + len(suffix) > LIMITS.value:
                return Outcome.TOO_LARGE, None
            state[key] = state.get(key, b"") + suffix
            return Outcome.DONE, len(state[key])
        case Operation.MULTI, [bytes(operations), list(keys), list(arguments)]:
            return model_multi(state, (operations, keys, arguments))
    raise AssertionError((operation, argument))


KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.sampled_from([b"", b"0", b"7", b"-12", b"x", b"9223372036854775807", b"-9223372036854775808"])
AMOUNTS = st.integers(-3, 3) | st.sampled_from([INTEGER_MIN, INTEGER_MAX])


def command(operation: Operation, argument: st.SearchStrategy[object]) -> st.SearchStrategy[Command]:
    return st.tuples(st.just(int(operation)), KEYS, argument)


PARTS: st.SearchStrategy[Command] = st.one_of(
    command(Operation.READ, st.none()),
    command(Operation.EXISTS, st.none()),
    command(Operation.WRITE, VALUES),
    command(Operation.WRITEREAD, VALUES),
    command(Operation.DELETE, st.none()),
    command(Operation.CAS, st.tuples(st.none() | VALUES, st.none() | VALUES).map(list)),
    command(Operation.INCREMENT, AMOUNTS),
    command(Operation.APPEND, VALUES),
)


def as_multi(parts: list[Command]) -> Command:
    operations = bytes(operation for operation, _, _ in parts)
    return Operation.MULTI, b"", [operations, [key for _, key, _ in parts], [a for _, _, a in parts]]


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    PARTS,
    st.sampled_from([(int(Operation.NULL), b"", None), (int(Operation.PAUSE), b"", 5)]),
    st.lists(PARTS, min_size=1, max_size=5).map(as_multi),
)
COLUMNS = st.one_of(
    st.lists(COMMANDS, min_size=1, max_size=12),
    st.lists(command(Operation.READ, st.none()), min_size=1, max_size=12),
    st.lists(command(Operation.WRITE, VALUES), min_size=1, max_size=12),
)


@given(st.lists(COLUMNS, max_size=6))
def test_the_store_behaves_as_a_plain_dict(batches: list[list[Command]]) -> None:
    store = Store(LIMITS, no_sleep)
    state: State = {}
    for commands in batches:
        assert run(store, commands) == [model(state, *each) for each in commands]
        assert store.copy() == state
        assert len(store) == len(state)


@given(COLUMNS)
def test_columns_and_single_commands_come_to_the_same(commands: list[Command]) -> None:
    whole, single = make_store({b"a": b"1"}), make_store({b"a": b"1"})
    assert run(whole, commands) == [answer for each in commands for answer in run(single, [each])]
    assert whole.copy() == single.copy()


# What a proposer with a fault might let through.

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=4)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
ODD_COMMANDS: st.SearchStrategy[Command] = st.tuples(st.integers(0, 11), st.just(b"") | KEYS, ODD)
ODD_MULTIS: st.SearchStrategy[Command] = st.lists(ODD_COMMANDS, max_size=4).map(as_multi)


@given(st.lists(ODD_COMMANDS | ODD_MULTIS | COMMANDS, min_size=1, max_size=10))
def test_odd_commands_fail_alike_everywhere_and_change_nothing(commands: list[Command]) -> None:
    here, there = make_store({b"a": b"1", b"b": b"x"}), make_store({b"b": b"x", b"a": b"1"})
    for each in commands:
        before = here.copy()
        (answer,) = run(here, [each])
        if answer[0] >= Outcome.COMPARE_FAILED:
            assert here.copy() == before
    run(there, commands)
    assert here.copy() == there.copy()
    assert {type(value) for value in here.copy().values()} <= {bytes}


@pytest.mark.parametrize(
    ("odd", "outcome"),
    [
        ((10, b"a", None), Outcome.ABORTED),
        ((255, b"a", b"x"), Outcome.ABORTED),
        ((Operation.WRITE, b"a", None), Outcome.ABORTED),
        ((Operation.WRITE, b"a", "text"), Outcome.ABORTED),
        ((Operation.WRITE, b"a", 5), Outcome.ABORTED),
        ((Operation.WRITEREAD, b"a", None), Outcome.ABORTED),
        ((Operation.APPEND, b"a", 7), Outcome.ABORTED),
        ((Operation.CAS, b"a", None), Outcome.ABORTED),
        ((Operation.CAS, b"a", [None]), Outcome.ABORTED),
        ((Operation.CAS, b"a", [None, 1]), Outcome.ABORTED),
        ((Operation.CAS, b"a", [1, b"x"]), Outcome.ABORTED),
        ((Operation.CAS, b"a", b"xy"), Outcome.ABORTED),
        ((Operation.INCREMENT, b"a", None), Outcome.NOT_A_NUMBER),
        ((Operation.INCREMENT, b"a", True), Outcome.NOT_A_NUMBER),
        ((Operation.INCREMENT, b"a", 1.0), Outcome.NOT_A_NUMBER),
        ((Operation.INCREMENT, b"a", 2**63), Outcome.OUT_OF_RANGE),
        ((Operation.PAUSE, b"", None), Outcome.NOT_A_NUMBER),
        ((Operation.PAUSE, b"", 0.5), Outcome.NOT_A_NUMBER),
        ((Operation.PAUSE, b"", -1), Outcome.OUT_OF_RANGE),
        ((Operation.PAUSE, b"", 101), Outcome.OUT_OF_RANGE),
        ((Operation.MULTI, b"", None), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"", [], []]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x02", [b"a"], []]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x02", ["a"], [b"x"]]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x02", [[]], [b"x"]]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [[2], [b"a"], [b"x"]]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x00", [b""], [None]]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x08", [b""], [1]]), Outcome.ABORTED),
        ((Operation.MULTI, b"", [b"\x09", [b""], [[b"\x02", [b"a"], [b"x"]]]]), Outcome.ABORTED),
    ],
)
def test_odd_commands_have_a_failing_outcome_and_no_value(odd: Command, outcome: Outcome) -> None:
    store = make_store({b"a": b"1"})
    assert run(store, [odd]) == [(outcome, None)]
    assert run(store, [odd, odd]) == [(outcome, None)] * 2
    assert run(store, [odd, (Operation.READ, b"a", None)]) == [(outcome, None), (Outcome.DONE, b"1")]
    assert store.copy() == {b"a": b"1"}


@pytest.mark.parametrize(
    ("stored", "amount", "answer"),
    [
        (None, 5, (Outcome.DONE, 5)),
        (None, INTEGER_MIN, (Outcome.DONE, INTEGER_MIN)),
        (b"41", 1, (Outcome.DONE, 42)),
        (b"-1", 1, (Outcome.DONE, 0)),
        (b"007", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"-0", 0, (Outcome.NOT_A_NUMBER, None)),
        (b"9223372036854775807", 0, (Outcome.DONE, INTEGER_MAX)),
        (b"9223372036854775807", INTEGER_MIN, (Outcome.DONE, -1)),
        (b"9223372036854775807", 1, (Outcome.OUT_OF_RANGE, None)),
        (b"-9223372036854775808", -1, (Outcome.OUT_OF_RANGE, None)),
        (b"9223372036854775808", -1, (Outcome.NOT_A_NUMBER, None)),
        (b"-9223372036854775809", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"-", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"--1", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"+1", 1, (Outcome.NOT_A_NUMBER, None)),
        (b" 1", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"1\n", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"1_0", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"1.0", 1, (Outcome.NOT_A_NUMBER, None)),
        (b"0x1", 1, (Outcome.NOT_A_NUMBER, None)),
        ("٣".encode(), 1, (Outcome.NOT_A_NUMBER, None)),
        (b"0" * 20, 1, (Outcome.NOT_A_NUMBER, None)),
    ],
)
def test_increment(stored: bytes | None, amount: int, answer: Answer) -> None:
    state = {} if stored is None else {b"n": stored}
    store = make_store(state)
    assert run(store, [(Operation.INCREMENT, b"n", amount)]) == [answer]
    assert store.copy() == ({b"n": str(answer[1]).encode()} if answer[0] == Outcome.DONE else state)


def test_a_very_long_digit_string_is_no_number() -> None:
    store = Store(Limits(), no_sleep)
    run(store, [(Operation.WRITE, b"n", b"1" * 100_000)])
    assert run(store, [(Operation.INCREMENT, b"n", 1)]) == [(Outcome.NOT_A_NUMBER, None)]


def test_append_up_to_the_limit_and_not_beyond() -> None:
    store = make_store({b"a": b"x" * 20})
    assert run(store, [(Operation.APPEND, b"a", b"yyyy")]) == [(Outcome.DONE, 24)]
    assert run(store, [(Operation.APPEND, b"a", b"z")]) == [(Outcome.TOO_LARGE, None)]
    assert run(store, [(Operation.APPEND, b"a", b"")]) == [(Outcome.DONE, 24)]
    assert store.copy() == {b"a": b"x" * 20 + b"yyyy"}


def test_an_empty_value_is_not_an_absent_one() -> None:
    store = make_store({b"a": b""})
    reads = [(Operation.READ, b"a", None), (Operation.READ, b"b", None)]
    assert run(store, reads) == [(Outcome.DONE, b""), (Outcome.NOT_FOUND, None)]
    assert run(store, [(Operation.CAS, b"a", [None, b"x"])]) == [(Outcome.COMPARE_FAILED, b"")]
    assert run(store, [(Operation.CAS, b"b", [b"", b"x"])]) == [(Outcome.COMPARE_FAILED, None)]
    assert run(store, [(Operation.DELETE, b"a", None)]) == [(Outcome.DONE, None)]
    assert run(store, [(Operation.DELETE, b"a", None)]) == [(Outcome.NOT_FOUND, None)]


def test_reads_that_find_nothing_have_no_values_column() -> None:
    assert make_store().execute(b"\x01\x01", [b"a", b"b"], None) == (b"\x01\x01", None)
    assert make_store().execute(b"\x01", [b"a"], None) == (b"\x01", None)


def test_pause_calls_sleep_with_seconds() -> None:
    slept: list[float] = []
    store = Store(LIMITS, slept.append)
    assert run(store, [(Operation.PAUSE, b"", 100), (Operation.PAUSE, b"", 1)]) == [(Outcome.DONE, None)] * 2
    assert slept == [0.1, 0.001]


def multi(store: Store, *parts: Command) -> tuple[int, Value]:
    ((outcome, value),) = run(store, [as_multi(list(parts))])
    return outcome, cast("Value", value)


def test_parts_of_a_multi_see_what_earlier_parts_did() -> None:
    store = make_store({b"a": b"1"})
    assert multi(
        store,
        (Operation.INCREMENT, b"a", 4),
        (Operation.READ, b"a", None),
        (Operation.DELETE, b"a", None),
        (Operation.READ, b"a", None),
        (Operation.WRITEREAD, b"a", b"new"),
    ) == (Outcome.DONE, [b"\x00\x00\x00\x01\x00", [5, b"5", None, None, None]])
    assert store.copy() == {b"a": b"new"}


def test_a_multi_of_which_a_part_fails_changes_nothing() -> None:
    state = {b"a": b"1", b"b": b"2", b"c": b""}
    store = make_store(state)
    assert multi(
        store,
        (Operation.WRITE, b"a", b"9"),
        (Operation.DELETE, b"b", None),
        (Operation.DELETE, b"c", None),
        (Operation.APPEND, b"new", b"x"),
        (Operation.CAS, b"a", [b"1", b"8"]),
        (Operation.READ, b"a", None),
    ) == (Outcome.ABORTED, [b"\x00\x00\x00\x00\x02\x00", [None, None, None, 1, b"9", b"9"]])
    assert store.copy() == state


def test_a_key_that_is_not_found_does_not_fail_a_multi() -> None:
    store = make_store()
    parts = [(int(Operation.READ), b"a", None), (int(Operation.DELETE), b"a", None)]
    assert multi(store, *parts, (Operation.WRITE, b"a", b"1")) == (
        Outcome.DONE,
        [b"\x01\x01\x00", [None, None, None]],
    )
    assert store.copy() == {b"a": b"1"}


@pytest.mark.parametrize("odd", [(Operation.WRITE, b"a", 5), (77, b"a", None)])
def test_an_odd_part_aborts_a_multi(odd: Command) -> None:
    store = make_store({b"a": b"1"})
    answer = multi(store, (Operation.WRITE, b"a", b"2"), odd)
    assert answer == (Outcome.ABORTED, [bytes([Outcome.DONE, Outcome.ABORTED]), [None, None]])
    assert store.copy() == {b"a": b"1"}


def test_a_copy_stands_still() -> None:
    store = make_store({b"a": b"1"})
    copy = store.copy()
    run(store, [(Operation.WRITE, b"a", b"2"), (Operation.WRITE, b"b", b"3")])
    assert copy == {b"a": b"1"}


def test_what_was_put_aside_in_several_parts_is_what_stood_at_first() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(values_module, "_ASIDE", 1)
        data: dict[bytes, bytes] = {b"a": b"1", b"b": b"1"}
        frozen = Frozen(data)
        for turn in range(4):
            for key in (b"a", b"b", b"c"):
                frozen.put_aside([key])
                data[key] = b"later %d" % turn
        data[b"d"] = b"1"
        assert frozen.values([b"a", b"b", b"c", b"d", b"e"]) == [b"1", b"1", None, b"1", None]


def test_what_was_put_aside_goes_some_at_a_time() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(values_module, "_ASIDE", 3)
        frozen = Frozen({b"%d" % key: b"1" for key in range(9)})
        for key in range(9):
            frozen.put_aside([b"%d" % key])
        steps = 0
        while frozen.forget(2):
            steps += 1
        assert 4 <= steps <= 6
        assert not frozen.forget(2)


def test_what_is_put_by_itself_is_put_aside_first() -> None:
    """As the records of transactions are."""
    store = Store(LIMITS, no_sleep)
    store.put(b"a", b"1")
    frozen = store.freeze()
    store.put(b"a", b"2")
    store.put(b"b", b"2")
    assert frozen.values([b"a", b"b"]) == [b"1", None]
