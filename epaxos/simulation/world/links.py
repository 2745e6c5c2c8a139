"""Whom a simulated replica hears and who hears it, as `actors.peers` and `actors.remote` see to it in the service.

A peer is online while both hear each other (decision 0012), and gets nothing but beacons else. Peers know a replica
by its incarnation, and refuse one that comes back without its disk (decision 0005).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from epaxos.protocol.ids import Row
from epaxos.protocol.roundtrips import silence
from epaxos.simulation.plan.options import Options
from epaxos.simulation.world.network import Network
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule
from epaxos.watching.position import marks_of


class Of(NamedTuple):
    """An epoch at a sender: its number, how many vote in it and by which protocol, the row of the sender, or None."""

    epoch: int
    n: int
    row: Row | None
    protocol: str


class Stamp(NamedTuple):
    """What every message says besides, as an envelope does.

    incarnation  of its sender
    addressee    the incarnation of the receiver that the sender knows
    hears        whether the sender hears the receiver
    of           the epoch of the message
    """

    incarnation: int
    addressee: int | None
    hears: bool
    of: Of


class Refusal(NamedTuple):
    """To a replica that has another incarnation than the one that was heard before: it is not listened to."""

    incarnation: int


class Links:
    """The links of replica `row`, in one life of it, which is an incarnation of it.

    incarnations  what is known of all replicas; peers that are heard for the first time are added, and what has been
                  decided (`decide`) is right
    report        is told (peer, online)
    """

    def __init__(
        self,
        options: Options,
        row: Row,
        incarnation: int,
        incarnations: dict[Row, int],
        schedule: Schedule,
        network: Network,
        observer: Observer,
        report: Callable[[Row, bool], None],
    ) -> None:
        self._row = row
        self._peers = [peer for peer in range(options.hosts) if peer != row]
        self._members = options.replicas
        self._incarnation = incarnation
        self._incarnations = incarnations
        self._patience = options.offline
        self._schedule = schedule
        self._network = network
        self._observer = observer
        self._report = report
        self._heard = dict.fromkeys(self._peers, schedule.now)
        self._hears: set[Row] = set()
        self.online: set[Row] = set()

    def acquaint(self) -> None:
        """Begin as if all peers and this replica had heard each other."""
        members = [peer for peer in self._peers if peer < self._members]
        self._hears.update(members)
        self.online.update(members)

    def decide(self, incarnations: Mapping[Row, int]) -> None:
        """An epoch says which replicas take part in it."""
        self._incarnations.update(incarnations)

    @property
    def incarnations(self) -> Mapping[Row, int]:
        """What is known of all."""
        return {**self._incarnations, self._row: self._incarnation}

    def marks(self) -> tuple[int, ...]:
        """Those of this cluster, for the positions of watchers."""
        hosts = len(self._peers) + 1
        return marks_of(hosts * number + host for host, number in self.incarnations.items())

    def admit(self, sender: Row, stamp: Stamp) -> bool:
        """Whether to heed a message; a sender that nobody listens to is told so."""
        known = self._incarnations.setdefault(sender, stamp.incarnation)
        if known != stamp.incarnation:
            self._network.send(self._row, sender, Refusal(stamp.incarnation), self._stamp(sender, stamp.of))
            return False
        if stamp.addressee not in (None, self._incarnation):
            self._observer.noted("message to an earlier incarnation dropped")
            return False
        self._heard[sender] = self._schedule.now
        self._hears.add(sender)
        self._set_online(sender, online=stamp.hears)
        return True

    def send(self, receiver: Row, message: Any, of: Of) -> None:
        """Send a message of an epoch to a peer; one that is offline gets only beacons."""
        if receiver in self.online:
            self._network.send(self._row, receiver, message, self._stamp(receiver, of))
        else:
            self._observer.lost(self._row, receiver, message)
            self._observer.noted("message to an offline peer dropped")

    def send_beacons(self, peer: Row, beacons: Sequence[tuple[Of, Any]], round_trip: float) -> None:
        """Send beacons of epochs, after a look at how long the peer has been silent."""
        silent = self._schedule.now - self._heard[peer] > silence(self._patience, round_trip)
        if peer in self._hears and silent:
            self._hears.remove(peer)
            self._set_online(peer, online=False)
        for of, beacon in beacons:
            self._network.send(self._row, peer, beacon, self._stamp(peer, of))

    def _stamp(self, peer: Row, of: Of) -> Stamp:
        return Stamp(self._incarnation, self._incarnations.get(peer), peer in self._hears, of)

    def _set_online(self, peer: Row, *, online: bool) -> None:
        if online == (peer in self.online):
            return
        if online:
            self.online.add(peer)
        else:
            self.online.remove(peer)
            self._observer.noted("peer reported offline")
        self._report(peer, online)
