"""The last changes at a replica, in the order in which they executed, as far as they are kept.

**An entry is an instance**, with what its commands changed; one of which nothing is told, a no-op say, moves positions
all the same. Entries are numbered. What is older than a bound of bytes allows is dropped, and the *floor* rises: the
position up to which changes may be missing here, for they were dropped, executed while nobody watched or before a
restart, or came by a checkpoint, which says what is and not what happened. Whoever has been told all up to the floor
misses nothing here (`reaches`), and nobody else is told anything but that.

**A lane** holds those changes whose keys begin with one prefix, for all who watch that. So a change is compared with
the prefixes of one length at once, however many they are, and costs those who watch others nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from epaxos.protocol.ids import InstanceId, Vector
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.notes import BESIDE, Chunk, Notes
from epaxos.statemachine.ordered import is_own
from epaxos.watching.position import Executed, Position

_OWN: Final = 0  # with this byte keys of the service itself begin, and perhaps others
_CUTS: Final = 100
"""Epochs of which it is known how they ended."""

_APART: Final = 256
"""Entries between two of which it is noted what had executed."""

_LOOKS: Final = 4096
"""Changes that are looked at for one answer, some 2 ms."""


class Entry(NamedTuple):
    """What has executed: an instance of an epoch, or with None the end of the epoch before `epoch`, of `rows` rows."""

    epoch: int
    place: InstanceId | None
    chunks: Sequence[Chunk] = ()
    weight: int = BESIDE
    rows: int = 0


class Lane:
    """The changes of keys with one prefix, as columns: the number of each one's entry, its key, its value."""

    __slots__ = ("keys", "lost", "numbers", "prefix", "values")

    def __init__(self, prefix: bytes, first: int) -> None:
        self.prefix = prefix
        self.lost = first - 1
        """The number of the last entry of which changes may be missing here."""
        self.numbers: list[int] = []
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []

    def add(self, number: int, key: bytes, value: bytes | None) -> None:
        """A change of the last entry."""
        self.numbers.append(number)
        self.keys.append(key)
        self.values.append(value)

    def drop(self, first: int) -> None:
        """Entries before this one have gone; take them out when they are the most of it."""
        if self.numbers and self.numbers[0] < first:
            gone = bisect_left(self.numbers, first)
            self.lost = max(self.lost, self.numbers[gone - 1])
            if 2 * gone >= len(self.numbers):
                del self.numbers[:gone], self.keys[:gone], self.values[:gone]


class _Place(NamedTuple):
    """What had executed before the entry with a number."""

    number: int
    position: Position


class Changes(NamedTuple):
    """What a watcher is to be told: keys and values in order, its position then, and from where to go on.

    `number` and `skip` are the entry that comes next and how many changes in its lane have been told of it. `whole` is
    whether there is no more for now.
    """

    keys: list[bytes]
    values: list[bytes | None]
    position: Position
    number: int
    skip: int
    whole: bool


class History:
    """The history of one replica; `most` bytes of changes are kept while it `records`.

    `begin` is to be called first. What has executed is told by `executed` in its order, each instance once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._notes: Notes | None = None
        self._machine: StateMachine | None = None
        self._now = Executed(0, ())
        self._floor = self._now
        self._cuts: dict[int, Position] = {}
        self._position: Position | None = None
        self._places: list[_Place] = []
        self._entries: list[Entry] = []
        self._base = 0  # the number of the first of the list
        self.first = 0
        """The number of the first entry that is kept."""
        self._weight = 0
        self._lanes: dict[int, dict[bytes, Lane]] = defaultdict(dict)
        self.grown: dict[Lane, None] = {}
        """The lanes in which there is something new, until they are taken out."""

    @property
    def records(self) -> bool:
        """Whether changes are kept."""
        return self._notes is not None

    @property
    def next(self) -> int:
        """The number of the next entry."""
        return self._base + len(self._entries)

    @property
    def position(self) -> Position:
        """What has executed."""
        if self._position is None:
            self._position = self._now.position()
        return self._position

    @property
    def epoch(self) -> int:
        """The running epoch."""
        return self._now.epoch

    def rows_of(self, epoch: int) -> int | None:
        """How many rows the running epoch, or one before it, has; None if that is not known."""
        if epoch == self._now.epoch:
            return len(self._now.rows)
        cut = self._cuts.get(epoch)
        return None if cut is None else len(cut.rows)

    @property
    def weight(self) -> int:
        """The bytes that are kept, about."""
        return self._weight

    # -- what happens at the replica -----------------------------------------------------------------------

    def begin(
        self, machine: StateMachine, epoch: int, count: int, frontier: Vector, above: Iterable[InstanceId]
    ) -> None:
        """Begin, or begin again, in an epoch with so many rows, with a machine in which all this has executed."""
        self._machine = machine
        self._now = Executed(epoch, [()] * count)
        self._now.add_all(frontier, above)
        machine.note(self._notes)
        self._forget()

    def executed(self, place: InstanceId) -> None:
        """An instance of the running epoch has executed."""
        self._now.add(place)
        self._position = None
        if self._notes is None:
            return
        chunks, weight = self._notes.take()
        if chunks is None:
            self._forget()
        else:
            self._append(Entry(self._now.epoch, place, chunks, weight + BESIDE))

    def adopted(self, frontier: Vector, above: Iterable[InstanceId]) -> None:
        """A peer's checkpoint has been merged, in which all this had executed: of its changes nobody knows."""
        self._now.add_all(frontier, above)
        if self._notes is not None:
            self._notes.take()
        self._forget()

    def turned(self, count: int, cut: Vector) -> None:
        """The epoch has ended with this cut, which has executed, and the next one begins, with so many rows."""
        rows = tuple((0, slot + 1) if slot >= 0 else () for slot in cut)
        self._cuts[self._now.epoch] = Position(self._now.epoch, rows)
        if len(self._cuts) > _CUTS:
            del self._cuts[min(self._cuts)]
        self._now.begin(self._now.epoch + 1, count)
        self._position = None
        if self._notes is not None:
            self._append(Entry(self._now.epoch, None, rows=count))

    def record(self) -> None:
        """Keep what changes from now on."""
        if self._notes is None and self._machine is not None:
            self._notes = Notes(self._most)
            self._machine.note(self._notes)
            self._forget()

    def stop(self) -> None:
        """Keep nothing any more."""
        if self._notes is not None and self._machine is not None:
            self._notes = None
            self._machine.note(None)
            self._lanes.clear()
            self.grown.clear()
            self._forget()

    def _forget(self) -> None:
        """All up to now may be missing here; no number from before is of use any more."""
        self.first = self._base = self.next + 1
        self._entries.clear()
        self._places.clear()
        self._weight = 0
        self._floor, self._position = self._now.copy(), None
        for lanes in self._lanes.values():
            for lane in lanes.values():
                lane.drop(self.first)
                lane.lost = self.first - 1
                self.grown[lane] = None  # whoever waits there has to be told

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._weight += entry.weight
        if self._lanes:
            self._feed(self.next - 1, entry.chunks, self._lanes.items())
        if self.next % _APART == 0:
            self._places.append(_Place(self.next, self.position))
        if self._weight > self._most:
            self._drop()

    def _drop(self) -> None:
        while self._weight > self._most and self.first < self.next:
            entry = self._entries[self.first - self._base]
            self.first += 1
            self._weight -= entry.weight
            if entry.place is None:
                self._floor.begin(entry.epoch, entry.rows)
            else:
                self._floor.add(entry.place)
        gone = self.first - self._base
        if 2 * gone >= len(self._entries):
            del self._entries[:gone]
            self._base = self.first
            del self._places[: bisect_left(self._places, self.first, key=_number_of)]
            for lanes in self._lanes.values():
                for lane in lanes.values():
                    lane.drop(self.first)

    def _feed(
        self, number: int, chunks: Sequence[Chunk], lanes: Iterable[tuple[int, dict[bytes, Lane]]]
    ) -> None:
        grown = self.grown
        for length, of_length in lanes:
            for keys, values in chunks:
                for key, value in zip(keys, values, strict=True):
                    lane = of_length.get(key[:length])
                    if lane is not None and not (key[0] == _OWN and is_own(key)):
                        lane.add(number, key, value)
                        grown[lane] = None

    # -- what watchers ask ---------------------------------------------------------------------------------

    @property
    def lengths(self) -> set[int]:
        """Those of the prefixes that have lanes; each costs all that changes something."""
        return set(self._lanes)

    def lane(self, prefix: bytes) -> Lane | None:
        """The changes of keys that begin with a prefix, if it has a lane."""
        return self._lanes[len(prefix)].get(prefix) if len(prefix) in self._lanes else None

    def add_lanes(self, prefixes: Iterable[bytes]) -> None:
        """Have lanes for these prefixes, which have none, from now on too; it takes a walk over all that is kept."""
        new: dict[int, dict[bytes, Lane]] = defaultdict(dict)
        for prefix in prefixes:
            new[len(prefix)][prefix] = self._lanes[len(prefix)][prefix] = Lane(prefix, self.first)
        for number in range(self.first, self.next):
            self._feed(number, self._entries[number - self._base].chunks, new.items())

    def leave(self, lane: Lane) -> None:
        """Nobody watches a prefix any more."""
        lanes = self._lanes[len(lane.prefix)]
        lanes.pop(lane.prefix, None)
        if not lanes:
            del self._lanes[len(lane.prefix)]
        self.grown.pop(lane, None)

    def holds(self, lane: Lane, number: int) -> bool:
        """Whether the changes in a lane of the entry with this number, and of all after it, are kept."""
        lane.drop(self.first)
        return lane.lost < number <= self.next

    def start(self, since: Position) -> int:
        """The number of an entry before which somebody who `reaches` this knows all, one of the last of these."""
        lowest = bisect_left(self._places, self.first, key=_number_of)
        index = bisect_right(
            self._places, False, lowest, key=lambda place: not since.includes(place.position)
        )
        return self.first if index == lowest else self._places[index - 1].number

    def reaches(self, since: Position) -> bool:
        """Whether somebody who knows of all in a position finds here all that it does not know of."""
        floor = self._floor.position()
        if since.epoch >= floor.epoch:
            return since.includes(floor)
        cut = self._cuts.get(since.epoch)
        ended = since.epoch == floor.epoch - 1 and cut is not None and since.includes(cut)
        return ended and not any(floor.rows)

    def changes(
        self, lane: Lane, since: Position, number: int, skip: int, upto: bytes | None, most: int
    ) -> Changes:
        """What is in a lane from an entry on and not in a position: about `most` bytes, and at least one.

        `skip` changes of that entry have been told. `upto` is the last key of those that are told; None for all. Where
        many are passed over, it is not the whole, and perhaps nothing.
        """
        keys, values = list[bytes](), list[bytes | None]()
        index, current, new = bisect_left(lane.numbers, number) + skip, -1, False
        end = min(index + _LOOKS, len(lane.numbers))
        while index < end:
            if lane.numbers[index] != current:
                current = lane.numbers[index]
                entry = self._entries[current - self._base]
                assert entry.place is not None
                new = not since.contains(entry.epoch, entry.place)
            key, value = lane.keys[index], lane.values[index]
            if new and (upto is None or key <= upto):
                most -= BESIDE + len(key) + len(value or b"")
                if keys and most < 0:
                    break
                keys.append(key)
                values.append(value)
            index += 1
        if index >= len(lane.numbers):
            return Changes(keys, values, since.joined(self.position), self.next, 0, whole=True)
        current = lane.numbers[index]
        told = index - bisect_left(lane.numbers, current)
        return Changes(keys, values, self._after(since, current), current, told, whole=False)

    def _after(self, since: Position, end: int) -> Position:
        """A position, and what has executed before the entry with the number `end`, which is kept.

        An instance is in it with its last change, or else one that is told in two parts would lose the second of them
        where the first one's position is gone on from.
        """
        index = bisect_right(self._places, end, key=_number_of) - 1
        if index >= 0 and self._places[index].number > self.first:
            begin, position = self._places[index]
        else:
            begin, position = self.first, self._floor.position()
        before = Executed(position.epoch, position.rows)
        for entry in self._entries[begin - self._base : end - self._base]:
            if entry.place is None:
                before.begin(entry.epoch, entry.rows)
            else:
                before.add(entry.place)
        return since.joined(before.position())


def _number_of(place: _Place) -> int:
    return place.number
