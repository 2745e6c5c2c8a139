"""How an instance is committed without recovery: PreAccept, Accept, Commit, both sides (protocol 4.5, 4.6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from operator import gt
from typing import Final

from epaxos.errors import InvariantError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import CommitNote
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Commit,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
)
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.epaxos.timers import TimerKind
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector, covers
from epaxos.protocol.log import NOP, Instance, Phase, Proposal, Value

HASTENED: Final = 16
"""Instances that a peer is asked about at once when it is there again."""


class Stage(IntEnum):
    """Which answers a coordinator collects."""

    PRE = 1
    ACC = 2


class Leading:
    """A coordinator's volatile state for one instance.

    answers    PreAcceptOK's (deps, seq) or AcceptOK's nothing, by sender: a second copy changes nothing
    same       how many answers left the dependencies as proposed
    asked      when each peer was last asked in the current stage, of those that were
    holders    when each peer was last sent the payload, of those that need it no more
    interval   seconds between the last two sendings
    retry_at   when to send again; a timer that comes up earlier belongs to a stage that is over
    path       how the instance will have been committed, for metrics
    """

    __slots__ = (
        "answers",
        "asked",
        "ballot",
        "holders",
        "instance",
        "interval",
        "path",
        "retry_at",
        "same",
        "stage",
        "started",
    )

    def __init__(
        self, instance: Instance, stage: Stage, ballot: Ballot, started: float, interval: float
    ) -> None:
        self.instance = instance
        self.stage = stage
        self.ballot = ballot
        self.started = started
        self.interval = interval
        self.answers: dict[Row, tuple[Vector, int] | None] = {}
        self.retry_at = 0.0
        self.same = 0
        self.asked: dict[Row, float] = {}
        self.holders: dict[Row, float] = {}
        self.path = "fast"


class CommitProtocol:
    """The normal path of the protocol, at the replica that owns `state`.

    `leading` holds what this replica coordinates, at any ballot; `open` the instances that it proposed since it
    started, which was at `first_slot`, and that are not decided. `on_committed` is called with every instance that is
    decided.

    While a barrier is known here that may end the epoch, this `is_quiet`: commands are `kept`, so that what the barrier
    depends on does not go on growing, and nobody waits for a fast quorum (protocol 6.5).
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._next_slot = 0
        self._durable_slot: Slot = -1
        self.first_slot = 0
        self.leading: dict[InstanceId, Leading] = {}
        self.open: set[InstanceId] = set()
        self.kept: list[Command] = []
        self.is_quiet = False
        self.on_committed: Callable[[InstanceId], None] = _nothing

    # -- the owner at ballot 0 ----------------------------------------------------------------------------

    def propose(self, command: Command) -> None:
        """Put a command into a slot of the own row that was never used (protocol 4.5), or keep it for a while."""
        state = self._state
        if state.quiet:
            state.cover("kept for the end")
            self.kept.append(command)
            return
        if command.base is not None and any(map(gt, command.base, state.seen)):
            raise InvariantError(f"base {command.base} of what is proposed is above all that was heard of")
        settings = state.settings
        slot = max(self._next_slot, state.seen[state.me] + 1)
        self._next_slot = slot + 1
        place = InstanceId(state.me, slot)
        deps, seq = state.attributes(place, command)
        if state.logs.get(place) is not None:
            raise InvariantError(f"{place} was used before")
        instance = state.logs.ensure(place)
        leading = Leading(instance, Stage.PRE, 0, state.now, settings.retry)
        self.leading[place] = leading
        self.open.add(place)
        self._enter(instance, Proposal(command, deps, seq), deps, seq)
        may_forget = self._may_forget(slot, command)
        self._ask(leading, self._first_asked(state.quorums.fast), early=may_forget)
        if may_forget:
            leading.answers[state.me] = (deps, seq)
            leading.same = 1
            state.cover("proposed without a record")
        else:
            state.record(instance)
            state.promise((state.me,), PreAcceptOK(place, deps, seq))
        self._set_retry(leading, settings.retry)

    def _may_forget(self, slot: Slot, command: Command) -> bool:
        """Whether to propose without a record, so that the first one is that of the decision (protocol 4.11b).

        A restart finds the slot below the floor that follows from the highest durable one. What is below a floor is
        covered without its base, so a collection has to be remembered. A lone replica has nobody to ask.
        """
        highest, state = self._durable_slot, self._state
        is_near = highest >= 0 and slot <= highest + state.settings.ahead
        return is_near and command.base is None and bool(state.peers)

    def on_durable(self, place: InstanceId) -> None:
        """A message to itself has come: the record of its instance is durable.

        With its payload, or it does not count: a no-op that a restart votes for is none of what it proposed (4.11b).
        """
        if place.row == self._state.me and place.slot >= self.first_slot:
            self._durable_slot = max(place.slot, self._durable_slot)

    def _enter(self, instance: Instance, init: Proposal, deps: Vector, seq: int) -> None:
        """Enter a proposal into the log, at its owner or at an acceptor."""
        state = self._state
        instance.init = init
        instance.value, instance.deps, instance.seq = init.command, deps, seq
        instance.phase = Phase.PREACCEPTED
        state.learn_payload(instance, init.command)
        state.hear_of_instance(instance.id)
        state.hear_of(deps)

    def _first_asked(self, quorum: int) -> Sequence[Row]:
        """Whom to ask first: all who are online, or with `thrifty` the preferred ones of a quorum.

        Narrowing is an optimisation of the first sending only; the retry widens it to everybody.
        """
        state = self._state
        wanted = quorum - 1
        peers = [peer for peer in state.preferred if peer in state.online]
        if len(peers) < wanted:
            peers = list(state.preferred)
        return sorted(peers[:wanted] if state.settings.thrifty else peers)

    def _ask(self, leading: Leading, peers: Sequence[Row], *, early: bool = False) -> None:
        """Send the current stage's message, to whom the payload was sent before without it.

        Nothing is lost by that: a peer that lacks the payload says so (`on_missing`). Sent again and again, payloads
        would fill the links which are the reason for their being late.
        """
        state, instance = self._state, leading.instance
        place, value = instance.id, instance.value
        leading.asked |= dict.fromkeys(peers, state.now)
        annuls = leading.stage is Stage.ACC and value is NOP
        knowing = () if annuls else tuple(peer for peer in peers if peer in leading.holders)
        unknowing = tuple(peer for peer in peers if peer not in knowing)
        short: Message
        whole: Message
        if leading.stage is Stage.ACC:
            whole = Accept(place, leading.ballot, value, instance.deps, instance.seq)
            short = whole._replace(value=None)
        else:
            assert instance.init is not None
            short, whole = Offer(place), PreAccept(place, *instance.init)
        if not annuls:
            leading.holders |= dict.fromkeys(unknowing, state.now)
        if knowing:
            state.promise(knowing, short)
        if unknowing:
            (state.propose if early else state.promise)(unknowing, whole)

    def on_pre_accept_ok(self, sender: Row, message: PreAcceptOK) -> None:
        """Collect an answer; commit on the fast path or go to the slow one as soon as that is decided."""
        state = self._state
        state.hear_of(message.deps)
        leading = self.leading.get(message.id)
        if leading is None or leading.stage is not Stage.PRE or sender in leading.answers:
            return
        instance = leading.instance
        if instance.bal != 0 or instance.phase is not Phase.PREACCEPTED or instance.init is None:
            return
        leading.answers[sender] = (message.deps, message.seq)
        if message.deps == instance.init.deps:
            leading.same += 1
        quorums = state.quorums
        if leading.same >= quorums.fast:
            self._decide(leading, instance.init.command, instance.init.deps, instance.init.seq)
        elif len(leading.answers) >= quorums.slow:
            outstanding = len(leading.asked.keys() - leading.answers.keys())
            if leading.same + outstanding < quorums.fast or state.quiet:
                self._slow_path(leading)
            elif len(leading.answers) == quorums.slow:
                deadline = state.now + state.settings.fast_path_timeout
                state.timers.set(deadline, TimerKind.FAST_PATH, message.id)

    def mind_barriers(self) -> None:
        """After each event: begin to be quiet, or go on, as soon as there is a reason (protocol 6.5)."""
        state = self._state
        quiet = state.quiet
        if quiet == self.is_quiet:
            return
        self.is_quiet = quiet
        if quiet:
            for leading in list(self.leading.values()):
                if leading.stage is Stage.PRE and len(leading.answers) >= state.quorums.slow:
                    self.on_fast_path_timer(leading.instance.id)
            return
        kept, self.kept = self.kept, []
        for command in kept:
            self.propose(command)
        self.is_quiet = state.quiet

    def left(self) -> list[Command]:
        """What was proposed or kept here and has not executed, when the epoch is over; without collections."""
        state = self._state
        own = state.own
        proposed = [
            instance.orig
            for slot in sorted(own)
            if slot >= self.first_slot
            and (instance := own[slot]).orig is not None
            and not state.is_annulled(instance.id)
            and not state.executor.has_executed(instance.id)
        ]
        return [command for command in (*proposed, *self.kept) if command.base is None]

    def on_fast_path_timer(self, place: InstanceId) -> None:
        """Stop waiting for a fast quorum (protocol 4.9, timer 2)."""
        leading = self.leading.get(place)
        if leading is not None and leading.stage is Stage.PRE and leading.ballot == leading.instance.bal:
            self._slow_path(leading)

    def _slow_path(self, leading: Leading) -> None:
        """Propose the union of all answers by vote: everybody's conflicts are in it (protocol 4.5)."""
        assert leading.instance.init is not None
        answers = [answer for answer in leading.answers.values() if answer is not None]
        deps = tuple(map(max, *(answer[0] for answer in answers)))
        seq = max(answer[1] for answer in answers)
        leading.path = "slow"
        self.start_accept(leading, 0, leading.instance.init.command, deps, seq)

    # -- the coordinator of any ballot ---------------------------------------------------------------------

    def start_accept(self, leading: Leading, ballot: Ballot, value: Value, deps: Vector, seq: int) -> None:
        """Ask for votes on a value at `ballot`, which this replica has promised (protocol 4.6)."""
        state = self._state
        instance = leading.instance
        self._vote(instance, ballot, value, deps, seq)
        leading.stage, leading.ballot = Stage.ACC, ballot
        leading.answers = {}
        leading.asked = {}
        leading.interval = state.settings.retry
        self._ask(leading, self._first_asked(state.quorums.slow))
        state.promise((state.me,), AcceptOK(instance.id, ballot))
        self._set_retry(leading, leading.interval)

    def _vote(self, instance: Instance, ballot: Ballot, value: Value, deps: Vector, seq: int) -> None:
        """Enter a vote into the log, at its coordinator or at an acceptor."""
        state = self._state
        instance.bal = instance.abal = ballot
        instance.phase = Phase.ACCEPTED
        instance.value, instance.deps, instance.seq = value, deps, seq
        state.learn_payload(instance, value)
        state.hear_of_instance(instance.id)
        state.hear_of(deps)
        state.record(instance)

    def on_accept_ok(self, sender: Row, message: AcceptOK) -> None:
        """Collect a vote; a slow quorum of them decides."""
        leading = self.leading.get(message.id)
        if leading is None or leading.stage is not Stage.ACC or leading.ballot != message.ballot:
            return
        instance = leading.instance
        if not (instance.bal == instance.abal == message.ballot and instance.phase is Phase.ACCEPTED):
            return
        leading.answers[sender] = None
        if len(leading.answers) >= self._state.quorums.slow and instance.value is not None:
            self._decide(leading, instance.value, instance.deps, instance.seq)

    def _decide(self, leading: Leading, value: Value, deps: Vector, seq: int) -> None:
        """Commit as the coordinator, and tell everybody once the record is durable.

        Durable first even on the fast path: recovery concludes from an owner's uncommitted answer that no fast
        decision was made (protocol 4.5).
        """
        state = self._state
        instance = leading.instance
        note = CommitNote(instance.id, leading.path, state.now - leading.started)
        self.commit(instance, value, deps, seq)
        holders = tuple(peer for peer in state.peers if peer in leading.holders and value is not NOP)
        others = tuple(peer for peer in state.peers if peer not in holders)
        if holders:
            state.effects.deferrable.append((holders, Commit(instance.id, None, deps, seq)))
        if others:
            state.effects.deferrable.append((others, Commit(instance.id, value, deps, seq)))
        if instance.id.row == state.me and instance.id.slot > self._durable_slot + state.settings.ahead // 2:
            state.promise((state.me,), Commit(instance.id, None, deps, seq))
        state.effects.commits.append(note)
        state.cover(f"{leading.path} commit")

    def on_retry_timer(self, place: InstanceId) -> None:
        """Ask all again who have not answered and have had the time to (protocol 4.9, timer 1)."""
        state = self._state
        leading = self.leading.get(place)
        if leading is None or state.now < leading.retry_at:
            return
        never = -math.inf
        silent = [peer for peer in state.peers if peer not in leading.answers]
        self._ask(leading, [peer for peer in silent if state.may_ask(peer, leading.asked.get(peer, never))])
        leading.interval = min(2 * leading.interval, state.settings.retry_limit)
        self._set_retry(leading, leading.interval * (0.5 + state.random.random()))

    def on_missing(self, sender: Row, message: Missing) -> None:
        """Send a peer the payload that it lacks, unless that is under way: its answer was given before."""
        state = self._state
        leading = self.leading.get(message.id)
        if leading is None or sender in leading.answers:
            return
        if state.may_ask(sender, leading.holders.get(sender, -math.inf)):
            leading.holders.pop(sender, None)
            state.cover("payload sent again")
            self._ask(leading, (sender,))

    def hasten(self, peer: Row) -> None:
        """Ask a peer now that is there again: the intervals may have grown long meanwhile.

        Only what the retry timer would do, sooner; whoever was cut off would else be silent for seconds more about
        what it proposed, while others count it as there and leave that to it. Some are asked about at once, the
        others in turn, and all without payload: the peer says what it lacks.
        """
        state = self._state
        lacking = [leading for leading in self.leading.values() if peer not in leading.answers]
        for number, leading in enumerate(lacking):
            leading.interval = state.settings.retry
            if number < HASTENED:
                leading.holders.setdefault(peer, -math.inf)
                self._ask(leading, (peer,))
            self._set_retry(leading, leading.interval * (1 + number // HASTENED))

    def _set_retry(self, leading: Leading, after: float) -> None:
        leading.retry_at = self._state.now + after
        self._state.timers.set(leading.retry_at, TimerKind.RETRY, leading.instance.id)

    # -- the acceptor --------------------------------------------------------------------------------------

    def on_pre_accept(self, sender: Row, message: PreAccept) -> None:
        """Add the own conflicts to the owner's and promise to keep the payload (protocol 4.5)."""
        state = self._state
        instance = state.logs.ensure(message.id)
        if instance.bal == 0 and instance.phase is Phase.PREACCEPTED:
            self._answer_again(sender, instance)
            return
        if instance.bal != 0 or instance.phase is not Phase.INITIAL:
            state.send((sender,), Nack(message.id, instance.bal))
            return
        known, seq = state.attributes(message.id, message.command)
        deps = tuple(map(max, message.deps, known))
        init = Proposal(message.command, message.deps, message.seq)
        self._enter(instance, init, deps, max(message.seq, seq))
        state.record(instance)
        state.promise((sender,), PreAcceptOK(message.id, deps, instance.seq))

    def _answer_again(self, sender: Row, instance: Instance) -> None:
        """Never recomputed: the answer is a promise, and the first copy of it may have been counted."""
        self._state.promise((sender,), PreAcceptOK(instance.id, instance.deps, instance.seq))

    def on_offer(self, sender: Row, message: Offer) -> None:
        """Answer as to the PreAccept if that has come, else ask for it; promise nothing on the strength of this."""
        state = self._state
        instance = state.logs.get(message.id)
        if instance is None or (instance.bal == 0 and instance.phase is Phase.INITIAL):
            state.send((sender,), Missing(message.id))
        elif instance.bal == 0 and instance.phase is Phase.PREACCEPTED:
            self._answer_again(sender, instance)
        else:
            state.send((sender,), Nack(message.id, instance.bal))

    def on_accept(self, sender: Row, message: Accept) -> None:
        """Vote, unless a higher ballot was promised (protocol 4.6)."""
        state = self._state
        instance = state.logs.ensure(message.id)
        if instance.bal > message.ballot:
            state.send((sender,), Nack(message.id, instance.bal))
            return
        value = instance.orig if message.value is None else message.value
        if value is None:
            state.send((sender,), Missing(message.id))  # the PreAccept was lost
            return
        if message.ballot > instance.bal:
            self.leading.pop(message.id, None)
        self._vote(instance, message.ballot, value, message.deps, message.seq)
        state.promise((sender,), AcceptOK(message.id, message.ballot))

    def on_commit(self, message: Commit) -> bool:
        """Take a decision, at any ballot (protocol 1, H); False if its payload is not known here."""
        state = self._state
        instance = state.logs.ensure(message.id)
        state.hear_of_instance(message.id)
        value = instance.orig if message.value is None else message.value
        if value is None:
            return False
        self.commit(instance, value, message.deps, message.seq)
        return True

    def announce(self, instance: Instance, value: Value, deps: Vector, seq: int) -> None:
        """Take a decision that was found during a recovery, and tell everybody."""
        self.commit(instance, value, deps, seq)
        self._state.effects.deferrable.append((self._state.peers, Commit(instance.id, value, deps, seq)))

    def commit(self, instance: Instance, value: Value, deps: Vector, seq: int) -> None:
        """Decide an instance and forget what this replica was coordinating for it (protocol 4.6, 3.5)."""
        place = instance.id
        if self.leading.pop(place, None) is not None:
            self._state.timers.forget(self.leading)
        self._state.commit(instance, value, deps, seq)
        self.on_committed(place)
        if place in self.open:
            self.open.remove(place)
            if value is NOP and instance.orig is not None:
                # Somebody annulled what a client here waits for. No-op is final, so the payload may be proposed
                # again; the new dependencies cover the annulled slot (protocol 4.8).
                self._state.cover("proposed again")
                self.propose(instance.orig)

    # -- after a restart -----------------------------------------------------------------------------------

    def resume(self, instance: Instance) -> None:
        """Go on with an own instance that was at ballot 0 before a restart (protocol 4.11a).

        Answers to a PreAccept are stored where they were given, so they can be collected again; a vote
        at ballot 0 stands for the value that was voted for.
        """
        state = self._state
        place = instance.id
        stage = Stage.PRE if instance.phase is Phase.PREACCEPTED else Stage.ACC
        leading = Leading(instance, stage, 0, state.now, state.settings.retry)
        leading.holders = dict.fromkeys(state.peers, -math.inf)  # most likely; who is not says so
        self.leading[place] = leading
        self._ask(leading, state.peers)
        if stage is Stage.PRE:
            self._answer_again(state.me, instance)
        else:
            leading.path = "slow"
            state.promise((state.me,), AcceptOK(place, 0))
        self._set_retry(leading, leading.interval)

    def annul(self, place: InstanceId) -> None:
        """Annul an own instance that this replica may have proposed and forgotten (protocol 4.11b).

        At ballot 0, which is the owner's: it has asked for no other vote there, since it remembers none.
        """
        state = self._state
        state.cover("forgotten place annulled")
        leading = Leading(state.logs.ensure(place), Stage.ACC, 0, state.now, state.settings.retry)
        leading.path = "recovered"
        self.leading[place] = leading
        self.start_accept(leading, 0, NOP, state.logs.no_deps, 0)

    def reserve(self, durable: Slot, used: Slot) -> None:
        """Propose only above `used` from now on; `durable` is the highest own slot that counts (4.11b)."""
        self._durable_slot = durable
        self.first_slot = self._next_slot = max(self._next_slot, used + 1)

    def forget_up_to(self, frontier: Vector) -> None:
        """Coordinate nothing any more of what has executed elsewhere and is dropped here (protocol 4.10)."""
        for place in [place for place in self.leading if covers(frontier, place)]:
            del self.leading[place]
        self.open = {place for place in self.open if not covers(frontier, place)}


def _nothing(_: InstanceId) -> None:
    """Stand in until somebody wants to know of decisions."""
