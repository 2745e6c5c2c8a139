"""The supervisor with small shell scripts as children."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from epaxos.cli.supervisor import Ended, Supervisor

ADVICE = "Do something."
PATIENT = "trap 'exit 0' TERM; echo up; while true; do read line; done"
STUBBORN = "trap 'echo no' TERM; echo up; while true; do read line; done"


class Output:
    """What was printed, by name; None is the supervisor's own name."""

    def __init__(self) -> None:
        self.lines: list[tuple[str | None, str]] = []
        self.notify: Callable[[str | None, str], None] = lambda *_: None

    def __call__(self, name: str | None, line: str) -> None:
        self.lines.append((name, line))
        self.notify(name, line)

    def of(self, name: str | None) -> list[str]:
        return [line for origin, line in self.lines if origin == name]


@pytest.fixture
def output() -> Output:
    return Output()


def supervise(output: Output, grace: float = 10.0, **scripts: str) -> int:
    supervisor = Supervisor(output, ADVICE, grace)
    commands = {name: ["sh", "-c", script] for name, script in scripts.items()}
    return asyncio.run(asyncio.wait_for(supervisor.run(commands), 20))


def signal_when_up(output: Output, count: int, *numbers: int) -> None:
    """Send signals to this process, a moment apart, once `count` children have said that they are up."""
    loops: list[Any] = []

    def notify(_: str | None, __: str) -> None:
        if not loops and sum(line == "up" for _, line in output.lines) == count:
            loops.append(asyncio.get_running_loop())
            for delay, number in enumerate(numbers):
                loops[0].call_later(0.3 * delay, os.kill, os.getpid(), number)

    output.notify = notify


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_in_order(output: Output, number: signal.Signals) -> None:
    signal_when_up(output, 2, number)
    assert supervise(output, a=PATIENT, b=PATIENT) == 0
    assert output.of(None) == [f"stopping on {number.name}; once more kills"]
    assert output.of("a") == output.of("b") == ["up"]


def test_a_child_that_fails_stops_the_others_with_its_status(output: Output) -> None:
    assert supervise(output, a=PATIENT, b="echo down; exit 5", c=PATIENT) == 5
    assert output.of("b") == ["down"]
    assert output.of(None) == [f"b ended with status 5; stopping the others. {ADVICE}"]


def test_those_that_end_well_leave_the_others_alone(output: Output) -> None:
    assert supervise(output, a="read line", b="exit 0", c="sleep 0.2; kill -KILL $$") == 128 + signal.SIGKILL
    assert output.of(None) == [
        "b ended with status 0; the others go on",
        f"c was killed by SIGKILL; stopping the others. {ADVICE}",
    ]
    output.lines.clear()
    assert supervise(output, a="exit 0", b="sleep 0.2") == 0
    assert output.of(None) == ["a ended with status 0; the others go on", "b ended with status 0"]


def test_a_child_that_is_killed(output: Output) -> None:
    assert supervise(output, a=PATIENT, b="kill -KILL $$") == 128 + signal.SIGKILL
    assert output.of(None) == [f"b was killed by SIGKILL; stopping the others. {ADVICE}"]


def test_who_does_not_stop_is_killed_after_the_grace_time(output: Output) -> None:
    signal_when_up(output, 2, signal.SIGTERM)
    began = time.monotonic()
    assert supervise(output, grace=0.5, a=PATIENT, b=STUBBORN) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 5
    assert output.of("b") == ["up", "no"]
    assert output.of(None)[1:] == ["b was killed by SIGKILL when it was asked to stop"]


def test_a_second_signal_kills(output: Output) -> None:
    signal_when_up(output, 1, signal.SIGINT, signal.SIGINT)
    began = time.monotonic()
    assert supervise(output, grace=60, b=STUBBORN) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 10


def test_who_fails_while_stopping_is_named(output: Output) -> None:
    signal_when_up(output, 2, signal.SIGTERM)
    failing = "trap 'exit 4' TERM; echo up; while true; do read line; done"
    assert supervise(output, a=PATIENT, b=failing) == 4
    assert output.of(None)[1:] == ["b ended with status 4 when it was asked to stop"]


def test_a_child_without_a_handler_yet_stops_in_order(output: Output) -> None:
    signal_when_up(output, 1, signal.SIGTERM)
    assert supervise(output, a="echo up; exec sleep 10") == 0


def test_lines_come_out_complete_and_all_of_them(output: Output) -> None:
    script = "printf 'one'; sleep 0.1; printf ' line\\nand more'; printf ' \\377' >&2; exit 3"
    many = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i + 1)); done; sleep 10"
    assert supervise(output, a=script, b=many) == 3
    assert output.of("a") == ["one line", "and more \\xff"]
    received = output.of("b")
    assert received == [f"line {number}" for number in range(len(received))]


def test_a_child_that_prints_more_than_a_pipe_holds(output: Output) -> None:
    assert supervise(output, a="head -c 1000000 /dev/zero | tr '\\0' x; exit 3") == 3
    assert output.of("a") == ["x" * 1_000_000]


def test_children_are_out_of_reach_of_the_terminal(output: Output) -> None:
    script = f"exec {sys.executable} -c 'import os; print(os.getpgrp(), os.getpid()); exit(3)'"
    assert supervise(output, a=script) == 3
    [line] = output.of("a")
    group, process = map(int, line.split())
    assert group == process != os.getpgrp()


def test_children_have_an_input_that_stays_open_and_ends_with_us(output: Output) -> None:
    assert supervise(output, a="read line; echo ended; exit 3", b="sleep 0.3; exit 4") == 4
    assert output.of("a") == []


def test_when_nobody_reads_all_are_stopped(output: Output) -> None:
    def broken(_: str | None, __: str) -> None:
        raise BrokenPipeError

    output.notify = broken
    noisy = "trap 'exit 0' TERM; while true; do echo line; sleep 0.01; done"
    assert supervise(output, a=noisy, b=noisy) == 128 + signal.SIGPIPE
    assert len(output.lines) == 1


def test_a_program_that_is_not_there_stops_those_that_run(output: Output) -> None:
    supervisor = Supervisor(output, ADVICE, 10)
    pids: list[int] = []
    output.notify = lambda _, line: pids.append(int(line))
    commands = {"a": ["sh", "-c", "echo $$; exec sleep 10"], "b": ["/no/such/program"]}
    with pytest.raises(FileNotFoundError):
        asyncio.run(asyncio.wait_for(supervisor.run(commands), 20))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (0, 0, "a ended with status 0"),
        (2, 2, "a ended with status 2"),
        (-9, 137, "a was killed by SIGKILL"),
    ],
)
def test_how_children_end(status: int, code: int, text: str) -> None:
    ended = Ended("a", status)
    assert (ended.code, str(ended)) == (code, text)
