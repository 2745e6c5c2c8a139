"""Ids: strictly increasing, whatever the clock does."""

from __future__ import annotations

import pytest

from epaxos.errors import ConfigError
from epaxos.registers import MemoryStore, ServerIds


def test_they_tell_the_moment_and_the_server() -> None:
    assert ServerIds(7, clock=lambda: 1.5).next() == 1500 << 8 | 7


def test_within_a_millisecond_and_with_a_clock_that_goes_back_they_increase() -> None:
    times = iter([5.0, 5.0, 5.0, 1.0, 5.001, 9.0])
    ids = ServerIds(0, clock=lambda: next(times))
    assert [ids.next() >> 8 for _ in range(6)] == [5000, 5001, 5002, 5003, 5004, 9000]


def test_over_a_restart_after_which_the_clock_is_behind_they_increase() -> None:
    store = MemoryStore()
    before = ServerIds(3, store, clock=lambda: 9.0).next()
    again = ServerIds(3, store, clock=lambda: 1.0)
    assert before < again.next() < again.next()


def test_servers_that_are_refused() -> None:
    for server in (-1, 256):
        with pytest.raises(ConfigError, match=f"server is {server}; allowed: 0 to 255"):
            ServerIds(server)
