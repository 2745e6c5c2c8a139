"""Elections that nobody needed, and clients that wait where nobody leads: nothing breaks, and nothing gets done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from epaxos.protocol.contract import Effects, Event, PeerStatus, Receive, Tick
from epaxos.protocol.ids import Ballot, InstanceId, Row, Vector
from epaxos.protocol.kinds import MULTIPAXOS
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.messages import Beacon, Prepare
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer

SETTLED: Final = 200
"""Ticks of a replica, ten in a time-out, after which all that followed from a change of the links is over.

By then replicas have elected somebody, or know that they hear nobody who leads, and clients have left these.
"""


class Elections(Observer):
    """Checks every campaign of a run; all that a replica hears it takes from the events of its core.

    Nobody campaigns that hears somebody happy (multipaxos 2, rule 9). Where links change seldom and nothing else is
    wrong (`steady`), nobody campaigns at all once a change has settled, nor waits a client longer while somebody leads.
    """

    def __init__(self, n: int, *, steady: bool) -> None:
        self._steady = steady
        self._online: list[set[Row]] = [set(range(n)) - {row} for row in range(n)]
        self._happy: list[set[Row]] = [set() for _ in range(n)]
        self._begun: set[Ballot] = set()
        self._ticks: Counter[Row] = Counter()
        self._time = self._changed = 0.0
        self._waiting: dict[tuple[int, int], float] = {}

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`: each epoch has its own leaders."""
        if configuration.protocol != MULTIPAXOS.name:
            return Observer()
        return Elections(configuration.n, steady=self._steady) if configuration.epoch else self

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
        self._changed = self._time

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        self._waiting[call.client, call.number] = self._time

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        del row
        self._waiting.pop((call.client, call.number), None)

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
            if self._steady:
                self._watch_clients()
            for _, message in effects.promises:
                if type(message) is Prepare and message.ballot not in self._begun:
                    self._begun.add(message.ballot)
                    self._check(row, message.ballot)

    def _watch_clients(self) -> None:
        self._time += 1 / len(self._happy)
        if not any(map(set.__and__, self._happy, self._online)):
            self._changed = self._time
        if self._waiting and self._time - max(self._changed, min(self._waiting.values())) > SETTLED:
            client, number = min(self._waiting, key=lambda call: self._waiting[call])
            text = f"command {number} of client {client} waits though somebody leads whom others reach"
            raise ViolationError("elections", text)

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
