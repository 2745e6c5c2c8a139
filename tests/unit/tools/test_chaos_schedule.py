"""Schedules are repeatable, never make more replicas faulty than they may, and leave time to mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from chaos.cluster import NAMES
from chaos.faults import DRAWS
from chaos.members import CHANGES
from chaos.schedule import Event, draw_schedule, plan_rounds

KINDS = ("kill", "pause", "cut", "delay", "restart")
INTERVAL = 5.0


def draw(seed: int, replicas: int, at_once: int, kinds: Sequence[str] = KINDS, slots: int = 9) -> list[Event]:
    return draw_schedule(Random(seed), NAMES[:replicas], kinds, at_once, slots, INTERVAL)


@pytest.mark.parametrize(("replicas", "at_once"), [(3, 1), (5, 2), (5, 1), (7, 3), (3, 2)])
def test_no_more_are_faulty_than_may_be(replicas: int, at_once: int) -> None:
    for seed in range(100):
        events = draw(seed, replicas, at_once)
        for moment in [event.at for event in events]:
            under_way = [
                event
                for event in events
                if event.at <= moment and (event.until is None or event.until > moment)
            ]
            victims = [victim for event in under_way for victim in event.fault.victims]
            assert len(victims) == len(set(victims)) <= at_once


def test_the_same_seed_draws_the_same() -> None:
    assert draw(1, 5, 2) == draw(1, 5, 2)
    assert draw(1, 5, 2) != draw(2, 5, 2)


def test_kills_come_last_and_everything_else_is_mended_before() -> None:
    for seed in range(50):
        events = draw(seed, 5, 2)
        kills = [event for event in events if event.fault.kind == "kill"]
        others = [event for event in events if event.fault.kind != "kill"]
        assert [event.at for event in kills] == [6 * INTERVAL, 7 * INTERVAL]
        assert all(event.until is not None and event.until < kills[0].at for event in others)
        assert all(event.fault.lasting and event.until is None for event in kills)


def test_all_is_mended_before_the_end() -> None:
    for seed in range(50):
        for event in draw(seed, 3, 1, kinds=("pause", "cut"), slots=4):
            assert event.until is not None
            assert INTERVAL <= event.at < event.until < 4 * INTERVAL


def test_every_shape_of_every_kind_comes_up() -> None:
    labels = {event.fault.label for seed in range(200) for event in draw(seed, 5, 2)}
    shapes = {
        f"cut {shape} {how}"
        for shape in ("around", "out", "in", "halves", "pair", "way")
        for how in ("(closed)", "(silent)")
    }
    labels = {label for label in labels if not label.startswith("restart")}
    assert labels == {"kill", "kill in mid-sentence", "pause", "delay", *shapes}


def test_every_kind_of_restart_comes_up() -> None:
    kinds = ("restart", "restart-all")
    labels = {event.fault.label for seed in range(200) for event in draw(seed, 3, 1, kinds=kinds)}
    assert labels == {
        f"{kind}{away}{again}"
        for kind in kinds
        for away in ("", ", long away")
        for again in ("", ", killed again")
    }


def test_a_drain_is_of_one_and_ends_once() -> None:
    faults = [event.fault for seed in range(50) for event in draw(seed, 3, 1, kinds=("drain",))]
    assert {fault.label for fault in faults} == {"drain", "drain, long away"}
    assert {len(fault.victims) for fault in faults} == {1}


def test_all_are_killed_only_where_nobody_is_faulty() -> None:
    for seed in range(100):
        events = draw(seed, 5, 2, kinds=tuple(DRAWS))
        for event in events:
            if len(event.fault.victims) == 5:
                assert event.until is not None
                others = [other for other in events if other is not event and other.fault.victims]
                assert not any(
                    other.at < event.until and (other.until is None or other.until > event.at)
                    for other in others
                )


def test_epochs_begin_while_somebody_is_faulty_too_and_members_change_while_nobody_is() -> None:
    events = [draw(seed, 3, 1, kinds=("restart", "member", "disk-loss"), slots=20) for seed in range(40)]
    met: Counter[str] = Counter()
    for drawn in events:
        for change in (event for event in drawn if event.fault.kind == "member"):
            meets = any(
                other.until is not None and other.at < change.at < other.until and other.fault.victims
                for other in drawn
            )
            assert not (meets and change.fault.victims)
            met[change.fault.label] += meets
    assert met["member: refresh"] > 20
    same = {"member: refresh", "member: protocol"}
    assert set(met) == same | {f"member: {how}" for how in CHANGES}
    assert {event.fault.label for drawn in events for event in drawn} > {"disk-loss"}


def test_postponed_fault_lasts_as_long() -> None:
    event = next(event for event in draw(1, 3, 1, kinds=("pause",)))
    assert event.until is not None
    later = event.postponed(event.at + 2)
    assert later == Event(event.at + 2, event.until + 2, event.fault)
    (kill,) = draw(1, 3, 1, kinds=("kill",), slots=3)
    assert kill.postponed(99.0).until is None


@pytest.mark.parametrize(
    ("slots", "kinds", "at_once", "plan"),
    [
        (12, ("pause",), 1, [12]),
        (3, ("kill",), 1, [3]),
        (7, ("kill",), 1, [4, 3]),
        (4, ("kill",), 2, [4]),
        (12, ("kill", "cut"), 1, [12]),
        (15, ("kill", "cut"), 1, [8, 7]),
    ],
)
def test_rounds_share_the_time(slots: int, kinds: Sequence[str], at_once: int, plan: list[int]) -> None:
    assert plan_rounds(slots, kinds, at_once) == plan
