"""The coming and going of a replica: when it takes part, when it serves clients, and how it takes leave."""

from __future__ import annotations

import logging
from operator import ge
from typing import Final

from epaxos.actors.assembly import Parts
from epaxos.actors.clients import Clients
from epaxos.actors.durability import Durability
from epaxos.actors.health import Standing, no_quorum
from epaxos.actors.peers import Peers
from epaxos.actors.post import Post
from epaxos.config import Config
from epaxos.protocol.ids import Name, Vector
from epaxos.protocol.membership import called

_log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""Seconds that a replica which drains may take."""

_PATIENCE: Final = 1.0
"""Seconds that a replica which begins anew waits for all of its peers, and says nothing of that it waits."""


_LOST: Final = "it hears nobody who could order commands"


class Presence:
    """How far a replica is in coming, since `born`, and in going.

    takes_part  whether it promises anything: its peers know it
    is_current  whether it hears a quorum, and has executed what had been decided there by then
    drain       since it has been told to stop: how far it is in that
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        clients: Clients,
        peers: Peers,
        post: Post,
        durability: Durability,
        standing: Standing,
        born: float,
    ) -> None:
        self._config = config
        self._parts = parts
        self._stats = parts.stats
        self._clients = clients
        self._peers = peers
        self._post = post
        self._durability = durability
        self._standing = standing
        self._born = born
        self._to_reach: dict[Name, Vector] = {}
        self._lost = self._waits = False
        self._had_quorum = self._stats.has_quorum
        looks_on = parts.eras.running.row is None
        self.takes_part = parts.resumes or parts.configuration.n == 1 or peers.settled or looks_on
        self.is_current = False
        self.drain: Draining | None = None

    # -- coming --------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See whether clients are better off elsewhere."""
        if not self.is_current:
            self.come_up(now)
        elif self._lost != self._parts.core.lost:
            self.note_lost()

    def come_up(self, now: float) -> None:
        """See whether this replica can vote, and then whether it can serve.

        One that begins anew waits until its peers know it, for `_PATIENCE` all of them: one that
        knew another of this name refuses it, and then it has promised nothing. It serves once it hears a quorum and
        has executed what had been decided there by then: before, a client would wait here for what it gets at once
        elsewhere. One that loses its quorum serves on, but begins no sessions before it has come to that again.
        """
        if self._parts.eras.running.row is None:
            observes = self._parts.observes and self._parts.as_of is not None
            self._stats.observing.observes = self._parts.observes
            self.is_current = self._standing.started = self._clients.observes = observes
            if self._parts.observes and self.drain is None and not self._standing.trouble:
                voters = ", ".join(map(called, self._parts.configuration.names))
                self._clients.away = f"it observes, and has no vote; ask one that has: {voters}"
            return
        if not self.takes_part:
            self._see_who_knows(now)
        remotes = self._post.remotes
        to_reach = [
            vector for peer, vector in self._to_reach.items() if peer in remotes and remotes[peer].online
        ]
        if not self.takes_part or len(to_reach) < self._stats.quorum - 1:
            return
        executed = self._parts.core.status().executed
        if all(all(map(ge, executed, vector)) for vector in to_reach):
            self.is_current = self._standing.started = True
            self._to_reach.clear()
            self._lost = False
            if self.drain is None and not self._standing.trouble:
                self._clients.away = None

    def _see_who_knows(self, now: float) -> None:
        configuration = self._parts.configuration
        others = set(configuration.names) - {self._parts.me}
        known = others & self._peers.acknowledged
        patient = now < self._born + _PATIENCE
        wanted = len(others) if patient else configuration.pins_of(self._parts.me)
        if len(known) >= wanted:
            self._peers.settle()
            self.takes_part = True
        elif not (patient or self._waits):
            self._waits = True
            reason = (
                f"a new cluster begins once each replica is known to {wanted} others, and this one is known to "
                f"{', '.join(sorted(known)) or 'none'} of {', '.join(sorted(others))}"
            )
            _log.warning("it waits: %s", reason)
            if self._clients.away is not None and self.drain is None:
                self._clients.away = reason

    def note_lost(self) -> None:
        """Send clients elsewhere while nothing that they ask for gets anywhere from here, and take them again then."""
        self._lost = self._parts.core.lost
        if self.drain is None and not self._standing.trouble:
            if self._lost:
                self._clients.send_away(_LOST, stuck=True)
                self._parts.watchers.send_away(_LOST)
            else:
                self._clients.away = None

    def note_to_reach(self, peer: Name, committed: Vector) -> None:
        """A peer tells how far it is: that is to be reached, unless it told so since this replica hears a quorum."""
        if not self.is_current and (not self._stats.has_quorum or peer not in self._to_reach):
            self._to_reach[peer] = committed

    def note_quorum(self) -> None:
        """A peer has come or gone: without a quorum nothing is known of what is decided meanwhile."""
        if self._stats.has_quorum == self._had_quorum:
            return
        self._had_quorum = self._stats.has_quorum
        if self._parts.eras.running.row is None:
            self.is_current = False
        elif self._had_quorum:
            _log.info("quorum: hears %s", ", ".join(self._stats.heard))
        else:
            self.is_current = False
            self._parts.watchers.send_away("it hears no quorum")
            _log.warning("%s; until then nothing commits here", no_quorum(self._stats))

    def begin_epoch(self) -> None:
        """What peers have told of how far they are means nothing in another epoch."""
        self._to_reach.clear()
        if self._clients.observes or self._parts.observes:
            self.is_current = self._clients.observes = self._stats.observing.observes = False
        self.note_quorum()

    # -- going ---------------------------------------------------------------------------------------------

    @property
    def drains(self) -> bool:
        """Whether it has been told to stop."""
        return self.drain is not None

    @property
    def left(self) -> bool:
        """Whether it has taken leave."""
        return self.drain is not None and self.drain.left

    @property
    def deadline(self) -> float:
        """When it leaves, whatever is left to do."""
        return float("inf") if self.drain is None else self.drain.until

    def begin_to_drain(self, now: float) -> None:
        """It has been told to stop."""
        self._standing.draining = True
        self.drain = Draining(now, now + GRACE)
        if not self._standing.trouble:
            self._clients.send_away("it is stopping")
        self._parts.watchers.send_away("it is stopping")

    def go_on_draining(self, now: float) -> bool:
        """Leave once nothing of this replica's own is left to do, or there is no more time for it; whether it has."""
        drain = self.drain
        assert drain is not None
        open_ = max(self._parts.core.in_flight, self._clients.answers.waiting)
        if now < drain.until and not self._standing.trouble:
            if open_:
                return False
            drain.finished = drain.finished or now
            drain.checkpointed = self._durability.finish(drain.finished, now)
            if not drain.checkpointed:
                return False
        drain.left = True
        if not self._standing.trouble:
            self._post.leave(now)
        self._standing.farewell = self._farewell(drain, now - drain.since, open_)
        return True

    def _farewell(self, drain: Draining, seconds: float, open_: int) -> str:
        """How it ended, for the last line of the log."""
        if self._standing.trouble:
            return "its disk had failed, so there was nothing to finish"
        if not open_:
            rest = (
                ""
                if drain.checkpointed
                else "; there was no time for a checkpoint, so the next start is slower"
            )
            return f"all that was taken is answered, and peers and clients know ({seconds:.2f} s){rest}"
        return (
            f"after {seconds:.1f} s with {self._clients.answers.waiting} commands of clients unanswered; what of them "
            "is under way is for the other replicas to finish"
        )


class Draining:
    """How far a Replica is in stopping: since when, how long it may take, when all was finished; what is done."""

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        self.finished = 0.0
        self.checkpointed = self.left = False
