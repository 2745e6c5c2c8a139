"""Changes of members: which configuration follows, and somebody who sees to it that one does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from epaxos.protocol.ids import Name
from epaxos.protocol.membership import Configuration, Member
from epaxos.protocol.quorums import allowed
from epaxos.simulation.plan.faults import Change
from epaxos.simulation.plan.options import Options, stream
from epaxos.simulation.world.era import host_of, name_of
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule

if TYPE_CHECKING:
    from epaxos.simulation.world.replica import Replica

_MOST_VOTERS = 7

Wanted: TypeAlias = Callable[[Configuration], tuple[Name, ...]]
"""Who is to vote after a configuration."""


def as_before(running: Configuration) -> tuple[Name, ...]:
    """The same voters."""
    return running.names


def drawn_voters(hosts: int, change: int, running: Configuration) -> tuple[Name, ...]:
    """Some stay, some of those go, some of those come who never were there; in an order of their own."""
    random = Random(change)  # noqa: S311 - drawn with the faults
    coming = _never_there(running, range(hosts))
    coming = random.sample(coming, random.randint(0, len(coming)))
    staying = random.sample(running.names, random.randint(0 if coming else 1, running.n))
    names = [*staying, *coming][:_MOST_VOTERS]
    if random.random() < 0.5:
        random.shuffle(names)
    return tuple(names)


def _never_there(running: Configuration, hosts: Iterable[int]) -> list[Name]:
    return [name for name in map(name_of, hosts) if name not in {*running.names, *running.removed}]


class Proposer(NamedTuple):
    """What whoever proposes a configuration goes by; `doomed` are those that will stop for good."""

    known: Mapping[int, int]
    doomed: AbstractSet[int]
    observer: Observer

    def next(self, running: Configuration, request: int, names: Sequence[Name]) -> Configuration:
        """These voters if all are known and enough of them live; half of the times other thresholds."""
        if names != running.names and not self.known.keys() >= set(map(host_of, names)):
            # Who proposes has to know all who stay (protocol 6.10).
            return self.next(running, request, running.names)
        doomed = sum(host_of(name) in self.doomed for name in names)
        n = len(names)
        possible = [(f, e) for f in range(doomed, n) for e in range(f + 1) if allowed(n, f, e)]
        if not possible:
            return self.next(running, request, running.names)
        usual = running.next(request, names=names)
        f, e = possible[request // 2 % len(possible)] if request % 2 else (usual.f, usual.e)
        if f < doomed:
            f, e = possible[-1]
        if (f, e) != (usual.f, usual.e):
            self.observer.noted("other thresholds proposed")
        if names != running.names:
            self.observer.noted("other members proposed")
        members = {name: Member(self.known[host_of(name)]) for name in names if host_of(name) in self.known}
        return running.next(request, f, e, names=names, members=members)


class Overseer:
    """Sees to changes of members, one after the other: asks for each until it has come about, after the faults too."""

    def __init__(
        self,
        options: Options,
        schedule: Schedule,
        observer: Observer,
        replicas: Sequence[Replica],
        doomed: AbstractSet[int],
    ) -> None:
        self._options = options
        self._schedule = schedule
        self._observer = observer
        self._replicas = replicas
        self._doomed = doomed
        self._random = stream(options.seed, "overseer")
        self._wishes: deque[Change] = deque()
        self._before: Configuration | None = None

    @property
    def idle(self) -> bool:
        """Whether all that was to come about has."""
        return not self._wishes

    def see_to(self, change: Change) -> None:
        """Have a change come about once those before it have."""
        self._wishes.append(change)
        if len(self._wishes) == 1:
            self._go_on()

    def _go_on(self) -> None:
        running = max((replica.configuration for replica in self._replicas if replica.starts), default=None)
        while self._wishes and running is not None:
            change = self._wishes[0]
            self._before = self._before or running
            if not self._has_come(change, self._before, running):
                wanted = self._wanted(change, running)
                if wanted is not None:
                    self._ask(running, wanted)
                    break
                self._observer.noted("change of members impossible")
            self._wishes.popleft()
            self._before = None
        if self._wishes:
            options = self._options
            self._schedule.after(2 * options.beacon + options.patience + 10 * options.delay, self._go_on)

    def _ask(self, running: Configuration, wanted: tuple[Name, ...]) -> None:
        """Ask one of those that vote; of a change that another has brought about meanwhile nothing is asked."""
        asked = [
            replica
            for replica in self._replicas
            if replica.alive and replica.epoch == running.epoch and replica.name in running.names
        ]
        if asked:
            self._random.choice(asked).refresh(lambda now: wanted if now == running else now.names)

    def _has_come(self, change: Change, before: Configuration, running: Configuration) -> bool:
        if change.lost is not None:
            come = name_of(change.lost) not in running.names
            mark = "lost disk replaced" if running.n == before.n else "lost disk's replica removed"
        elif change.size:
            come, mark = running.n == change.size, f"members become {change.size}"
        else:
            come, mark = not set(before.names) & set(running.names), "all members replaced at once"
        if come and before != running:
            self._observer.noted(mark)
        return come

    def _wanted(self, change: Change, running: Configuration) -> tuple[Name, ...] | None:
        """Who is to vote; None if too few are left for that."""
        random = Random(change.number)  # noqa: S311 - drawn with the faults
        living = [host for host in range(self._options.voting) if host not in self._doomed]
        fresh = _never_there(running, living)
        names, n = running.names, change.size
        if change.lost is not None:
            lost = name_of(change.lost)
            instead = random.sample(fresh, min(1, len(fresh)))
            named = [other for name in names for other in (instead if name == lost else (name,))]
            return tuple(named) or None
        if not n:
            return tuple(random.sample(fresh, running.n)) if len(fresh) >= running.n else None
        if n > running.n:
            more = n - running.n
            return (*names, *random.sample(fresh, more)) if len(fresh) >= more else None
        staying = [name for name in names if host_of(name) not in self._doomed]
        going = [name for name in names if name not in staying]
        return tuple([*random.sample(staying, len(staying)), *going][:n])
