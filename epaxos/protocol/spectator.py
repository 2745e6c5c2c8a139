"""The core of a replica that has no vote in an epoch: it follows, and takes part in nothing (protocol 6.11).

It is an observer, or one that is to join, or one that has been removed and still helps those who lag. It is told how
far its peers are, asks them for what has been decided, and executes that. What it says is a question, or nothing: it
promises nothing, and no replica would count it.

**How old its state is.** It asks all who vote, now and then, what they have heard of: f + 1 who answer have heard of
all that was decided when it asked, as in a read by a quorum (protocol 7.1). Once that has executed here, the state has
all that anybody was answered until then. So its age is told by the own clock alone, and is never more than it says.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from operator import le
from typing import Any, Final

from epaxos.protocol.command import Command
from epaxos.protocol.contract import (
    Adopt,
    Checkpointed,
    Core,
    Effects,
    Event,
    Hold,
    Measured,
    PeerStatus,
    Propose,
    Receive,
    Tick,
)
from epaxos.protocol.ids import Row, Vector
from epaxos.protocol.kinds import Kind
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.reads import ReadIndex, ReadIndexOK

_QUESTIONS: Final = 64
"""The last questions of which it is known when they were asked, and the most that wait for what must execute."""


class Freshness:
    """Up to when a state has all that anybody was answered, with `f` replicas that may be down.

    Of each voter counts when it was last asked of what it told that has executed here: the (f+1)-th latest of these is
    when f + 1 had been asked, who had heard of nothing more. One that tells of what is never decided keeps back none.

    as_of  that time, on the clock of those who call; None while nothing is known of it
    """

    def __init__(self, f: int) -> None:
        self._f = f
        self._waiting: defaultdict[Row, deque[tuple[float, Vector]]] = defaultdict(deque)
        self._executed: dict[Row, float] = {}
        self.as_of: float | None = None

    def on_answer(self, voter: Row, asked: float, heard: Vector) -> None:
        """A replica that votes has heard of all up to `heard`, and was asked at this time."""
        waiting = self._waiting[voter]
        if (not waiting or asked > waiting[-1][0]) and len(waiting) < _QUESTIONS:
            waiting.append((asked, heard))

    def on_executed(self, executed: Vector) -> None:
        """All up to here has executed."""
        for voter, waiting in self._waiting.items():
            while waiting and all(map(le, waiting[0][1], executed)):
                self._executed[voter] = max(waiting.popleft()[0], self._executed.get(voter, -math.inf))
        latest = sorted(self._executed.values(), reverse=True)
        if len(latest) > self._f:
            self.as_of = latest[self._f]


class Spectator:
    """See the module; `core` is one whose row is behind those of all that have a vote, which it does not know.

    It asks every `interval` seconds, or never, under numbers from `first` on, which nobody else uses. What is proposed
    here waits, until the driver takes it elsewhere (`left`).
    """

    def __init__(self, core: Core[Any], kind: Kind, quorums: Quorums, interval: float, first: int) -> None:
        self._core = core
        self._kind = kind
        self._interval = interval
        self._next_number = first
        self._asked: dict[int, float] = {}
        self._freshness = Freshness(quorums.f)
        self._online = set(range(quorums.n))
        self._due = -math.inf if interval < math.inf else math.inf
        self._left: list[Command] = []
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        """All that a core tells of its state without being given an event."""
        return getattr(self._core, name)

    in_flight = 0
    lost = False
    quiet = True

    @property
    def unsure(self) -> bool:
        """See `contract.Core`."""
        return self._freshness.as_of is None

    @property
    def deadline(self) -> float:
        """When it asks next how old its state is."""
        return math.inf if self._is_over or not self._online else self._due

    def on_event(self, event: Event[Any], now: float) -> Effects[Any]:
        """See `contract.Core`."""
        if isinstance(event, Propose):
            self._left.append(event.command)
            return Effects()
        if isinstance(event, Tick):
            return self._ask(now)
        if isinstance(event, Receive):
            message = event.message
            if isinstance(message, ReadIndexOK):
                asked = self._asked.get(message.number)
                if asked is not None:
                    self._freshness.on_answer(event.sender, asked, message.highest)
                return self._end(Effects())
            if not isinstance(message, self._kind.told):
                return Effects()
        elif isinstance(event, PeerStatus):
            (self._online.add if event.online else self._online.discard)(event.peer)
        elif not isinstance(event, Checkpointed | Hold | Adopt | Measured):
            return Effects()
        return self._end(self._core.on_event(event, now))

    def resume(self, now: float) -> Effects[Any]:
        """See `contract.Core`."""
        return self._end(self._core.resume(now))

    def left(self) -> Sequence[Command]:
        """See `contract.Core`."""
        return self._left

    def _ask(self, now: float) -> Effects[Any]:
        """Ask those who vote what they have heard of."""
        effects: Effects[Any] = Effects()
        if now >= self._due and self._online and not self._is_over:
            self._due = now + self._interval
            number, self._next_number = self._next_number, self._next_number + 1
            self._asked[number] = now
            if len(self._asked) > _QUESTIONS:
                del self._asked[next(iter(self._asked))]
            effects.messages.append((sorted(self._online), ReadIndex(number, ())))
        return effects

    def _end(self, effects: Effects[Any]) -> Effects[Any]:
        """Leave of what the core wants to say what asks; see how old the state is.

        Of what stands there when the epoch is over nothing is told: the next one may have answered what no voter of
        this one could tell of (protocol 7.2).
        """
        effects.messages = [
            sending for sending in effects.messages if isinstance(sending[1], self._kind.asks)
        ]
        effects.promises, effects.early, effects.deferrable, effects.commits = [], [], [], []
        if effects.over is not None:
            self._is_over = True
            effects.over = effects.over._replace(left=self._left)
        if not self._is_over:
            before = self._freshness.as_of
            self._freshness.on_executed(self._core.status().executed)
            if self._freshness.as_of != before:
                effects.as_of = self._freshness.as_of
        return effects
