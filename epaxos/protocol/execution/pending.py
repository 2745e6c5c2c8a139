"""An instance that is decided and not executed, and the search for its dependency closure."""

from __future__ import annotations

from epaxos.protocol.contract import Decided
from epaxos.protocol.ids import Slot


class Pending:
    """A decided instance that waits for its closure to be decided too.

    closure   per row the highest slot in the closure, as far as known
    scanned   per row the slot up to which the closure takes account of the instances in it
    executed  whether it has left
    leader    the pending instance that it waits for; None if it is awake or waits for a row to be decided
    followers those that wait for this one
    shortcut  a later leader on the same chain, valid until that one has executed
    index     when Tarjan's search visited it, -1 before
    low       the earliest index on Tarjan's stack that it reaches
    """

    __slots__ = (
        "closure",
        "decided",
        "executed",
        "followers",
        "index",
        "leader",
        "low",
        "scanned",
        "shortcut",
    )

    def __init__(self, decided: Decided, n: int) -> None:
        self.decided = decided
        self.closure: list[Slot] = list(decided.deps)
        self.scanned: list[Slot] = [-1] * n
        self.executed = False
        self.leader: Pending | None = None
        self.shortcut: Pending | None = None
        self.followers: list[Pending] = []
        self.index = -1
        self.low = -1

    def absorb(self, other: Pending) -> None:
        """Take over another's search: its closure is part of this one, what it scanned need not be again."""
        self.closure[:] = map(max, self.closure, other.closure)
        self.scanned[:] = map(max, self.scanned, other.scanned)

    def follow(self, leader: Pending) -> None:
        """Wait for another to execute."""
        self.leader = leader
        leader.followers.append(self)

    def release(self) -> list[Pending]:
        """Leave as executed; return those followers that have not executed and may now go on."""
        self.executed = True
        followers = [follower for follower in self.followers if not follower.executed]
        for follower in followers:
            follower.leader = None
        # References to one another would keep executed payloads alive until a collection of cycles.
        self.followers, self.leader, self.shortcut = [], None, None
        return followers

    def last_leader(self) -> Pending:
        """The end of the chain of leaders: one that waits for no other instance."""
        passed = []
        last = self
        while last.leader is not None:
            passed.append(last)
            shortcut = last.shortcut
            last = last.leader if shortcut is None or shortcut.executed else shortcut
        for follower in passed:
            follower.shortcut = last
        return last
