"""What commands of transactions across groups do at one group, once more in the plainest way.

A group is all that one cluster sees: nobody here decides anything, and clients send PREPARE, VOTE, RESOLVE and FORGET
of a few transactions in any order. What several groups make of it is checked where there are several
(`simulation.groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from epaxos.simulation.checkers.reference import (
    Command,
    Result,
    State,
    execute_within,
    looked_at,
    only_reads,
    parts_of,
    size_of,
)
from epaxos.statemachine.operations import OF_TRANSACTIONS, ON_ALL, Operation, Outcome

Told: TypeAlias = Callable[[bytes, "bool | None", Any], None]
"""Is told of a transaction that it is prepared here (None), or whether it is committed; by its key and groups."""

Claim: TypeAlias = Callable[[int, int, int], "bool | None"]
"""Takes a number of a coordinator that began in a generation: False if it was taken, None if the session has ended."""


@dataclass(slots=True)
class _Record:
    groups: Any
    keys: list[bytes]
    columns: Any
    committed: bool | None = None


class Transactions:
    """The records of a group by their keys; a key is locked where one of them names it, and is not resolved.

    `told` is told what becomes of each.
    """

    def __init__(self, longest: int, claim: Claim) -> None:
        self.told: Told = lambda *_: None
        self.records: dict[bytes, _Record] = {}
        self._longest = longest
        self._claim = claim

    def execute(self, state: State, command: Command, room: int) -> Result | None:
        """Execute a command of a transaction, or one that meets a lock; None if it is neither."""
        operation, key, argument = command
        if operation not in OF_TRANSACTIONS:
            parts = parts_of(command) if operation == Operation.MULTI else [command]
            if operation in ON_ALL:
                held = self.held(sorted(looked_at(state, self._locked(), command, room))[:1])
            else:
                held = self.held(part.key for part in parts)
            if held is None or only_reads(command) or size_of(held) <= room:
                return None if held is None else (int(Outcome.LOCKED), held)
            return int(Outcome.TOO_LARGE), None
        record = self.records.get(key)
        if operation == Operation.PREPARE:
            return self._prepare(state, command, room)
        if operation == Operation.VOTE:
            return self._vote(key, argument, record, room)
        if record is not None and operation == Operation.RESOLVE and record.committed is None:
            self._resolve(state, key, record, *argument)
        elif record is not None and operation == Operation.FORGET:
            self._forget(key, record, argument)
        return int(Outcome.DONE), None

    def resolved(self, command: Command) -> Command | None:
        """What a RESOLVE is about to execute, as a MULTI; None if it is none, or executes nothing."""
        record = self.records.get(command.key)
        if command.operation != Operation.RESOLVE or record is None or record.committed is not None:
            return None
        committed, keys = command.argument
        return Command(Operation.MULTI, b"", record.columns) if committed and keys == record.keys else None

    def taken(self, command: Command, value: Any) -> int:
        """How much room of a batch the result of such a command takes."""
        is_free = (
            value is None or only_reads(command) or (command.operation == Operation.VOTE and not value[0])
        )
        return 0 if is_free else size_of(value)

    def _locked(self) -> list[bytes]:
        return [key for record in self.records.values() if record.committed is None for key in record.keys]

    def held(self, keys: Iterable[bytes]) -> Any:
        """What is told of the first lock among some keys; None if there is none."""
        for key in keys:
            for name, record in self.records.items():
                if record.committed is None and key in record.keys:
                    return [name, record.groups]
        return None

    def _take(self, key: bytes, generation: int) -> bool | None:
        return self._claim(int.from_bytes(key[-16:-8], "big"), int.from_bytes(key[-8:], "big"), generation)

    def _prepare(self, state: State, command: Command, room: int) -> Result:
        _, key, (generation, groups, columns) = command
        if key in self.records:
            return int(Outcome.FORGOTTEN), None
        if not self._take(key, generation):
            return int(Outcome.ABORTED), None
        multi = Command(Operation.MULTI, b"", columns)
        keys = [part.key for part in parts_of(multi)]
        held = self.held(keys)
        if held is not None:
            fits = size_of(held) <= room
            return int(Outcome.LOCKED if fits else Outcome.ABORTED), held if fits else None
        result = execute_within(dict(state), multi, self._longest, room)
        if result[0] == Outcome.DONE:
            self.records[key] = _Record(groups, keys, columns)
            self.told(key, None, groups)
        return result

    def _vote(self, key: bytes, generation: int, record: _Record | None, room: int) -> Result:
        if record is not None:
            told = [True, record.committed, record.keys]
            return (int(Outcome.DONE), told) if size_of(told) <= room else (int(Outcome.TOO_LARGE), None)
        return int(Outcome.DONE), [False, None, []] if self._take(key, generation) else None

    def _forget(self, key: bytes, record: _Record, keys: list[bytes]) -> None:
        if record.committed is not None and keys == record.keys:
            del self.records[key]

    def _resolve(self, state: State, key: bytes, record: _Record, committed: bool, keys: list[bytes]) -> None:  # noqa: FBT001 - as it stands in the command
        if keys != record.keys:
            return
        self.told(key, committed, record.groups)
        record.committed = committed
        if committed:
            execute_within(state, Command(Operation.MULTI, b"", record.columns), self._longest, 2**62)
