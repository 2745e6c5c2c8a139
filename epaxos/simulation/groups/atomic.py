"""Transactions over all groups: committed only if all have voted so, in all or in none, and as was told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from epaxos.groups.transaction import Fate
from epaxos.simulation.checkers.violation import ViolationError


class Atomic:
    """What groups did with each transaction, by the key of its record."""

    def __init__(self) -> None:
        self._prepared: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._ended: defaultdict[bytes, dict[bytes, bool]] = defaultdict(dict)
        self._all: dict[bytes, Sequence[bytes]] = {}
        self._told: dict[bytes, bool] = {}

    def happened(self, group: bytes, key: bytes, committed: bool | None, groups: Any) -> None:  # noqa: FBT001 - as it is told
        """A group has prepared a transaction, or ended it.

        Raises:
            ViolationError: it must not.
        """
        self._all[key] = [name for name, _ in groups]
        if committed is None:
            self._prepared[key].add(group)
            return
        self._ended[key][group] = committed
        missing = set(self._all[key]) - self._prepared[key]
        if committed and missing:
            raise _violated(key, f"is committed in {group!r}, and {sorted(missing)} are not prepared")
        self._compare(key)

    def told(self, key: bytes, fate: Fate | None) -> None:
        """Somebody drives a transaction and knows what became of it.

        Raises:
            ViolationError: that is not so.
        """
        if fate not in (None, Fate.OVER):
            committed = fate is Fate.COMMITTED
            if self._told.setdefault(key, committed) != committed:
                raise _violated(key, "was told as committed and as aborted")
            self._compare(key)

    def _compare(self, key: bytes) -> None:
        fates = {*self._ended[key].values(), *filter(lambda told: told is not None, [self._told.get(key)])}
        if len(fates) > 1:
            raise _violated(
                key, f"ended as {self._ended[key]}, and was told as committed: {self._told.get(key)}"
            )

    def check_end(self) -> None:
        """See that what is committed anywhere is so everywhere.

        Raises:
            ViolationError: it is not.
        """
        for key, ended in self._ended.items():
            if True in ended.values() and set(ended) != set(self._all[key]):
                raise _violated(key, f"is committed in {sorted(ended)} of {sorted(self._all[key])}")
        for key, committed in self._told.items():
            if committed and True not in self._ended[key].values():
                raise _violated(key, "was told as committed, and no group has executed it")


def _violated(key: bytes, text: str) -> ViolationError:
    return ViolationError("atomic", f"transaction {key[-16:].hex()} {text}")
