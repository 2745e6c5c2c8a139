"""EPaxos: the machine that owns one replica's consensus state and answers every event with its effects."""

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
from epaxos.protocol.epaxos import restart
from epaxos.protocol.epaxos.checkpoint import Checkpoints, ComparedHistories, ExecutedCut
from epaxos.protocol.epaxos.commit import CommitProtocol
from epaxos.protocol.epaxos.dissemination import Dissemination
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.epaxos.recovery import RecoveryProtocol
from epaxos.protocol.epaxos.state import Settings, State
from epaxos.protocol.epaxos.suspicion import Suspicion
from epaxos.protocol.epaxos.timers import TimerKind
from epaxos.protocol.ids import InstanceId, Row, Vector, covers
from epaxos.protocol.log import NOP, Instance, Phase, drain
from epaxos.protocol.reads import Log, ReadIndex, ReadIndexOK, Reads
from epaxos.protocol.roundtrips import RoundTrip

_REQUESTS = (PreAccept, Offer, Accept, Recover, Validate, Waiting)
_WITH_COMMANDS = (PreAccept, Validate)
_WITH_VALUES = (Accept, Commit, RecoverOK)
_CARRYING = frozenset(_WITH_COMMANDS + _WITH_VALUES)


class EPaxos:
    """A `contract.Core`: EPaxos* on a 2-D log with prefix vectors.

    The same events at the same times with the same seed give the same effects: nothing here depends on a
    clock, on hash order or on an unseeded generator.
    """

    def __init__(self, settings: Settings, random: Random, durable: Durable | None = None) -> None:
        nothing = (-1,) * settings.quorums.n
        self._durable = durable or Durable((), nothing, nothing, ())
        self.state = State(settings, random)
        self._commit = CommitProtocol(self.state)
        self._recovery = RecoveryProtocol(self.state, self._commit)
        self._suspicion = Suspicion(
            self.state, self._recovery.start, self._recovery.is_at_work, lambda: self._recovery.active
        )
        self._dissemination = Dissemination(self.state)
        self._commit.on_committed = self._recovery.on_committed
        self._checkpoints = Checkpoints(self.state, self._commit, self._recovery)
        self._reads = Reads(self.state, settings.quorums.f, self._readable())
        restart.load(self.state, self._commit, self._durable)
        self._handlers: dict[type, Callable[[Row, Any], None]] = {
            PreAccept: self._commit.on_pre_accept,
            PreAcceptOK: self._commit.on_pre_accept_ok,
            Offer: self._commit.on_offer,
            Missing: self._commit.on_missing,
            Accept: self._commit.on_accept,
            AcceptOK: self._commit.on_accept_ok,
            Recover: self._recovery.on_recover,
            RecoverOK: self._recovery.on_recover_ok,
            Validate: self._recovery.on_validate,
            ValidateOK: self._recovery.on_validate_ok,
            Waiting: lambda _, message: self._recovery.on_waiting(message),
            Nack: lambda _, message: self._recovery.on_nack(message),
            Truncated: self._dissemination.on_truncated,
        }
        self._about_all: dict[type, Callable[[Row, Any], None]] = {
            ReadIndex: self._reads.on_read_index,
            ReadIndexOK: self._reads.on_read_index_ok,
            Beacon: self._dissemination.on_beacon,
            Echo: self._dissemination.on_echo,
            CommitRequest: self._dissemination.on_commit_request,
        }
        self._shell: dict[type, Callable[[Any], None]] = {
            Tick: lambda _: self._tick(),
            Propose: lambda event: self._commit.propose(event.command),
            Read: self._reads.ask,
            PeerStatus: self._on_peer_status,
            Checkpointed: lambda event: self._checkpoints.on_checkpointed(event.executed),
            Hold: self._checkpoints.on_hold,
            Adopt: self._checkpoints.on_adopt,
            Retire: lambda _: None,  # nobody does anything that others could not
            Lead: lambda _: None,
            Measured: lambda event: self.state.met(event.peer, event.trip),
            Ended: self._on_ended,
        }

    def _readable(self) -> Log:
        """What reads need of the log."""
        state = self.state
        return Log(
            state.conflicts.writers,
            lambda: state.executor.executed,
            state.hear_of,
            lambda: state.preferred,
            lambda: max(state.settings.retry, 2 * state.quorum_round_trip),
        )

    # -- contract.Core -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the next Tick is due."""
        state, due = self.state, self._suspicion.next_sweep
        if state.executor.over is not None:
            return math.inf
        due = min(due, state.timers.next_deadline)
        return min(due, self._reads.deadline) if self._reads.waiting else due

    @property
    def in_flight(self) -> int:
        """How many instances this replica proposed that are not committed yet, or keeps commands for."""
        return len(self._commit.open) + len(self._commit.kept)

    @property
    def lost(self) -> bool:
        """See `contract.Core`: who hears no quorum keeps what it takes, and there is nobody else to ask for it."""
        return False

    @property
    def unsure(self) -> bool:
        """See `contract.Core`."""
        return False

    @property
    def adopts_prefix(self) -> bool:
        """See `contract.Core`: commands that do not conflict execute in any order."""
        return False

    @property
    def quiet(self) -> bool:
        """See `contract.Core`."""
        return self.state.quiet

    @property
    def coverage(self) -> Mapping[str, int]:
        """How often each named decision of the protocol was taken."""
        return self.state.coverage

    def resume(self, now: float) -> Effects[Message]:
        """Begin after a restart with records: once, before the first event."""
        self.state.begin(now)
        restart.resume(self.state, self._commit, self._checkpoints, self._durable)
        return self._told()

    def _told(self) -> Effects[Message]:
        """The effects of the event; with its end, if the epoch has come to that, what it leaves behind."""
        effects = self.state.effects
        if effects.over is not None:
            effects.over = effects.over._replace(left=self.left())
        return effects

    def left(self) -> Sequence[Command]:
        """See `contract.Core`."""
        return self._commit.left()

    def on_event(self, event: Event[Message], now: float) -> Effects[Message]:
        """Take one event at time `now` (seconds); see `contract` for what the caller owes the effects."""
        state = self.state
        state.begin(now)
        if state.executor.over is not None:
            self._on_event_when_over(event)
        elif type(event) is Receive:
            take = self._receive if event.sender < state.n else self._answer_guest
            take(event.sender, event.message)
        else:
            handler = self._shell.get(type(event))
            if handler is None:
                raise InvariantError(f"not an event: {event!r}")
            handler(event)
        if (state.ending or self._commit.is_quiet or state.ended is not None) and state.executor.over is None:
            self._commit.mind_barriers()
        if self._reads.waiting:
            self._settle_reads()
        return state.effects if state.effects.over is None else self._told()

    def _settle_reads(self) -> None:
        """See which reads the state answers; while a checkpoint is being merged it is of no one moment."""
        if self.state.executor.over is not None:
            self._reads.give_up()
        elif self.state.hold is None:
            self._reads.settle()

    @property
    def width(self) -> int:
        """See `contract.Core`: four vectors."""
        return 4 * self.state.n

    def prepare(self, most: int) -> Preparation:
        """See `contract.Core`."""
        return self._checkpoints.prepare(most)

    def cut(self) -> ExecutedCut:
        """See `contract.Core`."""
        return self._checkpoints.cut()

    def remembered(self, column: int) -> int:
        """See `contract.Core`."""
        return self._checkpoints.remembered(column)

    def all_remembered(self, most: int) -> Iterable[Remembered]:
        """See `contract.Core`."""
        return self._checkpoints.all_remembered(most)

    def stands(self, said: Remembered) -> Sequence[bool]:
        """See `contract.Core`."""
        return self._checkpoints.stands(said)

    def vectors(self) -> Sequence[Vector]:
        """See `contract.Core`."""
        return self._checkpoints.vectors()

    def remember(self, said: Remembered) -> Remembered:
        """See `contract.Core`."""
        return self._checkpoints.remember(said)

    def compare(self, executed: Vector, vectors: Sequence[Vector]) -> ComparedHistories:
        """See `contract.Core`."""
        del executed  # what has executed there, key by key, says more
        return self._checkpoints.compare(vectors)

    def payload_keys(
        self, frontier: Vector, above: Collection[InstanceId], most: int
    ) -> Iterable[Remembered]:
        """See `contract.Core`."""
        return self._checkpoints.payload_keys(frontier, above, most)

    def let_go(self, most: int) -> bool:
        """See `contract.Core`."""
        state = self.state
        return drain((*state.logs.rows, *state.conflicts.tables, *state.executed.tables), most)

    def beacon(self, now: float) -> Beacon:
        """What this replica tells its peers at intervals."""
        return self._dissemination.beacon(now)

    def round_trip(self, peer: Row) -> RoundTrip:
        """See `contract.Core`."""
        return self.state.round_trips[peer]

    def status(self) -> CoreStatus:
        """How far this replica is."""
        state = self.state
        return CoreStatus(
            committed=tuple(state.logs.committed),
            executed=state.executor.executed,
            seen=tuple(state.seen),
            truncated=tuple(state.logs.truncated),
            in_flight=self.in_flight,
            pending=state.executor.pending,
            kept=sum(map(len, state.logs.rows)),
            remembered=len(state.conflicts) + len(state.executed),
            changing=state.quiet,
        )

    def told(self, peer: Row) -> Vector:
        """See `contract.Core`."""
        return self.state.told[peer]

    def waiting(self, most: int) -> list[Instance]:
        """See `contract.Core`."""
        executor = self.state.executor
        return self.state.logs.waiting(executor.executed, set(executor.above), tuple(self.state.seen), most)

    # -- events --------------------------------------------------------------------------------------------

    def _on_event_when_over(self, event: Event[Message]) -> None:
        """Say what is decided, and promise nothing: to those who have not come to the end it is as if crashed.

        Not even with an answer that knows of nothing: it would be counted as one of a replica that had pre-accepted
        nothing, and so help to decide what has been decided (protocol 6.6).
        """
        if isinstance(event, Receive):
            message = event.message
            if isinstance(message, CommitRequest):
                self._dissemination.on_commit_request(event.sender, message)
            elif isinstance(
                message, Beacon
            ):  # or who asks for a decision would wait for an answer that was lost
                self.state.send((event.sender,), Echo(message.stamp))
            elif isinstance(message, _REQUESTS) and not self._is_settled(event.sender, message.id, message):
                self.state.cover("silent after the end")
        elif isinstance(event, Propose):  # in the round in which the end came
            self._commit.kept.append(event.command)
            self.state.effects.over = self.state.executor.over
        elif isinstance(event, Read):
            self._reads.refuse(event)
        elif not isinstance(event, Checkpointed | Tick | PeerStatus | Retire | Lead | Measured | Ended):
            raise InvariantError(f"the epoch is over: {event!r}")

    def _on_ended(self, event: Ended) -> None:
        """Expect nothing more of this epoch but what is in its cut; one that was told stays, if another knows none."""
        state = self.state
        if state.ended is None or state.ended.cut is None:
            state.ended = event
            state.cover("told of the end")
        if event.cut is not None:
            for place in [place for place in state.suspects if not covers(event.cut, place)]:
                del state.suspects[place]
            for place in [place for place in self._recovery.recoveries if not covers(event.cut, place)]:
                self._recovery.forget(place)

    def _on_peer_status(self, event: PeerStatus) -> None:
        self._dissemination.on_status(event.peer)
        if event.online:
            self.state.online.add(event.peer)
            self._commit.hasten(event.peer)
            self._recovery.hasten(event.peer)
            self._suspicion.on_online(event.peer)
        else:
            self.state.online.discard(event.peer)
            self._suspicion.on_offline(event.peer)

    def _answer_guest(self, guest: Row, message: Message) -> None:
        """Tell a replica without a vote what is decided, and of what is known; nothing that it says counts."""
        state = self.state
        if isinstance(message, CommitRequest):
            self._dissemination.on_commit_request(guest, message)
        elif isinstance(message, ReadIndex):
            state.send((guest,), ReadIndexOK(message.number, tuple(state.seen)))
        elif isinstance(message, Beacon):
            state.send((guest,), Echo(message.stamp))
        else:
            state.cover("message of one without a vote dropped")

    def _receive(self, sender: Row, message: Any) -> None:
        kind = type(message)
        about_all = self._about_all.get(kind)
        if about_all is not None:
            about_all(sender, message)
            return
        if sender == self.state.me:
            self._commit.on_durable(message.id)
        if kind in _CARRYING and self._leaves_holes(message):
            self.state.cover("malformed barrier dropped")
        elif kind is Commit:
            self._on_commit(sender, message)
        elif not self._is_settled(sender, message.id, message):
            self._handlers[kind](sender, message)

    def _leaves_holes(self, message: Any) -> bool:
        """Whether a message is about a barrier that does not depend on all below it in its row (protocol 6.3).

        No owner proposes such a one. It would end the epoch at a cut that has not executed, and stop whoever heeds it.
        """
        row, slot = place = message.id
        if isinstance(message, _WITH_COMMANDS):
            return message.deps[row] != slot - 1 and bool(message.command.ends)
        if isinstance(message, RecoverOK):
            init = message.init
            if init is not None and init.deps[row] != slot - 1 and init.command.ends:
                return True
            if message.phase is Phase.INITIAL:  # it tells of a payload, and nothing of its dependencies
                return False
        if message.deps[row] == slot - 1 or message.value is NOP:
            return False
        if message.value is None:  # the payload is known here
            return place in self.state.ending
        return bool(message.value.ends)

    def _is_settled(self, sender: Row, place: InstanceId, message: Message) -> bool:
        """Answer a message about a truncated or decided instance; True if that was all (protocol 4.3).

        Every handler but Commit relies on this test. A *request* is answered, since its sender does not know.
        Late answers to own requests are dropped instead: their sender is sent the Commit anyway, and such an
        echo would cost one message per instance and replica on the normal path. Of an instance in a checkpoint that
        is being merged nothing is said: it will be dropped here, and nothing learned of it now would be kept.
        """
        logs = self.state.logs
        if place.slot <= logs.truncated[place.row]:
            if isinstance(message, _REQUESTS):
                self.state.send((sender,), Truncated(place, tuple(logs.truncated)))
            return True
        instance = logs.get(place)
        if instance is None or instance.phase is not Phase.COMMITTED:
            return self.state.is_held(place)
        if isinstance(message, _REQUESTS):
            value = None if isinstance(message, Offer) and instance.value is not NOP else instance.value
            self.state.promise((sender,), Commit(place, value, instance.deps, instance.seq))
        return True

    def _on_commit(self, sender: Row, message: Commit) -> None:
        if message.id.slot > self.state.logs.truncated[message.id.row]:
            if self._commit.on_commit(message):
                self._dissemination.on_decision(sender, message)
            else:
                self._dissemination.on_payload_missing(sender, message.id)

    def _tick(self) -> None:
        for timer in self.state.timers.take_due(self.state.now):
            if timer.kind is TimerKind.FAST_PATH:
                self._commit.on_fast_path_timer(timer.id)
            elif timer.kind is TimerKind.RETRY:
                self._commit.on_retry_timer(timer.id)
            else:
                self._recovery.on_timer(timer.id)
        self._suspicion.sweep()
        if self._reads.waiting:
            self._reads.sweep()
