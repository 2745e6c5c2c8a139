"""The 2-D log: one row of instances per replica, and what an acceptor remembers of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from enum import Enum, IntEnum
from itertools import repeat
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.protocol.command import Command
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector


class Nop(Enum):
    """The command that annuls an instance; its own type, so that no payload can be mistaken for it."""

    NOP = "nop"


NOP: Final = Nop.NOP

Value: TypeAlias = Command | Nop
"""What an instance can be decided to hold."""


class Phase(IntEnum):
    """How far an instance has come at one replica; it only rises at a given ballot (protocol 4.2)."""

    INITIAL = 0
    PREACCEPTED = 1
    ACCEPTED = 2
    COMMITTED = 3


def drain(tables: Iterable[dict[Any, Any]], most: int) -> bool:
    """Free `most` entries of the first of some dictionaries in which there are any; whether there may be more.

    A large one that is freed at once stops the thread; and what is in a cycle is not freed before the oldest objects of
    all are looked through, perhaps hours later.
    """
    for table in tables:
        if table:
            deque(map(dict.popitem, repeat(table, min(most, len(table)))), maxlen=0)
            return True
    return False


class Proposal(NamedTuple):
    """What the owner proposed: the payload with its first dependencies and sequence number."""

    command: Command
    deps: Vector
    seq: int


class Instance:
    """The durable record of one place in the log (protocol 4.2).

    id      its place
    bal     highest ballot promised or accepted
    abal    ballot of the last accepted value; a field of its own, never merged with `bal`: the single
            ballot variable is the best-known bug of published implementations
    phase   see `Phase`
    value   None while nothing is known, else the command or NOP
    deps    dependencies of `value`, -1 each where there are none
    seq     sequence number of `value`; orders the members of a component, nothing else
    init    what the owner proposed, from PreAccept or Validate
    orig    a payload ever learned for this place; never cleared, not by NOP, because an annulled command
            keeps its conflicts (protocol 3.1, 3.2)
    """

    __slots__ = ("abal", "bal", "deps", "id", "init", "orig", "phase", "seq", "value")

    def __init__(self, place: InstanceId, no_deps: Vector) -> None:
        self.id = place
        self.bal: Ballot = 0
        self.abal: Ballot = 0
        self.phase = Phase.INITIAL
        self.value: Value | None = None
        self.deps = no_deps
        self.seq = 0
        self.init: Proposal | None = None
        self.orig: Command | None = None

    def __repr__(self) -> str:
        return (
            f"<{self.id} {self.phase.name} bal={self.bal} abal={self.abal} "
            f"{self.value!r} deps={self.deps} seq={self.seq}>"
        )


class Logs:
    """All rows of the log as one replica holds them.

    A row is a dictionary by slot: rows have gaps (instances heard of, not seen) and lose their beginning
    to truncation. `truncated[r]` is the highest slot of row r that has been dropped, -1 at first;
    `committed[r]` the highest slot up to which row r has no uncommitted instance.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.no_deps: Vector = (-1,) * n
        self.rows: list[dict[Slot, Instance]] = [{} for _ in range(n)]
        self.truncated: list[Slot] = [-1] * n
        self.committed: list[Slot] = [-1] * n

    def get(self, place: InstanceId) -> Instance | None:
        """The record of a place, None where there is none (never seen, or truncated)."""
        return self.rows[place.row].get(place.slot)

    def ensure(self, place: InstanceId) -> Instance:
        """The record of a place, made empty if there is none; not for truncated places."""
        row = self.rows[place.row]
        instance = row.get(place.slot)
        if instance is None:
            instance = row[place.slot] = Instance(place, self.no_deps)
        return instance

    def waiting(
        self, executed: Vector, above: Container[InstanceId], seen: Vector, most: int
    ) -> list[Instance]:
        """What is in no row up to `executed`, nor `above`, but up to `seen`: at most so many, the lowest slots first.

        A place of which nothing is known has an empty record, that is not in the log.
        """
        found: list[Instance] = []
        for row, instances in enumerate(self.rows):
            first = executed[row] + 1
            for slot in range(first, min(seen[row], executed[row] + most) + 1):
                place = InstanceId(row, slot)
                if place not in above:
                    found.append(instances.get(slot) or Instance(place, self.no_deps))
        found.sort(key=lambda instance: (instance.id.slot, instance.id.row))
        return found[:most]

    def truncate(self, frontier: Vector) -> None:
        """Drop every instance up to `frontier`; whoever asks for one is told so from now on (protocol 4.10)."""
        for row, slot in enumerate(frontier):
            dropped = self.truncated[row]
            if slot <= dropped:
                continue
            instances = self.rows[row]
            if slot - dropped > len(instances):
                self.rows[row] = {place: kept for place, kept in instances.items() if place > slot}
            else:
                for place in range(dropped + 1, slot + 1):
                    instances.pop(place, None)
            self.truncated[row] = slot
            if self.committed[row] < slot:
                self.committed[row] = slot
                self.advance_committed(row)

    def advance_committed(self, row: Row) -> None:
        """Move `committed[row]` over every instance that is committed without a gap below it."""
        instances = self.rows[row]
        slot = self.committed[row] + 1
        while (instance := instances.get(slot)) is not None and instance.phase is Phase.COMMITTED:
            slot += 1
        self.committed[row] = slot - 1
