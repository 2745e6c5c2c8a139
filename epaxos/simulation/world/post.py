"""What a simulated replica sends, message by message and receiver by receiver, as its crashes want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from epaxos.protocol.ids import Row
from epaxos.simulation.world.disk import Then
from epaxos.simulation.world.links import Links
from epaxos.simulation.world.observer import Observer


class Post:
    """Sends the messages of an epoch for replica `row`, in one life of it, over `links`.

    delay  how long a deferrable message waits for company
    step   is called before each message leaves, with it, and may end the replica there
    later  does something after so many seconds, if the replica still lives
    """

    def __init__(
        self,
        epoch: int,
        row: Row,
        peers: Sequence[Row],
        links: Links,
        observer: Observer,
        delay: float,
        step: Callable[[object], None],
        later: Callable[[float, Then], None],
    ) -> None:
        self._epoch = epoch
        self._row = row
        self._links = links
        self._observer = observer
        self._delay = delay
        self._step = step
        self._later = later
        self._riding: dict[Row, list[Any]] = {peer: [] for peer in peers}

    def forget(self, peer: Row) -> None:
        """Drop what waits for a peer: it has gone, or come back."""
        self._riding[peer] = []

    def send(self, messages: Sequence[tuple[Sequence[Row], Any]]) -> list[Any]:
        """Send messages; return those to this replica itself."""
        own = []
        for receivers, message in messages:
            for index, receiver in enumerate(receivers):
                self._step(message)
                if index == 0:
                    self._observer.left(self._row, receivers, message)
                if receiver == self._row:
                    own.append(message)
                else:
                    self._let_ride(receiver)
                    self._links.send(receiver, message, self._epoch)
        return own

    def send_with_others(self, messages: Sequence[tuple[Sequence[Row], Any]]) -> None:
        """Send messages that may wait for company on the way to a peer."""
        for receivers, message in messages:
            self._step(message)
            self._observer.left(self._row, receivers, message)
            for receiver in receivers:
                if not self._riding[receiver] and self._delay:
                    self._later(self._delay, partial(self._let_ride, receiver))
                self._riding[receiver].append(message)
                if not self._delay:
                    self._let_ride(receiver)

    def let_all_ride(self) -> None:
        """Send all that waits."""
        for receiver in self._riding:
            self._let_ride(receiver)

    def _let_ride(self, receiver: Row) -> None:
        """Send what waited."""
        riding = self._riding[receiver]
        if riding:
            self._riding[receiver] = []
            for message in riding:
                self._step(message)
                self._links.send(receiver, message, self._epoch)
