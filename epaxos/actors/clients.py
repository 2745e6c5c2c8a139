"""The clients' side of the Replica: request frames in, batches to propose; results in, replies out."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, repeat
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack
import zmq

from epaxos import version
from epaxos.actors.admin import AdminRequest, read_request, refused
from epaxos.actors.callers import Callers
from epaxos.actors.company import ENOUGH, Company
from epaxos.actors.mailbox import address_of, content_of
from epaxos.actors.porter import anybody
from epaxos.actors.reads import Look, Reads
from epaxos.actors.slow import SlowLog
from epaxos.config import Config, show
from epaxos.doors.gate import Asked, Gate, LocalClient
from epaxos.errors import CommandError, Denied, FrameError, TooNew
from epaxos.metrics import ReplicaStats
from epaxos.security.rights import EVERYTHING, Rights, Role
from epaxos.statemachine.batch import REPLY_HEAD, Batch, Payload, decode_batch
from epaxos.statemachine.checks import growing
from epaxos.statemachine.machine import Run
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.reading import are_observed, are_readings, runs, taken_apart
from epaxos.statemachine.results import BatchResult, weigh_value, weigh_values
from epaxos.transport.framing import Body, Kind, open_frame, seal

_log = logging.getLogger(__name__)

_LOGGED_AT_MOST: Final = 100
"""Bad frames of which the log tells."""

BATCH_BYTES: Final = 1024 * 1024
"""Where an instance stops taking in further frames, so that a round of large values stays a small message; or at
`max_frame`, if that is less: peers take no more (`Config.max_peer_frame`)."""

WAITING_FRAMES: Final = 8
"""What of clients waits in memory is no more than so many largest frames: commands that have no answer yet, and, apart
from those, answers that have not been sent."""

PATIENCE: Final = 0.1
"""Seconds without an answer after which a client is told that what it asked for is under way here, and after which it
is told again: a fraction of a try, for one that hears nothing asks elsewhere, with all of its payload."""

TOLD_AT_A_TIME: Final = 1000
"""Frames whose clients are told so in one go."""

MOST_PARTS: Final = 1000
"""Frames in one message of a client at most: a round takes all of it."""

_REQUEST: Final = int(Kind.REQUEST)  # by far the most frequent; looking up a member of an enumeration is slow

_SMALL: Final = 64 * 1024
"""Bytes of values for which nobody asks whether there is room."""

Reply: TypeAlias = Callable[[bytes, bytes], None]
"""Sends (identity of the connection, frame) to a client; never waits."""

Identity: TypeAlias = "bytes | LocalClient"
"""Who is to be answered: a connection, or a door of this process."""

Room: TypeAlias = Callable[[bytes], int]
"""How many bytes a connection takes now."""


class StatusRequest(NamedTuple):
    """A client's question for this replica's state; `options` may ask for a digest."""

    identity: Identity
    id: object
    options: dict[str, Any]


@dataclass(slots=True)
class _Frame:
    """A client's frame under way.

    `missing` is how many of its `count` commands have no result yet, `parts` the results so far by request
    number: without aggregation a frame is answered once all its instances have executed. `told` is when the client
    last heard of it.
    """

    identity: Identity
    client: int
    first: int
    count: int
    missing: int
    size: int
    arrived: float
    told: float
    parts: dict[int, BatchResult] | None = None


_Range: TypeAlias = tuple[int, int, int]
"""Commands of a session: its client, the first request number, how many."""


class Clients:
    """Which commands of clients wait to be proposed, and which for their execution.

    A retry of the same commands that are under way here is not proposed again: it only says where the answer
    must go. A client may also group commands anew when it retries; such a frame is another one, is proposed and
    answered by itself, and what of it has executed by then is not executed again (`statemachine.session`).

    A connection is answered at the level of its last frame.

    `_frames` has each frame under way, first those of which the client has heard nothing for longest; `_wanted` for the
    commands of each proposal under way the frames that wait for its results. `check` raises CommandError for a batch
    that may not be proposed, and says how many bytes it has put beside its commands, if any. `ended` tells the
    generation if a batch is one of a session that has ended, else None. The doors of this process come through `gate`.
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
        self._most_bytes = WAITING_FRAMES * config.max_frame
        self.rights: Callable[[zmq.Frame], Rights] = anybody
        """What the sender of a frame may do."""
        self.knows: Callable[[Batch], bool] = lambda _: False
        """Whether a batch has executed here, so that it changes nothing more."""
        self.may_take: Callable[[bytes, float, float], bool] = lambda _operations, _arrived, _now: True
        """Whether commands that came at some time may be proposed, or read, by now (`actors.lists`)."""
        self._ended = ended
        self._check = check
        self._stats = stats
        self._reply = reply
        self._room = room
        self._slow = SlowLog(config.slow, stats)
        self._queue: deque[tuple[Batch, int, float]] = deque()
        self._queued = 0
        self._held: list[tuple[_Frame, Batch, list[int]]] = []
        self.reads = Reads(config.max_frame)
        self.company = Company(min(ENOUGH, config.max_batch) if config.aggregate else 1)
        self._frames: dict[_Range, _Frame] = {}
        self._wanted: dict[_Range, list[_Frame]] = {}
        self._replies: defaultdict[bytes, list[BatchResult]] = defaultdict(list)
        self._latencies: defaultdict[float, int] = defaultdict(int)
        self._waiting = 0
        self._waiting_bytes = 0
        self._reassure_at = 0.0
        self._refusals_logged: set[tuple[str, str]] = set()
        self.callers = Callers(lambda identity, roster: self._send(identity, Kind.MEMBERS, roster))
        self.away: str | None = None
        """Why no command is taken, and clients are told to ask another replica; None if they are."""
        self.full = ""
        """Why nothing is taken that makes the data grow, for lack of room on the disk; empty if it is."""

    @property
    def waiting(self) -> int:
        """How many commands of clients have no answer yet."""
        return self._waiting

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
            self._send(identity, Kind.REFUSED, (0, 0, 0, -1, text))
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
                self._send(identity, Kind.REFUSED, (0, 0, 0, -1, str(error)))
            else:
                if question is not None:
                    questions.append(question)
        return questions

    def _open(self, identity: bytes, part: zmq.Frame, now: float) -> StatusRequest | AdminRequest | None:
        rights = self.rights(part)
        frame = open_frame(content_of(part), self._config.fingerprint, self._config.max_frame)
        self.callers.note(identity, frame.level)
        if frame.kind == _REQUEST:
            self._request(identity, rights, decode_batch(frame.body), len(frame.body), now)
            return None
        if frame.kind == Kind.STATUS:
            question = _status_request(identity, frame.body)
            try:
                rights.check_question(question.options)
            except Denied as error:
                self.answer_status(question, {"denied": str(error)})
                raise
            return question
        if frame.kind == Kind.ADMIN:
            request = read_request(identity, frame.body)
            try:
                rights.check_role(Role.ADMIN, f"to {show(request.verb)}")
            except Denied as error:
                self.answer_admin(request, refused(str(error)))
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
                elif not self._has_room(len(asked.operations), asked.size):
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
        under_way = self._frames.get(commands)
        if under_way is not None:
            under_way.identity = identity
            return
        if self.away is not None and not (self.observes and are_observed(batch)):
            self._stats.error("busy")
            self._send(identity, Kind.AWAY, (*commands, self.away))
            return
        readings: list[int] = []
        if batch.arguments is not None and type(batch.arguments[0]) is not bytes and are_readings(batch):
            batch, readings = self._taken_apart(identity, commands, batch)
        elif (ended := self._ended(batch)) is not None:
            self._stats.error("over")
            self._send(identity, Kind.OVER, (*commands, ended))
            return
        if not self._has_room(count, size):
            if not self._is_too_much(identity, commands):
                self._say_busy(identity, commands)
            return
        added = self._checked(identity, rights, commands, batch)
        if added is None:
            return
        size += added
        if added and not self._has_room(count, size):
            self._say_busy(identity, commands)
            return
        if self.full and (index := growing(batch)) is not None and not self.knows(batch):
            self._turn_away_growing(identity, commands, index)
            return
        self._enter(_Frame(identity, *commands, count, size, now, now), batch, readings)

    def _taken_apart(self, identity: Identity, commands: _Range, batch: Batch) -> tuple[Batch, list[int]]:
        """See `reading.taken_apart`; the client is told what is wrong."""
        try:
            return taken_apart(batch)
        except CommandError as error:
            self._send(identity, Kind.REFUSED, (*commands, error.index, str(error)))
            raise

    def _is_too_much(self, identity: Identity, commands: _Range) -> bool:
        """Whether there are more commands in a frame than ever are taken; then the client is told so."""
        if commands[2] <= self._config.max_pending:
            return False
        text = (
            f"{commands[2]} commands in a frame; at most {self._config.max_pending} are allowed (max_pending)"
        )
        self._stats.error("refused")
        self._send(identity, Kind.REFUSED, (*commands, -1, text))
        return True

    def _enter(self, frame: _Frame, batch: Batch, readings: list[int]) -> None:
        """A frame is under way, and may be held back."""
        self._frames[frame.client, frame.first, frame.count] = frame
        self._waiting += frame.count
        self._waiting_bytes += frame.size
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

    def _begin(self, frame: _Frame, batch: Batch, readings: list[int]) -> None:
        """The commands of a frame wait to be proposed, its reads for a question."""
        count, size = frame.count, frame.size
        if readings:
            for run, its in runs(batch, readings):
                if self._wants(frame, run):
                    self.reads.add(run, its)
            return
        self.company.arrived(len(self._frames))
        if self._config.aggregate or count == 1:
            self._queue_up(frame, batch, size)
            return
        for index in range(count):
            self._queue_up(frame, batch.part(index, index + 1), size // count)

    def _queue_up(self, frame: _Frame, part: Batch, size: int) -> None:
        """A part of a frame, of so many bytes, waits to be proposed, unless it is under way for another one."""
        if self._wants(frame, part):
            self._queue.append((part, size, frame.arrived))
            self._queued += len(part.operations)

    def _wants(self, frame: _Frame, part: Batch) -> bool:
        """Let a frame wait for the results of a part of it; whether nobody did."""
        waiting = self._wanted.setdefault((part.client, part.first, len(part.operations)), [])
        waiting.append(frame)
        return len(waiting) == 1

    def _checked(self, identity: Identity, rights: Rights, commands: _Range, batch: Batch) -> int | None:
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
            level = version.OLDEST if isinstance(identity, LocalClient) else self.callers.level_of(identity)
            if isinstance(error, TooNew) and level > error.level:
                self._stats.error("busy")
                self._send(identity, Kind.AWAY, (*commands, f"it lags: it is still at level {error.level}"))
                return None
            self._send(identity, Kind.REFUSED, (*commands, error.index, str(error)))
            raise
        else:
            return added

    def _turn_away_growing(self, identity: Identity, commands: _Range, index: int) -> None:
        """Another replica may have room; a door, which has this one alone, is told which command it was."""
        self._stats.error("full")
        text = f"only reads and deletes are taken: {self.full}"
        if isinstance(identity, LocalClient):
            identity.refuse(commands[0], commands[1], text, index, full=True)
        else:
            self._send(identity, Kind.AWAY, (*commands, text))

    def _has_room(self, count: int, size: int) -> bool:
        """Whether so many commands, of `size` bytes, may be taken."""
        return (
            self._waiting + count <= self._config.max_pending
            and self._waiting_bytes + size <= self._most_bytes
        )

    def _say_busy(self, identity: Identity, commands: _Range) -> None:
        self._stats.error("busy")
        self._send(identity, Kind.BUSY, commands)

    def send_away(self, reason: str, *, stuck: bool = False) -> None:
        """Take no more, and tell at once those whose commands are under way; they are answered as ever.

        Where these are `stuck` here, they had better be asked for elsewhere too.
        """
        self.away = reason
        for identity, client in {(frame.identity, frame.client) for frame in self._frames.values()}:
            self._send(identity, Kind.AWAY, (client, 0, -1 if stuck else 0, reason))

    def give_up(self, reason: str) -> None:
        """Take no more, and answer nothing that is under way; at once, for a client would wait until it is silence."""
        self.send_away(reason, stuck=True)
        self._queue.clear()
        self._held.clear()
        self._frames.clear()
        self._wanted.clear()
        self.reads.forget()
        self._queued = self._waiting = self._waiting_bytes = 0
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
        self.company.left(len(batches), len(self._frames))
        return batches

    def _drop_answered(self) -> None:
        """Drop batches from the head of the queue that another replica's instance has executed meanwhile."""
        queue, wanted = self._queue, self._wanted
        while queue and ((head := queue[0][0]).client, head.first, len(head.operations)) not in wanted:
            queue.popleft()
            self._queued -= len(head)

    def await_list(self, payload: Payload) -> bool:
        """Whether a list or a count is among some batches, and somebody waits here for what one of them comes to."""
        return payload.reads_all and not self._wanted.keys().isdisjoint(
            zip(payload.heads.clients, payload.heads.firsts, payload.heads.counts, strict=True)
        )

    def answer(self, payload: Payload, run: Run) -> None:
        """Note the results of executed batches for those clients that wait for them here; `flush` sends them."""
        wanted, heads, place = self._wanted, payload.heads, slice(run.start, run.stop)
        names = list(zip(heads.clients[place], heads.firsts[place], heads.counts[place], strict=True))
        # Most come from elsewhere, and this takes a tenth of what follows.
        if not wanted.keys().isdisjoint(names):
            self._note_slow(payload, run, names)
            self.tell(run.results(payload))
        for client in self._gate.listening:
            client.observe(payload, run)

    def tell(self, results: Iterable[BatchResult]) -> None:
        """Note the results of batches for those clients that wait for them here; `flush` sends them."""
        for result in results:
            frames = self._wanted.pop((result.client, result.first, len(result.outcomes)), ())
            told = self.reads.restored(result) if frames else result
            for frame in frames:
                self._add_result(frame, told)

    def read(self, numbers: Iterable[int], look: Look, now: float) -> None:
        """Answer the reads of some questions, for which enough has executed here."""
        self.tell(self.reads.answered(numbers, look))
        self.flush(now)

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
            self.tell(self.reads.local(look, behind, age))
            self.flush(now)

    def into_log(self, batches: Iterable[Batch], now: float) -> None:
        """Propose reads like commands."""
        for batch in batches:
            frames = self._wanted.pop((batch.client, batch.first, len(batch)), None)
            if frames is not None:
                part = self.reads.renamed(batch)
                self._wanted[part.client, part.first, len(part)] = frames
                self._queue.append((part, sum(map(len, part.keys)), now))
                self._queued += len(part)

    def _note_slow(self, payload: Payload, run: Run, names: Sequence[_Range]) -> None:
        """Log those of the batches that have waited here for long; the first of their frames tells for how long."""
        now, begin = time.monotonic(), sum(payload.heads.counts[: run.start])
        since = self._slow.before(now)
        for name in names:
            frames = self._wanted.get(name)
            if frames and frames[0].arrived < since:
                part = slice(begin, begin + name[2])
                self._slow.note(payload.operations[part], payload.keys[part], now - frames[0].arrived, now)
            begin += name[2]

    def _add_result(self, frame: _Frame, result: BatchResult) -> None:
        frame.missing -= len(result.outcomes)
        if frame.missing or frame.parts:
            frame.parts = frame.parts or {}
            frame.parts[result.first] = result
        if frame.missing:
            return
        del self._frames[frame.client, frame.first, frame.count]
        self._waiting -= frame.count
        self._waiting_bytes -= frame.size
        self._latencies[frame.arrived] += frame.count
        result = _joined(frame) if frame.parts else result
        if isinstance(frame.identity, LocalClient):
            frame.identity.answer(result)
        else:
            self._replies[frame.identity].append(result)

    def flush(self, now: float) -> None:
        """Send what has been answered: to each connection in one frame, unless it is much."""
        for client in self._gate.clients:
            client.flush()
        if not self._latencies:
            return
        replies, self._replies = self._replies, defaultdict(list)
        for identity, results in replies.items():
            for part, weight in _parts(results):
                self._send_results(identity, part, weight)
        for arrived, count in self._latencies.items():
            self._stats.execution_latency.observe(now - arrived, count)
        self._latencies.clear()

    def _send_results(self, identity: bytes, results: Sequence[BatchResult], weight: int) -> None:
        outcomes, values = _columns(results)
        if weight > _SMALL and values is not None:
            # A small request can ask for a very large reply: a thousand reads of a value of a MiB.
            room = min(self._config.max_frame, self._room(identity)) - REPLY_HEAD - len(outcomes)
            if weight > room:
                outcomes, values = _fitted(outcomes, values, room)
                self._stats.replies_cut += 1
        clients, firsts = [result.client for result in results], [result.first for result in results]
        counts = [len(result.outcomes) for result in results]
        self._send(identity, Kind.REPLY, (clients, firsts, counts, outcomes, values))

    def reassure(self, now: float, waited: float) -> None:
        """Tell the clients of frames that have waited for long that these are under way, so that they wait on.

        Those that came just now have waited for `waited` already, at most. A client that hears nothing asks another
        replica, which proposes the same once more: under too much load that would make more of it.
        """
        if now < self._reassure_at and waited < PATIENCE:
            return
        self._reassure_at = now + PATIENCE / 2
        frames = self._frames
        waiting: defaultdict[Identity, list[_Range]] = defaultdict(list)
        for commands, frame in list(islice(frames.items(), TOLD_AT_A_TIME)):
            since = now - waited if frame.arrived == now else frame.told
            if since > now - PATIENCE:
                continue
            frame.told = now
            del frames[commands]
            frames[commands] = frame
            waiting[frame.identity].append(commands)
        for identity, taken in waiting.items():
            self._send(identity, Kind.TAKEN, tuple(zip(*taken, strict=True)))

    def answer_status(self, request: StatusRequest, status: dict[str, Any]) -> None:
        """Answer a question for this replica's state."""
        self._send(request.identity, Kind.STATUS_REPLY, (request.id, status))

    def answer_admin(self, request: AdminRequest, answer: dict[str, Any]) -> None:
        """Answer what an operator asked for."""
        self._send(request.identity, Kind.ADMIN_REPLY, (request.id, answer))

    def _send(self, identity: Identity, kind: Kind, body: Sequence[Any]) -> None:
        if not isinstance(identity, LocalClient):
            level = self.callers.level_of(identity)
            self._reply(identity, seal(kind, self._config.fingerprint, msgpack.packb(body), level))
        elif kind == Kind.REFUSED:
            client, first, _, position, text = body
            identity.refuse(client, first, text, max(position, 0))
        elif kind in (Kind.BUSY, Kind.OVER):
            identity.refuse(body[0], body[1], kind.name.lower())
        elif kind == Kind.STATUS_REPLY:
            identity.describe(*body)

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


def _fitted(outcomes: bytes, values: list[Any], room: int) -> tuple[bytes, list[Any]]:
    """The outcomes and values of a reply, without the values that do not fit into `room` bytes.

    Their commands end as UNTOLD; sent again, they come first, and a single result always fits.
    """
    told = bytearray(outcomes)
    kept = list(values)
    for index, size in enumerate(map(weigh_value, values)):
        if size > room:
            told[index] = Outcome.UNTOLD
            kept[index] = None
        else:
            room -= size
    return bytes(told), kept


def _joined(frame: _Frame) -> BatchResult:
    """One result for a frame whose commands executed in instances of their own."""
    parts = frame.parts or {}
    outcomes, values = _columns([parts[first] for first in sorted(parts)])
    return BatchResult(frame.client, frame.first, outcomes, values)


def _columns(results: Sequence[BatchResult]) -> tuple[bytes, list[Any] | None]:
    """The outcomes and the values of some results, one after the other."""
    if len(results) == 1:
        return results[0].outcomes, results[0].values
    outcomes = b"".join([result.outcomes for result in results])
    if all(result.values is None for result in results):
        return outcomes, None
    values: list[Any] = []
    for result in results:
        values += repeat(None, len(result.outcomes)) if result.values is None else result.values
    return outcomes, values


def _parts(results: Iterable[BatchResult]) -> Iterator[tuple[list[BatchResult], int]]:
    """Some results in parts, with the weight of their values: small ones together, a large one by itself."""
    part: list[BatchResult] = []
    weight = 0
    for result in results:
        more = 0 if result.values is None else weigh_values(result.values)
        if part and weight + more > _SMALL:
            yield part, weight
            part, weight = [], 0
        part.append(result)
        weight += more
    yield part, weight
