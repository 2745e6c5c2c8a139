"""What a Replica does for what outlives it: the journal of promises, checkpoints, and those of its peers."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from epaxos.actors.assembly import LetsGo, Parts
from epaxos.actors.catchup import CatchUpReporter
from epaxos.checkpoint.keeper import Todo
from epaxos.config import Config
from epaxos.errors import FrameError, RowRefused, StorageError
from epaxos.protocol.contract import Adopt, Component, Effects
from epaxos.protocol.ids import Name
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration, called
from epaxos.protocol.transfer import CheckpointRows, TransferMessage
from epaxos.storage.journal import Loaded
from epaxos.storage.room import Room

_log = logging.getLogger(__name__)


_CHECK: Final = 1.0
"""Seconds after which a replica that writes nothing sees whether its data directory is still there."""


_LINGER: Final = 10
"""Time-outs for which the core of an epoch that is over is kept for peers that were not heard in a later one: a
checkpoint costs them more. Its log on the disk is of no use to them."""

_LOOK: Final = 0.05
"""Seconds after which leases of peers, and what is told of catching up, are looked at: 3 % of a small round."""


_LET_GO: Final = 16_384
"""Entries of what is not needed any more that are freed in a round: a millisecond."""


class Committed(NamedTuple):
    """To the Replica, from the thread that committed a checkpoint: it is durable, or why it is not."""

    error: BaseException | None


class Shell(NamedTuple):
    """What the Replica does for it.

    perform  does what the core asks for
    send     sends a message to a peer in this round
    tell     brings a message from another thread to the Replica
    replace  begins anew from the own checkpoint, which a peer's of a later epoch has replaced
    full     takes why commands that make data grow are not to be taken, or "" if they are
    """

    perform: Callable[[Effects[Any], float], None]
    send: Callable[[Name, TransferMessage], None]
    tell: Callable[[object], None]
    replace: Callable[[float], None]
    full: Callable[[str], None]


class Durability:
    """Owned by the Replica and called in its thread; `refused` says why no checkpoint can be written, if so.

    Every method may raise StorageError: the disk has failed, and the Replica may promise nothing more.
    """

    def __init__(self, config: Config, parts: Parts, shell: Shell) -> None:
        self._config = config
        self._parts = parts
        self._disk = parts.disk
        self._keeper = parts.disk.keeper
        self._stats = parts.stats
        self._shell = shell
        self._reporter = CatchUpReporter(parts.stats)
        self._promised = parts.resumes
        self._check_at = self._look_at = 0.0
        self._retiring = True
        self._forget_at = 0.0
        self.refused = ""
        self._room = Room(
            config.storage.directory_of(called(parts.me)),
            config.storage.quota,
            config.storage.reserve,
        )
        self._gone: deque[LetsGo] = deque()
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="committer")

    @property
    def deadline(self) -> float:
        """When `poll` is due even if nothing arrives."""
        if self._retiring or self._gone:
            return -math.inf
        return min(self._keeper.deadline, max(self._check_at, self._look_at))

    @property
    def promised(self) -> bool:
        """Whether this replica has ever promised anything."""
        return self._promised

    @property
    def kept(self) -> int | None:
        """How much this replica has made durable; None if a power failure may take some of it."""
        return self._disk.journal.kept if self._config.storage.sync == "always" else None

    @property
    def merging(self) -> bool:
        """Whether the state is between two moments: a peer's checkpoint is being merged into it."""
        return self._keeper.merging

    # -- epochs --------------------------------------------------------------------------------------------

    def turn(self, configuration: Configuration) -> Loaded | None:
        """The epoch has ended; what the log had of the next one at the start, if anything."""
        return self._disk.journal.begin(configuration)

    def turned(self, now: float) -> None:
        """The next epoch has begun: a checkpoint is due."""
        era = self._parts.eras.running
        self._keeper.turn(era.configuration, era.core, now)
        self._forget_at = now + _LINGER * self._config.timeout

    def go_on(self, gone: Iterable[LetsGo]) -> None:
        """Go on with what a peer's checkpoint of a later epoch was made into; of what is `gone` nothing is asked."""
        self._gone += gone
        self._keeper.writer.close()
        self._keeper.source.close()
        disk = self._parts.disk
        disk.keeper.caught_up = self._keeper.caught_up
        self._disk, self._keeper = disk, disk.keeper
        self._retiring = True

    def _retire(self, now: float) -> None:
        """Drop a slice of what is of epochs of before the last durable checkpoint."""
        self._retiring = (
            self._keeper.oldest == self._parts.configuration.epoch and self._disk.journal.retire()
        )
        self._parts.eras.durable = self._keeper.oldest
        if now >= self._forget_at or not self._parts.eras.behind:
            self._gone += (era.core for era in self._parts.eras.forget_below(self._keeper.oldest))

    # -- the journal ---------------------------------------------------------------------------------------

    def persist(self, records: Sequence[Instance]) -> None:
        """Make the records of a round durable, in one commit."""
        began = time.monotonic()
        self._promised = True
        self._disk.journal.persist(records)
        self._stats.persisted(len(records), time.monotonic() - began)

    def after_records(self, effects: Effects[Any], now: float) -> None:
        """Do what else the core asks of the disk, once its records are durable."""
        if effects.truncate is not None:
            self._disk.journal.drop(effects.truncate)
        if effects.fetch:
            names = self._parts.configuration.names
            self._keeper.wanted([names[row] for row in effects.fetch], now)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def executed(self, components: Sequence[Component], now: float) -> None:
        """Some components have executed."""
        self._keeper.executed(components, now)

    def poll(self, now: float) -> None:
        """Go on with a checkpoint, or with fetching one; between two rounds, when all has executed.

        Nothing is looked at in most rounds: when the keeper wants to be asked, and some times a second.
        """
        if self._retiring:
            self._retire(now)
        if self._gone and not self._gone[0].let_go(_LET_GO):
            self._gone.popleft()
        if now < min(self._look_at, self._keeper.deadline):
            return
        self._look_at = now + _LOOK
        if now >= self._check_at:
            self._check_at = now + _CHECK
            self._look_at_room()
            self._disk.engine.write_log(())
            self._retire(now)
        elif self._parts.eras.ended and now >= self._forget_at:
            self._retire(now)
        try:
            self._do(self._keeper.poll(now), now)
        except RowRefused as error:
            self._give_up(error, now)
        self._reporter.note(self._keeper.catch_up, self._keeper.caught_up, now)

    def _look_at_room(self) -> None:
        """See whether the disk is about to be full, and whether it is no more."""
        used = self._disk.engine.usage()
        if used is None:
            return
        try:
            changed = self._room.look(used)
        except OSError as error:
            _log.warning("how much room the disk has cannot be told: %s", error)
            return
        self._stats.storage_room = self._room.left
        if changed:
            self._stats.storage_full = bool(self._room.why)
            self._shell.full(self._room.why)
            if self._room.why:
                _log.error("only reads and deletes are taken from clients: %s; make room", self._room.why)
            else:
                _log.info("there is room on the disk again: all is taken from clients")

    def _give_up(self, error: RowRefused, now: float) -> None:
        """Go on without the checkpoint: what it was to hold is in the log, and is tried again."""
        self._disk.engine.rollback_state()
        self._keeper.given_up(now)
        self.refused = str(error)
        self._stats.checkpoint_refused = True
        _log.error(
            "no checkpoint can be written, so the log grows, in memory and on disk; this replica goes on: %s",
            error,
        )

    def finish(self, since: float, now: float) -> bool:
        """Have a checkpoint of what had executed at `since`; whether there is one, or it must not be waited for."""
        return self._keeper.finish(since, now)

    def receive(self, sender: Name, message: TransferMessage, now: float) -> None:
        """Take a peer's message about a checkpoint; what is bad about it is counted."""
        try:
            todo = self._keeper.receive(sender, message, now)
        except FrameError as error:
            self._stats.error(error.kind)
            _log.warning("dropped a part of the checkpoint of %s: %s", sender, error)
        except RowRefused as error:  # it asks again
            _log.warning("%s gets no part of the checkpoint now: %s", sender, error)
        else:
            self._do(todo, now)

    def on_committed(self, committed: Committed) -> None:
        """A checkpoint is durable, or the disk has failed."""
        if committed.error is not None:
            raise committed.error
        now = time.monotonic()
        self.refused, self._stats.checkpoint_refused = "", False
        self._stats.checkpointed(now - self._keeper.cut_at, now)
        self._stats.storage_bytes = self._disk.engine.size
        self._do(self._keeper.committed(), now)
        self._retiring = True

    def ended_at(self, peer: Name, now: float) -> None:
        """A peer says that the epoch is over, and its log not there any more."""
        self._keeper.wanted([peer], now)

    def _do(self, todo: Todo, now: float) -> None:
        era = self._parts.eras.running
        for event in todo.events:
            if (
                self._parts.eras.running is era
            ):  # else the one before has ended it, and what follows is not of the next
                if isinstance(event, Adopt):
                    above = [entry.id for entry in event.entries]
                    self._parts.watchers.history.adopted(event.executed, above)
                self._shell.perform(era.core.on_event(event, now), now)
        for receiver, message in todo.messages:
            if isinstance(message, CheckpointRows):
                self._stats.served_bytes += len(message.rows)
            self._shell.send(receiver, message)
        if todo.replaced:
            self._shell.replace(now)
        if todo.commit:
            self._disk.engine.raise_level(todo.level)
            commit = self._committer.submit(self._disk.engine.commit_state)
            commit.add_done_callback(lambda done: self._shell.tell(Committed(done.exception())))

    def close(self, *, abandon: bool) -> None:
        """Let go of the disk; a commit that is under way ends first. `abandon` leaves no new directory behind."""
        self._committer.shutdown(wait=True)
        self._keeper.writer.close()
        self._keeper.source.close()
        try:
            (self._disk.engine.abandon if abandon and not self._promised else self._disk.engine.close)()
        except StorageError as error:
            _log.error("the storage engine did not close in order: %s", error)
