"""What goes wrong in a run, and when: drawn before the run, so that a run can be repeated with less of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final, TypeAlias

from epaxos.protocol.ids import Row
from epaxos.simulation.plan.fates import CHAIN, CRASHING, RIVALS, STEADY, between
from epaxos.simulation.plan.options import Options, stream

Cut: TypeAlias = "tuple[Row, Row]"
"""A direction in which nothing gets through: (sender, receiver)."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A replica stops after some more effects (records, messages, executions, replies).

    With `kind` only messages of that type count, to each receiver by itself, so that some get it and others do not.
    No effects and no kind means at once. It restarts after `down` seconds, or never if that is None.
    """

    when: float
    row: Row
    effects: int
    down: float | None
    kind: str | None = None

    def __str__(self) -> str:
        moment = f" {self.effects} effects later" if self.effects else ""
        if self.kind is not None:
            moment = f" after sending {self.kind} {self.effects} times"
        end = "for good" if self.down is None else f"for {_milliseconds(self.down)}"
        return f"replica {self.row} crashes{moment}, {end}"


@dataclass(frozen=True, slots=True)
class Pause:
    """A replica stands still for a while; what arrives meanwhile waits."""

    when: float
    row: Row
    duration: float

    def __str__(self) -> str:
        return f"replica {self.row} pauses for {_milliseconds(self.duration)}"


@dataclass(frozen=True, slots=True)
class Partition:
    """Links are cut for a while."""

    when: float
    shape: str
    cuts: frozenset[Cut]
    duration: float

    def __str__(self) -> str:
        links = " ".join(f"{sender}>{receiver}" for sender, receiver in sorted(self.cuts))
        return f"partition ({self.shape}) for {_milliseconds(self.duration)}: {links}"


@dataclass(frozen=True, slots=True)
class Storm:
    """For a while every link loses more, and is slower."""

    when: float
    loss: float
    slowness: float
    duration: float

    def __str__(self) -> str:
        return f"storm for {_milliseconds(self.duration)}: {self.loss:.0%} lost, {self.slowness:.1f} times the delay"


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """For a while a replica's disk is slower."""

    when: float
    row: Row
    slowness: float
    duration: float

    def __str__(self) -> str:
        return f"disk of {self.row} is {self.slowness:.1f} times slower for {_milliseconds(self.duration)}"


@dataclass(frozen=True, slots=True)
class BadDisk:
    """For a while a replica's disk fails when it is written to; then somebody mends it and starts the replica again."""

    when: float
    row: Row
    duration: float

    def __str__(self) -> str:
        return f"disk of {self.row} fails for {_milliseconds(self.duration)}"


@dataclass(frozen=True, slots=True)
class PowerLoss:
    """A machine dies, with what was written and not synced: nobody may start the replica on what is left."""

    when: float
    row: Row

    def __str__(self) -> str:
        return f"replica {self.row} loses power, for good"


@dataclass(frozen=True, slots=True)
class Comeback:
    """A replica that was to stop for good comes back without its disk."""

    when: float
    row: Row

    def __str__(self) -> str:
        return f"replica {self.row} comes back without its disk"


@dataclass(frozen=True, slots=True)
class Drift:
    """A replica's clock changes its rate until the faults end."""

    when: float
    row: Row
    rate: float

    def __str__(self) -> str:
        return f"clock of {self.row} runs at {self.rate:.2f} s/s"


@dataclass(frozen=True, slots=True)
class Leave:
    """A replica is told to stop; for a while it finishes what it has, then it stops, and is started again at once."""

    when: float
    row: Row
    duration: float

    def __str__(self) -> str:
        return f"replica {self.row} takes leave for {_milliseconds(self.duration)}"


@dataclass(frozen=True, slots=True)
class Refresh:
    """A replica is asked to end the epoch, for another one with the same members, or with others.

    `change` is a number from which the change is drawn that makes sense then; 0 if there is to be none. The next epoch
    may be of the `other` protocol.
    """

    when: float
    row: Row
    change: int = 0
    other: bool = False

    def __str__(self) -> str:
        by = " by the other protocol" if self.other else ""
        return f"replica {self.row} is asked for {'other members' if self.change else 'another epoch'}{by}"


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody sees to it that others vote, and asks one replica after the other until they do.

    Another one votes in the place of that whose disk was `lost`, or as many as `size` says, or if that is 0 as many as
    before and none of them. Who comes and who goes is drawn from `number`.
    """

    when: float
    number: int
    size: int = 0
    lost: Row | None = None

    def __str__(self) -> str:
        if self.lost is not None:
            return f"another is to vote in the place of {self.lost}"
        return f"{self.size or 'as many others'} are to vote"


Fault: TypeAlias = (
    Crash
    | PowerLoss
    | Pause
    | Partition
    | Storm
    | SlowDisk
    | BadDisk
    | Comeback
    | Drift
    | Leave
    | Refresh
    | Change
)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


_DRAWN: Final = {
    "crash": 6,
    "partition": 4,
    "storm": 2,
    "pause": 2,
    "disk": 1,
    "clock": 1,
}
"""The kinds that are events, by how often they happen."""

_DRAWN_BY_RIVALS: Final = {
    "crash": 6,
    "leave": 2,
    "partition": 3,
    "storm": 1,
    "pause": 3,
    "disk": 2,
    "clock": 1,
}
"""The same where leaders compete: they stop and stand still more often."""


SLEEPER: Final = 0.25
"""How likely a replica sleeps through epochs in a run in which these end."""

SLEPT_THROUGH: Final = 5
"""How many; some may be annulled, or superseded."""

_OTHER: Final = 0.5
"""How likely an epoch is to be of another protocol than the one before, in a run in which that happens at all."""

_LATE: Final = 0.3
"""How likely one that observes, or may join, begins later than all others."""

COURSE: Final = (5, 7, 3, 1, 3)
"""How many vote in turn in a run of that, which begins with three."""

OF_COURSE: Final = 6
"""How many have to come for that."""

_RENEWED: Final = 0.25
"""How likely all members are replaced at once where so many may join."""

_REPLACED: Final = 0.5
"""How likely another votes in the place of one that has stopped for good, or lost its disk."""

BAD_DISK: Final = 0.3
"""How likely a disk fails in a run in which disks are slow."""


def draw_faults(options: Options) -> tuple[Fault, ...]:
    """The faults of a run, in the order of their times."""
    random = stream(options.seed, "events")
    if options.leaders == STEADY:
        return _draw_steady(random, options)
    if options.leaders == CHAIN:
        return _draw_chain(random, options)
    drawn_kinds = _DRAWN_BY_RIVALS if options.leaders == RIVALS else _DRAWN
    possible = options.faults | ({"leave"} if "crash" in options.faults else set())
    weights = {kind: weight for kind, weight in drawn_kinds.items() if kind in possible}
    drawn: list[Fault] = []
    for _ in range(options.troubles if weights else 0):
        kind = random.choices(list(weights), list(weights.values()))[0]
        drawn.append(_draw(random, kind, options))
    if options.leaders == RIVALS and "crash" in options.faults and random.random() < 0.7:
        drawn += _draw_falls(random, options)
    dead: list[Crash | PowerLoss] = [
        _crash(random, random.random() * options.phase, row, None, options)
        for row in random.sample(range(options.replicas), options.dead)
    ]
    if "power" in options.faults:
        dead = [PowerLoss(crash.when, crash.row) for crash in dead]
    drawn += dead
    random = stream(options.seed, "disks")
    drawn += [
        Comeback(crash.when + random.random() * (options.phase - crash.when), crash.row)
        for crash in dead
        if random.random() < options.comeback
    ]
    if "disk" in options.faults and random.random() < BAD_DISK:
        row = random.randrange(options.voting)
        drawn.append(BadDisk(random.random() * options.phase, row, random.expovariate(3 / options.phase)))
    if "refresh" in options.faults:
        drawn += _draw_epochs(options, dead)
    drawn += _draw_for_others(stream(options.seed, "observers' faults"), options)
    if "protocol" in options.faults:
        random = stream(options.seed, "protocols")
        drawn = [
            replace(fault, other=random.random() < _OTHER) if isinstance(fault, Refresh) else fault
            for fault in drawn
        ]
    return tuple(sorted(drawn, key=lambda fault: fault.when))


def _draw_epochs(options: Options, dead: Sequence[Crash | PowerLoss]) -> list[Fault]:
    """What ends epochs: somebody asks a replica once, or sees to a change until it has come about."""
    drawn: list[Fault] = [*_draw_changes(stream(options.seed, "other voters"), options, dead)]
    if not any(isinstance(fault, Change) and fault.size for fault in drawn):
        drawn += _draw_refreshes(stream(options.seed, "refreshes"), options)
    random = stream(options.seed, "sleeper")
    if "crash" in options.faults and options.replicas > 2 and random.random() < SLEEPER:
        drawn += _draw_sleeper(random, options)
    return drawn


def _draw_changes(random: Random, options: Options, dead: Sequence[Crash | PowerLoss]) -> list[Change]:
    """Who has stopped for good is replaced; in some runs members grow and shrink, or are replaced all at once."""
    if "member" not in options.faults:
        return []
    drawn = [
        Change(
            fault.when + random.random() * (options.phase - fault.when), random.randrange(2**32), 0, fault.row
        )
        for fault in dead
        if random.random() < _REPLACED
    ]
    if options.spares >= OF_COURSE and options.replicas == COURSE[-1]:
        apart = options.phase / (len(COURSE) + 1)
        return drawn + [
            Change(apart * (number + random.random()), random.randrange(2**32), size)
            for number, size in enumerate(COURSE)
        ]
    if options.spares >= options.replicas and random.random() < _RENEWED:
        drawn.append(Change(options.phase * random.random(), random.randrange(2**32)))
    return drawn


def _draw_for_others(random: Random, options: Options) -> list[Fault]:
    """What may happen to those who vote at first does to those who may join, or observe.

    Each begins late now and then, as one does that has lost its disk.
    """
    drawn: list[Fault] = []
    kinds = [kind for kind in ("crash", "pause", "disk", "clock") if kind in options.faults]
    for host in range(options.replicas, options.hosts):
        if random.random() < _LATE:
            drawn.append(Crash(0.0, host, 0, options.phase * random.random()))
        number = random.choice((0, 1, 1, 2)) if kinds else 0
        drawn += [_draw(random, random.choice(kinds), options, host) for _ in range(number)]
    return drawn


def _draw_refreshes(random: Random, options: Options) -> list[Refresh | Crash]:
    """Several at once now and then, and one after another; a replica that sleeps may sleep through some.

    Where replicas crash, some do so among the effects by which an epoch ends.
    """
    drawn: list[Refresh | Crash] = []
    changing = stream(options.seed, "changes")
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        when = options.phase * random.random()
        at_once = random.choice((1, 1, 1, 2, options.replicas))
        spread = random.choice((0.0, 2.0)) * options.delay
        rows = random.sample(range(options.replicas), min(at_once, options.replicas))
        changes = [0 if changing.random() < 0.3 else changing.randrange(1, 2**32) for _ in rows]
        if "member" not in options.faults:
            changes = [0] * len(rows)
        drawn += [
            Refresh(when + spread * random.random(), row, change)
            for row, change in zip(rows, changes, strict=True)
        ]
        if "crash" in options.faults and random.random() < 0.5:
            row, effects = random.randrange(options.replicas), random.randint(0, 80)
            drawn.append(Crash(when, row, effects, options.phase * random.random() * 0.4))
    return drawn


def _draw_sleeper(random: Random, options: Options) -> list[Refresh | Crash]:
    """A replica is down while the others come through one epoch after another, and drop what led there."""
    row, begin = random.randrange(options.replicas), options.phase * 0.3 * random.random()
    others = [other for other in range(options.replicas) if other != row]
    apart = options.phase * 0.6 / SLEPT_THROUGH
    refreshes = [Refresh(begin + apart * number, random.choice(others)) for number in range(SLEPT_THROUGH)]
    return [Crash(begin, row, 0, options.phase), *refreshes]


def _draw_steady(random: Random, options: Options) -> tuple[Fault, ...]:
    """Links are cut one after another, each set of them for so long that what follows from it is over long before."""
    length = options.phase / max(1, options.troubles)
    return tuple(
        Partition(number * length, *_draw_cuts(random, options.replicas, SHAPES[options.protocol]), length)
        for number in range(options.troubles)
    )


def _draw_chain(random: Random, options: Options) -> tuple[Fault, ...]:
    """Chains one after another, in each of which those beside the ends are away for a moment, over and over.

    The first to lead is the first replica as a rule (multipaxos 5): so it stands at the end of the first chain.
    """
    faults: list[Fault] = []
    length = options.phase / max(1, options.troubles)
    for number in range(options.troubles):
        begin, rows = number * length, random.sample(range(options.replicas), options.replicas)
        if number == 0:
            rows.sort(key=bool)
        faults.append(Partition(begin + length * 0.2, "chain", _cuts_of_chain(rows), length * 0.7))
        for row in (rows[1], rows[-2]):
            when = begin + length * 0.3
            while when < begin + length * 0.9:
                faults.append(Crash(when, row, 0, options.delay * between(random, 0.3, 3)))
                when += options.delay * (8 + 20 * random.random())
    return tuple(sorted(faults, key=lambda fault: fault.when))


def _draw_falls(random: Random, options: Options) -> list[Fault]:
    """Whoever leads stops among its first proposals, and is back while others lead: its vote meets theirs."""
    falls: list[Fault] = []
    for row in range(options.replicas):
        when = 0.0
        while when < options.phase:
            down = options.phase * (0.1 + 0.25 * random.random())
            falls.append(Crash(when, row, random.choice((0, 1, 1, 2, 4, 8)), down, "Accept"))
            when += down * (1 + random.random())
    return falls


def _draw(random: Random, kind: str, options: Options, host: Row | None = None) -> Fault:
    when = random.random() * options.phase
    duration = random.expovariate((6 if options.leaders == RIVALS else 3) / options.phase)
    row = random.randrange(options.replicas) if host is None else host
    if kind == "crash":
        return _crash(random, when, row, duration, options)
    if kind == "partition":
        shape, cuts = _draw_cuts(random, options.voting, SHAPES[options.protocol])
        return Partition(when, shape, cuts, duration)
    if kind == "storm":
        return Storm(when, random.random(), 1 + random.expovariate(0.2), duration)
    if kind == "leave":
        return Leave(when, row, duration)
    if kind == "pause":
        return Pause(when, row, duration)
    if kind == "disk":
        return SlowDisk(when, row, 1 + random.expovariate(0.1), duration)
    return Drift(when, row, random.choice((0.3, 0.7, 1.5, 3.0)))


def _crash(random: Random, when: float, row: Row, down: float | None, options: Options) -> Crash:
    """A crash at once, among the effects of an event, or between the receivers of a message."""
    if random.random() < 0.6:
        times = random.choice((0, 0, 1, 1, 2, 3, 6))
        kinds = CRASHING if options.leaders == RIVALS else tuple(options.messages)
        return Crash(when, row, times, down, random.choice(kinds))
    effects = random.choice((0, random.randint(1, 8), random.randint(1, 8), random.randint(1, 60)))
    return Crash(when, row, effects, down)


SHAPES: Final = {
    "epaxos": ("halves", "one way out", "one way in", "alone", "bridge", "single links"),
    "multipaxos": (
        "halves",
        "one way out",
        "one way in",
        "alone",
        "bridge",
        "single links",
        "lone link",
        "chain",
    ),
}
"""What partitions look like, by protocol: a leader has links that matter one by one."""


def _draw_cuts(random: Random, n: int, shapes: Sequence[str]) -> tuple[str, frozenset[Cut]]:
    """Which links a partition cuts, and what that is called."""
    rows = random.sample(range(n), n)
    size = random.randint(1, max(1, n // 2))
    few, many = rows[:size], rows[size:]
    across = {(a, b) for a in few for b in many}
    back = {(b, a) for a, b in across}
    shape = random.choice(shapes)
    if shape == "halves":
        return shape, frozenset(across | back)
    if shape == "one way out":
        return shape, frozenset(across)
    if shape == "one way in":
        return shape, frozenset(back)
    if shape == "alone":
        return shape, frozenset((a, b) for a in rows for b in rows if a != b and rows[0] in (a, b))
    if shape == "bridge":
        # Both halves reach the bridge and, but through it, not each other.
        return shape, frozenset(cut for cut in across | back if rows[-1] not in cut)
    links = [(a, b) for a in rows for b in rows if a != b]
    if shape == "lone link":
        return shape, frozenset((a, b) for a, b in links if {a, b} == set(rows[:2]))
    if shape == "chain":
        return shape, _cuts_of_chain(rows)
    return shape, frozenset(link for link in links if random.random() < 0.4)


def _cuts_of_chain(rows: Sequence[Row]) -> frozenset[Cut]:
    """Every link but those between neighbours."""
    place = {row: index for index, row in enumerate(rows)}
    return frozenset((a, b) for a in rows for b in rows if abs(place[a] - place[b]) > 1)
