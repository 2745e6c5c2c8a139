"""What a space-time diagram shows of a run."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from epaxos.inspection.wording import place_name
from epaxos.protocol.contract import Component, Effects, Event
from epaxos.protocol.epaxos.messages import PreAccept
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP, Instance
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.failure.trace import QUIET, Timed, places_of, show_command
from epaxos.statemachine.results import BatchResult

MOST: Final = 120
"""Arrows in one diagram: more of them nobody could follow."""

_LONGEST: Final = 24
"""Letters of a command."""

_PATHS: Final = {"fast": "fast path", "slow": "slow path", "recovered": "is recovered"}
"""How an instance was committed, in the words of a reader; others are words already."""


class Arrow(NamedTuple):
    """A message of some kind about some instances, and when it left and came; it never did if it was `lost`."""

    kind: str
    places: tuple[InstanceId, ...]
    sender: Row
    receiver: Row
    left: float
    came: float
    lost: bool = False


class Mark(NamedTuple):
    """Something that happened at a replica; `places` are the instances that it is about, all if there are none."""

    when: float
    row: Row
    text: str
    places: tuple[InstanceId, ...] = ()


class Life(NamedTuple):
    """When a replica ran: from one second of virtual time to another, or to the end."""

    row: Row
    begin: float
    end: float | None


class Seen(Timed):
    """Keeps what happens in a run, in order; `clock` has the time."""

    def __init__(self) -> None:
        self.arrows: list[Arrow] = []
        self.marks: list[Mark] = []
        self.lives: list[Life] = []
        self.records: dict[Row, dict[InstanceId, Instance]] = defaultdict(dict)
        """By row, each instance as the replica there last wrote it."""
        self._contents = Contents()
        self._under_way: dict[tuple[Row, Row, str, tuple[InstanceId, ...]], deque[float]] = defaultdict(deque)
        self._carried: dict[tuple[int, int], InstanceId] = {}

    def started(self, row: Row, *_: object) -> None:
        """See `Observer`."""
        if any(life.row == row for life in self.lives):
            self.marks.append(Mark(self._now, row, "restarts"))
        self.lives.append(Life(row, self._now, None))

    def stopped(self, row: Row) -> None:
        """See `Observer`."""
        for index, life in enumerate(self.lives):
            if life.row == row and life.end is None:
                self.lives[index] = life._replace(end=self._now)
                self.marks.append(Mark(self._now, row, "crashes"))

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        if isinstance(message, PreAccept):
            content = self._contents.of(message.command)
            self._carried |= {(asked.client, asked.number): message.id for asked in content.commands}
            self._mark(row, f"{place_name(message.id)}: {_asked_for(content)}", (message.id,))
        for receiver in receivers:
            self._under_way[_link(row, receiver, message)].append(self._now)

    def delivered(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        self._arrived(sender, receiver, message, lost=False)

    def lost(self, sender: Row, receiver: Row, message: Any) -> None:
        """See `Observer`."""
        self._arrived(sender, receiver, message, lost=True)

    def _arrived(self, sender: Row, receiver: Row, message: Any, *, lost: bool) -> None:
        waiting = self._under_way[_link(sender, receiver, message)]
        kind = type(message).__name__
        if kind not in QUIET and waiting:  # else a second copy
            left = waiting.popleft()
            self.arrows.append(Arrow(kind, places_of(message), sender, receiver, left, self._now, lost))

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        self.records[row] |= {record.id: record for record in effects.records}
        for note in effects.commits:
            self._mark(row, f"{place_name(note.id)}: {_PATHS.get(note.path, note.path)}", (note.id,))

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        del results
        names = [f"{place_name(one.id)}{' (no-op)' if one.value is NOP else ''}" for one in component]
        self._mark(row, f"executes {' '.join(names)}", tuple(one.id for one in component))

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        place = self._carried.get((call.client, call.number))
        name = "" if place is None else f" of {place_name(place)}"
        self._mark(row, f"answers the client{name}", () if place is None else (place,))

    def _mark(self, row: Row, text: str, places: tuple[InstanceId, ...]) -> None:
        self.marks.append(Mark(self._now, row, text, places))

    # -- what is shown -------------------------------------------------------------------------------------

    def around(self, places: Collection[InstanceId]) -> Shown:
        """What concerns some instances, or else all; at most `MOST` messages of it, the first ones."""
        arrows = sorted(
            (
                arrow
                for arrow in self.arrows
                if not places or not arrow.places or set(arrow.places) & set(places)
            ),
            key=lambda arrow: arrow.left,
        )
        kept = arrows[:MOST]
        marks = [
            mark for mark in self.marks if not places or not mark.places or set(mark.places) & set(places)
        ]
        begin = min(
            [arrow.left for arrow in kept] + [mark.when for mark in marks if mark.places], default=0.0
        )
        end = max(
            [arrow.came for arrow in kept] + [mark.when for mark in marks if len(kept) == len(arrows)],
            default=begin,
        )
        return Shown(
            kept,
            [mark for mark in marks if begin <= mark.when <= end],
            self.lives,
            begin,
            end,
            len(arrows) - len(kept),
        )


class Shown(NamedTuple):
    """A diagram, from `begin` to `end` (virtual seconds); so many further arrows were `left_out`."""

    arrows: list[Arrow]
    marks: list[Mark]
    lives: list[Life]
    begin: float
    end: float
    left_out: int


def _asked_for(content: Content) -> str:
    """What a client asked for, the first of several commands."""
    if content.base is not None:
        return "collection"
    first, *others = (show_command(asked.command) for asked in content.commands)
    return f"{first[:_LONGEST]} +{len(others)}" if others else first[:_LONGEST]


def _link(sender: Row, receiver: Row, message: Any) -> tuple[Row, Row, str, tuple[InstanceId, ...]]:
    return sender, receiver, type(message).__name__, places_of(message)
