"""Standard streams that fail: one line, and an exit code that no other outcome has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from epaxos.cli.failures import Exit

ROOT = Path(__file__).resolve().parents[3]
TRACE = "simulate --seed 1 --trace"
NO_SPACE = "epaxos: cannot write to standard output: No space left on device\n"
CLOSED = "epaxos: cannot write to standard output: Bad file descriptor\n"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(line: str, **environment: str) -> tuple[int, str, str]:
    """What comes of a line in which $E is the command: its status (of the first in a pipe), stdout and stderr."""
    done = subprocess.run(
        ["bash", "-c", f"{line}\nexit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"E": f"{sys.executable} -m epaxos"} | environment,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@needs_full
@pytest.mark.parametrize(
    "words",
    [
        *("--help", "--version", "get --help", "config keys", "config init --replicas 3"),
        *("simulate --seed 1", TRACE, "simulate --topology conf/regions-5.toml --operations 50"),
        *("simulate --topology conf/regions-5.toml --operations 50 --json - 2>/dev/null",),
        "config check conf/local.toml",
    ],
)
def test_a_full_disk(words: str) -> None:
    status, _, complaint = shell(f"$E {words} >/dev/full")
    assert (status, complaint) == (Exit.STREAM, "" if "2>" in words else NO_SPACE)


@needs_full
def test_a_report_that_cannot_be_written() -> None:
    status, _, complaint = shell("$E simulate --seed 1 --json /dev/full")
    assert (status, complaint) == (Exit.STREAM, "epaxos: cannot write /dev/full: No space left on device\n")


@pytest.mark.parametrize(
    "words", ["--help", "config keys", "simulate --seed 1", "config check conf/local.toml"]
)
def test_a_standard_output_that_is_closed(words: str) -> None:
    assert shell(f"$E {words} >&- <&-") == (Exit.STREAM, "", CLOSED)


def test_a_standard_input_that_is_closed_matters_to_those_who_read_it() -> None:
    status, _, complaint = shell("$E put key - <&-")
    assert (status, complaint) == (Exit.STREAM, "epaxos: cannot read standard input: Bad file descriptor\n")
    assert shell("$E --version <&-")[::2] == (0, "")


@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_what_nobody_can_be_told_does_not_change_the_outcome(stderr: str) -> None:
    assert shell(f"$E config keys {stderr}")[::2] == (0, "")
    assert shell(f"$E get key -c no-such-file {stderr}") == (Exit.USAGE, "", "")
    assert shell(f"$E config check no-such-file {stderr}") == (Exit.USAGE, "", "")


@pytest.mark.parametrize(
    "words",
    ["--help", "config keys", TRACE, "simulate --topology conf/regions-5.toml --operations 50"],
)
def test_a_reader_that_left(words: str) -> None:
    assert shell(f"$E {words} | true") == (Exit.PIPE, "", "")


def test_a_reader_of_complaints_that_left() -> None:
    assert shell("$E get key -c no-such-file 2>&1 >/dev/null | true") == (Exit.USAGE, "", "")


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    status, shown, complaint = shell("$E simulate --seed 1", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (status, complaint) == (0, "")
    assert shown.isascii()


def test_output_of_one_who_shares_a_pipe_that_wants_no_waiting() -> None:
    code = (
        "import os; os.set_blocking(1, False); from epaxos.cli.main import main; main("
        + str(TRACE.split())
        + ")"
    )
    status, shown, complaint = shell(f'$PY -c "{code}" | (sleep 0.5; cat)', PY=sys.executable)
    assert (status, complaint) == (0, "")
    assert len(shown) > 100_000, "more than the pipe holds"


def test_signals_of_operators_kill_no_command_that_is_only_beginning() -> None:
    program = """
import os, signal, sys
import epaxos.cli
for number in (signal.SIGUSR1, signal.SIGUSR2):
    os.kill(os.getpid(), number)
assert callable(signal.getsignal(signal.SIGUSR1))  # or threads go on, and one in some thousand times it crashes
sys.exit("click" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert b"(most recent call first)" in done.stderr
