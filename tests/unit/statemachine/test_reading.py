"""Frames of reads that are none of the log: what they may hold, and what stands for them in the log."""

from __future__ import annotations

import pytest

from epaxos.errors import CommandError
from epaxos.statemachine.batch import Batch
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.reading import Reading, are_readings, as_read, of_the_log, runs, taken_apart

READ, EXISTS, SCAN, COUNT, WRITE = (
    int(operation)
    for operation in (Operation.READ, Operation.EXISTS, Operation.SCAN, Operation.COUNT, Operation.WRITE)
)
PAGE: Argument = [None, 10, True, False]


def frame(*commands: tuple[int, Argument]) -> Batch:
    operations, arguments = zip(*commands, strict=True)
    return Batch(7, 1, 1, bytes(operations), [b"k"] * len(commands), list(arguments))


def test_what_is_read_otherwise_is_the_same_command_without_that() -> None:
    batch, readings = taken_apart(
        frame((READ, 1), (EXISTS, 2), (READ, 3), (COUNT, 2), (SCAN, as_read(PAGE, Reading.LOCAL)))
    )
    assert readings == [1, 2, 3, 2, 2]
    assert batch.arguments == [None, None, None, None, PAGE]
    assert taken_apart(frame((READ, 1)))[0].arguments is None
    assert of_the_log(READ, 1) is None
    assert of_the_log(WRITE, b"value") == b"value"


def test_what_a_quorum_tells_and_what_it_does_not_are_answered_apart() -> None:
    batch, readings = taken_apart(frame((READ, 1), (READ, 1), (READ, 2), (READ, 3), (EXISTS, 1)))
    assert [(part.first, len(part), its) for part, its in runs(batch, readings)] == [
        (1, 2, [1, 1]),
        (3, 2, [2, 3]),
        (5, 1, [1]),
    ]


@pytest.mark.parametrize(
    "batch", [frame((READ, None)), frame((WRITE, 1)), frame((SCAN, PAGE)), frame((READ, True))]
)
def test_commands_are_no_such_reads(batch: Batch) -> None:
    assert not are_readings(batch)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((SCAN, [None, 10, True, False, 1]), "a list or a count is no read by a quorum"),
        ((COUNT, 1), "a list or a count is no read by a quorum"),
        ((READ, 6), "reading 6 in a frame of reads"),
        ((WRITE, b"value"), "such a frame holds nothing else"),
        ((READ, None), "such a frame holds nothing else"),
        ((EXISTS, 3), "reading 3"),
    ],
)
def test_nothing_else_is_in_such_a_frame(command: tuple[int, Argument], text: str) -> None:
    with pytest.raises(CommandError, match=text) as caught:
        taken_apart(frame((READ, 1), command))
    assert caught.value.index == 1
