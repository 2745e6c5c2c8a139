"""The ledger finds every answered command that is lost, and every command that was executed twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos import ledger as chaos_ledger
from chaos.ledger import Audit, Ledger
from epaxos.client.commands import Op
from epaxos.client.results import Result
from epaxos.errors import Busy, NoAnswer
from epaxos.statemachine.operations import Operation

OPEN = Result(error=NoAnswer("nobody"))
VOID = Result(error=Busy("full"))


class Rig:
    """A ledger and a store in which its commands execute."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.values: dict[bytes, bytes | None] = {}

    def execute(self, op: Op) -> Result:
        before = self.values.get(op.key)
        if op.operation == Operation.INCREMENT:
            value = int(before or b"0") + 1
            self.values[op.key] = b"%d" % value
            return Result(value)
        assert isinstance(op.argument, bytes)
        self.values[op.key] = (before or b"") + op.argument
        return Result(len(self.values[op.key] or b""))

    def execute_twice(self, op: Op) -> Result:
        self.execute(op)
        return self.execute(op)

    def executing(self, result: Result) -> Callable[[Op], Result]:
        """What executes a command and answers with `result`."""

        def answer(op: Op) -> Result:
            self.execute(op)
            return result

        return answer

    def run(self, answer: Callable[[Op], Result], writer: int = 1) -> None:
        for op in self.ledger.batch(writer, 6):
            self.ledger.note(op, answer(op))

    def audit(self) -> Audit:
        return self.ledger.audit({key: self.values.get(key) for key in self.ledger.keys})


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_all_that_was_answered_is_there_once(rig: Rig) -> None:
    for writer in (1, 2, 1, 2, 1):
        rig.run(rig.execute, writer)
    assert rig.audit() == Audit(answered=30, unanswered=0, executed=0, wrong=[])


def test_commands_of_a_batch_have_keys_of_their_own_and_those_all_share(rig: Rig) -> None:
    one, two = ({op.key for op in rig.ledger.batch(writer, 9)} for writer in (1, 2))
    assert len(one) == len(two) == 9
    assert one & two == {b"ledger.shared.%d" % number for number in range(chaos_ledger.SHARED)}


def test_unanswered_commands_may_have_executed_or_not(rig: Rig) -> None:
    rig.run(rig.execute)
    rig.run(lambda _op: OPEN)
    rig.run(rig.executing(OPEN))
    rig.run(rig.execute)
    assert rig.audit() == Audit(answered=12, unanswered=12, executed=6, wrong=[])


def test_commands_that_were_refused_must_not_have_executed(rig: Rig) -> None:
    rig.run(lambda _op: VOID)
    assert rig.audit() == Audit(answered=0, unanswered=0, executed=0, wrong=[])
    rig.run(rig.executing(VOID))
    assert len(rig.audit().wrong) == 6


@pytest.mark.parametrize("operation", [Operation.INCREMENT, Operation.APPEND])
def test_lost_command_is_found(rig: Rig, operation: Operation) -> None:
    rig.run(lambda op: Result(1) if op.operation == operation else rig.execute(op))
    wrong = rig.audit().wrong
    assert wrong
    assert all(
        ("after 1 increments" if operation == Operation.INCREMENT else "is lost") in text for text in wrong
    )


@pytest.mark.parametrize("result", [OPEN, None])
@pytest.mark.parametrize("operation", [Operation.INCREMENT, Operation.APPEND])
def test_command_that_executed_twice_is_found(rig: Rig, operation: Operation, result: Result | None) -> None:
    def twice(op: Op) -> Result:
        first = rig.execute(op)
        if op.operation == operation:
            rig.execute(op)
        return result or first

    rig.run(twice)
    assert rig.audit().wrong


def test_answer_that_betrays_a_second_execution_is_found_at_once(rig: Rig) -> None:
    rig.run(rig.execute_twice)
    rig.values.clear()
    assert any("reached 2 by 1 increments" in text for text in rig.audit().wrong)


def test_texts_end_after_some_marks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_ledger, "MARKS", 2)
    for _ in range(5):
        rig.run(rig.execute)
    assert [rig.values[b"ledger.1.text.%d" % number] for number in range(3)] == [b"0;1;", b"2;3;", b"4;"]
    assert rig.audit().wrong == []
    rig.values[b"ledger.1.text.2"] = b"3;4;"
    assert rig.audit().wrong == ["ledger.1.text.2: mark 3 was never made"]


def test_what_is_told_is_bounded(rig: Rig) -> None:
    for _ in range(100):
        rig.run(rig.execute_twice)
    assert len(rig.audit().wrong) == chaos_ledger.SHOWN
