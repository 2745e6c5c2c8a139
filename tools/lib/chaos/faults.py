"""What may be done to a cluster.

A fault is a value that was drawn beforehand; it has `victims`, the replicas that count as faulty and whose clients
may have to wait, and begins and ends. One that is `lasting` does not end before its cluster does: a replica with the
memory engine that was killed may not come back. One that comes back is in `chaos.restarts`, and others that take its
place in `chaos.members`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from random import Random
from typing import ClassVar, Final, Protocol, TypeAlias

from chaos.cluster import Cluster
from chaos.members import draw_lost_disk, draw_member
from chaos.restarts import draw_drain, draw_restart, draw_restart_all, strike

Pair: TypeAlias = tuple[str, str]
"""A direction: who sends, and to whom."""

LAST_WORDS: Final = 0.015
"""Seconds before a kill in which not all peers hear the victim, at most.

Shorter than the default `fast_path_timeout`: the victim then dies with instances that only some have heard of.
"""


class Fault(Protocol):
    """Something that is done to a cluster."""

    kind: ClassVar[str]
    lasting: ClassVar[bool]

    @property
    def victims(self) -> Sequence[str]:
        """The replicas that count as faulty."""

    @property
    def label(self) -> str:
        """Its kind, and what matters beside that: under which it is counted."""

    async def begin(self, cluster: Cluster) -> None:
        """Do it."""

    async def end(self, cluster: Cluster) -> None:
        """Undo it."""


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL; in the last `hush` seconds its messages reach only those peers that are not `deaf`."""

    kind: ClassVar[str] = "kill"
    lasting: ClassVar[bool] = True

    victim: str
    deaf: tuple[str, ...] = ()
    hush: float = 0.0

    @property
    def victims(self) -> Sequence[str]:
        """The one that is killed."""
        return (self.victim,)

    @property
    def label(self) -> str:
        """Told apart by whether all have heard the same."""
        return "kill in mid-sentence" if self.deaf else "kill"

    def __str__(self) -> str:
        unheard = f", unheard by {' and '.join(self.deaf)} for the last {self.hush * 1000:.0f} ms"
        return f"kill {self.victim}{unheard if self.deaf else ''}"

    async def begin(self, cluster: Cluster) -> None:
        """Have some peers miss the victim's last words, and kill it.

        What was held back is lost with the victim: of a machine that dies, nothing arrives any more.
        """
        links = cluster.between((self.victim, peer) for peer in self.deaf)
        for link in links:
            link.stop()
        await asyncio.sleep(self.hush)
        for link in links:
            link.sever()
        strike(cluster, self.victim)
        cluster.replicas[self.victim].kill()

    async def end(self, cluster: Cluster) -> None:
        """Stay dead."""


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP, and SIGCONT at the end."""

    kind: ClassVar[str] = "pause"
    label: ClassVar[str] = "pause"
    lasting: ClassVar[bool] = False

    victim: str

    @property
    def victims(self) -> Sequence[str]:
        """The one that stands still."""
        return (self.victim,)

    def __str__(self) -> str:
        return f"pause {self.victim}"

    async def begin(self, cluster: Cluster) -> None:
        """Let it stand still."""
        cluster.replicas[self.victim].hold()

    async def end(self, cluster: Cluster) -> None:
        """Let it go on."""
        cluster.replicas[self.victim].go_on()


@dataclass(frozen=True, slots=True)
class Cut:
    """Links that carry nothing: silent as with a pulled cable, or `closed` as with a firewall that refuses."""

    kind: ClassVar[str] = "cut"
    lasting: ClassVar[bool] = False

    pairs: tuple[Pair, ...]
    victims: tuple[str, ...]
    shape: str
    where: str
    closed: bool

    @property
    def label(self) -> str:
        """Told apart by shape and manner."""
        return f"cut {self.shape} {self._how}"

    @property
    def _how(self) -> str:
        return "(closed)" if self.closed else "(silent)"

    def __str__(self) -> str:
        return f"cut {self.where} {self._how}"

    async def begin(self, cluster: Cluster) -> None:
        """Cut."""
        for link in cluster.between(self.pairs):
            if self.closed:
                link.sever()
            else:
                link.stop()

    async def end(self, cluster: Cluster) -> None:
        """Mend."""
        for link in cluster.between(self.pairs):
            if self.closed:
                link.splice()
            else:
                link.flow()


@dataclass(frozen=True, slots=True)
class Delay:
    """Links on which everything takes `seconds` longer; nobody counts as faulty."""

    kind: ClassVar[str] = "delay"
    label: ClassVar[str] = "delay"
    lasting: ClassVar[bool] = False

    pairs: tuple[Pair, ...]
    victims: ClassVar[tuple[str, ...]] = ()
    shape: str
    seconds: float

    def __str__(self) -> str:
        return f"delay {self.shape} by {self.seconds * 1000:.0f} ms"

    async def begin(self, cluster: Cluster) -> None:
        """Slow them down."""
        for link in cluster.between(self.pairs):
            link.delay += self.seconds

    async def end(self, cluster: Cluster) -> None:
        """Let them be as quick as before."""
        for link in cluster.between(self.pairs):
            link.delay -= self.seconds


def draw_kill(chance: Random, healthy: Sequence[str], names: Sequence[str], _room: int) -> Kill:
    """Kill a replica, at any moment or in the middle of a sentence."""
    victim = chance.choice(healthy)
    peers = [name for name in names if name != victim]
    if chance.random() < 0.5:
        return Kill(victim)
    deaf = chance.sample(peers, chance.randint(1, len(peers) - 1))
    return Kill(victim, tuple(sorted(deaf)), chance.uniform(0.2, 1.0) * LAST_WORDS)


def draw_pause(chance: Random, healthy: Sequence[str], _names: Sequence[str], _room: int) -> Pause:
    """Let a replica stand still."""
    return Pause(chance.choice(healthy))


def draw_cut(chance: Random, healthy: Sequence[str], names: Sequence[str], room: int) -> Cut:
    """Cut the links around one replica, out of it, into it, between two, or between two sides.

    Whoever can not both hear and be heard by a majority counts as faulty, and one end of a link between two.
    """
    closed = chance.random() < 0.5
    victim = chance.choice(healthy)
    peers = [name for name in names if name != victim]
    out = tuple((victim, peer) for peer in peers)
    back = tuple((peer, victim) for peer in peers)
    peer = chance.choice(peers)
    shape = chance.choice(("around", "out", "in", "halves", "pair", "way"))
    if shape == "halves" and room > 1:
        side = tuple(sorted(chance.sample(list(healthy), room)))
        other = [name for name in names if name not in side]
        crossing = (*product(side, other), *product(other, side))
        return Cut(crossing, side, shape, f"{' and '.join(side)} off the others", closed)
    pairs, where = {
        "out": (out, f"from {victim} to all"),
        "in": (back, f"from all to {victim}"),
        "pair": (((victim, peer), (peer, victim)), f"between {victim} and {peer}"),
        "way": (((victim, peer),), f"from {victim} to {peer}"),
    }.get(shape, ((*out, *back), f"around {victim}"))
    return Cut(pairs, (victim,), "around" if shape == "halves" else shape, where, closed)


def draw_delay(chance: Random, healthy: Sequence[str], names: Sequence[str], _room: int) -> Delay:
    """Slow down the links around one replica, or all of them."""
    seconds = chance.choice((0.01, 0.05, 0.15))
    if chance.random() < 0.5:
        return Delay(tuple(permutations(names, 2)), "all links", seconds)
    victim = chance.choice(healthy)
    pairs = tuple(pair for pair in permutations(names, 2) if victim in pair)
    return Delay(pairs, f"links of {victim}", seconds)


DRAWS: Final[Mapping[str, Callable[[Random, Sequence[str], Sequence[str], int], Fault]]] = {
    "kill": draw_kill,
    "pause": draw_pause,
    "cut": draw_cut,
    "delay": draw_delay,
    "member": draw_member,
    "disk-loss": draw_lost_disk,
    "restart": draw_restart,
    "restart-all": draw_restart_all,
    "drain": draw_drain,
}
"""How a fault of each kind is drawn: by chance, from the healthy replicas of all, so many of them at most."""

RESTARTS: Final = frozenset({"restart", "restart-all", "drain", "disk-loss"})
"""Kinds that need a storage engine which outlives a process."""

MEMBERS: Final = frozenset({"member", "disk-loss"})
"""Kinds after which the cluster may have other members."""
