"""When a replica proposes a collection (protocol 4.13): without sockets, threads or clocks, like `keeper`.

Any replica may, and one is enough: the others count from the moment when it has executed with them. Each waits a
little longer than the one before it in rank, so that they do not all propose at once; where two do, the second changes
nothing. Nor does a replica propose a second one before one has executed, its own or another's: the first is on its way,
and proposed again if it is annulled, like all that a replica proposes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

from epaxos.protocol.contract import CoreStatus
from epaxos.protocol.ids import Row


class CollectorSettings(NamedTuple):
    """How replica `row` of `n` collects.

    interval   seconds between two collections, at least
    quorum     how many replicas a commit takes
    instances  own instances in flight at most
    owned      whether each row of the log has an owner, for whom others wait (`protocol.kinds`)
    """

    interval: float
    row: Row
    n: int
    quorum: int
    instances: int
    owned: bool = True


class Collector:
    """The collections that one replica proposes. A cluster in which nothing is left to collect proposes none."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._quorum = settings.quorum
        self._patience = settings.interval * (1 + settings.row / settings.n)
        self._generation = -1
        self._due = 0.0

    def is_due(self, generation: int, now: float) -> bool:
        """Whether it is time for the next one, `generation` others having executed here; it is put off then."""
        if generation == self._generation and now < self._due:
            return False
        known, self._generation = self._generation == generation, generation
        self._due = now + self._patience
        return known

    def proposed(self) -> None:
        """One is on its way: the next one is due some time after a collection has executed here."""
        self._due = math.inf

    def may_propose(self, status: CoreStatus, sessions: int, online: Collection[Row]) -> bool:
        """Whether there is something to collect, and nothing of a silent peer that everybody would wait for then.

        `online` are the peers that this replica hears and that hear it. Nor without a quorum: nothing would come of
        it before there is one, when others may have proposed theirs.
        """
        settings = self._settings
        return (
            sessions + status.remembered > 0
            and len(online) + 1 >= self._quorum
            and status.in_flight < settings.instances
            and all(
                not settings.owned or row == settings.row or row in online or committed == seen
                for row, (committed, seen) in enumerate(zip(status.committed, status.seen, strict=True))
            )
        )

    @property
    def deadline(self) -> float:
        """When `is_due` is to be asked even if nothing else happens."""
        return self._due
