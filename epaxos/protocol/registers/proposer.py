"""The proposer of one node: its ballots, what it knows of registers, and one proposal of a key at a time."""

from __future__ import annotations

from collections import deque
from itertools import count
from random import Random
from typing import Final

from epaxos.protocol.registers.change import Asks, Ballots, Change, Done, Known, Pace, Phase, Verdict, Want
from epaxos.protocol.registers.values import Answer, Configuration

MOST_KNOWN: Final = 10_000
"""Registers of which a proposer remembers state and promise, to change them in one round trip."""


class Proposer:
    """Proposals of node `id`, of which `counter` is what was last reserved durably (`Asks.reserve`).

    `direct` says whether a register that this proposer changed last is changed again in one round trip.
    """

    def __init__(
        self,
        id_: int,
        configuration: Configuration,
        counter: int,
        random: Random,
        pace: Pace,
        *,
        direct: bool = True,
    ) -> None:
        self.configuration = configuration
        self._ballots = Ballots(id_, counter)
        self._random = random
        self._pace = pace
        self._direct = direct
        self._known: dict[bytes, Known] = {}
        self._active: dict[bytes, Change] = {}
        self._waiting: dict[bytes, deque[Change]] = {}
        self._tickets = count(1)

    @property
    def due(self) -> float | None:
        """When `tick` has something to do, if nothing comes before; None if nothing is proposed."""
        dues = [change.due for change in self._active.values()]
        dues += [change.deadline for queue in self._waiting.values() for change in queue]
        return min(dues, default=None)

    def forget(self, key: bytes) -> None:
        """A register is being collected: a promise that was given for it is of no use any more."""
        self._known.pop(key, None)

    def under_way(self, key: bytes) -> Change | None:
        """The proposal of a key that has its turn."""
        return self._active.get(key)

    def propose(self, want: Want, deadline: float, now: float) -> tuple[int, Asks]:
        """Begin a proposal, or let it wait for those before it on its key. Its ticket, and what is to be done."""
        ticket = next(self._tickets)
        asks = Asks()
        change = Change(ticket, want, deadline, self._ballots, self._known, self._random)
        if want.key in self._active:
            self._waiting.setdefault(want.key, deque()).append(change)
        else:
            self._begin(change, now, asks)
        return ticket, asks

    def take(self, sender: int, answer: Answer, now: float) -> Asks:
        """Take an acceptor's answer, if it is for what is under way."""
        asks = Asks()
        change = self._active.get(answer.key)
        if change is not None:
            change.take(sender, answer, now, asks)
            self._go_on(change, now, asks)
        return asks

    def tick(self, now: float) -> Asks:
        """Do what is due."""
        asks = Asks()
        for key, queue in list(self._waiting.items()):
            for change in [change for change in queue if now >= change.deadline]:
                queue.remove(change)
                asks.done.append(Done(change.ticket, key, Verdict.FAILED))
            if not queue:
                del self._waiting[key]
        for change in [change for change in self._active.values() if now >= change.due]:
            if change.tick(now, asks):
                change.begin(self.configuration, self._pace, now, asks)
            self._go_on(change, now, asks)
        return asks

    def _begin(self, change: Change, now: float, asks: Asks) -> None:
        self._active[change.want.key] = change
        change.begin(self.configuration, self._pace, now, asks)

    def _go_on(self, change: Change, now: float, asks: Asks) -> None:
        """After the end of a proposal, begin the one that waited for it."""
        if change.phase is not Phase.DONE:
            return
        key = change.want.key
        del self._active[key]
        if not self._direct:
            self._known.clear()
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if queue := self._waiting.get(key):
            following = queue.popleft()
            if not queue:
                del self._waiting[key]
            self._begin(following, now, asks)

    # -- acceptors come and go -----------------------------------------------------------------------------------

    def configure(self, configuration: Configuration) -> None:
        """From now on attempts begin with this configuration, unless a later one is known."""
        if configuration.version > self.configuration.version:
            self.configuration = configuration

    @property
    def settled(self) -> bool:
        """Whether no attempt of an older configuration is under way: only then may others rely on this one."""
        version = self.configuration.version
        return all(
            change.configuration.version == version or change.phase is Phase.PAUSE
            for change in self._active.values()
        )
