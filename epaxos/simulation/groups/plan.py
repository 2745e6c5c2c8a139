"""What a seed decides of a run of groups, before its first event.

All groups have the network, machines and clients that the seed draws for one cluster. Each has a protocol, a number of
replicas and faults of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final, NamedTuple

from epaxos.client.commands import Op
from epaxos.config import load_config
from epaxos.groups.map import SLOTS, Group, Groups
from epaxos.protocol.kinds import EPAXOS, KINDS
from epaxos.simulation.plan.drawing import draw_options
from epaxos.simulation.plan.fates import STEADY
from epaxos.simulation.plan.faults import draw_faults
from epaxos.simulation.plan.options import MANY, NO_OVERRIDES, Options, Overrides, shown, stream
from epaxos.simulation.plan.plan import Plan as ClusterPlan

MOST: Final = 4
"""Groups of a run, at most."""

_OUTSIDE: Final = frozenset({"bandwidth", "distance", "power"})
"""Kinds of faults that are about single clusters, and make runs long."""

ACCOUNTS, FLAGS = b"a", b"f"
"""How keys begin: of numbers that together come to 0, and of values that are written, compared and removed."""


class Asked(NamedTuple):
    """What a caller asks for, `think` seconds after it knows of the one before: one command, or a multi of several."""

    think: float
    operations: tuple[Op, ...]
    is_multi: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that makes a run.

    options   of the first group, as for a cluster
    clusters  the groups
    timeout   how long a call may take, in seconds
    scripts   what each caller asks for
    deaths    when a caller dies, and which; another goes on with its script
    """

    options: Options
    clusters: tuple[ClusterPlan, ...]
    timeout: float
    scripts: tuple[tuple[Asked, ...], ...]
    deaths: tuple[tuple[float, int], ...]

    @property
    def seed(self) -> int:
        """The seed that it was drawn from."""
        return self.options.seed // MOST

    @property
    def protocol(self) -> str:
        """By which name reports know what was exercised."""
        return "groups"

    @property
    def groups(self) -> Groups:
        """Which group holds what."""
        return groups_of(len(self.clusters))

    def describe(self) -> str:
        """Everything but the scripts in a few lines."""
        lines = [f"  timeout={shown(self.timeout)}  deaths={shown(self.deaths)}"]
        for place, cluster in enumerate(self.clusters):
            lines += [
                f"group {place}",
                cluster.options.describe(),
                *(f"  {fault}" for fault in cluster.faults),
            ]
        return "\n".join(lines)


def groups_of(count: int) -> Groups:
    """So many groups with as many slots each."""
    config = load_config(None, environ={})
    owners = tuple(slot * count // SLOTS for slot in range(SLOTS))
    made = [
        Group(f"g{place}", config, (range(owners.index(place), SLOTS - owners[::-1].index(place)),))
        for place in range(count)
    ]
    return Groups(tuple(made), owners, "the simulator")


def draw_plan(seed: int, overrides: Overrides = NO_OVERRIDES, **given: object) -> Plan:
    """The plan of a seed; `given` are fields of the options of all groups.

    Raises:
        ValueError: an override out of its range.
    """
    random = stream(seed, "groups")
    count = overrides.groups or random.choice((2, 2, 3))
    operations = overrides.operations or random.choice((5, 8, 12, 12, 25))
    bounds = {
        "results": random.choice((MANY,) * 9 + (60,)),  # with less, hardly anything is executed
        "kept": random.choice((MANY, MANY, 1)),
    }
    drawn = []
    for place in range(count):
        own = overrides._replace(
            replicas=overrides.replicas or random.choices((1, 2, 3, 5), (10, 5, 70, 15))[0],
            operations=operations,
            protocol=random.choice(list(KINDS)) if overrides.protocol == EPAXOS.name else overrides.protocol,
        )
        options = draw_options(seed, own)
        options = replace(options, seed=seed * MOST + place, faults=options.faults - _OUTSIDE)
        if options.leaders == STEADY:  # that is shown by clients with all the patience there is
            options = replace(options, leaders="")
        drawn.append(replace(options, rate=0.0, sync=0.0, padding=0, **(bounds | given)))  # type: ignore[arg-type]  # the caller knows them
    phase = min(max(options.phase for options in drawn), 250 * drawn[0].delay)
    drawn = [replace(options, phase=phase) for options in drawn]
    clusters = tuple(ClusterPlan(options, (), draw_faults(options)) for options in drawn)
    options = clusters[0].options
    scripts = _draw_scripts(random, options, groups_of(count))
    often = random.choice((0, 1, 1, 2, 4))
    deaths = [(random.random() * options.phase, random.randrange(len(scripts))) for _ in range(often)]
    timeout = options.delay * random.choice((50, 200, 1000))
    return Plan(options, clusters, timeout, scripts, tuple(sorted(deaths)))


def keys_of(groups: Groups, prefix: bytes, each: int) -> list[bytes]:
    """The first keys with a prefix, so many of each group."""
    wanted = {group.name: each for group in groups.groups}
    found = []
    number = 0
    while any(wanted.values()):
        key = b"%b%d" % (prefix, number)
        if wanted[groups.of(key).name]:
            wanted[groups.of(key).name] -= 1
            found.append(key)
        number += 1
    return found


def _draw_scripts(random: Random, options: Options, groups: Groups) -> tuple[tuple[Asked, ...], ...]:
    each = random.choice((1, 1, 2))
    accounts, flags = keys_of(groups, ACCOUNTS, each), keys_of(groups, FLAGS, 1)
    scripts: list[list[Asked]] = [[] for _ in range(options.clients)]
    think = options.think * random.choice((1, 5))
    for number in range(options.operations):
        operations = _draw_operations(random, accounts, flags, number)
        asked = Asked(random.expovariate(1 / think), operations, len(operations) > 1)
        random.choice(scripts).append(asked)
    return tuple(map(tuple, scripts))


def _draw_operations(
    random: Random, accounts: list[bytes], flags: list[bytes], number: int
) -> tuple[Op, ...]:
    """A move between accounts, a look at all of them, something with the flags, or one command."""
    value = b"v%d" % number
    kind = random.choices(("move", "look", "flags", "one"), (5, 2, 3, 4))[0]
    if kind == "look":
        return tuple(map(Op.get, accounts))
    if kind == "one":
        flag = random.choice(flags)
        some = (Op.get(flag), Op.put(flag, value), Op.delete(flag), Op.get(random.choice(accounts)))
        return (random.choice(some),)
    if kind == "flags":
        return tuple(
            random.choice((Op.get(flag), Op.put(flag, value), Op.cas(flag, None, value), Op.delete(flag)))
            for flag in random.sample(flags, random.randint(2, len(flags)))
        )
    taken = random.sample(accounts, random.randint(2, min(3, len(accounts))))
    amounts = [random.randint(1, 9) for _ in taken[1:]]
    moves: list[Op] = [
        Op.increment(key, amount) for key, amount in zip(taken, [-sum(amounts), *amounts], strict=True)
    ]
    if random.random() < 0.3:  # a condition that others break
        moves.append(Op.cas(random.choice(flags), None, value))
    return tuple(moves)
