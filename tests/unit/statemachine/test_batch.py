from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.errors import CommandError, FrameError
from epaxos.statemachine.batch import (
    Batch,
    Limits,
    Payload,
    decode_batch,
    decode_payload,
    encode_batch,
    make_collection,
    make_payload,
)
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.columns import Argument, multi_columns, only_reads
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, RECORDS, Operation

LIMITS = Limits(key=4, value=6, pause=100)
RECORD = RECORDS + bytes(16)


def make_batch(*commands: tuple[int, bytes, Argument], first: int = 1) -> Batch:
    arguments = [argument for _, _, argument in commands]
    encoded = encode_batch(
        9,
        first,
        0,
        bytes(operation for operation, _, _ in commands),
        [key for _, key, _ in commands],
        arguments if any(argument is not None for argument in arguments) else None,
    )
    return decode_batch(encoded)


def test_a_batch_survives_encoding() -> None:
    arguments: list[Argument] = [b"value", 5, [None, b"x"], None]
    batch = decode_batch(
        encode_batch(2**64 - 1, 2**63 - 1, 17, b"\x02\x06\x05\x01", [b"a", b"b", b"c", b""], arguments)
    )
    assert (batch.client, batch.first, batch.acked) == (2**64 - 1, 2**63 - 1, 17)
    assert batch.operations == b"\x02\x06\x05\x01"
    assert batch.keys == [b"a", b"b", b"c", b""]
    assert batch.arguments == arguments
    assert len(batch) == 4


GOOD: list[object] = [9, 0, 1, 0, b"\x02\x02", [b"a", b"b"], [b"x", b"y"]]


ODD_COLUMNS: dict[int, list[object]] = {
    0: [-1, -(2**63), 1.0, True, None, b"9", "9"],
    1: [-1, 2**62, 1.0, True, None],
    2: [0, -1, 2**63, 1.0, True, None],
    3: [2, -1, 0.0, False, None],
    4: [b"", b"\x02", b"\x02\x02\x02", "ab", [2, 2], None, 2],
    5: [[], [b"a"], [b"a", b"b", b"c"], [b"a", "b"], [b"a", None], b"ab", None, {}],
    6: [[], [b"x"], [b"x", b"y", b"z"], b"xy", 5, {"a": 1, "b": 2}],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, odd) for column, values in ODD_COLUMNS.items() for odd in values]
)
def test_columns_of_wrong_type_or_length_are_malformed(column: int, value: object) -> None:
    assert decode_batch(msgpack.packb(GOOD)).keys == [b"a", b"b"]
    with pytest.raises(FrameError) as refusal:
        decode_batch(msgpack.packb([*GOOD[:column], value, *GOOD[column + 1 :]]))
    assert refusal.value.kind == "malformed"


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x93\x01\x02", msgpack.packb(GOOD) + b"\0", msgpack.packb(GOOD)[:-1]]
)
def test_bytes_that_are_no_batch_are_malformed(body: bytes) -> None:
    with pytest.raises(FrameError) as refusal:
        decode_batch(body)
    assert refusal.value.kind == "malformed"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=5)
    | st.text(max_size=5)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=3))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**40), st.integers(0, 999_999_999)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)


def mutate(encoded: bytes, mutations: list[tuple[int, int]], cut: int) -> bytes:
    mutated = bytearray(encoded)
    for position, byte in mutations:
        mutated[position % len(mutated)] = byte
    return bytes(mutated[: len(mutated) - cut])


def decode_both(body: bytes) -> None:
    """Decode bytes as a batch and as a payload; only FrameError may come of it."""
    with suppress(FrameError):
        decode_batch(body)
    with suppress(FrameError):
        decode_payload(body)
    with suppress(FrameError):
        decode_payload(msgpack.packb([body]))


@given(st.binary(max_size=40))
def test_random_bytes_raise_nothing_but_frame_error(body: bytes) -> None:
    decode_both(body)


@given(ANYTHING | st.lists(ANYTHING, min_size=6, max_size=6) | st.lists(st.binary(), max_size=3))
def test_well_formed_nonsense_raises_nothing_but_frame_error(value: object) -> None:
    decode_both(msgpack.packb(value))


@given(st.binary(min_size=1, max_size=4), ANYTHING)
def test_odd_arguments_raise_nothing_but_frame_error(operations: bytes, argument: object) -> None:
    count = len(operations)
    for column in ([argument] * count, argument):
        decode_both(msgpack.packb([9, 1, 0, operations, [b"k"] * count, column]))
    decode_both(
        msgpack.packb([9, 1, 0, bytes([Operation.MULTI]), [b""], [[operations, [b"k"] * count, argument]]])
    )
    decode_both(msgpack.packb([9, 1, 0, bytes([Operation.MULTI]), [b""], [argument]]))


@given(MUTATIONS, st.integers(0, 3))
def test_mutated_payloads_raise_nothing_but_frame_error(mutations: list[tuple[int, int]], cut: int) -> None:
    multi: Argument = [b"\x02\x01", [b"a", b"b"], [b"x", None]]
    operations = bytes((Operation.WRITE, Operation.MULTI, Operation.CAS))
    encoded = encode_batch(9, 1, 0, operations, [b"a", b"", b"c"], [b"x", multi, [None, b"d"]])
    decode_both(mutate(encoded, mutations, cut))
    batch = decode_batch(encoded)
    decode_both(mutate(make_payload([batch, batch]).encoded, mutations, cut))


@pytest.mark.parametrize(
    "deep", [b"\x91" * 5000, b"\x81\x01" * 5000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_deep_or_falsely_long_values_are_malformed(deep: bytes) -> None:
    for decode in (decode_batch, decode_payload):
        with pytest.raises(FrameError):
            decode(deep)


@pytest.mark.parametrize(
    "value", [None, 5, b"ab", "ab", [], [None], [b"", "a"], [["a"]], {b"a": b"b"}, [b"\xc0"]]
)
def test_what_is_no_payload_is_malformed(value: object) -> None:
    with pytest.raises(FrameError) as refusal:
        decode_payload(msgpack.packb(value))
    assert refusal.value.kind == "malformed"


GOOD_PAYLOAD: list[object] = [
    [10, 10],
    [9, 7],
    [0, 0],
    [1, 5],
    [0, 5],
    [1, 2],
    b"\x02\x02\x01",
    [b"a", b"b", b"c"],
    [b"x", b"y", None],
]
ODD_PARTS: dict[int, list[object]] = {
    0: [[10], [10, 10, 10], [10, None], b"", None],
    1: [[9], [], [9, -1], [9, b"7"], [9, True], b"97", None],
    2: [[0], [0, -1], [0, 2**62], [0, 0.0]],
    3: [[1], [0, 5], [1, 2**63], [1, None]],
    4: [[0], [2, 5], [0, -1], [0, "5"]],
    5: [[3], [1, 1], [1, 3], [0, 3], [-1, 4], [1, 2.0]],
    6: [b"", b"\x02\x02", "abc", [2, 2, 1], None],
    7: [[b"a", b"b"], [b"a", b"b", "c"], [b"a", b"b", None], b"abc", None],
    8: [[], [b"x", b"y"], b"xyz", 5],
}


@pytest.mark.parametrize(("part", "value"), [(part, odd) for part, odds in ODD_PARTS.items() for odd in odds])
def test_joined_columns_of_wrong_type_or_length_are_malformed(part: int, value: object) -> None:
    fine = decode_payload(msgpack.packb(GOOD_PAYLOAD))
    assert [(batch.client, batch.first, len(batch), batch.arguments) for batch in fine.batches] == [
        (9, 1, 1, [b"x"]),
        (7, 5, 2, [b"y", None]),
    ]
    with pytest.raises(FrameError) as refusal:
        decode_payload(msgpack.packb([*GOOD_PAYLOAD[:part], value, *GOOD_PAYLOAD[part + 1 :]]))
    assert refusal.value.kind == "malformed"


@pytest.mark.parametrize(
    "argument",
    [
        None,
        b"abc",
        [],
        [b"\x02", [b"a"]],
        [b"", [], []],
        [b"\x02", [b"a"], []],
        [b"\x02", ["a"], [b"x"]],
        ["\x02", [b"a"], [b"x"]],
    ],
)
def test_a_multi_without_columns_is_no_payload(argument: Argument) -> None:
    assert multi_columns(argument) is None
    batch = make_batch((Operation.WRITE, b"a", b"x"), (Operation.MULTI, b"", argument))
    with pytest.raises(FrameError) as refusal:
        make_payload([batch])
    assert refusal.value.kind == "malformed"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE, Operation.INCREMENT])
def test_keys_of_records_are_for_transactions_only(operation: Operation, count: int) -> None:
    argument: Argument = {Operation.READ: None, Operation.WRITE: b"x"}.get(operation, 1)
    arguments: list[Argument] | None = None if argument is None else [argument] * count
    others = [b"zebra"] * (count - 1)
    for key in (b"\0", b"\0epaxos", b"\0epaxos\1", b"\0\0\0\5", b"\xff"):
        check_batch(Batch(1, 1, 0, bytes([operation] * count), [key, *others], arguments), Limits())
    forged = [RECORDS + bytes([first]) + bytes(15) for first in range(256)]
    for key in (RECORD, RECORDS, *forged):
        with pytest.raises(CommandError, match="those are the service's own"):
            check_batch(Batch(1, 1, 0, bytes([operation] * count), [*others, key], arguments), Limits())


FINE: list[tuple[int, bytes, Argument]] = [
    (Operation.NULL, b"", None),
    (Operation.READ, b"1234", None),
    (Operation.WRITE, b"a", b"123456"),
    (Operation.WRITE, b"a", b""),
    (Operation.WRITEREAD, b"a", b""),
    (Operation.DELETE, b"a", None),
    (Operation.CAS, b"a", [None, b""]),
    (Operation.CAS, b"a", [None, None]),
    (Operation.CAS, b"a", [b"x", None]),
    (Operation.CAS, b"a", [b"123456", b"123456"]),
    (Operation.INCREMENT, b"a", INTEGER_MIN),
    (Operation.INCREMENT, b"a", INTEGER_MAX),
    (Operation.APPEND, b"a", b"123456"),
    (Operation.PAUSE, b"", 0),
    (Operation.PAUSE, b"", 50),
    (Operation.MULTI, b"", [b"\x01\x02\x06", [b"a", b"b", b"a"], [None, b"x", -1]]),
    (Operation.PREPARE, RECORD, [0, [[b"east", 0], [b"west", 3]], [b"\x01", [b"a"], [None]]]),
    (Operation.VOTE, RECORD, 2**62 - 1),
    (Operation.RESOLVE, RECORD, [True, [b"a", b"1234"]]),
    (Operation.FORGET, RECORD, [b"a", b"1234"]),
]

REFUSED: list[tuple[tuple[int, bytes, Argument], str]] = [
    ((24, b"", None), "unknown operation 24; known are 0 to 23"),
    ((255, b"a", None), "unknown operation 255; known are 0 to 23"),
    ((Operation.NULL, b"a", None), "NULL takes no key"),
    ((Operation.NULL, b"", b""), "NULL takes no argument"),
    ((Operation.READ, b"", None), "READ needs a key of 1 to 4 bytes"),
    ((Operation.READ, b"12345", None), "key of 5 bytes; at most 4 are allowed"),
    ((Operation.READ, b"a", b"x"), "READ takes no argument"),
    ((Operation.WRITE, b"", b"x"), "WRITE needs a key of 1 to 4 bytes"),
    ((Operation.WRITE, b"12345", b"x"), "key of 5 bytes; at most 4 are allowed"),
    ((Operation.WRITE, b"a", b"1234567"), "value of 7 bytes; at most 6 are allowed"),
    ((Operation.WRITE, b"a", None), "WRITE needs a value of bytes"),
    ((Operation.WRITE, b"a", 5), "WRITE needs a value of bytes"),
    ((Operation.WRITEREAD, b"a", 5), "WRITEREAD needs a value of bytes"),
    ((Operation.DELETE, b"a", b""), "DELETE takes no argument"),
    ((Operation.CAS, b"a", None), "CAS needs [expected value or null, new value or null]"),
    ((Operation.CAS, b"a", [b"x"]), "CAS needs [expected value or null, new value or null]"),
    ((Operation.CAS, b"a", [5, b"x"]), "CAS needs a value of bytes"),
    ((Operation.CAS, b"a", [b"x", 5]), "CAS needs a value of bytes"),
    ((Operation.CAS, b"a", [b"1234567", b"x"]), "value of 7 bytes; at most 6 are allowed"),
    ((Operation.CAS, b"a", [None, b"1234567"]), "value of 7 bytes; at most 6 are allowed"),
    (
        (Operation.INCREMENT, b"a", INTEGER_MAX + 1),
        "INCREMENT needs an integer from -9223372036854775808 to 9223372036854775807",
    ),
    (
        (Operation.INCREMENT, b"a", True),
        "INCREMENT needs an integer from -9223372036854775808 to 9223372036854775807",
    ),
    ((Operation.APPEND, b"a", None), "APPEND needs a value of bytes"),
    ((Operation.PAUSE, b"a", 1), "PAUSE takes no key"),
    ((Operation.PAUSE, b"", 101), "PAUSE in milliseconds needs an integer from 0 to 100"),
    ((Operation.PAUSE, b"", -1), "PAUSE in milliseconds needs an integer from 0 to 100"),
    ((Operation.PAUSE, b"", None), "PAUSE in milliseconds needs an integer from 0 to 100"),
    (
        (Operation.MULTI, b"", None),
        "MULTI needs [operations, keys, arguments], columns of one length, at least one operation",
    ),
    (
        (Operation.MULTI, b"", [b"", [], []]),
        "MULTI needs [operations, keys, arguments], columns of one length, at least one operation",
    ),
    ((Operation.MULTI, b"a", [b"\x01", [b"a"], [None]]), "MULTI takes no key"),
    (
        (Operation.MULTI, b"", [b"\x01\x00", [b"a", b""], [None, None]]),
        "MULTI may not hold operation 0 (its position 1)",
    ),
    (
        (Operation.MULTI, b"", [b"\x09", [b""], [[b"\x01", [b"a"], [None]]]]),
        "MULTI may not hold operation 9 (its position 0)",
    ),
    (
        (Operation.MULTI, b"", [b"\x01\x02", [b"a", b"b"], [None, 5]]),
        "WRITE needs a value of bytes (position 1 of a MULTI)",
    ),
    (
        (Operation.MULTI, b"", [b"\x01\xff", [b"a", b"b"], [None, None]]),
        "unknown operation 255; known are 0 to 23 (position 1 of a MULTI)",
    ),
    (
        (Operation.MULTI, b"", [b"\x0d", [RECORD], [None]]),
        "MULTI may not hold operation 13 (its position 0)",
    ),
    ((Operation.VOTE, b"a", 0), "VOTE needs the key of a transaction's record"),
    (
        (Operation.FORGET, RECORD[:-8] + b"\x80" + bytes(7), [b"a"]),
        "FORGET needs the key of a transaction's record",
    ),
    ((Operation.FORGET, RECORD, None), "FORGET needs a list of keys"),
    ((Operation.FORGET, RECORD, [b"12345"]), "FORGET of a key of 5 bytes; 1 to 4 are allowed"),
    ((Operation.VOTE, RECORD, -1), "VOTE of a generation needs an integer from 0 to 4611686018427387903"),
    ((Operation.RESOLVE, RECORD, [1, [b"a"]]), "RESOLVE needs [whether it is committed, keys]"),
    ((Operation.RESOLVE, RECORD, [True, [b""]]), "RESOLVE of a key of 0 bytes; 1 to 4 are allowed"),
    (
        (Operation.PREPARE, RECORD, [0, [[b"east", -1]], [b"\x01", [b"a"], [None]]]),
        "PREPARE needs a generation, groups, of each its name and one, and the columns of a MULTI",
    ),
    (
        (Operation.PREPARE, RECORD, [0, [[b"east", 0], [b"east", 0]], [b"\x01", [b"a"], [None]]]),
        "PREPARE of 2 groups; 1 to 64, each once, of at most 64 bytes, are allowed",
    ),
    (
        (Operation.PREPARE, RECORD, [0, [], [b"\x01", [b"a"], [None]]]),
        "PREPARE of 0 groups; 1 to 64, each once, of at most 64 bytes, are allowed",
    ),
    (
        (Operation.PREPARE, RECORD, [0, [[b"east", 0]], [b"\x00", [b""], [None]]]),
        "PREPARE may not hold operation 0 (its position 0)",
    ),
]


@pytest.mark.parametrize("command", FINE)
def test_commands_that_may_be_proposed(command: tuple[int, bytes, Argument]) -> None:
    check_batch(make_batch(command), LIMITS)
    check_batch(make_batch(command, command), LIMITS)
    check_batch(make_batch(*FINE, command), LIMITS)


def test_a_frame_may_not_pause_a_replica_for_longer_in_sum() -> None:
    pauses = [(Operation.PAUSE, b"", 60), (Operation.PAUSE, b"", 60)]
    with pytest.raises(CommandError, match="PAUSEs of 120 ms in a frame; at most 100 are allowed") as caught:
        check_batch(make_batch(*pauses), LIMITS)
    assert caught.value.index == 1


def test_a_frame_may_not_hold_any_number_of_operations_in_its_multis() -> None:
    half, whole = ([bytes([Operation.READ]) * n, [b"k"] * n, [None] * n] for n in (5001, 10_002))
    check_batch(make_batch((Operation.MULTI, b"", half)), LIMITS)
    with pytest.raises(CommandError, match="10002 operations in the MULTIs of a frame"):
        check_batch(make_batch((Operation.MULTI, b"", half), (Operation.MULTI, b"", half)), LIMITS)
    with pytest.raises(CommandError, match="MULTI of 10002 operations"):
        check_batch(make_batch((Operation.MULTI, b"", whole)), LIMITS)


@pytest.mark.parametrize(("command", "text"), REFUSED)
def test_commands_that_may_not_be_proposed(command: tuple[int, bytes, Argument], text: str) -> None:
    for before in ([], [FINE[1]], FINE):
        with pytest.raises(CommandError) as refusal:
            check_batch(make_batch(*before, command), LIMITS)
        assert str(refusal.value) == text
        assert refusal.value.index == len(before)


def test_columns_of_one_operation_are_checked_whole() -> None:
    reads = [(Operation.READ, b"%d" % number, None) for number in range(50)]
    writes = [(Operation.WRITE, b"%d" % number, b"x") for number in range(50)]
    check_batch(make_batch(*reads), LIMITS)
    check_batch(make_batch(*writes), LIMITS)
    for odd in (
        (Operation.WRITE, b"12345", b"x"),
        (Operation.WRITE, b"a", b"1234567"),
        (Operation.WRITE, b"a", 1),
    ):
        with pytest.raises(CommandError) as refusal:
            check_batch(make_batch(*writes, odd), LIMITS)
        assert refusal.value.index == 50


VALUES: st.SearchStrategy[Argument] = st.none() | st.binary(max_size=8) | st.just(1)
PLAIN = st.sampled_from([0, 1, 2, 3, 4, 7])
MIXED = st.lists(st.tuples(PLAIN, st.binary(max_size=5), VALUES), min_size=1, max_size=6)


@given(MIXED)
def test_a_mixed_batch_is_refused_for_its_first_bad_command(
    commands: list[tuple[int, bytes, Argument]],
) -> None:
    def is_fine(command: tuple[int, bytes, Argument]) -> bool:
        operation, key, argument = command
        if operation == Operation.NULL:
            return not key and argument is None
        if operation in {Operation.READ, Operation.DELETE}:
            return 1 <= len(key) <= LIMITS.key and argument is None
        return 1 <= len(key) <= LIMITS.key and type(argument) is bytes and len(argument) <= LIMITS.value

    bad = [index for index, command in enumerate(commands) if not is_fine(command)]
    if not bad:
        check_batch(make_batch(*commands), LIMITS)
        return
    with pytest.raises(CommandError) as refusal:
        check_batch(make_batch(*commands), LIMITS)
    assert refusal.value.index == bad[0]


def touched(payload: Payload) -> tuple[set[bytes], set[bytes]]:
    return set(payload.reads), set(payload.writes)


def test_the_keys_that_a_payload_touches() -> None:
    reads = make_batch((Operation.READ, b"r1", None), (Operation.READ, b"r2", None))
    writes = make_batch((Operation.WRITE, b"w1", b"x"), (Operation.WRITE, b"w2", b"x"))
    mixed = make_batch(
        (Operation.NULL, b"", None),
        (Operation.READ, b"a", None),
        (Operation.WRITE, b"b", b"x"),
        (Operation.WRITEREAD, b"c", b"x"),
        (Operation.DELETE, b"d", None),
        (Operation.CAS, b"e", [None, b"x"]),
        (Operation.INCREMENT, b"f", 1),
        (Operation.APPEND, b"g", b"x"),
        (Operation.PAUSE, b"", 1),
        (Operation.MULTI, b"", [b"\x01\x02", [b"m1", b"m2"], [None, b"x"]]),
    )
    assert touched(make_payload([reads])) == ({b"r1", b"r2"}, set())
    assert touched(make_payload([writes])) == (set(), {b"w1", b"w2"})
    assert touched(make_payload([mixed])) == ({b"a", b"m1"}, {b"b", b"c", b"d", b"e", b"f", b"g", b"m2"})
    assert touched(make_payload([reads, writes])) == ({b"r1", b"r2"}, {b"w1", b"w2"})
    assert touched(make_payload([make_batch((Operation.NULL, b"", None))])) == (set(), set())


def test_a_payload_survives_encoding() -> None:
    batches = [make_batch((Operation.WRITE, b"a", b"x")), make_batch((Operation.READ, b"b", None), first=2)]
    payload = make_payload(batches)
    decoded = decode_payload(payload.encoded)
    assert decoded == payload
    assert hash(decoded) == hash(payload)
    assert list(decoded.batches) == batches
    assert touched(decoded) == touched(payload)
    assert len(decoded) == 2
    assert decoded != make_payload(batches[:1])
    assert repr(payload) == f"Payload(2 commands, {len(payload.encoded)} bytes)"


@pytest.mark.parametrize("size", [1, 2000])
def test_a_payload_that_has_let_go_of_one_of_its_forms_is_the_same(size: int) -> None:
    kept = make_payload([make_batch((Operation.WRITE, b"a", b"x" * size), (Operation.READ, b"b", None))])
    gone = decode_payload(kept.encoded)
    gone.let_go()
    assert gone == kept
    assert hash(gone) == hash(kept)
    assert (gone.encoded, gone.size) == (kept.encoded, kept.size)
    assert decode_payload(gone.encoded) == kept
    assert gone != make_payload([make_batch((Operation.WRITE, b"a", b"y"), (Operation.READ, b"b", None))])


def test_a_payload_that_has_let_go_holds_its_values_once() -> None:
    value = bytes(2**20)
    payload = make_payload([make_batch((Operation.WRITE, b"a", value))])
    payload.let_go()
    held = [getattr(payload, name) for name in Payload.__slots__]
    assert not [each for each in held if isinstance(each, bytes) and len(each) >= len(value)]
    assert payload.arguments == [value]


def test_a_collection_keeps_its_bytes() -> None:
    collection = make_collection(3, (4, -1, 7))
    collection.let_go()
    assert decode_payload(collection.encoded) == collection


def test_a_payload_that_has_let_go_of_its_columns_has_them_again() -> None:
    batches = [
        make_batch((Operation.WRITE, b"a", b"x"), (Operation.MULTI, b"", [b"\x01", [b"m"], [None]])),
        make_batch((Operation.READ, b"b", None), first=3),
    ]
    payload = make_payload(batches)
    for _ in range(2):
        payload.let_go()
        payload.let_go()
        assert payload.batches == batches
        assert touched(payload) == ({b"m", b"b"}, {b"a"})
        assert len(payload) == 3


def test_a_look_at_the_keys_of_one_that_has_let_go_leaves_it_as_it_is() -> None:
    payload = make_payload([make_batch((Operation.WRITE, b"a", b"x"), (Operation.READ, b"b", None))])
    assert payload.transient() is payload
    payload.let_go()
    assert touched(payload.transient()) == ({b"b"}, {b"a"})
    with pytest.raises(AttributeError):
        object.__getattribute__(payload, "keys")


def test_a_multi_only_reads_if_all_its_parts_do() -> None:
    read, write = bytes([Operation.READ, Operation.EXISTS]), bytes([Operation.EXISTS, Operation.CAS])
    multis: list[Argument] = [[read, [b"a", b"b"], [None] * 2], [write, [b"a", b"b"], [None, [b"1", b"1"]]]]
    batch = make_batch(*((Operation.MULTI, b"", multi) for multi in multis), (Operation.EXISTS, b"c", None))
    assert only_reads(batch.operations, batch.arguments) == b"\1\0\1"
    payload = make_payload([batch])
    assert (sorted(payload.reads), sorted(payload.writes)) == ([b"a", b"a", b"b", b"c"], [b"b"])
