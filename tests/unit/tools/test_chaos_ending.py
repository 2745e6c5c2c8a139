"""Values that end and locks are judged by what was told of them, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from chaos.ending import Endings, Holders
from epaxos.client.results import Page

LATE = 2.0
KEY, VALUE = b"ends.1.1", b"v"
LOCK = b"locks.0"
ALWAYS = (0.0,)
"""One replica that has been healthy from the beginning."""


@pytest.fixture
def endings() -> Endings:
    """A value that has 5 s, given between 10 and 11."""
    made = Endings(LATE)
    made.given(KEY, VALUE, 5.0, 10.0, 11.0)
    return made


@pytest.mark.parametrize(
    ("value", "asked", "answered", "healthy", "wrong"),
    [
        (VALUE, 14.0, 14.5, ALWAYS, ""),
        (VALUE, 18.0, 18.5, ALWAYS, ""),
        (VALUE, 18.1, 18.5, ALWAYS, "is seen 2.100 s after its end"),
        (VALUE, 20.0, 20.5, (14.0,), ""),  # it began to count anew then
        (VALUE, 20.0, 20.5, (14.0, 12.0), "is seen 3.000 s after its end"),
        (VALUE, 99.0, 99.5, (), ""),
        (b"x", 12.0, 12.5, ALWAYS, "is not what it was given"),
        (None, 15.0, 15.5, ALWAYS, ""),
        (None, 14.0, 14.9, ALWAYS, "gone 0.100 s before its time"),
        (None, 10.5, 11.5, ALWAYS, ""),  # before it was given
    ],
)
def test_a_value_is_there_in_its_time(
    endings: Endings, value: bytes | None, asked: float, answered: float, healthy: Sequence[float], wrong: str
) -> None:
    endings.read(KEY, value, asked, answered, healthy)
    assert (wrong in endings.wrong[0]) if wrong else endings.wrong == []


def test_time_that_is_given_anew_counts_from_then(endings: Endings) -> None:
    endings.renewing(KEY, 5.0, 14.0)
    endings.read(KEY, VALUE, 19.0, 19.5, ALWAYS)  # perhaps it has
    endings.renewed(KEY, 5.0, 14.0, 20.0, found=True)
    endings.read(KEY, VALUE, 27.0, 27.5, ALWAYS)
    assert endings.wrong == []
    endings.read(KEY, None, 18.0, 18.9, ALWAYS)
    assert "gone 0.100 s before its time" in endings.wrong[0]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_shorter_time_takes_the_place_of_a_longer_one(endings: Endings, *, is_answered: bool) -> None:
    endings.renewing(KEY, 1.0, 12.0)
    if is_answered:
        endings.renewed(KEY, 1.0, 12.0, 12.5, found=True)
    endings.read(KEY, None, 12.6, 13.0, ALWAYS)
    assert endings.wrong == []
    endings.read(KEY, None, 12.6, 12.9, ALWAYS)
    assert "gone 0.100 s before its time" in endings.wrong[0]


def test_time_that_nothing_was_left_to_give_to(endings: Endings) -> None:
    endings.renewing(KEY, 5.0, 12.0)
    endings.renewed(KEY, 5.0, 12.0, 13.0, found=False)
    assert "gone 2.000 s before its time" in endings.wrong[0]


def test_what_has_gone_long_ago_is_forgotten_unless_an_answer_is_to_come(endings: Endings) -> None:
    endings.given(b"ends.1.2", VALUE, 5.0, 10.0, 11.0)
    endings.read(KEY, None, 20.0, 20.5, ALWAYS)
    endings.read(b"ends.1.2", None, 20.0, 20.5, ALWAYS)
    endings.renewing(KEY, 5.0, 21.0)
    endings.given(b"ends.1.3", VALUE, 5.0, 40.0, 41.0)
    assert endings.keys == [KEY, b"ends.1.3"]
    endings.renewed(KEY, 5.0, 21.0, 42.0, found=False)
    assert endings.wrong == []


def test_what_has_gone_does_not_come_back(endings: Endings) -> None:
    endings.read(KEY, None, 15.0, 15.5, ALWAYS)
    endings.read(KEY, VALUE, 15.2, 16.0, ALWAYS)
    assert endings.wrong == []
    endings.read(KEY, VALUE, 15.6, 16.0, ALWAYS)
    endings.renewing(KEY, 5.0, 15.7)
    endings.renewed(KEY, 5.0, 15.7, 16.0, found=True)
    assert [text.split(":")[0] for text in endings.wrong] == ["ends.1.1 came back"] * 2


def test_a_list_tells_of_each_key_that_it_could_hold(endings: Endings) -> None:
    endings.given(b"ends.1.2", b"w", 5.0, 10.0, 11.0)
    endings.listed(Page([KEY], [VALUE], more=True), None, 12.0, 12.5, ALWAYS)
    endings.listed(Page([b"ends.1.2"], [b"w"], more=False), KEY, 12.0, 12.5, ALWAYS)
    assert endings.wrong == []
    endings.listed(Page([KEY], [VALUE], more=False), None, 12.0, 12.5, ALWAYS)
    assert "ends.1.2 has gone" in endings.wrong[0]


def test_what_is_left_in_the_end_is_told(endings: Endings) -> None:
    endings.left(0)
    assert endings.wrong == []
    endings.left(2)
    assert "2 values" in endings.wrong[0]


@dataclass
class Has:
    """What one holder believes."""

    token: int
    is_held: bool = True


def test_a_lock_goes_from_one_to_the_next() -> None:
    holders = Holders()
    first = Has(1)
    holders.took(LOCK, 1, first, holders.token(LOCK))
    holders.left(LOCK, 1, "let go")
    holders.took(LOCK, 2, second := Has(2), holders.token(LOCK))
    holders.left(LOCK, 2, "died")
    second.is_held = False
    holders.took(LOCK, 3, Has(3), holders.token(LOCK))
    assert holders.wrong == []


@pytest.mark.parametrize("dies", [True, False])
def test_two_that_hold_a_lock_are_told(*, dies: bool) -> None:
    holders = Holders()
    holders.took(LOCK, 1, Has(1), 0)
    if dies:
        holders.left(LOCK, 1, "died")
    holders.took(LOCK, 2, Has(2), 1)
    assert "held by 2 while [1] have it too" in holders.wrong[0]


def test_tokens_grow_from_who_was_answered_to_who_asks_then() -> None:
    holders = Holders()
    holders.took(LOCK, 1, Has(4, is_held=False), 0)
    holders.took(LOCK, 2, Has(3, is_held=False), 0)  # both had asked before
    assert holders.wrong == []
    holders.took(LOCK, 3, Has(4, is_held=False), holders.token(LOCK))
    assert "token 4 after 4" in holders.wrong[0]


def test_a_later_token_is_found_by_none_who_still_holds_the_lock() -> None:
    holders = Holders()
    holders.overtaken(LOCK, 1, Has(1, is_held=False), 2)
    holders.overtaken(LOCK, 2, Has(2), 2)
    assert holders.wrong == []
    holders.overtaken(LOCK, 1, Has(1), 2)
    assert "with token 1 after one with 2" in holders.wrong[0]
