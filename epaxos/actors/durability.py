"""What a Replica does for what outlives it: the journal of promises, checkpoints, and those of its peers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from epaxos.actors.assembly import Parts
from epaxos.actors.catchup import CatchUpReporter
from epaxos.checkpoint.keeper import Todo
from epaxos.config import Config
from epaxos.errors import FrameError, RowRefused, StorageError
from epaxos.protocol.contract import Component, Effects
from epaxos.protocol.ids import Row
from epaxos.protocol.log import Instance
from epaxos.protocol.transfer import CheckpointRows, TransferMessage

_log = logging.getLogger(__name__)


_CHECK: Final = 1.0
"""Seconds after which a replica that writes nothing sees whether its data directory is still there."""


_LOOK: Final = 0.05
"""Seconds after which leases of peers, and what is told of catching up, are looked at: 3 % of a small round."""


class Committed(NamedTuple):
    """To the Replica, from the thread that committed a checkpoint: it is durable, or why it is not."""

    error: BaseException | None


class Shell(NamedTuple):
    """What the Replica does for it.

    perform  does what the core asks for
    send     sends a message to a peer in this round
    tell     brings a message from another thread to the Replica
    """

    perform: Callable[[Effects[Any], float], None]
    send: Callable[[Row, TransferMessage], None]
    tell: Callable[[object], None]


class Durability:
    """Owned by the Replica and called in its thread; `refused` says why no checkpoint can be written, if so.

    Every method may raise StorageError: the disk has failed, and the Replica may promise nothing more.
    """

    def __init__(self, config: Config, parts: Parts, shell: Shell) -> None:
        self._config = config
        self._core = parts.core
        self._disk = parts.disk
        self._keeper = parts.disk.keeper
        self._stats = parts.stats
        self._shell = shell
        self._reporter = CatchUpReporter(config, parts.stats)
        self._promised = parts.resumes
        self._check_at = self._look_at = 0.0
        self.refused = ""
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="committer")

    @property
    def deadline(self) -> float:
        """When `poll` is due even if nothing arrives."""
        return min(self._keeper.deadline, max(self._check_at, self._look_at))

    @property
    def promised(self) -> bool:
        """Whether this replica has ever promised anything."""
        return self._promised

    @property
    def merging(self) -> bool:
        """Whether the state is between two moments: a peer's checkpoint is being merged into it."""
        progress = self._keeper.catch_up
        return progress is not None and progress.stage == "merging"

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
        self._keeper.wanted(effects.fetch, now)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def executed(self, components: Sequence[Component], now: float) -> None:
        """Some components have executed."""
        self._keeper.executed(components, now)

    def poll(self, now: float) -> None:
        """Go on with a checkpoint, or with fetching one; between two rounds, when all has executed.

        Nothing is looked at in most rounds: when the keeper wants to be asked, and some times a second.
        """
        if now < min(self._look_at, self._keeper.deadline):
            return
        self._look_at = now + _LOOK
        if now >= self._check_at:
            self._check_at = now + _CHECK
            self._disk.engine.write_log(())
        try:
            self._do(self._keeper.poll(now), now)
        except RowRefused as error:
            self._give_up(error, now)
        self._reporter.note(self._keeper.catch_up, self._keeper.caught_up, now)

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

    def receive(self, sender: Row, message: TransferMessage, now: float) -> None:
        """Take a peer's message about a checkpoint; what is bad about it is counted."""
        try:
            todo = self._keeper.receive(sender, message, now)
        except FrameError as error:
            self._stats.error(error.kind)
            name = self._config.replicas[sender].name
            _log.warning("dropped a part of the checkpoint of %s: %s", name, error)
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

    def _do(self, todo: Todo, now: float) -> None:
        for event in todo.events:
            self._shell.perform(self._core.on_event(event, now), now)
        for receiver, message in todo.messages:
            if isinstance(message, CheckpointRows):
                self._stats.served_bytes += len(message.rows)
            self._shell.send(receiver, message)
        if todo.commit:
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
