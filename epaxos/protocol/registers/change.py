"""One proposal: attempts, one after another, until one of them has an outcome.

An attempt has two phases. *Prepare*: a majority promises, and tells what it accepted; the state of the highest
ballot is what the change is applied to. *Accept*: a majority takes the outcome, which thereby is chosen. What
decides whether another attempt may follow is whether this one can still be finished by somebody else:

- Too few promises: no state was sent, so surely not.
- In the second phase a refusal alone says nothing: one acceptor that took the state is enough for others to find and
  finish it. Surely not is only what all acceptors say they have not taken and never will (`Conflict.never`).
- Everything else that fails is unknown, and is not tried again, unless trying again does no harm (`repeatable`), and
  the register still remembers.

An attempt ends with its verdict: answers that come later do not revive it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.protocol.registers.values import (
    AHEAD,
    EMPTY,
    FIRST,
    ZERO,
    Accept,
    Accepted,
    Answer,
    Ballot,
    Configuration,
    Conflict,
    Peek,
    Prepare,
    Promise,
    Request,
    Seen,
    State,
    Step,
)


class Verdict(Enum):
    """How a proposal ended.

    DONE     the change is in the register
    FAILED   it is not, and never will be
    UNKNOWN  it may be, or may still come
    """

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Done(NamedTuple):
    """The end of a proposal, by the ticket that it got. Of one that is DONE: its ballot, state and result.

    attempts  how many were made
    trips     round trips to a majority that were begun, in all of them
    """

    ticket: int
    key: bytes
    verdict: Verdict
    ballot: Ballot = ZERO
    state: State = EMPTY
    result: Any = None
    attempts: int = 0
    trips: int = 0


@dataclass(slots=True)
class Asks:
    """What a proposer wants done, in this order.

    reserve  a counter that must be durable, as the one to begin above after a restart, before anything is sent
    sends    (acceptor, request); each may be lost
    done     proposals that have ended
    """

    reserve: int | None = None
    sends: list[tuple[int, Request]] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)


class Pace(NamedTuple):
    """Intervals in seconds: before a request is sent again first, and the mean pause after a first lost attempt."""

    retry: float = 0.2
    pause: float = 0.01


LONGEST_PAUSE: Final = 64
"""Pauses and intervals double up to this many times their first."""

BLOCK: Final = 1000
"""Counters that one durable write reserves."""


class Ballots:
    """The ballots of one proposer, for all keys; `durable` is what was reserved last, before this start."""

    def __init__(self, proposer: int, durable: int) -> None:
        self._proposer = proposer
        self._counter = self._reserved = durable

    def following(self, asks: Asks) -> Ballot:
        """A ballot that was never used, above all that were learnt."""
        self._counter += 1
        if self._counter > self._reserved:
            self._reserved = asks.reserve = self._counter + BLOCK
        return Ballot(self._counter, self._proposer)

    def learn(self, held: Ballot) -> bool:
        """Go on above somebody's ballot; False if it cannot be one."""
        if held.counter > self._counter + AHEAD:
            return False
        self._counter = max(self._counter, held.counter)
        return True


class Known(NamedTuple):
    """What a proposer knows of a register: `state` was chosen at `chosen`, and who voted for it has promised `ballot`.

    `version` is that of the configuration in which they did.
    """

    version: int
    ballot: Ballot
    chosen: Ballot
    state: State


class Phase(Enum):
    """What a proposal waits for."""

    TURN = "turn"
    PEEK = "peek"
    PREPARE = "prepare"
    ACCEPT = "accept"
    PAUSE = "pause"
    DONE = "done"


class Want(NamedTuple):
    """What is proposed.

    reads       the step changes nothing: to ask what is chosen may be enough
    repeatable  another attempt after one whose outcome is unknown does no harm
    everywhere  all acceptors must take it, and promise nothing beyond: for a removal
    first       the first attempt takes one round trip, at the ballot FIRST, which nobody has to promise. Whoever wants
                that is the only one ever to want it of this register, and wants it once, over restarts too. Others may
                read it, and give it a value. Once it was deleted, or changed in vain, nobody relies on it any more: a
                message from before may then be taken again
    """

    key: bytes
    step: Step
    reads: bool = False
    repeatable: bool = False
    everywhere: bool = False
    first: bool = False


class Change:
    """The attempts of one proposal. `known` are the promises that spare a Prepare, by key."""

    def __init__(
        self,
        ticket: int,
        want: Want,
        deadline: float,
        ballots: Ballots,
        known: dict[bytes, Known],
        random: Random,
    ) -> None:
        self.ticket = ticket
        self.want = want
        self.deadline = deadline
        self.phase = Phase.TURN
        self.due = deadline
        self.attempts = 0
        self.configuration = Configuration(0, (), ())
        self.ballot = ZERO
        self.parent = ZERO
        self.state = EMPTY
        self._ballots = ballots
        self._known = known
        self._random = random
        self._trips = 0
        self._doubtful: Ballot | None = None
        self._following = ZERO
        self._result: Any = None
        self._heard: dict[int, Answer] = {}
        self._interval = 0.0

    # -- attempts ----------------------------------------------------------------------------------------------

    def begin(self, configuration: Configuration, pace: Pace, now: float, asks: Asks) -> None:
        """Make an attempt, which keeps `configuration` to its end."""
        self.attempts += 1
        self.configuration = configuration
        self.pace = pace
        if self.want.reads and self.attempts == 1:
            self.ballot = self._ballots.following(asks)
            self._enter(Phase.PEEK, now, asks)
            return
        # Taken out: whatever becomes of the attempt, only a majority that takes its state gives a promise again.
        known = self._known.pop(self.want.key, None)
        fresh = known is not None and known.version == configuration.version and self.attempts == 1
        if self.want.first and known is None and self.attempts == 1:
            self.ballot = FIRST
            self._propose(ZERO, EMPTY, now, asks)
        elif known is not None and fresh and not self.want.everywhere:
            self.ballot = known.ballot
            self._propose(known.chosen, known.state, now, asks)
        else:
            self._prepare(now, asks)

    def _prepare(self, now: float, asks: Asks) -> None:
        self.ballot = self._ballots.following(asks)
        self._enter(Phase.PREPARE, now, asks)

    def _propose(self, parent: Ballot, state: State, now: float, asks: Asks) -> None:
        """Apply the step to the state that stands, and ask for votes."""
        self.parent = parent
        self.state, self._result = self.want.step(state)
        self._following = ZERO if self.want.everywhere else self._ballots.following(asks)
        self._enter(Phase.ACCEPT, now, asks)

    def _enter(self, phase: Phase, now: float, asks: Asks) -> None:
        self.phase = phase
        self._trips += 1
        self._heard = {}
        self._interval = self.pace.retry
        self._send(now, asks)

    @property
    def _asked(self) -> tuple[int, ...]:
        return self.configuration.prepare if self.phase is Phase.PREPARE else self.configuration.accept

    def _request(self) -> Request:
        if self.phase is Phase.PEEK:
            return Peek(self.want.key, self.ballot)
        if self.phase is Phase.PREPARE:
            return Prepare(self.want.key, self.ballot)
        return Accept(self.want.key, self.ballot, self.state, self._following)

    def _send(self, now: float, asks: Asks) -> None:
        """Ask all who have not answered."""
        request = self._request()
        asks.sends += [(acceptor, request) for acceptor in self._asked if acceptor not in self._heard]
        self.due = min(self.deadline, now + self._interval)
        self._interval = min(2 * self._interval, LONGEST_PAUSE * self.pace.retry)

    # -- time --------------------------------------------------------------------------------------------------

    def tick(self, now: float, asks: Asks) -> bool:
        """Send again, or give up, if it is time for that; the result says whether it is time for another attempt."""
        if now >= self.deadline:
            self._end(self._verdict_now(), asks)
            return False
        if now < self.due:
            return False
        if self.phase is Phase.PAUSE:
            return True
        if self._count(Conflict) and self._may_begin_anew():
            # Those who are silent may be gone, and who refuses this ballot will not take it later.
            self._pause(now)
        else:
            self._send(now, asks)
        return False

    def _may_begin_anew(self) -> bool:
        """Whether another attempt may follow though this one may still be finished by somebody else."""
        if self.phase is Phase.ACCEPT:
            if not (self.want.repeatable or self.want.reads):
                return False
            self._doubtful = self._doubtful or self.ballot
        return True

    def _verdict_now(self) -> Verdict:
        """What can be said of an attempt that must end now."""
        if self.want.reads or (self._doubtful is None and self.phase is not Phase.ACCEPT):
            return Verdict.FAILED
        return Verdict.UNKNOWN

    def _pause(self, now: float) -> None:
        """Let others finish; the more attempts were lost, the longer."""
        self.phase = Phase.PAUSE
        longest = self.pace.pause * min(2**self.attempts, LONGEST_PAUSE)
        self.due = min(self.deadline, now + self._random.random() * longest)

    def _end(self, verdict: Verdict, asks: Asks) -> None:
        self.phase = Phase.DONE
        done = Done(self.ticket, self.want.key, verdict, attempts=self.attempts, trips=self._trips)
        if verdict is Verdict.DONE:
            done = done._replace(ballot=self.ballot, state=self.state, result=self._result)
        asks.done.append(done)

    # -- answers -----------------------------------------------------------------------------------------------

    def take(self, sender: int, answer: Answer, now: float, asks: Asks) -> None:
        """Take an answer; those that are not for this attempt and phase are passed over."""
        if answer.ballot != self.ballot or sender not in self._asked or sender in self._heard:
            return
        if isinstance(answer, Conflict):
            if self.phase not in (Phase.PREPARE, Phase.ACCEPT) or not self._ballots.learn(answer.held):
                return
        elif not isinstance(answer, _EXPECTED.get(self.phase, ())):
            return
        self._heard[sender] = answer
        if self.phase is Phase.PEEK:
            self._judge_seen(now, asks)
        elif self.phase is Phase.PREPARE:
            self._judge_promises(now, asks)
        else:
            self._judge_votes(now, asks)

    def _count(self, kind: type[Answer]) -> int:
        return sum(isinstance(answer, kind) for answer in self._heard.values())

    def _judge_seen(self, now: float, asks: Asks) -> None:
        """A majority that took one ballot last has chosen its state; else only an attempt can tell."""
        seen = [answer for answer in self._heard.values() if isinstance(answer, Seen)]
        if len(seen) < self.configuration.votes:
            return
        (accepted, count), *_ = Counter(answer.accepted for answer in seen).most_common(1)
        if count < self.configuration.votes:
            self._known.pop(self.want.key, None)
            self.attempts += 1
            self._prepare(now, asks)
            return
        self.ballot = accepted
        self.state = next(answer.state for answer in seen if answer.accepted == accepted)
        _, self._result = self.want.step(self.state)
        self._end(Verdict.DONE, asks)

    def _judge_promises(self, now: float, asks: Asks) -> None:
        promises = [answer for answer in self._heard.values() if isinstance(answer, Promise)]
        if len(promises) >= self.configuration.promises:
            latest = max(promises, key=lambda promise: promise.accepted)
            if self._forgotten(max(promise.dropped for promise in promises)):
                self._end(Verdict.UNKNOWN, asks)
                return
            self._propose(latest.accepted, latest.state, now, asks)
        elif self._count(Conflict) > len(self._asked) - self.configuration.promises:
            self._pause(now)

    def _forgotten(self, dropped: Ballot) -> bool:
        """Whether the register may have been collected since an attempt that may have succeeded.

        With it went what it remembered of that attempt, by which the next one would find that it need do nothing.
        """
        return not self.want.reads and self._doubtful is not None and dropped >= self._doubtful

    def _judge_votes(self, now: float, asks: Asks) -> None:
        votes, refusals = self._count(Accepted), self._count(Conflict)
        needed = len(self._asked) if self.want.everywhere else self.configuration.votes
        if votes >= needed:
            # The next attempt of this proposer begins with the promises that came with these votes.
            if self._following > ZERO and votes >= self.configuration.promises:
                version = self.configuration.version
                self._known[self.want.key] = Known(version, self._following, self.ballot, self.state)
            self._end(Verdict.DONE, asks)
        elif refusals <= len(self._asked) - needed:
            return
        elif self._surely_not() or self._may_begin_anew():
            self._pause(now)
        elif votes or not self._all_never():
            self._end(Verdict.UNKNOWN, asks)

    def _all_never(self) -> bool:
        return all(answer.never for answer in self._heard.values() if isinstance(answer, Conflict))

    def _surely_not(self) -> bool:
        """Whether every acceptor has said that it did not take the state and never will."""
        return self._count(Conflict) == len(self._asked) and self._all_never()


_EXPECTED: Final[dict[Phase, type[Answer]]] = {
    Phase.PEEK: Seen,
    Phase.PREPARE: Promise,
    Phase.ACCEPT: Accepted,
}
"""The kind of answer that takes each phase further."""
