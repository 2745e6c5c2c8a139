"""The acceptor of all slots: what a replica promises and votes for (multipaxos 2, rules 1 to 3)."""

from __future__ import annotations

from epaxos.protocol.ids import Row, Slot
from epaxos.protocol.log import Phase
from epaxos.protocol.multipaxos.leading import Leading
from epaxos.protocol.multipaxos.learning import BYTES_PER_ANSWER, Learning, size_of
from epaxos.protocol.multipaxos.messages import (
    DECIDED,
    Accept,
    AcceptOK,
    Chosen,
    Missing,
    Nack,
    Prepare,
    Promised,
    Truncated,
    Voted,
)
from epaxos.protocol.multipaxos.state import Learn, State


class Acceptor:
    """Answers candidates and leaders at the replica that owns `state`."""

    def __init__(self, state: State, learning: Learning, leading: Leading) -> None:
        self._state = state
        self._learning = learning
        self._leading = leading

    def on_prepare(self, sender: Row, message: Prepare) -> None:
        """Promise, and tell the votes from a slot on, as many as an answer holds; or which higher ballot is in the way.

        Each place in the log has a value: a record is made by a vote or by a decision.
        """
        state = self._state
        if message.ballot < state.promised:
            state.cover("lower ballot refused")
            state.send((sender,), Nack(state.promised))
            return
        if message.ballot > self._leading.ballot:
            self._leading.end()
        state.raise_promise(message.ballot)
        first = max(message.first, state.truncated + 1)
        held = sorted(slot for slot in state.log if slot >= first)
        state.promise((sender,), Promised(message.ballot, message.first, stretches(held), state.truncated))
        size = 0
        for slot in held:
            instance = state.log[slot]
            assert instance.value is not None
            abal = DECIDED if instance.phase is Phase.COMMITTED else instance.abal
            state.promise((sender,), Voted(message.ballot, slot, abal, instance.value))
            size += size_of(instance.value)
            if size > BYTES_PER_ANSWER:
                return

    def on_accept(self, sender: Row, message: Accept) -> None:
        """Vote, unless a higher ballot was promised; and take the leader's word on what it proposed before."""
        state = self._state
        slot, ballot = message.slot, message.ballot
        if ballot < state.promised:
            state.cover("lower ballot refused")
            state.send((sender,), Nack(state.promised))
        elif slot <= state.truncated:
            state.send((sender,), Truncated(state.truncated))
        else:
            self._vote(sender, message)
            self._learning.on_word(ballot, message.chosen)

    def _vote(self, sender: Row, message: Accept) -> None:
        state = self._state
        slot, ballot = message.slot, message.ballot
        instance = state.log.get(slot)
        if instance is not None and instance.abal == ballot and instance.value is not None:
            state.promise((sender,), AcceptOK(ballot, slot))  # again: the first one may be lost
            return
        if instance is not None and instance.phase is Phase.COMMITTED:
            assert instance.value is not None
            state.promise((sender,), Chosen(slot, instance.value))
            return
        if message.value is None:
            state.send((sender,), Missing(ballot, slot))
            return
        if ballot > self._leading.ballot:
            self._leading.end()
        state.vote(slot, ballot, message.value)
        voters = state.everybody if state.settings.learn is Learn.VOTES else (sender,)
        state.promise(voters, AcceptOK(ballot, slot))
        self._learning.on_own_vote(slot, ballot)


def stretches(slots: list[Slot]) -> tuple[tuple[Slot, Slot], ...]:
    """Ascending slots as (first, last) of those without a gap."""
    found: list[tuple[Slot, Slot]] = []
    for slot in slots:
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return tuple(found)
