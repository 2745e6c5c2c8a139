from __future__ import annotations

from collections import Counter

import pytest

from epaxos.simulation.coverage import GROUPS, OFTEN, RARE, grouped, unmet
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.sweep.report import missed
from epaxos.simulation.sweep.sweep import Summary

EXPECTED = [name for names in GROUPS.values() for name in names]


def test_every_case_of_recovery_is_expected_but_the_one_that_other_replicas_answer() -> None:
    cases = [name for name in EXPECTED if name.startswith("recovery case ")]
    assert cases == [f"recovery case {case}:" for case in range(2, 14)]
    assert set(RARE) < set(EXPECTED)


def test_everything_is_missing_from_nothing() -> None:
    assert list(unmet({})) == EXPECTED


def test_a_beginning_up_to_a_colon_stands_for_all_that_begin_so() -> None:
    missing = set(unmet({"recovery case 13: accepted": 1, "commit: fast": 2, "commit: slow": 0}))
    assert set(EXPECTED) - missing == {"recovery case 13:", "commit: fast"}


def test_marks_are_shown_in_the_order_of_the_groups_and_unknown_ones_last() -> None:
    marks = Counter(
        {"zebra": 1, "recovery case 13: b": 1, "recovery case 2: a": 1, "commit: slow": 1, "nack": 0}
    )
    assert grouped(marks) == {
        "commits": ["commit: slow"],
        "recovery": ["recovery case 2: a", "recovery case 13: b"],
        "others": ["zebra"],
    }


@pytest.mark.parametrize(
    ("seeds", "overrides", "missing"),
    [
        (OFTEN - 1, NO_OVERRIDES, []),
        (OFTEN, NO_OVERRIDES, ["nack"]),
        (OFTEN, Overrides(replicas=1), []),
        (RARE["recovery case 12:"], NO_OVERRIDES, ["recovery case 12:", "nack"]),
    ],
)
def test_what_must_be_met_depends_on_how_many_seeds_there_are(
    seeds: int, overrides: Overrides, missing: list[str]
) -> None:
    marks = Counter(name for name in EXPECTED if name not in ("nack", "recovery case 12:"))
    assert missed(Summary(seeds=seeds, marks=marks), overrides) == missing
