"""The log of slow commands: bounded, and safe to read."""

from __future__ import annotations

import pytest

from epaxos.actors import slow
from epaxos.actors.slow import SlowLog
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.operations import Operation

READ, WRITE = bytes([Operation.READ]), bytes([Operation.WRITE])


@pytest.fixture
def stats() -> ReplicaStats:
    return ReplicaStats(["a"], 0, [], [], 1)


def test_what_took_longer_is_slow(stats: ReplicaStats) -> None:
    log = SlowLog(1.0, stats)
    assert log.before(11.0) == 10.0
    assert SlowLog(0.0, stats).before(1e9) < 0.0, "switched off"


def test_keys_are_cut_off_and_steer_no_terminal(
    stats: ReplicaStats, caplog: pytest.LogCaptureFixture
) -> None:
    log = SlowLog(1.0, stats)
    log.note(WRITE + READ, [b'a\x1b[2J\n\xff"', b"k" * 1000], 1.25, 0.0)
    (record,) = caplog.records
    assert record.getMessage() == (
        'slow: 2 commands took 1s250ms here: WRITE "a\\x1b[2J\\n\\\\xff\\"", READ "' + "k" * 40 + '"…'
    )
    assert record.getMessage().isprintable()


def test_of_many_commands_some_are_shown(stats: ReplicaStats, caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1.0, stats).note(WRITE * 50, [b"k"] * 50, 2.0, 0.0)
    assert caplog.records[0].getMessage().endswith('WRITE "k", WRITE "k", WRITE "k" and 47 more')
    assert stats.slow_commands == 50


def test_lines_are_bounded_and_those_left_out_are_counted(
    stats: ReplicaStats, caplog: pytest.LogCaptureFixture
) -> None:
    log = SlowLog(1.0, stats)
    for _ in range(1000):
        log.note(READ, [b"k"], 2.0, 0.0)
    assert len(caplog.records) == slow.AT_MOST
    log.note(READ, [b"k"], 2.0, slow.INTERVAL)
    assert caplog.records[-1].getMessage().endswith("990 other frames were not shown")
    assert stats.slow_commands == 1001
