"""Draws the options of a seed.

Each group of options has a generator of its own: an override moves nothing but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.protocol.kinds import EPAXOS, KINDS
from epaxos.protocol.multipaxos.state import Learn
from epaxos.protocol.quorums import allowed, default_e, default_f
from epaxos.simulation.plan.fates import (
    CHAIN,
    RIVALS,
    STEADY,
    STRANDED,
    Bias,
    between,
    draw_chain,
    draw_leaders,
    draw_mutes,
    draw_rivals,
    draw_steady,
    draw_stranded,
)
from epaxos.simulation.plan.faults import COURSE, OF_COURSE
from epaxos.simulation.plan.options import (
    FAULTS,
    LARGEST,
    MANY,
    MIXES,
    NO_OVERRIDES,
    SMALLEST,
    Options,
    Overrides,
    stream,
)
from epaxos.transport.pages import PAGES

FEW: Final = 0.04
"""How likely there are but one or two."""


CHAINED: Final = (5, 2)
"""Replicas, and how many may stop: those at one end of a chain of so many need neither of the first two."""


class _Scale(NamedTuple):
    """The ranges of a scale: commands, clients, keys, frame, window, phase (in mean delays), troubles."""

    operations: tuple[int, int]
    clients: tuple[int, int]
    keys: Sequence[int]
    frames: Sequence[int]
    windows: Sequence[int]
    phase: tuple[float, float]
    troubles: tuple[int, int]


_SCALES: Final = {
    "small": _Scale((2, 12), (2, 5), (1, 1, 1, 2, 3), (1, 1, 1, 2), (1, 2, 4), (10, 120), (1, 6)),
    "medium": _Scale((30, 160), (2, 8), (1, 2, 5, 20), (1, 1, 4), (1, 2, 4), (60, 500), (3, 12)),
    "large": _Scale((500, 2500), (3, 10), (5, 20, 200), (1, 10, 50), (2, 4, 8), (100, 500), (3, 12)),
}


def draw_options(seed: int, overrides: Overrides = NO_OVERRIDES) -> Options:
    """The options of a seed.

    Raises:
        ValueError: an override out of its range.
    """
    _check(overrides)
    scale = _draw_scale(stream(seed, "scale"), overrides)
    delay = between(stream(seed, "delay"), 0.0005, 0.02)
    faults = _draw_faults(seed, scale, overrides)
    n, f, e = _draw_cluster(seed, overrides.replicas)
    is_epaxos = overrides.protocol == EPAXOS.name
    may_lead, may_own = (("protocol" in faults) or one for one in (not is_epaxos, is_epaxos))
    kinds = list(
        dict.fromkeys(
            kind
            for name in PAGES
            if "protocol" in faults or name == overrides.protocol
            for kind in PAGES[name].names.values()
        )
    )
    muted = scale == "small" and "loss" in faults
    options = Options(
        seed=seed,
        protocol=overrides.protocol,
        learn=_draw_learn(stream(seed, "learn")) if may_lead else "none",
        leaders="",
        scale=scale,
        replicas=n,
        f=f,
        e=e,
        observers=_draw_observers(stream(seed, "observers"), scale),
        spares=_draw_spares(seed, n) if "member" in faults else 0,
        faults=faults,
        **_draw_core(stream(seed, "core"), scale, delay, faults),
        **_draw_clients(stream(seed, "clients"), scale, delay, faults, overrides.operations),
        **_draw_bounds(stream(seed, "bounds")),
        **_draw_watchers(stream(seed, "watchers"), scale),
        whole=stream(seed, "whole").choice((0.0, 0.0, 0.03, 0.1, 0.3)),
        reads=stream(seed, "reads").choice((0.0, 0.2, 0.6, 1.0)),
        mutes=draw_mutes(stream(seed, "mutes"), n, kinds, camps=is_epaxos) if muted else (),
        **_draw_network(stream(seed, "network"), delay, faults, kinds),
        **_draw_links(stream(seed, "links"), delay, faults),
        **_draw_machines(stream(seed, "machines"), delay, faults),
        ahead=stream(seed, "ahead").choice((0, 1, 3, 16)) if may_own else 0,
        **_draw_checkpoints(stream(seed, "checkpoints"), scale, delay),
        lasting=stream(seed, "lasting").random() < 0.5,
        collect=_draw_collections(stream(seed, "collections"), delay),
        sync=delay * between(stream(seed, "sync"), 1, 50) if "power" in faults else 0.0,
        **_draw_troubles(stream(seed, "troubles"), scale, delay, faults, f),
    )
    if overrides.mix is not None:
        options = replace(options, mix=overrides.mix)
    if not is_epaxos:
        options = _arranged(options, overrides)
    return replace(options, lasting=True) if options.faults & _RESTARTING else options


def _arranged(options: Options, overrides: Overrides) -> Options:
    """Now and then, arrange for leaders to compete; or for what no other fault may disturb, if no faults are given."""
    leaders = draw_leaders(stream(options.seed, "leaders"), options.scale)
    given = overrides.faults is not None
    if leaders == STEADY and not given:
        return steady(options)
    if leaders == RIVALS:
        return rivals(options if given else replace(options, faults=options.faults | {"crash", "loss"}))
    if leaders == CHAIN and not given:
        return chain(options, any_size=overrides.replicas is None)
    if leaders == STRANDED and not given:
        return stranded(options)
    return options


def stranded(options: Options) -> Options:
    """The same, with replicas that miss what others drop, and get no checkpoint."""
    if {"bandwidth", "distance", "power"} & options.faults:
        return options
    drawn = draw_stranded(stream(options.seed, "stranded"), options.replicas, options.delay)
    return replace(options, faults=options.faults - {"refresh"} | {"crash", "partition"}, **drawn)


def steady(options: Options) -> Options:
    """The same, with links that are cut for long and nothing else wrong."""
    return replace(options, **draw_steady(stream(options.seed, "steady"), options.delay))


def rivals(options: Options) -> Options:
    """The same, with leaders that compete; not where their beacons would fill the links."""
    if {"bandwidth", "distance"} & options.faults:
        return options
    random = stream(options.seed, "rivals")
    return replace(options, **draw_rivals(random, options.replicas, options.delay, options.faults))


def chain(options: Options, *, any_size: bool = False) -> Options:
    """The same, with replicas in a row, if there are as many as it takes, or how many there are is left to the seed."""
    if {"bandwidth", "distance", "power"} & options.faults:
        return options
    n, f = CHAINED
    if any_size:
        options = replace(options, replicas=n, f=f, e=default_e(n, f))
    if (options.replicas, options.f) != CHAINED:
        return options
    drawn = draw_chain(stream(options.seed, "chain"), options.delay)
    return replace(options, faults=options.faults | {"crash", "partition"}, **drawn)


def _check(overrides: Overrides) -> None:
    if overrides.protocol not in KINDS:
        raise ValueError(f"--protocol {overrides.protocol}: allowed are {', '.join(KINDS)}")
    if overrides.replicas is not None and not SMALLEST <= overrides.replicas <= LARGEST:
        raise ValueError(f"--replicas {overrides.replicas}: allowed are {SMALLEST} to {LARGEST}")
    if overrides.operations is not None and overrides.operations < 1:
        raise ValueError(f"--operations {overrides.operations}: at least 1 is needed")
    if overrides.mix is not None and overrides.mix not in MIXES:
        raise ValueError(f"--mix {overrides.mix}: allowed are {', '.join(MIXES)}")
    for kind in overrides.faults or ():
        if kind not in FAULTS:
            raise ValueError(f"--faults {kind}: allowed are all, none, or some of {', '.join(FAULTS)}")


def _draw_scale(random: Random, overrides: Overrides) -> str:
    if overrides.operations is not None:
        for name, scale in _SCALES.items():
            if overrides.operations <= scale.operations[1]:
                return name
        return "large"
    return random.choices(list(_SCALES), (60, 36, 4))[0]


def _draw_cluster(seed: int, replicas: int | None) -> tuple[int, int, int]:
    few = stream(seed, "few")
    if replicas is None and few.random() < FEW:
        replicas = few.choice((1, 2, 2))
    random = stream(seed, "cluster")
    n = random.choices((3, 4, 5, 6, 7), (35, 5, 40, 3, 17))[0] if replicas is None else replicas
    sizes = [(f, e) for f in range(1, n) for e in range(f + 1) if allowed(n, f, e)]
    if sizes and random.random() < 0.25:
        return (n, *random.choice(sizes))
    f = default_f(n)
    return n, f, default_e(n, f)


_SELDOM: Final = {"bandwidth": 0.06, "distance": 0.03, "power": 0.04}
"""Kinds of faults that make other runs of what they touch, by how likely they are, one of them in a run.

In large runs the first two take too long. Together, queues make time-outs, far too short already, hopeless.
"""


_CHANGED: Final = 0.5
"""How likely members change in a run in which epochs end."""

_COURSES: Final = 0.06
"""How likely so many may join three that these can grow to seven, and shrink, and grow again."""

_OTHER_PROTOCOL: Final = 0.25
"""How likely some of these epochs are of another protocol than those before."""

_RESTARTING: Final = {"crash", "disk", "power"}
"""Kinds of faults after which a replica begins again with what is durable, so that it must last."""

_REFRESHED: Final = 0.35
"""How likely epochs end in a run; after it has been drawn what else goes wrong."""


def _draw_faults(seed: int, scale: str, overrides: Overrides) -> frozenset[str]:
    random = stream(seed, "faults")
    likely = {"crash", "death", "reorder", "loss"} if scale == "small" else set()
    usual = [kind for kind in FAULTS if kind not in _SELDOM and kind not in ("refresh", "member", "protocol")]
    drawn = {kind for kind in usual if random.random() < (0.8 if kind in likely else 0.5)}
    if random.random() < 0.03:
        drawn = set()
    if scale != "large":
        seldom = [kind for kind, chance in _SELDOM.items() if stream(seed, f"{kind} drawn").random() < chance]
        drawn |= set(seldom[:1])
    if stream(seed, "refresh drawn").random() < _REFRESHED:
        drawn.add("refresh")
        if stream(seed, "member drawn").random() < _CHANGED:
            drawn.add("member")
        if stream(seed, "protocol drawn").random() < _OTHER_PROTOCOL:
            drawn.add("protocol")
    return frozenset(drawn) if overrides.faults is None else overrides.faults


def _draw_spares(seed: int, n: int) -> int:
    """How many may join: as many as there are at first, and more, or few; or so many that members grow to seven."""
    if n == COURSE[-1] and stream(seed, "course").random() < _COURSES:
        return OF_COURSE
    return stream(seed, "spares").choice((1, 2, n, n + 1))


def _draw_observers(random: Random, scale: str) -> int:
    """Where little happens they cost little."""
    return random.choice((0, 0, 0, 0, 1, 2) if scale == "small" else (0, 0, 0, 0, 0, 0, 0, 1))


def _draw_core(random: Random, scale: str, delay: float, faults: frozenset[str]) -> dict[str, Any]:
    # The time-out of a recovery is a second at patience 1; here it is a few message delays, up to 200.
    patience = delay * between(random, *((0.7, 60) if scale == "small" else (4, 200)))
    if "distance" in faults:
        patience = delay * between(random, 0.1, 2)
    return {
        "thrifty": random.random() < 0.3,
        "patience": patience,
        "fast_path": min(delay * between(random, 1, 20), patience / 4),
        "max_instances": random.choice((1, 4, 64)),
        "aggregate": random.random() < 0.7,
        "max_batch": random.choice((1, 10, 1000)),
    }


def _draw_clients(
    random: Random, name: str, delay: float, faults: frozenset[str], given: int | None
) -> dict[str, Any]:
    scale = _SCALES[name]
    lossy = "client" in faults
    operations = random.randint(*scale.operations)
    options = {
        "clients": random.randint(*scale.clients),
        "operations": operations if given is None else given,
        "window": random.choice(scale.windows),
        "frame": random.choice(scale.frames),
        "think": delay * between(random, 0.1, 20),
        "keys": random.choice(scale.keys),
        "hot": random.choice((0.0, 0.1, 0.5, 1.0)),
        "mix": random.choice(("mixed", "mixed", "writes", "reads", "multi", "timed")),
        "client_timeout": delay * between(random, 10, 300),
        "client_loss": random.random() * 0.3,
        "regroup": random.choice((0.0, 0.5)),
        "abandon": random.choice((0.0, 0.0, 0.05, 0.2)),
    }
    return options if lossy else options | {"client_loss": 0.0, "regroup": 0.0, "abandon": 0.0}


def _draw_bounds(random: Random) -> dict[str, Any]:
    """Values have a few bytes: mostly nothing is bounded, or it would stay unnoticed that a result was lost."""
    return {
        "results": random.choice((MANY, MANY, 40, 12)),
        "kept": random.choice((MANY, MANY, MANY, 1000)),
    }


def _draw_watchers(random: Random, scale: str) -> dict[str, Any]:
    """What a replica keeps is so little, now and then, that watchers fall behind."""
    return {
        "watchers": random.choice((0, 1, 2, 4) if scale == "small" else (0, 0, 1, 2)),
        "history": random.choice((MANY, MANY, 3000, 600)),
        "always": random.random() < 0.5,
    }


def _draw_learn(random: Random) -> str:
    return random.choice((Learn.VOTES, Learn.VOTES, Learn.COMMITS)).value


def _draw_network(
    random: Random, delay: float, faults: frozenset[str], kinds: Sequence[str]
) -> dict[str, Any]:
    loss = between(random, 0.005, 0.3)
    duplicate = between(random, 0.005, 0.3)
    spread = random.choice(("uniform", "exponential", "heavy"))
    fifo = random.random() < 0.2
    biased = random.random() < 0.4
    bias = tuple(
        Bias(kind, random.choice((0.0, 0.3, 0.7, 1.0)), between(random, 1, 30))
        for kind in kinds
        if random.random() < 0.2
    )
    if "loss" not in faults:
        bias = tuple(entry._replace(loss=0.0) for entry in bias)
    return {
        "delay": delay,
        "spread": spread if "reorder" in faults else "fixed",
        "fifo": fifo or "reorder" not in faults,
        "loss": loss if "loss" in faults else 0.0,
        "duplicate": duplicate if "duplicate" in faults else 0.0,
        "bias": bias if biased and "reorder" in faults else (),
    }


def _draw_links(random: Random, delay: float, faults: frozenset[str]) -> dict[str, Any]:
    """A message with a long value keeps a link busy for about as long as it takes to arrive."""
    padding = random.choice((100, 1000, 3000))
    queue = padding * random.choice((3, 10, 100))
    rate = padding / (delay * between(random, 0.05, 2))
    return (
        {"rate": rate, "queue": queue, "padding": padding}
        if "bandwidth" in faults
        else {"rate": 0.0, "queue": 0, "padding": 0}
    )


def _draw_machines(random: Random, delay: float, faults: frozenset[str]) -> dict[str, Any]:
    disk = random.choice(("instant", "blocking", "pipelined"))
    disk_delay = delay * between(random, 0.1, 5)
    cpu = random.choice((0.0, 0.0, delay * between(random, 0.01, 0.5)))
    beacon = delay * between(random, 4, 40)
    return {
        "disk": disk if "disk" in faults else "instant",
        "disk_delay": disk_delay if "disk" in faults else 0.0,
        "early": random.random() < 0.5,
        "cpu": cpu,
        "round": random.choice((8, 1000)) if cpu else random.choice((1, 4, 1000)),
        "commit_delay": random.choice((0.0, delay * between(random, 0.1, 4))),
        "beacon": beacon,
        "offline": beacon * (2.5 + 5 * random.random()),
        "skew": 0.3 * random.random() if "clock" in faults else 0.0,
        "acquainted": random.random() < 0.7,
    }


def _draw_checkpoints(random: Random, scale: str, delay: float) -> dict[str, Any]:
    """Checkpoints come often and little is kept, so that a few commands show what follows from that."""
    size = random.choice((1, 2, 5, 1000)) if scale == "small" else random.choice((5, 50, 500))
    never = random.random() < 0.2
    return {
        "checkpoint": 1e9 if never else delay * between(random, 1, 100),
        "checkpoint_size": 10**9 if never else size,
        "retain": random.choice((0, 0, 2_000, 20_000, 10**9)),
        "chunk": random.choice((50, 300, 10_000)),
        "lease": delay * between(random, 10, 300),
        "slice": random.choice((1, 2, 5, 256)),
        "merging": random.choice((1, 1, 16)),
        "growth": random.choice((1, 3)),
    }


def _draw_collections(random: Random, delay: float) -> float:
    """Sessions end after two collections, so some of these run out while clients still try again."""
    interval = delay * between(random, 2, 100)
    return 1e9 if random.random() < 0.4 else interval


def _draw_troubles(random: Random, name: str, delay: float, faults: frozenset[str], f: int) -> dict[str, Any]:
    scale = _SCALES[name]
    troubles = random.randint(*scale.troubles)
    dead = random.randint(1, f) if f else 0
    return {
        "phase": delay * between(random, *scale.phase),
        "troubles": troubles,
        "dead": dead if faults & {"death", "power"} else 0,
        "comeback": 0.2,
    }
