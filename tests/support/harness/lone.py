"""One replica that is told decisions and writes checkpoints: core, state machine, journal and engine, no network."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.loading import load
from epaxos.checkpoint.writer import CheckpointWriter, adopt_event, hold_event
from epaxos.protocol.contract import Checkpointed, Component, Durable, Effects, Event, Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Commit, Message, PreAccept
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import NOP, Value
from epaxos.protocol.quorums import make_quorums
from epaxos.statemachine.batch import (
    Limits,
    Payload,
    decode_batch,
    decode_payload,
    encode_batch,
    make_collection,
    make_payload,
)
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import ON_ALL, Operation
from epaxos.storage.journal import Journal
from epaxos.storage.memory_engine import MemoryEngine
from harness.members import MEMBERS

N = 3
ME = 2
"""The row of the replica; what it is told of is in the other rows, so that it has nothing to propose again."""

KEYS = [b"a", b"b", b"c", b"d", b"e", b"f"]
NONE: Vector = (-1,) * N


class Decision(NamedTuple):
    """What is decided for a place, and the payload that was proposed for it."""

    id: InstanceId
    proposed: Payload
    value: Value
    deps: Vector
    seq: int

    @property
    def commit(self) -> Receive[Message]:
        return Receive(self.id.row, Commit(self.id, self.value, self.deps, self.seq))

    @property
    def pre_accept(self) -> Receive[Message]:
        return Receive(self.id.row, PreAccept(self.id, self.proposed, NONE, 0))


def payload_of(client: int, first: int, operations: list[tuple[Operation, bytes, object]]) -> Payload:
    """A payload of one batch."""
    codes, keys, arguments = zip(*operations, strict=True)
    encoded = encode_batch(client, first, max(first - 3, 0), bytes(codes), list(keys), list(arguments))
    return decode_payload(make_payload([decode_batch(encoded)]).encoded)


def random_payload(random: Random, client: int, first: int) -> Payload:
    """A few operations on a few keys."""
    arguments: dict[Operation, object] = {
        Operation.READ: None,
        Operation.WRITE: b"%d.%d" % (client, first),
        Operation.APPEND: b"+%d" % first,
        Operation.DELETE: None,
        Operation.SCAN: [None, 5, True, False],
        Operation.CLEAR: [None, random.randint(1, 3)],
    }
    chosen = random.choices(list(arguments), [2, 3, 3, 1, 0.4, 0.25], k=random.randint(1, 3))
    keys = [random.choice((b"", *KEYS) if kind in ON_ALL else KEYS) for kind in chosen]
    return payload_of(
        client, first, [(kind, key, arguments[kind]) for kind, key in zip(chosen, keys, strict=True)]
    )


def conflict(one: Payload, other: Payload) -> bool:
    """Whether two payloads share a key that at least one of them writes, or one conflicts with everything."""
    if any(payload.base is not None or payload.writes_all for payload in (one, other)):
        return True
    if (one.reads_all and other.writes) or (other.reads_all and one.writes):
        return True
    written = set(one.writes) & {*other.reads, *other.writes}
    return bool(written or set(other.writes) & set(one.reads))


def random_history(random: Random, count: int) -> list[Decision]:
    """Decisions of rows 0 and 1 as a cluster may come to them: of two that conflict, one covers the other.

    Some are annulled, some proposed again elsewhere, some cover one another, and some are collections.
    """
    proposals: list[tuple[InstanceId, Payload, bool]] = []
    slots = [0, 0]
    first = 1
    for _ in range(count):
        row = random.randrange(2)
        place = InstanceId(row, slots[row])
        slots[row] += 1
        commands = [payload for _, payload, _ in proposals if payload.base is None]
        if commands and random.random() < 0.15:
            payload = random.choice(commands)
        elif random.random() < 0.1:
            payload = make_collection(len(proposals) - len(commands), NONE)
        else:
            payload = random_payload(random, 10 + row, first)
            first += 5
        proposals.append((place, payload, random.random() < 0.15))
    decisions = [_decide(random, proposals, position) for position in range(count)]
    for position in range(count):
        if decisions[position].proposed.base is not None:
            _set_base(decisions, position, random.randint(0, position))
    return decisions


def _decide(random: Random, proposals: list[tuple[InstanceId, Payload, bool]], position: int) -> Decision:
    place, payload, annulled = proposals[position]
    if annulled:
        return Decision(place, payload, NOP, NONE, 0)
    deps = list(NONE)
    for later, (other, its, _) in enumerate(proposals):
        forward = later > position
        if other == place or not conflict(payload, its) or (forward and other.row == place.row):
            continue
        if not forward or (later < position + 3 and random.random() < 0.3):
            deps[other.row] = max(other.slot, deps[other.row])
    deps[place.row] = min(deps[place.row], place.slot - 1)
    return Decision(place, payload, payload, tuple(deps), random.randrange(3))


def _set_base(decisions: list[Decision], position: int, most: int) -> None:
    """Give a collection a base, of at most so many decisions and what these need; all that follow cover it."""
    place, payload, value, _, _ = decisions[position]
    base = next(base for count in range(most, -1, -1) if not covers(base := _needed(decisions, count), place))
    collection = make_collection(payload.generation, base)
    value = NOP if value is NOP else collection
    decisions[position] = decisions[position]._replace(proposed=collection, value=value)
    for later in range(position, len(decisions)):
        decision = decisions[later]
        if decision.value is not NOP:
            decisions[later] = decision._replace(deps=tuple(map(max, decision.deps, base)))


def _needed(decisions: list[Decision], count: int) -> Vector:
    """What has executed at least where the first `count` have."""
    closure = list(NONE)
    for place, *_ in decisions[:count]:
        closure[place.row] = place.slot
    before = None
    while before != (before := tuple(closure)):
        for decision in decisions:
            if covers(tuple(closure), decision.id):
                closure = list(map(max, closure, decision.deps))
    return tuple(closure)


def machine() -> StateMachine:
    return StateMachine(Limits(64, 4096, 1), lambda _: None)


class Lone:
    """The replica, with everything durable in `engine`; another one begins with that."""

    def __init__(self, engine: MemoryEngine | None = None, *, retain: int = 0, lasting: bool = True) -> None:
        self.engine = engine or MemoryEngine()
        self.journal = Journal(self.engine, MEMBERS, decode_payload, lasting=lasting)
        self.machine = machine()
        self.applied: list[Payload] = []
        self.components: list[Component] = []
        log = self.journal.load()
        checkpoint = self.read()
        durable = Durable(
            log.records, log.truncated, checkpoint.executed, checkpoint.entries, checkpoint.vectors
        )
        settings = Settings(row=ME, quorums=make_quorums(N), retain=retain, recovery_timeout=1000.0)
        self.core = EPaxos(settings, Random(0), durable)
        load(checkpoint, self.core, self.machine)
        engine_ = self.engine
        self.writer = CheckpointWriter(
            self.core,
            self.machine,
            MEMBERS,
            engine_.stage_state,
            engine_.snapshot_state,
            lasting=lasting,
        )
        self.writer.loaded(checkpoint)
        if engine is not None:
            self.perform(self.core.resume(0.0))

    def read(self) -> Fetched:
        """The last checkpoint, as a peer would fetch it."""
        fetched = Fetched(MEMBERS, decode_payload)
        snapshot = self.engine.snapshot_state()
        after = b""
        while rows := snapshot.scan(after, 100):
            fetched.take(rows)
            after = rows[-1][0]
        return fetched

    def take(self, event: Event[Message]) -> Effects[Message]:
        """An event in a round of its own."""
        effects = self.core.on_event(event, 0.0)
        self.perform(effects)
        return effects

    def perform(self, effects: Effects[Message]) -> None:
        self.journal.persist(effects.records)
        if effects.truncate is not None:
            self.journal.drop(effects.truncate)
        self.components += effects.executions
        for component in effects.executions:
            for decided in component:
                if decided.value is not NOP:
                    assert isinstance(decided.value, Payload)
                    self.applied.append(decided.value)
                    self.machine.apply(decided.value)

    def commit(self) -> None:
        """What was staged is durable; drop all that may be dropped."""
        self.engine.commit_state()
        before = None
        while before != (before := self.core.status().truncated):
            self.take(Checkpointed(self.writer.executed))

    def checkpoint(self, *, asked: bool = True) -> None:
        """Write one at once."""
        self.writer.begin(asked=asked)
        while not self.writer.step():
            pass
        self.commit()

    def begin_adopting(self, fetched: Fetched) -> None:
        self.writer.adopt(fetched)
        self.take(hold_event(fetched))

    def adopt(self, fetched: Fetched) -> Effects[Message]:
        """Take over what was merged and staged."""
        self.engine.commit_state()
        return self.take(adopt_event(fetched))

    @property
    def digest(self) -> str:
        return self.machine.digest_source().hexdigest()


def replayed(payloads: list[Payload]) -> StateMachine:
    """A state machine that has executed these and nothing else."""
    fresh = machine()
    for payload in payloads:
        fresh.apply(payload)
    return fresh


def sessions_of(of: StateMachine) -> list[list[object]]:
    """All sessions of a state machine that has written no checkpoint."""
    of.freeze()
    return sorted(of.take_sessions(10**9), key=str)
