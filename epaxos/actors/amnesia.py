"""What to say to and of a replica that has forgotten what it promised (protocol 4.11c)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from epaxos.actors.assembly import Parts
from epaxos.config import Config
from epaxos.errors import EpaxosError
from epaxos.protocol.ids import Row

_log = logging.getLogger(__name__)


def directory_of(config: Config, name: str) -> Path | None:
    """Where a replica keeps what it promises; None if only in its memory."""
    return None if config.storage.engine == "memory" else config.storage.directory_of(name)


def advice(config: Config, name: str) -> str:
    """What to do about a replica that was started without its data."""
    if directory_of(config, name) is None:
        return "storage engine 'memory' keeps nothing, so restart the whole cluster"
    return (
        f"give {name} back the data directory that it last ran with, not an earlier copy of it. If that is lost, "
        f"{name} cannot come back under its name: it may have promised what nobody remembers. The others go on "
        "without it; to have all replicas again, make a new cluster of what one of them holds, with `epaxos backup` "
        "and `epaxos restore` (docs/backup.md)"
    )


def no_rejoin(config: Config, name: str) -> str:
    """Why a replica that lost its data is not let back in."""
    return (
        f"{name} cannot rejoin a cluster in which it has voted: without its promises it could help to decide an "
        "instance a second time, differently, and a cluster cannot replace a member yet. If its data is there, start "
        f"it without --rejoin; else {advice(config, name)}"
    )


class RefusedByPeers(EpaxosError):
    """So many peers refuse this replica that it can form no quorum."""


class Refusals:
    """Which peers do not listen to this replica, of which `row` is in the file.

    One peer that knows another process under this name is enough to stop: two replicas that lost their memory and
    listen to each other would be a quorum that has forgotten what it promised (protocol 4.11c).

    unheard  whether nobody will ever listen to what this replica's directory begins
    """

    def __init__(self, config: Config, row: Row, parts: Parts, promised: Callable[[], bool]) -> None:
        self._config = config
        self._row = row
        self._parts = parts
        self._promised = promised
        self._by: set[Row] = set()
        self.unheard = False

    def forget(self, peer: Row) -> None:
        """A peer hears this replica and is heard: whatever was wrong when it refused has been put right."""
        self._by.discard(peer)

    def add(self, peer: Row, text: str, *, acknowledged: bool) -> RefusedByPeers | None:
        """A peer refuses this replica; why there is no point in going on, if there is none.

        `acknowledged` is whether a peer has ever said that it knows this replica.
        """
        if peer in self._by:
            return None
        self._by.add(peer)
        kind, _, reason = text.partition(": ")
        _log.error("peer %s refuses this replica: %s", self._config.replicas[peer].name, reason)
        if kind not in ("duplicate_name", "old_copy") and len(self._by) <= self._parts.configuration.f:
            return None
        names = ", ".join(self._config.replicas[row].name for row in sorted(self._by))
        # Nobody will ever listen to what a directory begins that is refused like this; but who has once will never
        # listen to another one.
        refused = kind == "duplicate_name" or len(self._by) == self._config.n - 1
        self.unheard = refused and not acknowledged
        forgotten = self._forgotten() if kind == "duplicate_name" else ""
        return RefusedByPeers(f"refused by {names}: {reason}{forgotten}")

    def _forgotten(self) -> str:
        """Which of the two causes of a refusal it is, where this replica can tell."""
        name = self._config.replicas[self._row].name
        directory = directory_of(self._config, name)
        if self._promised() or directory is None:
            return ""
        removed = self._parts.disk.engine.made and self.unheard
        what = "was new, and is removed again" if removed else "holds nothing"
        return f". Its data directory {directory} {what}: see that storage.directory leads to that of {name}"
