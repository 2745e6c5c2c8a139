"""The acceptor: a few comparisons, on which everything else stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from epaxos.errors import FrameError
from epaxos.protocol.registers.values import (
    AHEAD,
    EMPTY,
    FIRST,
    VOTERS,
    ZERO,
    Accept,
    Accepted,
    Answer,
    Ballot,
    Cell,
    Conflict,
    Peek,
    Prepare,
    Promise,
    Remove,
    Removed,
    Seen,
)

Find: TypeAlias = Callable[[bytes], "Cell | None"]
"""The cell of a key, as it was written last, durable or not; None where there is none."""


class Taken(NamedTuple):
    """What a request leads to. `cell` or the removal must be durable before `answer` leaves.

    removed  the key whose cell goes; the floor that goes with it must be durable before, or with it
    """

    answer: Answer
    cell: Cell | None = None
    removed: bytes | None = None


class Acceptor:
    """Votes on all keys of one node, whose cells `find` gives.

    `floor` is the highest tombstone that was ever removed here: a register that is not there has promised that, or a
    message from before the removal could bring it back.
    """

    def __init__(self, find: Find, floor: Ballot = ZERO, highest: Ballot = ZERO) -> None:
        self._find = find
        self.floor = floor
        self._highest = max(floor, highest)

    def take(self, request: Prepare | Accept | Peek | Remove) -> Taken:
        """Answer a request.

        Raises:
            FrameError: its ballot is one that no proposer can have come to.
        """
        key, ballot = request.key, request.ballot
        furthest = max(ballot, request.following) if isinstance(request, Accept) else ballot
        if furthest.counter > self._highest.counter + AHEAD:
            raise FrameError(
                "future", f"ballot {furthest} is from the future: {self._highest} is the highest yet"
            )
        cell = self._find(key)
        if isinstance(request, Peek):
            accepted, state = (ZERO, EMPTY) if cell is None else (cell.accepted, cell.state)
            return Taken(Seen(key, ballot, accepted, state))
        if isinstance(request, Remove):
            return self._remove(request, cell)
        self._highest = max(self._highest, furthest)
        if isinstance(request, Prepare):
            return self._prepare(request, cell)
        return self._accept(request, cell)

    def _prepare(self, request: Prepare, cell: Cell | None) -> Taken:
        key, ballot = request
        cell = self._absent(key) if cell is None else cell
        if ballot < cell.promised or ballot <= cell.dropped:
            return self._conflict(request, cell)
        answer = Promise(key, ballot, cell.accepted, cell.state, cell.dropped)
        return Taken(answer, None if ballot == cell.promised else cell._replace(promised=ballot))

    def _accept(self, request: Accept, cell: Cell | None) -> Taken:
        key, ballot, state, following = request
        if cell is None and ballot == FIRST:
            # Nobody has prepared here, so whoever does will hear of it. That a removal here, of this register or
            # another, has raised the floor says nothing against it: see `Want.first`.
            return Taken(
                Accepted(key, FIRST),
                Cell(key, max(self.floor, FIRST, following), FIRST, state, (FIRST,), self.floor),
            )
        cell = self._absent(key) if cell is None else cell
        if ballot in cell.voted:
            return Taken(Accepted(key, ballot))  # a second copy
        if ballot < cell.promised or ballot <= cell.dropped:
            return self._conflict(request, cell)
        voted = (*(other for other in cell.voted if other.proposer != ballot.proposer), ballot)
        dropped = max(cell.dropped, *voted[:-VOTERS], ZERO)
        promised = max(ballot, following)
        return Taken(Accepted(key, ballot), Cell(key, promised, ballot, state, voted[-VOTERS:], dropped))

    def _absent(self, key: bytes) -> Cell:
        """A register that is not there: what was removed may have been accepted here, up to the floor."""
        return Cell(key, self.floor, ZERO, EMPTY, (), self.floor)

    def _remove(self, request: Remove, cell: Cell | None) -> Taken:
        key, ballot = request
        if cell is None:
            return Taken(Removed(key, ballot, done=ballot <= self.floor))
        if not cell.promised == cell.accepted == ballot or cell.state.value is not None:
            return Taken(Removed(key, ballot, done=False))
        self.floor = max(self.floor, ballot)
        return Taken(Removed(key, ballot, done=True), removed=key)

    def _conflict(self, request: Prepare | Accept, cell: Cell) -> Taken:
        """Refuse. A proposer's ballots ascend: what is above the last one accepted of it was not accepted."""
        last = max((vote for vote in cell.voted if vote.proposer == request.ballot.proposer), default=ZERO)
        never = request.ballot > max(last, cell.dropped)
        return Taken(Conflict(request.key, request.ballot, cell.promised, never))
