"""Everything that a seed decides before the first event: drawn at once, printed with every failure.

All times are in seconds of virtual time. Only their proportions matter, so all are drawn as multiples of the mean
delay of a message. Each group of options has a generator of its own: an override moves nothing but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.protocol.kinds import EPAXOS, KINDS, Kind
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.state import Learn
from epaxos.protocol.quorums import Quorums, allowed, default_e, default_f
from epaxos.simulation.plan.fates import (
    RIVALS,
    STEADY,
    Bias,
    Mute,
    between,
    draw_leaders,
    draw_mutes,
    draw_rivals,
    draw_steady,
)
from epaxos.transport.pages import PAGES, Page


def stream(seed: int, name: str) -> Random:
    """A generator of its own for one purpose, so that a draw for one thing does not shift those for another.

    Seeded by a text, which Python hashes the same way in every process.
    """
    return Random(f"{seed}/{name}")  # noqa: S311 - chance that can be repeated is the point


FAULTS: Final = {
    "loss": "messages are lost",
    "duplicate": "messages arrive twice",
    "reorder": "messages overtake each other; some kinds, and some links, are slower than others",
    "storm": "for a while, most messages are lost or late",
    "partition": "links are cut: in halves, one way, around one replica, or but for one bridge",
    "crash": "replicas stop between any two effects, lose what was not durable, and restart",
    "death": "up to f replicas stop for good; some come back without their disk",
    "pause": "replicas stand still and go on",
    "disk": "writing takes long, longer at times, and fails",
    "clock": "clocks run too fast or too slow",
    "client": "requests and replies are lost, clients retry elsewhere in other groupings or give up",
    "bandwidth": "links carry so many bytes a second, for good, and drop what their queues cannot hold",
    "distance": "round trips are longer than time-outs, for good",
    "power": "machines that sync once an interval lose power for good; some come back without their disk",
}
"""The kinds of faults, by the names that --faults takes."""

MANY: Final = 10**6
"""As many bytes of results as no run comes to."""

SMALLEST, LARGEST = 1, 15
"""How many replicas a simulated cluster may have."""

MIXES: Final = ("mixed", "writes", "reads", "multi", "transactions")
"""Which operations clients prefer; the last is drawn by no seed."""

FEW: Final = 0.04
"""How likely there are but one or two."""


class Overrides(NamedTuple):
    """What the command line decides instead of the seed; None leaves it to the seed."""

    replicas: int | None = None
    faults: frozenset[str] | None = None
    operations: int | None = None
    protocol: str = EPAXOS.name
    mix: str | None = None

    def arguments(self) -> list[str]:
        """The options of the command line that say this."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        if self.protocol == EPAXOS.name:
            del given["protocol"]
        return [word for name, value in given.items() for word in (f"--{name}", shown(value))]

    @property
    def draws_all(self) -> bool:
        """Whether everything else is left to the seed."""
        return self._replace(protocol=EPAXOS.name) == NO_OVERRIDES


NO_OVERRIDES: Final = Overrides()


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run.

    protocol, learn   which one runs, by its name; how its followers learn what is chosen, where it has a leader
    leaders           "rivals", "steady" or nothing: see `fates`
    scale             how much happens: "small" (few commands, most hostile), "medium" or "large"
    patience          the factor on all time-outs of the core
    fast_path         how long a coordinator waits for a fast quorum
    operations        commands of all clients together
    window            frames that a client has under way at most
    frame             commands in one frame at most
    think             mean time between a client's frames
    keys, hot         how many keys there are; the share of the commands that go to the first of them
    mix, padding      which operations clients prefer: see `workload`; bytes by which half of the values are longer
    results, kept     bytes of results that a batch may come to, and that replicas keep of a session
    delay, spread     mean delay of a message and how it is distributed: see `network`
    fifo              whether messages of one link arrive in order
    bias, mutes       message types that fare worse, everywhere or between two replicas
    rate, queue       bytes a second that a link carries; how many may wait before it. No bounds if the rate is 0
    disk              "instant", "blocking" (the replica waits for it) or "pipelined" (it goes on meanwhile)
    sync              how long what is written waits until it is synced, with `sync` = "interval"; 0 with "always"
    checkpoint        how long after something has executed a checkpoint begins
    checkpoint_size   how many executed instances make it begin at once
    retain            bytes of executed instances that a replica keeps for the others
    collect           how long after a collection the next one is proposed
    chunk             bytes of a checkpoint that one message brings
    slice, merging    rows in a slice of a checkpoint; slices of a peer's that a round merges
    lease             how long a replica serves a checkpoint to somebody who does not ask any more
    early             whether messages that promise nothing leave before the records of their round are durable
    ahead             how many slots are used without a record of the proposal (protocol 4.11b)
    cpu, round        how long a round takes, and how many events one takes in at most
    offline           a peer silent for this long, and for some round trips, is reported offline
    acquainted        whether replicas take each other for online from the first moment
    skew              how far the rates of clocks are from 1 at most
    phase             how long the faults last
    faults            the kinds that may happen
    troubles          how many of them happen
    dead, comeback    how many replicas stop for good; the chance that such a one is started again without its disk
    """

    seed: int
    protocol: str
    learn: str
    leaders: str
    scale: str
    replicas: int
    f: int
    e: int
    thrifty: bool
    patience: float
    fast_path: float
    max_instances: int
    aggregate: bool
    max_batch: int
    clients: int
    operations: int
    window: int
    frame: int
    think: float
    keys: int
    hot: float
    mix: str
    padding: int
    results: int
    kept: int
    client_timeout: float
    client_loss: float
    regroup: float
    abandon: float
    delay: float
    spread: str
    fifo: bool
    loss: float
    duplicate: float
    rate: float
    queue: int
    bias: tuple[Bias, ...]
    mutes: tuple[Mute, ...]
    disk: str
    disk_delay: float
    sync: float
    checkpoint: float
    checkpoint_size: int
    retain: int
    collect: float
    chunk: int
    slice: int
    merging: int
    lease: float
    early: bool
    ahead: int
    cpu: float
    round: int
    commit_delay: float
    beacon: float
    offline: float
    acquainted: bool
    skew: float
    phase: float
    faults: frozenset[str]
    troubles: int
    dead: int
    comeback: float

    @property
    def quorums(self) -> Quorums:
        """The thresholds of the cluster."""
        return Quorums(self.replicas, self.f, self.e)

    @property
    def configuration(self) -> Configuration:
        """Who takes part."""
        names = tuple(f"r{row}" for row in range(self.replicas))
        return Configuration(0, self.protocol, names, self.f, self.e)

    @property
    def kind(self) -> Kind:
        """The protocol that runs."""
        return KINDS[self.protocol]

    @property
    def rows(self) -> int:
        """Rows of its log."""
        return self.kind.rows(self.replicas)

    @property
    def page(self) -> Page:
        """Its messages."""
        return PAGES[self.protocol]

    @property
    def calm_delay(self) -> float:
        """Mean delay of a message once the faults are over.

        Time-outs are then longer than what they wait for, as they are meant to be; but not where distance is the fault.
        """
        return self.delay if "distance" in self.faults else min(self.delay, self.patience / 40)

    def describe(self) -> str:
        """All options in a few lines."""
        lines = [""]
        for field in fields(self):
            item = f"{field.name}={shown(getattr(self, field.name))}"
            if len(lines[-1]) + len(item) > 100:
                lines.append("")
            lines[-1] += f"  {item}"
        return "\n".join(lines)


def shown(value: object) -> str:
    """The value of an option, in the way it is printed and given."""
    if isinstance(value, frozenset):
        return ",".join(kind for kind in FAULTS if kind in value) or "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
    kinds = list(PAGES[overrides.protocol].names.values())
    is_epaxos = overrides.protocol == EPAXOS.name
    muted = scale == "small" and "loss" in faults
    options = Options(
        seed=seed,
        protocol=overrides.protocol,
        learn="none" if is_epaxos else _draw_learn(stream(seed, "learn")),
        leaders="",
        scale=scale,
        replicas=n,
        f=f,
        e=e,
        faults=faults,
        **_draw_core(stream(seed, "core"), scale, delay, faults),
        **_draw_clients(stream(seed, "clients"), scale, delay, faults, overrides.operations),
        **_draw_bounds(stream(seed, "bounds")),
        mutes=draw_mutes(stream(seed, "mutes"), n, kinds, camps=is_epaxos) if muted else (),
        **_draw_network(stream(seed, "network"), delay, faults, kinds),
        **_draw_links(stream(seed, "links"), delay, faults),
        **_draw_machines(stream(seed, "machines"), delay, faults),
        ahead=stream(seed, "ahead").choice((0, 1, 3, 16)) if is_epaxos else 0,
        **_draw_checkpoints(stream(seed, "checkpoints"), scale, delay),
        collect=_draw_collections(stream(seed, "collections"), delay),
        sync=delay * between(stream(seed, "sync"), 1, 50) if "power" in faults else 0.0,
        **_draw_troubles(stream(seed, "troubles"), scale, delay, faults, f),
    )
    if overrides.mix is not None:
        options = replace(options, mix=overrides.mix)
    return options if is_epaxos else _arranged(options, given=overrides.faults is not None)


def _arranged(options: Options, *, given: bool) -> Options:
    """Now and then, arrange for leaders to compete, or to be left alone if no faults are given."""
    random = stream(options.seed, "leaders")
    leaders = draw_leaders(random, options.scale)
    if leaders == STEADY and not given:
        return replace(options, **draw_steady(random, options.delay))
    if leaders != RIVALS:
        return options
    return rivals(options if given else replace(options, faults=options.faults | {"crash", "loss"}))


def rivals(options: Options) -> Options:
    """The same, with leaders that compete; not where their beacons would fill the links."""
    if {"bandwidth", "distance"} & options.faults:
        return options
    random = stream(options.seed, "rivals")
    return replace(options, **draw_rivals(random, options.replicas, options.delay, options.faults))


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


def _draw_faults(seed: int, scale: str, overrides: Overrides) -> frozenset[str]:
    random = stream(seed, "faults")
    likely = {"crash", "death", "reorder", "loss"} if scale == "small" else set()
    usual = [kind for kind in FAULTS if kind not in _SELDOM]
    drawn = {kind for kind in usual if random.random() < (0.8 if kind in likely else 0.5)}
    if random.random() < 0.03:
        drawn = set()
    if scale != "large":
        seldom = [kind for kind, chance in _SELDOM.items() if stream(seed, f"{kind} drawn").random() < chance]
        drawn |= set(seldom[:1])
    return frozenset(drawn) if overrides.faults is None else overrides.faults


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
        "mix": random.choice(("mixed", "mixed", "writes", "reads", "multi")),
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
