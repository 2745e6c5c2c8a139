"""One replica of a scripted cluster: a core, a disk that can be held, and what it has executed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from epaxos.protocol.contract import Component, Durable, Effects, Event, Receive, Tick
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Beacon, Message, PreAcceptOK
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP, Instance, Phase
from harness.commands import Access
from harness.invariants import Record, Watch, check_promise, record_of
from scenario.wording import Wording, place_name, replica_name, replica_names


class Surroundings(NamedTuple):
    """What a replica acts on: `say` adds to the transcript, `send` carries, `decided` is told of decisions."""

    wording: Wording
    say: Callable[[str], None]
    send: Callable[[Row, Row, Message], None]
    decided: Callable[[Row, InstanceId, Record], None]


class _Owed(NamedTuple):
    """The effects of one event, with the records as they were at its end."""

    effects: Effects[Message]
    records: dict[InstanceId, Record]


class Replica:
    """A core and its driver (`protocol.contract`), with all that happens told to `surroundings`.

    disk      durable records; they outlive a crash
    held      whether the disk keeps everybody waiting
    executed  components, in order, since the start
    writes    per key the names of the commands that wrote it, in order
    coverage  how often each decision of the protocol was taken, over all its lives
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self.row = settings.row
        self.name = replica_name(settings.row)
        self.disk: dict[InstanceId, Record] = {}
        self.alive = True
        self.held = False
        self.coverage: defaultdict[str, int] = defaultdict(int)
        self._settings = settings
        self._outside = surroundings
        self._begin([])

    def _begin(self, records: Sequence[Instance]) -> None:
        nothing = (-1,) * self._settings.quorums.n
        self.core = EPaxos(self._settings, Random(self.row), Durable(records, nothing, nothing, ()))
        self.executed: list[Component] = []
        self.writes: defaultdict[bytes, list[int]] = defaultdict(list)
        self.clients: set[int] = set()
        self._watch = _watch(self.core, self.disk)
        self._owed: deque[_Owed] = deque()

    # -- what a script does to it --------------------------------------------------------------------------

    def take(self, event: Event[Message], now: float) -> None:
        """Hand the core an event and do what it asks for."""
        self._do(event, lambda: self.core.on_event(event, now), now)

    def recover(self, place: InstanceId, now: float) -> None:
        """Recover an instance now, as the core does by itself when its time has come."""
        self._do(Tick(), lambda: self._start_recovery(place, now), now)

    def _start_recovery(self, place: InstanceId, now: float) -> Effects[Message]:
        self.core.state.begin(now)
        self.core._recovery.start(place)
        return self.core.state.effects

    def crash(self) -> None:
        """Lose all but the disk."""
        self.alive = self.held = False
        self._owed.clear()

    def restart(self, now: float) -> None:
        """Come back with what is on disk."""
        self.alive = True
        self._begin(
            [_instance(place, record, self._settings.quorums.n) for place, record in self.disk.items()]
        )
        self._do(Tick(), lambda: self.core.resume(now), now)

    def flush(self, now: float) -> None:
        """Let the disk do all that it was asked for."""
        self.held = False
        self._perform(now)

    def beacon(self, now: float) -> Beacon:
        return self.core.beacon(now)

    # -- the driver's duties -------------------------------------------------------------------------------

    def _do(self, event: Event[Message], action: Callable[[], Effects[Message]], now: float) -> None:
        before = dict(self.core.coverage)
        effects = action()
        self._watch.after(event, effects)
        self._tell_decisions(before)
        self._owe(effects, now)

    def _owe(self, effects: Effects[Message], now: float) -> None:
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

    def _send(self, sendings: Sequence[tuple[Sequence[Row], Message]]) -> Iterator[Message]:
        """Send to others; return what is for the replica itself."""
        own = []
        for receivers, message in sendings:
            check_promise(message, self.disk)
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
            assert self.disk[decided.id].value == decided.value
            if decided.value is NOP:
                continue
            assert isinstance(decided.value, Access)
            for key in decided.value.writes:
                self.writes[key].append(decided.value.name)
            if decided.value.name in self.clients and decided.id.row == self.row:
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
            return f"{self.name}: {place_name(place)} not known"
        return f"{self.name}: {self._outside.wording.record(place, record)}"


def _watch(core: EPaxos, disk: dict[InstanceId, Record]) -> Watch:
    """A watch over a core that begins with what is on disk."""
    watch = Watch(core)
    watch._before.update(disk)
    for place, record in disk.items():
        if record.phase is Phase.PREACCEPTED:
            watch._answers[place] = PreAcceptOK(place, record.deps, record.seq)
    return watch


def _instance(place: InstanceId, record: Record, n: int) -> Instance:
    instance = Instance(place, (-1,) * n)
    for field, value in record._asdict().items():
        setattr(instance, field, value)
    return instance
