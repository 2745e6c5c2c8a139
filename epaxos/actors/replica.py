"""Replica: the one actor that owns consensus state.

Each round it hands everything that waited to the core, and then performs what the core asked for, in
the order that `protocol.contract` demands: make the records durable, send, execute, answer.

When the disk fails, the Replica promises nothing any more: it hands the core no further event and sends nothing to
its peers, to whom it is as good as crashed. It lives on to say so, to clients, in its health and in its metrics.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import sub
from typing import Any, Final, NamedTuple

import pykka
import zmq

from epaxos.actors.amnesia import Refusals
from epaxos.actors.answers import StatusRequest
from epaxos.actors.assembly import Parts
from epaxos.actors.clients import Clients
from epaxos.actors.durability import Committed, Durability, Shell
from epaxos.actors.entrance import Entrance
from epaxos.actors.epochs import NO_VOTE, Epochs
from epaxos.actors.execution import Execution
from epaxos.actors.health import Standing
from epaxos.actors.link import Outgoing
from epaxos.actors.lists import Lists
from epaxos.actors.mailbox import Broken, Mailbox, Round, Sources
from epaxos.actors.peers import Known, Opened, Peers
from epaxos.actors.porter import Reload
from epaxos.actors.post import Post, outgoing_of
from epaxos.actors.presence import Presence
from epaxos.actors.proposals import Proposals
from epaxos.actors.questions import Digested, Questions, Subjects
from epaxos.actors.reach import Reach
from epaxos.actors.remote import LAST_WORDS, Heard, Remote, Said, settings_of
from epaxos.actors.status import gauges_of
from epaxos.config import Config
from epaxos.doors.gate import Gate
from epaxos.errors import DataCorrupt, FormatUnsupported, StorageError
from epaxos.protocol.contract import (
    Component,
    Core,
    Effects,
    Ended,
    PeerStatus,
    Receive,
    Retire,
    Tick,
    joined,
)
from epaxos.protocol.ids import Name, Row, slots_text
from epaxos.protocol.membership import called
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows, TransferMessage
from epaxos.security.access import Access
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.storage.trouble import REBUILD
from epaxos.transport.pages import BEACONS, OF_NO_EPOCH, PeerMessage

_log = logging.getLogger(__name__)


class Drain(NamedTuple):
    """To the Replica: finish what has been taken, write a checkpoint, take leave, and stop."""


class Replica(pykka.ThreadingActor):
    """One replica of a cluster, which has table `row` of the file; `standing` tells others how it does.

    `hosts` are the numeric addresses to listen on, as far as they are this machine's. Doors of its process come in
    through `gate`. `access` says who may come in at its sockets; anybody, without it.
    """

    actor_inbox: Mailbox

    def __init__(
        self,
        config: Config,
        row: Row,
        parts: Parts,
        hosts: Sequence[str],
        standing: Standing,
        gate: Gate | None = None,
        access: Access | None = None,
    ) -> None:
        super().__init__()
        self._gate = gate or Gate()
        self.actor_inbox.capacity = config.mailbox
        self._config = config
        self._parts = parts
        self._stats, disk = parts.stats, parts.disk
        shell = Shell(self._perform, self._send_later, self._tell, self._begin_anew, self._note_full)
        self._durability = Durability(config, parts, shell)
        self._standing = standing
        born = time.monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._post = Post()
        self._refusals = Refusals(config, parts, lambda: self._durability.promised)
        self._syncs = config.storage.engine != MemoryEngine.name and config.storage.sync == "always"
        self._peer_changes: list[tuple[int, PeerStatus | Ended]] = []
        self._gauge_at = 0.0
        self._due = self._reach_at = 0.0
        self._entrance = Entrance(config, row, hosts, self._context, self._stats, access)
        self._clients = Clients(
            config,
            parts.admit,
            self._stats,
            self._entrance.reply,
            self._entrance.room,
            parts.ended,
            self._gate,
        )
        self._clients.knows = parts.knows
        self._lists = Lists(lambda: self._parts.machine.order, lambda: self._post.online, self._post.hasten)
        self._clients.may_take = self._lists.may_take
        if self._entrance.rights is not None:
            self._clients.rights = self._entrance.rights
        self._peers = Peers(
            config,
            parts.me,
            parts.eras,
            self._stats,
            self._entrance.refuse,
            Known(
                disk.engine.incarnation,
                disk.incarnations,
                disk.kept,
                disk.journal.remember,
            ),
            self._entrance.sender,
        )
        self._reach = Reach(config, parts, self._peers, self._post, self._start_remote)
        parts.watchers.marks = self._peers.marks
        parts.watchers.steady = lambda: not self._durability.merging
        self._presence = Presence(
            config, parts, self._clients, self._peers, self._post, self._durability, standing, born
        )
        self._proposals = Proposals(config, parts, self._clients, self._post, self._presence, born)
        subjects = Subjects(
            parts,
            self._clients,
            self._post,
            self._durability,
            self._presence,
            self._proposals,
            standing,
            self._peers,
        )
        self._questions = Questions(config, row, subjects, self._perform, self._tell, born)
        self._execution = Execution(parts, self._clients, self._gate)
        self._epochs = Epochs(
            config, subjects, self._execution, self._peers, self._questions, self._perform, self._reach.look
        )

    @property
    def _core(self) -> Core[Any]:
        """That of the running epoch."""
        return self._parts.eras.running.core

    # -- pykka's life cycle --------------------------------------------------------------------------------

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    def on_start(self) -> None:
        """Listen, connect to the peers, and begin to take rounds."""
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - pykka tells nobody of a failed start; `Standing` tells the process
            self._refusals.unheard = not self._post.remotes
            self._stop_with(error)

    def _open(self) -> None:
        self._entrance.listen()
        # Until a peer has been heard of, nothing is to be expected of it.
        running, me = self._parts.eras.running, self._parts.me
        self._note_changes(
            PeerStatus(row, online=False) for row, name in enumerate(running.names) if name != me
        )
        self._reach.look()
        sources = Sources(
            self._entrance.peers,
            self._entrance.clients,
            self._deadline,
            time.monotonic,
            self._entrance.news(),
            self._entrance.sent,
            self._post.blocked,
        )
        self._resume()
        self.actor_inbox.attach(sources)
        self._epochs.introduce()
        votes = self._parts.eras.running.row is not None
        self._clients.away = "it is starting and has no quorum yet" if votes else NO_VOTE
        self._presence.come_up(time.monotonic())
        self._gate.attach(self.actor_inbox.wake)
        self._standing.listening.set()

    def _resume(self) -> None:
        """Go on with what the log holds; everything in it that is decided executes before the first round."""
        if self._parts.resumes:
            now = time.monotonic()
            self._perform(self._core.resume(now), now)
            unreached = self._parts.disk.journal.unreached
            if unreached is not None:
                raise DataCorrupt(
                    f"there are records of epoch {unreached}, and what leads to it is not there; {REBUILD}"
                )
            status = self._core.status()
            unfinished = sum(map(sub, status.seen, status.executed))
            _log.info(
                "resumed with %s executed of each row, %d instances open",
                slots_text(status.executed),
                unfinished,
            )
            running = self._parts.configuration
            if differs := self._config.differs_from(running):
                _log.warning(
                    "the members of epoch %d are others than in %s: %s; a file says how a cluster begins: write those "
                    "of now into it, for commands that look there",
                    running.epoch,
                    self._config.source,
                    differs,
                )

    def _start_remote(self, peer: Name, place: tuple[str, int]) -> Remote:
        incarnation = self._parts.disk.engine.incarnation
        addressee = self._peers.known(peer)
        settings = settings_of(
            self._config, self._parts.me, peer, place, incarnation, addressee, self._entrance.armed
        )
        self._stats.know(peer)
        remote = Remote(
            settings,
            self._context,
            self._stats,
            self._beacons,
            self._on_peer,
            self._on_refused,
            self._say,
            lambda: self._parts.eras.running.mark,
        )
        remote.begin(self.actor_inbox.wake)
        return remote

    def _say(self) -> Said:
        lists, parts = self._lists, self._parts
        return Said(self._durability.kept, parts.watchers.watched, lists.clears, lists.ordered, parts.joins)

    def on_stop(self) -> None:
        """Let go of everything."""
        self._release()
        self._standing.reach(None)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Say so: a replica that failed must not live on as a process that does nothing."""
        del exception_type, traceback
        self._standing.reach(exception_value)
        self._release()

    def _stop_with(self, error: Exception) -> None:
        """Stop without a failure in pykka's sense: its log would show a user's mistake as a traceback."""
        self._standing.reach(error)
        self.stop()

    def _release(self) -> None:
        self._gate.close("the replica has stopped")
        self._post.end()
        self._questions.close()
        self._durability.close(abandon=self._refusals.unheard)
        self._context.destroy(linger=LAST_WORDS if self._standing.farewell else 0)

    # -- messages ------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Take a round, or a message from one of the helper threads."""
        self._standing.busy_since = time.monotonic()
        try:
            return self._take_message(message)
        finally:
            self._standing.busy_since = None

    def _take_message(self, message: Any) -> Any:
        if isinstance(message, Round):
            now = self._standing.busy_since or 0.0
            if message.urged or self._entrance.deadline <= now:
                self._entrance.watch(now)
            refuses = self._presence.left or self._standing.trouble
            self._guard(self._refuse_round if refuses else self._on_round, message)
        elif isinstance(message, Committed):
            # After trouble with the disk the core holds decisions that are not durable, and must not execute.
            if not self._standing.trouble:
                self._guard(self._on_committed, message)
        elif isinstance(message, Drain):
            self._guard(self._begin_to_drain, time.monotonic())
        elif not self._take_news(message):
            return super().on_receive(message)
        if self._presence.drains and not self._presence.left:
            self._guard(self._go_on_draining, time.monotonic())
        return None

    def _take_news(self, message: Any) -> bool:
        """Take what is not about consensus; whether it is that."""
        if isinstance(message, Broken):
            raise message.error
        if isinstance(message, Digested):
            self._questions.on_digest(message.digest)
        elif isinstance(message, Reload):
            names = set(map(called, self._post.remotes))
            changed = self._entrance.reload(names)
            for name, remote in self._post.remotes.items():
                if called(name) in changed:
                    remote.renew()
            self._parts.watchers.release()
        else:
            return False
        return True

    def _guard(self, take: Callable[[Any], None], message: object) -> None:
        """Take a message, or go on with something; if the disk fails at that, promise nothing more."""
        try:
            take(message)
        except FormatUnsupported as error:  # the disk is well, and another program goes on from there
            self._stop_with(error)
        except StorageError as error:
            self._stop_promising(error)

    def _stop_promising(self, error: StorageError) -> None:
        if self._standing.trouble:
            return
        self._standing.trouble = str(error)
        self._clients.give_up("its disk failed")
        self._parts.watchers.send_away("its disk failed")
        self._stats.storage_failed = True
        _log.critical(
            "the disk failed, so this replica takes no part any more; mend it and start it again: %s", error
        )
        self._post.end()

    def _refuse_round(self, round_: Round) -> None:
        """Tell clients to go elsewhere; of peers nothing is taken."""
        now = time.monotonic()
        for identity, parts in round_.clients:
            for question in self._clients.open(identity, parts, now):
                self._questions.answer(question, now)
        for question in self._take_local(now):
            self._questions.answer(question, now)

    def _take_local(self, now: float) -> list[StatusRequest]:
        return self._execution.take_local(now, lambda: self._durability.merging)

    def _on_round(self, round_: Round) -> None:
        began = time.monotonic()
        said: list[Effects[Any]] = []
        self._take_peer_frames(round_, said, began)
        if not round_.clients and self._is_over(round_, said, began):
            return
        questions = [
            question
            for identity, parts in round_.clients
            for question in self._clients.open(identity, parts, began)
        ]
        questions += self._take_local(began)
        self._look(round_, began)
        if self._clients.holds or self._lists.clears:
            self._lists.look(self._clients.release, began)
        self._take_own_events(said, began)
        self._perform(joined(said), began)
        if self._clients.reads.waits_for_state:
            self._execution.read_here(began, readable=not self._durability.merging)
        self._epochs.note_quiet(began)
        self._durability.poll(began)
        self._lists.go_on()
        self._proposals.note_timed(time.monotonic())
        for question in questions:
            self._questions.answer(question, began)
        self._questions.tell_watchers(began)
        self._post.go_on(began)
        self._count(len(round_.peers) + len(round_.clients), round_.waited, began)

    def _look(self, round_: Round, now: float) -> None:
        """Do what has no deadline; before what may take long: writing much to a slow disk."""
        self._presence.look(now)
        if self._presence.is_current and self._clients.away is None:
            self._clients.answers.reassure(now, round_.waited)

    def _is_over(self, round_: Round, said: Sequence[Effects[Any]], began: float) -> bool:
        """Whether frames of peers, which have been taken, were all that there is to the round; it is over then.

        So it is with heartbeats, beacons and their echoes, and with answers behind those that have decided: four fifths
        of the rounds of an idle replica, and a third of those of a lone client. What has become due by them is for the
        next round, which comes at once.
        """
        if round_.urged or began >= self._due or self._peer_changes:
            return False
        if not all(effects.is_talk for effects in said):
            return False
        if not self._presence.is_current or self._clients.reads.waits_for_state or self._clients.holds:
            return False
        if self._gate.clients:
            return False
        self._look(round_, began)
        self._perform(joined(said), began)
        self._count(len(round_.peers), round_.waited, began)
        return True

    def _take_peer_frames(self, round_: Round, said: list[Effects[Any]], now: float) -> None:
        heard: dict[Name, Heard] = {}
        for identity, parts in round_.peers:
            opened = self._peers.open(identity, parts)
            if opened is not None:
                if (beat := opened.beat) is not None:
                    self._stats.observing.note(opened.sender, joins=beat.joins)
                    self._lists.hear(opened.sender, clears=beat.clears, ordered=beat.ordered)
                    if beat.watched:
                        self._parts.watchers.heed(now)
                if opened.beat is not None or opened.sender not in heard:
                    heard[opened.sender] = Heard(now, opened.incarnation, opened.hears, opened.beat)
                if opened.beat is not None or opened.epoch == self._parts.eras.running.epoch:
                    self._note_epoch(opened.sender, opened.epoch)
                if opened.ahead:
                    self._epochs.keep_ahead(opened)
                self._take_messages(opened, said, now)
        if heard:
            if not heard.keys() <= self._post.remotes.keys():
                self._reach.look()
            self._due = min(self._due, self._post.hear(heard))

    def _take_messages(self, opened: Opened, said: list[Effects[Any]], now: float) -> None:
        """Give messages to the core of their epoch, or to whom they concern whatever that is.

        What the running core asks for is `said`; what an earlier one answers leaves at once.
        """
        sender, eras = opened.sender, self._parts.eras
        runs = opened.epoch == eras.running.epoch
        era = eras.running if runs else eras.of(opened.epoch)
        row = opened.row
        is_guest = era is not None and row is not None and row >= len(era.names)
        if is_guest and opened.messages:
            eras.follows(sender, opened.epoch)
        for message in opened.messages:
            if runs and isinstance(message, BEACONS):
                if is_guest:
                    self._stats.observing.followers[sender] = message.executed
                else:
                    self._presence.note_to_reach(sender, message.committed)
            if not self._presence.takes_part:
                continue
            if type(message) in OF_NO_EPOCH:
                self._take_of_no_epoch(sender, message, opened.epoch, now)
            elif era is None or row is None:
                continue
            elif runs:
                said.append(era.core.on_event(Receive(row, message), now))
            else:  # it says what is decided, and promises nothing
                ended = era.core.on_event(Receive(row, message), now)
                self._post.put((*ended.messages, *ended.promises), era)

    def _take_of_no_epoch(self, sender: Name, message: PeerMessage, epoch: int, now: float) -> None:
        """Take what brings forward those who lag, in whatever epoch its sender is."""
        if isinstance(message, FetchRows | CheckpointRows):
            self._durability.receive(sender, message, now)
        elif isinstance(message, EpochOver):
            changes = self._parts.eras.on_over(sender, message, epoch)
            self._note_changes(changes)
            if changes:
                self._durability.ended_at(sender, now)

    def _take_own_events(self, said: list[Effects[Any]], now: float) -> None:
        """What this replica itself has to say to the core: proposals, its peers' health, the time."""
        if self._peer_changes:
            changes, self._peer_changes = self._peer_changes, []
            for epoch, change in changes:
                if epoch != self._parts.eras.running.epoch:
                    continue
                said.append(self._core.on_event(change, now))
                if isinstance(change, PeerStatus) and not change.online:
                    # The beacon that has just left was of before; who would lead waits until nobody is happy any more.
                    self._post.hasten()
        self._proposals.make(said, now)
        if self._core.deadline <= now:
            said.append(self._core.on_event(Tick(), now))

    def _deadline(self) -> float:
        """When a round is due even if nothing arrives."""
        if self._standing.trouble:
            due = _NEVER
        elif self._peer_changes:
            due = 0.0
        else:
            due = min(
                self._proposals.deadline,
                self._core.deadline,
                self._durability.deadline,
                self._presence.deadline,
                self._entrance.deadline,
                self._post.deadline,
                self._parts.watchers.deadline,
                self._lists.deadline,
            )
        self._due = due
        return due

    # -- coming and going ----------------------------------------------------------------------------------

    def _begin_anew(self, now: float) -> None:
        self._epochs.begin_anew(now)

    def _note_full(self, why: str) -> None:
        self._clients.full = why

    def _begin_to_drain(self, now: float) -> None:
        self._presence.begin_to_drain(now)
        if not self._standing.trouble:
            self._perform(self._core.on_event(Retire(), now), now)

    def _go_on_draining(self, now: float) -> None:
        if self._presence.go_on_draining(now):
            self.stop()

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Effects[Any], now: float) -> None:
        """Do what the core asked for, in the order of `protocol.contract`."""
        executions: list[Component] = []
        reads, unread, as_of = effects.reads, effects.unread, effects.as_of
        over, era = None, self._parts.eras.running
        overtaken = effects.overtaken
        while True:
            over = effects.over or over
            if effects.records:
                if effects.early and self._syncs:
                    # Peers write their records while this replica writes its own (protocol 4.11b).
                    self._post.put(effects.early, era)
                    self._post.send(now)
                    effects.early = []
                self._durability.persist(effects.records)
            self._durability.after_records(effects, now)
            executions += effects.executions
            for note in effects.commits:
                self._stats.committed(note.path, note.seconds)
                self._clients.company.decided(note.seconds)
            leaving = (*effects.messages, *effects.early, *effects.promises)
            # The own vote needs no way there and back, so it is counted meanwhile.
            own = self._post.dispatch(leaving, effects.deferrable, era, now)
            if not own:
                break
            row = era.row
            assert row is not None
            effects = joined([self._core.on_event(Receive(row, message), now) for message in own])
            reads, unread = reads + effects.reads, unread + effects.unread
        if executions:
            self._execution.execute(executions)
            self._durability.executed(executions, now)
        if as_of is not None:
            self._parts.as_of = self._stats.observing.as_of = max(as_of, self._parts.as_of or as_of)
        self._execution.read(reads, unread, now)
        if overtaken:
            self._execution.settle(overtaken)
        self._epochs.go_on(over, now)

    def _send_later(self, receiver: Name, message: TransferMessage) -> None:
        """Send a message with what else goes to the peer, at the latest when the next round ends."""
        self._post.put_for(receiver, message, self._parts.eras.running.mark)

    def _tell(self, message: object) -> None:
        """From a helper thread; a Replica that has stopped meanwhile has no use for it."""
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(message)

    def _note_epoch(self, peer: Name, epoch: int) -> None:
        self._stats.peer_epoch[peer] = max(epoch, 0)
        if changes := self._parts.eras.on_heard(peer, epoch):
            self._note_changes(changes)

    def _note_changes(self, changes: Iterable[PeerStatus | Ended]) -> None:
        """For the core of this epoch: the next one has other rows, and hears of all peers when it begins."""
        self._peer_changes += [(self._parts.eras.running.epoch, change) for change in changes]

    # -- what Remotes, peers and clients ask of the Replica ------------------------------------------------

    def _beacons(self, peer: Name, now: float) -> list[Outgoing]:
        if self._parts.eras.joins:
            return []
        return [outgoing_of(message, era.mark) for era, message in self._parts.eras.beacons(peer, now)]

    def _on_committed(self, message: Committed) -> None:
        """A checkpoint is durable; note with it how much the peers have kept."""
        self._durability.on_committed(message)
        self._parts.disk.journal.note(self._peers.kept)

    def _on_peer(self, peer: Name, online: bool) -> None:  # noqa: FBT001 - a callback
        if online:
            self._refusals.forget(peer)
        self._note_changes(self._parts.eras.on_link(peer, online=online))
        self._presence.note_quorum()

    def _on_refused(self, peer: Name, text: str) -> None:
        """A peer does not listen to this replica; perhaps there is no point in going on."""
        reason = self._refusals.add(peer, text, acknowledged=bool(self._peers.acknowledged))
        if reason is not None:
            self._stop_with(reason)

    def _take_final_leave(self, now: float) -> None:
        """It has been removed, and the others do without what it holds (protocol 6.10)."""
        _log.info("removed from the cluster in epoch %d or before; it ends", self._parts.configuration.epoch)
        self._standing.farewell = "it has been removed, and the others have all that it had; its data may go"
        self._parts.disk.engine.retire()
        self._post.leave(now)
        self.stop()

    def _count(self, events: int, waited: float, began: float) -> None:
        self._stats.round_done(events, waited, time.monotonic() - began)
        if began < self._gauge_at:
            return
        self._gauge_at = began + _GAUGES
        if began >= self._reach_at:
            self._reach_at = began + _REACH
            self._reach.look_again(began)
        if self._parts.eras.may_leave:
            self._take_final_leave(began)
        self._stats.duplicates = self._parts.machine.duplicates
        self._stats.kept_bytes = self._parts.machine.kept
        self._questions.count_watchers()
        self._stats.gauges = gauges_of(self._parts)


_GAUGES: Final = 0.05
"""Seconds between two looks at what the gauges show; each takes as long as a twentieth of a small round."""

_REACH: Final = 0.25
"""Seconds between two looks at whom there is to reach, for what no frame tells; each takes a sixth of a round."""

_NEVER: Final = float("inf")
