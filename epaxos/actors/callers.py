"""The connections of clients: at which level each is answered, and of which members it has been told.

Clients that are told when members come and go find those that are there once all that they began with have gone
(`client.directory`). So each connection is told with its first frame, and again when an epoch begins, whether it asks
for anything or not: who goes may leave soon after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from epaxos import version
from epaxos.config import Config
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import NOBODY, Configuration

_MOST: Final = 10_000
"""Connections that are known at a time. One that is forgotten is answered in the oldest level, which all know, until it
speaks again."""


class Roster(NamedTuple):
    """The members of an epoch as `me` tells clients of them: the body of a MEMBERS frame."""

    epoch: int
    me: Name
    members: list[tuple[Name, str, int, int]]


def roster_of(config: Config, me: Name, configuration: Configuration) -> Roster | None:
    """Who takes part in an epoch; None in the first one, of which clients have read, and in one of nobody's.

    Where they are `Config.members_of` says.
    """
    if not configuration.epoch or NOBODY in configuration.names:
        return None
    moved = {
        name: member.moved for name, member in zip(configuration.names, configuration.members, strict=False)
    }
    members = [
        (name, *(("", 0) if at is None else (at.host, at.client_port)), moved.get(name, 0))
        for name, at in config.members_of(configuration).items()
    ]
    return Roster(configuration.epoch, me, members)


class Callers:
    """The connections of a replica's clients; `send` tells one of them who the members are."""

    def __init__(self, send: Callable[[bytes, Roster], None]) -> None:
        self._send = send
        self._levels: dict[bytes, int] = {}
        self._roster: Roster | None = None

    def level_of(self, identity: bytes) -> int:
        """The level of the last frame that came over a connection."""
        return self._levels.get(identity, version.OLDEST)

    def note(self, identity: bytes, level: int) -> None:
        """A frame of this level has come over a connection."""
        if self._levels.get(identity) == level:
            return
        if len(self._levels) >= _MOST:
            self._levels.clear()
        is_new = identity not in self._levels
        self._levels[identity] = level
        if is_new and self._roster is not None:
            self._send(identity, self._roster)

    def tell(self, roster: Roster | None) -> None:
        """Others are members now."""
        self._roster = roster
        if roster is not None:
            for identity in self._levels:
                self._send(identity, roster)
