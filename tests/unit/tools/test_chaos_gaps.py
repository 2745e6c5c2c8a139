"""Waits count from asking or from the last answer, and only while the home replica is healthy."""

from __future__ import annotations

import pytest

from chaos.gaps import Gap, Gaps

ME = 1


@pytest.fixture
def gaps() -> Gaps:
    made = Gaps(0.0)
    made.enter(ME, "alpha")
    return made


def longest(gaps: Gaps) -> float:
    return max((gap.seconds for gap in gaps.longest.values()), default=0.0)


def test_wait_is_from_asking_to_the_answer(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.answered(ME, 1.5)
    gaps.asked(ME, 9.0)
    gaps.answered(ME, 9.25)
    assert gaps.longest == {"before all": Gap(0.5, 1.5, "before all", "alpha")}


def test_answers_to_others_end_a_wait(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.asked(ME, 1.0)
    gaps.answered(ME, 2.0)
    gaps.answered(ME, 4.0)
    assert longest(gaps) == 2.0


def test_error_is_no_answer(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.failed(ME)
    gaps.asked(ME, 4.0)
    gaps.answered(ME, 5.0)
    assert longest(gaps) == 4.0


def test_who_is_never_answered_waits_until_the_end(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.end(7.0)
    assert longest(gaps) == 6.0


def test_time_at_a_faulty_replica_does_not_count(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.strike("pause", "pause alpha", ["alpha"], 2.0)
    assert not gaps.is_healthy("alpha")
    gaps.heal(["alpha"], 12.0)
    gaps.answered(ME, 13.5)
    assert gaps.longest == {
        "before all": Gap(1.0, 2.0, "before all", "alpha"),
        "pause": Gap(1.5, 11.5, "pause alpha", "alpha"),
    }


def test_replica_is_healthy_once_all_its_faults_are_over(gaps: Gaps) -> None:
    gaps.strike("pause", "pause alpha", ["alpha"], 1.0)
    gaps.strike("cut", "cut alpha", ["alpha"], 2.0)
    gaps.heal(["alpha"], 3.0)
    gaps.asked(ME, 3.0)
    gaps.answered(ME, 9.0)
    assert longest(gaps) == 0.0
    gaps.heal(["alpha"], 10.0)
    assert gaps.is_healthy("alpha")


def test_return_of_all_is_measured_from_the_last_start(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.strike("restart-all", "restart-all", ["alpha", "bravo"], 2.0)
    gaps.revive(4.0)
    gaps.answered(ME, 5.5)
    gaps.asked(ME, 6.0)
    gaps.answered(ME, 9.0)
    assert gaps.longest_return == 1.5


def test_return_that_another_kill_interrupts_is_not_measured(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.revive(2.0)
    gaps.strike("restart", "restart alpha", ["alpha"], 3.0)
    gaps.answered(ME, 9.0)
    assert gaps.longest_return == 0.0


def test_who_is_never_answered_after_a_return_waits_until_the_end(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.revive(2.0)
    gaps.end(7.0)
    assert gaps.longest_return == 5.0


def test_fault_elsewhere_excuses_nothing(gaps: Gaps) -> None:
    gaps.asked(ME, 1.0)
    gaps.strike("kill", "kill bravo", ["bravo"], 2.0)
    gaps.answered(ME, 4.0)
    assert gaps.longest == {"kill": Gap(3.0, 2.0, "kill bravo", "alpha")}
