"""One replica of a scripted cluster: a core, a disk that can be held, and what it has executed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from epaxos.protocol.contract import Component, Effects, Event, Receive, Tick
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP, Instance, Phase
from harness.commands import Access
from harness.invariants import Record, record_of
from scenario.dialect import Dialect
from scenario.wording import Wording, replica_name, replica_names


class Surroundings(NamedTuple):
    """What a replica acts on: `say` adds to the transcript, `send` carries, `decided` is told of decisions."""

    wording: Wording
    say: Callable[[str], None]
    send: Callable[[Row, Row, Any], None]
    decided: Callable[[Row, InstanceId, Record], None]


class _Owed(NamedTuple):
    """The effects of one event, with the records as they were at its end."""

    effects: Effects[Any]
    records: dict[InstanceId, Record]


class Replica:
    """A core and its driver (`protocol.contract`), with all that happens told to `surroundings`.

    disk      durable records; they outlive a crash
    held      whether the disk keeps everybody waiting
    executed  components, in order, since the start
    writes    per key the names of the commands that wrote it, in order
    coverage  how often each decision of the protocol was taken, over all its lives
    """

    def __init__(self, settings: Any, dialect: Dialect, surroundings: Surroundings) -> None:
        self._dialect = dialect
        self.row: Row = settings.row
        self.name = replica_name(settings.row)
        self.disk: dict[InstanceId, Record] = {}
        self.alive = True
        self.held = False
        self.coverage: defaultdict[str, int] = defaultdict(int)
        self._settings = settings
        self._outside = surroundings
        self._begin([])

    def _begin(self, records: Sequence[Instance]) -> None:
        self.core = self._dialect.make(self._settings, Random(self.row), records)
        self.executed: list[Component] = []
        self.writes: defaultdict[bytes, list[int]] = defaultdict(list)
        self.clients: set[int] = set()
        self._watch = self._dialect.watch(self.core, self.disk)
        self._owed: deque[_Owed] = deque()

    # -- what a script does to it --------------------------------------------------------------------------

    def take(self, event: Event[Any], now: float) -> None:
        """Hand the core an event and do what it asks for."""
        self._do(event, lambda: self.core.on_event(event, now), now)

    def take_over(self, place: InstanceId | None, now: float) -> None:
        """Recover an instance, or campaign, now: as the core does by itself when its time has come."""
        self._do(Tick(), lambda: self._dialect.take_over(self.core, place, now), now)

    def crash(self) -> None:
        """Lose all but the disk."""
        self.alive = self.held = False
        self._owed.clear()

    def restart(self, now: float) -> None:
        """Come back with what is on disk."""
        self.alive = True
        self._begin([_instance(place, record, len(record.deps)) for place, record in self.disk.items()])
        self._do(Tick(), lambda: self.core.resume(now), now)

    def flush(self, now: float) -> None:
        """Let the disk do all that it was asked for."""
        self.held = False
        self._perform(now)

    def beacon(self, now: float) -> Any:
        return self.core.beacon(now)

    # -- the driver's duties -------------------------------------------------------------------------------

    def _do(self, event: Event[Any], action: Callable[[], Effects[Any]], now: float) -> None:
        before = dict(self.core.coverage)
        effects = action()
        self._watch.after(event, effects)
        self._tell_decisions(before)
        self._owe(effects, now)

    def _owe(self, effects: Effects[Any], now: float) -> None:
        self._send(effects.messages)
        self._owed.append(_Owed(effects, {record.id: record_of(record) for record in effects.records}))
        if not self.held:
            self._perform(now)

    def _perform(self, now: float) -> None:
        while self._owed and not self.held:
            effects, records = self._owed.popleft()
            self._persist(records)
            own = [*self._send(effects.promises), *self._send(effects.deferrable)]
            for component in effects.executions:
                self._execute(component)
            for message in own:
                self.take(Receive(self.row, message), now)

    def _persist(self, records: dict[InstanceId, Record]) -> None:
        for place, record in records.items():
            self.disk[place] = record
            self._outside.say(f"{self.name} records {self._outside.wording.record(place, record)}")
            if record.phase is Phase.COMMITTED:
                self._outside.decided(self.row, place, record)

    def _send(self, sendings: Sequence[tuple[Sequence[Row], Any]]) -> Iterator[Any]:
        """Send to others; return what is for the replica itself."""
        own = []
        for receivers, message in sendings:
            self._dialect.check_promise(message, self.disk)
            text = self._outside.wording.message(message)
            self._outside.say(f"{self.name} -> {replica_names(receivers)}: {text}")
            for receiver in receivers:
                if receiver == self.row:
                    own.append(message)
                else:
                    self._outside.send(self.row, receiver, message)
        return iter(own)

    def _execute(self, component: Component) -> None:
        self.executed.append(component)
        self._outside.say(f"{self.name} executes {self._outside.wording.component(component)}")
        for decided in component:
            record = self.disk[decided.id]
            assert record.value == decided.value
            if record.phase is not Phase.COMMITTED:  # where votes alone say so
                self._outside.decided(self.row, decided.id, record)
            if decided.value is NOP:
                continue
            assert isinstance(decided.value, Access)
            for key in decided.value.writes:
                self.writes[key].append(decided.value.name)
            if decided.value.name in self.clients and self._dialect.answers(decided.id, self.row):
                self.clients.remove(decided.value.name)
                self._outside.say(
                    f"{self.name} answers the client of {self._outside.wording.value(decided.value)}"
                )

    def _tell_decisions(self, before: dict[str, int]) -> None:
        for case, count in self.core.coverage.items():
            if count > before.get(case, 0):
                self.coverage[case] += count - before.get(case, 0)
                self._outside.say(f"{self.name}: {case}")

    # -- what a script sees of it --------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether it has executed all that it has heard of."""
        status = self.core.status()
        return status.executed == status.seen and not status.in_flight and not self._owed

    def describe(self, place: InstanceId) -> str:
        """What it holds of a place, on disk."""
        record = self.disk.get(place)
        if record is None:
            return f"{self.name}: {self._outside.wording.place(place)} not known"
        return f"{self.name}: {self._outside.wording.record(place, record)}"


def _instance(place: InstanceId, record: Record, n: int) -> Instance:
    instance = Instance(place, (-1,) * n)
    for field, value in record._asdict().items():
        setattr(instance, field, value)
    return instance
