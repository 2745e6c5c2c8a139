"""Decided instances for the executor, and a feed that gives them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from epaxos.protocol.contract import Component, Decided
from epaxos.protocol.execution.executor import Executor
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP


class Feed:
    """An executor, with the bookkeeping that its caller owes it.

    It may begin with what has executed before: all up to `frontier`, and the instances `above` it.
    """

    def __init__(self, n: int, frontier: Vector = (), above: Iterable[InstanceId] = ()) -> None:
        above = list(above)
        self.executor = Executor(n, frontier, above)
        self.executed: list[Component] = []
        self._decided = [{slot for row, slot in above if row == own} for own in range(n)]
        self._up_to = list(frontier or (-1,) * n)

    def give(self, decided: Decided) -> list[Component]:
        """Decide an instance; return what that lets execute."""
        row, slot = decided.id
        self._decided[row].add(slot)
        while self._up_to[row] + 1 in self._decided[row]:
            self._up_to[row] += 1
        components = self.executor.decide(decided, self._up_to[row])
        self.executed += components
        return components

    @property
    def undecided(self) -> list[InstanceId]:
        """The lowest undecided instance of every row."""
        return [InstanceId(row, slot + 1) for row, slot in enumerate(self._up_to)]

    def give_all(self, decisions: Iterable[Decided]) -> None:
        for decided in decisions:
            self.give(decided)


def decide(row: int, slot: int, *deps: int, seq: int = 0) -> Decided:
    """A decision whose value does not matter."""
    return Decided(InstanceId(row, slot), NOP, deps, seq)


def random_decisions(random: Random, *, rows: int, slots: int) -> list[Decided]:
    """Decisions that depend on one another at random, here and there on slots that nobody decides."""
    dense = random.random()
    last = [random.randint(-1, slots - 1) for _ in range(rows)]
    beyond = random.random() < 0.3
    decisions = []
    for row in range(rows):
        for slot in range(last[row] + 1):
            deps = [random.randint(-1, top + beyond) if random.random() < dense else -1 for top in last]
            deps[row] = random.randint(-1, slot - 1)
            decisions.append(decide(row, slot, *deps, seq=random.randint(0, 3)))
    return decisions


def chain(length: int, rows: int) -> list[Decided]:
    """Instances each of which depends on all before it."""
    decisions = []
    for position in range(length):
        deps = [(position - 1 - row) // rows for row in range(rows)]
        decisions.append(decide(position % rows, position // rows, *deps, seq=position))
    return decisions


def tangle(length: int, rows: int) -> list[Decided]:
    """One component: each instance depends on all before it and on the next of every other row."""
    last = [(length - 1 - row) // rows for row in range(rows)]
    return [
        decided._replace(
            deps=tuple(
                top if row == decided.id.row else min(top + 1, last[row])
                for row, top in enumerate(decided.deps)
            )
        )
        for decided in chain(length, rows)
    ]


def ring(length: int, rows: int) -> list[Decided]:
    """One component: a chain whose first instance depends on the last."""
    first, *others = chain(length, rows)
    row, slot = others[-1].id
    deps = tuple(slot if other == row else -1 for other in range(rows))
    return [first._replace(deps=deps), *others]
