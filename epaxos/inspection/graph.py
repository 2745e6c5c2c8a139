"""A piece of the dependency graph: which instances, and which edges say all that has to be said.

A dependency is a prefix of a row, so an edge to the highest instance of a row stands for edges to all below. Of those
edges, at most one a row, the ones are left out that another one implies: if `i` depends on `a` and on `b`, and `a` on
`b`, then `i -> a -> b` shows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from epaxos.inspection.contents import Contents
from epaxos.inspection.place import dependencies, state_of
from epaxos.inspection.wording import place_name, value_text
from epaxos.protocol.ids import InstanceId, covers
from epaxos.protocol.log import Instance

_ROOTS: Final = 12
"""Instances around which is drawn if nobody names one."""


class Node(NamedTuple):
    """An instance in the drawing; `note` is what a reader sees who points at it."""

    place: InstanceId
    state: str
    note: str


class Graph(NamedTuple):
    """Nodes, ascending, and the edges from each to what it depends on; `left_out` nodes were too many."""

    n: int
    nodes: list[Node]
    edges: list[tuple[InstanceId, InstanceId]]
    left_out: int


def choose(contents: Contents, around: InstanceId | None, depth: int, most: int) -> Graph:
    """The graph up to `depth` edges away, in either direction, from an instance, or else from what is pending.

    With nothing pending, from the last of each row. At most `most` nodes, the nearest ones.
    """
    edges = {place: reduced(record, contents.records) for place, record in contents.records.items()}
    roots = [around] if around is not None else _pending(contents)
    chosen, left_out = _near(roots, edges, depth, most)
    nodes = [Node(place, state_of(contents, place), _note(contents, place)) for place in sorted(chosen)]
    shown = [(place, other) for place in sorted(chosen) for other in edges.get(place, ()) if other in chosen]
    return Graph(contents.configuration.n, nodes, shown, left_out)


def reduced(record: Instance, records: Mapping[InstanceId, Instance]) -> list[InstanceId]:
    """The dependencies of an instance, one a row, without those that another of them implies.

    Two that depend on one another, as in a cycle, imply each other: one of them stays.
    """
    kept = [other for other in dependencies(record) if other != record.id]
    for other in tuple(kept):
        if any(third != other and third in records and covers(records[third].deps, other) for third in kept):
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


def _note(contents: Contents, place: InstanceId) -> str:
    record = contents.records.get(place)
    head = f"{place_name(place)}: {state_of(contents, place)}"
    if record is None:
        return head
    return f"{head}, {value_text(record.value)}, ballot {record.bal}, seq {record.seq}"
