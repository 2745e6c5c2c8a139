"""Which earlier instances a command interferes with: the `known` index (protocol 4.2, 4.4).

For each row two dictionaries, key -> highest slot that reads it and key -> highest slot that writes it, over
the payload of every instance ever learned, whatever became of it. The index only grows: an annulled command
keeps its conflicts, or two commands could each be committed without the other (protocol 3.1, 3.2).

One dictionary per row, not one vector per key, because whole columns of keys then pass through C-level
builtins: recording a batch is one `dict.update`, and looking one up is one `isdisjoint` per row, which
misses in 13 ns a key where `max(map(get))` takes 32 ns and a Python loop over vectors 200 ns.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import repeat

from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Slot, Vector


class Conflicts:
    """The `known` index of one replica over n rows."""

    def __init__(self, n: int) -> None:
        self._reads: list[dict[bytes, Slot]] = [{} for _ in range(n)]
        self._writes: list[dict[bytes, Slot]] = [{} for _ in range(n)]
        self._highest: list[Slot] = [-1] * n

    def add(self, place: InstanceId, command: Command) -> None:
        """Remember what an instance reads and writes; adding it again changes nothing."""
        row, slot = place
        ascending = slot >= self._highest[row]
        self._highest[row] = max(slot, self._highest[row])
        for index, keys in ((self._reads[row], command.reads), (self._writes[row], command.writes)):
            if ascending:
                index.update(dict.fromkeys(keys, slot))
            else:
                index.update({key: slot for key in keys if index.get(key, -1) < slot})

    def deps(self, command: Command) -> Vector:
        """The highest conflicting slot of every row, -1 where there is none.

        The instance that the command belongs to must not have been added yet.
        """
        reads, writes = command.reads, command.writes
        if not reads:
            return tuple(
                max(_highest(written, writes), _highest(read, writes))
                for written, read in zip(self._writes, self._reads, strict=True)
            )
        return tuple(
            max(_highest(written, reads), _highest(written, writes), _highest(read, writes))
            for written, read in zip(self._writes, self._reads, strict=True)
        )


def _highest(index: dict[bytes, Slot], keys: Collection[bytes]) -> Slot:
    """The highest slot under any of the keys."""
    if not index or not keys or index.keys().isdisjoint(keys):
        return -1
    return max(map(index.get, keys, repeat(-1)))
