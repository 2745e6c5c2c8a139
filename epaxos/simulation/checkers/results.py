"""Results: every command does once what the table of operations says, and nothing runs that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence

from epaxos.protocol.contract import Component
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Asked, Contents
from epaxos.simulation.checkers.reference import Result, State, execute
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.sessions import BatchResult

_GONE: Result = (int(Outcome.DONE), None)
"""What a replica answers for a command whose result it has dropped, since the client had been answered."""


class Results(Observer):
    """Executes everything on the plain store too, once, in the order of first executions, and compares.

    `witness` lists the commands in that order, `state` is what they left. That one store can stand for all
    replicas follows from the order of conflicting commands being the same everywhere, which `order` checks first.
    """

    def __init__(self, contents: Contents, longest_value: int) -> None:
        self.state: State = {}
        self.witness: list[Asked] = []
        self.results: dict[tuple[int, int], Result] = {}
        self.calls: dict[tuple[int, int], Call] = {}
        self._contents = contents
        self._longest = longest_value
        self._expected: dict[InstanceId, Sequence[BatchResult]] = {}
        self._executed: set[InstanceId] = set()

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        self.calls[call.client, call.number] = call

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        expected = self.results.get((call.client, call.number))
        if expected is None:
            text = (
                f"replica {row} answers command {call.number} of client {call.client} before any executes it"
            )
            raise ViolationError("no early answer", text, calls=((call.client, call.number),))
        if call.result != expected:
            text = (
                f"replica {row} answers {call.result} to command {call.number} of client {call.client}, "
                f"which came to {expected}"
            )
            raise ViolationError("results", text, calls=((call.client, call.number),))

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        for decided, batches in zip(component, results, strict=True):
            if decided.value is NOP:
                continue
            if decided.id not in self._executed:
                self._executed.add(decided.id)
                for asked in self._contents.of(decided.value).commands:
                    self._execute(decided.id, asked)
            if batches != self._expected.get(decided.id):
                self._compare(row, decided.id, batches)

    def _execute(self, place: InstanceId, asked: Asked) -> None:
        """Execute a command unless it has been, by an earlier instance or within this one."""
        name = (asked.client, asked.number)
        call = self.calls.get(name)
        if call is None or call.command != asked.command:
            text = (
                f"{place} holds command {asked.number} of client {asked.client}, {asked.command}: never asked"
            )
            raise ViolationError("no invention", text, (place,))
        if name not in self.results:
            outcome, value = execute(self.state, asked.command, self._longest)
            self.results[name] = (int(outcome), value)
            self.witness.append(asked)

    def _compare(self, row: Row, place: InstanceId, batches: Sequence[BatchResult]) -> None:
        """Compare a replica's results one by one; keep them for those that execute the same later."""
        gone = False
        for batch in batches:
            values = batch.values or [None] * len(batch.outcomes)
            for number, found in enumerate(zip(batch.outcomes, values, strict=True), batch.first):
                expected = self.results[batch.client, number]
                if found == expected:
                    continue
                if found != _GONE or self.calls[batch.client, number].answered is None:
                    text = (
                        f"replica {row} executes {place} and gets {found} for command {number} of client "
                        f"{batch.client}, which came to {expected}"
                    )
                    raise ViolationError("exactly once", text, (place,), ((batch.client, number),))
                gone = True
        if not gone:
            self._expected[place] = batches
