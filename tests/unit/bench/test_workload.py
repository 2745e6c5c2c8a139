from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.bench.workload import Author, Stream, Workload
from epaxos.statemachine.operations import Operation


def workload(**given: Any) -> Workload:
    fixed: dict[str, Any] = {"clients": 3, "keys": 300, "key_size": 8, "value_size": 8, "writes": 100.0}
    return Workload(**(fixed | given))


MIXES: list[dict[str, Any]] = [
    {},
    {"writes": 0},
    {"writes": 50, "conflicts": 25},
    {"conflicts": 100},
    {"writes": 30, "zipf": 0.9},
    {"key_size": 40, "value_size": 100},
    {"value_size": 3},
    {"value_size": 0},
]


@pytest.mark.parametrize("mix", MIXES)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8), chunk=st.integers(1, 70))
def test_a_stream_does_not_depend_on_how_it_is_taken(
    mix: dict[str, Any], sizes: list[int], chunk: int
) -> None:
    whole = Stream(workload(**mix), 1, chunk).take(sum(sizes))
    stream = Stream(workload(**mix), 1, chunk)
    parts = [stream.take(size) for size in sizes]
    assert b"".join(part.operations for part in parts) == whole.operations
    assert [key for part in parts for key in part.keys] == whole.keys
    nothing = [None] * 60
    values = [value for part in parts for value in (part.arguments or nothing[: len(part.keys)])]
    assert values == (whole.arguments or [None] * len(whole.keys))
    assert [part.start for part in parts] == [sum(sizes[:index]) for index in range(len(sizes))]


@pytest.mark.parametrize("mix", MIXES)
def test_columns_fit_what_a_batch_may_hold(mix: dict[str, Any]) -> None:
    mixed = workload(**mix)
    columns = Stream(mixed, 2).take(500)
    assert {len(key) for key in columns.keys} == {mixed.key_size}
    arguments = columns.arguments or [None] * 500
    for operation, argument in zip(columns.operations, arguments, strict=True):
        if operation == Operation.READ:
            assert argument is None
        else:
            assert argument is not None
            assert len(argument) == mixed.value_size


def test_only_reads_have_no_column_of_arguments() -> None:
    assert Stream(workload(writes=0), 0).take(10).arguments is None


def test_private_keys_belong_to_one_client_and_come_back_after_the_share() -> None:
    mixed = workload(keys=30)
    seen = [Stream(mixed, client).take(25).keys for client in range(3)]
    assert [len(set(keys)) for keys in seen] == [10, 10, 10]
    assert len(set().union(*seen)) == 30
    assert all(keys[:10] == keys[10:20] for keys in seen)


def test_the_hot_key_is_the_same_for_all_and_nobodys_private_key() -> None:
    hot = {Stream(workload(conflicts=100), client).take(1).keys[0] for client in range(3)}
    private = {key for client in range(3) for key in Stream(workload(), client).take(300).keys}
    assert hot == {b"00000000"}
    assert not hot & private


def test_percentages_are_kept() -> None:
    columns = Stream(workload(writes=40, conflicts=25), 0).take(40_000)
    assert columns.operations.count(Operation.WRITE) == pytest.approx(16_000, rel=0.05)
    assert columns.keys.count(b"00000000") == pytest.approx(10_000, rel=0.05)


def test_writes_and_conflicts_are_drawn_independently() -> None:
    columns = Stream(workload(writes=40, conflicts=25), 0).take(40_000)
    both = Counter(zip(columns.operations, (key == b"00000000" for key in columns.keys), strict=True))
    assert both[Operation.WRITE, True] == pytest.approx(4_000, rel=0.1)


def test_zipf_prefers_low_ranks_as_its_law_says() -> None:
    counts = Counter(Stream(workload(zipf=1.0, keys=100), 0).take(50_000).keys)
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (1, 2, 10):
        assert counts[b"%08d" % (rank - 1)] == pytest.approx(50_000 / harmonic / rank, rel=0.15)


def test_values_are_unique_and_tell_their_author() -> None:
    streams = [Stream(workload(tag=77, value_size=12), client) for client in range(3)]
    columns = [stream.take(5000) for stream in streams]
    authors = [Author.of(value or b"") for column in columns for value in column.arguments or ()]
    assert authors == [Author(77, client, number) for client in range(3) for number in range(5000)]
    assert Author.of(b"short") is None


def test_shared_writes_can_be_told_from_private_ones() -> None:
    columns = Stream(workload(conflicts=50, shared_write=Operation.WRITEREAD), 0).take(1000)
    for operation, key in zip(columns.operations, columns.keys, strict=True):
        assert operation == (Operation.WRITEREAD if key == b"00000000" else Operation.WRITE)


def test_another_seed_gives_other_commands() -> None:
    one, other = (Stream(workload(writes=50, seed=seed), 0).take(100) for seed in (1, 2))
    assert one.operations != other.operations
