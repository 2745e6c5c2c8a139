"""What a replica proposes: commands of clients, and of its own accord collections and that values have ended.

And what clients want to read without that (protocol 7).
"""

from __future__ import annotations

from typing import Any, Final

from epaxos.actors.assembly import Parts, limits_of
from epaxos.actors.clients import Clients
from epaxos.actors.post import Post
from epaxos.actors.presence import Presence
from epaxos.checkpoint.collector import Collector, CollectorSettings
from epaxos.config import Config
from epaxos.protocol.contract import Effects, Propose
from epaxos.protocol.kinds import KINDS
from epaxos.statemachine.batch import make_collection, make_expirations, make_payload
from epaxos.statemachine.expiry import Expirations, Patience

_EXPIRED_AT_ONCE: Final = 1000
"""Keys in one proposal, at most."""

_EXPIRED_BYTES: Final = 256 * 1024
"""Of these keys; where frames are smaller, a quarter of one: a recovery has a proposal twice in one message."""

_NEVER: Final = float("inf")


class Proposals:
    """Those of a replica, since `now`; `expirations` says when values end."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        clients: Clients,
        post: Post,
        presence: Presence,
        now: float,
    ) -> None:
        self._config = config
        self._parts = parts
        self._stats = parts.stats
        self._clients = clients
        self._post = post
        self._presence = presence
        self._bounds = limits_of(config).bounds
        self._collector = self._make_collector()
        self.begin_anew(now)

    def _make_collector(self) -> Collector:
        config, era = self._config, self._parts.eras.running
        configuration = era.configuration
        owned = KINDS[configuration.protocol].owned
        slow = configuration.quorums.slow
        return Collector(
            CollectorSettings(
                config.collect, era.row or 0, configuration.n, slow, config.max_instances, owned
            )
        )

    def begin_anew(self, now: float) -> None:
        """Count from now on what the machine, which has just been made, says of values that end."""
        era = self._parts.eras.running
        self.expirations = Expirations(
            Patience(era.row or 0, era.configuration.n, self._config.timeout), self._parts.machine.get
        )
        self.note_timed(now)

    def begin_epoch(self) -> None:
        """Go on in the row, and with the quorum, of another epoch."""
        self._collector = self._make_collector()

    def note_timed(self, now: float) -> None:
        """See which values have been written that end."""
        if timed := self._parts.machine.take_timed():
            self.expirations.note(timed, now)

    @property
    def deadline(self) -> float:
        """When `make` is due even if nothing arrives."""
        if self._presence.drains:
            return self._propose_at()
        ends = self.expirations.deadline
        if ends != _NEVER and not self._may_expire():
            ends = _NEVER
        return min(self._propose_at(), self._collector.deadline, ends)

    def make(self, said: list[Effects[Any]], now: float) -> None:
        """Propose what is due, and add to what is `said` what the core asks for."""
        core, machine = self._parts.core, self._parts.machine
        while self._propose_at() <= now:
            payload = make_payload(self._clients.take_batches(), self._bounds)
            self._stats.proposed(len(payload))
            said.append(core.on_event(Propose(payload), now))
        if self._collector.is_due(machine.generation, now) and self._may_collect():
            collection = make_collection(machine.generation, core.status().executed)
            said.append(core.on_event(Propose(collection), now))
            self._collector.proposed()
        if self.expirations.deadline <= now and self._may_expire():
            ended = self.expirations.take(
                now, _EXPIRED_AT_ONCE, min(_EXPIRED_BYTES, self._config.max_frame // 4)
            )
            if ended:
                said.append(core.on_event(Propose(make_expirations(ended, self._bounds)), now))
        if self._clients.reads.fresh:
            said += [core.on_event(read, now) for read in self._clients.reads.questions()]

    def _may_collect(self) -> bool:
        """Whether a collection is of use, as far as this replica knows: before it is current it knows old things."""
        if not self._presence.is_current or self._presence.drains:
            return False
        core, sessions = self._parts.core, self._parts.machine.sessions
        online = set(self._post.online)
        rows = [row for row, name in enumerate(self._parts.configuration.names) if name in online]
        return self._collector.may_propose(core.status(), sessions, rows)

    def _may_expire(self) -> bool:
        """Whether it is of use to propose that values have ended: what gets nowhere is proposed again anyway."""
        core = self._parts.core
        if not self._presence.is_current or self._presence.drains or core.quiet:
            return False
        return core.in_flight < self._config.max_instances

    def _propose_at(self) -> float:
        """When an instance may be made of what waits; infinity if nothing waits, or for as long as it may not."""
        if not self._clients.to_propose or self._parts.eras.running.row is None:
            return _NEVER
        in_flight = self._parts.core.in_flight
        room = in_flight < self._config.max_instances and self._presence.takes_part
        if room and self._post.has_room(self._parts.eras.running):
            return self._clients.due(in_flight == 0)
        return _NEVER
