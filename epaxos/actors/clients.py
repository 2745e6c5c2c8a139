"""The clients' side of the Replica: frames in, batches to propose; what becomes of them is in `actors.answers`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

import msgpack
import zmq

from epaxos import version
from epaxos.actors.admin import AdminRequest, read_request, refused
from epaxos.actors.answers import Answers, Frame, Identity, Range, Reply, Room, StatusRequest
from epaxos.actors.company import ENOUGH, Company
from epaxos.actors.mailbox import address_of, content_of
from epaxos.actors.porter import anybody
from epaxos.actors.reads import Look, Reads
from epaxos.config import Config, show
from epaxos.doors.gate import Asked, Gate, LocalClient
from epaxos.errors import CommandError, Denied, FrameError, TooNew
from epaxos.metrics import ReplicaStats
from epaxos.security.rights import EVERYTHING, Rights, Role
from epaxos.statemachine.batch import Batch, decode_batch
from epaxos.statemachine.checks import growing
from epaxos.statemachine.reading import are_observed, are_readings, runs, taken_apart
from epaxos.transport.framing import Body, Kind, open_frame

_log = logging.getLogger(__name__)

_LOGGED_AT_MOST: Final = 100
"""Bad frames of which the log tells."""

BATCH_BYTES: Final = 1024 * 1024
"""Where an instance stops taking in further frames, so that a round of large values stays a small message; or at
`max_frame`, if that is less: peers take no more (`Config.max_peer_frame`)."""

MOST_PARTS: Final = 1000
"""Frames in one message of a client at most: a round takes all of it."""

_REQUEST: Final = int(Kind.REQUEST)  # by far the most frequent; looking up a member of an enumeration is slow


class Clients:
    """Which commands of clients wait to be proposed, and which for their execution.

    A retry of the same commands that are under way here is not proposed again: it only says where the answer
    must go. A client may also group commands anew when it retries; such a frame is another one, is proposed and
    answered by itself, and what of it has executed by then is not executed again (`statemachine.session`).

    `check` raises CommandError for a batch that may not be proposed, and says how many bytes it has put beside its
    commands, if any. `ended` tells the generation if a batch is one of a session that has ended, else None. The doors
    of this process come through `gate`.
    """

    def __init__(
        self,
        config: Config,
        check: Callable[[Batch], int | None],
        stats: ReplicaStats,
        reply: Reply,
        room: Room,
        ended: Callable[[Batch], int | None],
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self._gate = gate or Gate()
        self.rights: Callable[[zmq.Frame], Rights] = anybody
        """What the sender of a frame may do."""
        self.knows: Callable[[Batch], bool] = lambda _: False
        """Whether a batch has executed here, so that it changes nothing more."""
        self.may_take: Callable[[bytes, float, float], bool] = lambda _operations, _arrived, _now: True
        """Whether commands that came at some time may be proposed, or read, by now (`actors.lists`)."""
        self._ended = ended
        self._check = check
        self._stats = stats
        self._queue: deque[tuple[Batch, int, float]] = deque()
        self._queued = 0
        self._held: list[tuple[Frame, Batch, list[int]]] = []
        self.reads = Reads(config.max_frame)
        self.answers = Answers(config, stats, reply, room, self._gate, self.reads.restored)
        self.company = Company(min(ENOUGH, config.max_batch) if config.aggregate else 1)
        self._refusals_logged: set[tuple[str, str]] = set()
        self.away: str | None = None
        """Why no command is taken, and clients are told to ask another replica; None if they are."""
        self.full = ""
        """Why nothing is taken that makes the data grow, for lack of room on the disk; empty if it is."""

    @property
    def to_propose(self) -> bool:
        """Whether a batch waits to be proposed."""
        if self._queue:
            self._drop_answered()
        return bool(self._queue)

    @property
    def observes(self) -> bool:
        """Whether this replica has no vote, and what it has is read nevertheless."""
        return self.reads.observes

    @observes.setter
    def observes(self, value: bool) -> None:
        self.reads.observes = value

    def due(self, alone: bool) -> float:  # noqa: FBT001 - reads well where it is used
        """When what waits is to be proposed, infinity if nothing does (`actors.company`).

        `alone` if nothing else of this replica is under way.
        """
        if not self.to_propose:
            return inf
        return self.company.due(len(self._queue), self._queued, self._queue[0][2], alone=alone)

    def open(
        self, identity: bytes, parts: Sequence[zmq.Frame], now: float
    ) -> list[StatusRequest | AdminRequest]:
        """Take a message from the clients' socket, of one frame or several.

        Questions, and what operators ask for, are handed back.

        The frames of a message have no more to do with one another than if each had come by itself.
        """
        if len(parts) > MOST_PARTS:
            text = f"message of {len(parts)} frames; at most {MOST_PARTS} are allowed"
            self._stats.error("malformed")
            self._log_once("malformed", text, parts[0])
            self.answers.send(identity, Kind.REFUSED, (0, 0, 0, -1, text))
            return []
        questions = []
        for part in parts:
            try:
                question = self._open(identity, part, now)
            except CommandError as error:
                kind = "denied" if isinstance(error, Denied) else "refused"
                self._stats.error(kind)
                self._log_once(kind, str(error), part)
            except FrameError as error:
                self._stats.error(error.kind)
                self._log_once(error.kind, str(error), part)
                self.answers.send(identity, Kind.REFUSED, (0, 0, 0, -1, str(error)))
            else:
                if question is not None:
                    questions.append(question)
        return questions

    def _open(self, identity: bytes, part: zmq.Frame, now: float) -> StatusRequest | AdminRequest | None:
        rights = self.rights(part)
        frame = open_frame(content_of(part), self._config.fingerprint, self._config.max_frame)
        self.answers.callers.note(identity, frame.level)
        if frame.kind == _REQUEST:
            self._request(identity, rights, decode_batch(frame.body), len(frame.body), now)
            return None
        if frame.kind == Kind.STATUS:
            question = _status_request(identity, frame.body)
            try:
                rights.check_question(question.options)
            except Denied as error:
                self.answers.answer_status(question, {"denied": str(error)})
                raise
            return question
        if frame.kind == Kind.ADMIN:
            request = read_request(identity, frame.body)
            try:
                rights.check_role(Role.ADMIN, f"to {show(request.verb)}")
            except Denied as error:
                self.answers.answer_admin(request, refused(str(error)))
                raise
            return request
        raise FrameError("unknown", f"frame of kind {Kind(frame.kind).name} on the socket of the clients")

    def take_local(self, generation: int, read: Callable[[bytes], bytes | None] | None, now: float) -> None:
        """Take what the doors of this process hand over, as long as there is room; what does not fit waits there.

        `generation` is how many collections have executed here; `read` tells what stands under a key, None while that
        is of no one moment.
        """
        for client in self._gate.clients:
            while client.waits:
                asked = client.next
                if self.away is not None and not self._observes_for(asked):
                    self._stats.error("busy")
                    client.turn_away(self.away)
                elif asked.here and read is not None:
                    client.answer_here(list(map(read, asked.keys)))
                elif not self.answers.has_room(len(asked.operations), asked.size):
                    break
                else:
                    with suppress(CommandError):  # its door has been told
                        batch = client.begin(generation)
                        self._request(client, EVERYTHING, batch, asked.size, now)

    def _observes_for(self, asked: Asked) -> bool:
        """Whether a door asks an observer for what it may tell."""
        if not self.observes:
            return False
        return asked.here or are_observed(Batch(0, 0, 0, asked.operations, asked.keys, asked.arguments))

    def local_questions(self) -> list[StatusRequest]:
        """What the doors of this process ask for the status."""
        return [
            StatusRequest(client, *asked)
            for client in self._gate.clients
            for asked in client.take_questions()
        ]

    def _request(self, identity: Identity, rights: Rights, batch: Batch, size: int, now: float) -> None:
        count = len(batch.operations)
        commands = (batch.client, batch.first, count)
        under_way = self.answers.frames.get(commands)
        if under_way is not None:
            under_way.identity = identity
            return
        if self.away is not None and not (self.observes and are_observed(batch)):
            self._stats.error("busy")
            self.answers.send(identity, Kind.AWAY, (*commands, self.away))
            return
        readings: list[int] = []
        if batch.arguments is not None and type(batch.arguments[0]) is not bytes and are_readings(batch):
            batch, readings = self._taken_apart(identity, commands, batch)
        elif (ended := self._ended(batch)) is not None:
            self._stats.error("over")
            self.answers.send(identity, Kind.OVER, (*commands, ended))
            return
        if not self.answers.has_room(count, size):
            if not self._is_too_much(identity, commands):
                self._say_busy(identity, commands)
            return
        added = self._checked(identity, rights, commands, batch)
        if added is None:
            return
        size += added
        if added and not self.answers.has_room(count, size):
            self._say_busy(identity, commands)
            return
        if self.full and (index := growing(batch)) is not None and not self.knows(batch):
            self._turn_away_growing(identity, commands, index)
            return
        self._enter(Frame(identity, *commands, count, size, now, now), batch, readings)

    def _taken_apart(self, identity: Identity, commands: Range, batch: Batch) -> tuple[Batch, list[int]]:
        """See `reading.taken_apart`; the client is told what is wrong."""
        try:
            return taken_apart(batch)
        except CommandError as error:
            self.answers.send(identity, Kind.REFUSED, (*commands, error.index, str(error)))
            raise

    def _is_too_much(self, identity: Identity, commands: Range) -> bool:
        """Whether there are more commands in a frame than ever are taken; then the client is told so."""
        if commands[2] <= self._config.max_pending:
            return False
        text = (
            f"{commands[2]} commands in a frame; at most {self._config.max_pending} are allowed (max_pending)"
        )
        self._stats.error("refused")
        self.answers.send(identity, Kind.REFUSED, (*commands, -1, text))
        return True

    def _enter(self, frame: Frame, batch: Batch, readings: list[int]) -> None:
        """A frame is under way, and may be held back."""
        self.answers.enter(frame)
        if self.may_take(batch.operations, frame.arrived, frame.arrived):
            self._begin(frame, batch, readings)
        else:
            self._held.append((frame, batch, readings))

    @property
    def holds(self) -> bool:
        """Whether frames are held back."""
        return bool(self._held)

    def release(self, now: float) -> None:
        """Go on with the frames that need not be held back any more.

        Until then nobody waits for what their commands come to: another replica may have proposed them, and where the
        keys are in no order they would stop this one (`await_list`).
        """
        held, self._held = self._held, []
        for frame, batch, readings in held:
            if self.may_take(batch.operations, frame.arrived, now):
                self._begin(frame, batch, readings)
            else:
                self._held.append((frame, batch, readings))

    def _begin(self, frame: Frame, batch: Batch, readings: list[int]) -> None:
        """The commands of a frame wait to be proposed, its reads for a question."""
        count, size = frame.count, frame.size
        if readings:
            for run, its in runs(batch, readings):
                if self.answers.want(frame, run):
                    self.reads.add(run, its)
            return
        self.company.arrived(len(self.answers.frames))
        if self._config.aggregate or count == 1:
            self._queue_up(frame, batch, size)
            return
        for index in range(count):
            self._queue_up(frame, batch.part(index, index + 1), size // count)

    def _queue_up(self, frame: Frame, part: Batch, size: int) -> None:
        """A part of a frame, of so many bytes, waits to be proposed, unless it is under way for another one."""
        if self.answers.want(frame, part):
            self._queue.append((part, size, frame.arrived))
            self._queued += len(part.operations)

    def _checked(self, identity: Identity, rights: Rights, commands: Range, batch: Batch) -> int | None:
        """How many bytes a check has put beside the commands of a batch, all of which may be proposed.

        None if another replica may propose them: their client was told of a level that has not begun here.

        What a command touches is known once its shape has been checked, and a command of a state machine of a program's
        own once that has said so.
        """
        try:
            added = self._check(batch) or 0
            if rights is not EVERYTHING:
                rights.check(batch.operations, batch.keys, batch.arguments)
        except CommandError as error:
            level = (
                version.OLDEST
                if isinstance(identity, LocalClient)
                else self.answers.callers.level_of(identity)
            )
            if isinstance(error, TooNew) and level > error.level:
                self._stats.error("busy")
                self.answers.send(
                    identity, Kind.AWAY, (*commands, f"it lags: it is still at level {error.level}")
                )
                return None
            self.answers.send(identity, Kind.REFUSED, (*commands, error.index, str(error)))
            raise
        else:
            return added

    def _turn_away_growing(self, identity: Identity, commands: Range, index: int) -> None:
        """Another replica may have room; a door, which has this one alone, is told which command it was."""
        self._stats.error("full")
        text = f"only reads and deletes are taken: {self.full}"
        if isinstance(identity, LocalClient):
            identity.refuse(commands[0], commands[1], text, index, full=True)
        else:
            self.answers.send(identity, Kind.AWAY, (*commands, text))

    def _say_busy(self, identity: Identity, commands: Range) -> None:
        self._stats.error("busy")
        self.answers.send(identity, Kind.BUSY, commands)

    def send_away(self, reason: str, *, stuck: bool = False) -> None:
        """Take no more, and tell at once those whose commands are under way; they are answered as ever.

        Where these are `stuck` here, they had better be asked for elsewhere too.
        """
        self.away = reason
        for identity, client in {(frame.identity, frame.client) for frame in self.answers.frames.values()}:
            self.answers.send(identity, Kind.AWAY, (client, 0, -1 if stuck else 0, reason))

    def give_up(self, reason: str) -> None:
        """Take no more, and answer nothing that is under way; at once, for a client would wait until it is silence."""
        self.send_away(reason, stuck=True)
        self._queue.clear()
        self._held.clear()
        self.answers.forget()
        self.reads.forget()
        self._queued = 0
        for client in self._gate.clients:
            client.give_up(reason)

    def take_batches(self) -> list[Batch]:
        """The batches of the next instance: one without aggregation, else as many as fit."""
        batch, size, _ = self._queue.popleft()
        batches = [batch]
        self._drop_answered()
        if self._config.aggregate:
            commands, most = len(batch.operations), min(BATCH_BYTES, self._config.max_frame)
            while self._queue:
                batch, more, _ = self._queue[0]
                commands += len(batch.operations)
                size += more
                if commands > self._config.max_batch or size > most:
                    break
                batches.append(batch)
                self._queue.popleft()
                self._drop_answered()
        self._queued -= sum(len(batch.operations) for batch in batches)
        self.company.left(len(batches), len(self.answers.frames))
        return batches

    def _drop_answered(self) -> None:
        """Drop batches from the head of the queue that another replica's instance has executed meanwhile."""
        queue, wanted = self._queue, self.answers.wanted
        while queue and ((head := queue[0][0]).client, head.first, len(head.operations)) not in wanted:
            queue.popleft()
            self._queued -= len(head)

    def read(self, numbers: Iterable[int], look: Look, now: float) -> None:
        """Answer the reads of some questions, for which enough has executed here."""
        self.answers.tell(self.reads.answered(numbers, look))
        self.answers.flush(now)

    def read_here(
        self,
        look: Look | None,
        behind: Callable[[], int | None],
        age: Callable[[], int | None],
        now: float,
    ) -> None:
        """Answer what is read as things stand here; without `look` that is no one moment, and it goes to the log."""
        if look is None:
            if not self.observes:  # else it waits, as there is no log to go to
                self.into_log(self.reads.take_local(), now)
        elif self.reads.waits_for_state:
            self.answers.tell(self.reads.local(look, behind, age))
            self.answers.flush(now)

    def into_log(self, batches: Iterable[Batch], now: float) -> None:
        """Propose reads like commands."""
        for batch in batches:
            frames = self.answers.wanted.pop((batch.client, batch.first, len(batch)), None)
            if frames is not None:
                part = self.reads.renamed(batch)
                self.answers.wanted[part.client, part.first, len(part)] = frames
                self._queue.append((part, sum(map(len, part.keys)), now))
                self._queued += len(part)

    def _log_once(self, kind: str, text: str, part: zmq.Frame) -> None:
        """One line for the first of each kind from each address; the metric counts them all."""
        if len(self._refusals_logged) >= _LOGGED_AT_MOST:
            return
        key = (kind, address_of(part))
        if key not in self._refusals_logged:
            self._refusals_logged.add(key)
            _log.warning(
                "refused a client's frame (%s) from %s: %s; further ones are only counted", *key, text
            )


def _status_request(identity: bytes, body: Body) -> StatusRequest:
    try:
        question, options = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a status request: {error}") from error
    if type(question) not in (int, bytes, str) or type(options) is not dict:
        raise FrameError("malformed", "not a status request: an id and a map are expected")
    return StatusRequest(identity, question, options)
