"""The keys of a store in order: what finds a page of those with a prefix without walking through all.

**Who never asks pays nothing.** Each new key would cost some 3 µs, more than all else that is done to execute its
write, so the index is made when a page, a count or a clear is first asked for: a slice with each command that executes,
and until it is complete all keys are walked through, 0.15 µs each (decision 0041). What a walk has found
stands until a key comes or goes, so that many who ask the same at once walk once.

**What has been inserted is told by the dictionary.** It keeps the order of insertion, so the keys that the index does
not know yet are its last ones, as many as it lacks. Hence a write that replaces a value costs nothing, and a column of
writes one comparison of two lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest, nsmallest
from itertools import filterfalse, islice
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from epaxos.statemachine.operations import GROUP_MAP, PAGE_BYTES, RECORDS
from epaxos.statemachine.results import weigh_value

_SLICE: Final = 500
"""Keys that are taken into the index beside a command that executes, and"""

_ASKED: Final = 30_000
"""where somebody asks: some tens of milliseconds."""

_PAST_OWN: Final = b"\1"
"""Above all keys that are the service's own."""


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


class OrderedKeys:
    """The keys of `data`, in order; `note` is to follow what inserts.

    The service's own keys are in no page and not counted.
    """

    __slots__ = ("_again", "_data", "_index", "_known", "_pending", "_walked", "_wanted")

    def __init__(self, data: dict[bytes, bytes]) -> None:
        self._data = data
        self._index = SortedList()
        self._wanted = False
        self._pending: list[bytes] = []
        """Keys that were there when the index was first wanted, and are not in it yet; some may have gone."""
        self._again: set[bytes] = set()
        """What has been inserted since then, perhaps once more; while some are pending."""
        self._known = 0
        """How many keys of `data` are in the index, or among those."""
        self._walked: tuple[Range, list[bytes]] | None = None
        """What the last walk found; while it is true, and some are pending."""

    def note(self) -> None:
        """Take in what has been inserted since the last call, and some of what was there before."""
        if self._wanted:
            self._absorb(_SLICE)

    def remove(self, key: bytes) -> None:
        """A key goes; it is in `data` still."""
        if self._wanted:
            self._absorb(0)
            self._walked = None
            self._index.discard(key)
            self._known -= 1

    def _absorb(self, most: int) -> None:
        data, index, pending = self._data, self._index, self._pending
        if new := len(data) - self._known:
            inserted = list(islice(reversed(data), new))
            index.update(inserted)
            self._known += new
            self._walked = None
            if pending:
                self._again.update(inserted)
        if pending and most:
            some, pending[-most:] = pending[-most:], []
            index.update([key for key in some if key in data and key not in self._again])
            if not pending:
                self._again.clear()
                self._walked = None

    def _ask(self) -> bool:
        """Whether the index can tell all; it comes nearer to that."""
        if not self._wanted:
            self._wanted = True
            self._pending, self._known = list(self._data), len(self._data)
        self._absorb(_ASKED)
        return not self._pending

    def _has_walked(self, keys: Range) -> bool:
        """Whether a walk through a range has been made, and is true still."""
        if self._walked is not None:
            self._absorb(0)
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
