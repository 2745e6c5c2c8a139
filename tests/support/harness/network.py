"""A network on virtual time that delays, reorders, duplicates and loses what it is given."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from epaxos.protocol.contract import Event, Receive
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.ids import Row
from epaxos.transport.codec import Codec, encode_message
from harness.commands import decode_access
from harness.driver import Outgoing
from harness.options import Options

DEFERRED = 0.002
"""How long a message that may be deferred is held back, in seconds."""


class Arrival(NamedTuple):
    """An event due at a replica; `number` keeps those of one moment in the order in which they were sent."""

    when: float
    number: int
    receiver: Row
    event: Event[Message]


class Network:
    """All that is under way, messages and other events alike.

    `intercept`, if set, is asked about each message; where it answers False the message is lost.
    `doubled` makes every message arrive twice, the copy right behind the original. `by_content` lets what a message
    says decide how long it takes, so that runs with and without doubled messages can be compared.
    """

    def __init__(self, options: Options, random: Random) -> None:
        self._options = options
        self._random = random
        self._codec = Codec(options.n, decode_access)
        self._queue: list[Arrival] = []
        self._count = 0
        self.healed = False
        self.doubled = False
        self.by_content = False
        self.intercept: Callable[[Row, Outgoing], bool] | None = None
        self.marks: Counter[str] = Counter()

    @property
    def next_arrival(self) -> float:
        """When something arrives next; infinity if nothing is under way."""
        return self._queue[0].when if self._queue else math.inf

    def schedule(self, when: float, receiver: Row, event: Event[Message]) -> None:
        """Let an event happen at a replica."""
        self._count += 1
        heapq.heappush(self._queue, Arrival(when, self._count, receiver, event))

    def send(self, now: float, sender: Row, outgoing: Outgoing) -> None:
        """Carry a message, or do not."""
        self.marks[type(outgoing.message).__name__] += 1
        if not self._passes(sender, outgoing):
            self.marks["lost"] += 1
            return
        message = self._over_the_wire(sender, outgoing.message)
        copies = 2 if not self.healed and self._random.random() < self._options.duplicates else 1
        self.marks["duplicated"] += copies - 1
        for _ in range(copies):
            arrival = self._rounded(now + self._delay(sender, outgoing))
            for _ in range(1 + self.doubled):
                self.schedule(arrival, outgoing.receiver, Receive(sender, message))

    def _delay(self, sender: Row, outgoing: Outgoing) -> float:
        random = Random(f"{sender} {outgoing}") if self.by_content else self._random
        return random.uniform(*self._options.delay) + (DEFERRED if outgoing.deferrable else 0.0)

    def _passes(self, sender: Row, outgoing: Outgoing) -> bool:
        if self.intercept is not None and not self.intercept(sender, outgoing):
            return False
        return self.healed or self._random.random() >= self._options.loss

    def _over_the_wire(self, sender: Row, message: Message) -> Message:
        """What arrives of a message: with `wire`, what its bytes are decoded to."""
        if not self._options.wire:
            return message
        decoded = self._codec.decode_message(sender, encode_message(message))
        assert decoded == message
        return decoded

    def _rounded(self, when: float) -> float:
        grid = self._options.rounds
        return math.ceil(when / grid) * grid if grid else when

    def take_due(self, now: float) -> dict[Row, list[Event[Message]]]:
        """Remove and return what has arrived by `now`, by replica."""
        due: dict[Row, list[Event[Message]]] = {}
        while self._queue and self._queue[0].when <= now:
            arrival = heapq.heappop(self._queue)
            due.setdefault(arrival.receiver, []).append(arrival.event)
        return due
