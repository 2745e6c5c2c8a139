"""What answers tell of the values that commands found: which values must not go yet.

Many answers tell the value that a command found under a key. While such a command has not had its moment, that
value must stay, or somebody must be able to bring it. A search that lets it go is lost, however long it goes
on; seeing that at once is what makes a search over many concurrent writes short.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result, only_reads, parts_of, touched
from epaxos.statemachine.operations import Operation, Outcome

Value: TypeAlias = "bytes | None"
"""What is under a key; None where there is nothing."""

Need: TypeAlias = "tuple[bytes, Value]"
"""A key and the value that must be under it."""

Open: TypeAlias = Callable[[int], bool]
"""Tells whether the command of this index has not run."""


def found(command: Command, result: Result) -> Iterator[tuple[bytes, Value]]:
    """The keys under which a command, by its answer, found a certain value."""
    outcome, value = result
    operation, key, argument = command
    if operation == Operation.MULTI:
        yield from _found_by_parts(command, value)
    elif operation in (Operation.READ, Operation.WRITEREAD):
        yield key, value
    elif operation == Operation.CAS:
        yield key, argument[0] if outcome == Outcome.DONE else value
    elif operation == Operation.SCAN and value[1] is not None:
        yield from zip(*value[:2], strict=True)
    elif operation in (Operation.DELETE, Operation.EXISTS) and outcome == Outcome.NOT_FOUND:
        yield key, None


def _found_by_parts(multi: Command, value: Any) -> Iterator[tuple[bytes, Value]]:
    """Of several parts on one key, the first found what was there before the MULTI."""
    seen: set[bytes] = set()
    for part, result in zip(parts_of(multi), zip(*value, strict=True), strict=True):
        if part.key not in seen:
            seen.add(part.key)
            yield from found(part, result)


def changes_nothing(command: Command, result: Result | None) -> bool:
    """Whether a command, by its answer, found things as it left them; false without an answer."""
    if result is None:
        return False
    outcome, value = result
    if outcome >= Outcome.COMPARE_FAILED or only_reads(command):
        return True
    if command.operation == Operation.CLEAR:
        return bool(value[0] == 0)
    if command.operation == Operation.MULTI:
        return all(map(changes_nothing, parts_of(command), zip(*value, strict=True)))
    if command.operation == Operation.CAS:
        expected, new = command.argument
        return bool(expected == new)
    return command.operation == Operation.DELETE and outcome == Outcome.NOT_FOUND


def _may_leave(command: Command, result: Result | None, key: bytes, value: Value) -> bool:
    """Whether a command may have left this value under a key; `result` is its answer, None if it has none."""
    operation, own, argument = command
    outcome, answer = (None, None) if result is None else result
    if outcome is not None and outcome >= Outcome.COMPARE_FAILED:
        return False
    if operation == Operation.MULTI:
        results = [None] * len(argument[0]) if answer is None else zip(*answer, strict=True)
        return any(
            _may_leave(part, result, key, value)
            for part, result in zip(parts_of(command), results, strict=True)
        )
    if operation == Operation.CLEAR:
        return value is None and key.startswith(own)
    if own != key or operation in (Operation.READ, Operation.EXISTS):
        return False
    if operation == Operation.CAS:
        return bool(value == argument[1])
    if operation == Operation.DELETE or value is None:
        return operation == Operation.DELETE and value is None
    if operation == Operation.APPEND:
        return value.endswith(argument) and answer in (None, len(value))
    if operation == Operation.INCREMENT:
        return value.lstrip(b"-").isdigit() and answer in (None, int(value))
    return bool(value == argument)


class Needs:
    """Which of some commands need which values, and which can bring them; commands are told by their index."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._needing: defaultdict[Need, list[int]] = defaultdict(list)
        for index, call in enumerate(calls):
            if call.result is not None:
                for need in found(call.command, call.result):
                    self._needing[need].append(index)
        self._bringing: dict[Need, list[int]] = {}
        self._brought_by: defaultdict[int, list[Need]] = defaultdict(list)
        sources = _Sources(calls)
        for need in self._needing:
            self._bringing[need] = sources.of(need)
            for index in self._bringing[need]:
                self._brought_by[index].append(need)

    def met(self, ran: int, changed: Iterable[Need], state: Mapping[bytes, Value], open_: Open) -> bool:
        """Whether everything needed can still come, after command `ran` in `state`.

        `changed` are the values that it took away; `open_` tells which commands have not run.
        """
        missed = [need for need in self._brought_by.get(ran, ()) if state.get(need[0]) != need[1]]
        return all(self._may_miss(need, open_) for need in (*changed, *missed))

    def _may_miss(self, need: Need, open_: Open) -> bool:
        """Whether a value that is not there is needed no more, or somebody can bring it."""
        return not any(map(open_, self._needing.get(need, ()))) or any(map(open_, self._bringing[need]))


class _Sources:
    """Who may have left which value, by what their commands and answers say."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._certain: defaultdict[Need, list[int]] = defaultdict(list)
        self._possible: defaultdict[bytes, list[int]] = defaultdict(list)
        self._clearing: list[int] = []
        for index, call in enumerate(calls):
            operation, key, argument = call.command
            if operation in (Operation.WRITE, Operation.WRITEREAD):
                self._certain[key, argument].append(index)
            elif operation == Operation.CAS:
                self._certain[key, argument[1]].append(index)
            elif operation == Operation.INCREMENT and call.result is not None and call.result[1] is not None:
                self._certain[key, b"%d" % call.result[1]].append(index)
            elif operation == Operation.CLEAR:
                self._clearing.append(index)
            elif operation != Operation.READ:
                for touched_key in touched([call.command]).writes:
                    self._possible[touched_key].append(index)

    def of(self, need: Need) -> list[int]:
        """The commands that may have left a value under a key."""
        key, value = need
        return [
            index
            for index in (*self._certain.get(need, ()), *self._possible.get(key, ()), *self._clearing)
            if _may_leave(self._calls[index].command, self._calls[index].result, key, value)
        ]
