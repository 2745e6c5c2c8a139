from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.ids import InstanceId
from epaxos.statemachine import intervals
from epaxos.watching.position import Executed, Position, marks_of, parse_position, read_position

_SLOTS = st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=3)


def position_of(rows: list[set[int]], epoch: int = 0) -> Position:
    executed = Executed(epoch, [()] * len(rows))
    for row, slots in enumerate(rows):
        for slot in slots:
            executed.add(InstanceId(row, slot))
    return executed.position()


@given(_SLOTS, st.integers(0, 3))
def test_a_position_is_the_set_of_what_was_added(rows: list[set[int]], epoch: int) -> None:
    position = position_of(rows, epoch)
    for row, slots in enumerate(rows):
        assert {slot for slot in range(14) if position.contains(epoch, InstanceId(row, slot))} == slots
    marked = position._replace(marks=(0, 2**32 - 1))
    assert parse_position(str(marked)) == read_position(marked.as_fields()) == marked
    assert read_position(position.as_fields()) == position


@given(_SLOTS, _SLOTS)
def test_one_includes_another_as_sets_do(rows: list[set[int]], others: list[set[int]]) -> None:
    padded = [*rows, *[set[int]()] * len(others)]
    expected = all(other <= mine for mine, other in zip(padded, others, strict=False))
    assert position_of(rows).includes(position_of(others)) == expected


@given(_SLOTS, _SLOTS)
def test_one_is_joined_with_another_as_sets_are(rows: list[set[int]], others: list[set[int]]) -> None:
    """Of the rows of the other, whatever somebody says."""
    padded = [*rows, *[set[int]()] * len(others)]
    expected = position_of([mine | other for mine, other in zip(padded, others, strict=False)])
    assert position_of(rows).joined(position_of(others)) == expected


def test_of_two_epochs_the_later_one_holds_both() -> None:
    before, later = Position(1, ((0, 9),)), Position(2, ((0, 1),))
    assert before.joined(later) == later.joined(before) == later


def test_a_position_is_of_a_cluster_with_which_it_has_a_mark_in_common() -> None:
    ours = marks_of((2**32 + 5, 2**32, 5))
    assert ours == (5, 1)
    assert Position(0, (), (9, 0, 5)).is_of(ours)
    assert not Position(0, (), (9, 0)).is_of((*ours, 0))
    assert not Position(0, ()).is_of(ours)
    assert Position(0, ()).is_of(())


def test_all_of_an_earlier_epoch_is_in_it() -> None:
    position = Position(2, ((), (0, 3)))
    assert position.contains(1, InstanceId(0, 10**9))
    assert not position.contains(3, InstanceId(1, 0))
    assert position.includes(Position(1, ((0, 5),)))
    assert not position.includes(Position(3, ((),)))
    assert not position.contains(2, InstanceId(7, 0))


def test_a_frontier_and_what_is_above_it() -> None:
    executed = Executed(0, [(), ()])
    executed.add_all((3, -1), [InstanceId(1, 4), InstanceId(0, 4)])
    assert str(executed.position()._replace(marks=(255, 1))) == "0:5,0_4-5@ff.1"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "0:",
            "x:1",
            "0:1_",
            "0:5_3-4",
            "0:1_2-2",
            "0:1-2",
            "-1:2",
            "0:1_2-3-4",
            f"0:{2**63}",
            "0:1,",
        ),
        *("0:1@", "0:1@1.", "0:1@g", "0:1@123456789", "0:1@1@1"),
    ],
)
def test_what_is_none_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="no position: "):
        parse_position(text)
    with pytest.raises(ValueError, match="no position: "):
        parse_position(f"{text}@1")


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        [0],
        [0, [[0, 1]]],
        [0, [], []],
        ["0", [[0, 1]], []],
        [0, [[1]], []],
        [0, [[1, 1]], []],
        [0, [[-1, 1]], []],
        [0, [["a", "b"]], []],
        [0, [0], []],
        [0, [[0, 1]], [-1]],
        [0, [[0, 1]], [2**32]],
        [0, [[0, 1]], ["1"]],
        [0, [[0, 1]], [1] * 65],
    ],
)
def test_fields_that_are_none(fields: object) -> None:
    with pytest.raises(ValueError, match="no position"):
        read_position(fields)


def test_a_written_position_is_canonical() -> None:
    assert all(map(intervals.is_canonical, parse_position("3:0_2-4,7_9-12@1").rows))
