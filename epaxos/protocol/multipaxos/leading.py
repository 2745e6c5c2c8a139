"""What the leader of a ballot does (multipaxos 2, rules 1, 4, 5 and 7; multipaxos 4).

It proposes what was voted on before it, annuls the gaps, and then proposes commands, slot by slot, without waiting for
one another. It asks those who have not answered again, at intervals that double, without payload: who has not got it
says so. Payloads that are sent again and again would fill the very links that make answers late.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from epaxos.protocol.command import Command
from epaxos.protocol.contract import CommitNote
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot
from epaxos.protocol.log import NOP, Value
from epaxos.protocol.multipaxos.learning import Learning
from epaxos.protocol.multipaxos.messages import DECIDED, NOBODY, Accept, AcceptOK, Commit, Missing, Truncated
from epaxos.protocol.multipaxos.state import LOG, Learn, State

HASTENED: Final = 16
"""Slots that a peer is asked about at once when it is there again; the others have their turn."""


class Proposal:
    """A slot that the leader has proposed at its ballot and that is not decided.

    asked     when each peer was last asked
    holders   when each peer was last sent the value, of those that may have it
    due       when to ask again; `interval` seconds lie between the last two times
    path      how it will have been committed, for metrics; empty where somebody else counts it
    """

    __slots__ = ("asked", "due", "holders", "interval", "path", "slot", "started", "value")

    def __init__(self, slot: Slot, value: Value, path: str, now: float, interval: float) -> None:
        self.slot = slot
        self.value = value
        self.path = path
        self.started = now
        self.interval = interval
        self.due = now + interval
        self.asked: dict[Row, float] = {}
        self.holders: dict[Row, float] = {}


class Reign:
    """The volatile state of a leader.

    start      the first slot that it proposed
    next_slot  where the next command goes
    done       all that it has proposed up to here is chosen, with the value that it proposed
    open       its proposals that are not decided, by slot, ascending
    commands   the bytes of the commands that it has proposed and that have not executed here
    told       up to where its followers were told so
    progress   when something was last chosen, or nothing was open, or a quorum was heard again
    trusted_since   when it was elected, or last heard a quorum again: its followers have yet to say that they follow
    below      how far this replica had come below `start`, and since when
    """

    def __init__(self, ballot: Ballot, start: Slot, now: float) -> None:
        self.ballot = ballot
        self.start = start
        self.next_slot = start
        self.done = start - 1
        self.told = start - 1
        self.open: dict[Slot, Proposal] = {}
        self.commands: set[bytes] = set()
        self.trusted_since = self.progress = self.below_since = now
        self.below: Slot = -1


class Leading:
    """The leader's part of the replica that owns `state`; `reign` is None unless it leads."""

    def __init__(self, state: State, learning: Learning) -> None:
        self._state = state
        self._learning = learning
        self.reign: Reign | None = None

    @property
    def ballot(self) -> Ballot:
        """The ballot that this replica leads, or NOBODY."""
        return NOBODY if self.reign is None else self.reign.ballot

    # -- coming and going ----------------------------------------------------------------------------------

    def begin(self, ballot: Ballot, dropped: Slot, votes: Mapping[Slot, tuple[Ballot, Value]]) -> None:
        """Lead: a quorum has promised `ballot`.

        `votes` is by slot the vote of the highest ballot among that quorum's, or a decision. `dropped` is up to where
        one of them has dropped its log: of what lies below, nothing may be concluded from there being no vote.
        """
        state = self._state
        for slot in sorted(votes):
            ballot_of_vote, value = votes[slot]
            if ballot_of_vote == DECIDED:
                self._learning.decide(slot, value)
        start = max(state.committed, dropped) + 1
        self.reign = reign = Reign(ballot, start, state.now)
        state.cover("elected")
        if start > state.committed + 1:
            state.cover("leads above what it lacks")
        for slot in range(start, max(votes, default=-1) + 1):
            if state.decided(slot) is None:
                self._propose_again(slot, votes)
            reign.next_slot = slot + 1
        self._advance(reign)

    def _propose_again(self, slot: Slot, votes: Mapping[Slot, tuple[Ballot, Value]]) -> None:
        """What a quorum may have chosen at a lower ballot must be chosen again; what none can have is annulled."""
        if slot in votes:
            self._state.cover("proposed again by a new leader")
            self._propose(slot, votes[slot][1], "recovered")
        else:
            self._state.cover("gap annulled")
            self._propose(slot, NOP, "recovered")

    def end(self) -> None:
        """Lead no more, and send nothing more at that ballot."""
        if self.reign is not None:
            self._state.cover("deposed")
            self.reign = None

    # -- proposing -----------------------------------------------------------------------------------------

    def propose(self, command: Command, path: str) -> None:
        """Put a command into the next slot, unless one like it is on its way: it executes once, whoever sent it.

        Nothing is put behind a barrier, where it would never execute: who sent it asks again, or goes on in the next
        epoch.
        """
        reign = self.reign
        assert reign is not None
        if command.encoded in reign.commands:
            return
        if self._state.quiet:
            self._state.cover("kept for the end")
            return
        slot = reign.next_slot
        reign.next_slot = slot + 1
        self._propose(slot, command, path)

    def _propose(self, slot: Slot, value: Value, path: str) -> None:
        state, reign = self._state, self.reign
        assert reign is not None
        state.vote(slot, reign.ballot, value)
        proposal = Proposal(slot, value, path, state.now, state.settings.retry)
        if not reign.open:
            reign.progress = state.now
        reign.open[slot] = proposal
        if value is not NOP:
            reign.commands.add(value.encoded)
        peers = [peer for peer in state.peers if peer in state.online]
        self._ask(reign, proposal, peers if len(peers) >= state.quorum - 1 else state.peers)
        reign.told = reign.done
        voters = state.everybody if state.settings.learn is Learn.VOTES else (state.me,)
        state.promise(voters, AcceptOK(reign.ballot, slot))

    def _ask(self, reign: Reign, proposal: Proposal, peers: Sequence[Row]) -> None:
        """Ask peers for their votes; those that were sent the value before, without it."""
        state = self._state
        whole = Accept(reign.ballot, proposal.slot, proposal.value, reign.done)
        knowing = tuple(peer for peer in peers if peer in proposal.holders)
        unknowing = tuple(peer for peer in peers if peer not in proposal.holders)
        proposal.asked |= dict.fromkeys(peers, state.now)
        proposal.holders |= dict.fromkeys(unknowing, state.now)
        if knowing:
            state.promise(knowing, whole._replace(value=None))
        if unknowing:
            state.promise(unknowing, whole)

    def sweep(self) -> None:
        """Ask all again who have not voted and have had the time to."""
        reign = self.reign
        if reign is None:
            return
        state = self._state
        for proposal in list(reign.open.values()):
            if state.now < proposal.due:
                continue
            tally = self._learning.tallies.get(proposal.slot)
            voters: Collection[Row] = (
                tally.voters if tally is not None and tally.ballot == reign.ballot else ()
            )
            silent = [peer for peer in state.peers if peer not in voters]
            self._ask(
                reign,
                proposal,
                [peer for peer in silent if state.may_ask(peer, proposal.asked.get(peer, -math.inf))],
            )
            proposal.interval = min(2 * proposal.interval, state.settings.retry_limit)
            proposal.due = state.now + proposal.interval * (0.5 + state.random.random())

    def on_missing(self, sender: Row, message: Missing) -> None:
        """Send a peer the value that it lacks, unless that is under way."""
        reign, state = self.reign, self._state
        if reign is None or message.ballot != reign.ballot:
            return
        proposal = reign.open.get(message.slot)
        if proposal is not None and state.may_ask(sender, proposal.holders.get(sender, -math.inf)):
            proposal.holders.pop(sender, None)
            state.cover("payload sent again")
            self._ask(reign, proposal, (sender,))

    def hasten(self, peer: Row) -> None:
        """Ask a peer now that is there again, a few slots at once and all without payload: it says what it lacks."""
        reign, state = self.reign, self._state
        if reign is None:
            return
        for number, proposal in enumerate(reign.open.values()):
            proposal.interval = state.settings.retry
            if number < HASTENED:
                proposal.holders.setdefault(peer, -math.inf)
                self._ask(reign, proposal, (peer,))
            proposal.due = state.now + proposal.interval * (1 + number // HASTENED)

    # -- what is chosen ------------------------------------------------------------------------------------

    def on_decided(self, slot: Slot, value: Value) -> None:
        """A slot is decided here; a leader whose own proposal it is not has been replaced (rule 5)."""
        reign, state = self.reign, self._state
        if reign is None:
            return
        proposal = reign.open.pop(slot, None)
        if slot >= reign.next_slot or (proposal is not None and proposal.value != value):
            state.cover("leader outvoted")
            self.end()
            return
        if proposal is None:
            return
        reign.progress = state.now
        if proposal.path:
            seconds = state.now - proposal.started
            state.effects.commits.append(CommitNote(InstanceId(LOG, slot), proposal.path, seconds))
        self._advance(reign)

    def _advance(self, reign: Reign) -> None:
        while reign.done + 1 < reign.next_slot and reign.done + 1 not in reign.open:
            reign.done += 1

    def on_executed(self, value: Value) -> None:
        """A value has executed here; from now on the same command is proposed again if somebody asks for it."""
        if self.reign is not None and value is not NOP:
            self.reign.commands.discard(value.encoded)

    def on_adopted(self) -> None:
        """What has executed elsewhere is on its way no more, whatever became of it: it may be asked for again."""
        state, reign = self._state, self.reign
        if reign is not None:
            values = (held.value for slot, held in state.log.items() if slot > state.executed)
            reign.commands = {value.encoded for value in values if value is not None and value is not NOP}

    def announce(self) -> None:
        """Tell what has been chosen in this event, where votes do not; it may ride on what else is sent."""
        reign, state = self.reign, self._state
        if reign is not None and reign.done > reign.told and state.settings.learn is Learn.COMMITS:
            reign.told = reign.done
            state.effects.deferrable.append((state.peers, Commit(reign.ballot, reign.done)))

    def on_truncated(self, sender: Row, message: Truncated) -> None:
        """A peer has dropped what this replica lacks: only its checkpoint can bring it (rule 7)."""
        state = self._state
        if message.frontier <= state.committed:
            return
        state.cover("told of truncation")
        state.effects.fetch.append(sender)
        self.on_dropped(message.frontier)

    def on_dropped(self, frontier: Slot) -> None:
        """What is up to here has executed elsewhere, and this replica does not know with which values.

        Whether it was chosen what this replica proposed there cannot be told, so no word may be given on it.
        """
        reign = self.reign
        if reign is not None and (
            reign.next_slot <= frontier or any(slot <= frontier for slot in reign.open)
        ):
            self._state.cover("leader behind what others have dropped")
            self.end()
