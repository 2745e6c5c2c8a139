"""What is told of a replica that catches up: lines now and then, and what metrics show."""

from __future__ import annotations

import logging

import pytest

from epaxos.actors.catchup import CatchUpReporter
from epaxos.checkpoint.keeper import CatchUp
from epaxos.config import load_config
from epaxos.metrics import ReplicaStats

CONFIG = load_config(None, environ={})


class Told:
    """A reporter, and what it has told."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.stats = ReplicaStats([replica.name for replica in CONFIG.replicas], 0, [], [], 2)
        self._reporter = CatchUpReporter(self.stats)
        self._caplog = caplog
        self._caught_up = 0

    def note(self, stage: str, now: float, size: int = 0) -> list[str]:
        """The lines told of this; no stage stands for one that does not catch up."""
        before = len(self._caplog.records)
        progress = CatchUp("bravo", stage, size // 100, size) if stage else None
        self._reporter.note(progress, self._caught_up, now)
        return [record.getMessage() for record in self._caplog.records[before:]]

    def caught_up(self, now: float) -> list[str]:
        self._caught_up += 1
        return self.note("", now)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_replica_that_does_not_catch_up_tells_nothing(told: Told) -> None:
    assert told.note("", 0.0) + told.note("", 100.0) == []
    assert (told.stats.catch_up, told.stats.catch_ups) == (None, 0)


def test_the_beginning_each_stage_and_the_end_are_told(told: Told) -> None:
    assert told.note("fetching", 10.0) == ["catching up from bravo: fetching, 0 rows, 0.0 MB"]
    assert told.stats.catch_up == (0, 0)
    assert told.note("fetching", 11.0, 1_000_000) == []
    assert told.stats.catch_up == (10_000, 1_000_000)
    assert told.note("merging", 11.5, 2_500_000) == ["catching up from bravo: merging, 25,000 rows, 2.5 MB"]
    assert told.note("following", 11.6, 2_500_000) == [
        "catching up from bravo: following, 25,000 rows, 2.5 MB"
    ]
    assert told.caught_up(14.0) == ["caught up in 4.0 s by 25,000 rows, 2.5 MB"]
    assert told.stats.catch_ups == 1
    assert told.note("", 15.0) == []


def test_a_long_stage_is_told_every_two_seconds(told: Told) -> None:
    lines = [told.note("fetching", step / 10, step) for step in range(100)]
    assert sum(map(len, lines)) == 5


def test_a_peer_that_is_given_up_is_told_and_is_no_end(told: Told) -> None:
    told.note("fetching", 0.0)
    [line] = told.note("", 5.0)
    assert line == "bravo did not send its checkpoint to the end; asking again when more is missed"
    assert (told.stats.catch_up, told.stats.catch_ups) == (None, 0)


def test_a_second_time_counts_from_its_own_beginning(told: Told) -> None:
    told.note("following", 0.0)
    told.caught_up(1.0)
    told.note("fetching", 10.0)
    told.note("following", 11.0)
    assert told.caught_up(13.0) == ["caught up in 3.0 s by 0 rows, 0.0 MB"]
    assert told.stats.catch_ups == 2
    told.note("fetching", 20.0)
    assert "did not send" in told.note("", 21.0)[0], "that it has caught up before is no success now"
