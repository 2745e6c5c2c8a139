"""The network between replicas: it delays, reorders, duplicates, loses and cuts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final, Protocol

from epaxos.protocol.ids import Row
from epaxos.protocol.kinds import KINDS
from epaxos.simulation.plan.fates import Bias
from epaxos.simulation.plan.options import Options, stream
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.batch import decode_payload
from epaxos.transport.codec import Codec, encode_message
from epaxos.transport.pages import PAGES

Deliver = Callable[[Row, Row, Any, Any], None]
"""Takes (sender, receiver, message, stamp) when a message arrives."""


class Network(Protocol):
    """What a replica needs of a network."""

    def send(self, sender: Row, receiver: Row, message: Any, stamp: Any) -> None:
        """Send a message to another replica, which may get it once, several times or never.

        `stamp` is what goes with it, whatever that is.
        """
        ...


class _Link:
    """One direction between two replicas, with a generator of its own: other links' traffic shifts nothing."""

    __slots__ = ("free_at", "latest", "random", "slowness")

    def __init__(self, random: Random, slowness: float) -> None:
        self.random = random
        self.slowness = slowness
        self.latest = 0.0
        self.free_at = 0.0


class HostileNetwork:
    """A network between n replicas with the options of a run.

    With a rate, a message keeps its link busy for as long as its bytes take and waits for those before it; where too
    many bytes wait already it is lost. Then messages also go through the codec, as the bytes that they are.

    `calm` ends its hostility; a `Storm` raises `storm_loss` and `storm_slowness` for a while.
    """

    def __init__(self, options: Options, schedule: Schedule, observer: Observer, deliver: Deliver) -> None:
        self._schedule = schedule
        self._observer = observer
        self._deliver = deliver
        self._spread = SPREADS[options.spread]
        self._delay = options.delay
        self._longest = options.phase
        self._calm_delay = options.calm_delay
        self._fifo = options.fifo
        self._loss = options.loss
        self._duplicate = options.duplicate
        self._bias = {bias.kind: bias for bias in options.bias}
        self._mutes: set[tuple[str, Row, Row]] = set(options.mutes)
        self._cuts: Counter[tuple[Row, Row]] = Counter()
        self._rate = options.rate
        self._queue = options.queue
        self._codecs: dict[tuple[int, str], Codec] = {}
        self._codes = options.codes
        self._encoded: tuple[Any, bytes] = (None, b"")
        self._storms: list[tuple[float, float]] = []
        self._links = {
            (a, b): self._make_link(options, a, b)
            for a in range(options.hosts)
            for b in range(options.hosts)
            if a != b
        }

    def _make_link(self, options: Options, sender: Row, receiver: Row) -> _Link:
        random = stream(options.seed, f"link {sender}>{receiver}")
        slowness = 1.0 if options.spread == "fixed" else float(random.choice((0.3, 1, 1, 1, 3)))
        return _Link(random, slowness)

    # -- faults --------------------------------------------------------------------------------------------

    def cut(self, cuts: Iterable[tuple[Row, Row]]) -> None:
        """Let nothing through these links until they are mended as often as they were cut."""
        self._cuts.update(cuts)

    def mend(self, cuts: Iterable[tuple[Row, Row]]) -> None:
        """Undo one `cut`."""
        self._cuts.subtract(cuts)

    def begin_storm(self, loss: float, slowness: float) -> None:
        """Lose more and be slower, until `end_storm` with the same numbers."""
        self._storms.append((loss, slowness))

    def end_storm(self, loss: float, slowness: float) -> None:
        """Undo one `begin_storm`."""
        if (loss, slowness) in self._storms:
            self._storms.remove((loss, slowness))

    def calm(self) -> None:
        """From now on, deliver everything, in time; what is under way stays so."""
        self._cuts.clear()
        self._storms.clear()
        self._bias = {}
        self._mutes = set()
        self._loss = self._duplicate = 0.0
        self._spread = SPREADS["uniform"]
        self._delay = self._calm_delay
        for link in self._links.values():
            link.slowness = 1.0
            link.latest = link.free_at

    # -- messages ------------------------------------------------------------------------------------------

    def send(self, sender: Row, receiver: Row, message: Any, stamp: Any) -> None:
        """See `Network`."""
        link = self._links[sender, receiver]
        random = link.random.random
        loss, slowness = self._loss, 1.0
        if self._bias:
            bias = self._bias.get(type(message).__name__, _UNBIASED)
            loss, slowness = max(loss, bias.loss), bias.slowness
        for storm_loss, storm_slowness in self._storms:
            loss = max(loss, storm_loss)
            slowness *= storm_slowness
        if (
            (self._cuts and self._cuts[sender, receiver] > 0)
            or (self._mutes and (type(message).__name__, sender, receiver) in self._mutes)
            or (loss and random() < loss)
        ):
            self._observer.lost(sender, receiver, message)
            self._observer.noted("message lost")
            return
        if self._rate and not self._takes(link, message):
            self._observer.lost(sender, receiver, message)
            self._observer.noted("queue of a link full")
            return
        self._carry(link, sender, receiver, message, stamp, slowness)
        if self._duplicate and random() < self._duplicate:
            self._observer.noted("message duplicated")
            self._carry(link, sender, receiver, message, stamp, slowness)

    def _takes(self, link: _Link, message: Any) -> bool:
        """Whether the queue before a link has room for a message, which then waits in it."""
        now = self._schedule.now
        free_at = max(now, link.free_at)
        if (free_at - now) * self._rate > self._queue:
            return False
        link.free_at = free_at + (ENVELOPE + len(self._bytes_of(message))) / self._rate
        return True

    def _bytes_of(self, message: Any) -> bytes:
        if self._encoded[0] is not message:
            self._encoded = (message, encode_message(message) if type(message) in self._codes else b"")
        return self._encoded[1]

    def _carry(
        self, link: _Link, sender: Row, receiver: Row, message: Any, stamp: Any, slowness: float
    ) -> None:
        delay = self._delay * link.slowness * slowness * self._spread(link.random)
        start = max(self._schedule.now, link.free_at) if self._rate else self._schedule.now
        arrival = start + (min(self._longest, delay))
        if arrival < link.latest:
            if self._fifo:
                arrival = link.latest
            else:
                self._observer.noted("message overtaken")
        else:
            link.latest = arrival
        if self._rate and (encoded := self._bytes_of(message)):
            self._schedule.at(arrival, self._decode, sender, receiver, encoded, stamp)
        else:
            self._schedule.at(arrival, self._deliver, sender, receiver, message, stamp)

    def _decode(self, sender: Row, receiver: Row, encoded: bytes, stamp: Any) -> None:
        _, n, row, protocol = stamp.of
        if (n, protocol) not in self._codecs:
            rows = KINDS[protocol].rows(n)
            self._codecs[n, protocol] = Codec(n, decode_payload, PAGES[protocol], rows)
        message = self._codecs[n, protocol].decode_message(row or 0, encoded)
        self._deliver(sender, receiver, message, stamp)


ENVELOPE: Final = 60
"""Bytes of a frame beside its message."""

_UNBIASED: Final = Bias("", 0.0, 1.0)


def _fixed(random: Random) -> float:
    return 0.95 + 0.1 * random.random()


def _uniform(random: Random) -> float:
    return 0.5 + random.random()


def _exponential(random: Random) -> float:
    return random.expovariate(1.0)


def _heavy(random: Random) -> float:
    """Mostly half the mean, now and then ten times it."""
    return 0.5 * random.random() + 0.25 if random.random() < 0.95 else 20 * random.random()


SPREADS: Final[dict[str, Callable[[Random], float]]] = {
    "fixed": _fixed,
    "uniform": _uniform,
    "exponential": _exponential,
    "heavy": _heavy,
}
"""How delays vary around their mean, which is 1."""
