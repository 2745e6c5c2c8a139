"""The eras of a replica: its core of the running epoch and those of epochs that are over, and whom each hears (6.7).

A core knows of one epoch. What is here is for whoever drives cores, the shell and the simulator alike, which give each
epoch a core of its own and all that belongs to it: an *era*.

**One epoch at a time.** A message is for the core of the epoch that its envelope says. Of a later epoch there is none,
and the message is dropped: a vote there needs the state with which that epoch begins. Of an earlier one there may be
a core that has come to its end, and does nothing but say what is decided.

**A peer that lags** is heard in an earlier epoch. With each beacon of this replica it gets one of the core of that
epoch, which it compares with its own progress, and so asks for what it misses. Once that core is gone, because a
checkpoint of a later epoch is durable here, it is told that the epoch is over, and fetches that checkpoint.

**Names and rows.** A replica is known by its name; the row in which it votes, if it does, is another one in each epoch.
Whoever has no row in an epoch has a core that only looks on (`protocol.spectator`).

**Who is there.** A core takes a peer for online while there is a link and the peer was heard in its epoch, and has
not said that the epoch is over. Of others it expects nothing, as of those that have crashed.

**What is left over.** A command that was proposed here and whose instance comes to nothing, because the epoch ends
below it or a peer's checkpoint overtakes it, is not failed: the sessions know that it has executed, or it waits here to
be proposed again, in whichever epoch runs by then. But no barrier or collection goes from one epoch into another: its
base speaks of slots of the one that is over.

A driver takes one epoch after the other like this: a core says that its epoch is `Over`, and what led to that is
durable and has executed; the driver makes the era of the configuration that is `following`, and gives its core all that
`next` says, in that order, and then what came ahead of it. Or a peer's checkpoint of a later epoch is durable, and the
driver makes an era of that, and `replace` says what its core is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Core, Ended, Lead, Measured, Over, PeerStatus, Retire
from epaxos.protocol.ids import Vector
from epaxos.protocol.log import NOP
from epaxos.protocol.membership import NOBODY, Configuration
from epaxos.protocol.transfer import EpochOver


class Era(Protocol):
    """What a driver keeps for one epoch."""

    @property
    def epoch(self) -> int:
        """Its number."""
        ...

    @property
    def configuration(self) -> Configuration:
        """Who takes part in it."""
        ...

    @property
    def core(self) -> Core[Any]:
        """Its core."""
        ...


EraT = TypeVar("EraT", bound=Era)
ResultsT = TypeVar("ResultsT")

ResultsT_co = TypeVar("ResultsT_co", covariant=True)


class Recall(Protocol[ResultsT_co]):
    """What a command has come to, if it has executed; `prefix` is `contract.Core.adopts_prefix`."""

    def __call__(self, command: Any, /, *, prefix: bool) -> ResultsT_co | None:
        """None if it has not."""
        ...


First: TypeAlias = Measured | PeerStatus | Lead | Retire
"""What a core is told before anything else."""


class Eras(Generic[EraT]):
    """All eras of the replica called `me`; it begins in `running`, with some of its peers online.

    ended  those that are over, by their epochs
    left   commands that are to be proposed again, whatever is in flight
    durable  up to which epoch there is a checkpoint, as far as the driver says so before it lets go of those below
    """

    def __init__(self, running: EraT, me: str, online: Iterable[str] = ()) -> None:
        self.running = running
        self.me = me
        self.ended: dict[int, EraT] = {}
        self.left: deque[Command] = deque()
        self.durable = -1
        self._cuts: dict[int, Vector] = {}
        self._following: dict[str, int] = {}
        self._online = set(online)
        self._present = self._online.copy()
        self._heard = dict.fromkeys(self._online, running.epoch)

    def of(self, epoch: int) -> EraT | None:
        """The era of an epoch, for which a message is; None if there is none, or none any more."""
        return self.running if epoch == self.running.epoch else self.ended.get(epoch)

    # -- from one epoch to the next ------------------------------------------------------------------------

    def following(self, over: Over) -> Configuration:
        """The configuration of the epoch after the running one, which has ended like that."""
        barrier = over.barrier.value
        assert barrier is not NOP
        assert barrier.follows is not None
        return self.running.configuration.followed_by(barrier.follows)

    def next(self, era: EraT, over: Over, *, retiring: bool) -> list[First]:
        """The running epoch has ended like that, and another begins; what its core has to be told first.

        A replica that is `retiring` had better not lead.
        """
        ended = self.running
        self.ended[ended.epoch] = ended
        # Of those in which no peer was heard last nobody is told (`beacons`), or without the cut.
        self._cuts = {epoch: self._cuts[epoch] for epoch in self._cuts.keys() & set(self._heard.values())}
        self._cuts[ended.epoch] = over.cut
        leader = ended.core.status().leader
        if leader is None and era.configuration.protocol != ended.configuration.protocol:
            # Nobody led, and now somebody may: one may as well begin at once, and who has ended the epoch is there.
            leader = over.barrier.id.row
        led = leader is not None and ended.configuration.names[leader] == self.me
        leads = led and not retiring and self.me in era.configuration.names
        return [*self._begin(era, over.left, retiring=retiring), *([Lead()] if leads else [])]

    def replace(self, era: EraT, *, retiring: bool) -> list[First]:
        """A peer's checkpoint of a later epoch stands for all that was before; what its core has to be told first."""
        self.ended.clear()
        return self._begin(era, self.running.core.left(), retiring=retiring)

    def _begin(self, era: EraT, left: Sequence[Command], *, retiring: bool) -> list[First]:
        before, self.running = self.running, era
        self.left = deque([*left, *(command for command in self.left if command.base is None)])
        self._present = {peer for peer in self._online if self._heard.get(peer) == era.epoch}
        names = era.configuration.names
        first: list[First] = [*self._measured(before)]
        first += [PeerStatus(row, name in self._present) for row, name in enumerate(names) if name != self.me]
        return [*first, Retire()] if retiring else first

    def _measured(self, before: EraT) -> Iterator[Measured]:
        """What is known of the peers that stay."""
        known = before.configuration.names
        for row, name in enumerate(self.running.configuration.names):
            if name != self.me and name in known:
                trip = before.core.round_trip(known.index(name))
                if trip.mean:
                    yield Measured(row, trip.copy())

    def settle(self, overtaken: Iterable[Command], recall: Recall[ResultsT]) -> list[ResultsT]:
        """What `recall` knows of commands that may have executed in what was adopted; the others are left over."""
        told, prefix = [], self.running.core.adopts_prefix
        for command in overtaken:
            results = recall(command, prefix=prefix)
            if results is None:
                self.left.append(command)
            else:
                told.append(results)
        return told

    @property
    def joins(self) -> bool:
        """Whether this replica is to join a cluster and knows of none of its epochs yet."""
        return NOBODY in self.running.configuration.names

    def knows(self, peer: str) -> bool:
        """Whether somebody of this name takes part, or has taken part, in an epoch that is known here."""
        if peer in self.running.configuration.names:
            return True
        configurations = [era.configuration for era in self.all]
        return any(peer in known.names or peer in known.removed for known in configurations)

    def votes(self, peer: str) -> bool:
        """Whether one of this name votes in an epoch that is known here."""
        return any(peer in era.configuration.names for era in self.all)

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
        running = self.running
        return (
            bool(self.ended)
            and any(
                self._heard.get(name) != running.epoch
                for name in {name for era in self.all for name in era.configuration.names} - {self.me}
            )
        ) or any(epoch != running.epoch for epoch in self._following.values())

    @property
    def audience(self) -> set[str]:
        """Whom this replica tells how far it is: all who take part in an epoch that it knows, and all it has heard."""
        known = {name for era in self.all for name in era.configuration.names}
        return (known | set(self._heard)) - {self.me}

    def forget(self, peer: str) -> None:
        """A peer has gone: if it takes part in no epoch that is known, it is told nothing until it is heard again."""
        if not self.votes(peer):
            self._heard.pop(peer, None)
            self._following.pop(peer, None)

    def follows(self, peer: str, epoch: int) -> None:
        """A peer without a vote has asked the core of an epoch what is decided."""
        self._following[peer] = epoch

    @property
    def may_leave(self) -> bool:
        """Whether this replica has been removed and nobody needs it any more.

        So many of the voters of an epoch without it have come to that as can go on without anybody else, and nobody who
        took part and is heard is in an earlier one: it may know nobody else who could tell it (protocol 6.10).
        """
        running = self.running.configuration
        if self.me not in running.removed:
            return False
        if any(map(self._misses, self._online)):
            return False
        there = sum(self._heard.get(name, -1) >= running.epoch for name in running.names)
        return there >= running.n - running.f

    def _misses(self, peer: str) -> bool:
        """Whether a peer that takes part, or once did, was heard last in an earlier epoch; not one that is to join."""
        lags = self._heard.get(peer, self.running.epoch) < self.running.epoch
        return lags and (self.knows(peer) or peer in self._following)

    # -- whom the running core hears -----------------------------------------------------------------------

    def on_link(self, peer: str, *, online: bool) -> list[PeerStatus]:
        """A peer has come or gone; what the running core has to be told."""
        if online:
            self._online.add(peer)
            return []  # it is there once it is heard in this epoch
        self._online.discard(peer)
        return self._note(peer, present=False)

    def on_heard(self, peer: str, epoch: int) -> list[PeerStatus]:
        """Something of a peer has come that it sent in an epoch; what the running core has to be told.

        One that is to join and is in none of this cluster sends in `NO_EPOCH`, and is told that this is over, whatever
        has executed here: so it fetches a checkpoint, and follows from there.
        """
        self._heard[peer] = epoch
        if epoch == self.running.epoch and peer in self._online and peer not in self._present:
            return self._note(peer, present=True)
        return []

    def _note(self, peer: str, *, present: bool) -> list[PeerStatus]:
        if present == (peer in self._present):
            return []
        (self._present.add if present else self._present.discard)(peer)
        names = self.running.configuration.names
        return [PeerStatus(names.index(peer), present)] if peer in names else []

    # -- whoever lags --------------------------------------------------------------------------------------

    def beacons(self, peer: str, now: float) -> list[tuple[EraT, Any]]:
        """What a peer gets now and then, each with the era of which the envelope is."""
        running = self.running
        return [(running, running.core.beacon(now)), *self._for_laggard(peer, now)]

    def _for_laggard(self, peer: str, now: float) -> list[tuple[EraT, Any]]:
        """What it gets besides if it lags."""
        running = self.running
        heard = self._heard.get(peer, running.epoch)
        if heard >= running.epoch:
            return []
        era = self.ended.get(heard)
        if era is not None and (peer in era.configuration.names or self._following.get(peer) == heard):
            return [(era, era.core.beacon(now))]
        if era is None or self.durable > heard:
            return [(running, EpochOver(max(heard, 0), self._cuts.get(heard)))]
        # It had no vote there, and its core has nothing to say to it; a checkpoint of a later epoch is being written.
        return []

    def on_over(self, sender: str, message: EpochOver, of: int) -> list[Ended | PeerStatus]:
        """A peer says that an epoch is over: if it is the running one, what its core has to be told.

        If that is anything, the peer's checkpoint is to be fetched. Who speaks `of` the epoch itself has said so to one
        that knew of none, and has come to it since; and who speaks of none, or of an earlier one, cannot know.
        """
        if message.ended != self.running.epoch or (of <= message.ended and not self.joins):
            return []
        cut = message.cut
        if cut is not None and len(cut) != len(self.running.core.status().executed):
            cut = None  # of whoever means another epoch by that
        return [*self._note(sender, present=False), Ended(cut)]
