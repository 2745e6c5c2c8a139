"""What leaves for peers: an outbox for each, handed to its Remote once a round has done what must come before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import zmq

from epaxos.actors.link import Mark, Outgoing, outgoing
from epaxos.actors.remote import Heard, Remote
from epaxos.protocol.ids import Row
from epaxos.transport.codec import encode_message
from epaxos.transport.pages import PAGES, PeerMessage

Sending: TypeAlias = tuple[Sequence[Row], PeerMessage]
"""Receivers and a message."""

ROOM: Final = 1024 * 1024
"""Bytes that may wait for a peer while more is proposed."""

_OVERTAKING: Final = frozenset(kind for page in PAGES.values() for kind in page.overtaking)


class Outbox:
    """What goes to one peer at the end of the round."""

    __slots__ = ("deferrable", "messages")

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.deferrable: list[Outgoing] = []


class Post:
    """The outboxes of replica `row`, and the Remotes of its peers, which it is given when they run (`connect`)."""

    def __init__(self, row: Row, peers: Sequence[Row]) -> None:
        self._row = row
        self._outboxes = {peer: Outbox() for peer in peers}
        self.remotes: Mapping[Row, Remote] = {}

    @property
    def peers(self) -> list[Row]:
        """Those to whom something may go."""
        return list(self._outboxes)

    # -- a round -------------------------------------------------------------------------------------------

    def put(self, messages: Sequence[Sending], mark: Mark) -> list[Any]:
        """Put messages of an epoch into the outboxes; return those to this replica itself."""
        own = []
        for receivers, message in messages:
            leaving = None
            for receiver in receivers:
                if receiver == self._row:
                    own.append(message)
                else:
                    leaving = leaving or outgoing_of(message, mark)
                    self._outboxes[receiver].messages.append(leaving)
        return own

    def put_off(self, messages: Sequence[Sending], mark: Mark) -> None:
        """Put in messages that may wait for others."""
        for receivers, message in messages:
            leaving = outgoing_of(message, mark)
            for receiver in receivers:
                self._outboxes[receiver].deferrable.append(leaving)

    def send(self, now: float) -> None:
        """Hand each Remote what there is for its peer."""
        for peer, outbox in self._outboxes.items():
            if outbox.messages or outbox.deferrable:
                self.remotes[peer].send(now, outbox.messages, outbox.deferrable)
                self._outboxes[peer] = Outbox()

    def hear(self, heard: Mapping[Row, Heard]) -> None:
        """Tell each Remote what has come of its peer."""
        for sender, last in heard.items():
            self.remotes[sender].hear(last)

    def go_on(self, now: float) -> None:
        """Have each Remote do what is due."""
        for remote in self.remotes.values():
            remote.run_waiting()
            if remote.link.waiting:
                remote.link.drain()
            if remote.deadline <= now:
                remote.tick(now)

    # -- how the links do ----------------------------------------------------------------------------------

    @property
    def online(self) -> list[Row]:
        """The peers that are."""
        return [row for row, remote in self.remotes.items() if remote.online]

    @property
    def deadline(self) -> float:
        """When `go_on` is due even if nothing arrives."""
        return min((remote.deadline for remote in self.remotes.values()), default=float("inf"))

    def has_room(self, quorum: int) -> bool:
        """Whether the links to a quorum have room for one more instance.

        Where they have not, commands are better off here: they become fewer and larger instances, and nobody takes
        what waits in a queue for an instance that its owner left undecided.
        """
        roomy = sum(remote.link.waiting < ROOM for remote in self.remotes.values())
        return roomy >= quorum - 1

    def blocked(self) -> list[zmq.Socket[bytes]]:
        """The sockets for which something waits."""
        return [remote.link.ordered for remote in self.remotes.values() if remote.link.waiting]

    # -- from one state to another -------------------------------------------------------------------------

    def hasten(self) -> None:
        """Have all hear a beacon at once."""
        for remote in self.remotes.values():
            remote.hasten()

    def leave(self, now: float) -> None:
        """Say to all that this replica is about to end; nothing may be sent after that."""
        for remote in self.remotes.values():
            remote.leave(now)

    def end(self) -> None:
        """Send nothing more."""
        for remote in self.remotes.values():
            remote.end()


def outgoing_of(message: PeerMessage, mark: Mark) -> Outgoing:
    """A message of an epoch as it leaves."""
    kind = type(message)
    return outgoing(kind.__name__, encode_message(message, mark.level), kind in _OVERTAKING, mark)
