"""What the parts of one replica's core share: its log, its indexes, and the effects under construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt
from random import Random
from typing import Final

from epaxos.errors import InvariantError
from epaxos.protocol.backlog import Backlog
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Component, Decided, Effects, Ended, Hold
from epaxos.protocol.epaxos.conflicts import Conflicts, Executed, executed_of, is_read_off
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.epaxos.timers import Timers
from epaxos.protocol.execution.executor import Executor
from epaxos.protocol.ids import InstanceId, Row, Slot, Vector, covers
from epaxos.protocol.log import NOP, Instance, Logs, Phase, Value
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.roundtrips import RoundTrip

_EQUALLY_NEAR: Final = 0.001
"""Seconds by which round trips may differ between peers that are equally near."""

_UNKNOWN: Final = math.inf

_SOONEST, _LATEST = 0.75, 1.25
"""Of what a deadline is to be, the part between which it is drawn."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a core works; times in seconds.

    preferred          all peers, in the order in which `thrifty` asks those that are equally near; those behind the
                       own row if empty
    fast_path_timeout  how long a coordinator that has a slow quorum waits for a fast one
    retry              first interval before an unanswered message is sent again; it doubles
    retry_limit        longest such interval
    recovery_timeout   how long an undecided instance may be silent before others recover it; doubles
    recovery_retries   how often a recovery sends again before it begins anew at a higher ballot
    ahead              how many slots, above the highest own one whose record is durable, may be used without a record
                       of the proposal (protocol 4.11b); never to be less than a replica has run with before

    All times but `fast_path_timeout` are the least: where round trips are measured to be longer, those count.

    retain             bytes of executed instances that are kept for peers that missed them
    tells              whether cuts tell what is new since the one before them, of which a checkpoint is made; else
                       whoever wants one takes all that there is
    """

    row: Row
    quorums: Quorums
    thrifty: bool = False
    preferred: tuple[Row, ...] = ()
    fast_path_timeout: float = 0.05
    retry: float = 0.2
    retry_limit: float = 2.0
    recovery_timeout: float = 1.0
    recovery_retries: int = 4
    ahead: int = 0
    retain: int = 16 * 1024 * 1024
    tells: bool = True


@dataclass(slots=True)
class Suspect:
    """An undecided instance: when to recover it (seconds), how often that was tried already.

    left  whether it has been left to an owner that came back
    """

    due: float
    attempts: int = 0
    left: bool = False


class State:
    """One replica's consensus state; owned by one `EPaxos` and changed only by its handlers.

    `preferred` holds the peers in the order in which they are asked where not all are, `round_trips` what was measured
    with each replica. Without a vote (`votes`) the own row is behind those of all that have one, and has no log.
    `effects` and `now` belong to the event under way. `seen[r]` is the highest slot of row r heard of by
    any means, `floors[r]` the one up to which its owner may have forgotten what it proposed.
    `online` holds the peers that the driver believes reachable, `told` how far each replica has said that it
    has committed. `suspects` are the undecided
    instances that somebody may have to recover. `conflicts` and `executed` are the indexes `known` and `executed` of
    protocol 4.2; `executions` has what has executed since the last cut, which `executed` does not know yet
    (`checkpoint`), and `touched` how many keys that has touched. `collections` are those in the log, and perhaps
    some dropped ones; `ending` the barriers that may still end the epoch, as they are not known to be annulled;
    `ended` what a peer has said of its end. While `hold` stands, nothing executes. `coverage` counts which decisions
    were taken, for tests and for people; nothing depends on it.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        n = settings.quorums.n
        self.settings = settings
        self.random = random
        self.me = settings.row
        self.n = n
        self.quorums = settings.quorums
        self.peers: tuple[Row, ...] = tuple(row for row in range(n) if row != settings.row)
        # Beginning behind the own row spreads the load of a cluster evenly over its replicas.
        behind = (*range(self.me + 1, n), *range(self.me))
        self._ring: tuple[Row, ...] = settings.preferred or behind
        self.preferred = self._ring
        self.votes = self.me < n
        self.round_trips = [RoundTrip() for _ in range(n)]
        self.online: set[Row] = set(self.peers)
        self.logs = Logs(n)
        self.conflicts = Conflicts(n, compares=self.votes)
        self.executed = Conflicts(n)
        self.executor = Executor(n)
        self.executions: Backlog[Executed] = Backlog()
        self.touched: float = 0
        self.collections: set[InstanceId] = set()
        self.ending: set[InstanceId] = set()
        self.ended: Ended | None = None
        self.hold: Hold | None = None
        self.timers = Timers()
        self.seen: list[Slot] = [-1] * n
        self.floors: list[Slot] = [-1] * n
        self.told: list[Vector] = [(-1,) * n] * n
        self.suspects: dict[InstanceId, Suspect] = {}
        self.coverage: dict[str, int] = {}
        self.now = 0.0
        self.effects: Effects[Message] = Effects()

    @property
    def own(self) -> dict[Slot, Instance]:
        """What the log has of the own row."""
        return self.logs.rows[self.me] if self.votes else {}

    def begin(self, now: float) -> None:
        """Start an event: nothing asked of the driver yet."""
        if now > self.now:  # noqa: PLR1730 - a call in each event
            self.now = now
        self.effects = Effects()

    def send(self, receivers: Sequence[Row], message: Message) -> None:
        """Send a message that promises nothing."""
        self.effects.messages.append((receivers, message))

    def promise(self, receivers: Sequence[Row], message: Message) -> None:
        """Send a message once the records of this event are durable."""
        self.effects.promises.append((receivers, message))

    def propose(self, receivers: Sequence[Row], message: Message) -> None:
        """Send a proposal that may be forgotten, best before the records of its round are written (4.11b)."""
        self.effects.early.append((receivers, message))

    def record(self, instance: Instance) -> None:
        """Make the instance durable as it is at the end of this event."""
        self.effects.records.append(instance)

    def hear_of(self, vector: Sequence[Slot]) -> None:
        """Note that slots up to `vector` have been spoken of."""
        if any(map(gt, vector, self.seen)):
            self.seen[:] = map(max, vector, self.seen)

    def hear_of_instance(self, place: InstanceId) -> None:
        """Note that a place has been spoken of."""
        self.seen[place.row] = max(place.slot, self.seen[place.row])

    def cover_floors(self, floors: Sequence[Slot]) -> None:
        """Cover in every later answer and proposal what owners may have forgotten (protocol 4.11b)."""
        if any(map(gt, floors, self.floors)):
            self.floors[:] = map(max, floors, self.floors)
            self.conflicts.raise_vectors(self.logs.no_deps, tuple(self.floors))
            self.hear_of(self.floors)

    def raise_vectors(self, vectors: Sequence[Vector]) -> None:
        """Take over what a checkpoint says of whole rows (`Core.vectors`)."""
        if vectors:
            self.conflicts.raise_vectors(*vectors[:2])
            self.executed.raise_vectors(*vectors[2:])

    def is_held(self, place: InstanceId) -> bool:
        """Whether an instance has executed at the peer whose checkpoint is being merged."""
        hold = self.hold
        return hold is not None and (covers(hold.executed, place) or place in hold.above)

    def cover(self, case: str) -> None:
        """Count that a decision of this name was taken."""
        self.coverage[case] = self.coverage.get(case, 0) + 1

    def suspect(self, place: InstanceId) -> None:
        """See to it that an instance is recovered, by somebody, if it is undecided and stays silent."""
        instance = self.logs.get(place)
        decided = instance is not None and instance.phase is Phase.COMMITTED
        if place not in self.suspects and not decided and place.slot > self.logs.truncated[place.row]:
            self.suspects[place] = Suspect(self.now + self.patience(place, 0))

    def postpone(self, place: InstanceId) -> None:
        """Somebody else is at work on an instance: give it time."""
        suspect = self.suspects.get(place)
        if suspect is not None:
            suspect.due = max(suspect.due, self.now + self.patience(place, suspect.attempts))

    def patience(self, place: InstanceId, attempts: int) -> float:
        """How long (seconds) to leave an instance alone before this replica recovers it.

        The next replica after the owner comes first, the owner itself last, since its own recovery annuls the
        instance. An owner that is there goes on asking for as long as it takes, so others step in late: where
        they come too early, what was annulled is proposed again and meets the same delay. Of an owner that the
        driver reports unreachable nothing is expected any more; nor of one whose ballot 0 has been promised away
        here: it was told so and has stopped asking, and whoever took over may have lost its quorum since.
        """
        return self._wait(place, attempts) * (_SOONEST + (_LATEST - _SOONEST) * self.random.random())

    def _wait(self, place: InstanceId, attempts: int) -> float:
        instance = self.logs.get(place)
        is_taken_over = instance is not None and instance.bal > 0
        base = self._wait_for(place.row, is_taken_over=is_taken_over)
        doubled: float = base * 2 ** min(attempts, 5)
        return doubled

    def _wait_for(self, row: Row, *, is_taken_over: bool) -> float:
        return self._leave(row, self.quorum_round_trip, is_taken_over=is_taken_over)

    def _leave(self, row: Row, quorum: float, *, is_taken_over: bool) -> float:
        """The same, where a quorum takes so long to answer."""
        settings = self.settings
        rank = (self.me - row) % self.n or self.n
        if (row == self.me or row in self.online) and not is_taken_over:
            # To its quorum the owner has no longer way than over here.
            return max(settings.recovery_timeout, self.round_trips[row].longest + quorum) * (4 + rank)
        return max(settings.retry / 2, quorum) * rank

    def bring_forward(self) -> None:
        """Wait no longer than one would who began to wait now.

        A deadline is many times what round trips were when it was set. Where they were seconds, since links were full,
        it would lie minutes after that is over, and all that depends on the instance would wait as long. Nor has an
        owner the time any more that it was given before its ballot 0 was promised away.
        """
        if not self.suspects:
            return
        # Nearly all suspects were never tried and are their owner's yet; their deadlines are looked at no further.
        quorum = self.quorum_round_trip
        usual = [self.now + _LATEST * self._leave(row, quorum, is_taken_over=False) for row in range(self.n)]
        for place, suspect in self.suspects.items():
            due, attempts = suspect.due, suspect.attempts
            if due > usual[place.row] and due > self.now + _LATEST * self._wait(place, attempts):
                suspect.due = self.now + self.patience(place, attempts)
                self.cover("deadline brought forward")

    def measured(self, peer: Row, seconds: float) -> None:
        """A round trip with a peer took so long: from now on the nearest are preferred.

        Those that are about equally near stay in the order of the settings, which spreads the load.
        """
        self.round_trips[peer].measured(seconds)
        self._prefer_near()

    def met(self, peer: Row, trip: RoundTrip) -> None:
        """A peer is known of before this epoch."""
        self.round_trips[peer] = trip
        self._prefer_near()

    def _prefer_near(self) -> None:
        means = [trip.mean for trip in self.round_trips]
        nearest = min(filter(None, means), default=0.0)  # the own one is never measured
        same = max(nearest / 4, _EQUALLY_NEAR)
        far: list[float] = [int(mean / same) if mean else _UNKNOWN for mean in means]
        self.preferred = tuple(sorted(self._ring, key=far.__getitem__))

    @property
    def decided_elsewhere(self) -> Vector:
        """Up to where peers that are there have decided each row."""
        return tuple(
            map(max, zip(self.logs.no_deps, *(self.told[peer] for peer in self.online), strict=True))
        )

    @property
    def quorum_round_trip(self) -> float:
        """How long a slow quorum takes to answer at most, by what was measured; 0 if nothing was."""
        needed = self.quorums.slow - 1
        longest = sorted(self.round_trips[peer].longest for peer in self.online)
        return longest[min(needed, len(longest)) - 1] if needed and longest else 0.0

    def may_ask(self, peer: Row, asked_at: float) -> bool:
        """Whether a peer that was asked at some time has had the time to answer."""
        return self.now >= asked_at + self.round_trips[peer].longest

    def learn_payload(self, instance: Instance, value: Value) -> None:
        """Remember a payload for good: it stays in the conflict index whatever is decided (protocol 1, D)."""
        if value is NOP or instance.orig is not None:
            return
        instance.orig = value
        self.know(instance.id, value)

    def know(self, place: InstanceId, command: Command) -> None:
        """Cover a payload of the log in every later answer."""
        self.conflicts.cover(place, command)
        if command.base is not None:
            truncated = self.logs.truncated
            self.collections = {known for known in self.collections if known.slot > truncated[known.row]}
            self.collections.add(place)
        if command.ends and not self.is_annulled(place):
            self.ending.add(place)

    @property
    def quiet(self) -> bool:
        """Whether the end of the epoch is in sight, so that nothing more is proposed in it (protocol 6.5, 6.6)."""
        return bool(self.ending) or self.ended is not None

    def forget_annulled_barriers(self) -> None:
        """What an adopted checkpoint has executed without coming to the end was annulled, if it was a barrier."""
        self.ending = {place for place in self.ending if not self.executor.has_executed(place)}

    def is_annulled(self, place: InstanceId) -> bool:
        """Whether an instance is decided, and as a no-op."""
        instance = self.logs.get(place)
        return instance is not None and instance.phase is Phase.COMMITTED and instance.value is NOP

    def attributes(self, place: InstanceId, command: Command) -> tuple[Vector, int]:
        """The conflicts of a payload that this replica knows, and its sequence number (protocol 4.4).

        Only the owner of `place` speaks of its row; elsewhere that column is left at -1.
        The sequence number is one more than that of the highest conflicting instance of each row. It orders
        the members of a component and decides nothing else, so looking at one instance per row is enough.
        """
        deps = self.conflicts.deps(command, place.row, own=place.row == self.me)
        if command.ends and place.row == self.me:  # so that the cut has no holes (protocol 6.3)
            deps = (*deps[: self.me], place.slot - 1, *deps[self.me + 1 :])
        seq = -1
        for row, slot in enumerate(deps):
            if slot >= 0:
                instance = self.logs.rows[row].get(slot)
                if instance is not None and instance.seq > seq:
                    seq = instance.seq
        return deps, seq + 1

    def commit(self, instance: Instance, value: Value, deps: Vector, seq: int) -> None:
        """Decide an instance, from whatever source, and execute what that allows (protocol 4.6).

        Raises:
            InvariantError: it was decided before, differently.
        """
        if instance.phase is Phase.COMMITTED:
            if (value, deps, seq) != (instance.value, instance.deps, instance.seq):
                raise InvariantError(f"two decisions: {instance!r} and {value!r} deps={deps} seq={seq}")
            return
        if value is NOP and (seq or any(slot >= 0 for slot in deps)):
            raise InvariantError(f"a no-op with dependencies: {instance.id} deps={deps} seq={seq}")
        place = instance.id
        self.suspects.pop(place, None)
        instance.phase = Phase.COMMITTED
        instance.value, instance.deps, instance.seq = value, deps, seq
        self.learn_payload(instance, value)
        if value is NOP:
            self.ending.discard(place)
        self.record(instance)
        self.hear_of(deps)
        logs = self.logs
        if place.slot == logs.committed[place.row] + 1:
            logs.advance_committed(place.row)
        if self.hold is None:
            decided = Decided(place, value, deps, seq)
            self._execute(self.executor.decide(decided, logs.committed[place.row]))

    def _execute(self, components: Sequence[Component]) -> None:
        self.effects.executions += components
        for component in components:
            self.executions.coming += [self._executed_of(decided) for decided in component]
        if components:
            self.effects.over = self.executor.over

    def _executed_of(self, decided: Decided) -> Executed:
        """What is kept of it until the next cut: its keys too, unless that reads them off what is known."""
        done = executed_of(decided.id, decided.value)
        self.touched += len(done.reads) + len(done.writes)
        return done.lean() if is_read_off(self.conflicts, self.touched) else done

    def execute_decided(self) -> None:
        """Give everything in the log that is decided, and has not executed, to a fresh `executor`."""
        executor = self.executor
        for row, instances in enumerate(self.logs.rows):
            decided_up_to = executor.executed[row]
            for slot in sorted(slot for slot in instances if slot > decided_up_to):
                instance = instances[slot]
                if instance.phase is not Phase.COMMITTED or instance.value is None:
                    continue
                decided_up_to += slot == decided_up_to + 1
                if not executor.has_executed(instance.id):
                    decided = Decided(instance.id, instance.value, instance.deps, instance.seq)
                    self._execute(executor.decide(decided, decided_up_to))
            self._execute(executor.advance(row, self.logs.committed[row]))
