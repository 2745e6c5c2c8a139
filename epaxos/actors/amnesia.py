"""What to say to and of a replica that has forgotten what it promised (protocol 4.11c)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from epaxos.actors.assembly import Parts
from epaxos.config import Config
from epaxos.errors import EpaxosError
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import NOBODY, called

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
        f"begin with an empty one and `epaxos serve --join`, and let it in with `epaxos member replace {name} {name}`: "
        f"the {name} of before may have promised what nobody remembers (docs/backup.md)"
    )


def no_rejoin(config: Config, name: str) -> str:
    """Why a replica that lost its data is not let back in."""
    return (
        f"{name} cannot rejoin a cluster in which it has voted: without its promises it could help to decide an "
        f"instance a second time, differently. If its data is there, start it without --rejoin; else "
        f"{advice(config, name)}"
    )


class RefusedByPeers(EpaxosError):
    """So many peers refuse this replica that it can form no quorum."""


class Refusals:
    """Which peers do not listen to this replica.

    One peer that knows another process under this name is enough to stop: two replicas that lost their memory and
    listen to each other would be a quorum that has forgotten what it promised (protocol 4.11c).

    unheard  whether nobody will ever listen to what this replica's directory begins
    """

    def __init__(self, config: Config, parts: Parts, promised: Callable[[], bool]) -> None:
        self._config = config
        self._parts = parts
        self._promised = promised
        self._by: set[Name] = set()
        self.unheard = False

    def forget(self, peer: Name) -> None:
        """A peer hears this replica and is heard: whatever was wrong when it refused has been put right."""
        self._by.discard(peer)

    def add(self, peer: Name, text: str, *, acknowledged: bool) -> RefusedByPeers | None:
        """A peer refuses this replica; why there is no point in going on, if there is none.

        `acknowledged` is whether a peer has ever said that it knows this replica. A guest's refusal says nothing of
        this replica: where it is to be reached it says itself, and it may be of a cluster that is gone.
        """
        kind, _, reason = text.partition(": ")
        if not (self._parts.eras.votes(peer) or NOBODY in self._parts.configuration.names):
            _log.warning("%s, which has no vote, refuses this replica: %s", peer, reason)
            return None
        if peer in self._by:
            return None
        self._by.add(peer)
        _log.error("peer %s refuses this replica: %s", peer, reason)
        if kind not in ("duplicate_name", "old_copy") and len(self._by) <= self._parts.configuration.f:
            return None
        names = ", ".join(sorted(self._by))
        # Nobody will ever listen to what a directory begins that is refused like this; but who has once will never
        # listen to another one.
        refused = kind in ("duplicate_name", "stranger") or len(self._by) == self._parts.configuration.n - 1
        self.unheard = refused and not acknowledged
        forgotten = self._forgotten() if kind in ("duplicate_name", "stranger") else ""
        return RefusedByPeers(f"refused by {names}: {reason}{forgotten}")

    def _forgotten(self) -> str:
        """Which of the two causes of a refusal it is, where this replica can tell."""
        name = called(self._parts.me)
        directory = directory_of(self._config, name)
        if self._promised() or directory is None:
            return ""
        removed = self._parts.disk.engine.made and self.unheard
        what = "was new, and is removed again" if removed else "holds nothing"
        return f". Its data directory {directory} {what}: see that storage.directory leads to that of {name}"
