"""What clients and operators ask of a replica itself, and its answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from epaxos.actors.admin import PROPOSED, Admin, AdminRequest, Standpoint
from epaxos.actors.answers import StatusRequest
from epaxos.actors.assembly import Parts
from epaxos.actors.clients import Clients
from epaxos.actors.durability import Durability
from epaxos.actors.health import Standing, examine
from epaxos.actors.peers import Peers
from epaxos.actors.post import Post
from epaxos.actors.presence import Presence
from epaxos.actors.proposals import Proposals
from epaxos.actors.status import MOST_WAITING, describe, describe_waiting
from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.metrics.stats import Watching
from epaxos.protocol.contract import Effects, Propose
from epaxos.protocol.ids import Row
from epaxos.statemachine.batch import make_barrier
from epaxos.watching.watchers import Answer, read_poll

_log = logging.getLogger(__name__)


class Digested(NamedTuple):
    """To the Replica, from the thread that computed it: the digest that clients asked for."""

    digest: str | None
    """None if it could not be computed."""


class Subjects(NamedTuple):
    """Of whom a replica is asked."""

    parts: Parts
    clients: Clients
    post: Post
    durability: Durability
    presence: Presence
    proposals: Proposals
    standing: Standing
    peers: Peers


class Questions:
    """Answers for replica `row`, which lives since `born`.

    `perform` does what a core asks for, `tell` brings a message from another thread to the Replica.
    """

    def __init__(
        self,
        config: Config,
        row: Row,
        subjects: Subjects,
        perform: Callable[[Effects[Any], float], None],
        tell: Callable[[object], None],
        born: float,
    ) -> None:
        self._config = config
        self._row = row
        self._subjects = subjects
        self._parts = subjects.parts
        self._clients = subjects.clients
        self._answers = subjects.clients.answers
        self._perform = perform
        self._tell = tell
        self._born = born
        self._began_at = float("-inf")
        self._helpers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="helper")
        self._digest_askers: list[tuple[StatusRequest, dict[str, Any]]] = []
        self._admin = Admin(config, self._parts.stats, lambda: subjects.peers.incarnations)
        self._admin.begun(self._parts.configuration)

    def begin_epoch(self, now: float) -> None:
        """Another epoch has begun."""
        self._began_at = now
        self._admin.begun(self._parts.configuration)

    def close(self) -> None:
        """Compute nothing more."""
        self._helpers.shutdown(wait=False, cancel_futures=True)

    def answer(self, question: StatusRequest | AdminRequest, now: float) -> None:
        """Answer a question, or have a request of an operator proposed."""
        if isinstance(question, AdminRequest):
            self._answer_admin(question, now)
        else:
            self._answer_status(question)

    def _answer_admin(self, asked: AdminRequest, now: float) -> None:
        running, core = self._parts.configuration, self._parts.core
        away = self._clients.away or self._subjects.standing.trouble or None
        standpoint = Standpoint(away, self._began_at, core.quiet)
        answer = self._admin.judge(asked, running, standpoint, now)
        if answer["outcome"] == PROPOSED and self._admin.is_new(asked):
            _log.info("asked to %s the members: epoch %d is to follow", asked.verb, running.epoch + 1)
            barrier = make_barrier(
                self._parts.machine.generation,
                core.status().executed,
                self._admin.following(asked, running),
            )
            self._perform(core.on_event(Propose(barrier), now), now)
        self._answers.answer_admin(asked, answer)

    def _answer_status(self, question: StatusRequest) -> None:
        machine, subjects = self._parts.machine, self._subjects
        if question.options.get("brief"):
            ready = not examine(self._config, subjects.standing, self._parts.stats).unready
            knows = subjects.presence.is_current and ready
            generation = machine.generation if knows else None
            told = {"generation": generation, "level": self._parts.configuration.level}
            self._answers.answer_status(question, told)
            return
        if question.options.get("watch") is not None:
            self._watch(question)
            return
        key = question.options.get("left")
        if isinstance(key, bytes):
            left = subjects.proposals.expirations.left(key, time.monotonic())
            self._answers.answer_status(question, {"left": left})
            return
        status = describe(
            self._config,
            self._row,
            time.monotonic() - self._born,
            self._parts,
            subjects.post.remotes.values(),
            subjects.standing,
            subjects.durability.refused,
        )
        if question.options.get("transactions"):
            status["transactions"] = machine.transactions.told()
        most = question.options.get("waiting")
        if type(most) is int:
            status["waiting"] = describe_waiting(self._parts.core, min(max(most, 0), MOST_WAITING))
        if not question.options.get("digest"):
            self._answers.answer_status(question, status)
            return
        if subjects.durability.merging:
            self._answers.answer_status(question, {**status, "digest": None})
            return
        self._digest_askers.append((question, status))
        if len(self._digest_askers) == 1:
            # The copy is taken here, between two rounds; the hashing, which takes long, in another thread.
            digest: Future[str] = self._helpers.submit(machine.digest_source().hexdigest)
            digest.add_done_callback(self._tell_digest)

    # -- watchers ------------------------------------------------------------------------------------------

    def _watch(self, question: StatusRequest) -> None:
        """Answer a watcher's question once there is something to tell."""
        tell = partial(self._tell_watcher, question)
        away = self._clients.away or self._subjects.standing.trouble
        if not away and not self._subjects.presence.is_current:
            away = "it hears no quorum, or has not caught up yet"
        if away:
            tell({"away": away})
            return
        try:
            poll = read_poll(question.options["watch"], self._config.max_key)
        except FrameError as error:
            tell({"invalid": str(error)})
        else:
            name = question.identity, question.id
            self._parts.watchers.ask(name, poll, time.monotonic(), tell)

    def _tell_watcher(self, question: StatusRequest, answer: Answer) -> None:
        self._answers.answer_status(question, {"watch": answer})

    def tell_watchers(self, now: float) -> None:
        """A round is over: tell those who watch."""
        watchers = self._parts.watchers
        if watchers.watched or watchers.deadline <= now:
            watchers.poll(now)

    def count_watchers(self) -> None:
        """Note for metrics how many there are, and what they were told."""
        watchers = self._parts.watchers
        kept = watchers.history.weight
        self._parts.stats.watch = Watching(len(watchers), kept, watchers.told, watchers.compacted)

    def _tell_digest(self, done: Future[str]) -> None:
        """Whatever came of it, those who asked are answered; called by the thread that computed it."""
        if done.cancelled():  # everything ends
            return
        error = done.exception()
        if error is not None:
            _log.error("the digest of the state could not be computed", exc_info=error)
        self._tell(Digested(None if error is not None else done.result()))

    def on_digest(self, digest: str | None) -> None:
        """Answer whoever asked first; those who asked meanwhile share the next one."""
        (question, status), *others = self._digest_askers
        self._answers.answer_status(question, {**status, "digest": digest})
        self._digest_askers = []
        for other, _ in others:
            self._answer_status(other)
