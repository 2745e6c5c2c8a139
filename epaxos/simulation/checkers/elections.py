"""Elections that nobody needed (multipaxos 2, rule 9): nothing breaks by them, and nothing gets done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from epaxos.protocol.contract import Effects, Event, PeerStatus, Receive, Tick
from epaxos.protocol.ids import Ballot, InstanceId, Row, Vector
from epaxos.protocol.log import Instance
from epaxos.protocol.multipaxos.messages import Beacon, Prepare
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer

SETTLED: Final = 200
"""Ticks of a replica, ten in a time-out, after which all that followed from a change of the links is over."""


class Elections(Observer):
    """Checks every campaign of a run; all that a replica hears it takes from the events of its core.

    Nobody campaigns that hears somebody happy. Where links change seldom and nothing else is wrong (`steady`), nobody
    campaigns at all once a change has settled.
    """

    def __init__(self, n: int, *, steady: bool) -> None:
        self._steady = steady
        self._online: list[set[Row]] = [set(range(n)) - {row} for row in range(n)]
        self._happy: list[set[Row]] = [set() for _ in range(n)]
        self._begun: set[Ballot] = set()
        self._ticks: Counter[Row] = Counter()

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        del records, executed, above
        self._online[row] = set(range(len(self._online))) - {row}
        self._happy[row].clear()

    def happened(self, text: str) -> None:
        """See `Observer`."""
        del text
        self._ticks.clear()

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        if isinstance(event, Receive):
            if type(event.message) is Beacon:
                self._hear(row, event.sender, event.message)
        elif isinstance(event, PeerStatus):
            (self._online[row].add if event.online else self._online[row].discard)(event.peer)
            if not event.online:
                self._happy[row].discard(event.peer)
        elif isinstance(event, Tick):
            self._ticks[row] += 1
            for _, message in effects.promises:
                if type(message) is Prepare and message.ballot not in self._begun:
                    self._begun.add(message.ballot)
                    self._check(row, message.ballot)

    def _hear(self, row: Row, sender: Row, beacon: Beacon) -> None:
        (self._happy[row].add if beacon.happy else self._happy[row].discard)(sender)

    def _check(self, row: Row, ballot: Ballot) -> None:
        happy = sorted(self._happy[row] & self._online[row])
        if happy:
            self._fail(row, ballot, f"though it hears that {happy} see no reason to")
        if self._steady and self._ticks[row] > SETTLED:
            self._fail(row, ballot, f"{self._ticks[row]} ticks after the links have changed last")

    @staticmethod
    def _fail(row: Row, ballot: Ballot, text: str) -> None:
        raise ViolationError("elections", f"replica {row} campaigns at ballot {ballot} {text}")
