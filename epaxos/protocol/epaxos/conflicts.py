"""Which instances touch which keys: the indexes `known` and `executed` (protocol 4.2, 4.4).

For each row two dictionaries, key -> highest slot that reads it and key -> highest slot that writes it. `known` is
over the payload of every instance ever learned, whatever became of it: an annulled command keeps its conflicts, or
two commands could each be committed without the other (protocol 3.1, 3.2). `executed` is over what has executed and
was not annulled. Both only grow, and outlive the instances that they speak of (protocol 3.6, 4.10).

**Commands on all keys** (protocol 4.15). What reads all, and for what does so whatever writes a key, stands in the same
dictionaries under a key of its own, `ALL`. What writes all raises `base`, like a collection.

**Collections** (protocol 4.13) conflict with everything. So each index has two vectors beside its dictionaries:
`highest`, the highest slot of each row whatever it touches, which a collection depends on; and `base`, the collections
themselves, the bases that they carry, and what writes all, which every command depends on. What stands by key at or
below `base` says no more than that does, and goes.

One dictionary per row, not one vector per key, because whole columns of keys then pass through C-level
builtins: recording a batch is one `update`, and looking one up is one `isdisjoint` per row, which
misses in 13 ns a key where `max(map(get))` takes 32 ns and a Python loop over vectors 200 ns.

**Keys that other rows need not be asked for.** Most keys are touched by the clients of one replica, so of one row, and
to find that out took one lookup in each other row. A key that the own row has written, and that is not among those that
are `_shared`, was compared when it came first: whenever something comes into a row that conflicts with what another
one has, the key is noted there. So only keys that are new in their row, and shared ones, are looked for elsewhere.

Whoever conflicts with the last instance of a row, which has the highest slot, need look for no other there. So that one
is looked for first wherever the command before has met it; where a key is hot most do, at the first key that is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, KeysView, Reversible, Sequence, ValuesView
from itertools import compress, filterfalse, islice, repeat
from operator import gt, not_
from typing import Final, NamedTuple, Protocol

from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Value

ALL: Final = b""
"""The key under which a row has the highest slot that reads all, and that writes anything; no command names it."""

_OVERHEAD: Final = 500
"""Bytes that an instance is counted with beside its payload, for records and objects."""

_COPIED: Final = 150_000
"""Keys of a dictionary of `known` that is copied in one go, at most: 1.2 ms, and several on a busy machine."""

_CHEAPER: Final = 4
"""How many keys are read off in the time in which one of a command is gathered."""

_CONTENDED: Final = 2_000
"""Shared keys above which all are looked for in all rows: to note ever more of them costs more than it spares."""

_SHRINKS: Final = 4
"""A dictionary keeps its size when it is emptied; a copy takes its place when no more than one in so many is left."""


class Joined(NamedTuple):
    """What a step of `Conflicts.join` has brought.

    column       where, as `Conflicts.column` counts
    keys, slots  what has been raised, to what
    written      the keys that have been written, but for such as another step names
    """

    column: int
    keys: Sequence[bytes]
    slots: Sequence[Slot]
    written: Reversible[bytes]


class Touching(Protocol):
    """What an index has to know of a command (`protocol.command`)."""

    @property
    def reads(self) -> Sequence[bytes]:
        """See `Command`."""
        ...

    @property
    def writes(self) -> Sequence[bytes]:
        """See `Command`."""
        ...

    @property
    def reads_all(self) -> bool:
        """See `Command`."""
        ...

    @property
    def writes_all(self) -> bool:
        """See `Command`."""
        ...

    @property
    def base(self) -> Vector | None:
        """See `Command`."""
        ...


class _Compared(NamedTuple):
    """Of a command of a row that `deps` was asked for: keys that are new there, if some may conflict elsewhere."""

    command: Touching
    row: Row
    reads: Collection[bytes]
    writes: Collection[bytes]


class Conflicts:
    """One such index of one replica, over n rows.

    One that `compares` rows is asked for many commands before they are added, with their rows, as `known` is.
    """

    def __init__(self, n: int, *, compares: bool = False) -> None:
        self._shared: set[bytes] | None = set() if compares else None
        self._compared: _Compared | None = None
        self._reads: list[dict[bytes, Slot]] = [{} for _ in range(n)]
        self._writes: list[dict[bytes, Slot]] = [{} for _ in range(n)]
        self.highest: list[Slot] = [-1] * n
        self.base: list[Slot] = [-1] * n
        self._walked: list[Slot] = [-1] * n
        self._met_last: list[bool] = [False] * n

    def add(self, place: InstanceId, command: Touching) -> None:
        """Remember what an instance reads and writes; adding it again changes nothing."""
        row, slot = place
        ascending = slot >= self.highest[row]
        self.note(place, command)
        reads, writes = command.reads, command.writes
        compared, self._compared = self._compared, None
        if compared is not None and compared.command is command and compared.row == row:
            self._share(row, compared.reads, compared.writes)
        else:
            self._share(row, reads, writes)
        for index, keys, all_ in (
            (self._reads[row], reads, command.reads_all),
            (self._writes[row], writes, writes),
        ):
            if ascending:
                index.update(zip(keys, repeat(slot)))  # 50 ns a key; by a dictionary of them 77
            else:
                index.update({key: slot for key in keys if index.get(key, -1) < slot})
            if all_ and (ascending or index.get(ALL, -1) < slot):
                index[ALL] = slot

    def note(self, place: InstanceId, command: Touching) -> None:
        """Remember of an instance what the vectors beside the keys say."""
        row, slot = place
        self.highest[row] = max(slot, self.highest[row])
        if command.base is not None:
            self.base[:] = map(max, self.base, command.base)
        if command.base is not None or command.writes_all:
            self.base[row] = max(slot, self.base[row])

    def cover(self, place: InstanceId, command: Touching) -> None:
        """The same but for what `base` speaks for already, and `forget` would have to look for."""
        if command.base is None and place.slot <= self.base[place.row]:
            self.highest[place.row] = max(place.slot, self.highest[place.row])
        else:
            self.add(place, command)

    def _share(self, row: Row, reads: Collection[bytes], writes: Collection[bytes]) -> None:
        """Note which of the keys that a row is about to read and write conflict with another one."""
        shared = self._shared
        if shared is None:
            return
        for other, (read, written) in enumerate(zip(self._reads, self._writes, strict=True)):
            for index, keys in ((written, writes), (read, writes), (written, reads)) if other != row else ():
                if index and keys and not index.keys().isdisjoint(keys):
                    shared |= index.keys() & keys
        if len(shared) > _CONTENDED:
            self._shared = None

    def deps(self, command: Command, row: Row | None = None, *, own: bool = True) -> Vector:
        """The highest conflicting slot of every row, -1 where there is none.

        The instance that the command belongs to, of this row if one is told, must not have been added yet. An acceptor
        leaves out that row, as it is not its `own`: there the keys of its clients have been touched before, which is
        what takes long to look up.
        """
        if command.base is not None:
            found = list(map(max, self.highest, self.base, command.base))
        elif command.writes_all:
            found = list(map(max, self.highest, self.base))
        else:
            found = list(map(max, self._conflicts(command, row, own=own), self.base))
        if row is not None and not own:
            found[row] = -1
        return tuple(found)

    def _conflicts(self, command: Command, row: Row | None, *, own: bool) -> list[Slot]:
        """The highest conflicting slot by key of every row."""
        reads, writes = command.reads, command.writes
        shared = self._shared
        if row is None or shared is None:
            return [self._conflicting(at, command, reads, writes) for at in range(len(self.base))]
        there = self._writes[row].__contains__
        new_reads = list(filterfalse(there, reads)) if reads else []
        new_writes = list(filterfalse(there, writes))
        asked_reads = [*new_reads, *shared.intersection(reads)] if shared else new_reads
        asked_writes = [*new_writes, *shared.intersection(writes)] if shared else new_writes
        found = [
            -1 if at == row else self._conflicting(at, command, asked_reads, asked_writes)
            for at in range(len(self.base))
        ]
        apart = max(found) < 0
        self._compared = _Compared(command, row, () if apart else new_reads, () if apart else new_writes)
        if own:
            found[row] = self._conflicting(row, command, reads, writes)
        return found

    def writers(self, keys: Sequence[bytes]) -> Vector:
        """The highest slot of every row that writes one of some keys, or all, or that `base` speaks for."""
        return tuple(
            max(_highest(written, keys), base) for written, base in zip(self._writes, self.base, strict=True)
        )

    def _conflicting(
        self, row: Row, command: Command, reads: Sequence[bytes], writes: Sequence[bytes]
    ) -> Slot:
        """The highest slot of a row that reads or writes what a command writes, or writes what it reads.

        Of its keys all others than these are known not to conflict there.
        """
        read, written = self._reads[row], self._writes[row]
        last = self.highest[row]
        if self._met_last[row] and (last in map(written.get, writes) or last in map(written.get, reads)):
            return last
        highest = max(_highest(written, writes), _highest(read, writes))
        if command.writes:
            highest = max(read.get(ALL, -1), highest)
        if command.reads_all:
            highest = max(written.get(ALL, -1), highest)
        elif reads:
            highest = max(_highest(written, reads), highest)
        self._met_last[row] = highest == last
        return highest

    def join(
        self, later: Conflicts, since: Sequence[Slot], above: Sequence[Slot], most: int, *, tells: bool
    ) -> Iterator[Joined | None]:
        """Take in another index, some keys at a time; `since` is what `highest` was before the first of several.

        Of each row only what is `above` a slot. Its vectors come first, so nothing but `deps` may be asked before the
        end; what is at or below `base` by then is left out. If it `tells`, all keys that are written are named here or
        have been since then, some several times; to find that out takes longer than all the rest.
        """
        before = tuple(self.highest)
        self.raise_vectors(tuple(later.highest), tuple(later.base))
        self._shared = None  # what joins is compared with no other row
        for column, (index, theirs) in enumerate(zip(self.tables, later.tables, strict=True)):
            row = column % len(before)
            names = tells and column >= len(before)
            others = list(zip(later._writes, above, strict=True))[: names * row]
            items = iter(theirs.items())
            for _ in range(0, len(theirs), most):
                some = {key: slot for key, slot in islice(items, most) if slot > above[row]}
                written: Reversible[bytes] = some if names else ()
                if ALL in some and names:
                    written = list(filter(None, written))
                for other, below in others:
                    if not other.keys().isdisjoint(written):
                        written = [key for key in written if other.get(key, -1) <= below]
                if names and before[row] > since[row]:
                    named = map(gt, map(index.get, written, repeat(-1)), repeat(since[row]))
                    written = list(compress(written, map(not_, named)))
                base = self.base[row]
                floor = max(before[row], base)
                if above[row] < floor and min(some.values(), default=floor) <= floor:
                    items_above = ((key, slot) for key, slot in some.items() if slot > base)
                    some = {key: slot for key, slot in items_above if index.get(key, -1) < slot}
                index.update(some)
                yield Joined(column, list(some), list(some.values()), written) if tells else None

    @property
    def tables(self) -> tuple[dict[bytes, Slot], ...]:
        """By column: n dictionaries of those that read, then n of those that write."""
        return (*self._reads, *self._writes)

    def copy_row(self, row: Row, other: Conflicts) -> None:
        """Hold of the keys of a row what another index has, as it is now; 8 ns a key."""
        self._shared = None
        self._reads[row], self._writes[row] = other._reads[row].copy(), other._writes[row].copy()

    def slots(self, column: int) -> ValuesView[Slot]:
        """The slots of a column, key by key."""
        return self.tables[column].values()

    @property
    def largest(self) -> int:
        """How many keys the largest dictionary has."""
        return max(map(len, self.tables))

    def count(self, column: int) -> int:
        """How many keys a column has slots of."""
        return len(self.tables[column])

    def keys(self, column: int) -> KeysView[bytes]:
        """The keys that a column has slots of."""
        return self.tables[column].keys()

    def column(self, column: int, keys: Sequence[bytes]) -> list[Slot]:
        """The slots of some keys in a column: the first n are of those that read them, then n of those that write."""
        return _column(self.tables[column], keys)

    def raise_column(self, column: int, keys: Sequence[bytes], slots: Sequence[Slot]) -> list[bool]:
        """Take over what another index, or an earlier one, says of some keys, where that is higher; of which it is.

        But for what is at or below `base` already.
        """
        index, row = self.tables[column], column % len(self.base)
        self._compared = None
        self._share(row, *((keys, ()) if column < len(self.base) else ((), keys)))
        higher = list(map(gt, slots, map(index.get, keys, repeat(self.base[row]))))
        index.update(zip(compress(keys, higher), compress(slots, higher), strict=True))
        self.highest[row] = max(self.highest[row], max(slots, default=-1))
        return higher

    def __len__(self) -> int:
        """How many entries there are by key."""
        return sum(map(len, (*self._reads, *self._writes)))

    def forget(self, most: int) -> Iterator[None]:
        """Drop the entries at or below `base`, which speaks for them now, looking at `most` in a step.

        Only rows are walked in which `base` is higher than when that was last done: none is taken in below it.
        """
        for row, base in enumerate(self.base):
            if base > self._walked[row]:
                self._walked[row] = base
                for indexes in (self._reads, self._writes):
                    before = len(indexes[row])
                    yield from _forget(indexes[row], base, most)
                    if len(indexes[row]) < before / _SHRINKS:
                        indexes[row] = indexes[row].copy()

    def raise_vectors(self, highest: Vector, base: Vector) -> None:
        """Take over what another index, or an earlier one, says of whole rows, where that is higher."""
        self.highest[:] = map(max, self.highest, highest)
        self.base[:] = map(max, self.base, base)


class Executed(NamedTuple):
    """What is kept of an executed instance until the next cut: as objects, since its payload may let go of its own.

    size      bytes that it takes in the log
    annulled  whether it did nothing
    is_lean   whether its keys are not kept; the payload, which is in the log until then, has them
    """

    place: InstanceId
    size: int
    reads: Sequence[bytes] = ()
    writes: Sequence[bytes] = ()
    base: Vector | None = None
    reads_all: bool = False
    writes_all: bool = False
    annulled: bool = False
    is_lean: bool = False

    def lean(self) -> Executed:
        """The same without its keys: those of 1.2 million commands were 68 of the 185 MB of a replica."""
        return self if self.annulled else self._replace(reads=(), writes=(), is_lean=True)


def executed_of(place: InstanceId, value: Value | None) -> Executed:
    """The same of an instance with this value; None stands for none that is known."""
    size = size_of(value)
    if value is NOP or value is None:
        return Executed(place, size, annulled=True)
    reads, writes, base = value.reads, value.writes, value.base
    return Executed(place, size, reads, writes, base, value.reads_all, value.writes_all)


def size_of(value: Value | None) -> int:
    """About how many bytes its instance takes; no column that a payload has let go of is made again for it."""
    return _OVERHEAD if value is NOP or value is None else _OVERHEAD + value.size


def is_read_off(known: Conflicts, touched: float) -> bool:
    """Whether to read off a copy of what is `known` takes less than to gather so many keys, and stops no round."""
    return _CHEAPER * touched > len(known) and known.largest <= _COPIED


def sees(deps: Vector, row: Row, place: InstanceId, command: Command) -> bool:
    """Whether an instance of `row` with these deps covers another one, of `command`; a collection with its base."""
    covered = place.slot <= deps[place.row]
    return covered and (command.base is None or covers_base(deps, row, command.base))


def covers_base(deps: Vector, row: Row, base: Sequence[Slot]) -> bool:
    """Whether the dependencies of an instance of `row` cover all of a base but for that row.

    There only its owner speaks of conflicts, and it may have spoken before it knew the base.
    """
    return all(slot <= deps[other] for other, slot in enumerate(base) if other != row)


def _forget(index: dict[bytes, Slot], base: Slot, most: int) -> Iterator[None]:
    keys = list(index)
    for start in range(0, len(keys), most):
        for key in [key for key in keys[start : start + most] if index.get(key, base + 1) <= base]:
            del index[key]
        yield


def _highest(index: dict[bytes, Slot], keys: Sequence[bytes]) -> Slot:
    """The highest slot under any of the keys."""
    if not index or not keys or index.keys().isdisjoint(keys):
        return -1
    return max(map(index.get, keys, repeat(-1)))


def _column(index: dict[bytes, Slot], keys: Sequence[bytes]) -> list[Slot]:
    if not index or index.keys().isdisjoint(keys):
        return [-1] * len(keys)
    return list(map(index.get, keys, repeat(-1)))
