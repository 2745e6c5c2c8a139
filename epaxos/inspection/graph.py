"""A piece of the dependency graph: which instances, and which edges say all that has to be said.

A dependency is a prefix of a row, so an edge to the highest instance of a row stands for edges to all below. Of those
edges, at most one a row, the ones are left out that another one implies: if `i` depends on `a` and on `b`, and `a` on
`b`, then `i -> a -> b` shows it.

Instances are laid out in the order in which they execute, as far as that is decided: an instance stands to the right of
what it depends on, and those of a cycle, which execute as one component, beside one another. What has no way to one
another may share a column.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from epaxos.inspection.contents import Contents
from epaxos.inspection.place import dependencies, state_of
from epaxos.inspection.wording import keys_text, place_name, value_text
from epaxos.protocol.contract import Component, Decided
from epaxos.protocol.execution.order import components
from epaxos.protocol.execution.pending import Pending
from epaxos.protocol.ids import InstanceId, Row, covers
from epaxos.protocol.log import NOP, Instance

_ROOTS: Final = 12
"""Instances around which is drawn if nobody names one."""

_STACKED: Final = 3
"""Instances of one row that share a column at most; the next ones stand to the right, as if they executed later."""

KEYS: Final = 14
"""Letters that a box has room for."""


class Node(NamedTuple):
    """An instance in the drawing: `keys` are of its commands, `note` is what a reader sees who points at it."""

    place: InstanceId
    state: str
    note: str
    keys: str = ""


class Graph(NamedTuple):
    """Nodes, ascending, and the edges from each to what it depends on; `left_out` nodes were too many.

    `columns` say where each stands, from 0 on; `cycles` are components of several, in the order of execution.
    """

    n: int
    nodes: list[Node]
    edges: list[tuple[InstanceId, InstanceId]]
    left_out: int
    columns: Mapping[InstanceId, int]
    cycles: list[tuple[InstanceId, ...]]

    def is_tied(self, place: InstanceId, other: InstanceId) -> bool:
        """Whether two instances are of one cycle."""
        return any(place in cycle and other in cycle for cycle in self.cycles)


def choose(contents: Contents, around: InstanceId | None, depth: int, most: int) -> Graph:
    """The graph up to `depth` edges away, in either direction, from an instance, or else from what is pending.

    With nothing pending, from the last of each row. At most `most` nodes, the nearest ones.
    """
    edges = {place: reduced(record, contents.records) for place, record in contents.records.items()}
    roots = [around] if around is not None else _pending(contents)
    chosen, left_out = _near(roots, edges, depth, most)
    nodes = [_node(contents, place) for place in sorted(chosen)]
    return make_graph(contents.configuration.n, nodes, contents.records, edges, left_out)


def make_graph(
    n: int,
    nodes: list[Node],
    records: Mapping[InstanceId, Instance],
    edges: Mapping[InstanceId, Sequence[InstanceId]],
    left_out: int,
) -> Graph:
    """The graph of these nodes, as far as there are records of them; of the `edges` those between two of them."""
    places = [node.place for node in nodes]
    columns: dict[InstanceId, int] = {}
    cycles = []
    there: Counter[tuple[Row, int]] = Counter()
    for component in _executed(places, records):
        members = [decided.id for decided in component]
        before = [
            column
            for decided in component
            for place, column in columns.items()
            if covers(decided.deps, place)
        ]
        first = max(before, default=-1) + 1
        while any(there[place.row, first + index] >= _STACKED for index, place in enumerate(members)):
            first += 1
        there.update((place.row, first + index) for index, place in enumerate(members))
        columns.update(zip(members, range(first, first + len(members)), strict=True))
        if len(members) > 1:
            cycles.append(tuple(members))
    shown = [(place, other) for place in places for other in edges.get(place, ()) if other in columns]
    return Graph(n, nodes, shown, left_out, columns, cycles)


def _executed(places: Sequence[InstanceId], records: Mapping[InstanceId, Instance]) -> Iterator[Component]:
    """The components of these instances as they would execute with what is known of them, were there no others."""
    rows = max(
        [len(record.deps) for record in records.values()] + [place.row + 1 for place in places], default=1
    )
    known = [records.get(place) or Instance(place, (-1,) * rows) for place in places]
    waiting = [Pending(Decided(record.id, NOP, record.deps, record.seq), rows) for record in known]
    cut = [[member for member in waiting if member.decided.id.row == row] for row in range(rows)]
    for member in waiting:
        if member.index < 0:
            yield from components(member, cut)


def reduced(record: Instance, records: Mapping[InstanceId, Instance]) -> list[InstanceId]:
    """The dependencies of an instance, one a row, without those that another of them implies.

    What implies another must come before: in a cycle each member implies what the others depend on, and yet one has to
    say so. Two that depend on one another imply each other: one of them stays.
    """
    kept = [other for other in dependencies(record) if other != record.id]
    before = {
        place: records[place].deps
        for place in kept
        if place in records
        and (records[place].seq, place) < (record.seq, record.id)
        and not covers(records[place].deps, record.id)
    }
    for other in tuple(kept):
        if any(third in kept and third != other and covers(deps, other) for third, deps in before.items()):
            kept.remove(other)
    return kept


def _pending(contents: Contents) -> list[InstanceId]:
    pending = sorted(
        {*contents.undecided(_ROOTS), *contents.waiting()}, key=lambda place: (place.slot, place.row)
    )
    if pending:
        return pending[:_ROOTS]
    last: dict[int, InstanceId] = {place.row: place for place in sorted(contents.records)}
    return list(last.values())


def _near(
    roots: Iterable[InstanceId], edges: Mapping[InstanceId, list[InstanceId]], depth: int, most: int
) -> tuple[set[InstanceId], int]:
    """What can be reached from the roots, breadth first, and how many more there would have been at this depth."""
    neighbours: dict[InstanceId, list[InstanceId]] = {}
    for place, other in _pairs(edges):
        neighbours.setdefault(place, []).append(other)
        neighbours.setdefault(other, []).append(place)
    distance = dict.fromkeys(roots, 0)
    waiting = deque(distance)
    while waiting:
        place = waiting.popleft()
        if distance[place] < depth:
            for other in neighbours.get(place, ()):
                if other not in distance:
                    distance[other] = distance[place] + 1
                    waiting.append(other)
    nearest = list(distance)[:most]
    return set(nearest), len(distance) - len(nearest)


def _pairs(edges: Mapping[InstanceId, list[InstanceId]]) -> Iterator[tuple[InstanceId, InstanceId]]:
    return ((place, other) for place, others in edges.items() for other in others)


def _node(contents: Contents, place: InstanceId) -> Node:
    record = contents.records.get(place)
    keys = "" if record is None else keys_text(record.orig, KEYS)
    return Node(place, state_of(contents, place), _note(contents, place), keys)


def _note(contents: Contents, place: InstanceId) -> str:
    record = contents.records.get(place)
    head = f"{place_name(place)}: {state_of(contents, place)}"
    if record is None:
        return head
    return f"{head}, {value_text(record.value)}, ballot {record.bal}, seq {record.seq}"
