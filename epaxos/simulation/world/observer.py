"""What can be seen of a run from outside; checkers, coverage and traces are observers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epaxos.protocol.contract import Component, Effects, Event, Over
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.call import Call
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult


class Observer:
    """Sees everything; each method does nothing unless a subclass has a use for it.

    Times are read from the schedule by those who want them. Records and messages may be kept, but not changed.
    Instances are of an epoch: what is told of one goes to `of_epoch`, and all else to the observer itself.
    """

    def of_epoch(self, configuration: Configuration) -> Observer:
        """What is told of the instances, records and messages of an epoch; by default this, of all epochs."""
        del configuration
        return self

    def ended(self, row: Row, over: Over, digest: str) -> None:
        """The epoch has ended at a replica, whose state machine has this digest then."""

    def sealed(self, row: Row, effects: Effects[Any]) -> None:
        """The core of an epoch that is over at a replica has taken an event."""

    def entered(self, row: Row, configuration: Configuration) -> None:
        """A replica has come to another epoch: the one before has ended, or a peer's checkpoint is of that."""

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """A core has taken an event; `effects.records` holds copies."""

    def durable(self, row: Row, record: Instance) -> None:
        """A record of a replica has become durable."""

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """A message leaves a replica, for some of the receivers at least; the replica itself may be one."""

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """A replica has executed a component; one sequence of results for each member, empty for a no-op."""

    def stopped(self, row: Row) -> None:
        """A replica has crashed."""

    def forgot(self, row: Row) -> None:
        """A replica has lost its disk; it comes back, and nobody may believe it any more, in an epoch or in any."""

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """A replica has started or restarted, with what was durable: records, and a checkpoint up to here."""

    def recalled(self, row: Row, results: Sequence[BatchResult]) -> None:
        """A replica knows of commands, which waited there, that they have executed in what it has adopted."""

    def looked(
        self, row: Row, reading: Reading, operations: bytes, keys: Sequence[bytes], result: BatchResult
    ) -> None:
        """A replica has read its state for a client, in no place of the log."""

    def observed(
        self, host: Row, since: float, operations: bytes, keys: Sequence[bytes], result: BatchResult
    ) -> None:
        """One that has no vote has read its state, which it says was everybody's so many seconds ago, on its clock."""

    def executed_too(
        self, host: Row, epoch: int, component: Component, results: Sequence[Sequence[BatchResult]]
    ) -> None:
        """One that has no vote in an epoch has executed a component of it, perhaps before any that has one."""

    def followed(self, host: Row, configuration: Configuration, over: Over, digest: str) -> None:
        """One that has no vote has come to the end of an epoch; its state machine has this digest then."""

    def adopted(self, row: Row, executed: Vector, above: Sequence[InstanceId]) -> None:
        """A replica has merged a peer's checkpoint, in which all this had executed."""

    def asked(self, call: Call) -> None:
        """A client has sent a command for the first time."""

    def answered(self, call: Call, row: Row) -> None:
        """A client has been answered, by a replica."""

    def noted(self, mark: str) -> None:
        """Something worth counting has happened to the network, a machine or a client."""

    def delivered(self, sender: Row, receiver: Row, message: Any) -> None:
        """A message has arrived."""

    def lost(self, sender: Row, receiver: Row, message: Any) -> None:
        """A message will not arrive."""

    def happened(self, text: str) -> None:
        """A fault began or ended, or another thing that only people want to know of."""


class Observers(Observer):
    """Several observers as one. Those who do not override a method are not called for it."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._of_epoch: dict[int, Observers] = {}
        for name in vars(Observer):
            if not name.startswith("_") and name != "of_epoch":
                wanting = [
                    getattr(observer, name)
                    for observer in observers
                    if getattr(type(observer), name) is not getattr(Observer, name)
                ]
                setattr(self, name, _all(wanting))

    def of_epoch(self, configuration: Configuration) -> Observers:
        """See `Observer`."""
        found = self._of_epoch.get(configuration.epoch)
        if found is None:
            found = Observers([observer.of_epoch(configuration) for observer in self._observers])
            self._of_epoch[configuration.epoch] = found
        return found


def _all(methods: Sequence[Any]) -> Any:
    """One function that calls all of these. A second has a hundred thousand events, most seen by none or two."""
    if not methods:
        return _ignore
    if len(methods) == 1:
        return methods[0]
    first, second, *others = methods

    def call_two(*arguments: object) -> None:
        first(*arguments)
        second(*arguments)

    def call_all(*arguments: object) -> None:
        for method in methods:
            method(*arguments)

    return call_all if others else call_two


def _ignore(*_: object) -> None:
    """Nobody looks."""
