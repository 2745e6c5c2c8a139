from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epaxos.bench.options import Amount, BenchOptions, OptionError

Make = Callable[..., BenchOptions]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"replicas": ()}, ["--replicas", "at least one"]),
        ({"replicas": ("alpha", "alpha")}, ["--replicas", "twice"]),
        ({"clients": 0}, ["--clients 0", "from 1"]),
        ({"window": 0}, ["--window 0", "from 1"]),
        ({"batch": 0}, ["--batch 0", "from 1"]),
        ({"keys": 2}, ["--keys 2", "from 3"]),
        ({"key_size": 0}, ["--key-size 0", "from 1"]),
        ({"value_size": -1}, ["--value-size -1", "from 0"]),
        ({"writes": 101}, ["--writes 101", "from 0 to 100"]),
        ({"conflicts": -1}, ["--conflicts -1", "from 0 to 100"]),
        ({"zipf": -1.0}, ["--zipf -1", "from 0"]),
        ({"zipf": 1.0, "conflicts": 2}, ["--zipf", "--conflicts", "exclude"]),
        ({"rate": 0.0}, ["--rate 0", "more than 0"]),
        ({"timeout": 0.0}, ["--timeout 0", "more than 0"]),
        ({"tries": 0}, ["--tries 0", "from 1"]),
        ({"stop": Amount(operations=0)}, ["--operations 0", "more than 0"]),
        ({"stop": Amount(seconds=0.0)}, ["--duration 0", "more than 0"]),
        ({"key_size": 3, "keys": 1000}, ["--key-size 3", "at most 999"]),
        ({"verify": True, "value_size": 7}, ["--verify", "--value-size 8"]),
        ({"verify": True, "window": 400}, ["--verify", "at least 1200"]),
        ({"reads": "observer", "writes": 10}, ["--reads observer", "[[observers]]"]),
        ({"reads": "quorum"}, ["--reads quorum", "--writes must be below 100"]),
        ({"writes": float("nan")}, ["--writes nan", "from 0 to 100"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    options: Make, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(OptionError) as caught:
        options(**given)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_the_report_holds_every_option(options: Make) -> None:
    values = options(seed=9, stop=Amount(seconds=2.5), warmup=Amount(operations=10)).as_dict()
    assert values["seed"] == 9
    assert values["duration"] == 2.5
    assert values["operations"] is None
    assert values["warmup_operations"] == 10
    assert values["replicas"] == ["alpha", "bravo", "charlie"]


def test_large_values_make_frames_of_fewer_commands(options: Make) -> None:
    assert options(batch=33).frame == 33
    assert options(batch=33, value_size=100_000).frame == 10
    assert options(batch=33, value_size=1024 * 1024).frame == 1
