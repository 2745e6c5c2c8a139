"""The processes of a run of registers: acceptors, proposers, and the warden, who collects and changes the acceptors.

Each drives the core of its role as a node does: what must be durable is, before what depends on it leaves; before
every write and every message the process may crash, and then all is lost but its disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from msgpack import packb, unpackb

from epaxos.errors import FrameError, WriteFailed
from epaxos.protocol.registers.acceptor import Acceptor
from epaxos.protocol.registers.change import Asks, Done, Pace, Want
from epaxos.protocol.registers.feed import Feed
from epaxos.protocol.registers.proposer import Proposer
from epaxos.protocol.registers.upkeep import (
    Ask,
    Configure,
    Note,
    Procedure,
    Settled,
    Todo,
    collect,
    plan,
    resize,
)
from epaxos.protocol.registers.values import (
    FIRST,
    ZERO,
    Accept,
    Ballot,
    Cell,
    Configuration,
    Conflict,
    Follow,
    Followed,
    List,
    Listed,
    Peek,
    Removed,
    Request,
    Scan,
    Scanned,
    Told,
)
from epaxos.simulation.plan.options import stream
from epaxos.simulation.registers.checker import Gone, Registers
from epaxos.simulation.registers.plan import Plan
from epaxos.simulation.world.disk import Disk, Then, Write
from epaxos.simulation.world.host import Crashed, Fused
from epaxos.simulation.world.network import HostileNetwork
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import LocalClock, Schedule
from epaxos.transport.registers import decode, encode

_PAGE: Final = 2
"""Registers on a page that an observer reads."""

_LATER: Final = 1e-7
"""Added to an alarm, so that rounding does not wake a process just before its deadline."""

_FLOOR, _COUNTER, SHAPE, TASK = b"f", b"n", b"s", b"t"
"""Keys on a disk; those of cells begin with c."""


class Entry(NamedTuple):
    """What becomes durable at once: the value under a key of the disk, None to remove it; `record` is what it is of."""

    key: bytes
    value: bytes | None
    record: Any


class CellDisk(Disk):
    """A disk whose records are entries, each written by itself."""

    def _encoded(self, record: Entry) -> Write:
        if record.value is None:
            return Write(((record.key, record.key),), (), record.record)
        return Write((), ((record.key, record.value),), record.record)

    def _fail_if_it_does(self, writes: Sequence[Write]) -> None:
        """As for a replica; what is left of the round is not tried again when the process stops after that."""
        try:
            super()._fail_if_it_does(writes)
        except WriteFailed:
            self._under_way.clear()
            self._waiting.clear()
            raise


class Under:
    """The register of procedures (`epaxos.registers.upkeep`): which task is under way, planned from what."""

    def __init__(self) -> None:
        self.number = 0
        self.base: Configuration | None = None


class World(NamedTuple):
    """What all processes of a run share."""

    plan: Plan
    schedule: Schedule
    network: HostileNetwork
    observer: Observer
    checker: Registers
    under: Under


class Process(Fused):
    """A process with a disk and a clock; `row` is its address."""

    def __init__(self, world: World, row: int) -> None:
        self.world = world
        self.row = row
        self.alive = self.failed = self.paused = self.retired = False
        self.starts = 0
        self.disk: Disk = CellDisk(
            world.plan.options,
            world.schedule,
            stream(world.plan.seed, f"disk {row}"),
            self._step,
            lambda record, _: world.checker.durable(row, record),
            self._guard_unless_paused,
        )
        self._random = stream(world.plan.seed, f"process {row}")
        self._held: deque[Then] = deque()

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again, with what is durable."""
        self.starts += 1
        self.alive, self.failed, self.paused = True, False, False
        self.fuse = None
        self._held.clear()
        skew = self.world.plan.options.skew * (2 * self._random.random() - 1)
        self.clock = LocalClock(self.world.schedule, 1000 * self._random.random(), 1 + skew)
        if self.starts > 1:
            self.world.observer.noted("process restarted")
        self._guard(partial(self._begin, dict(self.disk.scan_log())))

    def _begin(self, found: dict[bytes, bytes]) -> None:
        raise NotImplementedError

    def crash(self) -> None:
        """Stop at once."""
        if not self.alive:
            return
        self.alive = False
        self.fuse = None
        if self.disk.crash():
            self.world.observer.noted("write torn by a crash")

    def lose_disk(self, incarnation: int) -> None:
        """No acceptor comes back without its disk: nobody could tell."""
        raise NotImplementedError

    def lose_power(self) -> None:
        """Nor with a part of it."""
        raise NotImplementedError

    def retire(self) -> None:
        """Nobody depends on it more than on others."""

    def pause(self) -> None:
        """Stand still: what arrives waits."""
        self.paused = True

    def go_on(self) -> None:
        """End a pause."""
        self.paused = False
        while self._held and self.alive and not self.paused:
            self._guard(self._held.popleft())

    def drift(self, rate: float) -> None:
        """Run the clock at another rate; alarms that are set already ring when they would have."""
        if self.alive:
            self.clock.set_rate(rate)

    def calm(self) -> None:
        """No fault of this machine from now on."""
        self.fuse = None
        if self.alive:
            self.drift(1.0)
            self.go_on()

    # -- effects ---------------------------------------------------------------------------------------------

    def _guard(self, action: Then) -> None:
        """Do something that may end in a crash."""
        try:
            action()
        except Crashed:
            self.world.observer.noted("crash between two effects")
            self.crash()
        except WriteFailed:
            self.world.observer.noted("disk failed")
            self.failed = True
            self.disk.crash()

    def _guard_unless_paused(self, action: Then) -> None:
        if not self.alive or self.failed:
            return
        if self.paused:
            self._held.append(action)
        else:
            self._guard(action)

    def later(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something after some seconds of the own clock, unless this process ends before."""
        when = self.clock.virtual(self.clock.now + seconds) + _LATER
        self.world.schedule.at(when, self._if_same, self.starts, partial(action, *arguments))

    def _if_same(self, starts: int, action: Then) -> None:
        if starts == self.starts:
            self._guard_unless_paused(action)

    def receive(self, sender: int, message: Any) -> None:
        """Take a message."""
        self._guard_unless_paused(partial(self._take, sender, message))

    def _take(self, sender: int, message: Any) -> None:
        raise NotImplementedError

    def _send(self, receiver: int, message: Any) -> None:
        self._step(message)
        self.world.checker.left(self.row, receiver, message)
        if receiver == self.row:
            self.world.schedule.after(0.0, self._if_same, self.starts, partial(self._take, self.row, message))
        else:
            self.world.network.send(self.row, receiver, message, None)


class AcceptorProcess(Process):
    """An acceptor, whose cells are in memory as they were written last, durable or not."""

    def _begin(self, found: dict[bytes, bytes]) -> None:
        self.cells: dict[bytes, Cell] = {}
        for key, value in found.items():
            if key[:1] == b"c":
                self.cells[key[1:]] = decode(value)
        floor = Ballot(*map(int, found[_FLOOR].split(b"."))) if _FLOOR in found else ZERO
        highest = max((cell.promised for cell in self.cells.values()), default=ZERO)
        self.core = Acceptor(self.cells.get, floor, highest)
        self._feed = Feed(self.starts, self.world.plan.kept)

    def _told(self, message: List | Scan | Follow) -> Listed | Scanned | Followed:
        if isinstance(message, Follow):
            return self._feed.tell(message, self.core.floor)
        keys = sorted(key for key in self.cells if key > message.key)
        if isinstance(message, List):
            return Listed(message.key, message.ballot, tuple(keys[: message.most]))
        page = tuple(Told(key, self.cells[key].accepted, self.cells[key].state) for key in keys[:_PAGE])
        return Scanned(message.key, message.ballot, page, last=len(keys) <= _PAGE)

    def _take(self, sender: int, message: Request) -> None:
        if isinstance(message, List | Scan | Follow):
            self.disk.write((), partial(self._send, sender, self._told(message)))
            return
        floor = self.core.floor
        try:
            answer, cell, removed = self.core.take(message)
        except FrameError:
            self.world.observer.noted("ballot from the future refused")
            return
        entries = []
        if cell is not None:
            self.cells[cell.key] = cell
            entries.append(Entry(b"c" + cell.key, encode(cell), cell))
            if isinstance(message, Accept):
                self._feed.add(Told(cell.key, cell.accepted, cell.state))
        if removed is not None:
            if self.core.floor != floor:
                entries.append(Entry(_FLOOR, str(self.core.floor).encode(), None))
            del self.cells[removed]
            entries.append(Entry(b"c" + removed, None, Gone(removed)))
        if isinstance(answer, Conflict) and answer.ballot == FIRST:
            self.world.observer.noted("first ballot refused")
        if isinstance(answer, Removed):
            self.world.observer.noted("register removed" if answer.done else "removal refused")
        self.disk.write(entries, partial(self._send, sender, answer))


_TRIPS: Final = ("no round trip", "one round trip", "two round trips", "more round trips")

Ended: TypeAlias = Callable[[Done], None]


class ProposerProcess(Process):
    """A proposer and what it proposes for others, who hear of the end through a callback."""

    def _begin(self, found: dict[bytes, bytes]) -> None:
        options = self.world.plan
        counter = int(found.get(_COUNTER, b"0"))
        shape = decode(found[SHAPE]) if SHAPE in found else options.configuration
        random = stream(options.seed, f"proposer {self.row} {self.starts}")
        pace = Pace(options.retry, options.pause)
        self.core = Proposer(self.row, shape, counter, random, pace, direct=options.direct)
        self._ends: dict[int, Ended] = {}
        self._alarm = inf

    def propose(self, want: Want, ended: Ended, timeout: float) -> None:
        """Propose something; `ended` is called unless this process ends before."""
        self._guard_unless_paused(partial(self._propose, want, ended, timeout))

    def _propose(self, want: Want, ended: Ended, timeout: float) -> None:
        now = self.clock.now
        ticket, asks = self.core.propose(want, now + timeout, now)
        self._ends[ticket] = ended
        self._perform(asks)

    def _tick(self) -> None:
        self._alarm = inf
        self._perform(self.core.tick(self.clock.now))

    def _perform(self, asks: Asks) -> None:
        entries = []
        if asks.reserve is not None:
            entries.append(Entry(_COUNTER, b"%d" % asks.reserve, None))
        for key in {request.key for _, request in asks.sends if isinstance(request, Accept | Peek)}:
            change = self.core.under_way(key)
            assert change is not None
            self.world.checker.asked(self.row, self.starts, change)
        if asks.sends:
            self.disk.write(entries, partial(self._send_all, tuple(asks.sends)))
        for done in asks.done:
            self.world.checker.ended(self.row, self.starts, done)
            self.world.observer.noted(f"{done.verdict.value} in {_TRIPS[min(done.trips, 3)]}")
            if done.ballot == FIRST:
                self.world.observer.noted("done at the first ballot")
            self._ends.pop(done.ticket)(done)
        due = self.core.due
        if due is not None and due < self._alarm:
            self._alarm = due
            self.later(max(0.0, due - self.clock.now), self._tick)

    def _send_all(self, sends: Sequence[tuple[int, Any]]) -> None:
        for receiver, request in sends:
            self._send(receiver, request)

    def _take(self, sender: int, message: Any) -> None:
        if isinstance(message, Configure):
            self._configure(sender, message.configuration)
        elif not isinstance(message, Settled):
            self._perform(self.core.take(sender, message, self.clock.now))

    def _configure(self, sender: int, configuration: Configuration) -> None:
        """Make it durable, then begin no attempt of an older one, then say so."""
        self.core.configure(configuration)
        entry = Entry(SHAPE, encode(self.core.configuration), None)
        self.disk.write((entry,), partial(self._say_settled, sender, configuration.version))

    def _say_settled(self, sender: int, version: int) -> None:
        if not self.core.settled:
            self.world.observer.noted("attempt held over a change of acceptors")
        self._send(sender, Settled(version, self.core.settled))


class Warden(ProposerProcess):
    """Collects, and changes the acceptors, one task after another; which one, and how far, is on its disk."""

    def __init__(self, world: World, row: int) -> None:
        super().__init__(world, row)
        self._confirming: Sequence[int] = world.plan.confirming

    @property
    def finished(self) -> bool:
        """Whether all tasks are done."""
        return self._number >= len(self.world.plan.tasks)

    def _begin(self, found: dict[bytes, bytes]) -> None:
        super()._begin(found)
        self._number, self._note, self._base = 0, Note(), self.core.configuration
        if TASK in found:
            self._number, step, key, base = unpackb(found[TASK])
            self._note, self._base = Note(key, step), decode(base)
        self._procedure: Procedure | None = None
        self._todo: Todo | None = None
        self._answers: dict[int, Any] = {}
        self._asked = 0
        self._settled: set[int] = set()
        self._next_task()

    def _next_task(self) -> None:
        if self.finished:
            return
        task = self.world.plan.tasks[self._number]
        if self.clock.virtual(self.clock.now) < task.when:
            self.later(max(task.when - self.world.schedule.now, _LATER), self._next_task)
            return
        self._save(self._begin_task)  # with the configuration that its steps are planned from

    def _begin_task(self) -> None:
        self.world.under.number, self.world.under.base = self._number, self._base
        task = self.world.plan.tasks[self._number]
        if task.kind == "collect":
            self._procedure = collect(self._base, self._note.key)
        else:
            change = {"joins": task.acceptor} if task.kind == "grow" else {"leaves": task.acceptor}
            self._procedure = resize(self._base, plan(self._base, **change), self._note.step, self._note.key)
        self._go_on(None)

    def _go_on(self, result: Any) -> None:
        assert self._procedure is not None
        try:
            self._todo = self._procedure.send(result)
        except StopIteration:
            self.world.observer.noted(f"task done: {self.world.plan.tasks[self._number].kind}")
            self._number, self._note, self._base = self._number + 1, Note(), self.core.configuration
            self._procedure = self._todo = None
            self._save(self._let_go)
            return
        self._asked += 1
        self._answers = {}
        self._settled = set()
        if isinstance(self._todo, Note):
            self._note = self._todo
            self._save(partial(self._go_on, None))
        elif isinstance(self._todo, Want):
            self._propose(self._todo, self._go_on, 20 * self.world.plan.timeout)
        else:
            self._ask(self._asked)

    def _let_go(self) -> None:
        self.world.under.number, self.world.under.base = self._number, None
        self._next_task()

    def _save(self, then: Then) -> None:
        text = packb((self._number, self._note.step, self._note.key, encode(self._base)))
        entries = (Entry(TASK, text, None),)
        self.disk.write(entries, then)

    def _ask(self, number: int) -> None:
        """Ask, again and again, those who have not answered."""
        if number != self._asked:
            return
        if isinstance(self._todo, Configuration):
            for row in self._confirming:
                if row not in self._settled:
                    self._send(row, Configure(self._todo))
        elif isinstance(self._todo, Ask):
            for acceptor in self._todo.acceptors:
                if acceptor not in self._answers:
                    self._send(acceptor, self._request(self._todo))
        self.later(self.world.plan.retry, self._ask, number)

    def _request(self, ask: Ask) -> Request:
        """Lists are told apart by a ballot of their own."""
        if isinstance(ask.request, List):
            return ask.request._replace(ballot=Ballot(10**6 * self.starts + self._asked, self.row))
        return ask.request

    def _take(self, sender: int, message: Any) -> None:
        todo = self._todo
        if isinstance(message, Settled):
            if isinstance(todo, Configuration) and message.version == todo.version and message.done:
                self._settled.add(sender)
                if self._settled.issuperset(self._confirming):
                    self._go_on(None)
        elif isinstance(message, Listed | Removed):
            if not isinstance(todo, Ask) or message[:2] != self._request(todo)[:2]:
                return
            if sender in todo.acceptors and sender not in self._answers:
                self._answers[sender] = message
                if len(self._answers) >= todo.needed:
                    self._go_on(self._answers)
        else:
            super()._take(sender, message)


class Successor(Warden):
    """Begins when the warden of row `before` is gone, and does again from its first step what that left half done.

    Messages of the other one may still be under way. It is told that it is gone, so nobody waits for what it confirms.
    """

    def __init__(self, world: World, row: int, before: int) -> None:
        super().__init__(world, row)
        self._confirming = [other for other in world.plan.confirming if other != before]

    def _begin(self, found: dict[bytes, bytes]) -> None:
        self._has_begun = TASK in found
        super()._begin(found)

    def _next_task(self) -> None:
        if self._has_begun:
            super()._next_task()
            return
        gone = self.world.plan.gone
        assert gone is not None
        if self.world.schedule.now <= gone:
            self.later(max(gone - self.world.schedule.now, _LATER) + self.world.plan.retry, self._next_task)
            return
        self._has_begun = True
        under = self.world.under
        self._number, self._base = under.number, under.base or self.core.configuration
        if under.base is not None:
            self.world.observer.noted(f"task taken over: {self.world.plan.tasks[self._number].kind}")
        super()._next_task()
