from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from epaxos.cli.lifeline import wait_for_end

ROOT = Path(__file__).resolve().parents[3]


def start(code: str) -> subprocess.Popen[bytes]:
    """A process that heeds its lifeline and runs `code`, which says so when it is there."""
    head = "import signal, time\nfrom epaxos.cli.lifeline import stop_when_input_ends\n"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", head + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end_input(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """How the process ends, and what it prints, after its standard input has ended."""
    try:
        printed, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    return process.returncode, printed


def test_it_stops_in_order_when_its_input_ends() -> None:
    process = start(
        "signal.signal(signal.SIGTERM, lambda *_: exit(7))\n"
        "stop_when_input_ends(10)\nprint('ready')\ntime.sleep(10)"
    )
    assert process.poll() is None
    assert end_input(process) == (7, b"")


def test_it_ends_even_before_it_can_stop_in_order() -> None:
    process = start("stop_when_input_ends(10)\nprint('ready')\ntime.sleep(10)")
    assert end_input(process)[0] == -signal.SIGTERM


def test_it_is_killed_if_it_does_not_stop() -> None:
    process = start(
        "signal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
        "stop_when_input_ends(0.1)\nprint('ready')\nwhile True: time.sleep(10)"
    )
    assert end_input(process) == (-signal.SIGKILL, b"no\n")


def test_what_comes_before_the_end_is_skipped() -> None:
    reader, writer = os.pipe()
    waiting = threading.Thread(target=wait_for_end, args=(reader,))
    waiting.start()
    os.write(writer, b"x" * 10_000)
    waiting.join(0.05)
    assert waiting.is_alive()
    os.close(writer)
    waiting.join(10)
    assert not waiting.is_alive()
    os.close(reader)


@pytest.mark.parametrize("mode", ["closed", "not to be read"])
def test_an_input_that_cannot_be_read_has_ended(mode: str, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    if mode == "closed":
        os.close(descriptor)
        wait_for_end(descriptor)
    else:
        wait_for_end(descriptor)
        os.close(descriptor)
