"""What is chosen, from what acceptors say that they took: the counting of observers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from epaxos.protocol.registers.values import ZERO, Ballot, Configuration, State, Told

MOST_OPEN: Final = 100_000
"""Keys that are remembered until all acceptors have told of them; of more, only those without a majority."""


MOST_TOLD: Final = 50_000
"""Keys of which the last ballot that was told is remembered: more than the feeds of a few acceptors can repeat."""


class Chosen(NamedTuple):
    """A state of a register that was chosen at a ballot; without a value, the register was deleted."""

    key: bytes
    ballot: Ballot
    state: State


class _Open:
    """What is known of one key: `done` was chosen and `reached` have told of it; above it, who took what, and where."""

    __slots__ = ("done", "reached", "votes")

    def __init__(self) -> None:
        self.done = ZERO
        self.reached: set[int] = set()
        self.votes: dict[Ballot, dict[int, int]] = {}


class Tallies:
    """Counts by key and ballot. A key is forgotten once all acceptors that are followed have told of what is chosen.

    Those who propose may be one step of a change of the acceptors further than who counts here, or behind. What a
    majority of either step's accept set took is found by every prepare majority of the other (`upkeep.plan`).
    """

    def __init__(self) -> None:
        self._open: dict[bytes, _Open] = {}
        self._told: OrderedDict[bytes, Ballot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self,
        acceptor: int,
        told: Told,
        position: int,
        configuration: Configuration,
        followed: Collection[int],
    ) -> Chosen | None:
        """An acceptor has taken something, told at this position of its feed; the result is what is chosen thereby."""
        key, accepted, state = told
        if accepted == ZERO or acceptor not in configuration.accept:
            return None  # a register that somebody has prepared only
        known = self._open.get(key)
        if known is None:
            if accepted <= self._told.get(key, ZERO):
                return None
            known = self._open[key] = _Open()
        chosen = None
        if accepted == known.done:
            known.reached.add(acceptor)
        elif accepted > known.done:
            votes = known.votes.setdefault(accepted, {})
            votes.setdefault(acceptor, position)
            if len(votes.keys() & set(configuration.accept)) >= configuration.votes:
                known.done, known.reached = accepted, set(votes)
                known.votes = {ballot: who for ballot, who in known.votes.items() if ballot > accepted}
                chosen = Chosen(key, accepted, state)
                self._told[key] = accepted
                self._told.move_to_end(key)
                if len(self._told) > MOST_TOLD:
                    self._told.popitem(last=False)
        if not known.votes and known.reached.issuperset(followed):
            del self._open[key]
        elif len(self._open) > MOST_OPEN:
            self._open = {key: known for key, known in self._open.items() if known.votes}
        return chosen

    def undecided(self, most: int) -> list[bytes]:
        """Keys of which something was taken that is not known to be chosen, those that stand open longest first."""
        found: list[bytes] = []
        for key, known in self._open.items():
            if known.votes:
                found.append(key)
                if len(found) >= most:
                    break
        return found

    def put_off(self, key: bytes) -> None:
        """All who can be asked of this key were, and it still stands open: others come first now."""
        if (known := self._open.pop(key, None)) is not None:
            self._open[key] = known

    @property
    def overrun(self) -> bool:
        """Whether too much stands open to be remembered."""
        return len(self._open) > MOST_OPEN

    def clear(self) -> None:
        """Forget what stands open; what was told lately stays told."""
        self._open.clear()

    def first_open(self) -> Iterator[tuple[int, int]]:
        """Acceptors, and where they told of something that is not known to be chosen."""
        for known in self._open.values():
            for votes in known.votes.values():
                yield from votes.items()
