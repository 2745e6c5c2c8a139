"""One transaction under faults: processes that end in the middle, and what they asked for that comes late.

The registers are what `epaxos.registers` and clusters are shown to be by simulators of their own: linearizable, and
never lost. A request to one, or to a resource, takes effect at once, or when nobody expects it any more, or never.
Time-outs come when they like. In the end whatever is prepared is recovered, and all must agree.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

from epaxos.protocol.commit import (
    Ended,
    Open,
    Outcome,
    Prepare,
    Read,
    Remove,
    Swap,
    Tell,
    Todo,
    Transaction,
    Vote,
    Wait,
    begin,
    key_of,
    recover,
    run,
    vote,
)
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.plan.options import stream

PREPARED, COMMITTED, ABORTED = "prepared", "committed", "aborted"
"""What a resource is, once it is anything."""

MOST_STEPS: Final = 5_000
"""What no run needs."""

Part: TypeAlias = "Generator[Sequence[Todo], Sequence[Any], Any]"


class Plan(NamedTuple):
    """What a seed decides.

    wishes    what each resource would vote
    here      those that the manager carries itself; each of the others has a process of its own
    crash     how likely a process ends before a step, and `stray`, how likely what it asks for comes once more, late
    deaf      how likely a resource fails to hear what it is told
    hurry     how likely patience ends with a look
    recovers  how likely somebody begins to recover, at a step
    """

    seed: int
    wishes: dict[str, Vote]
    here: tuple[str, ...]
    crash: float
    stray: float
    deaf: float
    hurry: float
    recovers: float

    @property
    def quiet(self) -> bool:
        """Whether nothing goes wrong, so that the votes that are wished for decide."""
        return not (self.crash or self.hurry or self.deaf or self.recovers)


class Result(NamedTuple):
    """What a run came to, as for clusters (`simulation.run.Outcome`)."""

    options: Plan
    verdict: Verdict
    text: str
    marks: Counter[str]
    commands: int
    seconds: float
    actions: int


class Actor:
    """A process that drives a procedure, one effect at a time."""

    def __init__(self, name: str, part: Part) -> None:
        self.name = name
        self.ended: Any = None
        self.over = False
        self._part = part
        self._results: list[Any] = []
        self.todos: list[tuple[int, Todo]] = []
        self._go_on(None)

    def take(self, place: int, result: Any) -> None:
        """The result of one of the things that it wants done."""
        self.todos = [(index, todo) for index, todo in self.todos if index != place]
        self._results[place] = result
        if not self.todos:
            self._go_on(self._results)

    def _go_on(self, results: list[Any] | None) -> None:
        try:
            todos = self._part.send(results)  # type: ignore[arg-type]  # the first time it is None
            while not todos:
                todos = self._part.send([])
        except StopIteration as end:
            self.over, self.ended = True, end.value
            return
        self.todos = list(enumerate(todos))
        self._results = [None] * len(todos)


class World:
    """Registers, resources and processes of one transaction; `log` says what happened, a line each."""

    def __init__(self, transaction: Transaction, wishes: dict[str, Vote]) -> None:
        self.transaction = transaction
        self.wishes = wishes
        self.registers: dict[bytes, bytes] = {}
        self.resources: dict[str, str] = {}
        self.asked: set[str] = set()
        self.begun = False
        self.actors: list[Actor] = []
        self.outcomes: dict[str, Outcome] = {}
        self.log: list[str] = []
        self.marks: Counter[str] = Counter()
        self.strays: list[Todo] = []
        self.firsts: dict[bytes, Swap] = {}
        self.removed: set[bytes] = set()

    def start(self, name: str, part: Part) -> Actor:
        """A process begins."""
        actor = Actor(name, part)
        self.actors.append(actor)
        return actor

    def step(self, actor: Actor, place: int = 0, result: Any = None) -> None:
        """Do one of the things that a process wants done; `result` is given where the world does not know it."""
        index, todo = actor.todos[place]
        if isinstance(todo, Swap) and todo.first and self.firsts.setdefault(todo.key, todo) is not todo:
            _violated("one first vote", f"{actor.name} casts {todo} after {self.firsts[todo.key]}")
        if isinstance(todo, Remove) and len(todo.keys) > 1:
            actor.todos[place] = index, Remove(todo.keys[1:])
            self.perform(Remove(todo.keys[:1]))
            self.log.append(f"{actor.name:<9}{_shown(Remove(todo.keys[:1]))}")
            return
        result = self.perform(todo) if result is None else result
        self.log.append(f"{actor.name:<9}{_shown(todo):<36}{_told(result)}".rstrip())
        actor.take(index, result)
        if actor.over:
            self._end(actor)

    def _end(self, actor: Actor) -> None:
        self.actors.remove(actor)
        ended = actor.ended
        if isinstance(ended, Ended):
            self.log.append(f"{actor.name:<9}says {ended.outcome.value}")
            self.marks[ended.outcome.value] += 1
            if ended.outcome is not Outcome.FORGOTTEN:
                self.outcomes[actor.name] = ended.outcome
                if len(set(self.outcomes.values())) > 1:
                    _violated("one outcome", f"{self.outcomes}")

    def crash(self, actor: Actor) -> None:
        """A process ends for good, in the middle."""
        self.actors.remove(actor)
        self.log.append(f"{actor.name:<9}is killed")

    # -- effects -----------------------------------------------------------------------------------------------

    def perform(self, todo: Todo) -> Any:
        """Take an effect; what is sent back for it."""
        match todo:
            case Open(key, record):
                self.begun = True
                return self.registers.setdefault(key, record)
            case Swap(key, expected, new):
                return self._swap(key, expected, new)
            case Read(key):
                return self.registers.get(key)
            case Remove(keys):
                for key in keys:
                    self.registers.pop(key, None)
                    self.removed.add(key)
                return True
            case Prepare(resource):
                return self._prepare(resource)
            case Tell(resource, commit):
                return self._tell(resource, commit=commit)
            case Wait():
                return False

    def _swap(self, key: bytes, expected: bytes | None, new: bytes) -> bytes | None:
        found = self.registers.get(key)
        if found != expected:
            return found
        if found is not None and found != new[: len(found)]:
            _violated("a vote stays", f"{key!r} held {found!r} and holds {new!r}")
        if key_of(self.transaction.id) not in self.registers:
            self.marks["vote cast when all was over"] += 1
        self.registers[key] = new
        return new

    def _prepare(self, name: str) -> Vote:
        if name in self.asked:
            _violated("prepared once", f"{name} is to prepare again")
        self.asked.add(name)
        if self.resources.get(name) == ABORTED:
            self.marks["prepared after it was aborted"] += 1
        if self.wishes[name] is Vote.PREPARED:
            self.resources[name] = PREPARED
        return self.wishes[name]

    def _tell(self, name: str, *, commit: bool) -> bool:
        state = self.resources.get(name)
        if commit and state not in (PREPARED, COMMITTED):
            _violated("prepared before it commits", f"{name} is {state} and is to commit")
        if commit:
            self.resources[name] = COMMITTED
        elif state != COMMITTED:
            self.resources[name] = ABORTED
        return True

    # -- in the end --------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """See that what resources did is what everybody says.

        Raises:
            ViolationError: it is not.
        """
        outcomes = set(self.outcomes.values())
        done = {name for name, state in self.resources.items() if state == COMMITTED}
        needed = {name for name, wish in self.wishes.items() if wish is not Vote.READ}
        if done and done != needed:
            _violated("all or none", f"{sorted(done)} committed, of {sorted(needed)}")
        if done and outcomes == {Outcome.ABORTED}:
            _violated("as told", f"{sorted(done)} committed, and all were told that it aborted")
        if outcomes == {Outcome.COMMITTED} and done != needed:
            _violated("as told", f"it committed, and {sorted(needed - done)} did not")
        if outcomes == {Outcome.COMMITTED} and not self.asked >= set(self.wishes):
            _violated("by all", f"it committed, and only {sorted(self.asked)} were asked")


def _violated(rule: str, text: str) -> NoReturn:
    raise ViolationError(rule, text)


def _shown(todo: Todo) -> str:
    match todo:
        case Open(key, record):
            return f"open {_name(key)}: {record.partition(bytes([10]))[0].decode()}"
        case Swap(key, None, new):
            return f"cast {_name(key)} {new.decode()}"
        case Swap(key, _, new):
            return f"note {_name(key)} {new.decode()}"
        case Read(key):
            return f"read {_name(key)}"
        case Remove(keys):
            return f"remove {_name(keys[0])}"
        case Prepare(resource):
            return f"ask {resource} to prepare"
        case Tell(resource, commit):
            return f"tell {resource} to {'commit' if commit else 'abort'}"
        case Wait(resources):
            return f"wait for {', '.join(resources)}"


def _name(key: bytes) -> str:
    return key.decode().partition("/")[2]


def _told(result: Any) -> str:
    if isinstance(result, bytes):
        return f"→ {result.partition(bytes([10]))[0].decode()}"
    if isinstance(result, Vote):
        return f"→ {result.value.decode()}"
    return {None: "→ nothing", True: "", False: "→ no"}[result]


# -- runs from seeds ---------------------------------------------------------------------------------------------


def draw_plan(seed: int) -> Plan:
    """What a seed decides; one in ten runs is quiet."""
    random = stream(seed, "plan")
    names = "abcd"[: random.choice((1, 2, 2, 3, 3, 4))]
    wishes = {name: random.choices((Vote.PREPARED, Vote.READ, Vote.ABORTED), (8, 1, 1))[0] for name in names}
    if random.random() < 0.5:
        wishes = dict.fromkeys(names, Vote.PREPARED)
    here = tuple(name for name in names if random.random() < random.choice((0.0, 0.5, 1.0, 1.0)))
    if random.random() < 0.1:
        return Plan(seed, wishes, here, 0, random.choice((0.0, 0.2)), 0, 0, 0)
    return Plan(
        seed,
        wishes,
        here,
        crash=random.choice((0.0, 0.02, 0.1)),
        stray=random.choice((0.0, 0.1, 0.4)),
        deaf=random.choice((0.0, 0.0, 0.3)),
        hurry=random.choice((0.05, 0.5, 0.9)),
        recovers=random.choice((0.02, 0.1, 0.4)),
    )


class Run:
    """A run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(Transaction("t", tuple(plan.wishes)), plan.wishes)
        self._random = stream(plan.seed, "run")
        self._steps = 0

    def execute(self) -> Result:
        """Run to the end, or to the first thing that is wrong."""
        verdict, text = Verdict.CLEAN, ""
        try:
            self._execute()
        except ViolationError as error:
            verdict, text = Verdict.SAFETY, str(error)
        except NoProgressError as error:
            verdict, text = Verdict.LIVENESS, str(error)
        except Exception:  # noqa: BLE001 - whatever the core raises is a finding, and the next seed must run
            verdict, text = Verdict.CRASH, traceback.format_exc()
        return Result(self.plan, verdict, text, self.world.marks, 1, float(self._steps), self._steps)

    def _execute(self) -> None:
        world, plan = self.world, self.plan
        elsewhere = [name for name in plan.wishes if name not in plan.here]
        world.start("manager", self._manage(elsewhere) if elsewhere else run(world.transaction, plan.here))
        while world.actors:
            self._count_step()
            self._disturb()
            if world.actors:
                self._step(self._random.choice(world.actors))
        for todo in self._shuffled(world.strays):
            world.perform(todo)
        self._settle()

    def _manage(self, elsewhere: Sequence[str]) -> Part:
        """A manager some of whose resources are processes of their own, which learn of the transaction from it."""
        transaction, here = self.world.transaction, self.plan.here
        yield from begin(transaction)
        for name in elsewhere:
            self.world.start(name, _vote_and_end(transaction, name))
        yield from vote(transaction, here, first=True)
        return (yield from recover(transaction, here))

    def _step(self, actor: Actor) -> None:
        random, plan, world = self._random, self.plan, self.world
        place = random.randrange(len(actor.todos))
        todo = actor.todos[place][1]
        result: Any = None
        if isinstance(todo, Wait):
            if any(other is not actor for other in world.actors):
                result = random.random() >= plan.hurry
            world.marks["patience ended"] += result is not True
        elif isinstance(todo, Tell) and random.random() < plan.deaf:
            result = False
        elif isinstance(todo, Swap | Remove) and random.random() < plan.stray:
            world.strays.append(todo)  # it has no answer, is tried again, and comes twice
        world.step(actor, place, result)

    def _disturb(self) -> None:
        random, plan, world = self._random, self.plan, self.world
        if world.strays and random.random() < 0.2:
            world.marks["came late"] += 1
            world.perform(world.strays.pop(random.randrange(len(world.strays))))
        for key in sorted(world.removed & world.firsts.keys()):
            # The first ballot is below what removals leave: such a register may seem never to have been removed.
            if random.random() < plan.stray:
                world.marks["first vote came back"] += 1
                if world.registers.pop(key, None) is None:
                    world.registers[key] = world.firsts[key].new
        if random.random() < plan.crash:
            actor = random.choice(world.actors)
            world.strays += [
                todo for _, todo in actor.todos if not isinstance(todo, Read | Wait) and random.random() < 0.5
            ]
            world.crash(actor)
            world.marks["killed"] += 1
        if (world.begun or world.resources) and random.random() < plan.recovers:
            self._recover()
        if world.begun and not world.actors:
            self._recover()

    def _recover(self) -> None:
        """Somebody who holds some of the resources, often one that is prepared, does not wait any more."""
        if self.world.marks["recovery begun"] >= 8:
            return
        self.world.marks["recovery begun"] += 1
        names = [name for name in self.plan.wishes if self._random.random() < 0.4]
        prepared = [name for name, state in self.world.resources.items() if state == PREPARED]
        if prepared and self._random.random() < 0.5:
            names = [self._random.choice(prepared)]
        name = f"helper {self.world.marks['recovery begun']}"
        self.world.start(name, recover(self.world.transaction, names))

    def _settle(self) -> None:
        """Without faults: each that is prepared is recovered by itself, then all of them by somebody."""
        world = self.world
        if not world.begun:
            return
        for name in self._shuffled([*world.resources]):
            if world.resources[name] == PREPARED:
                self._finish(world.start(f"{name} again", recover(world.transaction, [name])))
                if world.resources[name] == PREPARED:
                    raise NoProgressError(f"{name} is prepared for ever")
        self._finish(world.start("the last", recover(world.transaction, world.transaction.resources)))
        if key_of(world.transaction.id) in world.registers:
            raise NoProgressError(f"all have been told, and the transaction stays: {world.registers}")
        world.judge()
        wished = Outcome.ABORTED if Vote.ABORTED in self.plan.wishes.values() else Outcome.COMMITTED
        if self.plan.quiet and set(world.outcomes.values()) != {wished}:
            raise NoProgressError(f"nothing went wrong, and it came to {world.outcomes}, not {wished}")

    def _finish(self, actor: Actor) -> None:
        while not actor.over:
            self._count_step()
            self.world.step(actor, self._random.randrange(len(actor.todos)))

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise NoProgressError(f"{MOST_STEPS} steps were not enough")

    def _shuffled(self, items: Sequence[Any]) -> list[Any]:
        return self._random.sample(items, len(items))


def _vote_and_end(transaction: Transaction, name: str) -> Part:
    """What a resource with a process of its own does."""
    yield from vote(transaction, [name], first=True)
    return (yield from recover(transaction, [name]))


def run_seed(seed: int) -> Result:
    """Run one seed."""
    return Run(draw_plan(seed)).execute()
