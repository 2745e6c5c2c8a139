"""The keys of a store in order: what finds a page of those with a prefix without walking through all.

**Who never asks pays nothing.** Each new key would cost some 3 µs, more than all else that is done to execute its
write, so the index is made when a page, a count or a clear is first asked for, in steps of about a millisecond, which a
replica takes between its rounds (`actors.lists`). Who asks before it is complete has all keys walked through, 0.15 µs
each (decision 0041): few come to that, since a replica holds lists back until then. What a walk has found stands until
a key comes or goes, so that many who ask the same at once walk once.

**What has been inserted is told by the dictionary.** It keeps the order of insertion, so the keys that the index does
not know yet are its last ones, as many as it lacks. Hence a write that replaces a value costs nothing, and a column of
writes one comparison of two lengths.

**Sorted runs, then one merge of them**: a third of what it costs to put keys that come in no order into their places
one by one, where each comparison meets another place in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge, nlargest, nsmallest
from itertools import filterfalse, islice
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from epaxos.statemachine.operations import GROUP_MAP, PAGE_BYTES, RECORDS
from epaxos.statemachine.results import weigh_value

_PAST_OWN: Final = b"\1"
"""Above all keys that are the service's own."""

_RUN: Final = 4
"""How many times as many keys are sorted in a step as are merged in one: both take as long."""

_INSERTED: Final = 4
"""What part of them is put into its place one by one in a step."""


PACE: Final = 1000
"""Keys that are merged in a step of about a millisecond."""

_FEW: Final = 10
"""So many times as many are walked through in one."""


class Range(NamedTuple):
    """The keys from `low` up to, not including, `high`, or all from there on; `low` itself only if `inclusive`."""

    low: bytes
    high: bytes | None
    inclusive: bool = True

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        above = key > self.low or (self.inclusive and key == self.low)
        return above and (self.high is None or key < self.high)


def range_of(prefix: bytes, after: bytes | None = None, *, reverse: bool = False) -> Range:
    """The keys that begin with a prefix, and come after another in the order that is asked for."""
    stem = prefix.rstrip(b"\xff")
    low, high = prefix, stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
    if after is None:
        return Range(low, high)
    if reverse:
        return Range(low, after if high is None else min(after, high))
    return Range(low, high) if after < low else Range(after, high, inclusive=False)


class _Index(SortedList):  # type: ignore[misc]  # it comes without types
    """A sorted list to which what comes after all that is in it is added without looking for its place."""

    def extend_sorted(self, keys: list[bytes]) -> None:
        """Add keys in order, all after those here."""
        self._lists.append(keys)
        self._maxes.append(keys[-1])
        self._len += len(keys)
        self._index.clear()

    def let_go(self, most: int) -> bool:
        """Nobody asks for anything here any more: free about `most` keys; whether there are more."""
        del self._lists[-max(1, most // self._load) :]
        return bool(self._lists)


class OrderedKeys:
    """The keys of `data`, in order; `note` is to follow what inserts.

    The service's own keys are in no page and not counted.
    """

    __slots__ = (
        "_data",
        "_gone",
        "_index",
        "_known",
        "_later",
        "_merged",
        "_names",
        "_pace",
        "_runs",
        "_walked",
        "_wanted",
    )

    def __init__(self, data: dict[bytes, bytes], pace: int = PACE) -> None:
        self._data = data
        self._pace = pace
        self._index = _Index()
        self._wanted = False
        self._names: list[bytes] = []
        """Of the keys that were there when it was first wanted, those that are in no run yet; some may have gone."""
        self._runs: list[list[bytes]] = []
        self._merged: Iterator[bytes] | None = None
        """The rest of all runs in order; None before they are merged, and once they are."""
        self._later: set[bytes] = set()
        """What has been inserted since the index was wanted, is there, and is not in the index."""
        self._gone: set[bytes] = set()
        """What has gone since then; while that may be in a run."""
        self._known = 0
        """How many keys of `data` are in the index, or among those."""
        self._walked: tuple[Range, list[bytes]] | None = None
        """What the last walk found; while it is true, and the index is not complete."""

    @property
    def unfinished(self) -> bool:
        """Whether the index has been begun, and cannot tell all yet."""
        return bool(self._names or self._runs or self._later)

    @property
    def at_hand(self) -> bool:
        """Whether a page is found without a long walk: the index is complete, or there are few keys."""
        return len(self._data) <= _FEW * self._pace or (self._wanted and not self.unfinished)

    def begin(self) -> None:
        """Have an index: from now on `step` makes it."""
        if not self._wanted:
            self._wanted = True
            self._names, self._known = list(self._data), len(self._data)

    def step(self) -> bool:
        """Come nearer to a complete index; whether it is."""
        self.note()
        step = self._pace
        if self._names:
            run = self._names[-_RUN * step :]
            del self._names[-_RUN * step :]
            run.sort()
            self._runs.append(run)
        elif self._runs:
            self._merge(step)
        else:
            inserted = max(1, step // _INSERTED)
            self._index.update([self._later.pop() for _ in range(min(inserted, len(self._later)))])
        if self.unfinished:
            return False
        self._walked = None
        return True

    def _merge(self, most: int) -> None:
        self._merged = self._merged or merge(*self._runs)
        some = list(islice(self._merged, most))
        if not some:
            self._merged = None
            self._runs.clear()
            self._gone.clear()
        if self._gone:
            some = list(filterfalse(self._gone.__contains__, some))
        if some:
            self._index.extend_sorted(some)

    def note(self) -> None:
        """Take in what has been inserted since the last call."""
        if not self._wanted:
            return
        if new := len(self._data) - self._known:
            inserted = islice(reversed(self._data), new)
            if self._names or self._runs:
                self._later.update(inserted)
            else:
                self._index.update(inserted)
            self._known += new
            self._walked = None

    def remove(self, key: bytes) -> None:
        """A key goes; it is in `data` still."""
        if not self._wanted:
            return
        self.note()
        self._walked = None
        self._known -= 1
        if key in self._later:
            self._later.remove(key)
            return
        if self._names or self._runs:
            self._gone.add(key)
        self._index.discard(key)

    def let_go(self, most: int) -> bool:
        """Nobody asks for anything here any more: free about `most` keys; whether there are more."""
        return self._index.let_go(most)

    def _ask(self) -> bool:
        """Whether the index can tell all; it comes nearer to that, for as long as a walk takes."""
        self.begin()
        self.note()
        steps = 1 + len(self._data) // (_FEW * self._pace)
        return not self.unfinished or any(self.step() for _ in range(steps))

    def _has_walked(self, keys: Range) -> bool:
        """Whether a walk through a range has been made, and is true still."""
        if self._walked is not None:
            self.note()
        return self._walked is not None and self._walked[0] == keys

    def _walk(self, keys: Range) -> list[bytes]:
        """The keys of a range, without the index, and in no order."""
        if self._walked is not None and self._walked[0] == keys:
            return self._walked[1]
        low, high, inclusive = keys
        found = [key for key in self._data if key > low]
        if inclusive and low in self._data:
            found.append(low)
        if high is not None:
            found = [key for key in found if key < high]
        if low < _PAST_OWN:
            found = [key for key in found if not is_own(key)]
        self._walked = keys, found
        return found

    def count(self, prefix: bytes) -> int:
        """How many keys begin with a prefix."""
        keys = range_of(prefix)
        if self._has_walked(keys) or not self._ask():
            return len(self._walk(keys))
        own = self._within(range_of(RECORDS)) if RECORDS.startswith(prefix) else 0
        own += GROUP_MAP.startswith(prefix) and GROUP_MAP in self._data
        return self._within(keys) - own

    def _within(self, keys: Range) -> int:
        below: int = len(self._index) if keys.high is None else self._index.bisect_left(keys.high)
        above: int = self._index.bisect_left(keys.low)
        return below - above

    def _following(self, prefix: bytes, after: bytes | None, limit: int, *, reverse: bool) -> Iterator[bytes]:
        """At least the first so many keys of a page, if there are as many."""
        keys = range_of(prefix, after, reverse=reverse)
        if self._ask():
            found = self._index.irange(keys.low, keys.high, (keys.inclusive, False), reverse)
            return filterfalse(is_own, found)
        first = nlargest if reverse else nsmallest
        return iter(first(limit, self._walk(keys)))

    def page(
        self,
        prefix: bytes,
        after: bytes | None,
        limit: int,
        room: int = PAGE_BYTES,
        *,
        values: bool = False,
        reverse: bool = False,
    ) -> tuple[list[bytes], bytes | None]:
        """The first keys that begin with a prefix and come after another, at most `limit`; then the next one, if any.

        A page ends too where keys, and with `values` those, would take more than `room` bytes of a result.
        """
        found: list[bytes] = []
        for key in self._following(prefix, after, limit + 1, reverse=reverse):
            room -= weigh_value(key) + (weigh_value(self._data[key]) if values else 0)
            if found and (len(found) == limit or room < 0):
                return found, key
            found.append(key)
        return found, None


def is_own(key: bytes) -> bool:
    """Whether a key is the service's own."""
    return key < _PAST_OWN and (key.startswith(RECORDS) or key == GROUP_MAP)
