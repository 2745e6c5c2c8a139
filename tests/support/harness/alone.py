"""A core whose records are durable at once, so that its own messages come back to it in the same breath."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from epaxos.protocol.contract import (
    Checkpointed,
    Durable,
    Effects,
    Event,
    PeerStatus,
    Receive,
    Remembered,
    Tick,
)
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Commit, Message
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Value
from epaxos.protocol.quorums import make_quorums
from harness.blocks import Columns, remember
from harness.probe import sent_to


class Alone:
    """The core of row 0 of n; by default it keeps nothing of what has executed and is durable."""

    def __init__(
        self, n: int = 3, durable: Durable | None = None, *, retain: int = 0, ahead: int = 0
    ) -> None:
        settings = Settings(
            row=0, quorums=make_quorums(n), retain=retain, recovery_timeout=1000.0, ahead=ahead
        )
        self.core = EPaxos(settings, Random(0), durable)
        self.n = n
        self.now = 0.0
        self.executed: list[InstanceId] = []

    def take(self, event: Event[Message]) -> Effects[Message]:
        """Hand over an event, and messages to itself after it."""
        effects = self.core.on_event(event, self.now)
        return self.note(effects)

    def resume(self) -> Effects[Message]:
        """Begin with what is durable."""
        return self.note(self.core.resume(self.now))

    def note(self, effects: Effects[Message]) -> Effects[Message]:
        self.executed += [decided.id for component in effects.executions for decided in component]
        joined: Effects[Message] = Effects()
        joined.extend(effects)
        for message in sent_to(effects, 0):
            joined.extend(self.take(Receive(0, message)))
        return joined

    def hear(self, sender: Row, message: Message) -> Effects[Message]:
        """A message arrives."""
        return self.take(Receive(sender, message))

    def learn(self, place: InstanceId, value: Value, *deps: int, seq: int = 0) -> Effects[Message]:
        """A decision arrives."""
        return self.hear(1, Commit(place, value, deps or (-1,) * self.n, seq))

    def pass_time(self, seconds: float) -> Effects[Message]:
        """Time passes, and the core is told."""
        self.now += seconds
        return self.take(Tick())

    def checkpoint(self) -> Effects[Message]:
        """Write one, of which only that it is durable matters here; all that may be dropped is."""
        cut = self.core.cut()
        while cut.absorb(100) is not None:
            pass
        effects: Effects[Message] = Effects()
        before = None
        while before != (before := self.core.status().truncated):
            effects.extend(self.checkpoint_of(cut.executed))
        return effects

    def checkpoint_of(self, executed: Vector) -> Effects[Message]:
        """A cut that was absorbed is durable."""
        return self.take(Checkpointed(executed))

    def merge(
        self, keys: Sequence[bytes], columns: Columns, vectors: Sequence[Vector] = ()
    ) -> Sequence[bool]:
        """Take over what a peer's checkpoint remembers of keys; for each, whether its value is the later one."""
        comparison = self.core.compare((-1,) * self.core.state.n, vectors)
        for column, slots in enumerate(columns):
            comparison.take(Remembered(column, keys, slots))
        later = comparison.later(keys)
        remember(self.core, keys, columns)
        return later

    def take_offline(self, peer: Row) -> None:
        """The failure detector gives a peer up."""
        self.take(PeerStatus(peer, online=False))

    def columns(self, writes: Vector, reads: Vector = (), *, known: Vector = ()) -> Columns:
        """What a checkpoint says of one key: its executed readers and writers, and more writers that are known."""
        none = (-1,) * self.n
        columns = (reads or none, known or writes, reads or none, writes)
        return [[slot] for vector in columns for slot in vector]


def decided(place: InstanceId, value: Value, *deps: int, seq: int = 0) -> Instance:
    """A decided instance, as an entry of a checkpoint or a record has it."""
    instance = Instance(place, deps)
    instance.phase, instance.value, instance.seq = Phase.COMMITTED, value, seq
    instance.orig = None if value is NOP else value
    return instance
