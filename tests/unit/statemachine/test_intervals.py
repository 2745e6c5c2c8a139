from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaxos.statemachine import intervals

SPANS = st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda span: (span[0], span[0] + span[1]))


def canonical(members: set[int]) -> list[int]:
    """The bounds of a set, found by looking at every integer."""
    return [number for number in range(60) if (number in members) != (number - 1 in members)]


@given(st.lists(SPANS, max_size=20), SPANS)
def test_interval_sets_behave_as_sets_of_integers(
    added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    bounds: list[int] = []
    members: set[int] = set()
    for first, end in added:
        assert intervals.is_free(bounds, first, end) == members.isdisjoint(range(first, end))
        intervals.add(bounds, first, end)
        members.update(range(first, end))
        assert bounds == canonical(members)
        assert intervals.is_canonical(bounds)

    absent = [number for start, stop in intervals.missing(bounds, *asked) for number in range(start, stop)]
    assert absent == [number for number in range(*asked) if number not in members]
    assert [n for start, stop in intervals.pairs(bounds) for n in range(start, stop)] == sorted(members)


def test_parts_that_are_missing_are_as_long_as_they_can_be() -> None:
    assert intervals.missing([3, 5, 8, 9], 1, 12) == [(1, 3), (5, 8), (9, 12)]
    assert intervals.missing([3, 5], 3, 5) == []
    assert intervals.missing([], 1, 12) == [(1, 12)]


def test_what_is_not_canonical() -> None:
    assert not intervals.is_canonical([1])
    assert not intervals.is_canonical([1, 1])
    assert not intervals.is_canonical([1, 3, 3, 4])
    assert not intervals.is_canonical([3, 1])
