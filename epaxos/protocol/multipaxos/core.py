"""MultiPaxos: the machine that owns one replica's consensus state and answers every event with its effects."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from epaxos.errors import InvariantError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import (
    Adopt,
    Checkpointed,
    CoreStatus,
    Durable,
    Effects,
    Ended,
    Event,
    Hold,
    Lead,
    Measured,
    PeerStatus,
    Preparation,
    Propose,
    Read,
    Receive,
    Remembered,
    Retire,
    Tick,
)
from epaxos.protocol.ids import InstanceId, Row, Slot, Vector
from epaxos.protocol.log import Instance, Value, drain
from epaxos.protocol.multipaxos import restart
from epaxos.protocol.multipaxos.acceptor import Acceptor
from epaxos.protocol.multipaxos.checkpoint import Checkpoints, ComparedPrefixes, PrefixCut
from epaxos.protocol.multipaxos.election import Election
from epaxos.protocol.multipaxos.forwarding import Forwarding
from epaxos.protocol.multipaxos.leading import Leading
from epaxos.protocol.multipaxos.learning import Learning
from epaxos.protocol.multipaxos.messages import (
    NOBODY,
    Accept,
    AcceptOK,
    Beacon,
    Chosen,
    ChosenRequest,
    Commit,
    Echo,
    Forward,
    Handover,
    Message,
    Missing,
    Nack,
    Prepare,
    Promised,
    Truncated,
    Voted,
)
from epaxos.protocol.multipaxos.state import LOG, Settings, State
from epaxos.protocol.reads import Log, ReadIndex, ReadIndexOK, Reads
from epaxos.protocol.roundtrips import RoundTrip


class MultiPaxos:
    """A `contract.Core`: a log of commands in one row, ordered by a leader.

    The same events at the same times with the same seed give the same effects: nothing here depends on a
    clock, on hash order or on an unseeded generator.
    """

    def __init__(self, settings: Settings, random: Random, durable: Durable | None = None) -> None:
        self.state = state = State(settings, random)
        nothing = state.logs.no_deps
        self._durable = durable or Durable((), nothing, nothing, ())
        self._learning = Learning(state, self._on_decided)
        self._leading = Leading(state, self._learning)
        self._acceptor = Acceptor(state, self._learning, self._leading)
        self._election = Election(state, self._leading, lambda: self.beacon(state.now))
        self._forwarding = Forwarding(state, self._leading, self._election)
        self._checkpoints = Checkpoints(state, self._learning, self._leading, self._forwarding)
        self._reads = Reads(state, settings.quorums.f, self._readable())
        self._next_sweep = 0.0
        restart.load(state, self._durable)
        self._handlers: dict[type, Callable[[Row, Any], None]] = {
            Prepare: self._on_prepare,
            Voted: self._election.on_voted,
            Promised: self._on_promised,
            Accept: self._on_accept,
            AcceptOK: self._on_accept_ok,
            Missing: self._leading.on_missing,
            Commit: self._on_commit,
            Nack: self._on_nack,
            Handover: lambda _, message: self._election.on_handover(message),
            Forward: lambda _, message: self._forwarding.on_forward(message),
            Chosen: self._on_chosen,
            ChosenRequest: self._learning.on_chosen_request,
            Truncated: self._leading.on_truncated,
            Beacon: self._on_beacon,
            Echo: self._learning.on_echo,
            ReadIndex: self._reads.on_read_index,
            ReadIndexOK: self._on_read_index_ok,
        }
        self._shell: dict[type, Callable[[Any], None]] = {
            Propose: lambda event: self._forwarding.propose(event.command),
            Read: self._reads.ask,
            Tick: lambda _: self._tick(),
            PeerStatus: self._on_peer_status,
            Checkpointed: lambda event: self._checkpoints.on_checkpointed(event.executed),
            Hold: lambda _: self._hold(),
            Adopt: self._checkpoints.on_adopt,
            Retire: lambda _: self._election.retire(),
            Lead: lambda _: self._election.lead(),
            Measured: lambda event: state.met(event.peer, event.trip),
            Ended: lambda _: self._on_ended(),
        }

    # -- contract.Core -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the next Tick is due."""
        if self.state.over is not None:
            return math.inf
        return min(self._next_sweep, self._reads.deadline)

    @property
    def in_flight(self) -> int:
        """How many commands of clients here have not executed."""
        return self._forwarding.in_flight

    @property
    def lost(self) -> bool:
        """See `contract.Core`."""
        return self._forwarding.lost

    @property
    def quiet(self) -> bool:
        """See `contract.Core`."""
        return self.state.quiet

    @property
    def coverage(self) -> Mapping[str, int]:
        """How often each named decision of the protocol was taken."""
        return self.state.coverage

    @property
    def unsure(self) -> bool:
        """See `contract.Core`."""
        return False

    @property
    def adopts_prefix(self) -> bool:
        """See `contract.Core`."""
        return True

    def left(self) -> Sequence[Command]:
        """See `contract.Core`."""
        return self._forwarding.left()

    @property
    def width(self) -> int:
        """See `contract.Core`: none."""
        return 0

    def resume(self, now: float) -> Effects[Message]:
        """Begin after a restart with records: once, before the first event."""
        state = self.state
        state.begin(now)
        if state.truncated > self._durable.truncated[0]:
            state.effects.truncate = tuple(state.logs.truncated)
        self._checkpoints.keep_all()
        return self._end()

    def on_event(self, event: Event[Message], now: float) -> Effects[Message]:
        """Take one event at time `now` (seconds); see `contract` for what the caller owes the effects."""
        self.state.begin(now)
        if self.state.over is not None:
            self._on_event_when_over(event)
            return self._told()
        if isinstance(event, Receive):
            if event.sender >= self.state.n:
                self._answer_guest(event.sender, event.message)
            else:
                self._handlers[type(event.message)](event.sender, event.message)
        else:
            handler = self._shell.get(type(event))
            if handler is None:
                raise InvariantError(f"not an event: {event!r}")
            handler(event)
        return self._end()

    def _end(self) -> Effects[Message]:
        """Execute what the event has decided, and tell of it."""
        state = self.state
        for slot, value in state.execute():
            self._leading.on_executed(value)
            self._forwarding.on_executed(slot, value)
        if state.over is None:
            self._forwarding.follow()
        self._leading.announce()
        if self._reads.waiting:
            self._settle_reads()
        return self._told()

    def _readable(self) -> Log:
        """What reads need of the log: of every key its last slot, since each slot depends on all before it.

        Each replica asks those behind itself, or all would ask the first.
        """
        state = self.state
        behind = sorted(state.peers, key=lambda peer: (peer - state.me) % state.n)
        return Log(
            lambda _: (max(state.top, state.committed), -1),
            lambda: (state.executed, -1),
            lambda _: None,
            lambda: behind,
            lambda: max(state.settings.retry, 2 * state.quorum_round_trip),
        )

    def _on_read_index_ok(self, sender: Row, message: ReadIndexOK) -> None:
        if self.state.is_near(NOBODY, message.highest[LOG]):
            self._reads.on_read_index_ok(sender, message)

    def _settle_reads(self) -> None:
        """See which reads the state answers; while a checkpoint is being merged it is of no one moment."""
        if self.state.over is not None:
            self._reads.give_up()
        elif not self.state.held:
            self._reads.settle()

    def _told(self) -> Effects[Message]:
        """The effects of the event; with its end, if the epoch has come to that, what it leaves behind."""
        effects = self.state.end()
        if effects.over is not None:
            effects.over = effects.over._replace(left=self.left())
        return effects

    def prepare(self, most: int) -> Preparation:
        """See `contract.Core`."""
        return self._checkpoints.prepare(most)

    def cut(self) -> PrefixCut:
        """See `contract.Core`."""
        return self._checkpoints.cut()

    @staticmethod
    def remembered(column: int) -> int:
        """See `contract.Core`: nothing, and so it is with all that speaks of columns."""
        del column
        return 0

    @staticmethod
    def all_remembered(most: int) -> Iterable[Remembered]:
        """See `contract.Core`: nothing."""
        del most
        return ()

    @staticmethod
    def stands(said: Remembered) -> Sequence[bool]:
        """See `contract.Core`."""
        return [False] * len(said.keys)

    def vectors(self) -> Sequence[Vector]:
        """See `contract.Core`: nothing."""
        return ()

    @staticmethod
    def remember(said: Remembered) -> Remembered:
        """See `contract.Core`."""
        return said

    def compare(self, executed: Vector, vectors: Sequence[Vector]) -> ComparedPrefixes:
        """See `contract.Core`."""
        del vectors
        return ComparedPrefixes(self.state.executed, executed[LOG])

    @staticmethod
    def payload_keys(frontier: Vector, above: Collection[InstanceId], most: int) -> Iterable[Remembered]:
        """See `contract.Core`: nothing is remembered of payloads that have not executed."""
        del frontier, above, most
        return ()

    def let_go(self, most: int) -> bool:
        """See `contract.Core`."""
        return drain(self.state.logs.rows, most)

    def beacon(self, now: float) -> Beacon:
        """What this replica tells its peers at intervals."""
        state, election = self.state, self._election
        state.now = max(now, state.now)
        logs = state.logs
        return Beacon(
            state.known,
            self._leading.ballot,
            election.follows,
            int(election.happy),
            tuple(logs.committed),
            (state.executed, -1),
            tuple(logs.truncated),
            self._learning.stamp(now),
        )

    def round_trip(self, peer: Row) -> RoundTrip:
        """See `contract.Core`."""
        return self.state.round_trips[peer]

    def status(self) -> CoreStatus:
        """How far this replica is."""
        state = self.state
        return CoreStatus(
            committed=tuple(state.logs.committed),
            executed=(state.executed, -1),
            seen=(state.seen, -1),
            truncated=tuple(state.logs.truncated),
            in_flight=self.in_flight,
            pending=state.committed - state.executed,
            kept=len(state.log),
            leader=self._election.acknowledged,
            ballot=max(state.known, state.promised),
            changing=state.quiet,
        )

    def told(self, peer: Row) -> Vector:
        """See `contract.Core`."""
        beacon = self._election.told.get(peer)
        return (-1, -1) if beacon is None else beacon.committed

    def waiting(self, most: int) -> list[Instance]:
        """See `contract.Core`."""
        state = self.state
        return state.logs.waiting((state.executed, -1), (), (state.seen, -1), most)

    # -- events --------------------------------------------------------------------------------------------

    def _on_event_when_over(self, event: Event[Message]) -> None:
        """Say what is decided, and promise nothing: to those who have not come to the end it is as if crashed."""
        state = self.state
        if isinstance(event, Receive):
            message = event.message
            if isinstance(message, ChosenRequest):
                self._learning.on_chosen_request(event.sender, message)
            elif isinstance(message, Beacon):
                state.send((event.sender,), Echo(message.stamp))
            elif isinstance(message, Accept):
                self._tell(event.sender, message.slot)
            elif isinstance(message, Prepare):
                state.cover("silent after the end")
        elif isinstance(event, Propose):  # in the round in which the end came
            self._forwarding.keep(event.command)
            state.effects.over = state.over
        elif isinstance(event, Read):
            self._reads.refuse(event)
        elif not isinstance(event, Checkpointed | Tick | PeerStatus | Retire | Lead | Measured | Ended):
            raise InvariantError(f"the epoch is over: {event!r}")

    def _answer_guest(self, guest: Row, message: Message) -> None:
        """Tell a replica without a vote what is decided, and of what is known; nothing that it says counts."""
        state = self.state
        if isinstance(message, ChosenRequest):
            self._learning.on_chosen_request(guest, message)
        elif isinstance(message, ReadIndex):
            state.send((guest,), ReadIndexOK(message.number, (max(state.top, state.committed), -1)))
        elif isinstance(message, Beacon):
            state.send((guest,), Echo(message.stamp))
        else:
            state.cover("message of one without a vote dropped")

    def _tell(self, peer: Row, slot: Slot) -> None:
        """Tell a peer that proposes at a slot what is decided there, or that it is not here any more."""
        state = self.state
        instance = state.decided(slot)
        if slot <= state.truncated:
            state.send((peer,), Truncated(state.truncated))
        elif instance is not None and instance.value is not None:
            state.promise((peer,), Chosen(slot, instance.value))

    def _on_ended(self) -> None:
        """A peer says that the epoch is over: nothing new is begun in it, but this replica goes on voting."""
        self.state.ended = True
        self.state.cover("told of the end")

    def _on_decided(self, slot: Slot, value: Value) -> None:
        self._leading.on_decided(slot, value)

    def _on_prepare(self, sender: Row, message: Prepare) -> None:
        if not self.state.is_near(message.ballot, -1):
            return
        self._acceptor.on_prepare(sender, message)
        if self.state.promised == message.ballot:
            self._election.on_promise(sender)

    def _on_accept(self, sender: Row, message: Accept) -> None:
        if not self.state.is_near(message.ballot, message.slot):
            return
        before = self.state.promised
        self._election.hear_of(message.ballot)
        self._acceptor.on_accept(sender, message)
        if self.state.promised > before:
            self._election.on_promise(sender)
        self._election.hear_leader(message.ballot)

    def _on_accept_ok(self, sender: Row, message: AcceptOK) -> None:
        if self.state.is_near(message.ballot, message.slot):
            self._learning.on_accept_ok(sender, message)

    def _on_promised(self, sender: Row, message: Promised) -> None:
        last = message.slots[-1][1] if message.slots else -1
        if self.state.is_near(message.ballot, max(last, message.truncated)):
            self._election.on_promised(sender, message)

    def _on_commit(self, _: Row, message: Commit) -> None:
        if self.state.is_near(message.ballot, -1):
            self._learning.on_commit(message)

    def _on_nack(self, _: Row, message: Nack) -> None:
        if self.state.is_near(message.ballot, -1):
            self._election.on_nack(message)

    def _on_chosen(self, sender: Row, message: Chosen) -> None:
        if self.state.is_near(NOBODY, message.slot):
            self._learning.on_chosen(sender, message)

    def _on_beacon(self, sender: Row, message: Beacon) -> None:
        if not self.state.is_near(max(message.known, message.leads, message.follows), -1):
            return
        self._election.on_beacon(sender, message)
        self._learning.on_beacon(sender, message)

    def _on_peer_status(self, event: PeerStatus) -> None:
        self._learning.on_status(event.peer)
        if event.online:
            self._election.on_online(event.peer)
            self._leading.hasten(event.peer)
        else:
            self._election.on_offline(event.peer)

    def _hold(self) -> None:
        self.state.held = True

    def _tick(self) -> None:
        settings = self.state.settings
        self._next_sweep = self.state.now + min(settings.retry, settings.timeout / 4) / 2
        self._election.sweep()
        self._leading.sweep()
        self._forwarding.sweep()
        if self._reads.waiting:
            self._reads.sweep()
