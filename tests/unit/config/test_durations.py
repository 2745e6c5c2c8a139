from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epaxos.config import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("100us", 0.0001),
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("1h1m1s1ms1us", 3661.001001),
        ("90m", 5400.0),
        ("0.5m", 30.0),
        ("5", 5.0),
        ("0", 0.0),
        ("1.25", 1.25),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "s",
            "-5",
            ".5",
            "5.",
            "٣",
            "1m30",
            "-1s",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1s\n",
            "1s1m",
            "1s1s",
            "1d",
            "1S",
            ".5s",
            "1.s",
        ),
        *("1e3s", "inf", "nan", "0.5us", "0.0000001s", "1_000s", "٣s", "9" * 5000 + "s"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the caller's to write
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (90, "1m30s"), (0, "0s"), (3600, "1h"), (1.5, "1s500ms")]
)
def test_a_duration_is_written_in_whole_numbers(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_what_cannot_be_a_duration_is_not_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        format_duration(seconds)


@given(st.integers(0, 10**15))
@example(1)
def test_written_durations_are_read_back_exactly(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(alphabet="0123456789.hmsu", max_size=12))
@example("600000000001")
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert parse_duration(format_duration(seconds)) == seconds
