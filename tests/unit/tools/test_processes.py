"""Children are stopped however the program ends, and a signal is noticed where the program waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import processes
from shared.processes import Children, Interrupted, catch_signals, pause

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo up; while true; do sleep 0.1; done"]


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals are caught, and forgotten again."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    monkeypatch.setattr(processes, "_received", [])
    catch_signals()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def start(children: Children, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command and wait until it has printed something."""
    with log.open("wb") as output:
        process = children.start(command, output=output)
    while not log.stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_children_are_stopped_when_the_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with Children() as children:
            started.append(start(children, SLEEP, tmp_path / "log"))
            raise LookupError

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(LookupError):
        fail()
    assert started[0].returncode == -signal.SIGTERM


def test_child_that_is_known_to_have_ended_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Children() as children:
        ended, running = (start(children, SLEEP, tmp_path / name) for name in ("ended", "running"))
        ended.kill()
        ended.wait()
        children.forget(ended)
        signalled = []
        signal_group = processes._signal_group

        def note(process: subprocess.Popen[bytes], signum: int) -> None:
            signalled.append(process)
            signal_group(process, signum)

        monkeypatch.setattr(processes, "_signal_group", note)
    assert set(signalled) == {running}


def test_child_that_does_not_stop_is_killed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    with Children() as children:
        process = start(children, STUBBORN, tmp_path / "log")
        assert children.stop() == [process]
    assert process.returncode == -signal.SIGKILL


def test_grandchild_is_killed_with_its_parent() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as read_end:
        with os.fdopen(writing, "wb") as output, Children() as children:
            process = children.start(["sh", "-c", "sleep 60 & exit 0"], output=output)
            assert children.wait(process) == 0
        assert read_end.read() == b""  # ends when nobody is left who could write


def test_child_that_ended_by_itself_is_not_a_failure_to_stop() -> None:
    with Children() as children:
        process = children.start([sys.executable, "-c", "raise SystemExit(3)"])
        assert children.wait(process) == 3
        assert children.stop() == []


@pytest.mark.usefixtures("caught")
@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_interrupts_where_the_program_waits(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)
    with pytest.raises(Interrupted) as interruption:
        pause(30)
    assert interruption.value.status == 128 + signum


@pytest.mark.usefixtures("caught")
def test_pause_without_a_signal_ends() -> None:
    began = time.monotonic()
    pause(0.1)
    assert time.monotonic() - began >= 0.1
