"""The shell around one core: it owes the core's effects what `protocol.contract` says, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, cast

from epaxos.protocol.contract import CommitNote, Component, Effects, Event, Over, Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP
from harness.commands import Access
from harness.invariants import Record, Watch, check_promise, record_of

Observer: TypeAlias = Callable[[Row, Event[Message], Effects[Message]], None]


class Outgoing(NamedTuple):
    """A message on its way; one that may be deferred may wait a little before it leaves."""

    receiver: Row
    message: Message
    deferrable: bool


class Machine:
    """A state machine that remembers only in which order it executed.

    executed  names of commands, in order
    writes    per key the names of those that wrote it, in order
    before    per (name, key) read or written: how many had written the key before
    """

    def __init__(self) -> None:
        self.executed: list[int] = []
        self.writes: defaultdict[bytes, list[int]] = defaultdict(list)
        self.before: dict[tuple[int, bytes], int] = {}

    def apply(self, command: Access) -> None:
        self.executed.append(command.name)
        for key in (*command.reads, *command.writes):
            self.before[command.name, key] = len(self.writes[key])
        for key in command.writes:
            self.writes[key].append(command.name)


class Driver:
    """One replica: core, disk and state machine.

    `observe` is called with its row, every event, and the effects of that event. `over` is how the epoch has ended.
    """

    def __init__(self, core: EPaxos, observe: Observer) -> None:
        self.core = core
        self.row = core.state.me
        self.disk: dict[InstanceId, Record] = {}
        self.machine = Machine()
        self.components: list[Component] = []
        self.over: Over | None = None
        self.notes: list[CommitNote] = []
        self.watch = Watch(core)
        self._observe = observe

    def take_round(self, events: Sequence[Event[Message]], now: float) -> list[Outgoing]:
        """Hand events to the core and perform their joined effects; return what leaves."""
        leaving: list[Outgoing] = []
        executions: list[Component] = []
        own: Sequence[Event[Message]] = events
        while own:
            effects: Effects[Message] = Effects()
            for event in own:
                effects.extend(self._step(event, now))
            self.disk.update({instance.id: record_of(instance) for instance in effects.records})
            executions += effects.executions
            self.over = effects.over or self.over
            self.notes += effects.commits
            own = [Receive(self.row, message) for message in self._post(effects, leaving)]
        for component in executions:
            self._execute(component)
        return leaving

    def _step(self, event: Event[Message], now: float) -> Effects[Message]:
        effects = self.core.on_event(event, now)
        self.watch.after(event, effects)
        self._observe(self.row, event, effects)
        return effects

    def _post(self, effects: Effects[Message], leaving: list[Outgoing]) -> list[Message]:
        """Sort messages into those that leave and those to this replica itself."""
        own = []
        prompt = [(*sending, False) for sending in (*effects.messages, *effects.promises)]
        deferrable = [(*sending, True) for sending in effects.deferrable]
        for receivers, message, may_wait in (*prompt, *deferrable):
            check_promise(message, self.disk)
            assert len(set(receivers)) == len(receivers) > 0
            for receiver in receivers:
                if receiver == self.row:
                    own.append(message)
                else:
                    leaving.append(Outgoing(receiver, message, may_wait))
        return own

    def _execute(self, component: Component) -> None:
        self.components.append(component)
        for decided in component:
            assert self.disk[decided.id].value == decided.value
            if decided.value is not NOP:
                self.machine.apply(cast("Access", decided.value))
