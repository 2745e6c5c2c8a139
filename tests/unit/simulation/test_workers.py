from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from epaxos.simulation.sweep import workers
from epaxos.simulation.sweep.workers import Lost, call_all

LIMIT = 60.0


def double(number: int) -> int:
    return 2 * number


def end_itself_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_at_three(number: int) -> int:
    while number == 3:
        time.sleep(1)
    return number


def spin_at_three_and_nap_at_four(number: int) -> int:
    while number == 3:
        pass
    if number == 4:
        time.sleep(0.4)
    return number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_every_number_has_its_result() -> None:
    assert dict(call_all(double, range(20), 2, LIMIT)) == {number: 2 * number for number in range(20)}


def test_no_numbers() -> None:
    assert not list(call_all(double, (), 2, LIMIT))


def test_one_process_that_dies_costs_one_number() -> None:
    results = dict(call_all(end_itself_at_three, range(8), 2, LIMIT))
    assert results.pop(3) == Lost("its process was killed by SIGKILL (out of memory?)", hung=False)
    assert results == {number: number for number in range(8) if number != 3}


def test_a_call_that_waits_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 3)
    results = dict(call_all(wait_at_three, range(8), 1, 0.2))
    assert results.pop(3) == Lost("did not end within 0.6 s", hung=True)
    assert sorted(results) == [0, 1, 2, 4, 5, 6, 7]


def test_a_call_may_take_so_much_of_cpu_and_not_of_the_clock() -> None:
    results = dict(call_all(spin_at_three_and_nap_at_four, range(8), 1, 0.2))
    assert results.pop(3) == Lost("did not end within 0.2 s of CPU", hung=True)
    assert sorted(results) == [0, 1, 2, 4, 5, 6, 7]


def test_an_exception_is_told() -> None:
    result = dict(call_all(fail_at_three, range(5), 1, LIMIT))[3]
    assert isinstance(result, Lost)
    assert "ValueError: three" in result.text
    assert not result.hung


def test_numbers_are_taken_as_they_are_needed() -> None:
    numbers = iter(range(100))
    calls = call_all(double, numbers, 2, LIMIT)
    for _ in range(3):
        next(calls)
    calls.close()
    assert next(numbers) < 10


def test_no_process_outlives_the_iterator() -> None:
    calls = call_all(double, range(1000), 2, LIMIT)
    next(calls)
    assert len(multiprocessing.active_children()) == 2
    calls.close()
    assert not multiprocessing.active_children()
