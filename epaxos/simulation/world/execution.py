"""What clients get of a simulated replica: results of what executes, and reads of what stands there.

As `actors.execution` and `actors.questions` have it, without frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Component
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Row
from epaxos.protocol.log import NOP
from epaxos.simulation.world.era import Era
from epaxos.simulation.world.frontdoor import Answer, Frontdoor, Looked
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.readings import Readings, Waiting
from epaxos.statemachine.batch import Batch, Payload
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult
from epaxos.watching.watchers import Watchers


class Execution:
    """Of the replica in place `row` of the run, in one life; `step` comes before each answer, and may end that life."""

    machine: StateMachine

    def __init__(
        self,
        row: Row,
        observer: Observer,
        frontdoor: Frontdoor,
        readings: Readings,
        watchers: Watchers,
        step: Callable[[], None],
    ) -> None:
        self._row = row
        self._observer = observer
        self._frontdoor = frontdoor
        self._readings = readings
        self._watchers = watchers
        self._step = step

    # -- what executes -------------------------------------------------------------------------------------

    def execute(self, era: Era, component: Component) -> None:
        """Execute a component of an epoch, and answer who waits for it here."""
        results: list[list[BatchResult]] = []
        for decided in component:
            if decided.value is NOP:
                results.append([])
            else:
                assert isinstance(decided.value, Payload)
                results.append(self._results_of(decided.value))
                if (
                    not self._row
                ):  # as all of the service do; one is enough to see that bytes made anew will do
                    decided.value.let_go()
            self._watchers.history.executed(decided.id)
        if era.row is not None:
            era.observer.executed(era.row, component, results)
        else:
            self._observer.noted("observer follows")
            self._observer.executed_too(self._row, era.epoch, component, results)
        for batches in results:
            for result in batches:
                self._answer(result)

    def _results_of(self, payload: Payload) -> list[BatchResult]:
        lists = self._frontdoor.awaits(payload)
        order = self.machine.order
        found = (run.results(payload) for run in self.machine.runs(payload, lists=lists))
        results = [result for run in found for result in run]
        if payload.reads_all and payload.base is None:
            told = "in order" if not order.unfinished else "by a walk"
            self._observer.noted(f"keys found {told}" if lists or payload.writes_all else "list left out")
        return results

    def _answer(self, result: BatchResult) -> None:
        answer = self._frontdoor.take_answer(result)
        if answer is not None:
            self._step()
            answer(result, self._row)

    def settle(self, eras: Eras[Era], overtaken: Iterable[Command]) -> None:
        """Answer what has executed in what was adopted; the rest is proposed again, as the Replica actor does."""
        for results in eras.settle(overtaken, self.machine.recall):
            self._observer.noted("answered from what was adopted")
            self._observer.recalled(self._row, results)
            for result in results:
                self._answer(result)

    def put_in_order(self) -> None:
        """Make the order in which lists are found, as slowly as it goes: no two replicas are as far."""
        if self.machine.order.unfinished:
            self.machine.order.step()

    # -- what is read of what stands here ------------------------------------------------------------------

    def request(self, batch: Batch, answer: Answer, reading: Reading | None) -> None:
        """Take a frame of a client, which `answer` answers; with a `reading`, of reads that are none of the log."""
        if reading is None:
            self._frontdoor.request(batch, answer)
        else:
            self._readings.request(Waiting(batch, reading, answer))

    def read_here(self, age: float | None, *, votes: bool, steady: bool) -> None:
        """Answer what is read as things stand here: where that is `steady`, and, without a vote, its age is known."""
        local = self._readings.take_local(votes=votes)
        if steady and (votes or age is not None):
            self.look(local, age, votes=votes)
        else:
            self.read_in_log(local, votes=votes)

    def look(self, frames: Iterable[Waiting], age: float | None, *, votes: bool) -> None:
        """Answer frames with what stands here."""
        for waiting in frames:
            batch = waiting.batch
            result = self.machine.look(batch, locks=waiting.reading is Reading.QUORUM)
            self._observer.noted(f"read: {waiting.reading.name.lower()}")
            if votes:
                self._observer.looked(self._row, waiting.reading, batch.operations, batch.keys, result)
            else:
                assert age is not None
                self._observer.observed(self._row, age, batch.operations, batch.keys, result)
            self._step()
            waiting.answer(Looked(result), self._row)

    def read_in_log(self, frames: Iterable[Waiting], *, votes: bool) -> None:
        """Have frames read as commands, or elsewhere by who has no vote."""
        for batch, _, answer in frames:
            if not votes:
                answer(None, self._row)
                continue
            self._observer.noted("read: by the log after all")
            self._frontdoor.request(batch, answer)
