"""A checkpoint as rows: what was encoded is what is read, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Iterable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import (
    BLOCK_BYTES,
    ENTRY,
    INDEX,
    META,
    SESSION,
    VALUE,
    Meta,
    Row,
    block_key,
    entry_key,
    in_blocks,
    index_kind,
    meta_row,
    session_row,
)
from epaxos.errors import StorageError
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance, Phase, Proposal
from epaxos.storage.records import encode_whole
from harness.blocks import index_rows, value_row
from harness.commands import decode_access, put
from harness.members import members
from harness.records import contents, decided

N = 3
WIDTH = 4 * N
NUMBERS = st.integers(-1, 2**62)
PLACE = InstanceId(1, 5)
NONE = (-1,) * N


def fetched(*rows: Row, n: int = N) -> Fetched:
    """What is collected of rows; the first one is made if it is not among them."""
    found = Fetched(members(n), decode_access)
    if not rows or rows[0][0] != META:
        found.take(rows_of([meta_row(Meta(members(n), (-1,) * n))]))
    found.take(rows)
    return found


def rows_of(changes: Iterable[tuple[bytes, bytes | None]]) -> list[Row]:
    """Changes none of which removes a row."""
    return [(key, value) for key, value in changes if value is not None]


def entry_row(record: Instance) -> Row:
    return entry_key(record.id), encode_whole(record)


# -- round trips -------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.binary(max_size=4), st.tuples(*[NUMBERS] * WIDTH), min_size=1, max_size=8),
    st.data(),
)
def test_columns_survive(numbers: dict[bytes, tuple[int, ...]], data: st.DataObject) -> None:
    keys = data.draw(st.permutations(list(numbers)))
    columns = list(zip(*(numbers[key] for key in keys), strict=True))
    found = list(fetched(*index_rows(keys, columns)).index())
    assert found == [(column, keys, slots) for column, slots in enumerate(columns)]


def test_of_two_blocks_the_later_one_counts() -> None:
    found = fetched(
        value_row({b"a": b"1", b"b": b"1", b"c": None, b"d": b"1"}),
        value_row({b"a": b"2", b"b": None, b"c": b"2"}, checkpoint=2),
    )
    assert dict(found.values()) == {b"a": b"2", b"c": b"2", b"d": b"1"}
    with pytest.raises(StorageError, match="ascending"):
        found.take([value_row({b"a": b"0"})])


def test_blocks_are_counted() -> None:
    rows = [*index_rows([b"a"], [[1]] * WIDTH), value_row({b"a": b"1", b"b": None}, checkpoint=7)]
    assert fetched(*rows).blocks == {key: len(blob) for key, blob in rows}


def test_values_are_told_from_those_that_have_gone() -> None:
    found = fetched(value_row({b"a": b"1", b"": b"", b"v": b"2"}))
    assert dict(found.values()) == {b"a": b"1", b"": b"", b"v": b"2"}
    wanted = found.values_of([b"a", b"gone", b"v", b""], [True, True, False, True])
    assert list(wanted) == [(b"a", b"1"), (b"gone", None), (b"", b"")]


@given(st.lists(st.binary(max_size=3), max_size=9), st.integers(1, 4))
def test_blocks_are_bounded_in_items_and_weight(items: list[bytes], size: int) -> None:
    heavy = BLOCK_BYTES // 2
    blocks = list(in_blocks(items, size, lambda some: heavy * sum(map(len, some))))
    assert [item for block in blocks for item in block] == items
    for block in blocks:
        assert len(block) <= size
        assert len(block) == 1 or sum(map(len, block)) <= 2


def test_sessions_entries_and_the_frontier() -> None:
    entry = decided(PLACE, put(1, b"k"), 4, 4, -1, seq=7)
    session = [2**64 - 1, 3, [1, 5], [3, 4], [[4, b"\0", [b"x"]]], 2]
    meta = meta_row(Meta(members(), (4, -1, 2**40)))
    found = fetched(*rows_of([meta]), entry_row(entry), *rows_of([session_row(session)]))
    assert found.sessions == [session]
    assert contents(found.entries) == contents([entry])
    assert (found.complete, found.executed) == (True, (4, -1, 2**40))
    nothing = Fetched(members(), decode_access)
    assert (nothing.complete, nothing.executed) == (False, NONE)


@pytest.mark.parametrize("later", [0, 1, 5])
def test_a_checkpoint_of_a_later_epoch_is_taken_and_one_of_an_earlier_one_is_not(later: int) -> None:
    own = members()._replace(epoch=7)
    meta, value = rows_of([meta_row(Meta(own._replace(epoch=7 + later), NONE))]), value_row({b"a": b"1"})
    found = Fetched(own, decode_access)
    found.take([*meta, value])
    assert found.configuration.epoch == 7 + later
    assert list(found.rows(9)) == [*meta, value]
    with pytest.raises(StorageError, match="another configuration"):
        Fetched(own._replace(epoch=8), decode_access).take(rows_of([meta_row(Meta(own, NONE))]))


def test_nothing_may_come_before_what_is_known_of_the_whole() -> None:
    with pytest.raises(StorageError, match="does not begin"):
        Fetched(members(), decode_access).take([value_row({b"a": b"1"})])
    assert min(ENTRY, INDEX, SESSION, VALUE) > META, "rows come in the order of their keys"


def test_entries_are_ordered_as_their_places_are() -> None:
    places = [InstanceId(row, slot) for row in (0, 1, 255, 256) for slot in (0, 1, 255, 256, 2**40)]
    assert sorted(places, key=entry_key) == places


# -- what is no checkpoint of this cluster ----------------------------------------------------------------


def undecided() -> Instance:
    record = decided(PLACE, put(1, b"k"), *NONE)
    record.phase = Phase.ACCEPTED
    return record


def empty() -> Instance:
    record = Instance(PLACE, NONE)
    record.phase = Phase.COMMITTED
    return record


def strange_proposal() -> Instance:
    record = decided(PLACE, put(1, b"k"), *NONE)
    record.init = Proposal(put(1, b"k"), (-1,) * 5, 0)
    return record


@pytest.mark.parametrize("key", [b"x", b"\0key", b"m", b"\xff" * 1000])
def test_rows_of_unknown_kinds_are_refused(key: bytes) -> None:
    with pytest.raises(StorageError, match="row of an unknown kind: ") as refusal:
        fetched((key, b""))
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("width", [WIDTH + 1, 5 * 4])
def test_an_index_of_another_width_is_refused_before_anything_is_merged(width: int) -> None:
    with pytest.raises(StorageError, match="index has a column 12; 12 are expected"):
        fetched(*index_rows([b"k"], [[1]] * width))


@pytest.mark.parametrize(
    "block",
    [
        None,
        [],
        [[], []],
        [[b"a"], []],
        [[b"a"], [b"1", b"2"]],
        [["a"], [b"1"]],
        [[b"a"], [1]],
        [{b"a": 1}, [b"1"]],
    ],
    ids=str,
)
def test_blocks_that_are_none_are_refused(block: object) -> None:
    for kind in (index_kind(0), VALUE):
        with pytest.raises(StorageError, match=r"cannot be read|index"):
            fetched((block_key(kind, 1, 1), msgpack.packb(block)))


@pytest.mark.parametrize(
    "executed",
    [
        [],
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, None],
        [1, 2, True],
        [1, 2, -2],
        [1, 2, 3.0],
        None,
        7,
        "abc",
        {1: 1, 2: 2, 3: 3},
    ],
)
def test_a_frontier_of_another_cluster_is_refused(executed: object) -> None:
    with pytest.raises(StorageError, match="frontier"):
        fetched((META, msgpack.packb([executed])))


@pytest.mark.parametrize("blob", [b"", b"\xc1", b"\xc0", b"\x92\x90\x90", b"\x91" * 1000 + b"\xc0"])
def test_a_frontier_that_cannot_be_read_is_refused(blob: bytes) -> None:
    with pytest.raises(StorageError, match="frontier"):
        fetched((META, blob))


@pytest.mark.parametrize(
    "record",
    [
        undecided(),
        empty(),
        strange_proposal(),
        decided(InstanceId(3, 0), put(1, b"k"), *NONE),
        decided(PLACE, put(1, b"k"), 1, 2),
        decided(PLACE, put(1, b"k"), 1, 2, 3, 4, 5),
    ],
    ids=str,
)
def test_entries_that_are_no_decisions_of_this_cluster_are_refused(record: Instance) -> None:
    with pytest.raises(StorageError, match="instance"):
        fetched(entry_row(record))


@pytest.mark.parametrize(
    "session",
    [
        None,
        7,
        [],
        [1, 0, [1, 2]],
        [1, 0, [], [], [], 0],
        [1, 0, [2, 1], [], [], 0],
        [-1, 0, [1, 2], [], [], 0],
        [1, 0, [1, 2], [5, 6], [], 0],
        [1, 0, [1, 2], [], [[5, b"\0", None]], 0],
        [1, 0, [1, 2], [], 7, 0],
    ],
)
def test_sessions_that_are_none_are_refused_before_anything_is_merged(session: object) -> None:
    with pytest.raises(StorageError, match="session"):
        fetched((b"s" + bytes(8), msgpack.packb(session)))


def test_a_client_has_one_session() -> None:
    session = [7, 0, [1, 2], [], [], 0]
    later = [7, 0, [1, 3], [], [], 1]
    assert fetched(*rows_of(map(session_row, [session, later]))).sessions == [later]


@given(
    st.sampled_from([b"a", b"i", b"M", b"s", b"v", b"?", b""]), st.binary(max_size=9), st.binary(max_size=40)
)
def test_random_rows_raise_storage_errors_only(kind: bytes, key: bytes, value: bytes) -> None:
    try:
        fetched((kind + key, value))
    except StorageError:
        return
    assert kind + key != b""
