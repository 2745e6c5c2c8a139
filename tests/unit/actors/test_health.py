from __future__ import annotations

import time
from dataclasses import replace

import pytest

from epaxos.actors.health import STUCK, Standing, examine
from epaxos.config import load_config
from epaxos.metrics import ReplicaStats

CONFIG = replace(load_config(None, environ={}), timeout=2.0)


class Examined:
    """A replica that is well in all respects, until a test changes one."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.standing.started = True
        self.stats = ReplicaStats(["alpha", "bravo", "charlie"], 0, [], [], CONFIG.slow_quorum)
        self.stats.peer_up["bravo"] = True

    def reasons(self) -> list[str]:
        return list(examine(CONFIG, self.standing, self.stats).unready)

    def deaths(self) -> list[str]:
        return list(examine(CONFIG, self.standing, self.stats).dead)


@pytest.fixture
def it() -> Examined:
    return Examined()


def test_a_replica_that_is_well(it: Examined) -> None:
    assert (it.deaths(), it.reasons()) == ([], [])


def test_no_quorum_is_no_reason_to_start_it_again(it: Examined) -> None:
    it.stats.peer_up["bravo"] = False
    assert it.reasons() == ["no quorum: hears 1 of 3 replicas (alpha), 2 are needed"]
    assert it.deaths() == []


def test_starting(it: Examined) -> None:
    it.standing.started = False
    assert it.reasons() == ["starting"]
    assert it.deaths() == []


def test_draining(it: Examined) -> None:
    it.standing.draining = True
    assert it.reasons() == ["draining: it has been told to stop"]
    assert it.deaths() == []


def test_catching_up(it: Examined) -> None:
    it.stats.catch_up = (0, 0)
    assert it.reasons() == ["catching up: it fetches the checkpoint of a peer, or what has followed that"]
    assert it.deaths() == []


def test_a_disk_that_failed(it: Examined) -> None:
    it.standing.trouble = "no space left"
    assert it.reasons() == ["disk failed: no space left"]
    assert it.deaths() == [], "started again on the same disk it would not live either"


def test_each_reason_is_told(it: Examined) -> None:
    it.standing.draining = True
    it.standing.trouble = "no space left"
    it.stats.peer_up["bravo"] = False
    assert len(it.reasons()) == 3


@pytest.mark.parametrize(
    ("seconds", "ready", "lives"), [(1, True, True), (3, False, True), (70, False, False)]
)
def test_a_replica_that_is_stuck(it: Examined, seconds: float, *, ready: bool, lives: bool) -> None:
    it.standing.busy_since = time.monotonic() - seconds
    assert (not it.reasons(), not it.deaths()) == (ready, lives)
    assert CONFIG.timeout < 3 < STUCK < 70


def test_one_that_has_stopped_says_it_once(it: Examined) -> None:
    it.standing.reach(None)
    assert it.deaths() == it.reasons() == ["stopped"]
