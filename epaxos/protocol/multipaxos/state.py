"""What the parts of one replica's core share: its log, its promise, and the effects under construction.

**Two rows.** Row 0 is the log of commands. Row 1 has one record at slot 0, the VIEW, which is never decided: its `bal`
is the ballot promised for all slots, its `deps[0]` up to where decisions are known *and* stand in the own durable
records (multipaxos 2, rule 10).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

from epaxos.errors import InvariantError
from epaxos.protocol.backlog import Backlog
from epaxos.protocol.contract import Decided, Effects, Over
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Instance, Logs, Phase, Value
from epaxos.protocol.multipaxos.messages import NOBODY, Message
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.roundtrips import RoundTrip

ROWS: Final = 2
LOG: Final[Row] = 0
VIEW: Final = InstanceId(1, 0)

FARTHEST_SLOT: Final = 10_000_000
"""How far above all that a replica has a slot may be that it hears of: who lags more learns decisions first."""

FARTHEST_BALLOT: Final = 2**40
"""How far above all that a replica knows a ballot may be: more campaigns than there ever are."""


class Learn(StrEnum):
    """How followers learn what is chosen: from everybody's votes, or from the leader when it has counted them."""

    VOTES = "votes"
    COMMITS = "commits"


class Executed(NamedTuple):
    """What is kept of an executed instance until the next cut: as objects, since its payload may let go of its own."""

    slot: Slot
    writes: Collection[bytes]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a core works; times in seconds.

    learn        votes to all save a one-way delay and cost n * n small messages a command
    beacon       interval of the beacons, without which nobody can tell how others are
    retry        first interval before an unanswered message is sent again; it doubles
    retry_limit  longest such interval
    timeout      how long a leader has for each thing that it must show: followers, progress
    retain       bytes of executed instances that are kept for peers that missed them
    tells        whether cuts tell what is new since the one before them, of which a checkpoint is made; else whoever
                 wants one takes all that there is

    The times are the least: where beacons or round trips take longer, those count.
    """

    row: Row
    quorums: Quorums
    learn: Learn = Learn.VOTES
    beacon: float = 0.1
    retry: float = 0.2
    retry_limit: float = 2.0
    timeout: float = 1.0
    retain: int = 16 * 1024 * 1024
    tells: bool = True


class State:
    """One replica's consensus state; owned by one `MultiPaxos` and changed only by its handlers.

    Without a vote (`votes`) the own row is behind those of all that have one.
    `promised` is the ballot of the VIEW, `known` the highest one heard of. `log` is row 0 by slot, `top` the highest
    slot that ever had a record, `told` how far a peer has said that it has decided. `executed` is the last slot given
    to execute, `executions` what was since the last cut; while `held`, nothing executes, nor once the epoch is `over`.
    `ending` are the slots at which barriers are known and have not executed, `ended` whether a peer has said that the
    epoch is over. `online` holds the peers that
    the driver believes reachable. `effects` and `now` belong to the event under way. `coverage` counts which decisions
    were taken, for tests and for people; nothing depends on it.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        n = settings.quorums.n
        self.settings = settings
        self.random = random
        self.me = settings.row
        self.n = n
        self.votes = self.me < n
        self.quorum = settings.quorums.slow
        self.everybody: tuple[Row, ...] = tuple(range(n))
        self.peers: tuple[Row, ...] = tuple(row for row in range(n) if row != settings.row)
        self.online: set[Row] = set(self.peers)
        self.round_trips = [RoundTrip() for _ in range(n)]
        self.logs = Logs(ROWS)
        self.view = Instance(VIEW, self.logs.no_deps)
        self.known: Ballot = NOBODY
        self.top: Slot = -1
        self._voted: tuple[Ballot, Slot] = (NOBODY, -1)
        self._decided: Slot = -1
        self.told: Slot = -1
        self.executed: Slot = -1
        self.executions: Backlog[Executed] = Backlog()
        self.held = False
        self.ending: set[Slot] = set()
        self.ended = False
        self.over: Over | None = None
        self.coverage: dict[str, int] = {}
        self.now = 0.0
        self.effects: Effects[Message] = Effects()
        self._view_changed = False

    # -- an event ------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start an event: nothing asked of the driver yet."""
        self.now = max(now, self.now)
        self.effects = Effects()
        self._view_changed = False

    def end(self) -> Effects[Message]:
        """End it. The VIEW comes after the votes of which it speaks: a crash may keep any beginning of the records."""
        records = self.effects.records
        if self._view_changed or (records and self.view.deps[LOG] < self.committed):
            self.view.deps = (self.committed, -1)
            records.append(self.view)
        return self.effects

    def note_view(self) -> None:
        """Have the VIEW say how far all is decided, if it does not: else a restart would not know which votes count."""
        self._view_changed |= self.view.deps[LOG] < self.committed

    def send(self, receivers: Sequence[Row], message: Message) -> None:
        """Send a message that promises nothing."""
        self.effects.messages.append((receivers, message))

    def promise(self, receivers: Sequence[Row], message: Message) -> None:
        """Send a message once the records of this event are durable."""
        self.effects.promises.append((receivers, message))

    def cover(self, case: str) -> None:
        """Count that a decision of this name was taken."""
        self.coverage[case] = self.coverage.get(case, 0) + 1

    # -- the log -------------------------------------------------------------------------------------------

    @property
    def log(self) -> dict[Slot, Instance]:
        """Row 0 of the log."""
        return self.logs.rows[LOG]

    @property
    def committed(self) -> Slot:
        """Up to where all slots are decided here."""
        return self.logs.committed[LOG]

    @property
    def truncated(self) -> Slot:
        """Up to where the log is dropped."""
        return self.logs.truncated[LOG]

    @property
    def seen(self) -> Slot:
        """The highest slot that is decided somewhere, or proposed by the leader of the highest ballot.

        What others proposed before and no quorum has kept need never be decided.
        """
        ballot, slot = self._voted
        return max(self.last_decided, self.told, slot if ballot == self.known else -1)

    @property
    def promised(self) -> Ballot:
        """The ballot below which this replica votes no more."""
        return self.view.bal

    def raise_promise(self, ballot: Ballot) -> None:
        """Promise a ballot, at all slots; durable with the records of this event."""
        if ballot > self.view.bal:
            self.view.bal = ballot
            self._view_changed = True
        self.hear_of(ballot)

    def hear_of(self, ballot: Ballot) -> None:
        """Note that a ballot has been spoken of."""
        self.known = max(ballot, self.known)

    def is_near(self, ballot: Ballot, slot: Slot) -> bool:
        """Whether a ballot and a slot that a peer speaks of can be in use.

        Others can not: they would leave no room for what comes after, or make the log a gap without an end.
        """
        if ballot <= self.known + FARTHEST_BALLOT and slot <= max(self.top, self.committed) + FARTHEST_SLOT:
            return True
        self.cover("heard of what cannot be")
        return False

    def loaded(self, record: Instance) -> None:
        """Take a record of before a restart."""
        slot = record.id.slot
        self.log[slot] = record
        self.top = max(slot, self.top)
        self._voted = max((record.abal, slot), self._voted)
        self._note_end(record)
        if record.phase is Phase.COMMITTED:
            self._decided = max(slot, self._decided)

    @property
    def quiet(self) -> bool:
        """Whether the end of the epoch is in sight."""
        return self.ended or (self.over is None and any(slot > self.executed for slot in self.ending))

    def _note_end(self, instance: Instance) -> None:
        value = instance.value
        if value is not None and value is not NOP and value.ends:
            self.ending.add(instance.id.slot)
        else:
            self.ending.discard(instance.id.slot)

    def ensure(self, slot: Slot) -> Instance:
        """The record of a slot, made empty if there is none; not for truncated ones."""
        instance = self.log.get(slot)
        if instance is None:
            instance = self.logs.ensure(InstanceId(LOG, slot))
            instance.deps = prefix(slot)
            self.top = max(slot, self.top)
        return instance

    @property
    def last_decided(self) -> Slot:
        """The highest slot that is decided here; below it some may not be."""
        return max(self.committed, self._decided)

    def decided(self, slot: Slot) -> Instance | None:
        """The record of a slot that is decided here and not dropped."""
        instance = self.log.get(slot)
        return instance if instance is not None and instance.phase is Phase.COMMITTED else None

    def vote(self, slot: Slot, ballot: Ballot, value: Value) -> None:
        """Enter a vote into the log: at its leader, or at an acceptor that may vote (multipaxos 2, rule 2)."""
        instance = self.ensure(slot)
        if instance.phase is Phase.COMMITTED or ballot < self.promised:
            raise InvariantError(f"a vote at {ballot}, with {self.promised} promised, for {instance!r}")
        if instance.phase is Phase.ACCEPTED and instance.value != value:
            self.cover("voted anew for another value")
        instance.bal = instance.abal = ballot
        instance.phase = Phase.ACCEPTED
        self._put(instance, value)
        self.effects.records.append(instance)
        self.raise_promise(ballot)
        self._voted = max((ballot, slot), self._voted)

    def _put(self, instance: Instance, value: Value) -> None:
        instance.value = value
        if value is not NOP:
            instance.orig = value
        self._note_end(instance)

    def decide(self, slot: Slot, value: Value) -> None:
        """Take a decision, from whatever source.

        What the own vote says already needs no record: that it is decided follows from everybody's votes, and the VIEW
        says it later. A value that stands in no own record gets one before the VIEW may cover it (rule 10).

        Raises:
            InvariantError: it was decided before, differently.
        """
        instance = self.ensure(slot)
        if instance.phase is Phase.COMMITTED:
            if instance.value != value:
                raise InvariantError(f"two decisions: {instance!r} and {value!r}")
            return
        if instance.phase is not Phase.ACCEPTED or instance.value != value:
            self.cover(
                "decision differs from the own vote" if instance.value is not None else "decision told"
            )
            self._put(instance, value)
            self.effects.records.append(instance)
        instance.phase = Phase.COMMITTED
        self._decided = max(slot, self._decided)
        if slot == self.committed + 1:
            self.logs.advance_committed(LOG)

    def execute(self) -> list[tuple[Slot, Value]]:
        """Give to execute what is decided without gap, and say what; nothing while a checkpoint is being merged.

        Nor behind a barrier, with which the epoch ends: that all up to it is decided has to be durable then, since from
        there a restart comes to the next epoch.
        """
        given: list[tuple[Slot, Value]] = []
        while not self.held and self.over is None and self.executed < self.committed:
            self.executed += 1
            instance = self.log[self.executed]
            assert instance.value is not None
            component = (Decided(instance.id, instance.value, instance.deps, 0),)
            self.effects.executions.append(component)
            writes = () if instance.value is NOP or not self.settings.tells else instance.value.writes
            self.executions.coming.append(Executed(self.executed, writes))
            given.append((self.executed, instance.value))
            if instance.value is not NOP and instance.value.ends:
                self.over = self.effects.over = Over(component[0], (self.executed, -1))
                self.note_view()
                self.cover("epoch over")
        return given

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def quorum_round_trip(self) -> float:
        """How long a quorum takes to answer at most, by what was measured; 0 if nothing was."""
        needed = self.quorum - 1
        longest = sorted(self.round_trips[peer].longest for peer in self.online)
        return longest[min(needed, len(longest)) - 1] if needed and longest else 0.0

    def met(self, peer: Row, trip: RoundTrip) -> None:
        """A peer is known of before this epoch."""
        self.round_trips[peer] = trip

    @property
    def unit(self) -> float:
        """In what all patience is measured, in seconds: some beacons and round trips fit into it."""
        settings = self.settings
        return max(settings.timeout, 8 * settings.beacon, 4 * self.quorum_round_trip)

    def may_ask(self, peer: Row, asked_at: float) -> bool:
        """Whether a peer that was asked at some time has had the time to answer."""
        return self.now >= asked_at + self.round_trips[peer].longest


def prefix(slot: Slot) -> Vector:
    """What a slot depends on: all before it."""
    return (slot - 1, -1)
