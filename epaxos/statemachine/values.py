"""The keys and values that a replica holds, whatever commands do to them; and what stood there at one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final

from epaxos.protocol.log import drain
from epaxos.statemachine.expiry import Expiring, same
from epaxos.statemachine.operations import PAGE_KEYS
from epaxos.statemachine.ordered import OrderedKeys

_ASIDE: Final = 150_000
"""Keys after which values are put aside in another dictionary: at 175,000 one takes 7 ms to grow."""


class Frozen:
    """What stood in a store at one moment, without a copy: what is overwritten later is put aside, until `release`.

    In dictionaries of some size, since a large one stops the thread when it grows; of a key the first of them counts.

    `cleared` are the keys that have gone since the moment before by commands that do not name them.
    """

    __slots__ = ("_aside", "_data", "cleared")

    def __init__(self, data: dict[bytes, bytes], cleared: Iterable[dict[bytes, None]] = ()) -> None:
        self._data = data
        self.cleared = list(cleared)
        self._aside: list[dict[bytes, bytes | None]] = []

    def put_aside(self, keys: Sequence[bytes]) -> None:
        """What stands under some keys is about to change, perhaps."""
        if not self._aside or len(self._aside[-1]) > _ASIDE:
            self._aside.append({})
        deque(map(self._aside[-1].setdefault, keys, map(self._data.get, keys)), maxlen=0)

    def lacking(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of the keys that were not put aside."""
        return [key for key in keys if not any(key in aside for aside in self._aside)]

    def forget(self, most: int) -> bool:
        """Let go of about so many values that were put aside, and are not asked for any more; False if none is left."""
        while self._aside and not self._aside[-1]:
            self._aside.pop()
        if self._aside:
            last = self._aside[-1]
            deque(map(dict.popitem, repeat(last, min(most, len(last)))), maxlen=0)
        return bool(self._aside)

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some keys at that moment, None for those that had none."""
        values: Iterable[bytes | None] = map(self._data.get, keys)
        for aside in reversed(self._aside):
            values = map(aside.get, keys, values)
        return list(values)


class Values:
    """Keys with their values, some of which end.

    While a checkpoint is written, values of before are put aside (`Frozen`), at 100 ns for each key of a command that
    writes; nothing is noted else.
    """

    __slots__ = ("_cleared", "_data", "_frozen", "_ordered", "_timed")

    def __init__(self, pace: int) -> None:
        self._data: dict[bytes, bytes] = {}
        self._ordered = OrderedKeys(self._data, pace)
        self._cleared: list[dict[bytes, None]] = []
        self._frozen: Frozen | None = None
        self._timed: list[bytes] = []

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._data)

    @property
    def order(self) -> OrderedKeys:
        """The keys in order, as far as that has come."""
        return self._ordered

    def copy(self) -> dict[bytes, bytes]:
        """A copy of all keys and values; the values are shared, so it costs a few pointers a key."""
        return self._data.copy()

    def let_go(self, most: int) -> bool:
        """Nobody asks for anything here any more: free about `most` keys; whether there are more."""
        return drain((self._data,), most) or self._ordered.let_go(most)

    def freeze(self) -> Frozen:
        """What stands here now; it will stay to be had until `release`, or until this is called again."""
        self._frozen = Frozen(self._data, self._cleared)
        self._cleared = []
        return self._frozen

    def release(self) -> None:
        """What was frozen is not asked for any more."""
        self._frozen = None

    def _put_aside(self, keys: Sequence[bytes]) -> None:
        """What stands under some keys is about to change, perhaps."""
        if self._frozen is not None:
            self._frozen.put_aside(keys)

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Take keys and values from a checkpoint of this replica: they are no change."""
        taken = list(items)
        self._data.update(taken)
        self._timed += [key for key, value in taken if type(value) is Expiring]
        self._ordered.note()

    def put(self, key: bytes, value: bytes | None) -> bool:
        """Set a key, or remove it; whether that was a change."""
        self._put_aside((key,))
        if value is None:
            return self._remove(key)
        if same(self._data.get(key), value):
            return False
        self._set(key, value)
        self._ordered.note()
        return True

    def _remove(self, key: bytes) -> bool:
        """Remove a key; whether there was one."""
        if key not in self._data:
            return False
        self._ordered.remove(key)
        del self._data[key]
        return True

    def _set(self, key: bytes, value: bytes) -> None:
        """Set a key to a value that may end."""
        self._data[key] = value
        if type(value) is Expiring:
            self._timed.append(key)

    def take_timed(self) -> list[bytes]:
        """The keys that may have been given a value that ends since the last call."""
        timed, self._timed = self._timed, []
        return timed

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if it has none."""
        return self._data.get(key)

    def page_of(self, prefix: bytes, after: bytes | None, room: int) -> tuple[list[bytes], list[bytes], bool]:
        """The next keys with a prefix, at least one if there is one, their values, and whether there are more."""
        page, following = self._ordered.page(prefix, after, PAGE_KEYS, room, values=True)
        return page, list(map(self._data.__getitem__, page)), following is not None
