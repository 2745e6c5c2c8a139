"""What a simulated replica sends, message by message and receiver by receiver, as its crashes want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from epaxos.protocol.ids import Row
from epaxos.simulation.world.disk import Then
from epaxos.simulation.world.links import Links, Of
from epaxos.simulation.world.observer import Observer


class Post:
    """Sends the messages of an epoch for a replica in its `row`, as `hosts` are in theirs, in one life of it.

    delay  how long a deferrable message waits for company
    step   is called before each message leaves, with it, and may end the replica there
    later  does something after so many seconds, if the replica still lives
    """

    def __init__(
        self,
        of: Of,
        row: Row,
        hosts: Sequence[int],
        links: Links,
        observer: Observer,
        delay: float,
        step: Callable[[object], None],
        later: Callable[[float, Then], None],
    ) -> None:
        self._of = of
        self._row = row
        self._hosts = hosts
        self._links = links
        self._observer = observer
        self._delay = delay
        self._step = step
        self._later = later
        self._riding: dict[Row, list[Any]] = {host: [] for host in hosts}

    def forget(self, host: int) -> None:
        """Drop what waits for a peer: it has gone, or come back."""
        self._riding[host] = []

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
                    voters = len(self._hosts)
                    host = self._hosts[receiver] if receiver < voters else receiver - voters  # a guest's
                    self._let_ride(host)
                    self._links.send(host, message, self._of)
        return own

    def send_with_others(self, messages: Sequence[tuple[Sequence[Row], Any]]) -> None:
        """Send messages that may wait for company on the way to a peer."""
        for receivers, message in messages:
            self._step(message)
            self._observer.left(self._row, receivers, message)
            for host in [self._hosts[receiver] for receiver in receivers]:
                if not self._riding[host] and self._delay:
                    self._later(self._delay, partial(self._let_ride, host))
                self._riding[host].append(message)
                if not self._delay:
                    self._let_ride(host)

    def let_all_ride(self) -> None:
        """Send all that waits."""
        for host in self._riding:
            self._let_ride(host)

    def _let_ride(self, host: int) -> None:
        """Send what waited."""
        riding = self._riding.get(host)
        if riding:
            self._riding[host] = []
            for message in riding:
                self._step(message)
                self._links.send(host, message, self._of)
