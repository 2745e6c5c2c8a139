"""Whether every answer of a run was right: the history of the commands, checked key by key afterwards.

Linearizability is local: a history is right if the history of each key is. A key is a register, and the
workload makes its check cheap:

* Every written value is unique, so a read names the write it saw.
* Writes of a private key come from one client, never two at a time: their order is known.
* Writes of a shared key are WRITEREADs. Each names the write before it, so the order of all is a chain from
  the key's first value; a write that was lost, executed twice or seen by two successors breaks it.

With each read placed behind the write that it saw this gives one sequence, and the history is linearizable
exactly when the sequence agrees with real time: no command was answered before an earlier one in the
sequence was sent. One pass that keeps the latest time of sending finds every such pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from epaxos.bench.workload import Columns
from epaxos.inspection.wording import bytes_text
from epaxos.statemachine.operations import Operation, Outcome

SHOWN: Final = 10
"""How many findings are kept as text; the rest is only counted."""

Value: TypeAlias = "bytes | None"


class Command(NamedTuple):
    """One answered command on one key; times in nanoseconds of one clock."""

    client: int
    number: int
    operation: int
    written: Value
    seen: Value
    sent: int
    answered: int


class Answered(NamedTuple):
    """The commands of one answered frame: `seen` is None where no command returned a value."""

    client: int
    columns: Columns
    seen: Sequence[Value] | None
    sent: int
    answered: int


@dataclass(slots=True)
class Findings:
    """What the check found: how much it covered, and what was wrong."""

    commands: int = 0
    keys: int = 0
    skipped_keys: int = 0
    wrong: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, key: bytes, text: str) -> None:
        """Count one wrong answer."""
        self.wrong += 1
        if len(self.texts) < SHOWN:
            self.texts.append(f"key {bytes_text(key)}: {text}")


class History:
    """Everything that was asked and answered; some 200 bytes of memory a command."""

    def __init__(self) -> None:
        self._answered: list[Answered] = []
        self._uncertain: set[bytes] = set()

    def answered(self, frame: Answered) -> None:
        """Add the commands of an answered frame."""
        self._answered.append(frame)

    def unanswered(self, columns: Columns) -> None:
        """Note commands that may or may not have executed; the check leaves their keys out."""
        self._uncertain.update(columns.keys)

    def check(self) -> Findings:
        """Check every key on which all commands were answered."""
        findings = Findings()
        for key, commands in self._by_key().items():
            if key in self._uncertain:
                findings.skipped_keys += 1
                continue
            findings.keys += 1
            findings.commands += len(commands)
            _check_key(key, commands, findings)
        return findings

    def _by_key(self) -> dict[bytes, list[Command]]:
        histories: dict[bytes, list[Command]] = defaultdict(list)
        for client, (start, operations, keys, arguments, _), seen, sent, answered in self._answered:
            nothing = [None] * len(keys)
            rows = zip(operations, keys, arguments or nothing, seen or nothing, strict=True)
            for number, (operation, key, written, found) in enumerate(rows, start):
                histories[key].append(Command(client, number, operation, written, found, sent, answered))
        return histories


def wrong_outcomes(columns: Columns, outcomes: bytes, seen: Sequence[object] | None) -> int:
    """How many commands of an answered frame ended in a way that their operation cannot.

    Done, or not found for a read; a value of bytes where there is one to return, and None elsewhere.
    """
    if seen is None and outcomes.count(Outcome.DONE) == len(outcomes) == columns.operations.count(
        Operation.WRITE
    ):
        return 0  # nothing but writes that were done
    found = seen if seen is not None else [None] * len(outcomes)
    rows = zip(columns.operations, outcomes, found, strict=True)
    return sum(not _possible(*row) for row in rows)


def _possible(operation: int, outcome: int, seen: object) -> bool:
    if operation == Operation.READ:
        return outcome == (Outcome.NOT_FOUND if seen is None else Outcome.DONE) and _is_value(seen)
    if operation == Operation.WRITEREAD:
        return outcome == Outcome.DONE and _is_value(seen)
    return outcome == Outcome.DONE and seen is None


def _is_value(seen: object) -> bool:
    return seen is None or type(seen) is bytes


def _check_key(key: bytes, commands: list[Command], findings: Findings) -> None:
    writes = [command for command in commands if command.operation != Operation.READ]
    reads = [command for command in commands if command.operation == Operation.READ]
    written = {command.written for command in writes}
    first = _first_value(key, commands, written, findings)
    if any(write.operation == Operation.WRITEREAD for write in writes):
        writes = _chained(key, first, writes, findings)
    else:
        writes.sort(key=lambda write: write.number)
    _check_times(key, _sequence(first, writes, reads), findings)


def _first_value(key: bytes, commands: Iterable[Command], written: set[Value], findings: Findings) -> Value:
    """The value that the key had before the run: the one seen that nobody in the run wrote."""
    foreign = {
        command.seen
        for command in commands
        if command.operation != Operation.WRITE and command.seen not in written
    }
    for value in sorted(foreign, key=repr)[1:]:
        findings.add(key, f"{_value(value)} was returned, and nobody wrote it")
    return min(foreign, key=repr, default=None)


def _chained(key: bytes, first: Value, writes: list[Command], findings: Findings) -> list[Command]:
    """The writes in the order in which each saw the one before it, beginning with who saw `first`."""
    successors: dict[Value, Command] = {}
    for write in writes:
        other = successors.setdefault(write.seen, write)
        if other is not write:
            names = f"{_name(other)} and {_name(write)}"
            findings.add(key, f"{_value(write.seen)} was overwritten twice: by {names}")
    chain = []
    value = first
    while (successor := successors.pop(value, None)) is not None:
        chain.append(successor)
        value = successor.written
    for write in successors.values():
        findings.add(key, f"{_name(write)} is not in the chain of writes: it saw {_value(write.seen)}")
    return chain


def _sequence(first: Value, writes: Iterable[Command], reads: Iterable[Command]) -> Iterator[Command]:
    """The only order that explains what was seen: each write, then the reads that saw it."""
    readers: dict[Value, list[Command]] = defaultdict(list)
    for read in sorted(reads, key=lambda read: read.sent):
        readers[read.seen].append(read)
    yield from readers.pop(first, ())
    for write in writes:
        yield write
        yield from readers.pop(write.written, ())


def _check_times(key: bytes, sequence: Iterable[Command], findings: Findings) -> None:
    latest: Command | None = None
    for command in sequence:
        if latest is not None and command.answered < latest.sent:
            names = f"{_name(command)} was answered before {_name(latest)} was sent"
            findings.add(key, f"{names}, yet comes after it")
        if latest is None or command.sent > latest.sent:
            latest = command


def _value(value: Value) -> str:
    return "no value" if value is None else f"value {bytes_text(value)}"


def _name(command: Command) -> str:
    return f"{Operation(command.operation).name} {command.number} of client {command.client}"
