"""The eras of a replica: its core of the running epoch and those of epochs that are over, and whom each hears (6.7).

A core knows of one epoch. What is here is for whoever drives cores, the shell and the simulator alike, which give each
epoch a core of its own and all that belongs to it: an *era*.

**One epoch at a time.** A message is for the core of the epoch that its envelope says. Of a later epoch there is none,
and the message is dropped: a vote there needs the state with which that epoch begins. Of an earlier one there may be
a core that has come to its end, and does nothing but say what is decided.

**A peer that lags** is heard in an earlier epoch. With each beacon of this replica it gets one of the core of that
epoch, which it compares with its own progress, and so asks for what it misses. Once that core is gone, because a
checkpoint of a later epoch is durable here, it is told that the epoch is over, and fetches that checkpoint.

**Who is there.** A core takes a peer for online while there is a link and the peer was heard in its epoch, and has
not said that the epoch is over. Of others it expects nothing, as of those that have crashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from epaxos.protocol.contract import Core, Ended, PeerStatus
from epaxos.protocol.ids import Row, Vector
from epaxos.protocol.transfer import EpochOver


class Era(Protocol):
    """What a driver keeps for one epoch."""

    @property
    def epoch(self) -> int:
        """Its number."""
        ...

    @property
    def core(self) -> Core[Any]:
        """Its core."""
        ...


EraT = TypeVar("EraT", bound=Era)


class Eras(Generic[EraT]):
    """All eras of one replica with some peers; it begins in `running`, with some of them online.

    ended  those that are over, by their epochs
    """

    def __init__(self, running: EraT, peers: Sequence[Row], online: Iterable[Row] = ()) -> None:
        self.running = running
        self._peers = peers
        self.ended: dict[int, EraT] = {}
        self._cuts: dict[int, Vector] = {}
        self._online = set(online)
        self._present = set(online)
        self._heard = dict.fromkeys(self._online, running.epoch)

    def of(self, epoch: int) -> EraT | None:
        """The era of an epoch, for which a message is; None if there is none, or none any more."""
        return self.running if epoch == self.running.epoch else self.ended.get(epoch)

    def next(self, era: EraT, cut: Vector) -> list[PeerStatus]:
        """The running epoch has ended with this cut, and another begins; what its core has to be told first."""
        self.ended[self.running.epoch] = self.running
        # Of those in which no peer was heard last nobody is told (`for_laggard`), or without the cut.
        self._cuts = {epoch: self._cuts[epoch] for epoch in self._cuts.keys() & set(self._heard.values())}
        self._cuts[self.running.epoch] = cut
        return self._begin(era)

    def replace(self, era: EraT) -> list[PeerStatus]:
        """A peer's checkpoint of a later epoch stands for all that was before; what its core has to be told first."""
        self.ended.clear()
        return self._begin(era)

    def _begin(self, era: EraT) -> list[PeerStatus]:
        self.running = era
        self._present = {peer for peer in self._online if self._heard.get(peer) == era.epoch}
        return [PeerStatus(peer, peer in self._present) for peer in self._peers]

    @property
    def all(self) -> list[EraT]:
        """Those that there are, the running one last."""
        return [*self.ended.values(), self.running]

    def forget_below(self, epoch: int) -> list[EraT]:
        """Those that end below an epoch, of which a checkpoint is durable, so that nobody needs them any more."""
        return [self.ended.pop(ended) for ended in list(self.ended) if ended < epoch]

    @property
    def behind(self) -> bool:
        """Whether there is a peer that was not heard in the running epoch yet, while an earlier one is kept."""
        return bool(self.ended) and any(self._heard.get(peer) != self.running.epoch for peer in self._peers)

    # -- whom the running core hears -----------------------------------------------------------------------

    def on_link(self, peer: Row, *, online: bool) -> list[PeerStatus]:
        """A peer has come or gone; what the running core has to be told."""
        if online:
            self._online.add(peer)
            return []  # it is there once it is heard in this epoch
        self._online.discard(peer)
        return self._note(peer, present=False)

    def on_heard(self, peer: Row, epoch: int) -> list[PeerStatus]:
        """Something of a peer has come that it sent in an epoch; what the running core has to be told."""
        self._heard[peer] = epoch
        if epoch == self.running.epoch and peer in self._online and peer not in self._present:
            return self._note(peer, present=True)
        return []

    def _note(self, peer: Row, *, present: bool) -> list[PeerStatus]:
        if present == (peer in self._present):
            return []
        (self._present.add if present else self._present.discard)(peer)
        return [PeerStatus(peer, present)]

    # -- whoever lags --------------------------------------------------------------------------------------

    def for_laggard(self, peer: Row, now: float) -> list[tuple[int, Any]]:
        """What a peer gets besides the running core's beacon if it lags, with the epoch that the envelope says."""
        epoch, heard = self.running.epoch, self._heard.get(peer, self.running.epoch)
        if heard >= epoch:
            return []
        era = self.ended.get(heard)
        if era is None:
            return [(epoch, EpochOver(heard, self._cuts.get(heard)))]
        return [(heard, era.core.beacon(now))]

    def on_over(self, sender: Row, message: EpochOver) -> list[Ended | PeerStatus]:
        """A peer says that an epoch is over: if it is the running one, what its core has to be told.

        If that is anything, the peer's checkpoint is to be fetched.
        """
        if message.ended != self.running.epoch:
            return []
        return [*self._note(sender, present=False), Ended(message.cut)]
