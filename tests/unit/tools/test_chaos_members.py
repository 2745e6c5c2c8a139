"""Who comes takes its seat once it is a member, who goes ends by itself; what did nothing is asked for again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from chaos import members as chaos_members
from chaos.cluster import NAMES, Cluster, Plan, names_of
from chaos.members import REPLACE, REPLACE_DEAD, TURN, Change, LostDisk, draw_lost_disk, draw_member


class FakeReplica:
    def __init__(self, name: str, did: list[str], data: Path) -> None:
        self.name, self.did, self.data = name, did, data
        self.leaves, self.runs, self.said = False, True, ""

    def strike(self) -> None:
        self.did.append(f"strike {self.name}")

    def kill(self) -> None:
        self.did.append(f"kill {self.name}")
        self.runs = False

    def start(self, _program: Path) -> None:
        self.did.append(f"start {self.name}")
        self.runs = True

    def ended(self) -> bool:
        assert self.leaves
        self.did.append(f"{self.name} has ended")
        return True


class FakeCluster:
    """Notes what is done to it, in order; `told` is what commands tell, one after the other."""

    def __init__(self, data: Path, told: Sequence[dict[str, Any]]) -> None:
        self.names = NAMES[:3]
        self.did: list[str] = []
        self.data, self.told = data, [*told]
        self.replicas = {name: FakeReplica(name, self.did, data) for name in self.names}
        self.homes = {seat: names_of(seat) for seat in NAMES[:5]}
        self.kills: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.restarts = 0
        self.program = Path()

    async def bring(self, name: str) -> FakeReplica:
        self.did.append(f"bring {name}")
        return FakeReplica(name, self.did, self.data)

    def write_operators(self) -> None:
        self.did.append("write")

    def other_name(self, seat: str) -> str:
        return names_of(seat)[1]


def perform(
    fault: Change, monkeypatch: pytest.MonkeyPatch, data: Path, *told: dict[str, Any], joins: bool = True
) -> FakeCluster:
    cluster = FakeCluster(data, told or [{"outcome": "done", "text": ""}])

    async def at_once(_cluster: Cluster, victims: Sequence[str]) -> None:
        cluster.did.append(f"back {' '.join(victims)}")

    async def waits(_cluster: Cluster, newcomer: FakeReplica) -> None:
        cluster.did.append(f"{newcomer.name} waits")

    async def joins_no_more(_cluster: Cluster, _newcomer: FakeReplica) -> bool:
        return not joins

    async def run(_cluster: Cluster, *words: str) -> dict[str, Any]:
        cluster.did.append(" ".join(words))
        return cluster.told.pop(0)

    async def body() -> None:
        await fault.begin(cast("Cluster", cluster))
        assert not fault.is_over()
        await asyncio.gather(*fault.tasks)
        assert fault.is_over()

    monkeypatch.setattr(chaos_members, "are_back", at_once)
    monkeypatch.setattr(chaos_members, "_waits", waits)
    monkeypatch.setattr(chaos_members, "_joins_no_more", joins_no_more)
    monkeypatch.setattr(chaos_members, "run_member", run)
    asyncio.run(body())
    return cluster


def test_another_one_takes_the_place_of_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    early, done = ({"outcome": outcome, "text": ""} for outcome in ("superseded", "done"))
    cluster = perform(Change("bravo", REPLACE), monkeypatch, tmp_path, early, done)
    asked = "replace bravo bravo-2"
    assert cluster.did == ["bring bravo-2", "bravo-2 waits", asked, asked, "back bravo", "bravo has ended"]
    assert cluster.replicas["bravo"].name == "bravo-2"
    assert (cluster.changes, cluster.made) == ({"superseded": 1, "done": 1}, {"replaced": 1})


def test_change_whose_answer_was_lost_is_seen_by_who_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost = {"outcome": "unknown", "text": ""}
    cluster = perform(Change("bravo", REPLACE), monkeypatch, tmp_path, lost, joins=False)
    assert cluster.made == {"replaced": 1}


def test_who_was_replaced_dead_is_started_once_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cluster = perform(
        Change("alpha", REPLACE_DEAD, kills=(0.0, 0.0), back=True), monkeypatch, tmp_path, joins=False
    )
    again = ["kill alpha-2", "start alpha-2"]
    assert cluster.did == [
        *("strike alpha", "kill alpha", "bring alpha-2", "alpha-2 waits", *again, "alpha-2 waits"),
        *("replace alpha alpha-2", *again, "back alpha", "start alpha", "alpha has ended"),
    ]
    assert cluster.kills == {chaos_members.JOINING: 2, "starting or resuming": 1}


def test_lost_directory_is_gone_and_one_of_its_name_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    cluster = perform(LostDisk("charlie", "lost"), monkeypatch, data)
    assert "replace charlie charlie" in cluster.did
    assert not data.exists()
    assert cluster.made == {"disks replaced": 1}


def test_spare_seat_is_taken_and_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cluster = perform(Change("delta", TURN), monkeypatch, tmp_path)
    assert cluster.did == ["bring delta", "delta waits", "add delta", "back delta"]
    assert cluster.made == {"added": 1}
    for gone in (
        {"outcome": "refused", "text": "bravo: no member is called alpha; members: bravo"},
        {"outcome": "current", "text": "that is so in epoch 4: bravo; nothing is changed"},
    ):
        cluster = perform(Change("alpha", TURN), monkeypatch, tmp_path, gone)
        assert cluster.did == ["write", "remove alpha", "alpha has ended"]
        assert "alpha" not in cluster.replicas


def test_draws_are_repeatable_and_make_nobody_faulty_beyond_what_may_be() -> None:
    for seed in range(200):
        for draw in (draw_member, draw_lost_disk):
            assert draw(Random(seed), NAMES[:3], NAMES[:3], 1) == draw(Random(seed), NAMES[:3], NAMES[:3], 1)
        assert not draw_member(Random(seed), NAMES[:2], NAMES[:3], 0).victims
    seats = {
        fault.seat
        for seed in range(200)
        if isinstance(fault := draw_member(Random(seed), NAMES[:3], NAMES[:3], 1), Change)
    }
    assert seats == set(NAMES[:5])
    assert list(Plan(3, 1.0, "sqlite", restarts=True, members=True).seats) == list(NAMES[:5])
