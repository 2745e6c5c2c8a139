"""Where commands execute: decided instances in, answers to the clients that wait for them here out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import ceil
from operator import sub

from epaxos.actors.answers import StatusRequest
from epaxos.actors.assembly import Parts
from epaxos.actors.clients import Clients
from epaxos.doors.gate import Gate
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Component
from epaxos.protocol.log import NOP
from epaxos.statemachine.batch import Payload


class Execution:
    """The state machine of a replica, its `clients`, and those of the doors of its process behind `gate`."""

    def __init__(self, parts: Parts, clients: Clients, gate: Gate) -> None:
        self._parts = parts
        self._stats = parts.stats
        self._clients = clients
        self._answers = clients.answers
        self._gate = gate
        self._merges = 0
        # One list, written where commands execute and read where metrics are scraped.
        self._stats.executed = parts.machine.executed

    def begin_anew(self) -> None:
        """There is another machine, whose counts begin anew."""
        self._merges = -1
        self._stats.executed = self._parts.machine.executed

    def take_local(self, now: float, merging: Callable[[], bool]) -> list[StatusRequest]:
        """Take what the doors of this process hand over; their questions for the status are handed back.

        While `merging` the state is between two moments, and nothing may be read of it.
        """
        machine = self._parts.machine
        self._clients.reads.generation = machine.generation
        if not self._gate.clients:
            self._merges = machine.merges  # a door that opens later has missed nothing
            return []
        if self._merges != machine.merges:
            self._merges = machine.merges
            for client in self._gate.listening:
                client.miss()
        self._clients.take_local(machine.generation, None if merging() else machine.get, now)
        return self._clients.local_questions()

    def execute(self, executions: Iterable[Component]) -> None:
        """Execute components in order and answer the clients that wait for them here."""
        machine, singles = self._parts.machine, 0
        executed = self._parts.watchers.history.executed
        for component in executions:
            for decided in component:
                if decided.value is not NOP:
                    assert isinstance(decided.value, Payload)
                    ending = self._gate.ending(decided.value, machine.get)
                    lists = self._answers.await_list(decided.value)
                    for run in machine.runs(decided.value, lists=lists):
                        self._answers.answer(decided.value, run)
                    if ending:
                        self._gate.tell_ended([key for key in ending if machine.get(key) is None])
                    decided.value.let_go()
                executed(decided.id)
            if len(component) == 1:
                singles += 1
            else:
                self._stats.component_size.observe(len(component), 1)
        self._stats.component_size.observe(1, singles)
        self._answers.flush(time.monotonic())

    def read(self, reads: Sequence[int], unread: Sequence[int], now: float) -> None:
        """Answer reads for which enough has executed by now, and propose those that come to nothing."""
        if reads:
            self._clients.read(reads, self._parts.machine.look, time.monotonic())
        if unread:
            self._clients.into_log(self._clients.reads.take(unread), now)

    def read_here(self, now: float, *, readable: bool) -> None:
        """Answer what is to be read as things stand here; without `readable` they are of no one moment.

        Locks are not met: one may be here long after its transaction has ended elsewhere, and nobody could end it.
        """
        look = partial(self._parts.machine.look, locks=False) if readable else None
        self._clients.read_here(look, self._behind, self._age, now)

    def _behind(self) -> int | None:
        """How many instances this replica has heard of and not executed; None if it hears no quorum."""
        status = self._parts.core.status()
        return sum(map(sub, status.seen, status.executed)) if self._stats.has_quorum else None

    def _age(self) -> int | None:
        """How many milliseconds ago all that anybody had been answered has executed here; None if that is not known."""
        as_of = self._parts.as_of
        return None if as_of is None else ceil(1000 * (time.monotonic() - as_of))

    def begin_epoch(self, now: float) -> None:
        """What the last epoch was asked to read goes on as commands."""
        self._clients.into_log(self._clients.reads.take(), now)

    def settle(self, overtaken: Sequence[Command]) -> None:
        """Answer what has executed in what was adopted; the rest is proposed again (protocol 4.10)."""
        for results in self._parts.eras.settle(overtaken, self._parts.machine.recall):
            self._answers.tell(results)
        self._answers.flush(time.monotonic())
