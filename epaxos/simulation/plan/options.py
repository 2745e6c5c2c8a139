"""Everything that is decided before the first event: drawn at once (`plan.drawing`), printed with every failure.

All times are in seconds of virtual time. Only their proportions matter, so all are drawn as multiples of the mean
delay of a message.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Final, NamedTuple

from epaxos.protocol.kinds import EPAXOS, KINDS, Kind
from epaxos.protocol.membership import Configuration
from epaxos.protocol.quorums import Quorums
from epaxos.simulation.plan.fates import Bias, Mute
from epaxos.transport.pages import PAGES


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
    "refresh": "replicas are asked to end the epoch, for another with the same members",
    "member": "replicas are asked for other members: some join, some are removed, one takes the place of a lost disk",
    "protocol": "replicas are asked for an epoch of the other protocol",
}
"""The kinds of faults, by the names that --faults takes."""

MANY: Final = 10**6
"""As many bytes of results as no run comes to."""

SMALLEST, LARGEST = 1, 15
"""How many replicas a simulated cluster may have."""

MIXES: Final = ("mixed", "writes", "reads", "multi", "timed", "transactions")
"""Which operations clients prefer; the last is drawn by no seed."""


class Overrides(NamedTuple):
    """What the command line decides instead of the seed; None leaves it to the seed."""

    replicas: int | None = None
    faults: frozenset[str] | None = None
    operations: int | None = None
    protocol: str = EPAXOS.name
    mix: str | None = None
    groups: int | None = None

    @property
    def subject(self) -> str:
        """Under which name it is known what seeds must exercise: that of the protocol, or "groups"."""
        return "groups" if self.groups else self.protocol

    def arguments(self) -> list[str]:
        """The options of the command line that say this."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        if self.protocol == EPAXOS.name:
            del given["protocol"]
        return [word for name, value in given.items() for word in (f"--{name}", shown(value))]

    @property
    def draws_all(self) -> bool:
        """Whether everything else is left to the seed."""
        return self._replace(protocol=EPAXOS.name, groups=None) == NO_OVERRIDES


NO_OVERRIDES: Final = Overrides()


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run.

    protocol, learn   which one runs first, by its name; how its followers learn what is chosen, where it has a leader
    leaders           "rivals", "steady", "chain", "stranded" or nothing: see `fates`
    spares, observers  how many more may join; how many follow without a vote, until they are given one
    scale             how much happens: "small" (few commands, most hostile), "medium" or "large"
    patience          the factor on all time-outs of the core
    fast_path         how long a coordinator waits for a fast quorum
    operations        commands of all clients together
    window            frames that a client has under way at most
    frame             commands in one frame at most
    watchers          how many follow what changes; history: bytes of that which a replica keeps, and always: even while
                      nobody has asked
    think             mean time between a client's frames
    keys, hot         how many keys there are; the share of the commands that go to the first of them
    whole             how many of the commands are on all keys: lists, counts, or clears some
    reads             how many of the reads ask for no place in the log: by a quorum, or local
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
    growth            how many times what is needed makes a checkpoint sift its blocks
    lasting           whether what is durable outlives replicas, so that checkpoints are written before a peer asks
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
    spares: int
    observers: int
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
    whole: float
    reads: float
    padding: int
    results: int
    kept: int
    watchers: int
    history: int
    always: bool
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
    growth: int
    lasting: bool
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
    def hosts(self) -> int:
        """How many replicas there are, with those that may join and those that observe."""
        return self.voting + self.observers

    @property
    def voting(self) -> int:
        """How many of them vote, or may come to."""
        return self.replicas + self.spares

    def observes(self, host: int) -> bool:
        """Whether a host begins as an observer."""
        return host >= self.voting

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
        """The protocol that runs first."""
        return KINDS[self.protocol]

    @property
    def protocols(self) -> list[str]:
        """Those that may run, the first one first."""
        return sorted(KINDS if "protocol" in self.faults else [self.protocol], key=self.protocol.__ne__)

    @property
    def rows(self) -> int:
        """Rows of its log."""
        return self.kind.rows(self.replicas)

    @property
    def codes(self) -> dict[type, int]:
        """The types of all messages that may be sent."""
        return {kind: code for name in self.protocols for kind, code in PAGES[name].codes.items()}

    @property
    def messages(self) -> list[str]:
        """The names of these."""
        return list(dict.fromkeys(kind.__name__ for kind in self.codes))

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
