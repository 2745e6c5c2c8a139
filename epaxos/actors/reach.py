"""Whom a replica sends to: those who take part in an epoch that it knows, and those who have spoken to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from epaxos.actors.assembly import Parts
from epaxos.actors.peers import Peers
from epaxos.actors.post import Post
from epaxos.actors.remote import Remote
from epaxos.config import Config
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import called

_FAREWELL: Final = 10
"""Time-outs after which one that is silent, and takes part in no epoch that is known, is not looked for any more."""


class Reach:
    """Sees to it that there is a Remote for each of those, once it is known where it is; `make` makes one."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        peers: Peers,
        post: Post,
        make: Callable[[Name, tuple[str, int]], Remote],
    ) -> None:
        self._patience = _FAREWELL * config.timeout
        self._parts = parts
        self._peers = peers
        self._post = post
        self._make = make
        self._places: dict[Name, tuple[str, int]] = {}
        self._came: dict[Name, float] = {}
        own = config.replica(called(parts.me))
        self._here = own.host, own.port
        self._seeds = {one.name for one in config.replicas if (one.host, one.port) != self._here}

    def look(self) -> None:
        """See who has come, and who is of no interest any more."""
        audience, remotes = self._audience(), self._post.remotes
        for peer in sorted(audience):
            place = self._peers.place_of(peer)
            if place in (None, self._here) or (peer in remotes and place == self._places[peer]):
                continue
            if peer in remotes:
                self._post.disconnect(peer)  # it has moved
            self._places[peer] = place
            self._post.connect(peer, self._make(peer, place))
        for peer in remotes.keys() - audience:
            self._post.disconnect(peer)

    def _audience(self) -> set[Name]:
        """Whom to tell how far this replica is, but those in whose place there is a member.

        Of one that lost its disk and was replaced at its address nobody is there any more (protocol 6.10). But one that
        is to join may be at the address of the member whose place it is to take, and does not look for that there.

        Who is to join itself looks for whom its file has, until it hears who is there: that may be another one.
        """
        eras, place_of = self._parts.eras, self._peers.place_of
        if eras.joins:
            met = set(map(place_of, eras.audience))
            return eras.audience | {seed for seed in self._seeds if place_of(seed) not in met}
        members = eras.running.names
        taken = set(map(place_of, members)) - {None}
        gone = {
            peer for peer in eras.audience.difference(members) if place_of(peer) in taken and eras.knows(peer)
        }
        for peer in gone:
            eras.forget(peer)
        return eras.audience - gone

    def look_again(self, now: float) -> None:
        """The same, and let go of those who were last heard long ago and are no members.

        So it does with guests that have not said for as long that they hear this replica: whoever makes up names takes
        places from others for no longer than that.
        """
        self._came = {peer: self._came.get(peer, now) for peer in self._peers.guests}
        mute = self._came.keys() - self._peers.acknowledged
        for peer, remote in self._post.remotes.items():
            since = self._came[peer] if peer in mute else remote.last_heard
            if now > since + self._patience:
                self._parts.eras.forget(peer)
        self.look()
        if self._peers.guests:
            self._release()

    def _release(self) -> None:
        """Let go of guests that cannot be reached, and make room for others in place of who has gone."""
        eras = self._parts.eras
        for peer in eras.audience - self._post.remotes.keys():
            eras.forget(peer)
        audience = self._audience()
        self._places = {peer: place for peer, place in self._places.items() if peer in audience}
        self._peers.release(audience)
        for era in eras.all:
            era.release(audience)
