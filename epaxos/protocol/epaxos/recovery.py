"""Taking over an instance whose coordinator is silent (protocol 4.7), both sides.

A recoverer asks for promises at a ballot of its own (Recover). From a slow quorum of answers it either knows what was
or may have been decided, or knows that nothing was (no-op), or finds that the owner may have decided on the fast
path. Then it asks that quorum which instances speak against this (Validate): none, and it proposes what the
owner proposed; a decided one, and the owner cannot have decided; only undecided ones, and it waits until one of
them tells (Waiting). The numbers in comments and in `State.coverage` are those of the decision in protocol 4.7.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from enum import IntEnum

from epaxos.errors import InvariantError
from epaxos.protocol.epaxos.commit import CommitProtocol, Leading, Stage
from epaxos.protocol.epaxos.conflicts import sees
from epaxos.protocol.epaxos.messages import Nack, Recover, RecoverOK, Validate, ValidateOK, Waiting
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.epaxos.timers import TimerKind
from epaxos.protocol.epaxos.validation import against, executed_above
from epaxos.protocol.ids import Ballot, InstanceId, Row, Vector, covers, next_ballot
from epaxos.protocol.log import NOP, Instance, Phase, Proposal, Value


class Step(IntEnum):
    """How far a recovery has come."""

    RECOVER = 1
    VALIDATE = 2
    WAIT = 3


class Recovery:
    """A recoverer's volatile state for one instance at one ballot.

    oks        answers to Recover by sender, each what the sender held before it promised
    quorum     the senders counted, fixed when Validate is sent
    unchanged  how many of the quorum had pre-accepted the owner's dependencies unchanged ("k")
    proposal   what the owner proposed, once the recovery validates it
    validated  answers to Validate by sender
    against    the instances that speak against a fast decision, once all have answered
    retries    how often messages were sent again without progress
    patience   the factor on the intervals between these: each attempt at the instance takes its time twice over
    asked      when each peer was last sent a Recover
    returns    how often each peer has come back and was asked at once
    retry_at   when to do so next; a timer that comes up at another time belongs to an earlier recovery
    """

    __slots__ = (
        "against",
        "asked",
        "ballot",
        "instance",
        "oks",
        "patience",
        "proposal",
        "quorum",
        "retries",
        "retry_at",
        "returns",
        "started",
        "step",
        "unchanged",
        "validated",
    )

    def __init__(self, instance: Instance, ballot: Ballot, started: float, patience: int) -> None:
        self.instance = instance
        self.ballot = ballot
        self.started = started
        self.patience = patience
        self.step = Step.RECOVER
        self.retries = 0
        self.retry_at = 0.0
        self.asked: dict[Row, float] = {}
        self.returns: dict[Row, int] = {}
        self.oks: dict[Row, RecoverOK] = {}
        self.quorum: frozenset[Row] = frozenset()
        self.unchanged = 0
        self.proposal: Proposal | None = None
        self.validated: dict[Row, tuple[tuple[InstanceId, Phase], ...]] = {}
        self.against: dict[InstanceId, Phase] = {}


class RecoveryProtocol:
    """The recoveries of the replica that owns `state`, and its answers to those of others."""

    def __init__(self, state: State, commit: CommitProtocol) -> None:
        self._state = state
        self._commit = commit
        self.recoveries: dict[InstanceId, Recovery] = {}
        self._heard: dict[InstanceId, Ballot] = {}
        self._waiting_k: dict[InstanceId, int] = {}
        self._waiting_for: defaultdict[InstanceId, set[InstanceId]] = defaultdict(set)

    # -- beginning -----------------------------------------------------------------------------------------

    def start(self, place: InstanceId) -> None:
        """Begin to recover an instance at a new ballot, also one of which there is no record here."""
        state = self._state
        instance = state.logs.ensure(place)
        if instance.phase is Phase.COMMITTED:
            return
        self.forget(place)
        ballot = next_ballot(max(instance.bal, self._heard.get(place, 0)), state.me, state.n)
        # The own answer tells what was held before the promise, like everybody's.
        answer = _recover_ok(instance, ballot)
        self._promise(instance, ballot)
        self._commit.leading.pop(place, None)
        suspect = state.suspects.get(place)
        attempts = 0 if suspect is None else max(suspect.attempts - 1, 0)
        recovery = self.recoveries[place] = Recovery(instance, ballot, state.now, 2 ** min(attempts, 5))
        state.cover("recovery started")
        self._ask(recovery, state.peers)
        state.promise((state.me,), answer)
        self._set_timer(recovery)

    def _ask(self, recovery: Recovery, peers: Sequence[Row]) -> None:
        """Send Recover to those who have not answered, and who have had the time to if they were asked before.

        Answers may hold payloads; asked for twice, they would come twice.
        """
        state, asked = self._state, recovery.asked
        silent = [peer for peer in peers if peer not in recovery.oks]
        due = tuple(peer for peer in silent if state.may_ask(peer, asked.get(peer, -math.inf)))
        if due:
            recovery.asked |= dict.fromkeys(due, state.now)
            state.promise(due, Recover(recovery.instance.id, recovery.ballot))

    def _promise(self, instance: Instance, ballot: Ballot) -> None:
        instance.bal = ballot
        self._state.hear_of_instance(instance.id)
        self._state.record(instance)

    def hasten(self, peer: Row) -> None:
        """Ask a peer that is there again, whose answer may make the quorum.

        What it was sent, or has answered, may be lost, but not for certain: of one that comes and goes each return
        counts later than the one before, so that answers, which may hold payloads, can pass a slow link.
        """
        state = self._state
        for recovery in self.recoveries.values():
            returns = recovery.returns.get(peer, 0)
            round_trip = max(state.settings.retry, state.round_trips[peer].longest)
            if state.now < recovery.asked.get(peer, -math.inf) + (2**returns - 1) * round_trip:
                continue
            recovery.returns[peer] = min(returns + 1, 5)
            recovery.retries = 0
            recovery.asked.pop(peer, None)
            self._ask(recovery, (peer,))
            self._set_timer(recovery)

    def _set_timer(self, recovery: Recovery) -> None:
        """Wait a while, and at least as long as a quorum takes to answer."""
        state = self._state
        interval = min(state.settings.retry * 2**recovery.retries, state.settings.retry_limit)
        interval *= recovery.patience * (0.5 + state.random.random())
        recovery.retry_at = state.now + max(interval, state.quorum_round_trip)
        state.timers.set(recovery.retry_at, TimerKind.RECOVERY, recovery.instance.id)

    def _current(self, place: InstanceId, ballot: Ballot) -> Recovery | None:
        """The recovery that an answer belongs to, if its steps may still be taken."""
        recovery = self.recoveries.get(place)
        if recovery is None or recovery.ballot != ballot:
            return None
        instance = recovery.instance
        if instance.bal != ballot or instance.abal == ballot or instance.phase is Phase.COMMITTED:
            return None
        return recovery

    # -- the recoverer -------------------------------------------------------------------------------------

    def on_recover_ok(self, sender: Row, message: RecoverOK) -> None:
        """Collect a promise; decide when there is a slow quorum of them."""
        recovery = self._current(message.id, message.ballot)
        self._state.hear_of(message.deps)
        if recovery is None or sender in recovery.oks:
            return
        recovery.oks[sender] = message
        if recovery.step is not Step.RECOVER:
            self._late_answer(recovery, sender, message)
        elif len(recovery.oks) >= self._state.quorums.slow:
            self._decide(recovery)

    def _decide(self, recovery: Recovery) -> None:
        """Cases 1 to 5."""
        oks, quorums = recovery.oks, self._state.quorums
        decided = next((ok for ok in oks.values() if ok.phase is Phase.COMMITTED), None)
        if decided is not None and decided.value is not None:
            self._learn(recovery, decided, "case 1: committed")
            return
        accepted = [ok for ok in oks.values() if ok.phase is Phase.ACCEPTED and ok.value is not None]
        if accepted:
            latest = max(accepted, key=lambda ok: ok.abal)
            assert latest.value is not None
            self._accept(recovery, latest.value, latest.deps, latest.seq, "case 2: accepted")
            return
        if recovery.instance.id.row in oks:
            self._annul(recovery, "case 3: owner answered")
            return
        unchanged = [ok.init for ok in oks.values() if _unchanged(ok)]
        if len(unchanged) < len(oks) - quorums.e or unchanged[0] is None:
            self._annul(recovery, "case 4: no fast quorum")
            return
        recovery.quorum = frozenset(oks)
        recovery.unchanged = len(unchanged)
        recovery.proposal = unchanged[0]
        recovery.step = Step.VALIDATE
        recovery.retries = 0
        self._state.cover("case 5: validate")
        self._send_validate(recovery, sorted(recovery.quorum))

    def _send_validate(self, recovery: Recovery, receivers: list[Row]) -> None:
        assert recovery.proposal is not None
        message = Validate(recovery.instance.id, recovery.ballot, *recovery.proposal)
        self._state.promise(tuple(receivers), message)

    def on_validate_ok(self, sender: Row, message: ValidateOK) -> None:
        """Collect what speaks against the fast decision; judge when the whole quorum has answered."""
        recovery = self._current(message.id, message.ballot)
        if recovery is None or recovery.step is not Step.VALIDATE or sender not in recovery.quorum:
            return
        recovery.validated[sender] = message.against
        if len(recovery.validated) == len(recovery.quorum):
            for found in recovery.validated.values():
                for place, phase in found:
                    recovery.against[place] = max(phase, recovery.against.get(place, phase))
            self._judge(recovery)

    def _judge(self, recovery: Recovery) -> None:
        """Cases 6 to 9."""
        place, found, quorum = recovery.instance.id, recovery.against, recovery.quorum
        if any(other.row == place.row for other in found):
            raise InvariantError(f"{place} was proposed without regard to its own row: {sorted(found)}")
        if not found:
            self._accept_proposal(recovery, "case 6: nothing against")
        elif Phase.COMMITTED in found.values():
            self._annul(recovery, "case 7: a decided one against")
        elif recovery.unchanged == len(quorum) - self._state.quorums.e and any(
            other.row not in quorum for other in found
        ):
            # A fast quorum would then hold all replicas outside this one, the owner of that instance among them,
            # which would have pre-accepted its own instance and this one without either covering the other.
            self._annul(recovery, "case 8: an owner outside the quorum")
        else:
            self._wait(recovery)

    def _wait(self, recovery: Recovery) -> None:
        """Case 9: nothing here tells yet; let everybody know, and look into what speaks against it."""
        state = self._state
        place = recovery.instance.id
        recovery.step = Step.WAIT
        recovery.retries = 0
        state.cover("case 9: wait")
        for other in recovery.against:
            self._waiting_for[other].add(place)
            state.hear_of_instance(other)
            state.suspect(other)
        state.send(state.peers, Waiting(place, recovery.unchanged))
        self._note_waiting(place, recovery.unchanged)
        self._reconsider(place)

    def _reconsider(self, place: InstanceId) -> None:
        """Cases 10 to 12, for a recovery that waits."""
        recovery = self.recoveries.get(place)
        if recovery is None or recovery.step is not Step.WAIT:
            return
        proposal = recovery.proposal
        if self._current(place, recovery.ballot) is None or proposal is None:
            return
        open_ones = []
        for other in recovery.against:
            if other.slot <= self._state.logs.truncated[other.row]:
                if executed_above(self._state, place, proposal.command, proposal.deps):
                    self._annul(recovery, "case 10: executed against")
                    return
                continue  # it was annulled
            instance = self._state.logs.get(other)
            if instance is None or instance.phase is not Phase.COMMITTED:
                open_ones.append(other)
            elif instance.value is not NOP and not sees(instance.deps, other.row, place, proposal.command):
                self._annul(recovery, "case 10: decided against")
                return
        quorums = self._state.quorums
        if not open_ones:
            self._accept_proposal(recovery, "case 11: all decided for")
        elif any(self._waiting_k.get(other, 0) > quorums.n - quorums.f - quorums.e for other in open_ones):
            self._annul(recovery, "case 12: another waits with more")

    def _late_answer(self, recovery: Recovery, sender: Row, ok: RecoverOK) -> None:
        """Case 13: an answer from outside the quorum, while validating or waiting."""
        if ok.phase is Phase.COMMITTED and ok.value is not None:
            self._learn(recovery, ok, "case 13: committed")
        elif ok.phase is Phase.ACCEPTED and ok.value is not None:
            self._accept(recovery, ok.value, ok.deps, ok.seq, "case 13: accepted")
        elif sender == recovery.instance.id.row:
            self._annul(recovery, "case 13: owner answered")

    def _learn(self, recovery: Recovery, ok: RecoverOK, case: str) -> None:
        assert ok.value is not None
        self._state.cover(case)
        self._commit.announce(recovery.instance, ok.value, ok.deps, ok.seq)

    def _annul(self, recovery: Recovery, case: str) -> None:
        """Propose a no-op, and cover a collection from now on like those in the quorum who know it.

        Without it all that this replica proposes would take the slow path until the next one.
        """
        for answer in recovery.oks.values():
            if answer.init is not None and answer.init.command.base is not None:
                self._state.learn_payload(recovery.instance, answer.init.command)
        self._accept(recovery, NOP, self._state.logs.no_deps, 0, case)

    def _accept_proposal(self, recovery: Recovery, case: str) -> None:
        assert recovery.proposal is not None
        self._accept(recovery, *recovery.proposal, case)

    def _accept(self, recovery: Recovery, value: Value, deps: Vector, seq: int, case: str) -> None:
        self._state.cover(case)
        self.forget(recovery.instance.id)
        instance = recovery.instance
        leading = Leading(instance, Stage.ACC, recovery.ballot, recovery.started, self._state.settings.retry)
        leading.path = "recovered"
        # An answer that brought the payload shows that its sender has it; the owner has what it proposed.
        having = [
            row for row, ok in recovery.oks.items() if ok.init is not None or ok.value not in (None, NOP)
        ]
        leading.holders = dict.fromkeys({instance.id.row, *having} - {self._state.me}, -math.inf)
        self._commit.leading[instance.id] = leading
        self._commit.start_accept(leading, recovery.ballot, value, deps, seq)

    def on_timer(self, place: InstanceId) -> None:
        """Send again to the silent (protocol 4.9, timer 5).

        After some rounds without an end it gives up: a member of the quorum may have died, or another recoverer
        may be ahead. The instance is still suspected, so it is recovered anew, at a higher ballot and
        after a longer pause each time (timer 6, `suspicion`).
        """
        recovery = self.recoveries.get(place)
        state = self._state
        if recovery is None or state.now < recovery.retry_at:
            return
        recovery.retries += 1
        if (
            self._current(place, recovery.ballot) is None
            or recovery.retries > state.settings.recovery_retries
        ):
            self.forget(place)
            state.suspect(place)
            state.cover("recovery given up")
            return
        self._send_again(recovery)
        self._set_timer(recovery)

    def _send_again(self, recovery: Recovery) -> None:
        state = self._state
        place = recovery.instance.id
        self._ask(recovery, state.peers)  # also once the quorum is fixed: case 13 needs the owner's answer
        if recovery.step is Step.VALIDATE:
            self._send_validate(recovery, sorted(recovery.quorum - recovery.validated.keys()))
        elif recovery.step is Step.WAIT:
            state.send(state.peers, Waiting(place, recovery.unchanged))

    def is_at_work(self, place: InstanceId) -> bool:
        """Whether this replica coordinates the instance already, as its owner or in a recovery.

        An owner that goes on asking at ballot 0 must not suspect itself: its recovery would annul what only
        takes long.
        """
        return place in self.recoveries or place in self._commit.leading

    @property
    def active(self) -> int:
        """How many recoveries are under way, without those that wait for others to end."""
        voting = sum(leading.ballot > 0 for leading in self._commit.leading.values())
        return voting + sum(recovery.step is not Step.WAIT for recovery in self.recoveries.values())

    # -- the acceptor --------------------------------------------------------------------------------------

    def on_recover(self, sender: Row, message: Recover) -> None:
        """Promise to take part in no lower ballot, and tell what is held."""
        state = self._state
        instance = state.logs.ensure(message.id)
        if instance.bal > message.ballot or instance.abal == message.ballot:
            state.send((sender,), Nack(message.id, instance.bal))
            return
        answer = _recover_ok(instance, message.ballot)
        if instance.bal < message.ballot:
            self._promise(instance, message.ballot)
            self._commit.leading.pop(message.id, None)
            self.forget(message.id)
            state.postpone(message.id)
        state.promise((sender,), answer)

    def on_validate(self, sender: Row, message: Validate) -> None:
        """Tell what speaks against a fast decision, and remember the payload for good."""
        state = self._state
        instance = state.logs.ensure(message.id)
        if instance.bal > message.ballot:
            state.send((sender,), Nack(message.id, instance.bal))
            return
        if instance.bal != message.ballot or instance.abal == message.ballot:
            return
        found = tuple(against(state, message.id, message.command, message.deps))
        instance.init = Proposal(message.command, message.deps, message.seq)
        instance.value = message.command
        state.learn_payload(instance, message.command)
        state.hear_of(message.deps)
        state.record(instance)
        state.promise((sender,), ValidateOK(message.id, message.ballot, found))

    def on_waiting(self, message: Waiting) -> None:
        """Somebody waits with `id`; that may tell those who wait *for* `id` (case 12)."""
        self._note_waiting(message.id, message.k)

    def _note_waiting(self, place: InstanceId, k: int) -> None:
        self._state.hear_of_instance(place)
        if k > self._waiting_k.get(place, 0):
            self._waiting_k[place] = k
        for waiter in sorted(self._waiting_for.get(place, ())):
            self._reconsider(waiter)

    def on_nack(self, message: Nack) -> None:
        """Remember the higher ballot; whoever holds it is at work, so leave the instance to it for a while."""
        place = message.id
        self._heard[place] = max(message.ballot, self._heard.get(place, 0))
        leading = self._commit.leading.get(place)
        if leading is not None and leading.ballot < message.ballot:
            del self._commit.leading[place]
        recovery = self.recoveries.get(place)
        if recovery is not None and recovery.ballot < message.ballot:
            self.forget(place)
        self._state.cover("nack")
        self._state.postpone(place)

    # -- the end -------------------------------------------------------------------------------------------

    def on_committed(self, place: InstanceId) -> None:
        """Drop what is kept for an instance that is decided, and reconsider those that wait for it (3.5)."""
        self.forget(place)
        self._heard.pop(place, None)
        self._waiting_k.pop(place, None)
        for waiter in sorted(self._waiting_for.pop(place, ())):
            self._reconsider(waiter)

    def forget_up_to(self, frontier: Vector) -> None:
        """Drop what is kept for instances that have executed elsewhere and are dropped here (protocol 4.10)."""
        for place in [place for place in self.recoveries if covers(frontier, place)]:
            self.forget(place)
        for table in (self._heard, self._waiting_k):
            for place in [place for place in table if covers(frontier, place)]:
                del table[place]

    def reconsider_all(self) -> None:
        """Look again at every recovery that waits: what it waits for may be in a checkpoint (protocol 4.10)."""
        for place in sorted(self.recoveries):
            self._reconsider(place)

    def forget(self, place: InstanceId) -> None:
        """End the recovery of an instance, if there is one."""
        recovery = self.recoveries.pop(place, None)
        if recovery is not None and recovery.step is Step.WAIT:
            for other in recovery.against:
                waiters = self._waiting_for.get(other)
                if waiters is not None:
                    waiters.discard(place)
                    if not waiters:
                        del self._waiting_for[other]


def _recover_ok(instance: Instance, ballot: Ballot) -> RecoverOK:
    return RecoverOK(
        instance.id,
        ballot,
        instance.abal,
        instance.phase,
        instance.value,
        instance.deps,
        instance.seq,
        instance.init,
    )


def _unchanged(ok: RecoverOK) -> bool:
    """Whether the sender had pre-accepted the owner's dependencies as they came (a member of R)."""
    return ok.phase is Phase.PREACCEPTED and ok.init is not None and ok.deps == ok.init.deps
