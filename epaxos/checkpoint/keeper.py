"""When a replica writes a checkpoint, fetches one from a peer, and serves its own: without sockets, threads or clocks.

The Replica actor and the simulator drive it alike. Once a round, after everything of the round has executed, the
driver calls `poll` and does what it asks for: hand events to the core, send messages, commit what was staged, in any
thread, and tell `committed` when that is durable.

One checkpoint is written at a time. A peer's is merged into one of our own: between the two nothing executes here
(`Hold`), since a key that has been merged and one that has not are of different moments.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import gt
from typing import Any, Final, NamedTuple

from epaxos import version
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.transfer import BEGIN, DONE, Fetch, Source
from epaxos.checkpoint.writer import CheckpointWriter, adopt_event, hold_event
from epaxos.errors import FrameError, StorageError
from epaxos.protocol.contract import Adopt, Checkpointed, Component, Core, Hold, Preparation
from epaxos.protocol.ids import Name, Vector
from epaxos.protocol.membership import Configuration
from epaxos.protocol.transfer import CheckpointRows, FetchRows, TransferMessage

_TRIES: Final = 5
"""How often a peer is asked for the same rows before it is given up."""

_FOLLOWING_TRIES: Final = 100
"""How often it is asked to keep its log after that while nothing goes on here, and"""

_FOLLOWING_MOST: Final = 1000
"""how often at all: who falls behind for ever, or follows by a step now and then, must not fill a peer's memory."""

_UNTOLD: Final = 20
"""How often who looks on asks before it is known what there is to follow: peers may need seconds under load to tell."""

_AFTER_REFUSAL: Final = 4
"""Intervals until a checkpoint of which a row could not be written is tried again."""

SLICES: Final = 4
"""How many slices of an own checkpoint a round takes at most: one to three milliseconds."""

SLICE_BYTES: Final = 64 * 1024
"""Bytes of rows that slices make on the average, or a round takes fewer of them: a MB is two milliseconds."""

SLICES_WHILE_MERGING: Final = 16
"""How many slices a round takes of merging: nothing executes meanwhile, so this replica has no client to keep waiting,
and the sooner it is over the less has followed by then."""


PAUSE: Final = 0.002
"""Some rounds under load. Without load a round that waited for nothing else would follow the other at once."""


class KeeperSettings(NamedTuple):
    """Times in seconds.

    interval   between the beginnings of two checkpoints, if something has executed
    instances  a checkpoint begins earlier once this many have executed
    retry      how long to wait at least for rows that were asked for
    merging    slices of a peer's checkpoint that a round takes
    slices     slices of an own one
    pause      how long a cut is put off at a time that waits for something
    """

    interval: float
    instances: int
    retry: float
    merging: int = SLICES_WHILE_MERGING
    slices: int = SLICES
    pause: float = PAUSE


@dataclass(slots=True)
class Todo:
    """What the driver has to do, in this order; `commit` is what was staged, to be made durable.

    Before that the directory has to say that there are things of `level` in it, if that is above its own.

    With `replaced` a peer's checkpoint of a later epoch, or the first of a cluster that it is to join, is durable here,
    and loaded: after a look at what the core has `left`, the replica begins anew from it, as at a start, with another
    keeper that is to `follow` this one, and drops the logs of earlier epochs.
    """

    events: list[Hold | Adopt | Checkpointed] = field(default_factory=list)
    messages: list[tuple[Name, TransferMessage]] = field(default_factory=list)
    commit: bool = False
    level: int = version.OLDEST
    replaced: bool = False


class CatchUp(NamedTuple):
    """How far a replica is in catching up: with whom, in which stage; rows, bytes, and keys with sessions that came."""

    peer: Name
    stage: str
    rows: int
    size: int
    keys: int = 0


class _Phase(Enum):
    """What the writer is doing."""

    IDLE = 0
    WRITING = 1
    COMMITTING = 2
    LOADING = 3


class Keeper:
    """The checkpoints of one replica, from `epoch` on; `caught_up` counts how often it has caught up by one of a peer.

    `make_fetched` makes what collects a peer's, `number` gives numbers that this replica has never used. Peers are
    known here by what they are called in all epochs; `round_trip` says how long one takes to answer at most. `load`
    makes of one that replaces all there is, and is durable, what the replica begins anew with, a slice in each step.
    """

    def __init__(
        self,
        core: Core[Any],
        writer: CheckpointWriter,
        source: Source,
        settings: KeeperSettings,
        make_fetched: Callable[[], Fetched],
        number: Callable[[], int],
        round_trip: Callable[[Name], float],
        load: Callable[[Fetched], Iterator[None]],
    ) -> None:
        self._load = load
        self._loading: Iterator[None] = iter(())
        self._round_trip = round_trip
        self._epoch = self._durable_epoch = writer.epoch
        self.writer = writer
        self.source = source
        self._core = core
        self._settings = settings
        self._make_fetched = make_fetched
        self._number = number
        self._phase = _Phase.IDLE
        self._cut_at = 0.0
        self._durable: Vector = ()
        self._truncated: Vector | None = None
        self._executed = 0
        self._due = math.inf
        self._fetch: Fetch | None = None
        self._ask_at = math.inf
        self._tries = self._kept = 0
        self._slowness: defaultdict[Name, int] = defaultdict(lambda: 1)
        self._adopting = False
        self._replacing = False
        self._target: Vector | None = None
        self._followed: Vector = ()
        self._executed_when_asked: Vector = ()
        self._not_before = self._again_at = -math.inf
        self._ended: list[tuple[Name, TransferMessage]] = []
        self._asked: dict[Name, FetchRows] = {}
        self._is_asked_for = self._is_made = False
        self.caught_up = 0

    @property
    def deadline(self) -> float:
        """When `poll` is due even if nothing else happens."""
        if self._phase in (_Phase.WRITING, _Phase.LOADING) or self._truncated is not None:
            return -math.inf
        if self._phase is not _Phase.IDLE:
            return self._ask_at
        due = -math.inf if self._asked or self._wants_adoption else self._due
        if due == math.inf:
            return self._ask_at
        return min(max(due, self._not_before, self._again_at), self._ask_at)

    @property
    def catch_up(self) -> CatchUp | None:
        """How far this replica is in catching up by a checkpoint; None if it is not."""
        fetch = self._fetch
        if fetch is None:
            return None
        stage = "following" if self._target is not None else "merging" if fetch.complete else "fetching"
        return CatchUp(fetch.peer, stage, fetch.rows, fetch.size, fetch.keys)

    @property
    def merging(self) -> bool:
        """Whether the state is that of no moment, or may be from the next `poll` on: a peer's checkpoint is merged."""
        return self._wants_adoption

    def wants_cut(self, now: float) -> bool:
        """Whether the next `poll` takes a cut, for which everything must have executed."""
        wanted = self._wants_adoption or bool(self._asked) or now >= self._due
        return self._phase is _Phase.IDLE and wanted and now >= max(self._not_before, self._again_at)

    @property
    def _wants_adoption(self) -> bool:
        return self._fetch is not None and self._fetch.complete and self._target is None

    # -- what the driver tells -----------------------------------------------------------------------------

    def turn(self, configuration: Configuration, core: Core[Any], now: float) -> None:
        """Another epoch has begun with this core, and what has executed in the one before is all of that.

        A checkpoint is due: without one the log of the earlier epoch is needed. What was being fetched is of no use.
        """
        self._core = core
        self._epoch = configuration.epoch
        self.writer.turn(configuration, core)
        self._truncated = None
        if self._fetch is not None:
            self.caught_up += self._target is not None
            self._ended.append((self._fetch.peer, self._fetch.end()))
            self._end()
        self._executed = max(self._executed, 1)
        self._due = now

    @property
    def oldest(self) -> int:
        """The first epoch of which the log is needed: that of the durable checkpoint, or of one that a peer fetches."""
        return self.source.oldest(self._durable_epoch)

    def executed(self, components: Sequence[Component], now: float) -> None:
        """Some components have executed."""
        if not components:
            return
        if not self._executed:
            self._due = now + self._settings.interval
        self._executed += len(components)
        if self._executed >= self._settings.instances:
            self._due = now

    def finish(self, since: float, now: float) -> bool:
        """Have what had executed at `since` in a checkpoint; whether it is durable, or must not be waited for."""
        if self._fetch is not None or now < self._not_before:
            return True
        if self._phase is not _Phase.IDLE:
            return False
        if not self._executed or self._cut_at >= since:
            return True
        self._due = min(self._due, now)
        return False

    def wanted(self, peers: Sequence[Name], now: float) -> None:
        """The core has been told by these peers that they have dropped what it needs.

        While this replica comes forward with the log of the peer whose checkpoint it has merged, others that have
        dropped more are not asked: each of their checkpoints would be fetched only to be behind again.
        """
        if peers and (self._fetch is None or (self._target is not None and not self._advances())):
            if self._fetch is not None:
                self._ended.append((self._fetch.peer, self._fetch.end()))
            self._fetch = Fetch(peers[0], self._make_fetched, self._number)
            self._target = None
            self._tries = self._kept = 0
            self._ask_at = now

    def follow(self, before: Keeper, now: float) -> None:
        """Go on where another keeper came to `Todo.replaced`: its peer keeps its log until this replica has followed.

        Else the peer drops what has been decided meanwhile, and under load all would be fetched once more.
        """
        assert before._fetch is not None
        self._fetch, self._target = before._fetch, ()
        self._fetch.release()
        self._ask_at = now

    def _advances(self) -> bool:
        """Whether something has executed here since the peer that is followed was last asked to keep its log.

        Or may have soon: a peer that has dropped more is heard long before the first decision has executed, under load
        by more than a question's time.
        """
        return self._tries < _TRIES or self._core.status().executed != self._executed_when_asked

    def receive(self, sender: Name, message: TransferMessage, now: float) -> Todo:
        """Take a message of a peer.

        Raises:
            FrameError: it is none of a checkpoint of this cluster, which is given up then.
            StorageError: the own checkpoint cannot be read.
        """
        todo = Todo()
        if isinstance(message, FetchRows):
            answer = self._answer(sender, message, now)
            if answer is not None:
                todo.messages.append((sender, answer))
        elif self._takes(sender, message):
            self._tries = 0
            waits = self._wants_adoption or message.position == BEGIN
            self._ask_at = now + self._patience(sender) if waits else now
        return todo

    def _answer(self, sender: Name, request: FetchRows, now: float) -> CheckpointRows | None:
        """The rows asked for; who begins to fetch waits for the checkpoint with which the running epoch begins.

        With that of an earlier epoch it would have to come through the rest of that one first, and perhaps find nobody
        any more who keeps that log: it would fetch all of the next one too.
        """
        is_late = self._durable_epoch < self._epoch and now >= self._not_before
        if is_late and request.position == BEGIN and not self.source.serves(sender):
            return self._promise(sender, request, now)
        return self.source.answer(sender, request, now) or self._promise(sender, request, now)

    def _promise(self, sender: Name, request: FetchRows, now: float) -> CheckpointRows | None:
        """Nothing to take yet, where a checkpoint is written because a peer asks for it, and is about to be.

        It is where none lasts, and at the beginning of a cluster and of an epoch: whoever is to join can do nothing
        without one.
        """
        if request.position == DONE:
            self._asked.pop(sender, None)
        elif request.position == BEGIN and not self.source.serves(sender):
            self._asked[sender] = request
            if now >= self._not_before:
                return CheckpointRows(request.transfer, BEGIN, b"", 0)
        return None

    def _answer_those_who_asked(self, now: float, todo: Todo) -> None:
        """What they have asked for is there; from now on nothing above it is dropped, as long as they take it."""
        self._is_made = False
        for peer, request in self._asked.items():
            answer = self.source.answer(peer, request, now)
            if answer is not None:
                todo.messages.append((peer, answer))
        self._asked.clear()

    def _takes(self, sender: Name, message: CheckpointRows) -> bool:
        fetch = self._fetch
        if fetch is None or sender != fetch.peer or self._target is not None:
            return False
        try:
            return fetch.take(message)
        except (FrameError, StorageError) as error:
            # The rest would be taken for the whole. Nor is it trouble of the own disk.
            self._end()
            raise FrameError("malformed", f"not a checkpoint of this cluster: {error}") from error

    @property
    def cut_at(self) -> float:
        """When the cut of the last checkpoint was taken."""
        return self._cut_at

    def given_up(self, now: float) -> None:
        """A row of what was to be staged cannot be written: another attempt follows, not at once."""
        self.writer.give_up()
        self._phase = _Phase.IDLE
        self._adopting = self._replacing = False
        self._executed = max(self._executed, 1)
        self._due = self._not_before = now + _AFTER_REFUSAL * self._settings.interval

    def committed(self) -> Todo:
        """What was staged is durable."""
        assert self._phase is _Phase.COMMITTING
        self._phase = _Phase.IDLE
        todo = Todo()
        if self._replacing:
            assert self._fetch is not None
            self._phase, self._loading = _Phase.LOADING, self._load(self._fetch.fetched)
            return todo
        self._durable_epoch = self.writer.epoch
        self._is_made = self._is_asked_for or (self.writer.lasting and self._durable_epoch == self._epoch)
        if self._durable_epoch < self._epoch:
            return todo  # the log of that epoch goes as a whole, once there is a checkpoint of a later one
        self._durable = self.writer.executed
        self._truncated = ()
        if self._adopting:
            assert self._fetch is not None
            self._adopting = False
            self._target = self._core.status().seen
            self._tries = 0
            self._ask_at = -math.inf
            todo.events.append(adopt_event(self._fetch.fetched))
            self._fetch.release()
        self._drop(todo)
        return todo

    def _drop(self, todo: Todo) -> None:
        """Let the core drop some of what a durable checkpoint makes unnecessary, as long as there is something."""
        truncated = self._core.status().truncated
        if truncated == self._truncated:
            self._truncated = None
        else:
            self._truncated = truncated
            todo.events.append(Checkpointed(self.source.pinned(self._durable, self._epoch)))

    # -- what is due ---------------------------------------------------------------------------------------

    def poll(self, now: float) -> Todo:
        """Do a part of the work; what has executed in the core has executed in the state machine too."""
        todo = Todo(messages=self._ended)
        self._ended = []
        self.source.expire(now, self._round_trip)
        if self._is_made:
            self._answer_those_who_asked(now, todo)
        if self._truncated is not None:
            self._drop(todo)
        if self.wants_cut(now) and (self._wants_adoption or self._is_prepared(now)):
            self._begin(now, todo)
        if self._phase is _Phase.WRITING and not todo.events and self._write():
            self._phase = _Phase.COMMITTING
            todo.commit = True
            if self._replacing and self._fetch is not None:
                todo.level = self._fetch.fetched.configuration.level
        if self._phase is _Phase.LOADING and self._is_loaded():
            todo.replaced = True
        elif now >= self._ask_at:
            self._ask(now, todo)
        return todo

    def _is_loaded(self) -> bool:
        """Load what a round can take; True if that was the last of it."""
        return any(next(self._loading, self) is self for _ in range(self._settings.merging))

    def _write(self) -> bool:
        """Write what a round can take; True if that was the last of it."""
        slices = self._settings.merging if self._adopting or self._replacing else self._settings.slices
        enough = self.writer.staged + slices * SLICE_BYTES
        for _ in range(slices):
            if self.writer.step():
                return True
            if self.writer.staged >= enough:
                break
        return False

    def _is_prepared(self, now: float) -> bool:
        """Do what a round can take of what need not be done after the cut, when each write puts aside what it changes.

        That costs a command 0.1 µs. With a cut as soon as it was due, that was most of the time under load, and a tenth
        of all that a replica computed; of a checkpoint's work more than half can come before the cut.
        """
        for _ in range(self._settings.slices):
            there_is = self.writer.prepare()
            if there_is is not Preparation.MORE:
                if there_is is Preparation.WAITS:
                    self._again_at = now + self._settings.pause
                return there_is is Preparation.READY
        return False

    def _begin(self, now: float, todo: Todo) -> None:
        self._is_asked_for = bool(self._asked) and not self._wants_adoption
        if self._wants_adoption and self._fetch is not None:
            fetched = self._fetch.fetched
            self._replacing = fetched.replaces
            if self._replacing:
                todo.events.append(Hold((-1,) * len(self._core.status().seen), ()))
                self.writer.replace(fetched)
            else:
                todo.events.append(hold_event(fetched))
                self.writer.adopt(fetched)
                self._adopting = True
        else:
            self.writer.begin(asked=self._is_asked_for)
        self._executed, self._due = 0, math.inf
        self._cut_at = now
        self._phase = _Phase.WRITING

    def _ask(self, now: float, todo: Todo) -> None:
        """Ask for rows or, once all have come, to keep the log until what has followed has been fetched too."""
        fetch = self._fetch
        if fetch is None:
            self._ask_at = math.inf
            return
        if self._target is not None and self._has_followed():
            todo.messages.append((fetch.peer, fetch.end()))
            self.caught_up += 1
            self._end()
            return
        if not self._wants_adoption:  # merging takes as long as it takes
            self._tries += 1
        self._kept += self._target is not None
        if (
            self._tries > (_TRIES if self._target is None else _FOLLOWING_TRIES)
            or self._kept > _FOLLOWING_MOST
        ):
            self._slowness[fetch.peer] = 2 * self._slowness[fetch.peer]
            todo.messages.append((fetch.peer, fetch.end()))
            self._end()
            return
        self._executed_when_asked = self._core.status().executed
        todo.messages.append((fetch.peer, fetch.request()))
        self._ask_at = now + self._patience(fetch.peer)

    def _has_followed(self) -> bool:
        """Whether all has executed that had followed what was fetched; each step on the way there gives it more time.

        In another epoch than before nothing is known of that until a peer's beacon tells, but for what the checkpoint
        has of instances above a hole, which is no more than that; nor is one beacon, which may be of a peer that lags.
        So who looks on waits until it is sure. Where nothing follows, it is over after the time of one question.
        """
        status = self._core.status()
        if not self._target:
            if self._core.unsure and self._tries <= _UNTOLD:
                return False
            if not any(map(gt, status.seen, status.executed)):
                return self._tries > 0
            self._target = status.seen
        followed = tuple(map(min, status.executed, self._target))
        if followed != self._followed:
            self._followed, self._tries = followed, 0
        return followed == self._target

    def _patience(self, peer: Name) -> float:
        """How long to wait for an answer: asked for again while it is on its way, it would come twice.

        With a peer in a later epoch no round trip was measured, so after each vain attempt there is more patience.
        """
        return max(self._settings.retry * self._slowness[peer], self._round_trip(peer))

    def _end(self) -> None:
        """Catching up is over, or hopeless with this peer: the core says if more is missing."""
        self._fetch = self._target = None
        self._kept = 0
        self._ask_at = math.inf
