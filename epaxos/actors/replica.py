"""Replica: the one actor that owns consensus state.

Each round it hands everything that waited to the core, and then performs what the core asked for, in
the order that `protocol.contract` demands: make the records durable, send, execute, answer.

When the disk fails, the Replica promises nothing any more: it hands the core no further event and sends nothing to
its peers, to whom it is as good as crashed. It lives on to say so, to clients, in its health and in its metrics.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from operator import ge, sub
from typing import Any, Final, NamedTuple, TypeAlias

import pykka
import zmq

from epaxos.actors.admin import PROPOSED, Admin, AdminRequest, Standpoint
from epaxos.actors.amnesia import directory_of
from epaxos.actors.assembly import Parts, begin_anew, limits_of, make_era
from epaxos.actors.clients import WAITING_FRAMES, Clients, StatusRequest
from epaxos.actors.durability import Committed, Durability, Shell
from epaxos.actors.health import Standing, examine, no_quorum
from epaxos.actors.link import Mark, Outgoing, outgoing
from epaxos.actors.mailbox import Broken, Mailbox, Round, Sources
from epaxos.actors.peers import Known, Opened, Peers
from epaxos.actors.porter import PEERS, Failures, Porter, Reload
from epaxos.actors.remote import LAST_WORDS, Heard, Remote, RemoteSettings
from epaxos.actors.replies import Replies, send_now
from epaxos.actors.sockets import Door, bind_router
from epaxos.actors.status import MOST_WAITING, describe, describe_waiting
from epaxos.checkpoint.collector import Collector, CollectorSettings
from epaxos.config import Config
from epaxos.doors.gate import Gate
from epaxos.errors import ConfigError, DataCorrupt, EpaxosError, StorageError
from epaxos.metrics import Gauges
from epaxos.protocol.command import Command
from epaxos.protocol.contract import (
    Component,
    Core,
    Durable,
    Effects,
    Ended,
    Over,
    PeerStatus,
    Propose,
    Receive,
    Retire,
    Tick,
)
from epaxos.protocol.eras import First
from epaxos.protocol.ids import Row, Vector, slots_text
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import NOP
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows, TransferMessage
from epaxos.security.access import Access
from epaxos.security.curve import arm
from epaxos.statemachine.batch import (
    Batch,
    Payload,
    make_barrier,
    make_collection,
    make_expirations,
    make_payload,
)
from epaxos.statemachine.expiry import Expirations, Patience
from epaxos.statemachine.machine import StateMachine
from epaxos.storage.journal import rows_of
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.storage.trouble import REBUILD
from epaxos.transport.codec import encode_message
from epaxos.transport.pages import BEACONS, OF_NO_EPOCH, PAGES, PeerMessage

_log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""Seconds that a replica which drains may take."""


Sending: TypeAlias = tuple[Sequence[Row], PeerMessage]
"""Receivers and a message."""


class RefusedByPeers(EpaxosError):
    """So many peers refuse this replica that it can form no quorum."""


class Digested(NamedTuple):
    """To the Replica, from the thread that computed it: the digest that clients asked for."""

    digest: str | None
    """None if it could not be computed."""


class Drain(NamedTuple):
    """To the Replica: finish what has been taken, write a checkpoint, take leave, and stop."""


class Outbox:
    """What goes to one peer at the end of the round."""

    __slots__ = ("deferrable", "messages")

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.deferrable: list[Outgoing] = []


class Replica(pykka.ThreadingActor):
    """One replica of a cluster, `row` of `config`; `standing` tells others how it does.

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
        self._row = row
        self._parts = parts
        self._kind = KINDS[config.protocol]
        self._hosts = hosts
        self._stats, disk = parts.stats, parts.disk
        shell = Shell(self._perform, self._send_later, self._tell, self._begin_anew, self._note_full)
        self._durability = Durability(config, parts, shell)
        self._standing = standing
        self._born = time.monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._helpers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="helper")
        self._outboxes = {peer: Outbox() for peer in range(config.n) if peer != row}
        self._remotes: dict[Row, Remote] = {}
        self._refused_by: set[Row] = set()
        self._syncs = config.storage.engine != MemoryEngine.name and config.storage.sync == "always"
        self._unheard = False
        self._takes_part = parts.resumes or config.n == 1
        self._is_current = False
        self._to_reach: dict[Row, Vector] = {}
        self._drain: _Draining | None = None
        self._lost = False
        self._merges = 0
        self._peer_changes: list[PeerStatus | Ended] = []
        self._ahead: deque[Opened] = deque()
        self._ahead_bytes = 0
        self._quiet_since: float | None = None
        self._began_at = float("-inf")
        self._admin = Admin(self._stats)
        self._admin.begun(parts.configuration)
        self._had_quorum = self._stats.has_quorum
        self._gauge_at = 0.0
        self._digest_askers: list[tuple[StatusRequest, dict[str, Any]]] = []
        self._bounds = limits_of(config).bounds
        self._doors: list[Door] = []
        self._porter: Porter | None = None
        self._failures = Failures(self._stats)
        if access is not None:
            self._porter = Porter(self._context, access, self._failures)
        self._clients = Clients(
            config,
            self._admit,
            self._stats,
            self._reply,
            self._room,
            self._has_ended,
            self._gate,
        )
        self._clients.knows = lambda batch: self._machine.knows(batch)  # noqa: PLW0108 - it may be another one some day
        if self._porter is not None:
            self._clients.rights = self._porter.rights
        self._collector = Collector(
            CollectorSettings(
                config.collect, row, config.n, self._stats.quorum, config.max_instances, self._kind.owned
            )
        )
        self._begin_expirations(self._born)
        self._peers = Peers(
            config,
            row,
            lambda: self._parts.eras,
            self._stats,
            self._refuse,
            Known(
                disk.engine.incarnation,
                disk.incarnations,
                disk.kept,
                disk.journal.remember,
            ),
            self._porter.sender if self._porter else None,
        )
        # One list, written where commands execute and read where metrics are scraped.
        self._stats.executed = self._machine.executed

    @property
    def _core(self) -> Core[Any]:
        """That of the running epoch."""
        return self._parts.eras.running.core

    @property
    def _machine(self) -> StateMachine:
        return self._parts.machine

    def _admit(self, batch: Batch) -> int | None:
        """See `StateMachine.admit`; the machine may be another one some day."""
        return self._machine.admit(batch)

    def _has_ended(self, batch: Batch) -> int | None:
        """See `StateMachine.ended`."""
        return self._machine.ended(batch)

    def _begin_expirations(self, now: float) -> None:
        """Count from now on what the machine, which has just been made, says of values that end."""
        self._expirations = Expirations(
            Patience(self._row, self._config.n, self._config.timeout), self._machine.get
        )
        self._expirations.note(self._machine.take_timed(), now)

    # -- pykka's life cycle --------------------------------------------------------------------------------

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    def on_start(self) -> None:
        """Listen, connect to the peers, and begin to take rounds."""
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - pykka tells nobody of a failed start; `Standing` tells the process
            self._unheard = not self._remotes
            self._stop_with(error)

    def _open(self) -> None:
        self._listen()
        # Until a peer has been heard of, nothing is to be expected of it.
        self._peer_changes = [PeerStatus(peer, online=False) for peer in self._outboxes]
        for peer in self._outboxes:
            self._remotes[peer] = self._start_remote(peer)
        sources = Sources(
            self._peer_socket,
            self._client_socket,
            self._deadline,
            time.monotonic,
            self._news(),
            self._blocked,
        )
        self._resume()
        self.actor_inbox.attach(sources)
        self._clients.away = "it is starting and has no quorum yet"
        self._come_up(time.monotonic())
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

    def _listen(self) -> None:
        config, address = self._config, self._config.replicas[self._row]
        secret = self._porter.access.own.secret if self._porter else None
        self._peer_socket, peers = bind_router(
            self._context, address, "port", self._hosts, config.max_peer_frame, secret
        )
        self._client_socket, clients = bind_router(
            self._context, address, "client_port", self._hosts, config.max_frame, secret
        )
        failures = self._failures if self._porter else None
        self._doors = [Door(self._context, self._client_socket, self._stats, failures=failures)]
        if failures is not None:
            self._doors.append(Door(self._context, self._peer_socket, self._stats, PEERS, failures))
        self._replies = Replies(self._client_socket, WAITING_FRAMES * config.max_frame, self._stats)
        _log.info("listening for peers on %s, for clients on %s", ", ".join(peers), ", ".join(clients))

    def _start_remote(self, peer: Row) -> Remote:
        config, address = self._config, self._config.replicas[peer]
        settings = RemoteSettings(
            me=self._row,
            peer=peer,
            name=address.name,
            host=address.host,
            port=address.port,
            cluster=config.fingerprint,
            incarnation=self._parts.disk.engine.incarnation,
            timeout=config.timeout,
            beacon=config.beacon,
            commit_delay=config.commit_delay,
            max_frame=config.max_peer_frame,
            arm=partial(self._arm, peer) if self._porter else None,
        )
        remote = Remote(
            settings,
            self._context,
            self._stats,
            self._beacons,
            self._on_peer,
            self._on_refused,
            self._kept,
            lambda: self._parts.eras.running.mark,
        )
        remote.begin(self.actor_inbox.wake)
        return remote

    def _arm(self, peer: Row, socket: zmq.Socket[bytes]) -> None:
        """Have a socket to a peer log in there with this replica's key, as long as the peer has its own."""
        assert self._porter is not None
        access = self._porter.access
        arm(socket, access.own, access.server_key(self._config.replicas[peer].name))

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
        for remote in self._remotes.values():
            remote.end()
        self._helpers.shutdown(wait=False, cancel_futures=True)
        self._durability.close(abandon=self._unheard)
        self._context.destroy(linger=LAST_WORDS if self._left else 0)

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
            self._watch(time.monotonic())
            refuses = self._left or self._standing.trouble
            self._guard(self._refuse_round if refuses else self._on_round, message)
        elif isinstance(message, Committed):
            # After trouble with the disk the core holds decisions that are not durable, and must not execute.
            if not self._standing.trouble:
                self._guard(self._on_committed, message)
        elif isinstance(message, Drain):
            self._guard(self._begin_to_drain, time.monotonic())
        elif not self._take_news(message):
            return super().on_receive(message)
        if self._drain is not None and not self._left:
            self._guard(self._go_on_draining, time.monotonic())
        return None

    def _take_news(self, message: Any) -> bool:
        """Take what is not about consensus; whether it is that."""
        if isinstance(message, Broken):
            raise message.error
        if isinstance(message, Digested):
            self._on_digest(message.digest)
        elif isinstance(message, Reload):
            self._reload()
        else:
            return False
        return True

    def _news(self) -> list[int]:
        """What makes a round due when somebody comes to the sockets."""
        news = [door.descriptor for door in self._doors]
        return news if self._porter is None else [*news, self._porter.descriptor]

    def _watch(self, now: float) -> None:
        """See who comes to the sockets."""
        for door in self._doors:
            door.watch(now)
        if self._porter is not None:
            self._porter.watch(now)

    def _reload(self) -> None:
        """Let in who is on the lists of keys now; if they are wrong, who was on them before."""
        if self._porter is None:
            return
        access = self._porter.access
        names = {peer: remote.name for peer, remote in self._remotes.items()}
        before = {peer: access.server_key(name) for peer, name in names.items()}
        try:
            access.reload()
        except ConfigError as error:
            _log.error("the lists of keys are not used, those read before are: %s", error)
            return
        _log.info("read the lists of keys in %s again", self._config.security.keys)
        for peer, name in names.items():
            if access.server_key(name) != before[peer]:
                self._remotes[peer].renew()

    def _guard(self, take: Callable[[Any], None], message: object) -> None:
        """Take a message, or go on with something; if the disk fails at that, promise nothing more."""
        try:
            take(message)
        except StorageError as error:
            self._stop_promising(error)

    def _stop_promising(self, error: StorageError) -> None:
        if self._standing.trouble:
            return
        self._standing.trouble = str(error)
        self._clients.give_up("its disk failed")
        self._stats.storage_failed = True
        _log.critical(
            "the disk failed, so this replica takes no part any more; mend it and start it again: %s", error
        )
        for remote in self._remotes.values():
            remote.end()

    def _refuse_round(self, round_: Round) -> None:
        """Tell clients to go elsewhere; of peers nothing is taken."""
        now = time.monotonic()
        for identity, parts in round_.clients:
            for question in self._clients.open(identity, parts, now):
                self._answer(question, now)
        for question in self._take_local(now):
            self._answer(question, now)

    def _take_local(self, now: float) -> list[StatusRequest]:
        """Take what the doors of this process hand over; their questions for the status are handed back."""
        if self._merges != self._machine.merges:
            self._merges = self._machine.merges
            for client in self._gate.listening:
                client.miss()
        read = None if self._durability.merging else self._machine.get
        self._clients.take_local(self._machine.generation, read, now)
        return self._clients.local_questions()

    def _on_round(self, round_: Round) -> None:
        began = time.monotonic()
        effects: Effects[Any] = Effects()
        self._take_peer_frames(round_, effects, began)
        questions = [
            question
            for identity, parts in round_.clients
            for question in self._clients.open(identity, parts, began)
        ]
        questions += self._take_local(began)
        if not self._is_current:
            self._come_up(began)
        elif self._lost != self._core.lost:
            self._note_lost()
        if self._is_current and self._clients.away is None:
            self._clients.reassure(
                began, round_.waited
            )  # before what may take long: writing much to a slow disk
        self._take_own_events(effects, began)
        self._perform(effects, began)
        self._note_quiet(began)
        self._durability.poll(began)
        self._expirations.note(self._machine.take_timed(), time.monotonic())
        for question in questions:
            self._answer(question, began)
        for remote in self._remotes.values():
            remote.run_waiting()
            if remote.link.waiting:
                remote.link.drain()
            if remote.deadline <= began:
                remote.tick(began)
        self._count(len(round_.peers) + len(round_.clients), round_.waited, began)

    def _take_peer_frames(self, round_: Round, effects: Effects[Any], now: float) -> None:
        heard: dict[Row, Heard] = {}
        for identity, parts in round_.peers:
            opened = self._peers.open(identity, parts)
            if opened is not None:
                if opened.beat is not None or opened.sender not in heard:
                    heard[opened.sender] = Heard(now, opened.incarnation, opened.hears, opened.beat)
                if opened.beat is not None or opened.epoch == self._parts.eras.running.epoch:
                    self._note_epoch(opened.sender, opened.epoch)
                if opened.ahead:
                    self._keep_ahead(opened)
                self._take_messages(opened, effects, now)
        for sender, last in heard.items():
            self._remotes[sender].hear(last)

    def _take_messages(self, opened: Opened, effects: Effects[Any], now: float) -> None:
        """Give messages to the core of their epoch, or to whom they concern whatever that is."""
        sender, eras = opened.sender, self._parts.eras
        era = eras.of(opened.epoch)
        runs = era is eras.running
        for message in opened.messages:
            if runs and isinstance(message, BEACONS) and not self._is_current:
                self._note_to_reach(sender, message.committed)
            if not self._takes_part:
                continue
            if isinstance(message, OF_NO_EPOCH):
                self._take_of_no_epoch(sender, message, now)
            elif runs:
                effects.extend(eras.running.core.on_event(Receive(sender, message), now))
            elif era is not None:  # it says what is decided, and promises nothing
                said = era.core.on_event(Receive(sender, message), now)
                self._post((*said.messages, *said.promises), era.mark)

    def _take_of_no_epoch(self, sender: Row, message: PeerMessage, now: float) -> None:
        """Take what brings forward those who lag, in whatever epoch its sender is."""
        if isinstance(message, FetchRows | CheckpointRows):
            self._durability.receive(sender, message, now)
        elif isinstance(message, EpochOver):
            changes = self._parts.eras.on_over(sender, message)
            self._peer_changes += changes
            if changes:
                self._durability.ended_at(sender, now)

    def _take_own_events(self, effects: Effects[Any], now: float) -> None:
        """What this replica itself has to say to the core: proposals, its peers' health, the time."""
        changes, self._peer_changes = self._peer_changes, []
        for change in changes:
            effects.extend(self._core.on_event(change, now))
        while self._propose_at() <= now:
            payload = make_payload(self._clients.take_batches(), self._bounds)
            self._stats.proposed(len(payload))
            effects.extend(self._core.on_event(Propose(payload), now))
        if self._collector.is_due(self._machine.generation, now) and self._may_collect():
            collection = make_collection(self._machine.generation, self._core.status().executed)
            effects.extend(self._core.on_event(Propose(collection), now))
            self._collector.proposed()
        if self._may_expire() and self._expirations.deadline <= now:
            ended = self._expirations.take(
                now, _EXPIRED_AT_ONCE, min(_EXPIRED_BYTES, self._config.max_frame // 4)
            )
            if ended:
                effects.extend(self._core.on_event(Propose(make_expirations(ended, self._bounds)), now))
        if self._core.deadline <= now:
            effects.extend(self._core.on_event(Tick(), now))

    def _may_collect(self) -> bool:
        """Whether a collection is of use, as far as this replica knows: before it is current it knows old things."""
        if not self._is_current or self._drain is not None:
            return False
        online = [row for row, remote in self._remotes.items() if remote.online]
        return self._collector.may_propose(self._core.status(), self._machine.sessions, online)

    def _may_expire(self) -> bool:
        """Whether it is of use to propose that values have ended: what gets nowhere is proposed again anyway."""
        if not self._is_current or self._drain is not None or self._core.quiet:
            return False
        return self._core.in_flight < self._config.max_instances

    def _propose_at(self) -> float:
        """When an instance may be made of what waits; infinity if nothing waits, or for as long as it may not."""
        if not self._clients.to_propose:
            return _NEVER
        in_flight = self._core.in_flight
        if in_flight < self._config.max_instances and self._takes_part and self._has_room():
            return self._clients.due(in_flight == 0)
        return _NEVER

    def _has_room(self) -> bool:
        """Whether the links to a quorum have room for one more instance.

        Where they have not, commands are better off here: they become fewer and larger instances, and nobody takes
        what waits in a queue for an instance that its owner left undecided.
        """
        roomy = sum(remote.link.waiting < ROOM for remote in self._remotes.values())
        return roomy >= self._stats.quorum - 1

    def _blocked(self) -> list[zmq.Socket[bytes]]:
        return [remote.link.ordered for remote in self._remotes.values() if remote.link.waiting]

    def _deadline(self) -> float:
        """When a round is due even if nothing arrives."""
        if self._standing.trouble:
            return _NEVER
        if self._peer_changes:
            return 0.0
        remotes = [remote.deadline for remote in self._remotes.values()]
        if self._porter is not None:
            remotes.append(self._porter.deadline)
        core, collector, disk = self._core.deadline, self._collector.deadline, self._durability.deadline
        if self._drain is not None:
            return min(self._propose_at(), core, disk, self._drain.until, *remotes)
        ends = self._expirations.deadline if self._may_expire() else _NEVER
        return min(self._propose_at(), core, collector, ends, disk, *remotes)

    # -- coming and going ----------------------------------------------------------------------------------

    def _come_up(self, now: float) -> None:
        """See whether this replica can vote, and then whether it can serve.

        One that begins anew waits until its peers know it, for `_PATIENCE` even for those that say nothing: one that
        knew another of this name refuses it, and then it has promised nothing. It serves once it hears a quorum and
        has executed what had been decided there by then: before, a client would wait here for what it gets at once
        elsewhere. One that loses its quorum serves on, but begins no sessions before it has come to that again.
        """
        if not self._takes_part:
            wanted = self._config.n if now < self._born + _PATIENCE else self._stats.quorum
            self._takes_part = len(self._peers.acknowledged) + 1 >= wanted
        to_reach = [vector for peer, vector in self._to_reach.items() if self._remotes[peer].online]
        if not self._takes_part or len(to_reach) < self._stats.quorum - 1:
            return
        executed = self._core.status().executed
        if all(all(map(ge, executed, vector)) for vector in to_reach):
            self._is_current = self._standing.started = True
            self._to_reach.clear()
            self._lost = False
            if self._drain is None and not self._standing.trouble:
                self._clients.away = None

    def _note_lost(self) -> None:
        """Send clients elsewhere while nothing that they ask for gets anywhere from here, and take them again then."""
        self._lost = self._core.lost
        if self._drain is None and not self._standing.trouble:
            if self._lost:
                self._clients.send_away("it hears nobody who could order commands")
            else:
                self._clients.away = None

    def _note_full(self, why: str) -> None:
        self._clients.full = why

    def _note_to_reach(self, peer: Row, committed: Vector) -> None:
        """A peer tells how far it is: that is to be reached, unless it told so since this replica hears a quorum."""
        if not self._stats.has_quorum or peer not in self._to_reach:
            self._to_reach[peer] = committed

    @property
    def _left(self) -> bool:
        return self._drain is not None and self._drain.left

    def _begin_to_drain(self, now: float) -> None:
        self._standing.draining = True
        self._drain = _Draining(now, now + GRACE)
        if not self._standing.trouble:
            self._clients.send_away("it is stopping")
            self._perform(self._core.on_event(Retire(), now), now)

    def _go_on_draining(self, now: float) -> None:
        """Leave once nothing of this replica's own is left to do, or there is no more time for it."""
        drain = self._drain
        assert drain is not None
        open_ = max(self._core.in_flight, self._clients.waiting)
        if now < drain.until and not self._standing.trouble:
            if open_:
                return
            drain.finished = drain.finished or now
            drain.checkpointed = self._durability.finish(drain.finished, now)
            if not drain.checkpointed:
                return
        drain.left = True
        if not self._standing.trouble:
            for remote in self._remotes.values():
                remote.leave(now)
        self._standing.farewell = self._farewell(now - drain.since, open_)
        self.stop()

    def _farewell(self, seconds: float, open_: int) -> str:
        """How it ended, for the last line of the log."""
        if self._standing.trouble:
            return "its disk had failed, so there was nothing to finish"
        if not open_:
            checkpointed = self._drain is not None and self._drain.checkpointed
            rest = "" if checkpointed else "; there was no time for a checkpoint, so the next start is slower"
            return f"all that was taken is answered, and peers and clients know ({seconds:.2f} s){rest}"
        return (
            f"after {seconds:.1f} s with {self._clients.waiting} commands of clients unanswered; what of them is under "
            "way is for the other replicas to finish"
        )

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Effects[Any], now: float) -> None:
        """Do what the core asked for, in the order of `protocol.contract`."""
        executions: list[Component] = []
        over, mark = None, self._parts.eras.running.mark
        overtaken = effects.overtaken
        while True:
            over = effects.over or over
            if effects.records:
                if effects.early and self._syncs:
                    # Peers write their records while this replica writes its own (protocol 4.11b).
                    self._post(effects.early, mark)
                    self._send(now)
                    effects.early = []
                self._durability.persist(effects.records)
            self._durability.after_records(effects, now)
            executions += effects.executions
            for note in effects.commits:
                self._stats.committed(note.path, note.seconds)
                self._clients.company.decided(note.seconds)
            own = self._post((*effects.messages, *effects.early, *effects.promises), mark)
            self._put_off(effects.deferrable, mark)
            self._send(now)  # the own vote needs no way there and back, so it is counted meanwhile
            if not own:
                break
            effects = Effects()
            for message in own:
                effects.extend(self._core.on_event(Receive(self._row, message), now))
        if executions:
            self._execute(executions)
            self._durability.executed(executions, now)
        if overtaken:
            self._settle(overtaken)
        self._go_on(over, now)

    def _settle(self, overtaken: Sequence[Command]) -> None:
        """Answer what has executed in what was adopted; the rest is proposed again (protocol 4.10)."""
        for results in self._parts.eras.settle(overtaken, self._machine.recall):
            self._clients.tell(results)
        self._clients.flush(time.monotonic())

    def _go_on(self, over: Over | None, now: float) -> None:
        """Propose what is left over, in the next epoch if this one is over."""
        if over is not None:
            self._end_epoch(over, now)
        elif self._parts.eras.left:
            self._perform(self._propose_left(now), now)

    def _propose_left(self, now: float) -> Effects[Any]:
        effects: Effects[Any] = Effects()
        left = self._parts.eras.left
        while left:
            effects.extend(self._core.on_event(Propose(left.popleft()), now))
        return effects

    def _post(self, messages: Sequence[Sending], mark: Mark) -> list[Any]:
        """Put messages of an epoch into the outboxes; return those to this replica itself."""
        own = []
        for receivers, message in messages:
            leaving = None
            for receiver in receivers:
                if receiver == self._row:
                    own.append(message)
                else:
                    leaving = leaving or _outgoing(message, mark)
                    self._outboxes[receiver].messages.append(leaving)
        return own

    def _put_off(self, messages: Sequence[Sending], mark: Mark) -> None:
        for receivers, message in messages:
            leaving = _outgoing(message, mark)
            for receiver in receivers:
                self._outboxes[receiver].deferrable.append(leaving)

    def _send_later(self, receiver: Row, message: TransferMessage) -> None:
        """Send a message with what else goes to the peer, at the latest when the next round ends."""
        self._outboxes[receiver].messages.append(_outgoing(message, self._parts.eras.running.mark))

    def _tell(self, message: object) -> None:
        """From a helper thread; a Replica that has stopped meanwhile has no use for it."""
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(message)

    def _send(self, now: float) -> None:
        """Hand each Remote what this round has for its peer."""
        for peer, outbox in self._outboxes.items():
            if outbox.messages or outbox.deferrable:
                self._remotes[peer].send(now, outbox.messages, outbox.deferrable)
                self._outboxes[peer] = Outbox()

    def _execute(self, executions: Iterable[Component]) -> None:
        """Execute components in order and answer the clients that wait for them here."""
        singles = 0
        for component in executions:
            for decided in component:
                if decided.value is not NOP:
                    assert isinstance(decided.value, Payload)
                    ending = self._gate.ending(decided.value, self._machine.get)
                    for run in self._machine.runs(decided.value):
                        self._clients.answer(decided.value, run)
                    if ending:
                        self._gate.tell_ended([key for key in ending if self._machine.get(key) is None])
                    decided.value.let_go()
            if len(component) == 1:
                singles += 1
            else:
                self._stats.component_size.observe(len(component), 1)
        self._stats.component_size.observe(1, singles)
        self._clients.flush(time.monotonic())

    # -- epochs --------------------------------------------------------------------------------------------

    def _note_epoch(self, peer: Row, epoch: int) -> None:
        self._stats.peer_epoch[self._config.replicas[peer].name] = epoch
        self._peer_changes += self._parts.eras.on_heard(peer, epoch)

    def _keep_ahead(self, opened: Opened) -> None:
        """Keep what comes from the next epoch until that begins here: its peers may be a moment ahead."""
        size = sum(map(len, opened.ahead))
        if self._ahead_bytes + size <= _AHEAD_BYTES:
            self._ahead.append(opened._replace(messages=[]))
            self._ahead_bytes += size

    def _note_quiet(self, now: float) -> None:
        """See since when the end of the epoch is in sight, and commands wait for it."""
        if not self._core.quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now

    def _end_epoch(self, over: Over, now: float) -> None:
        """All of the epoch has executed: begin the next one, with what it has left over."""
        eras = self._parts.eras
        configuration = eras.following(over)
        loaded = self._durability.turn(configuration)
        nothing = (-1,) * rows_of(configuration)
        records, truncated = ([], nothing) if loaded is None else (loaded.records, loaded.truncated)
        era = make_era(self._config, self._row, configuration, Durable(records, truncated, nothing, ()))
        first = eras.next(era, over, retiring=self._drain is not None)
        self._durability.turned(now)
        if self._quiet_since is not None:
            self._stats.quiesce.observe(now - self._quiet_since)
        self._begin_epoch(first, now, resumes=loaded is not None)

    def _begin_anew(self, now: float) -> None:
        """A peer's checkpoint of a later epoch has taken the place of the own one."""
        self._parts, first = begin_anew(
            self._config, self._row, self._parts, retiring=self._drain is not None
        )
        self._stats.executed = self._machine.executed
        self._begin_expirations(now)
        self._merges = -1  # another machine, whose count begins anew
        self._durability.go_on(self._parts)
        self._begin_epoch(first, now, resumes=True)

    def _begin_epoch(self, first: Iterable[First], now: float, *, resumes: bool) -> None:
        core, epoch, left = self._core, self._parts.eras.running.epoch, len(self._parts.eras.left)
        self._quiet_since, self._began_at = None, now
        self._to_reach.clear()
        self._admin.begun(self._parts.configuration)
        self._stats.begin(self._parts.configuration)
        self._collector.begin(self._stats.quorum)
        self._stats.void += left
        _log.info("epoch %d has begun; %d of what was proposed before goes on in it", epoch, left)
        effects = core.resume(now) if resumes else Effects()
        for event in first:
            effects.extend(core.on_event(event, now))
        effects.extend(self._propose_left(now))
        ahead, self._ahead, self._ahead_bytes = self._ahead, deque(), 0
        for opened in ahead:
            for message in self._peers.decode_ahead(opened):
                effects.extend(core.on_event(Receive(opened.sender, message), now))
        for remote in self._remotes.values():
            remote.hasten()
        self._perform(effects, now)

    # -- what Remotes, peers and clients ask of the Replica ------------------------------------------------

    def _beacons(self, peer: Row, now: float) -> list[Outgoing]:
        return [_outgoing(message, era.mark) for era, message in self._parts.eras.beacons(peer, now)]

    def _kept(self) -> int | None:
        """How much this replica has made durable; None if a power failure may take some of it."""
        return self._parts.disk.journal.kept if self._config.storage.sync == "always" else None

    def _on_committed(self, message: Committed) -> None:
        """A checkpoint is durable; note with it how much the peers have kept."""
        self._durability.on_committed(message)
        self._parts.disk.journal.note(self._peers.kept)

    def _on_peer(self, peer: Row, online: bool) -> None:  # noqa: FBT001 - a callback
        self._peer_changes += self._parts.eras.on_link(peer, online=online)
        if self._stats.has_quorum != self._had_quorum:
            self._had_quorum = self._stats.has_quorum
            if self._had_quorum:
                _log.info("quorum: hears %s", ", ".join(self._stats.heard))
            else:
                self._is_current = False
                _log.warning("%s; until then nothing commits here", no_quorum(self._stats))

    def _on_refused(self, peer: Row, text: str) -> None:
        """A peer does not listen to this replica; perhaps there is no point in going on.

        One peer that knows another process under this name is enough to stop: two replicas that lost their
        memory and listen to each other would be a quorum that has forgotten what it promised (protocol 4.11c).
        """
        if peer in self._refused_by:
            return
        self._refused_by.add(peer)
        kind, _, reason = text.partition(": ")
        _log.error("peer %s refuses this replica: %s", self._config.replicas[peer].name, reason)
        if kind in ("duplicate_name", "old_copy") or len(self._refused_by) > self._parts.configuration.f:
            names = ", ".join(self._config.replicas[row].name for row in sorted(self._refused_by))
            # Nobody will ever listen to what a directory begins that is refused like this; but who has once will never
            # listen to another one.
            refused = kind == "duplicate_name" or len(self._refused_by) == self._config.n - 1
            self._unheard = refused and not self._peers.acknowledged
            forgotten = self._forgotten() if kind == "duplicate_name" else ""
            self._stop_with(RefusedByPeers(f"refused by {names}: {reason}{forgotten}"))

    def _forgotten(self) -> str:
        """Which of the two causes of a refusal it is, where this replica can tell."""
        name = self._config.replicas[self._row].name
        directory = directory_of(self._config, name)
        if self._durability.promised or directory is None:
            return ""
        removed = self._parts.disk.engine.made and self._unheard
        what = "was new, and is removed again" if removed else "holds nothing"
        return f". Its data directory {directory} {what}: see that storage.directory leads to that of {name}"

    def _refuse(self, identity: bytes, frame: bytes) -> None:
        send_now(self._peer_socket, identity, frame)

    def _reply(self, identity: bytes, frame: bytes) -> None:
        self._replies.send(identity, frame)

    def _room(self, identity: bytes) -> int:
        return self._replies.room(identity)

    # -- making state visible ------------------------------------------------------------------------------

    def _answer(self, question: StatusRequest | AdminRequest, now: float) -> None:
        if isinstance(question, AdminRequest):
            self._answer_admin(question, now)
        else:
            self._answer_status(question)

    def _answer_admin(self, asked: AdminRequest, now: float) -> None:
        running = self._parts.configuration
        away = self._clients.away or self._standing.trouble or None
        standpoint = Standpoint(away, self._began_at, self._core.quiet)
        answer = self._admin.judge(asked, running, standpoint, now)
        if answer["outcome"] == PROPOSED and self._admin.is_new(asked):
            _log.info("asked to %s the members: epoch %d is to follow", asked.verb, running.epoch + 1)
            executed = self._core.status().executed
            barrier = make_barrier(
                self._machine.generation, executed, running.next(asked.request, asked.f, asked.e)
            )
            self._perform(self._core.on_event(Propose(barrier), now), now)
        self._clients.answer_admin(asked, answer)

    def _answer_status(self, question: StatusRequest) -> None:
        if question.options.get("brief"):
            knows = self._is_current and not examine(self._config, self._standing, self._stats).unready
            self._clients.answer_status(question, {"generation": self._machine.generation if knows else None})
            return
        key = question.options.get("left")
        if isinstance(key, bytes):
            left = self._expirations.left(key, time.monotonic())
            self._clients.answer_status(question, {"left": left})
            return
        status = describe(
            self._config,
            self._row,
            time.monotonic() - self._born,
            self._parts,
            self._remotes.values(),
            self._standing,
            self._durability.refused,
        )
        if question.options.get("transactions"):
            status["transactions"] = self._machine.transactions.told()
        most = question.options.get("waiting")
        if type(most) is int:
            status["waiting"] = describe_waiting(self._core, min(max(most, 0), MOST_WAITING))
        if not question.options.get("digest"):
            self._clients.answer_status(question, status)
            return
        if self._durability.merging:
            self._clients.answer_status(question, {**status, "digest": None})
            return
        self._digest_askers.append((question, status))
        if len(self._digest_askers) == 1:
            # The copy is taken here, between two rounds; the hashing, which takes long, in another thread.
            digest: Future[str] = self._helpers.submit(self._machine.digest_source().hexdigest)
            digest.add_done_callback(self._tell_digest)

    def _tell_digest(self, done: Future[str]) -> None:
        """Whatever came of it, those who asked are answered; called by the thread that computed it."""
        if done.cancelled():  # everything ends
            return
        error = done.exception()
        if error is not None:
            _log.error("the digest of the state could not be computed", exc_info=error)
        self._tell(Digested(None if error is not None else done.result()))

    def _on_digest(self, digest: str | None) -> None:
        """Answer whoever asked first; those who asked meanwhile share the next one."""
        (question, status), *others = self._digest_askers
        self._clients.answer_status(question, {**status, "digest": digest})
        self._digest_askers = []
        for other, _ in others:
            self._answer_status(other)

    def _count(self, events: int, waited: float, began: float) -> None:
        self._stats.round_done(events, waited, time.monotonic() - began)
        if began < self._gauge_at:
            return
        self._gauge_at = began + _GAUGES
        core, machine = self._core.status(), self._machine
        self._stats.duplicates = machine.duplicates
        self._stats.kept_bytes = machine.kept
        self._stats.gauges = Gauges(
            core.committed,
            core.executed,
            core.pending,
            core.in_flight,
            machine.keys,
            machine.sessions,
            core.remembered,
            core.truncated,
            core.kept,
            self._kind.owned or core.leader is not None,
            core.leader == self._row,
            core.ballot,
            self._core.coverage.get("elected", 0),
        )


class _Draining:
    """How far a Replica is in stopping: since when, how long it may take, when all was finished; what is done."""

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        self.finished = 0.0
        self.checkpointed = self.left = False


_PATIENCE: Final = 1.0
"""Seconds that a replica which begins anew waits for peers that say nothing."""
_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Bytes of messages of the next epoch that are kept until it begins."""

ROOM: Final = 1024 * 1024
"""Bytes that may wait for a peer while more is proposed."""

_EXPIRED_AT_ONCE: Final = 1000
"""Keys in one proposal, at most."""

_EXPIRED_BYTES: Final = 256 * 1024
"""Of these keys; where frames are smaller, a quarter of one: a recovery has a proposal twice in one message."""

_GAUGES: Final = 0.05
"""Seconds between two looks at what the gauges show; each takes as long as a twentieth of a small round."""

_NEVER: Final = float("inf")

_OVERTAKING: Final = frozenset(kind for page in PAGES.values() for kind in page.overtaking)


def _outgoing(message: PeerMessage, mark: Mark) -> Outgoing:
    kind = type(message)
    return outgoing(kind.__name__, encode_message(message), kind in _OVERTAKING, mark)
