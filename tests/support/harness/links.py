"""Cores behind links of a certain delay and bandwidth that keep the order, on virtual time; nothing is lost."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from epaxos.protocol.contract import Effects, PeerStatus, Propose, Receive, Tick
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import Row
from epaxos.protocol.quorums import make_quorums
from epaxos.transport.codec import encode_message
from harness.commands import Access

BEACON = 0.1


@dataclass(order=True)
class Bundle:
    """The messages of one round on their way to a replica."""

    when: float
    number: int
    receiver: Row = field(compare=False)
    sender: Row = field(compare=False)
    messages: list[Message] = field(compare=False)


class Linked:
    """A cluster of n cores; each direction between two of them has `rate` bytes a second and half the `round_trip`.

    sent    messages by name, of those that reached a living replica's link
    bytes   bytes by receiver
    dead    replicas that take no part any more
    cut_off replicas that nothing reaches and nothing comes from
    """

    def __init__(
        self,
        n: int = 3,
        *,
        round_trip: float = 0.001,
        rate: float = math.inf,
        retry: float = 0.2,
        timeout: float = 1.0,
    ) -> None:
        self.cores = [
            EPaxos(
                Settings(
                    row=row,
                    quorums=make_quorums(n),
                    fast_path_timeout=min(0.05, retry),
                    retry=retry,
                    recovery_timeout=timeout,
                ),
                Random(row + 1),
            )
            for row in range(n)
        ]
        self.round_trip = round_trip
        self.rate = rate
        self.now = 0.0
        self.sent: Counter[str] = Counter()
        self.bytes: Counter[Row] = Counter()
        self.dead: set[Row] = set()
        self.cut_off: set[Row] = set()
        self._free: dict[tuple[Row, Row], float] = {}
        self._under_way: list[Bundle] = []
        self._count = 0
        self._next_beacon = 0.0

    def propose(self, row: Row, command: Access) -> None:
        self._take(row, Propose(command))

    def report(self, row: Row, peer: Row, *, online: bool) -> None:
        """The failure detector of a replica changes its mind."""
        self._take(row, PeerStatus(peer, online))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            first = self._under_way[0].when if self._under_way else math.inf
            living = [core for row, core in enumerate(self.cores) if row not in self.dead]
            moment = min([first, self._next_beacon, *(core.deadline for core in living)])
            if moment > end:
                break
            self.now = max(self.now, moment)
            self._step()
        self.now = end

    def _step(self) -> None:
        while self._under_way and self._under_way[0].when <= self.now:
            bundle = heapq.heappop(self._under_way)
            if bundle.receiver not in self.dead:
                self._take(bundle.receiver, *(Receive(bundle.sender, message) for message in bundle.messages))
        if self.now >= self._next_beacon:
            self._next_beacon = self.now + BEACON
            for row, core in enumerate(self.cores):
                if row not in self.dead:
                    for peer in core.state.peers:
                        self._send(row, peer, [core.beacon(self.now)])
        for row, core in enumerate(self.cores):
            if row not in self.dead and core.deadline <= self.now:
                self._take(row, Tick())

    def _take(self, row: Row, *events: Propose | PeerStatus | Tick | Receive[Message]) -> None:
        boxes: dict[Row, list[Message]] = {}
        waiting = list(events)
        while waiting:
            effects: Effects[Message] = Effects()
            for event in waiting:
                effects.extend(self.cores[row].on_event(event, self.now))
            waiting = []
            for receivers, message in (*effects.messages, *effects.promises, *effects.deferrable):
                for receiver in receivers:
                    if receiver == row:
                        waiting.append(Receive(row, message))
                    else:
                        boxes.setdefault(receiver, []).append(message)
        for receiver, messages in boxes.items():
            self._send(row, receiver, messages)

    def _send(self, sender: Row, receiver: Row, messages: list[Message]) -> None:
        if self.dead & {sender, receiver} or self.cut_off & {sender, receiver}:
            return
        size = sum(len(encode_message(message)) for message in messages)
        self.sent.update(type(message).__name__ for message in messages)
        self.bytes[receiver] += size
        arrival = max(self.now, self._free.get((sender, receiver), 0.0)) + size / self.rate
        self._free[sender, receiver] = arrival
        self._count += 1
        bundle = Bundle(arrival + self.round_trip / 2, self._count, receiver, sender, messages)
        heapq.heappush(self._under_way, bundle)
