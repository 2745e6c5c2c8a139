from __future__ import annotations

from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaxos.bench.histogram import PERCENTILES, Latencies

HOUR = 3_600_000_000_000


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1_000, HOUR), st.integers(1, 50)), min_size=1, max_size=60))
def test_percentiles_are_those_of_all_values_to_three_digits(records: list[tuple[int, int]]) -> None:
    latencies = Latencies()
    values = []
    for value, count in records:
        latencies.record(value, count)
        values += [value] * count
    values.sort()
    summary = latencies.summary()
    for name, percentile in PERCENTILES.items():
        rank = len(values) * percentile / 100
        low, high = (values[max(0, index - 1)] / 1e6 for index in (floor(rank), ceil(rank)))
        found = summary[name]
        assert found is not None
        assert low * 0.998 - 0.001 <= found <= high * 1.002 + 0.001
    assert summary["max"] == pytest.approx(values[-1] / 1e6, abs=1e-4)
    assert latencies.count == len(values)


def test_a_curve_goes_up_to_the_longest() -> None:
    latencies = Latencies()
    assert latencies.curve() == []
    for value in range(1, 5000):
        latencies.record(value * 10_000)
    curve = latencies.curve()
    assert sorted(curve) == sorted(curve, key=lambda point: point[1]) == curve
    assert curve[-1] == (100, 49.99)
    assert all(milliseconds == pytest.approx(share / 2, rel=0.02, abs=0.2) for share, milliseconds in curve)


def test_nothing_recorded_has_no_percentiles() -> None:
    assert set(Latencies().summary().values()) == {None}


def test_what_is_beyond_an_hour_counts_as_an_hour() -> None:
    latencies = Latencies()
    latencies.record(5 * HOUR)
    latencies.record(-5)
    assert latencies.count == 2
    assert latencies.summary()["max"] == HOUR / 1e6


def test_adding_keeps_every_value() -> None:
    one, other = Latencies(), Latencies()
    one.record(1_000_000, 90)
    other.record(9_000_000, 10)
    one.add(other)
    assert one.count == 100
    assert one.summary()["p50"] == pytest.approx(1.0, rel=1e-3)
    assert one.summary()["p99"] == pytest.approx(9.0, rel=1e-3)
    assert one.summary()["max"] == 9.0
