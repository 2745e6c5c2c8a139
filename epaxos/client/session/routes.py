"""Which replica to send to.

One replica at a time is enough while it answers: the first of the client's `order`. The others are connected
to when they are needed. A replica in the process of connecting is waited for, but only for `PATIENCE`
before the next one is connected to as well, so that a dead replica costs milliseconds and a far one is not
mistaken for it. One that let a try time out is avoided for `AVOIDANCE`, or until it answers. Where no connection
can even be asked for (no descriptor is left, its name means nothing), that is tried again after `REPAIR`.
Those that are known to be no members any more (`client.directory`) come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from epaxos.client.directory import Directory

PATIENCE: Final = 0.05
AVOIDANCE: Final = 10.0
REPAIR: Final = 0.2


@dataclass(slots=True)
class Link:
    """A replica as a client sees it; times are seconds on the session's clock.

    up              there is a connection: a frame can be sent now
    opened          a connection has been asked for; it comes and goes by itself from then on
    patience_until  the connection may just be slow to come until then
    avoid_until     it let a try time out; others are better until then
    owed            frames sent to it less answers from it; lost ones stay in the count
    trouble         why there is no connection, as far as that is known
    repair_at       no connection is to be asked for before
    """

    up: bool = False
    opened: bool = False
    patience_until: float = -inf
    avoid_until: float = -inf
    owed: int = 0
    trouble: str = ""
    repair_at: float = -inf


class Routes:
    """The replicas of a session, by their index in its directory, and the choice among them."""

    __slots__ = ("_directory", "_order", "links", "retry_at", "to_open")

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._order: tuple[int, ...] = ()
        self.links: list[Link] = []
        self.to_open: list[int] = []
        self.retry_at = inf
        """When `choose` may answer differently without any news of a connection."""
        self._look()

    def _look(self) -> None:
        """See who is there by now: another session may have learned it, in another thread."""
        directory = self._directory
        self._order = directory.order
        self.links += [Link() for _ in range(len(self.links), len(directory.places))]

    def choose(self, tried: tuple[int, ...], now: float) -> int | None:
        """The replica for a frame that was sent to those `tried` before; None if there is none for now.

        Those tried least come first, then those that are not avoided, then the client's order.
        """
        if self._order is not self._directory.order:
            self._look()
        best = self._order[0]
        link = self.links[best]
        if not tried and link.up and link.avoid_until <= now:
            return best
        for replica in sorted(self._order, key=lambda replica: self._demerits(replica, tried, now)):
            if self.reach(replica, now):
                return replica
            patience_until = self.links[replica].patience_until
            if patience_until > now:
                self.retry_at = min(self.retry_at, patience_until)
                return None
        return None

    def _demerits(self, replica: int, tried: tuple[int, ...], now: float) -> tuple[int, bool]:
        return tried.count(replica), self.links[replica].avoid_until > now

    def reach(self, replica: int, now: float) -> bool:
        """Whether a frame can be sent to `replica` now; asks for a connection if there is none."""
        if self._order is not self._directory.order:
            self._look()
        link = self.links[replica]
        if not link.opened:
            if now < link.repair_at:
                self.retry_at = min(self.retry_at, link.repair_at)
                return False
            link.opened = True
            link.patience_until = now + PATIENCE
            self.to_open.append(replica)
        return link.up

    def rise(self, replica: int) -> None:
        """The replica is connected."""
        link = self.links[replica]
        link.up = link.opened = True
        link.trouble = ""

    def fall(self, replica: int) -> None:
        """The connection is lost, or takes no more for now; there is no point in waiting for it."""
        link = self.links[replica]
        link.up = False
        link.patience_until = -inf

    def connected(self) -> int | None:
        """The replica that is the likeliest to take a frame at once; None if there is no connection."""
        up = [replica for replica in self._order if self.links[replica].up]
        return min(up, key=lambda replica: self.links[replica].avoid_until, default=None)

    def broken(self, replica: int, trouble: str, now: float) -> None:
        """No connection can be asked for, or the one there was is of no more use."""
        self.fall(replica)
        link = self.links[replica]
        link.opened = False
        link.trouble = trouble
        link.repair_at = now + REPAIR

    def untried(self, tried: tuple[int, ...], now: float) -> bool:
        """Whether a frame that was sent to those `tried` can go to another replica that is there, or may be."""
        if self._order is not self._directory.order:
            self._look()
        return any(self._may_be_there(replica, now) for replica in set(self._order).difference(tried))

    def _may_be_there(self, replica: int, now: float) -> bool:
        link = self.links[replica]
        return link.up or (now < link.patience_until if link.opened else now >= link.repair_at)

    def sent(self, replica: int) -> None:
        """A frame went to the replica."""
        self.links[replica].owed += 1

    def unsent(self, replica: int) -> None:
        """The frame last counted by `sent` did not go."""
        self.links[replica].owed -= 1

    def silent(self, replica: int, now: float) -> None:
        """The replica let a try time out."""
        self.links[replica].avoid_until = now + AVOIDANCE

    def answered(self, replica: int) -> bool:
        """The replica answered a frame; returns whether that can only have been the last one sent to it."""
        link = self.links[replica]
        link.avoid_until = -inf
        only = link.owed == 1
        link.owed -= 1
        return only
