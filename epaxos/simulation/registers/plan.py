"""What a seed decides of a run of registers, before its first event.

Network, disks, clocks and faults are drawn as for clusters (`simulation.plan.options`), in which the replicas are
acceptors, proposers and wardens, each a process of its own: what lives together in a node fails together more seldom
than apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.protocol.registers.values import Configuration
from epaxos.simulation.checkers.reference import Command
from epaxos.simulation.plan.drawing import draw_options
from epaxos.simulation.plan.fates import Bias
from epaxos.simulation.plan.faults import Crash, Fault, Partition, draw_faults
from epaxos.simulation.plan.options import NO_OVERRIDES, Options, Overrides, shown, stream
from epaxos.statemachine.operations import Operation
from epaxos.transport.registers import NAMES

KINDS: Final = tuple(sorted(NAMES))
_OUTSIDE: Final = frozenset({"bandwidth", "distance", "power"})
"""Kinds of faults that are about clusters alone."""

MIX: Final = {
    Operation.READ: 5,
    Operation.WRITE: 4,
    Operation.WRITEREAD: 1,
    Operation.DELETE: 2,
    Operation.CAS: 3,
    Operation.INCREMENT: 4,
    Operation.APPEND: 2,
}
"""How often which operation is asked for."""


class Asked(NamedTuple):
    """A command that a client asks a proposer for, by its rank, `think` seconds after the one before it has ended.

    `first`  whether nobody else ever asks for this register's first state
    """

    think: float
    proposer: int
    command: Command
    first: bool = False


class Task(NamedTuple):
    """What the warden is to do from a moment on: "collect", "grow" or "shrink", the latter by an acceptor."""

    when: float
    kind: str
    acceptor: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that makes a run.

    options     of network, machines and clients; `replicas` counts all processes
    acceptors   how many there are at first; they are the first processes
    spares      acceptors that may join, the next ones; then come the proposers and the warden
    proposers   how many clients ask
    retry, pause, timeout  of proposals, in seconds of the proposer's clock
    direct      whether a proposer's next change of a register takes one round trip
    numbered    whether changes carry a number, so that a proposer may try them again after doubt
    once        whether clients ask again, elsewhere, for what they do not know of; then changes are numbered
    observers   processes that follow what is chosen, behind the warden
    gone        when the warden ends for good, and another one, the last process, is to go on with its tasks; or never
    kept        what an acceptor's feed for them keeps
    held        whether one proposer is not heard by acceptors while others change them, and then all fall in halves: an
                attempt of the acceptors before may still be under way
    firsts      registers whose first state one client may propose without promises; they are not deleted
    scripts     what each client asks for
    """

    options: Options
    acceptors: int
    spares: int
    proposers: int
    retry: float
    pause: float
    timeout: float
    direct: bool
    numbered: bool
    once: bool
    observers: int
    gone: float | None
    kept: int
    held: bool
    firsts: int
    scripts: tuple[tuple[Asked, ...], ...]
    tasks: tuple[Task, ...]
    faults: tuple[Fault, ...]

    @property
    def seed(self) -> int:
        """The seed that it was drawn from."""
        return self.options.seed

    @property
    def rows(self) -> range:
        """The processes that propose; the last is the warden, and who takes over from it is not among them."""
        behind = self.observers + (self.gone is not None)
        return range(self.acceptors + self.spares, self.options.replicas - behind)

    @property
    def watching(self) -> range:
        """The processes that observe."""
        return self.confirming[len(self.rows) : len(self.rows) + self.observers]

    @property
    def confirming(self) -> range:
        """The processes that confirm who votes: those that propose, and observers."""
        return range(self.acceptors + self.spares, self.options.replicas)

    @property
    def configuration(self) -> Configuration:
        """The acceptors at first."""
        first = tuple(range(self.acceptors))
        return Configuration(1, first, first)

    def describe(self) -> str:
        """Everything but the scripts in a few lines."""
        own = [f.name for f in fields(self) if f.name not in ("options", "scripts", "faults")]
        lines = [f"  {name}={shown(getattr(self, name))}" for name in own]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults), self.options.describe()])


def draw_plan(
    seed: int, overrides: Overrides = NO_OVERRIDES, kinds: Sequence[str] | None = None, **given: Any
) -> Plan:
    """The plan of a seed; `overrides.replicas` are acceptors, `kinds` those of the tasks, `given` other fields.

    Of these `gone` is a part of the time of faults.

    Raises:
        ValueError: an override out of its range.
    """
    random, random_firsts = stream(seed, "registers"), stream(seed, "firsts")
    n = (
        random.choices((1, 2, 3, 4, 5), (4, 6, 60, 10, 20))[0]
        if overrides.replicas is None
        else overrides.replicas
    )
    proposers = random.choices((1, 2, 3), (25, 45, 30))[0]
    options = replace(draw_options(seed, overrides._replace(replicas=n, operations=None)), observers=0)
    tasks = _draw_tasks(random, options, n, kinds)
    spares = sum(task.kind == "grow" for task in tasks)
    observers = given.get("observers", int(random_firsts.random() < 0.4))
    share = given.pop("gone", _draw_gone(stream(seed, "takeover"), tasks))
    operations = overrides.operations or random.choice((4, 8, 12, 24, 40))
    options = replace(
        options,
        scale="small",
        replicas=n + spares + proposers + 1 + observers + (share is not None),
        operations=operations,
        clients=random.randint(1, 5),
        keys=random.choice((1, 1, 2, 3)),
        phase=options.delay * random.choice((30, 60, 120, 250)),
        faults=options.faults - _OUTSIDE,
        rate=0.0,
        sync=0.0,
        spares=0,
        mutes=(),
        bias=_draw_bias(random, options),
        dead=0,
    )
    timeout = options.delay * random.choice((10, 40, 150))
    firsts = given.get("firsts", random_firsts.choice((0, 0, 1, 2)))
    scripts = _draw_scripts(random, options, proposers)
    plan = Plan(
        options=options,
        acceptors=n,
        spares=spares,
        proposers=proposers,
        retry=options.delay * random.choice((2, 5, 20)),
        pause=min(options.delay * random.choice((0.5, 2, 10)), timeout / 10),
        timeout=timeout,
        direct=random.random() < 0.75,
        numbered=random.random() < (0.9 if any(task.kind == "collect" for task in tasks) else 0.5),
        once=random.random() < (0.0 if any(task.kind == "collect" for task in tasks) else 0.4),
        observers=observers,
        gone=None if share is None else share * options.phase,
        kept=random_firsts.choice((2, 5, 100)),
        held=bool(spares) and random_firsts.random() < 0.1,
        firsts=firsts,
        scripts=_with_firsts(random_firsts, scripts, options, proposers, firsts),
        tasks=tasks,
        faults=(),
    )
    plan = replace(plan, **given)
    return replace(plan, faults=_draw_faults(random, plan))


def _draw_tasks(random: Random, options: Options, n: int, kinds: Sequence[str] | None) -> tuple[Task, ...]:
    """Half of the runs have something to collect; a third change their acceptors."""
    phase = options.delay * 60
    if kinds is None:
        kinds = ["collect"] * (random.randint(1, 3) if random.random() < 0.5 else 0)
        if random.random() < 0.35:
            kinds += random.choices(("grow", "shrink"), k=random.randint(1, 2))
    members = list(range(n))
    tasks: list[Task] = []
    for kind in kinds:
        acceptor = 0
        if kind == "grow":
            acceptor = n + sum(task.kind == "grow" for task in tasks)
            members.append(acceptor)
        elif kind == "shrink" and len(members) == 1:
            continue
        elif kind == "shrink":
            acceptor = members.pop(random.randrange(len(members)))
        tasks.append(Task(random.random() * phase, kind, acceptor))
    return tuple(tasks)


def _draw_gone(random: Random, tasks: Sequence[Task]) -> float | None:
    """In what part of the faults the warden ends for good, if it does."""
    return random.random() if tasks and random.random() < 0.3 else None


def _draw_bias(random: Random, options: Options) -> tuple[Bias, ...]:
    if "reorder" not in options.faults or random.random() < 0.5:
        return ()
    loss = (0.0, 0.3, 0.7) if "loss" in options.faults else (0.0,)
    return tuple(
        Bias(kind, random.choice(loss), random.choice((1.0, 3.0, 20.0)))
        for kind in KINDS
        if random.random() < 0.2
    )


def _draw_scripts(random: Random, options: Options, proposers: int) -> tuple[tuple[Asked, ...], ...]:
    scripts: list[list[Asked]] = [[] for _ in range(options.clients)]
    think = options.delay * random.choice((0.5, 3, 10, 30))
    faithful = random.random() < 0.3
    for number in range(options.operations):
        client = random.randrange(options.clients)
        proposer = client if faithful else random.randrange(proposers)
        command = _draw_command(random, options, number)
        scripts[client].append(Asked(random.expovariate(1 / think), proposer % proposers, command))
    return tuple(map(tuple, scripts))


def first_key(number: int) -> bytes:
    """The key of a register that one client may give its first state."""
    return b"first%d" % number


def _with_firsts(
    random: Random, scripts: tuple[tuple[Asked, ...], ...], options: Options, proposers: int, firsts: int
) -> tuple[tuple[Asked, ...], ...]:
    """The scripts, with votes of each register of `firsts`: one by whom it belongs to, others by those in a hurry."""
    longer = [list(script) for script in scripts]
    think = options.delay * random.choice((0.0, 1, 10))
    for number in range(firsts):
        for rank in range(random.randint(2, 4)):
            command = Command(Operation.CAS, first_key(number), [None, b"f%d" % rank])
            if rank and random.random() < 0.4:
                command = Command(Operation.READ, first_key(number), None)
            script = random.choice(longer)
            asked = Asked(think * random.random(), random.randrange(proposers), command, first=rank == 0)
            script.insert(random.randint(0, len(script)), asked)
    return tuple(map(tuple, longer))


def _draw_command(random: Random, options: Options, number: int) -> Command:
    """A command on one key; every value that is written is written once only."""
    operation = random.choices(list(MIX), list(MIX.values()))[0]
    key = b"k%d" % random.randrange(options.keys)
    written = random.choice((b"%d", b"v%d")) % number
    argument: Any = None
    if operation in (Operation.WRITE, Operation.WRITEREAD):
        argument = written
    elif operation == Operation.CAS:
        argument = [random.choice((None, None, b"%d" % max(0, number - 2))), written]
    elif operation == Operation.INCREMENT:
        argument = 1
    elif operation == Operation.APPEND:
        argument = b"+%d" % number
    return Command(operation, key, argument)


def _draw_faults(random: Random, plan: Plan) -> tuple[Fault, ...]:
    """As for clusters; crashes after a message count those of registers, and a minority of acceptors may die."""
    faults: list[Fault] = [
        replace(fault, kind=random.choice(KINDS)) if isinstance(fault, Crash) and fault.kind else fault
        for fault in draw_faults(plan.options)
    ]
    if "death" in plan.options.faults and not plan.tasks:
        dead = random.sample(range(plan.acceptors), random.randint(0, (plan.acceptors - 1) // 2))
        faults += [
            Crash(random.random() * plan.options.phase, row, random.randint(0, 6), None) for row in dead
        ]
    phase = plan.options.phase
    if plan.gone is not None:
        faults.append(Crash(plan.gone, plan.rows[-1], 0, None))
    for row in plan.watching:
        if "crash" in plan.options.faults and random.random() < 0.7:
            down = random.random() * phase / 2
            faults.append(Crash(random.random() * phase, row, random.randint(0, 9), down))
    if plan.held:
        faults += _draw_halves(random, plan)
    return tuple(sorted(faults, key=lambda fault: fault.when))


def _draw_halves(random: Random, plan: Plan) -> list[Fault]:
    """One proposer is not heard by the acceptors for about as long as two take to join; then there are halves."""
    held = random.choice(plan.rows[:-1])
    cut = frozenset((held, acceptor) for acceptor in range(plan.acceptors))
    until = plan.options.phase * random.uniform(0.2, 0.6)
    side = {held, *(row for row in range(plan.options.replicas) if random.random() < 0.4)}
    across = frozenset(
        (one, other)
        for one in range(plan.options.replicas)
        for other in range(plan.options.replicas)
        if (one in side) != (other in side)
    )
    length = (plan.options.phase - until) * random.uniform(0.5, 0.9)
    return [Partition(0.0, "held", cut, until), Partition(until, "halves", across, length)]
