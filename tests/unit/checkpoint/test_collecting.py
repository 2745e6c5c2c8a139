"""When a collection is proposed (protocol 4.13)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from epaxos.checkpoint.collector import Collector, CollectorSettings
from epaxos.protocol.contract import CoreStatus

ROW, N, QUORUM, INSTANCES, INTERVAL = 0, 3, 2, 64, 60.0


def make() -> Collector:
    return Collector(CollectorSettings(INTERVAL, ROW, N, QUORUM, INSTANCES))


def may(**changes: Any) -> bool:
    """Whether row 0 of three may propose one: it hears row 1 alone, has a session, and nothing is open but its own."""
    sessions, online = changes.pop("sessions", 1), changes.pop("online", {1})
    nothing = (-1, -1, -1)
    status = CoreStatus((4, 0, 0), nothing, (5, 0, 0), nothing, 1, 0, 0)
    return make().may_propose(status._replace(**changes), sessions, online)


@pytest.mark.parametrize(
    "changes", [{}, {"sessions": 0, "remembered": 4}, {"seen": (5, 1, 0)}, {"in_flight": INSTANCES - 1}]
)
def test_it_is_proposed_where_there_is_something_to_collect(changes: dict[str, Any]) -> None:
    assert may(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"online": set()}, {"in_flight": INSTANCES}, {"sessions": 0}, {"seen": (5, 0, 1)}],
)
def test_none_is_proposed_of_which_nothing_would_come(changes: dict[str, Any]) -> None:
    assert not may(**changes)


def test_it_waits_an_interval_after_the_last_one_and_puts_off_what_may_not_be() -> None:
    collector = make()
    assert not collector.is_due(3, 100.0)
    assert collector.deadline == 160.0
    assert not collector.is_due(3, 159.0)
    assert collector.is_due(3, 160.0)
    assert not collector.is_due(3, 219.0)
    assert not collector.is_due(4, 221.0)
    assert collector.deadline == 281.0


def test_a_second_one_is_not_proposed_before_one_has_executed() -> None:
    collector = make()
    collector.is_due(3, 0.0)
    assert collector.is_due(3, 60.0)
    collector.proposed()
    assert collector.deadline == math.inf
    assert not collector.is_due(3, 1e9)
    assert not collector.is_due(4, 1e9)
    assert collector.is_due(4, 1e9 + INTERVAL)
