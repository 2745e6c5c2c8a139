from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaxos.bench.verify import Answered, Findings, History, wrong_outcomes
from epaxos.bench.workload import Columns
from epaxos.statemachine.operations import Operation, Outcome

READ, WRITE, WRITEREAD = Operation.READ, Operation.WRITE, Operation.WRITEREAD


@dataclass(frozen=True)
class Did:
    """One command on one key, with what it saw and when."""

    operation: Operation
    written: bytes | None
    seen: bytes | None
    sent: int
    answered: int


def read(seen: bytes | None, sent: int, answered: int) -> Did:
    return Did(READ, None, seen, sent, answered)


def write(written: bytes, sent: int, answered: int) -> Did:
    return Did(WRITE, written, None, sent, answered)


def write_read(written: bytes, seen: bytes | None, sent: int, answered: int) -> Did:
    return Did(WRITEREAD, written, seen, sent, answered)


def check(commands: Sequence[Did], key: bytes = b"k") -> Findings:
    history = History()
    for number, did in enumerate(commands):
        columns = Columns(number, bytes((did.operation,)), [key], [did.written])
        history.answered(Answered(0, columns, [did.seen], did.sent, did.answered))
    return history.check()


RIGHT = {
    "nothing": [],
    "read of nothing": [read(None, 1, 2)],
    "reads of what was there before": [read(b"old", 1, 2), read(b"old", 3, 4)],
    "private key": [
        read(b"old", 1, 2),
        write(b"a", 3, 4),
        read(b"a", 5, 6),
        write(b"b", 7, 8),
        read(b"b", 9, 10),
    ],
    "chain": [write_read(b"a", None, 1, 4), write_read(b"b", b"a", 2, 3), read(b"b", 5, 6)],
    "chain against the order of sending": [write_read(b"a", b"b", 1, 9), write_read(b"b", b"old", 2, 8)],
    "read while a write is under way": [
        write_read(b"a", None, 1, 9),
        read(None, 2, 3),
        read(b"a", 4, 5),
        read(b"a", 6, 7),
    ],
}

WRONG = {
    "value nobody wrote": [write(b"a", 1, 2), read(b"a", 3, 4), read(b"x", 5, 6), read(b"y", 5, 6)],
    "private write lost": [read(b"old", 1, 2), write(b"a", 3, 4), read(b"old", 5, 6)],
    "private write overtaken": [write(b"a", 1, 2), write(b"b", 3, 4), read(b"a", 5, 6)],
    "value from the future": [read(b"a", 1, 2), write(b"a", 3, 4)],
    "two writes saw the same": [write_read(b"a", b"old", 1, 9), write_read(b"b", b"old", 2, 8)],
    "write lost from the chain": [write_read(b"a", None, 1, 2), write_read(b"b", None, 3, 4)],
    "a circle": [write_read(b"a", b"b", 1, 9), write_read(b"b", b"a", 2, 8)],
    "chain against time": [write_read(b"a", b"b", 1, 2), write_read(b"b", None, 3, 4)],
    "stale read": [write_read(b"a", None, 1, 2), write_read(b"b", b"a", 3, 4), read(b"a", 5, 6)],
    "new value and then the old one": [write_read(b"a", None, 1, 9), read(b"a", 2, 3), read(None, 4, 5)],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_passes(name: str) -> None:
    findings = check(RIGHT[name])
    assert findings.wrong == 0, findings.texts
    assert findings.commands == len(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_found(name: str) -> None:
    findings = check(WRONG[name])
    assert findings.wrong > 0
    assert findings.texts
    assert findings.texts[0].startswith("key 'k': ")


def linearizable(commands: Sequence[Did], first: bytes | None) -> bool:
    """By trying every order."""
    return any(explains(order, first) for order in permutations(commands))


def explains(order: Sequence[Did], value: bytes | None) -> bool:
    for index, did in enumerate(order):
        if any(later.answered < did.sent for later in order[index + 1 :]):
            return False
        if did.operation != WRITE and did.seen != value:
            return False
        if did.operation != READ:
            value = did.written
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Did]:
    """Shared-key histories, right or wrong: what was seen is drawn from what anybody could have seen."""
    values = [None, b"a", b"b", b"c", b"d"]
    commands = []
    for value in values[1 : 1 + draw(st.integers(1, 5))]:
        begin = draw(st.integers(0, 8))
        interval = (begin, begin + draw(st.integers(0, 6)))
        seen = draw(st.sampled_from(values))
        write = value is not None and draw(st.booleans())
        commands.append(Did(WRITEREAD if write else READ, value if write else None, seen, *interval))
    return commands


@settings(max_examples=200)
@given(histories())
def test_the_check_agrees_with_trying_every_order(commands: list[Did]) -> None:
    firsts = {None, b"a", b"b", b"c", b"d"} - {did.written for did in commands if did.operation != READ}
    assert (check(commands).wrong == 0) == any(linearizable(commands, first) for first in firsts)


def test_keys_with_unanswered_commands_are_left_out_and_counted() -> None:
    history = History()
    history.answered(Answered(0, Columns(0, bytes((READ,)), [b"k"], None), [b"x"], 1, 2))
    history.answered(Answered(0, Columns(1, bytes((READ,)), [b"l"], None), [b"x"], 1, 2))
    history.unanswered(Columns(2, bytes((WRITE,)), [b"k"], [b"y"]))
    findings = history.check()
    assert (findings.keys, findings.commands, findings.skipped_keys) == (1, 1, 1)


def test_many_wrong_answers_are_counted_but_not_all_told() -> None:
    findings = check([write_read(b"%d" % number, None, 1, 2) for number in range(50)])
    assert findings.wrong == 49
    assert len(findings.texts) == 10


@pytest.mark.parametrize(
    ("operation", "outcome", "seen", "wrong"),
    [
        (WRITE, Outcome.DONE, None, 0),
        (WRITE, Outcome.DONE, b"x", 1),
        (WRITE, Outcome.NOT_FOUND, None, 1),
        (READ, Outcome.DONE, b"x", 0),
        (READ, Outcome.DONE, None, 1),
        (READ, Outcome.DONE, 5, 1),
        (READ, Outcome.NOT_FOUND, None, 0),
        (READ, Outcome.NOT_FOUND, b"x", 1),
        (READ, Outcome.ABORTED, None, 1),
        (WRITEREAD, Outcome.DONE, b"x", 0),
        (WRITEREAD, Outcome.DONE, None, 0),
        (WRITEREAD, Outcome.DONE, 5, 1),
        (WRITEREAD, Outcome.NOT_FOUND, None, 1),
    ],
)
def test_outcomes_an_operation_cannot_have_are_counted(
    operation: Operation, outcome: Outcome, seen: object, wrong: int
) -> None:
    columns = Columns(0, bytes((operation,)), [b"k"], [b"v"])
    assert wrong_outcomes(columns, bytes((outcome,)), None if seen is None else [seen]) == wrong
