"""Results: every command does once what the table of operations says, and nothing runs that nobody asked for.

What only reads may execute again, in every instance that holds it, and may then tell something else. A replica that has
adopted what a read executed in reads what it holds itself: what stood at that moment, or at a later one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from epaxos.protocol.contract import Component
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Asked, Contents
from epaxos.simulation.checkers.reference import (
    ANY,
    ENDS,
    EVERYTHING,
    Result,
    State,
    execute,
    execute_within,
    only_reads,
    room_of,
    touched,
)
from epaxos.simulation.checkers.transactions import Transactions
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.checkers.watching import Watching, changes_of
from epaxos.simulation.world.observer import Observer
from epaxos.statemachine.batch import SERVICE
from epaxos.statemachine.operations import READERS_OF_ALL, Outcome
from epaxos.statemachine.results import BatchResult

_FORGOTTEN: Result = (int(Outcome.FORGOTTEN), None)
_UNTOLD: Result = (int(Outcome.UNTOLD), None)
_LEFT_OUT: Result = (int(Outcome.DONE), None)
"""What a list comes to where nobody waits for it."""
_EXPIRED: Result = (int(Outcome.EXPIRED), None)


_Place: TypeAlias = tuple[int, InstanceId]
"""An instance with its epoch."""


@dataclass(slots=True)
class _Seen:
    """A session: which request numbers have executed, and the generation in which it last executed something."""

    numbers: set[int]
    last: int = 0


class Results(Observer):
    """Executes everything on the plain store too, once, in the order of first executions, and compares.

    `state` is what that left. With `tight` replicas keep so few results that they may have let one go before its
    client was told. No value ends before its time, of which replicas' clocks run `fastest` times as fast as that of
    the clients, `now`. That one store can stand for all
    replicas follows from the order of conflicting commands being the same everywhere, which `order` checks first.
    """

    def __init__(
        self, contents: Contents, longest_value: int, window: int, fastest: float = 1.0, *, tight: bool
    ) -> None:
        self.state: State = {}
        self.transactions = Transactions(longest_value, self._claim)
        self.watching = Watching()
        self.results: dict[tuple[int, int], Result] = {}
        self._witness: list[tuple[Asked, Result]] = []
        self._reads: defaultdict[tuple[int, int], list[Result]] = defaultdict(list)
        self._later: defaultdict[tuple[int, int], list[Result]] = defaultdict(list)
        self._reading: dict[tuple[int, int], tuple[Asked, int, frozenset[bytes]]] = {}
        self._recalled: set[tuple[int, int]] = set()
        self._told: dict[_Place, list[list[Result]]] = {}
        self._tight = tight
        self._fastest = fastest
        self.now: Callable[[], float] = lambda: inf
        self.calls: dict[tuple[int, int], Call] = {}
        self._contents = contents
        self._longest = longest_value
        self._expected: dict[_Place, Sequence[BatchResult]] = {}
        self._executed: set[_Place] = set()
        self._window = window
        self._generation = 0
        self._sessions: dict[int, _Seen] = {}

    @property
    def executed_numbers(self) -> list[tuple[int, int]]:
        """The commands, as (client, request number), of the sessions that have not ended."""
        return [(client, number) for client, seen in self._sessions.items() for number in seen.numbers]

    @property
    def witness(self) -> Iterator[Asked]:
        """The commands in the order of their execution; of one that only reads, that which its client was told of."""
        seen = set()
        for asked, result in self._witness:
            name = (asked.client, asked.number)
            if only_reads(asked.command):
                if self.calls[name].looked or name in seen or self.calls[name].result != result:
                    continue
                seen.add(name)
            yield asked

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        self.calls[call.client, call.number] = call

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        name = (call.client, call.number)
        self._reading.pop(name, None)
        later = self._later.pop(name, [])
        if call.looked:
            return  # `reads` sees to it
        expected = self.results.get(name)
        if expected is None:
            text = (
                f"replica {row} answers command {call.number} of client {call.client} before any executes it"
            )
            raise ViolationError("no early answer", text, calls=((call.client, call.number),))
        if (
            call.result != expected
            and call.result not in self._reads[name]
            and not (name in self._recalled and call.result in later)
        ):
            text = (
                f"replica {row} answers {call.result} to command {call.number} of client {call.client}, "
                f"which came to {expected}"
            )
            raise ViolationError("results", text, calls=((call.client, call.number),))

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`: the store goes on from epoch to epoch."""
        return _LaterResults(self, configuration.epoch) if configuration.epoch else self

    def recalled(self, row: Row, results: Sequence[BatchResult]) -> None:
        """See `Observer`."""
        del row
        for result in results:
            self._recalled.update((result.client, number) for number in range(result.first, result.end))

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        self.execute(row, component, results, 0)

    def executed_too(
        self, host: Row, epoch: int, component: Component, results: Sequence[Sequence[BatchResult]]
    ) -> None:
        """See `Observer`."""
        self.execute(host, component, results, epoch)

    def execute(
        self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]], epoch: int
    ) -> None:
        """A replica has executed a component of an epoch."""
        for decided, batches in zip(component, results, strict=True):
            if decided.value is NOP:
                continue
            name = (epoch, decided.id)
            if name not in self._executed:
                self._executed.add(name)
                content = self._contents.of(decided.value)
                if content.base is not None:
                    self._collect(content.generation)
                self._told[name] = [
                    self._execute_batch(name, batch, content.room)
                    for batch in content.batches
                    if not self._is_own(name, batch)
                ]
            if batches != self._expected.get(name):
                self._compare(row, name, batches)

    def _is_own(self, name: _Place, batch: Sequence[Asked]) -> bool:
        """Execute what a replica proposed by itself, that values have ended, if it is that."""
        if batch[0].client != SERVICE:
            return False
        place = name[1]
        for asked in batch:
            client, number, _ = asked.command.argument
            ends = self.state.get(ENDS + asked.command.key, b"")
            before = dict(self.state)
            result = execute(self.state, asked.command, self._longest)
            self._note_changes(name, before, asked, result)
            self._read_again(asked)
            if ENDS + asked.command.key in self.state or not ends:
                continue
            ttl, lasted = int(ends.split()[0]) / 1000, self.now() - self.calls[client, number].invoked
            if lasted < ttl / self._fastest:
                text = f"{place} ends after {lasted} s what command {number} of client {client} gave {ttl} s"
                raise ViolationError("too early", text, (place,), ((client, number),))
        return True

    def _note_changes(self, name: _Place, before: State, asked: Asked, result: Result) -> None:
        """What a command did to the state, for those who watch."""
        by = asked.client, asked.number
        for key, value in changes_of(before, self.state, asked.command, result, self._longest, by):
            self.watching.changed(*name, key, value)

    def _execute_batch(self, instance: _Place, batch: Sequence[Asked], room: int) -> list[Result]:
        """Execute what only reads, and what has not been executed by an earlier instance or within this one."""
        told = []
        place = instance[1]
        left = room
        admitted = self._admit(batch[0].client, batch[0].generation) is not None
        for asked in batch:
            name = (asked.client, asked.number)
            call = self.calls.get(name)
            if call is None or call.command != asked.command:
                text = f"{place} holds command {asked.number} of client {asked.client}, {asked.command}: never asked"
                raise ViolationError("no invention", text, (place,))
            if not admitted:
                told.append(_EXPIRED)
                continue
            reads = only_reads(asked.command)
            result = self.results.get(name)
            if result is not None and not reads and asked.number not in self._sessions[asked.client].numbers:
                text = f"{place} executes command {asked.number} of client {asked.client} again: its session was lost"
                raise ViolationError("exactly once", text, (place,), (name,))
            self._sessions[asked.client].numbers.add(asked.number)
            if result is None or reads:
                most = room if reads else left
                before = {} if reads else dict(self.state)
                resolved = self.transactions.resolved(asked.command)
                result = self.transactions.execute(self.state, asked.command, most)
                if result is not None:
                    left -= self.transactions.taken(asked.command, result[1])
                else:
                    result = execute_within(self.state, asked.command, self._longest, most, name)
                    left -= 0 if reads else room_of(asked.command, result[1])
                if not reads:
                    changing = asked if resolved is None else asked._replace(command=resolved)
                    self._note_changes(instance, before, changing, result)
                self.results[name] = result
                self._witness.append((asked, result))
                if reads:
                    self._reads[name].append(result)
                    self._reading[name] = asked, room, touched([asked.command]).reads
                elif self._reading:
                    self._read_again(asked)
            told.append(result)
        return told

    def _read_again(self, written: Asked) -> None:
        """What those would tell who adopt this moment, of the reads that have executed and are not answered."""
        keys = touched([written.command]).writes
        for name, (asked, room, reads) in list(self._reading.items()):
            if self.calls[name].is_left:
                del self._reading[name]
            elif EVERYTHING in keys or _concerns(reads, keys):
                result = self.transactions.execute(self.state, asked.command, room)
                if result is None:
                    result = execute_within(self.state, asked.command, self._longest, room, name)
                self._later[name].append(result)
                self._witness.append((asked, result))

    def _admit(self, client: int, generation: int) -> _Seen | None:
        """The session of a batch that may execute: it is there, or began so lately that none of that name has ended."""
        seen = self._sessions.get(client)
        if seen is None:
            if not self._generation - self._window <= generation <= self._generation:
                return None
            seen = self._sessions[client] = _Seen(set())
        seen.last = self._generation
        return seen

    def _claim(self, coordinator: int, number: int, generation: int) -> bool | None:
        """See `transactions.Claim`."""
        seen = self._admit(coordinator, generation)
        if seen is None or number in seen.numbers:
            return None if seen is None else False
        seen.numbers.add(number)
        return True

    def _collect(self, generation: int) -> None:
        """Drop the sessions that have been idle for longer than the window."""
        if generation == self._generation:
            self._generation += 1
            oldest = self._generation - self._window
            self._sessions = {client: seen for client, seen in self._sessions.items() if seen.last >= oldest}

    def _compare(self, row: Row, name: _Place, batches: Sequence[BatchResult]) -> None:
        """Compare a replica's results one by one; keep them for those that execute the same later."""
        gone = False
        place = name[1]
        for batch, told in zip(batches, self._told[name], strict=True):
            values = batch.values or [None] * len(batch.outcomes)
            answers = zip(batch.outcomes, values, told, strict=True)
            for number, (outcome, value, expected) in enumerate(answers, batch.first):
                found = (outcome, value)
                if found == expected:
                    continue
                call = self.calls[batch.client, number]
                if not self._may_be_missing(found, call):
                    text = (
                        f"replica {row} executes {place} and gets {found} for command {number} of client "
                        f"{batch.client}, which came to {expected}"
                    )
                    raise ViolationError("exactly once", text, (place,), ((batch.client, number),))
                gone = True
        if not gone:
            self._expected[name] = batches

    def _may_be_missing(self, found: Result, call: Call) -> bool:
        """Whether a replica may say that it does not know the result, or not now."""
        if only_reads(call.command):
            return found == _UNTOLD or (call.command.operation in READERS_OF_ALL and found == _LEFT_OUT)
        return found == _FORGOTTEN and (self._tight or call.is_left or call.answered is not None)


def _concerns(reads: frozenset[bytes], writes: frozenset[bytes]) -> bool:
    """Whether what writes some keys may change what a reader tells."""
    return bool(writes) and (ANY in reads or not writes.isdisjoint(reads))


class _LaterResults(Observer):
    """What executes in a later epoch than the first one."""

    def __init__(self, results: Results, epoch: int) -> None:
        self._results = results
        self._epoch = epoch

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        self._results.execute(row, component, results, self._epoch)
