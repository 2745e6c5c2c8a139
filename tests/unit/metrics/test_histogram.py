from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.metrics import BATCH_BOUNDS, COMPONENT_BOUNDS, EVENT_BOUNDS, LATENCY_BOUNDS, Histogram


def test_a_bound_belongs_to_its_own_bucket() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0, 1, 1.5, 2, 5, 5.1):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1, 1]


def test_equal_observations_can_be_counted_at_once() -> None:
    histogram = Histogram((1, 10))
    histogram.observe(3, 1000)
    assert (histogram.counts, histogram.sum, histogram.count) == ([0, 1000, 0], 3000, 1000)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20, unique=True).map(sorted),
    st.lists(st.tuples(st.floats(-2e6, 2e6), st.integers(1, 5)), max_size=50),
)
def test_agrees_with_counting_what_is_at_most_each_bound(
    bounds: list[float], observations: list[tuple[float, int]]
) -> None:
    histogram = Histogram(bounds)
    for value, count in observations:
        histogram.observe(value, count)
    for position, bound in enumerate([*bounds, math.inf]):
        expected = sum(count for value, count in observations if value <= bound)
        assert sum(histogram.counts[: position + 1]) == expected
    assert histogram.count == sum(count for _, count in observations)
    assert histogram.sum == pytest.approx(sum(value * count for value, count in observations), abs=1e-3)


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1), (1, math.inf), (math.nan,)])
def test_bad_bounds_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="finite and strictly ascending"):
        Histogram(bounds)


@pytest.mark.parametrize("bounds", [LATENCY_BOUNDS, BATCH_BOUNDS, COMPONENT_BOUNDS, EVENT_BOUNDS])
def test_the_bounds_offered_are_good(bounds: tuple[float, ...]) -> None:
    assert Histogram(bounds).bounds == bounds


def test_latencies_reach_from_fifty_microseconds_to_ten_seconds() -> None:
    assert (LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1]) == (50e-6, 10.0)
