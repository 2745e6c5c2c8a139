from __future__ import annotations

import os
import subprocess
import sys

import pytest

from epaxos.bench import floor
from epaxos.bench.floor import Floor, FloorError


def test_the_floor_is_measured_and_leaves_nothing_running() -> None:
    with Floor() as measured:
        children = _children()
        assert len(children) == 2
        measured.measure(0.05)
        first = measured.latencies.count
        measured.measure(0.05)
        assert measured.latencies.count > first > 0
        median = measured.latencies.summary()["p50"]
        assert median is not None
        assert 0.01 < median < 50
    assert not children & _children()


def test_echo_processes_that_do_not_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(FloorError, match="cannot start"), Floor():
        pass


def test_an_echo_process_ends_with_its_parent() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", floor.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("tcp://127.0.0.1:")
    process.communicate(timeout=10)
    assert process.returncode == 0


def _children() -> set[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, check=True, text=True
    )
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return {int(pid) for pid, arguments in lines if floor.__name__ in arguments}
