"""What leaves for peers: an outbox for each, handed to its Remote once a round has done what must come before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import zmq

from epaxos.actors.assembly import Era
from epaxos.actors.link import Mark, Outgoing, outgoing
from epaxos.actors.remote import Heard, Remote
from epaxos.protocol.ids import Name, Row
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
    """The outboxes of a replica, and the Remotes of its peers, from `connect` on; peers are known by their names."""

    def __init__(self) -> None:
        self._outboxes: dict[Name, Outbox] = {}
        self.remotes: dict[Name, Remote] = {}

    def connect(self, peer: Name, remote: Remote) -> None:
        """Send to a peer by this Remote from now on."""
        self.remotes[peer] = remote
        self._outboxes[peer] = Outbox()

    def disconnect(self, peer: Name) -> None:
        """Send nothing more to a peer."""
        del self._outboxes[peer]
        self.remotes.pop(peer).end()

    # -- a round -------------------------------------------------------------------------------------------

    def put(self, messages: Sequence[Sending], era: Era) -> list[Any]:
        """Put messages of an epoch into the outboxes of who has these rows there; return those to this replica itself.

        Who has no outbox cannot be reached, and that is like a loss on the way.
        """
        own = []
        for receivers, message in messages:
            leaving = None
            for receiver in receivers:
                if receiver == era.row:
                    own.append(message)
                elif outbox := self._outboxes.get(era.name_of(receiver)):
                    leaving = leaving or outgoing_of(message, era.mark)
                    outbox.messages.append(leaving)
        return own

    def put_off(self, messages: Sequence[Sending], era: Era) -> None:
        """Put in messages that may wait for others."""
        for receivers, message in messages:
            leaving = outgoing_of(message, era.mark)
            for receiver in receivers:
                if outbox := self._outboxes.get(era.names[receiver]):
                    outbox.deferrable.append(leaving)

    def dispatch(
        self, messages: Sequence[Sending], deferrable: Sequence[Sending], era: Era, now: float
    ) -> list[Any]:
        """Put in what there is, and hand all to the Remotes; return the messages to this replica itself."""
        own = self.put(messages, era) if messages else []
        if deferrable:
            self.put_off(deferrable, era)
        self.send(now)
        return own

    def put_for(self, peer: Name, message: PeerMessage, mark: Mark) -> None:
        """Put in a message to a peer, whether it has a row or not."""
        if outbox := self._outboxes.get(peer):
            outbox.messages.append(outgoing_of(message, mark))

    def send(self, now: float) -> None:
        """Hand each Remote what there is for its peer."""
        for peer, outbox in self._outboxes.items():
            if outbox.messages or outbox.deferrable:
                self.remotes[peer].send(now, outbox.messages, outbox.deferrable)
                self._outboxes[peer] = Outbox()

    def hear(self, heard: Mapping[Name, Heard]) -> float:
        """Tell each Remote what has come of its peer; return when `go_on` is due by that, infinity if not.

        Of those that are online the one with the least name sets the pace: the others send their beacons when its own
        come, so that these travel with the echoes and wake nobody once more.
        """
        beats = []
        for sender, last in heard.items():
            if sender in self.remotes:
                self.remotes[sender].hear(last)
                if last.beat is not None:
                    beats.append(sender)
        if beats and (first := min(self.online, default="")) in beats and self.remotes[first].sets_pace:
            return min(remote.keep_pace(heard[first].now) for remote in self.remotes.values())
        return float("inf")

    def go_on(self, now: float) -> None:
        """Have each Remote do what is due."""
        for remote in self.remotes.values():
            if remote.actor_inbox.envelopes:
                remote.run_waiting()
            if remote.link.waiting:
                remote.link.drain()
            if remote.deadline <= now:
                remote.tick(now)

    # -- how the links do ----------------------------------------------------------------------------------

    @property
    def online(self) -> list[Name]:
        """The peers that are."""
        return [peer for peer, remote in self.remotes.items() if remote.online]

    @property
    def deadline(self) -> float:
        """When `go_on` is due even if nothing arrives."""
        due = float("inf")
        for remote in self.remotes.values():
            if (its := remote.deadline) < due:
                due = its
        return due

    def has_room(self, era: Era) -> bool:
        """Whether the links to a quorum of an epoch have room for one more instance.

        Where they have not, commands are better off here: they become fewer and larger instances, and nobody takes
        what waits in a queue for an instance that its owner left undecided.
        """
        remotes = self.remotes
        roomy = 0
        for name in era.names:
            if name in remotes and remotes[name].link.waiting < ROOM:
                roomy += 1
        return roomy >= era.quorum - 1

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
