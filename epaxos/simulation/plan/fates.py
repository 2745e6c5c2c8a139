"""Which messages fare worse than others, by kind and by link; and runs in which leaders compete for that reason."""

from __future__ import annotations

import math
from random import Random
from typing import Any, Final, NamedTuple


def between(random: Random, low: float, high: float) -> float:
    """A number whose order of magnitude is as likely to be low as high."""
    return low * math.exp(random.random() * math.log(high / low))


class Mute(NamedTuple):
    """Messages of one type from one replica to another are lost."""

    kind: str
    sender: int
    receiver: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.sender}>{self.receiver}"


class Bias(NamedTuple):
    """How messages of one type fare worse than others: a chance of loss, and a factor on the delay."""

    kind: str
    loss: float
    slowness: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.loss:.2g}:{self.slowness:.2g}"


def draw_mutes(random: Random, n: int, kinds: list[str], *, camps: bool) -> tuple[Mute, ...]:
    """Now and then some replicas never hear of something, which random loss would hardly keep from them."""
    if camps and n >= 4 and random.random() < 0.3:
        return draw_camps(random, n)
    if random.random() < 0.5:
        return ()
    return tuple(
        Mute(kind, sender, receiver)
        for sender in range(n)
        for kind in random.sample(kinds, random.randint(0, 3))
        for receiver in range(n)
        if receiver != sender and random.random() < 0.6
    )


def draw_camps(random: Random, n: int) -> tuple[Mute, ...]:
    """Two owners, each with a camp that hears of its instances alone and, recovering them, not from the owner itself.

    Without this, hardly ever do two recoveries wait for one another (protocol 4.7, cases 10 and 12).
    """
    first, second, *others = random.sample(range(n), n)
    size = random.randint(1, len(others) - 1)
    mutes = []
    for owner, other, camp, away in (
        (first, second, others[:size], others[size:]),
        (second, first, others[size:], others[:size]),
    ):
        mutes += [Mute("PreAccept", owner, receiver) for receiver in (other, *away)]
        mutes += [Mute("RecoverOK", owner, receiver) for receiver in camp]
        mutes += [Mute("PreAcceptOK", sender, owner) for sender in camp if random.random() < 0.6]
    return tuple(mutes)


RIVALS, STEADY, CHAIN, STRANDED = "rivals", "steady", "chain", "stranded"
"""How leaders fare in a run: they compete for slots; or links are cut for long, and nothing else is wrong; or whoever
led hears of those who lead after it only through somebody who did not elect them, and who forgets of whom it heard; or
who leads has missed what others have dropped, and gets no checkpoint.
"""

CRASHING: Final = ("Accept", "Accept", "Accept", "AcceptOK", "Prepare", "Promised", "Voted")
"""Among the sendings of which a rival stops: with the value at some, just after a promise, between two campaigns."""

_UNHEARD: Final = {
    "Accept": 0.6,
    "Promised": 0.4,
    "Prepare": 0.3,
    "Voted": 0.2,
    "Chosen": 0.8,
    "AcceptOK": 0.4,
}
"""Kinds of messages and the share of the links that lose them at most, so that a vote stays with few."""


def draw_leaders(random: Random, scale: str) -> str:
    """How leaders fare; empty if nothing is arranged for them."""
    chance = random.random()
    if scale == "large" or chance > 0.5:
        return ""
    return STEADY if chance < 0.03 else RIVALS if chance <= 0.4 else CHAIN if chance <= 0.47 else STRANDED


def draw_rivals(random: Random, n: int, delay: float, faults: frozenset[str]) -> dict[str, Any]:
    """Leaders that follow one another quickly, each heard by a few, and told of each other's votes late or never.

    Else a value is voted for by all or by none, and it matters not which vote a new leader proposes again.
    """
    beacon = delay * between(random, 0.7, 3)
    drawn: dict[str, Any] = {
        "leaders": RIVALS,
        "patience": delay * between(random, 3, 12),
        "beacon": beacon,
        "offline": beacon * (2.5 + 3 * random.random()),
        "phase": delay * between(random, 120, 300),
        "troubles": random.randint(2, 8),
        "think": delay * between(random, 10, 100),
        "max_instances": random.choice((4, 64)),
    }
    shares = {kind: most * random.choice((0.2, 0.5, 1)) for kind, most in _UNHEARD.items()}
    links = [(a, b) for a in range(n) for b in range(n) if a != b]
    if "loss" in faults:
        drawn["mutes"] = tuple(
            Mute(kind, *link) for kind, share in shares.items() for link in links if random.random() < share
        )
    slowness = {}
    if "reorder" in faults:
        slow = random.sample(("Promised", "Voted", "Accept", "AcceptOK", "Chosen", "Beacon"), 2)
        slowness = {kind: between(random, 3, 30) for kind in slow}
    loss = {"Accept": random.choice((0.0, 0.3, 0.6))} if "loss" in faults else {}
    drawn["bias"] = tuple(
        Bias(kind, loss.get(kind, 0.0), slowness.get(kind, 1.0)) for kind in sorted(loss | slowness)
    )
    return drawn


def draw_steady(random: Random, delay: float) -> dict[str, Any]:
    """Links that are cut for long, and time-outs that fit the network: after a while nobody may campaign any more.

    Clients are so patient that it depends on replicas whether they go where commands get somewhere.
    """
    beacon = delay * 25
    phase = 2 * beacon * 8 * 22
    return {
        "leaders": STEADY,
        "faults": frozenset({"partition"}),
        "patience": delay * 100,
        "beacon": beacon,
        "offline": beacon * 3,
        "phase": phase,
        "troubles": 2,
        "dead": 0,
        "think": delay * between(random, 20, 1000),
        "client_timeout": phase,
        "collect": 1e9,
        "retain": random.choice((0, 10**9)),
        "mutes": (),
        "bias": (),
        "spread": "uniform",
        "fifo": True,
        "loss": 0.0,
        "duplicate": 0.0,
        "client_loss": 0.0,
        "regroup": 0.0,
        "abandon": 0.0,
        "rate": 0.0,
        "queue": 0,
        "padding": 0,
        "disk": "instant",
        "disk_delay": 0.0,
        "sync": 0.0,
        "cpu": 0.0,
        "skew": 0.0,
        "acquainted": True,
    }


def draw_chain(random: Random, delay: float) -> dict[str, Any]:
    """Replicas in a row that hear their neighbours alone, while those between restart again and again.

    Of five, whoever led may come to stand at an end. The three at the other end elect another, to which its neighbour
    is no voter; and each time that one restarts, it knows what was decided and no more at which ballot.
    """
    beacon = delay * between(random, 1, 4)
    return {
        "leaders": CHAIN,
        "patience": delay * between(random, 4, 8),
        "beacon": beacon,
        "offline": beacon * 4,
        "phase": delay * 300,
        "troubles": 2,
        "dead": 0,
        "think": delay * between(random, 2, 10),
        "mutes": (),
        "bias": (),
        "spread": "uniform",
        "fifo": False,
        "loss": 0.0,
        "duplicate": 0.0,
        "disk": "instant",
        "disk_delay": 0.0,
        "cpu": 0.0,
        "checkpoint": 1e9,
        "checkpoint_size": 10**9,
    }


def draw_stranded(random: Random, n: int, delay: float) -> dict[str, Any]:
    """Replicas that are cut off or down while the others keep nothing, and that are given no checkpoint by anybody.

    One that is elected leads on for as long as it takes to see that it gets nowhere (multipaxos 2, rule 7).
    """
    beacon = delay * between(random, 1, 4)
    return {
        "leaders": STRANDED,
        "patience": delay * between(random, 4, 8),
        "beacon": beacon,
        "offline": beacon * 4,
        "phase": delay * 400,
        "troubles": random.randint(4, 10),
        "dead": 0,
        "think": delay * between(random, 2, 20),
        "retain": 0,
        "checkpoint": delay * between(random, 1, 5),
        "checkpoint_size": 1,
        "mutes": tuple(Mute("CheckpointRows", a, b) for a in range(n) for b in range(n) if a != b),
        "bias": (),
        "loss": 0.0,
        "disk": "instant",
        "disk_delay": 0.0,
        "cpu": 0.0,
    }
