"""What must hold of registers, seen from outside: acceptors' disks, what leaves, and what proposers report.

- A ballot stands for one state of a key, and votes are for what was proposed.
- What is chosen is a chain: every chosen state was computed from the chosen one below it, through states that may not
  have been chosen themselves. A chain may begin anew only above a tombstone that was removed.
- A change that failed is in no chain, one that may not be repeated at most once, and one that is done has been chosen.
- A promise or a vote is durable before it leaves, and neither goes back.
- A tombstone is removed only where it is the last thing promised, and when all acceptors have it; nothing from before
  comes back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from typing import Any, NamedTuple, NoReturn, TypeAlias

from epaxos.protocol.registers import observing
from epaxos.protocol.registers.change import Change, Done, Phase, Verdict
from epaxos.protocol.registers.values import (
    EMPTY,
    FIRST,
    ZERO,
    Accepted,
    Ballot,
    Cell,
    Configuration,
    Promise,
    Seen,
    State,
)
from epaxos.simulation.checkers.violation import ViolationError

Owner: TypeAlias = "tuple[int, int, int]"
"""A proposal: its proposer, how often that had started, and the ticket."""


class Gone(NamedTuple):
    """The cell of a key has been removed."""

    key: bytes


class _Proposal(NamedTuple):
    """What one attempt asked votes for, computed from what was accepted at `parent`."""

    state: State
    parent: Ballot
    configuration: Configuration
    owner: Owner
    reads: bool
    repeatable: bool


class Registers:
    """Checks all keys of a run."""

    def __init__(self) -> None:
        self._proposals: dict[tuple[bytes, Ballot], _Proposal] = {}
        self._votes: defaultdict[tuple[bytes, Ballot], set[int]] = defaultdict(set)
        self._cells: dict[tuple[int, bytes], Cell] = {}
        self._floors: defaultdict[int, Ballot] = defaultdict(lambda: ZERO)
        self._removed: defaultdict[bytes, Ballot] = defaultdict(lambda: ZERO)
        self._attempts: defaultdict[Owner, list[tuple[bytes, Ballot]]] = defaultdict(list)
        self._failed: set[Owner] = set()
        self._peeks: dict[Owner, Configuration] = {}
        self.chosen: defaultdict[bytes, list[Ballot]] = defaultdict(list)

    # -- proposers ---------------------------------------------------------------------------------------------

    def asked(self, row: int, starts: int, change: Change) -> None:
        """A proposer asks for votes, or what was accepted."""
        want, owner = change.want, (row, starts, change.ticket)
        if change.phase is Phase.PEEK:
            self._peeks[owner] = change.configuration
            return
        place = want.key, change.ballot
        proposal = _Proposal(
            change.state, change.parent, change.configuration, owner, want.reads, want.repeatable
        )
        known = self._proposals.setdefault(place, proposal)
        if known is proposal:
            self._attempts[owner].append(place)
        elif known != proposal:
            _violated("one state a ballot", f"{place} stands for {known.state} and for {change.state}")

    def ended(self, row: int, starts: int, done: Done) -> None:
        """A proposer says how a proposal ended."""
        owner = (row, starts, done.ticket)
        if done.verdict is Verdict.DONE:
            if done.ballot != ZERO and done.ballot not in self.chosen[done.key]:
                self._choose_as_seen(owner, done)
        elif done.verdict is Verdict.FAILED:
            self._failed.add(owner)
            for key in {key for key, _ in self._attempts[owner]}:
                for ballot in self.chosen[key]:
                    self._check_owners(key, ballot)

    def _choose_as_seen(self, owner: Owner, done: Done) -> None:
        """What had too few votes where it was proposed may have enough for a reader, in the step that it knows.

        Of the acceptors that are left later; or of those before one joined, if it does not know of that yet: all who
        propose then still prepare at a majority of those, and find it.
        """
        place = done.key, done.ballot
        if place not in self._proposals:
            _violated("done", f"{done} was never proposed")
        seen = self._peeks.get(owner)
        if seen is None or len(self._votes[place].intersection(seen.accept)) < seen.votes:
            _violated("done", f"{done} was not chosen")
        self._choose(*place)

    def observed(self, row: int, told: observing.Chosen, knows: Configuration, last: Ballot | None) -> None:
        """An observer that `knows` who votes tells what is chosen; the `last` that it told of this register."""
        key, ballot, state = told
        proposal = self._proposals.get((key, ballot))
        if proposal is None or proposal.state != state:
            _violated("observed", f"{told} of {row} was never proposed")
        if last is not None and ballot < last:
            _violated("observed", f"{row} tells {told} after {last}")
        if ballot not in self.chosen[key]:
            if len(self._votes[key, ballot].intersection(knows.accept)) < knows.votes:
                _violated("observed", f"{told} of {row} was not chosen")
            self._choose(key, ballot)

    def holds(self) -> dict[bytes, bytes]:
        """What all registers hold in the end that hold anything."""
        found = {}
        for key, ballots in self.chosen.items():
            value = self._proposals[key, ballots[-1]].state.value if ballots else None
            if value is not None:
                found[key] = value
        return found

    # -- acceptors ---------------------------------------------------------------------------------------------

    def durable(self, row: int, record: Any) -> None:
        """Something has become durable at a process."""
        if isinstance(record, Cell):
            self._keep(row, record)
        elif isinstance(record, Gone):
            self._forget(row, record.key)

    def _keep(self, row: int, cell: Cell) -> None:
        before = self._cells.get((row, cell.key))
        if before is None:
            before = Cell(cell.key, self._floors[row], ZERO, cell.state)
            # The ballot FIRST is below every floor; those who use it do not rely on what was removed.
            if cell.promised <= self._floors[row] and cell.accepted != FIRST:
                _violated("nothing returns", f"acceptor {row} has {cell} again, below {self._floors[row]}")
        if cell.promised < before.promised or cell.accepted < before.accepted:
            _violated("promises", f"acceptor {row} had {before} and has {cell}")
        self._cells[row, cell.key] = cell
        if cell.accepted in (ZERO, before.accepted):
            return
        place = cell.key, cell.accepted
        proposal = self._proposals.get(place)
        if proposal is None or proposal.state != cell.state:
            _violated("votes", f"acceptor {row} has {cell}, which nobody proposed")
        self._votes[place].add(row)
        votes = self._votes[place].intersection(proposal.configuration.accept)
        if len(votes) == proposal.configuration.votes and row in votes:
            self._choose(*place)

    def _forget(self, row: int, key: bytes) -> None:
        cell = self._cells.pop((row, key))
        place = key, cell.accepted
        if cell.state == EMPTY or cell.state.value is not None or cell.promised != cell.accepted:
            _violated("removal", f"acceptor {row} removes {cell}")
        wanted = self._proposals[place].configuration.accept
        if not self._votes[place] >= set(wanted):
            _violated("removal", f"acceptor {row} removes {place}, which only {self._votes[place]} took")
        self._floors[row] = max(self._floors[row], cell.accepted)
        self._removed[key] = max(self._removed[key], cell.accepted)

    def left(self, row: int, receiver: int, message: Any) -> None:
        """A message leaves a process."""
        if isinstance(message, Promise):
            cell = self._cells.get((row, message.key))
            if cell is None or cell.promised < message.ballot:
                _violated("durable before sent", f"{message} of {row} to {receiver} is not durable: {cell}")
        elif isinstance(message, Seen) and message.accepted > ZERO:
            if row not in self._votes[message.key, message.accepted]:
                _violated("durable before sent", f"{message} of {row} to {receiver} is not durable")
        elif isinstance(message, Accepted) and row not in self._votes[message.key, message.ballot]:
            _violated("durable before sent", f"{message} of {row} to {receiver} is not durable")

    # -- what is chosen ------------------------------------------------------------------------------------------

    def _chain(self, key: bytes, ballot: Ballot) -> list[Ballot]:
        """A ballot and those that its state was computed from, descending."""
        chain = []
        while ballot != ZERO:
            chain.append(ballot)
            ballot = self._proposals[key, ballot].parent
        return chain

    def _choose(self, key: bytes, ballot: Ballot) -> None:
        chosen = self.chosen[key]
        place = bisect_left(chosen, ballot)
        for lower, upper in ((chosen[place - 1 : place], [ballot]), ([ballot], chosen[place : place + 1])):
            if (
                lower
                and upper
                and lower[0] not in self._chain(key, upper[0])
                and lower[0] > self._removed[key]
            ):
                text = f"{key!r}: {upper[0]} was computed from {self._chain(key, upper[0])[1:]}, without {lower[0]}"
                _violated("chain", text)
        insort(chosen, ballot)
        self._check_owners(key, ballot)

    def _check_owners(self, key: bytes, ballot: Ballot) -> None:
        """See that no failed proposal is in the chain below a ballot, and none twice that may be there once."""
        seen: set[Owner] = set()
        for link in self._chain(key, ballot):
            proposal = self._proposals[key, link]
            if proposal.reads:
                continue
            if proposal.owner in self._failed:
                _violated(
                    "surely not",
                    f"{key!r}: {link}, of a proposal that failed, is in what was chosen at {ballot}",
                )
            if proposal.owner in seen and not proposal.repeatable:
                _violated(
                    "once", f"{key!r}: {link} is of a proposal that is in what was chosen at {ballot} twice"
                )
            seen.add(proposal.owner)


def _violated(rule: str, text: str) -> NoReturn:
    raise ViolationError(rule, text)
