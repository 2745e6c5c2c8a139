"""Victims are killed and started as drawn, and count as back once they have what the others had."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from chaos import restarts as chaos_restarts
from chaos.cluster import NAMES, ChaosError, Cluster, Plan
from chaos.counts import Counts, count_lines
from chaos.restarts import (
    CATCHING_UP,
    LISTENS,
    RUNNING,
    STARTING,
    Life,
    Restart,
    draw_restart,
    draw_restart_all,
    is_back,
    what_it_does,
)
from epaxos.client.status import Status

READY = f"INFO {LISTENS} a, for clients on b\n"


class FakeReplica:
    """Logs what it is told to at its start."""

    def __init__(self, name: str, did: list[str], says: Sequence[str]) -> None:
        self.name, self.did, self.says = name, did, [*says]
        self.said = READY

    def strike(self) -> None:
        self.did.append(f"strike {self.name}")

    def kill(self) -> None:
        self.did.append(f"kill {self.name}")


class FakeCluster:
    """Notes what is done to it, in order."""

    def __init__(self, *says: str) -> None:
        self.names = NAMES[:3]
        self.did: list[str] = []
        self.replicas = {name: FakeReplica(name, self.did, says) for name in self.names}
        self.kills: Counter[str] = Counter()
        self.all_down = 0

    def between(self, pairs: Sequence[Any]) -> list[Any]:
        assert not list(pairs)
        return []

    def restart(self, name: str) -> None:
        self.did.append(f"start {name}")
        replica = self.replicas[name]
        replica.said = replica.says.pop(0) if replica.says else READY

    def together(self, victims: Sequence[str]) -> Sequence[str]:
        return victims

    def returned(self, victims: Sequence[str]) -> None:
        self.did.append(f"returned {' '.join(victims)}")


def perform(fault: Restart, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_cluster: Cluster, victims: Sequence[str]) -> None:
        cluster.did.append(f"back {' '.join(victims)}")

    async def body() -> None:
        await fault.begin(cast("Cluster", cluster))
        assert not fault.is_over()
        await asyncio.gather(*fault.tasks)
        assert fault.is_over()

    monkeypatch.setattr(chaos_restarts, "are_back", at_once)
    asyncio.run(body())


def test_one_victim_is_killed_again_at_the_moment_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(READY + "catching up from bravo: fetching, 0 rows")
    fault = Restart(("alpha",), (Life(0.0, "catching up from"), Life(0.01)))
    perform(fault, cluster, monkeypatch)
    killed = ["strike alpha", "kill alpha", "start alpha"]
    assert cluster.did == [*killed, *killed, "returned alpha", "back alpha"]
    assert cluster.kills == {RUNNING: 1, CATCHING_UP: 1}
    assert cluster.all_down == 0


def test_kill_does_not_wait_for_ever_for_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_restarts, "_PATIENCE", 0.01)
    cluster = FakeCluster("")
    perform(Restart(("alpha",), (Life(0.0, "never said"), Life(0.0))), cluster, monkeypatch)
    assert cluster.kills == {RUNNING: 1, STARTING: 1}


def test_all_are_struck_before_anybody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    perform(Restart(NAMES[:3], (Life(0.0),)), cluster, monkeypatch)
    verbs = [what.split()[0] for what in cluster.did]
    assert verbs == ["strike"] * 3 + ["kill"] * 3 + ["start"] * 3 + ["returned", "back"]
    assert cluster.all_down == 1


def test_victim_that_does_not_come_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_cluster: Cluster, _victims: Sequence[str]) -> None:
        raise ChaosError("not back")

    async def body() -> None:
        fault = Restart(("alpha",), (Life(0.0),))
        await fault.begin(cast("Cluster", FakeCluster()))
        await asyncio.wait(fault.tasks)
        with pytest.raises(ChaosError, match="not back"):
            fault.is_over()

    monkeypatch.setattr(chaos_restarts, "are_back", never)
    asyncio.run(body())


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("", STARTING),
        (READY, RUNNING),
        (READY + "catching up from bravo: fetching, 0 rows", CATCHING_UP),
        (READY + "catching up from bravo: fetching, 0 rows\ncaught up in 0.1 s", RUNNING),
        (READY + "catching up from bravo\nbravo did not send its checkpoint to the end", RUNNING),
        (READY + "catching up from bravo\ncaught up in 0.1 s\ncatching up from bravo", CATCHING_UP),
    ],
)
def test_log_says_what_a_replica_is_about(said: str, what: str) -> None:
    assert what_it_does(said) == what


def status(name: str, executed: Sequence[int], *, online: bool = True, **other: Any) -> Status:
    peers = {peer: {"online": online} for peer in NAMES[:3] if peer != name}
    told = {
        "id": name,
        "row": 0,
        "epoch": 1,
        "f": 1,
        "members": NAMES[:3],
        "executed": executed,
        "peers": peers,
    }
    return Status.of(told | other)


@pytest.mark.parametrize(
    ("alpha", "back"),
    [
        (status("alpha", [3, 5, 1]), True),
        (status("alpha", [3, 4, 9]), False),
        (status("alpha", [3, 5, 1], online=False), False),
        (status("alpha", [9, 9, 9], epoch=0), False),
        (status("alpha", [3, 5, 1], row=None), False),
        (status("alpha", [3, 5, 1], catch_up={"stage": "following"}), False),
    ],
)
def test_back_is_who_has_what_the_others_had(alpha: Status, back: bool) -> None:  # noqa: FBT001 - a case
    assert is_back(alpha, [3, 5, 1], [alpha, status("bravo", [3, 5, 1])]) is back


def test_who_is_heard_by_nobody_is_not_back() -> None:
    alpha, bravo = status("alpha", [1]), status("bravo", [1], online=False)
    assert not is_back(alpha, [1], [alpha, bravo])


def test_draws_are_repeatable_and_the_last_life_goes_on() -> None:
    for draw in (draw_restart, draw_restart_all):
        for seed in range(100):
            fault = draw(Random(seed), NAMES[:3], NAMES[:3], 1)
            assert fault == draw(Random(seed), NAMES[:3], NAMES[:3], 1)
            assert 1 <= len(fault.lives) <= 4
            assert fault.lives[-1] == Life(fault.lives[-1].pause)
            assert fault.seconds < 40
            assert len(fault.victims) == (1 if draw is draw_restart else 3)
            assert not set(fault.deaf) & set(fault.victims)


def test_clusters_with_restarts_keep_little_and_their_clients_wait() -> None:
    keys = Plan(3, 0.5, "sqlite", restarts=True).keys
    assert keys["client"] == {"timeout": "10s", "tries": 20}
    assert keys["storage"]["engine"] == "sqlite"
    assert "retain" in keys["storage"]
    assert Plan(3, 0.5, "memory", restarts=False).keys["storage"] == {"engine": "memory"}


def test_figures_of_all_lives_add_up() -> None:
    counts = Counts()
    counts.take("alpha", 1, "# HELP x\nepaxos_checkpoints_total 3.0\n")
    counts.take("alpha", 1, "epaxos_checkpoints_total 5.0\nepaxos_catch_ups_total 1.0\n")
    counts.take("alpha", 3, 'epaxos_commits_total{path="recovered"} 4.0\n')
    counts.take("alpha", 2, "epaxos_checkpoints_total 2.0\n")
    counts.take("bravo", 1, "epaxos_checkpoints_total 1.0\n")
    counts.take("bravo", 2, "")
    assert counts.totals == {"checkpoints": 8.0, "catch-ups by metrics": 1.0, "recovered": 4.0}


def test_lines_of_a_log_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "resumed with [1, 2, 3] executed of each row, 0 instances open\n"
        "resumed with [1, 2, 3] executed of each row, 10 instances open\n"
        "catching up from bravo: fetching, 0 rows, 0.0 MB\n"
        "catching up from bravo: fetching, 10 rows, 0.0 MB\n"
        "caught up in 0.1 s by 10 rows, 0.0 MB\n"
    )
    assert count_lines(log) == {
        "resumes": 2,
        "resumes with open instances": 1,
        "catch-ups begun": 1,
        "catch-ups": 1,
    }
