"""What clients wait for here: their frames under way, whose results these want, and the replies on their way out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from epaxos.actors.admin import AdminRequest
from epaxos.actors.callers import Callers
from epaxos.actors.slow import SlowLog
from epaxos.config import Config
from epaxos.doors.gate import Gate, LocalClient
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.batch import REPLY_HEAD, Batch, Payload
from epaxos.statemachine.machine import Run
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.results import BatchResult, weigh_value, weigh_values
from epaxos.transport.framing import Kind, seal

WAITING_FRAMES: Final = 8
"""What of clients waits in memory is no more than so many largest frames: commands that have no answer yet, and, apart
from those, answers that have not been sent."""

PATIENCE: Final = 0.1
"""Seconds without an answer after which a client is told that what it asked for is under way here, and after which it
is told again: a fraction of a try, for one that hears nothing asks elsewhere, with all of its payload."""

TOLD_AT_A_TIME: Final = 1000
"""Frames whose clients are told so in one go."""

_SMALL: Final = 64 * 1024
"""Bytes of values for which nobody asks whether there is room."""

Reply: TypeAlias = Callable[[bytes, bytes], None]
"""Sends (identity of the connection, frame) to a client; never waits."""

Identity: TypeAlias = "bytes | LocalClient"
"""Who is to be answered: a connection, or a door of this process."""

Room: TypeAlias = Callable[[bytes], int]
"""How many bytes a connection takes now."""

Range: TypeAlias = tuple[int, int, int]
"""Commands of a session: its client, the first request number, how many."""


class StatusRequest(NamedTuple):
    """A client's question for this replica's state; `options` may ask for a digest."""

    identity: Identity
    id: object
    options: dict[str, Any]


@dataclass(slots=True)
class Frame:
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


class Answers:
    """The frames of clients that are under way at a replica, and what these are told.

    `frames` are in the order of when their client last heard of them, the longest ago first; `wanted` has the frames
    that wait for the results of each proposal under way, by its commands. `restored` gives a result the numbers that
    its client knows it by, where it was asked for under others (`actors.reads`). A connection is answered at the level
    of its last frame; the doors of this process come through `gate`.
    """

    def __init__(
        self,
        config: Config,
        stats: ReplicaStats,
        reply: Reply,
        room: Room,
        gate: Gate,
        restored: Callable[[BatchResult], BatchResult],
    ) -> None:
        self._config = config
        self._most_bytes = WAITING_FRAMES * config.max_frame
        self._stats = stats
        self._reply = reply
        self._room = room
        self._gate = gate
        self._restored = restored
        self._slow = SlowLog(config.slow, stats)
        self.callers = Callers(lambda identity, roster: self.send(identity, Kind.MEMBERS, roster))
        self.frames: dict[Range, Frame] = {}
        self.wanted: dict[Range, list[Frame]] = {}
        self.waiting = 0
        """How many commands of clients have no answer yet."""
        self._waiting_bytes = 0
        self._replies: defaultdict[bytes, list[BatchResult]] = defaultdict(list)
        self._latencies: defaultdict[float, int] = defaultdict(int)
        self._reassure_at = 0.0

    def has_room(self, count: int, size: int) -> bool:
        """Whether so many commands, of `size` bytes, may be taken."""
        return (
            self.waiting + count <= self._config.max_pending
            and self._waiting_bytes + size <= self._most_bytes
        )

    def enter(self, frame: Frame) -> None:
        """A frame is under way."""
        self.frames[frame.client, frame.first, frame.count] = frame
        self.waiting += frame.count
        self._waiting_bytes += frame.size

    def want(self, frame: Frame, part: Batch) -> bool:
        """Let a frame wait for the results of a part of it; whether nobody did."""
        waiting = self.wanted.setdefault((part.client, part.first, len(part.operations)), [])
        waiting.append(frame)
        return len(waiting) == 1

    def forget(self) -> None:
        """Nothing that is under way is answered any more."""
        self.frames.clear()
        self.wanted.clear()
        self.waiting = self._waiting_bytes = 0

    def await_list(self, payload: Payload) -> bool:
        """Whether a list or a count is among some batches, and somebody waits here for what one of them comes to."""
        return payload.reads_all and not self.wanted.keys().isdisjoint(
            zip(payload.heads.clients, payload.heads.firsts, payload.heads.counts, strict=True)
        )

    def answer(self, payload: Payload, run: Run) -> None:
        """Note the results of executed batches for those clients that wait for them here; `flush` sends them."""
        wanted, heads, place = self.wanted, payload.heads, slice(run.start, run.stop)
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
            frames = self.wanted.pop((result.client, result.first, len(result.outcomes)), ())
            told = self._restored(result) if frames else result
            for frame in frames:
                self._add_result(frame, told)

    def _note_slow(self, payload: Payload, run: Run, names: Sequence[Range]) -> None:
        """Log those of the batches that have waited here for long; the first of their frames tells for how long."""
        now, begin = time.monotonic(), sum(payload.heads.counts[: run.start])
        since = self._slow.before(now)
        for name in names:
            frames = self.wanted.get(name)
            if frames and frames[0].arrived < since:
                part = slice(begin, begin + name[2])
                self._slow.note(payload.operations[part], payload.keys[part], now - frames[0].arrived, now)
            begin += name[2]

    def _add_result(self, frame: Frame, result: BatchResult) -> None:
        frame.missing -= len(result.outcomes)
        if frame.missing or frame.parts:
            frame.parts = frame.parts or {}
            frame.parts[result.first] = result
        if frame.missing:
            return
        del self.frames[frame.client, frame.first, frame.count]
        self.waiting -= frame.count
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
        self.send(identity, Kind.REPLY, (clients, firsts, counts, outcomes, values))

    def reassure(self, now: float, waited: float) -> None:
        """Tell the clients of frames that have waited for long that these are under way, so that they wait on.

        Those that came just now have waited for `waited` already, at most. A client that hears nothing asks another
        replica, which proposes the same once more: under too much load that would make more of it.
        """
        if now < self._reassure_at and waited < PATIENCE:
            return
        self._reassure_at = now + PATIENCE / 2
        frames = self.frames
        waiting: defaultdict[Identity, list[Range]] = defaultdict(list)
        for commands, frame in list(islice(frames.items(), TOLD_AT_A_TIME)):
            since = now - waited if frame.arrived == now else frame.told
            if since > now - PATIENCE:
                continue
            frame.told = now
            del frames[commands]
            frames[commands] = frame
            waiting[frame.identity].append(commands)
        for identity, taken in waiting.items():
            self.send(identity, Kind.TAKEN, tuple(zip(*taken, strict=True)))

    def answer_status(self, request: StatusRequest, status: dict[str, Any]) -> None:
        """Answer a question for this replica's state."""
        self.send(request.identity, Kind.STATUS_REPLY, (request.id, status))

    def answer_admin(self, request: AdminRequest, answer: dict[str, Any]) -> None:
        """Answer what an operator asked for."""
        self.send(request.identity, Kind.ADMIN_REPLY, (request.id, answer))

    def send(self, identity: Identity, kind: Kind, body: Sequence[Any]) -> None:
        """Tell a client something, in the words of a frame; a door hears what there is for it."""
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


def _joined(frame: Frame) -> BatchResult:
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
