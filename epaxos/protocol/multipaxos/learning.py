"""How a replica learns what is chosen: from votes, from the leader, and by asking (multipaxos 4).

A slot is decided here by a quorum of votes, or by the leader's word that all it proposed up to there is chosen, and
both only together with the own vote *at that ballot*: it says which value that is. Who has no such vote asks a peer
that is ahead. What a beacon says of a peer's progress makes one ask, and decides nothing.

Who has dropped what is missing is not asked as long as another peer that is heard has it (protocol 4.9, timer 3).

A peer has one question to answer at a time, and nobody else is asked meanwhile: each answer may hold megabytes. A
question is over when the last decision asked for has come, or as many bytes as an answer holds, or the echo of a beacon
that was sent after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from epaxos.protocol.ids import Ballot, Row, Slot
from epaxos.protocol.log import NOP, Phase, Value
from epaxos.protocol.multipaxos.messages import (
    AcceptOK,
    Beacon,
    Chosen,
    ChosenRequest,
    Commit,
    Echo,
    Truncated,
)
from epaxos.protocol.multipaxos.state import State
from epaxos.protocol.roundtrips import stamp_of, time_of

SLOTS_PER_REQUEST: Final = 1024
"""How many slots one request spans: bounds what an answer can cost the peer in one round."""

BYTES_PER_ANSWER: Final = 4 * 1024 * 1024
"""Where an answer stops; the next request asks for the rest."""

LEAST_SIZE: Final = BYTES_PER_ANSWER // SLOTS_PER_REQUEST
"""As what the smallest value counts: a message costs time, whatever is in it."""


@dataclass(slots=True)
class _Question:
    """What a peer was asked for; `stamp` tells when, and `size` how many bytes of payload have come."""

    peer: Row
    first: Slot
    last: Slot
    stamp: int
    size: int = 0


class Tally:
    """Who has voted at a slot at the highest ballot of which a vote has come."""

    __slots__ = ("ballot", "voters")

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.voters: set[Row] = set()


class Learning:
    """Decides slots at the replica that owns `state`.

    `on_decided` is called with every slot that is decided here, and its value. `tallies` are those of undecided slots.
    """

    def __init__(self, state: State, on_decided: Callable[[Slot, Value], None]) -> None:
        self._state = state
        self._on_decided = on_decided
        self.tallies: dict[Slot, Tally] = {}
        self._word: tuple[Ballot, Slot] = (0, -1)
        self._before: dict[Row, Slot] = {}
        self._told: dict[Row, Slot] = {}
        self._dropped: dict[Row, Slot] = {}
        self._question: _Question | None = None
        self._echoed: list[int] | None = None

    # -- votes and the leader's word -----------------------------------------------------------------------

    def on_accept_ok(self, sender: Row, message: AcceptOK) -> None:
        """Count a vote; a quorum with the own one among it decides."""
        state = self._state
        slot, ballot = message.slot, message.ballot
        if slot <= state.truncated or state.decided(slot) is not None:
            return
        tally = self.tallies.get(slot)
        if tally is None or tally.ballot < ballot:
            tally = self.tallies[slot] = Tally(ballot)
        if tally.ballot == ballot:
            tally.voters.add(sender)
            if len(tally.voters) >= state.quorum and state.me in tally.voters:
                self._decide_by_vote(slot, ballot)

    def on_word(self, ballot: Ballot, chosen: Slot) -> None:
        """The leader of a ballot says that all it proposed at it up to a slot is chosen."""
        if (ballot, chosen) <= self._word:
            return
        same = self._word[0] == ballot
        first = max(self._state.committed, self._word[1] if same else -1) + 1
        self._word = ballot, chosen
        for slot in range(first, min(chosen, self._state.top) + 1):
            self._decide_by_vote(slot, ballot)

    def on_commit(self, message: Commit) -> None:
        """The same, by itself."""
        self.on_word(message.ballot, message.chosen)

    def on_own_vote(self, slot: Slot, ballot: Ballot) -> None:
        """The own vote has been cast, perhaps after the leader's word on that slot."""
        if self._word[0] == ballot and slot <= self._word[1]:
            self._decide_by_vote(slot, ballot)

    def _decide_by_vote(self, slot: Slot, ballot: Ballot) -> None:
        instance = self._state.log.get(slot)
        if instance is not None and instance.phase is Phase.ACCEPTED and instance.abal == ballot:
            assert instance.value is not None
            self.decide(slot, instance.value)

    def decide(self, slot: Slot, value: Value) -> None:
        """Take a decision; what follows from it is up to others."""
        state = self._state
        if slot > state.truncated and state.decided(slot) is None:
            state.decide(slot, value)
            self.tallies.pop(slot, None)
            self._on_decided(slot, value)
        elif slot > state.truncated:
            state.decide(slot, value)  # an invariant: once decided, always the same

    def on_chosen(self, sender: Row, message: Chosen) -> None:
        """A peer tells a decision."""
        self.decide(message.slot, message.value)
        question = self._question
        if question is None:
            return
        if sender == question.peer:
            question.size += size_of(message.value)
            if message.slot == question.last or question.size > BYTES_PER_ANSWER:
                self._end()
        elif self._state.committed >= question.last:
            self._end()

    def forget_up_to(self, frontier: Slot) -> None:
        """Count no more votes on what is dropped."""
        for slot in [slot for slot in self.tallies if slot <= frontier]:
            del self.tallies[slot]

    # -- asking --------------------------------------------------------------------------------------------

    def on_beacon(self, sender: Row, message: Beacon) -> None:
        """Compare a peer's progress with the own; ask if the own has stalled behind it since its last beacon.

        One that has no vote is told nothing else, and asks at once.
        """
        state = self._state
        state.send((sender,), Echo(message.stamp))
        mine = state.committed
        before, self._before[sender] = self._before.get(sender, -1), mine
        self._told[sender] = max(message.committed[0], self._told.get(sender, -1))
        self._dropped[sender] = message.truncated[0]
        state.told = max(message.committed[0], state.told)
        if self._told[sender] > mine and (mine == before or not state.votes):
            self._ask(sender)

    def _ask(self, peer: Row) -> None:
        state = self._state
        question = self._question
        if question is not None and question.peer in state.online:
            return
        first, last = state.committed + 1, self._told[peer]
        if first <= last and not self._is_better_asked_elsewhere(peer, first):
            last = min(last, first + SLOTS_PER_REQUEST - 1)
            self._question = _Question(peer, first, last, stamp_of(state.now))
            state.send((peer,), ChosenRequest(first, last))

    def _is_better_asked_elsewhere(self, peer: Row, slot: Slot) -> bool:
        """Whether a peer has dropped this slot, and another one that is heard has it."""
        told, dropped = self._told, self._dropped
        return dropped.get(peer, -1) >= slot and any(
            dropped.get(other, -1) < slot <= told.get(other, -1) for other in self._state.online
        )

    def _end(self) -> None:
        """Ask for the next stretch if some of this one has come."""
        question, self._question = self._question, None
        assert question is not None
        if self._state.committed >= question.first:
            self._ask(question.peer)

    def on_chosen_request(self, sender: Row, message: ChosenRequest) -> None:
        """Send the decisions asked for, as far as this replica has them and the bound on bytes allows."""
        state = self._state
        if message.first <= state.truncated:
            state.send((sender,), Truncated(state.truncated))
            return
        size = 0
        for slot in range(message.first, min(message.last + 1, message.first + SLOTS_PER_REQUEST)):
            instance = state.decided(slot)
            if instance is None or instance.value is None:
                continue
            state.promise((sender,), Chosen(slot, instance.value))
            size += size_of(instance.value)
            if size > BYTES_PER_ANSWER:
                return

    # -- beacons and their echoes --------------------------------------------------------------------------

    def stamp(self, now: float) -> int:
        """The stamp of a beacon that is sent now."""
        stamp = stamp_of(now)
        if self._echoed is None:
            self._echoed = [stamp - 1] * self._state.n
        return stamp

    def on_echo(self, sender: Row, message: Echo) -> None:
        """Note how long a beacon took there and back; see whether an answer must have come before it."""
        state = self._state
        if self._echoed is None or not self._echoed[sender] < message.stamp <= stamp_of(state.now):
            return
        self._echoed[sender] = message.stamp
        if sender in state.online:
            state.round_trips[sender].measured(state.now - time_of(message.stamp))
        question = self._question
        if question is not None and question.peer == sender and message.stamp > question.stamp:
            self._end()

    def on_status(self, peer: Row) -> None:
        """A peer has gone or come back: what it was asked is lost, and old beacons that come late tell nothing."""
        if self._question is not None and self._question.peer == peer:
            self._question = None
        if self._echoed is not None:
            self._echoed[peer] = stamp_of(self._state.now)


def size_of(value: Value) -> int:
    """What a value takes of the bytes of an answer, so that no more slots than a request spans fit into one."""
    return LEAST_SIZE if value is NOP else max(LEAST_SIZE, value.size)
