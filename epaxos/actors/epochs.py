"""How a replica comes from one epoch into the next: what of it is made anew, and what its new core is told.

Which epoch follows and what is left over of the last one is for `protocol.eras` to say.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from epaxos.actors.assembly import begin_anew, make_era, message_types_of
from epaxos.actors.callers import roster_of
from epaxos.actors.execution import Execution
from epaxos.actors.peers import Opened, Peers
from epaxos.actors.questions import Questions, Subjects
from epaxos.config import Config
from epaxos.protocol.contract import Durable, Effects, Over, Propose, Receive
from epaxos.protocol.eras import First
from epaxos.storage.journal import rows_of

_log = logging.getLogger(__name__)

NO_VOTE: Final = "it has no vote in this cluster"
"""Why clients are sent away."""

_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Bytes of messages of the next epoch that are kept until it begins."""


class Epochs:
    """Those of a replica; `perform` does what a core asks for, `connect` looks whom there is to send to."""

    def __init__(
        self,
        config: Config,
        subjects: Subjects,
        execution: Execution,
        peers: Peers,
        questions: Questions,
        perform: Callable[[Effects[Any], float], None],
        connect: Callable[[], None],
    ) -> None:
        self._config = config
        self._parts = subjects.parts
        self._stats = subjects.parts.stats
        self._durability = subjects.durability
        self._post = subjects.post
        self._presence = subjects.presence
        self._proposals = subjects.proposals
        self._clients = subjects.clients
        self._execution = execution
        self._connect = connect
        self._peers = peers
        self._questions = questions
        self._perform = perform
        self._ahead: deque[Opened] = deque()
        self._ahead_bytes = 0
        self._quiet_since: float | None = None

    def keep_ahead(self, opened: Opened) -> None:
        """Keep what comes from the next epoch until that begins here: its peers may be a moment ahead."""
        size = sum(map(len, opened.ahead))
        if self._ahead_bytes + size <= _AHEAD_BYTES:
            self._ahead.append(opened._replace(messages=[]))
            self._ahead_bytes += size

    def note_quiet(self, now: float) -> None:
        """See since when the end of the epoch is in sight, and commands wait for it."""
        if not self._parts.core.quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now

    def go_on(self, over: Over | None, now: float) -> None:
        """Propose what is left over, in the next epoch if this one is over."""
        if over is not None:
            self._end(over, now)
        elif self._parts.eras.left:
            self._perform(self._propose_left(now), now)

    def begin_anew(self, now: float) -> None:
        """A peer's checkpoint of a later epoch has taken the place of the own one."""
        first, gone = begin_anew(self._config, self._parts, now, retiring=self._presence.drains)
        self._execution.begin_anew()
        self._proposals.begin_anew(now)
        self._durability.go_on(gone)
        self._begin(first, now, resumes=True)

    def _end(self, over: Over, now: float) -> None:
        """All of the epoch has executed: begin the next one, with what it has left over."""
        eras = self._parts.eras
        configuration = eras.following(over)
        loaded = self._durability.turn(configuration)
        nothing = (-1,) * rows_of(configuration)
        records, truncated = ([], nothing) if loaded is None else (loaded.records, loaded.truncated)
        era = make_era(self._config, self._parts.me, configuration, Durable(records, truncated, nothing, ()))
        first = eras.next(era, over, retiring=self._presence.drains)
        self._durability.turned(now)
        self._parts.watchers.history.turned(len(nothing), over.cut)
        if self._quiet_since is not None and eras.running.row is not None:
            self._stats.quiesce.observe(now - self._quiet_since)
        self._begin(first, now, resumes=loaded is not None)

    def _begin(self, first: Iterable[First], now: float, *, resumes: bool) -> None:
        running = self._parts.eras.running
        core, epoch, left = running.core, running.epoch, len(self._parts.eras.left)
        self._quiet_since = None
        self._stats.begin(running.configuration, message_types_of(running.configuration))
        self._presence.begin_epoch()
        self._proposals.begin_epoch()
        self._execution.begin_epoch(now)
        self._questions.begin_epoch(now)
        self._stats.void += left
        self.introduce()
        if running.row is None:
            self._look_on()
        _log.info("epoch %d has begun; %d of what was proposed before goes on in it", epoch, left)
        effects = core.resume(now) if resumes else Effects()
        for event in first:
            effects.extend(core.on_event(event, now))
        effects.extend(self._propose_left(now))
        ahead, self._ahead, self._ahead_bytes = self._ahead, deque(), 0
        for opened in ahead:
            for message in self._peers.decode_ahead(opened):
                effects.extend(core.on_event(Receive(running.names.index(opened.sender), message), now))
        self._connect()
        self._post.hasten()
        self._perform(effects, now)

    def introduce(self) -> None:
        """Tell clients who the members are, those that come with them."""
        self._clients.answers.callers.tell(roster_of(self._config, self._parts.me, self._parts.configuration))

    def _look_on(self) -> None:
        """There is no vote here: what clients wait for, others may do, under the same numbers."""
        self._parts.eras.left.clear()
        if self._parts.observes:
            return
        self._clients.give_up(NO_VOTE)
        self._parts.watchers.send_away(NO_VOTE)

    def _propose_left(self, now: float) -> Effects[Any]:
        effects: Effects[Any] = Effects()
        left = self._parts.eras.left
        while left:
            effects.extend(self._parts.core.on_event(Propose(left.popleft()), now))
        return effects
