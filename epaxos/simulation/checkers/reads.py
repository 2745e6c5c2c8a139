"""Reads that are none of the log: what they tell stood there, and nobody was told of more before (protocol 7).

Of each key the executed writers are one sequence, of which every replica has executed a prefix. So a state is told, as
far as a key goes, by how many have executed; whatever a read tells must be what stood after so many. One by a quorum
must have as many as had executed at any replica when its client asked: more than linearizability alone asks for, since
of what has executed anywhere, anybody may have been told; it alone tells of a lock in the place of what stands there.
What is read locally never goes back at a replica that runs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from epaxos.protocol.contract import Component
from epaxos.protocol.ids import Row
from epaxos.protocol.log import NOP
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Contents
from epaxos.simulation.checkers.order import ExecutionOrder
from epaxos.simulation.checkers.reference import ANY, EVERYTHING, Result
from epaxos.simulation.checkers.results import Results
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult


class _Stood(NamedTuple):
    """What stands under a key: its value, and what is told of its lock."""

    value: bytes | None = None
    held: Any = None

    def told(self, operation: int, reading: Reading) -> Result:
        """What a read comes to."""
        if self.held is not None and reading is Reading.QUORUM:
            return int(Outcome.LOCKED), self.held
        if self.value is None:
            return int(Outcome.NOT_FOUND), None
        return int(Outcome.DONE), self.value if operation == Operation.READ else None


class _Versions:
    """What has stood under a key, by how many of its writers had executed first."""

    def __init__(self) -> None:
        self._counts: list[int] = [0]
        self._stood: list[_Stood] = [_Stood()]
        self._times: list[float] = [-math.inf]

    def note(self, count: int, stood: _Stood, now: float) -> None:
        if count > self._counts[-1]:
            self._counts.append(count)
            self._stood.append(stood)
            self._times.append(now)

    def count_at(self, moment: float) -> int:
        """How many writers had executed anywhere by a moment."""
        return self._counts[bisect_right(self._times, moment) - 1]

    def first_like(self, told: Result, operation: int, least: int) -> int | None:
        """After how many writers, of `least` or more, an observer may have told this; None if it never might."""
        start = bisect_right(self._counts, least) - 1
        for count, stood in zip(self._counts[start:], self._stood[start:], strict=True):
            if stood.told(operation, Reading.AGED) == told:
                return max(least, count)
        return None

    def at(self, count: int) -> _Stood:
        return self._stood[bisect_right(self._counts, count) - 1]


class Reads(Observer):
    """Sees what reads tell; `order` and `results` are those of the first epoch, and see each event before this."""

    def __init__(
        self, contents: Contents, order: ExecutionOrder, results: Results, slowest: float = 1.0
    ) -> None:
        self._slowest = slowest
        self._contents = contents
        self._results = results
        self._orders: dict[int, ExecutionOrder] = {0: order}
        self._names: dict[int, tuple[str, ...]] = {}
        self._epochs: dict[str, int] = {}
        self._versions: defaultdict[bytes, _Versions] = defaultdict(_Versions)
        self._least: dict[tuple[int, int], int] = {}
        self._told: defaultdict[tuple[int, int], list[Result]] = defaultdict(list)
        self._before: defaultdict[Row, dict[bytes, int]] = defaultdict(dict)

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`."""
        epoch = configuration.epoch
        self._names[epoch] = configuration.names
        if epoch:
            self._orders[epoch] = self._orders[0].later[epoch]
        return _OfEpoch(self, epoch)

    def _anywhere(self, key: bytes) -> int:
        """How many writers of a key have executed at some replica."""
        return sum(order.writers(key) for order in self._orders.values())

    def _at(self, row: Row, key: bytes) -> int:
        """How many have at one: all of the epochs before its own, and what it has of that."""
        name = f"r{row}"
        running = self._epochs[name]
        earlier = sum(order.writers(key) for epoch, order in self._orders.items() if epoch < running)
        return earlier + self._orders[running].writers_at(self._names[running].index(name), key)

    def began(self, row: Row, epoch: int) -> None:
        """A replica goes on in an epoch."""
        self._epochs[self._names[epoch][row]] = epoch

    def stopped(self, row: Row) -> None:
        """See `Observer`: it may come back with less."""
        self._before[row].clear()

    def note(self, component: Component) -> None:
        """Note what stands under the keys that a component has written, if it executes for the first time anywhere.

        That may be at an observer, which may be ahead of all that vote.
        """
        keys: set[bytes] = set()
        for decided in component:
            if decided.value is not NOP:
                keys.update(self._contents.of(decided.value).brought)
        keys.discard(ANY)
        if EVERYTHING in keys:
            keys = (keys | self._versions.keys()) - {EVERYTHING}
        for key in keys:
            stood = _Stood(self._results.state.get(key), self._results.transactions.held([key]))
            self._versions[key].note(self._anywhere(key), stood, self._results.now())

    def executed_too(
        self, host: Row, epoch: int, component: Component, results: Sequence[Sequence[BatchResult]]
    ) -> None:
        """See `Observer`."""
        del host, epoch, results
        self.note(component)

    def asked(self, call: Call) -> None:
        """See `Observer`."""
        if call.reading in (Reading.QUORUM, Reading.AGED):
            self._least[call.client, call.number] = self._anywhere(call.command.key)

    def looked(
        self, row: Row, reading: Reading, operations: bytes, keys: Sequence[bytes], result: BatchResult
    ) -> None:
        """See `Observer`."""
        values = result.values or [None] * len(keys)
        columns = zip(operations, keys, result.outcomes, values, strict=True)
        for number, (operation, key, outcome, value) in enumerate(columns, result.first):
            name = (result.client, number)
            count = self._at(row, key)
            self._told[name].append((outcome, value))
            if outcome == Outcome.UNTOLD:
                continue
            if reading is not Reading.LOCAL:
                self._check_new(row, name, key, count)
            elif count < self._before[row].get(key, 0):
                raise ViolationError(
                    "local read", f"replica {row} reads {key!r} as it was before", calls=(name,)
                )
            else:
                self._before[row][key] = count
            expected = self._versions[key].at(count).told(operation, reading)
            if (outcome, value) != expected:
                text = f"replica {row} reads {(outcome, value)!r} under {key!r}, where {expected!r} stood"
                raise ViolationError("read", text, calls=(name,))

    def observed(
        self, host: Row, since: float, operations: bytes, keys: Sequence[bytes], result: BatchResult
    ) -> None:
        """See `Observer`: of each key a prefix of its writers, no shorter than its age says, or than before."""
        values = result.values or [None] * len(keys)
        columns = zip(operations, keys, result.outcomes, values, strict=True)
        moment = self._results.now() - since / self._slowest
        for number, (operation, key, outcome, value) in enumerate(columns, result.first):
            name = (result.client, number)
            self._told[name].append((outcome, value))
            if outcome == Outcome.UNTOLD:
                continue
            versions, before = self._versions[key], self._before[host]
            least = max(versions.count_at(moment), before.get(key, 0))
            found = versions.first_like((outcome, value), operation, least)
            if found is None:
                text = (
                    f"observer {host} reads {(outcome, value)!r} under {key!r}, {since:.4f} s old: that stood "
                    f"neither after {least} of its writers, which had executed by then or it had read, nor after more"
                )
                raise ViolationError("age", text, calls=(name,))
            before[key] = found

    def _check_new(self, row: Row, name: tuple[int, int], key: bytes, count: int) -> None:
        least = self._least[name]
        if count < least:
            text = (
                f"replica {row} reads {key!r} by a quorum after {count} of its writers; {least} had executed "
                "when the client asked"
            )
            raise ViolationError("quorum read", text, calls=(name,))

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        name = (call.client, call.number)
        if call.looked and call.result not in self._told[name]:
            raise ViolationError(
                "read", f"replica {row} answers {call}, which it has not read", calls=(name,)
            )


class _OfEpoch(Observer):
    """What is told of one epoch."""

    def __init__(self, reads: Reads, epoch: int) -> None:
        self._reads = reads
        self._epoch = epoch

    def started(self, row: Row, *_: object) -> None:
        """See `Observer`."""
        self._reads.began(row, self._epoch)

    def executed(self, row: Row, component: Component, results: Sequence[Any]) -> None:
        """See `Observer`."""
        del row, results
        self._reads.note(component)
