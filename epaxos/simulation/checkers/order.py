"""Execution order: dependencies first, once each, and conflicting commands in one order everywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epaxos.protocol.contract import Component, Decided, Over
from epaxos.protocol.ids import InstanceId, Row, Slot, Vector, covers
from epaxos.protocol.log import NOP, Instance
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.checkers.decisions import Decisions
from epaxos.simulation.checkers.reference import EVERYTHING
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer
from epaxos.statemachine.results import BatchResult
from epaxos.storage.journal import rows_of


class _Progress:
    """What one replica has executed since it started.

    `frontier[r]` is the slot up to which row r has executed, `above` what has executed beyond. `writes` counts
    by key the executed instances that write it, by ANY those that write some.
    """

    def __init__(self, n: int) -> None:
        self.frontier: list[Slot] = [-1] * n
        self.above: set[InstanceId] = set()
        self.writes: defaultdict[bytes, int] = defaultdict(int)

    def has(self, place: InstanceId) -> bool:
        return place.slot <= self.frontier[place.row] or place in self.above

    def add(self, place: InstanceId) -> None:
        self.above.add(place)
        self._advance(place.row)

    def add_all(self, executed: Vector, above: Iterable[InstanceId]) -> None:
        self.frontier[:] = map(max, self.frontier, executed)
        self.above.update(above)
        self.above = {place for place in self.above if place.slot > self.frontier[place.row]}
        for row in range(len(self.frontier)):
            self._advance(row)

    def _advance(self, row: Row) -> None:
        slot = self.frontier[row] + 1
        while (row, slot) in self.above:
            self.above.remove(InstanceId(row, slot))
            slot += 1
        self.frontier[row] = slot - 1


class ExecutionOrder(Observer):
    """Compares the orders in which replicas execute.

    The order of conflicting commands is told by numbers: how many writers of each of its keys ran before an
    instance. They are noted when it first executes anywhere, and must then be the number of all writers of
    the key so far: otherwise somebody ran one of them ahead of this one.
    """

    def __init__(self, n: int, contents: Contents, decisions: Decisions) -> None:
        self._decisions = decisions
        self.order: list[InstanceId] = []
        self._n = n
        self._contents = contents
        self._progress: dict[Row, _Progress] = {}
        self._writes: defaultdict[bytes, int] = defaultdict(int)
        self._noted: dict[InstanceId, tuple[int, ...]] = {}
        self._written: dict[InstanceId, Sequence[bytes]] = {}
        self._lost: set[InstanceId] = set()
        self.later: dict[int, ExecutionOrder] = {}
        """Those of the epochs after the first one, there."""

    def writers(self, key: bytes) -> int:
        """How many writers of a key have executed somewhere; those of everything are counted too."""
        return self._writes.get(key, 0) + self._writes.get(EVERYTHING, 0)

    def writers_at(self, row: Row, key: bytes) -> int:
        """How many have at a replica."""
        writes = self._progress[row].writes
        return writes.get(key, 0) + writes.get(EVERYTHING, 0)

    def of_epoch(self, configuration: Configuration) -> ExecutionOrder:
        """See `Observer`: all that executes in one epoch executes before anything of the next one."""
        if not configuration.epoch:
            return self
        order = ExecutionOrder(
            rows_of(configuration), self._contents, self._decisions.of_epoch(configuration)
        )
        self.later[configuration.epoch] = order
        return order

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        del records
        self._progress[row] = _Progress(self._n)
        self.adopted(row, executed, above)

    def adopted(self, row: Row, executed: Vector, above: Sequence[InstanceId]) -> None:
        """See `Observer`."""
        progress = self._progress[row]
        progress.add_all(executed, above)
        # What has executed in a checkpoint counts as if it had executed here, in the order that all have in common.
        progress.writes.clear()
        for place in self.order:
            if progress.has(place):
                for key in self._written[place]:
                    progress.writes[key] += 1

    def ended(self, row: Row, over: Over, digest: str) -> None:
        """See `Observer`: exactly what is in the cut has executed, but for no-ops (protocol 6.4)."""
        del digest
        progress = self._progress[row]
        missing = [
            InstanceId(column, slot)
            for column, highest in enumerate(over.cut)
            for slot in range(progress.frontier[column] + 1, highest + 1)
            if not progress.has(place := InstanceId(column, slot)) and place not in self._lost
        ]
        void = [place for place in self.order if progress.has(place) and not covers(over.cut, place)]
        if missing or void:
            text = f"replica {row} ends at {over.cut}; not executed are {missing}, but {void} are"
            raise ViolationError("cut", text, (*missing, *void))

    def executed(self, row: Row, component: Component, results: Sequence[Any]) -> None:
        """See `Observer`."""
        del results
        progress = self._progress[row]
        members = {decided.id for decided in component}
        last = component[-1]
        if last.value is not NOP and last.value.ends:
            members |= self._note_lost(progress, component, members)
        for decided in component:
            self._check_dependencies(row, progress, decided, members)
            progress.add(decided.id)
            if decided.value is not NOP:
                self._check_position(row, progress, decided)

    def _note_lost(
        self, progress: _Progress, component: Component, members: set[InstanceId]
    ) -> set[InstanceId]:
        """What the end of an epoch waits for and never executes: the other barriers of its component."""
        lost: set[InstanceId] = set()
        looked = list(component)
        while looked:
            for column, highest in enumerate(looked.pop().deps):
                for slot in range(progress.frontier[column] + 1, highest + 1):
                    place = InstanceId(column, slot)
                    if place in lost or place in members or progress.has(place):
                        continue
                    decided = self._decisions.decided.get(place)
                    if decided is not None and decided.value is not NOP and decided.value.ends:
                        lost.add(place)
                        looked.append(decided)
        self._lost |= lost
        return lost

    def _check_dependencies(
        self, row: Row, progress: _Progress, decided: Decided, members: set[InstanceId]
    ) -> None:
        if decided.id in self._lost:
            raise ViolationError("cut", f"replica {row} executes {decided.id}, which lost", (decided.id,))
        if progress.has(decided.id):
            raise ViolationError("once", f"replica {row} executes {decided.id} again", (decided.id,))
        for column, highest in enumerate(decided.deps):
            for slot in range(progress.frontier[column] + 1, highest + 1):
                place = InstanceId(column, slot)
                if place not in progress.above and place not in members:
                    text = f"replica {row} executes {decided.id} before {place}, on which it depends"
                    raise ViolationError("dependencies first", text, (decided.id, place))

    def _check_position(self, row: Row, progress: _Progress, decided: Decided) -> None:
        content = self._contents.of(decided.value)  # type: ignore[arg-type]  # a no-op has none
        keys = (*content.reads, *content.writes)
        position = tuple(progress.writes[key] for key in keys)
        noted = self.note(decided.id, content)
        if position != noted:
            differing = next(key for key, *two in zip(keys, position, noted, strict=True) if two[0] != two[1])
            text = (
                f"replica {row} executes {decided.id} after {progress.writes[differing]} writers of "
                f"{differing!r}, others after {noted[keys.index(differing)]}"
            )
            raise ViolationError("execution order", text, (decided.id,))
        for key in content.brought:
            progress.writes[key] += 1

    def note(self, place: InstanceId, content: Content) -> tuple[int, ...]:
        """How many writers of each of its keys ran before an instance; noted if it executes for the first time."""
        noted = self._noted.get(place)
        if noted is None:
            noted = tuple(self._writes[key] for key in (*content.reads, *content.writes))
            self._noted[place] = noted
            self.order.append(place)
            self._written[place] = content.brought
            for key in content.brought:
                self._writes[key] += 1
        return noted

    def executed_too(
        self, host: Row, epoch: int, component: Component, results: Sequence[Sequence[BatchResult]]
    ) -> None:
        """See `Observer`: an observer may be ahead, and voters go on from its checkpoint."""
        del host, results
        order = self.later[epoch] if epoch else self
        for decided in component:
            if decided.value is not NOP:
                order.note(decided.id, self._contents.of(decided.value))
