"""A cluster of MultiPaxos cores on virtual time, with links that can be cut one by one: for elections, by hand."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from itertools import count
from random import Random
from typing import Any

from epaxos.protocol.contract import Effects, PeerStatus, Propose, Receive, Retire, Tick
from epaxos.protocol.ids import Row
from epaxos.protocol.log import NOP
from epaxos.protocol.multipaxos.core import MultiPaxos
from epaxos.protocol.multipaxos.messages import Message
from epaxos.protocol.multipaxos.state import Learn, Settings
from epaxos.protocol.quorums import make_quorums
from harness.commands import put

BEACON, TIMEOUT, DELAY = 0.1, 1.0, 0.002


class LedCluster:
    """Replicas that write to disk in no time; a peer is online while both hear each other, as decision 0012 has it.

    `delay` is how long a message is under way, in seconds; `executed` are the keys that each replica has executed, in
    order; `campaigns` counts those of all.
    """

    def __init__(self, n: int, *, seed: int = 0, learn: Learn = Learn.VOTES, delay: float = DELAY) -> None:
        self.n = n
        self.delay = delay
        self.now = 0.0
        self.cut: set[tuple[Row, Row]] = set()
        self.dead: set[Row] = set()
        self.executed: list[list[str]] = [[] for _ in range(n)]
        self.sent: Counter[str] = Counter()
        self._heard = {(a, b): 0.0 for a in range(n) for b in range(n) if a != b}
        self._online = dict.fromkeys(self._heard, True)
        self._queue: list[tuple[float, int, Row, Any]] = []
        self._numbers = count()
        self._names = 0
        random = Random(seed)
        self.cores = [
            MultiPaxos(
                Settings(row, make_quorums(n), learn, BEACON, timeout=TIMEOUT), Random(f"{seed} {row}")
            )
            for row in range(n)
        ]
        for row in range(n):
            self._at(BEACON * random.random(), row, "beacon")

    def _at(self, after: float, row: Row, what: Any) -> None:
        heapq.heappush(self._queue, (self.now + after, next(self._numbers), row, what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, row, what = heapq.heappop(self._queue)
            if row in self.dead:
                continue
            if what == "beacon":
                self._on_beacon(row)
            else:
                sender, hears, message = what
                self._heard[row, sender] = self.now
                self._set_online(row, sender, online=hears)
                self._handle(row, Receive(sender, message))
        self.now = end

    def _on_beacon(self, row: Row) -> None:
        for peer in range(self.n):
            if peer != row:
                if self.now - self._heard[row, peer] > TIMEOUT:
                    self._set_online(row, peer, online=False)
                self._send(row, peer, self.cores[row].beacon(self.now))
        if self.cores[row].deadline <= self.now:
            self._handle(row, Tick())
        self._at(BEACON, row, "beacon")

    def _set_online(self, row: Row, peer: Row, *, online: bool) -> None:
        if self._online[row, peer] != online:
            self._online[row, peer] = online
            self._handle(row, PeerStatus(peer, online))

    def _send(self, sender: Row, receiver: Row, message: Message) -> None:
        self.sent[type(message).__name__] += 1
        if (sender, receiver) not in self.cut:
            hears = self.now - self._heard[sender, receiver] <= TIMEOUT
            self._at(self.delay, receiver, (sender, hears, message))

    def _handle(self, row: Row, event: Any) -> None:
        self._perform(row, self.cores[row].on_event(event, self.now))

    def _perform(self, row: Row, effects: Effects[Message]) -> None:
        for receivers, message in (*effects.messages, *effects.promises, *effects.deferrable):
            for receiver in receivers:
                if receiver == row:
                    self._handle(row, Receive(row, message))
                else:
                    self._send(row, receiver, message)
        for ((_, _), value, _, _), *_ in effects.executions:
            if value is not NOP:
                self.executed[row] += sorted(key.decode() for key in value.writes)

    def propose(self, row: Row, key: str) -> None:
        """Let a client ask a replica for something."""
        self._names += 1
        self._handle(row, Propose(put(self._names, key.encode())))

    def retire(self, row: Row) -> None:
        """Tell a replica that it is about to stop."""
        self._handle(row, Retire())

    def cut_links(self, pairs: Iterable[tuple[Row, Row]]) -> None:
        """Cut links in both directions."""
        for a, b in pairs:
            self.cut |= {(a, b), (b, a)}

    @property
    def campaigns(self) -> int:
        """How many campaigns there have been."""
        return sum(core.coverage.get("campaign", 0) for core in self.cores)

    @property
    def leaders(self) -> list[Row]:
        """The replicas that lead by their own account."""
        return [
            row for row in range(self.n) if row not in self.dead and self.cores[row].status().leader == row
        ]
