"""Epochs: each begins everywhere with one configuration and one state, and nobody takes part in two (protocol 6).

Within an epoch the other checkers look, each with an instance of its own an epoch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from epaxos.protocol.contract import Effects, Event, Over
from epaxos.protocol.epaxos.messages import Commit
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.messages import Chosen
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer

_DECISIONS: Final = (Commit, Chosen)
"""What may be told of an epoch that is over."""


class Epochs(Observer):
    """Compares the ends and beginnings of epochs in a cluster."""

    def __init__(self, configuration: Configuration) -> None:
        self._configurations = {configuration.epoch: configuration}
        self._ends: dict[int, tuple[Over, str]] = {}
        self._running: defaultdict[str, int] = defaultdict(int)
        self._reached: defaultdict[str, int] = defaultdict(int)
        self._forgetful: set[str] = set()

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`."""
        epoch = configuration.epoch
        names = configuration.names
        return _LaterEpoch(self, epoch, names) if epoch else _Epoch(self, epoch, names)

    def forgot(self, row: Row) -> None:
        """See `Observer`. It begins with the first epoch, and nobody believes it."""
        self._forgetful.add(f"r{row}")

    def entered(self, row: Row, configuration: Configuration) -> None:
        """See `Observer`. A replica has the same name in all epochs, and a row of each."""
        epoch = configuration.epoch
        known = self._configurations.setdefault(epoch, configuration)
        if known != configuration:
            raise ViolationError("configuration", f"replica {row} has {configuration}, others {known}")
        self.runs(f"r{row}", epoch)

    def open_epochs(self) -> list[Configuration]:
        """The last one, and the one before while fewer than n - f have come to the last: both need their quorums."""
        last = max(self._configurations)
        known = self._configurations[last]
        return [known] if not last or self._is_established(last) else [known, self._configurations[last - 1]]

    def _is_established(self, epoch: int) -> bool:
        begun = self._configurations[epoch]
        return sum(self._reached[name] >= epoch for name in begun.names) >= begun.n - begun.f

    def runs(self, name: str, epoch: int) -> None:
        """A replica goes on in an epoch, or begins in one by its checkpoint."""
        self._running[name] = epoch
        self._reached[name] = max(epoch, self._reached[name])

    def end(self, row: Row, epoch: int, over: Over, digest: str) -> None:
        """An epoch has ended at a replica, with a state of this digest."""
        known, state = self._ends.setdefault(epoch, (over, digest))
        if known.barrier != over.barrier or known.cut != over.cut:
            text = f"replica {row} ends epoch {epoch} with {over}, others with {known}"
            raise ViolationError("cut", text, (over.barrier.id, known.barrier.id))
        if digest != state:
            text = f"replica {row} ends epoch {epoch} at {over.cut} with another state than others"
            raise ViolationError("state at the cut", text, (over.barrier.id,))

    def followed(self, host: Row, configuration: Configuration, over: Over, digest: str) -> None:
        """See `Observer`: it comes to the same end as those who vote."""
        self.end(host, configuration.epoch, over, digest)

    def check_sealed(self, row: Row, epoch: int, effects: Effects[Any]) -> None:
        """The core of an epoch that is over has taken an event: it may say what is decided, and no more."""
        promises = [message for _, message in effects.promises if not isinstance(message, _DECISIONS)]
        name = self._configurations[epoch].names[row]
        if name not in self._forgetful and (
            effects.records or promises or effects.early or effects.executions
        ):
            text = f"replica {row}, past epoch {epoch}, goes on in it: {promises or effects.records}"
            raise ViolationError("one epoch at a time", text)

    def check(self, row: Row, epoch: int, effects: Effects[Any]) -> None:
        """A core of a later epoch than the first one has taken an event."""
        begun = self._configurations[epoch]
        if begun.names[row] in self._forgetful:
            return
        running = self._running[begun.names[row]]
        if running < epoch and (effects.records or effects.promises or effects.early):
            text = f"replica {row}, in epoch {running}, promises in epoch {epoch}: {effects.promises}"
            raise ViolationError("one epoch at a time", text)
        if not effects.commits:
            return
        there = sum(self._reached[name] >= epoch for name in begun.names)
        if there < len(begun.names) - begun.f:
            place = effects.commits[0].id
            text = f"{place} is decided in epoch {epoch}, which only {there} replicas have reached"
            raise ViolationError("established", text, (place,))


class _Epoch(Observer):
    """What is seen of one epoch."""

    def __init__(self, epochs: Epochs, epoch: int, names: Sequence[str]) -> None:
        self._epochs = epochs
        self._names = names
        self._epoch = epoch

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        del records, executed, above
        self._epochs.runs(self._names[row], self._epoch)

    def ended(self, row: Row, over: Over, digest: str) -> None:
        """See `Observer`."""
        self._epochs.end(row, self._epoch, over, digest)

    def sealed(self, row: Row, effects: Effects[Any]) -> None:
        """See `Observer`."""
        self._epochs.check_sealed(row, self._epoch, effects)


class _LaterEpoch(_Epoch):
    """What is seen of one after the first."""

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        self._epochs.check(row, self._epoch, effects)
