"""Histories hold what the checker needs: answers as the replicas gave them, and what stayed open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.check import Checker
from chaos.history import LONGEST_EPOCH, Epoch, write_history
from chaos.workload import SETS, WEIGHTS, Asker, Keys, ask, parts_of, result_of
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.commands import Op
from epaxos.client.reading import in_the_log, is_reading
from epaxos.client.results import CasResult, Cleared, Page
from epaxos.simulation.checkers.reference import Command, Result, State, execute
from epaxos.simulation.checkers.search import Linearizability, search
from epaxos.statemachine.operations import KEYLESS, ON_ALL, Operation, Outcome

LONGEST = 1000


def reply_to(op: Op, result: Result) -> object:
    """What a client returns for an outcome and a value."""
    outcome, value = result
    if op.operation == Operation.DELETE:
        return outcome == Outcome.DONE
    if op.operation == Operation.CAS:
        return CasResult(outcome == Outcome.DONE, value)
    if op.operation == Operation.SCAN:
        return Page(*value)
    if op.operation == Operation.CLEAR:
        return Cleared(*value)
    if op.operation == Operation.MULTI:
        return [reply_to(*part) for part in zip(parts_of(op), zip(*value, strict=True), strict=True)]
    return value


def test_replies_become_the_results_that_they_came_from() -> None:
    asker = Asker(Random(1), 7)
    state: State = {}
    seen = set()
    for _ in range(2000):
        op = asker.draw(1)
        seen.add(op.operation)
        result = execute(state, Command(*op[:3]), LONGEST * 1000)
        if result[0] != Outcome.ABORTED:
            assert result_of(op, reply_to(op, result)) == result
            asker.learn(op, reply_to(op, result))
    assert seen == set(WEIGHTS)


def test_commands_stay_within_one_set_of_keys_and_write_each_value_once() -> None:
    asker = Asker(Random(1), 7)
    sets = [set(Keys.of(3, number).all) for number in range(SETS)]
    heads = [Keys.of(3, number).head for number in range(SETS)]
    values: list[bytes] = []
    for op in (asker.draw(3) for _ in range(1000)):
        parts = parts_of(op) if op.operation in KEYLESS else [op]
        if op.operation in ON_ALL:
            assert op.key in heads
        else:
            assert any({part.key for part in parts} <= keys for keys in sets)
        values += [part.argument for part in parts if isinstance(part.argument, bytes)]
    assert len(values) == len(set(values))


def test_a_client_is_asked_by_the_method_of_the_operation() -> None:
    class Stub(AsyncClient):
        def __init__(self) -> None:
            super().__init__("127.0.0.1:1")
            self.asked: list[Op] = []

        async def execute(self, operation: Op, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
            assert timeout is None
            self.asked.append(operation)
            return []

    stub, asker = Stub(), Asker(Random(1), 7)
    ops = [asker.draw(1) for _ in range(200)]

    async def body() -> None:
        for op in ops:
            await ask(stub, op)

    asyncio.run(body())
    assert list(map(in_the_log, stub.asked)) == ops
    assert any(map(is_reading, stub.asked))


def test_answered_open_and_void_commands() -> None:
    epoch = Epoch(1)
    write, read, void = (
        epoch.asked(1, op, 1.0) for op in (Op.put(b"k", b"v"), Op.get(b"k"), Op.put(b"k", b"x"))
    )
    assert not epoch.quiet.is_set()
    epoch.unanswered(write)
    epoch.without_effect(void)
    epoch.answered(read, (Outcome.DONE, b"v"), 2.0)
    assert epoch.quiet.is_set()
    assert [str(call) for call in epoch.calls] == ["1:1", "1:2"]
    assert search(epoch.calls, LONGEST).verdict is Linearizability.LINEARIZABLE


def test_effect_of_a_void_command_is_a_violation() -> None:
    epoch = Epoch(1)
    epoch.without_effect(epoch.asked(1, Op.put(b"k", b"x"), 1.0))
    epoch.answered(epoch.asked(1, Op.get(b"k"), 2.0), (Outcome.DONE, b"x"), 3.0)
    assert search(epoch.calls, LONGEST).verdict is Linearizability.VIOLATION


def listing(*keys: bytes, more: bool = False) -> Result:
    """What a list of keys without values is answered with."""
    return Outcome.DONE, [list(keys), None, more]


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (listing(b"k.1", b"k.2"), True),
        (listing(b"k.1"), False),
        (listing(b"k.1", b"k.2", b"k.3"), False),
        (listing(b"k.1", b"k.2", b"other"), False),
        (listing(b"k.1", more=True), False),
    ],
)
def test_a_list_holds_the_keys_with_its_prefix_and_no_others(answer: Result, *, fits: bool) -> None:
    epoch = Epoch(1)
    for key in (b"k.1", b"k.2", b"other"):
        epoch.answered(epoch.asked(1, Op.put(key, b"v"), 1.0), (Outcome.DONE, None), 2.0)
    epoch.answered(epoch.asked(2, Op.scan(b"k.", values=False), 3.0), answer, 4.0)
    assert (search(epoch.calls, LONGEST).verdict is Linearizability.LINEARIZABLE) == fits


def test_a_list_of_what_nobody_wrote_is_a_violation() -> None:
    for answer in (listing(), listing(b"k.1")):
        epoch = Epoch(1)
        epoch.answered(epoch.asked(1, Op.scan(b"k.", values=False), 1.0), answer, 2.0)
        assert (search(epoch.calls, LONGEST).verdict is Linearizability.LINEARIZABLE) == (answer == listing())


def test_lists_of_one_prefix_leave_other_keys_to_themselves() -> None:
    epoch = Epoch(1)
    for serial in range(12):
        epoch.asked(
            1, Op.put(b"other.%d" % serial, b"v"), 1.0
        )  # 2**12 orders, if they were searched together
    epoch.answered(epoch.asked(2, Op.put(b"k.1", b"v"), 1.0), (Outcome.DONE, None), 2.0)
    epoch.answered(epoch.asked(2, Op.scan(b"k.", values=False), 3.0), listing(), 4.0)
    assert search(epoch.calls, LONGEST, budget=100).verdict is Linearizability.VIOLATION


def test_epoch_is_long_at_its_limit() -> None:
    epoch = Epoch(1)
    for _ in range(LONGEST_EPOCH):
        assert not epoch.is_long
        epoch.asked(1, Op.get(b"k"), 1.0)
    assert epoch.is_long


def test_history_is_written_for_people(tmp_path: Path) -> None:
    epoch = Epoch(1)
    epoch.asked(1, Op.put(b"k", b"v"), 1.0)
    epoch.answered(epoch.asked(2, Op.get(b"k"), 2.0), (Outcome.DONE, b"v"), 2.5)
    write_history(tmp_path / "history", epoch.calls)
    first, second = (tmp_path / "history").read_text().splitlines()
    assert first.startswith("1.000000 never 1:1 ")
    assert second.startswith("2.000000 2.500000 2:1 ")


@pytest.mark.parametrize("value", [b"v", b"never written"])
def test_histories_are_searched_in_another_process(value: bytes) -> None:
    epoch = Epoch(1)
    epoch.answered(epoch.asked(1, Op.put(b"k", b"v"), 1.0), (Outcome.DONE, None), 2.0)
    epoch.answered(epoch.asked(2, Op.get(b"k"), 3.0), (Outcome.DONE, value), 4.0)
    with Checker(LONGEST) as checker:
        found = asyncio.run(checker.check(epoch.calls))
    assert (found.verdict is Linearizability.LINEARIZABLE) == (value == b"v")
