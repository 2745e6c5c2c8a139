"""One connection of the Redis door: requests in, replies out in their order, and what a client has set for itself.

**What a connection has asked for executes in its order.** All commands that wait and are operations of the store go to
the Replica together; what follows waits for their answers, and so does a command that is more than an operation
(`attempt`). So a pipeline costs one round trip for as many commands as come in one piece, and no order of instances is
relied upon.

**What it may hold is bounded.** Nothing more is read while something is under way and much waits already, nor while the
client does not read what it was told; one that does not for long is cut, and so is one that does not end a request.
What is kept for it is counted, and replies are made as they leave, since many may have a value in common.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

from epaxos.doors.desk import BYTES, Command, Result, Then
from epaxos.doors.redis.admission import admitted
from epaxos.doors.redis.attempt import (
    Attempt,
    answer_of,
    as_one,
    carried_out,
    error_of,
    plan_of,
)
from epaxos.doors.redis.resp import (
    Parser,
    ProtocolError,
    Push,
    RedisError,
    Reply,
    Request,
    encode,
)
from epaxos.doors.redis.table import Plan, Spec, Walk
from epaxos.doors.redis.transaction import Transaction, Watched, execute
from epaxos.errors import ClientError
from epaxos.security.rights import EVERYTHING, Rights
from epaxos.statemachine.batch import MULTI_PARTS
from epaxos.statemachine.operations import READERS, Outcome

if TYPE_CHECKING:
    from epaxos.doors.redis.door import Door

_RUN: Final = 1000
"""Requests that are under way at once, of a connection."""

_PARTS: Final = MULTI_PARTS // 2
"""Operations in these, if some are of several keys."""

_AHEAD: Final = 64 * 1024
"""Bytes of requests that wait behind those, about; nothing is read beyond."""

_CHUNK: Final = 64 * 1024
"""Bytes of replies that are encoded at once, at least."""

_ids = count(1)

_PUSHED: Final = 10_000
"""Messages that wait to be read by one that has subscribed, and"""

_PUSHED_BYTES: Final = 8 * 1024 * 1024
"""bytes of these."""

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 300),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 100),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A client whose machine has gone is noticed after some minutes, as by Redis."""

_Slot: TypeAlias = "tuple[Plan | None, Reply]"
"""Of a request that is under way: what it is, or, if that is nothing to wait for, its reply."""


class Connection(asyncio.Protocol):
    """One client.

    version   of RESP
    user      the name under which it has logged in, and what stood for its password then; empty before
    watched   the keys of WATCH
    kept      bytes of what it watches and of the channels to which it has subscribed
    stuck_since, waits_since  the moment from which on it does not read, or does not end a request
    """

    transport: asyncio.Transport

    def __init__(self, door: Door) -> None:
        self.door = door
        self.id = next(_ids)
        self.since = door.monotonic()
        self.last = ""
        self.name = self.library = self.library_version = b""
        self.version = 2
        self.reads_here = False
        self.user = "", ""
        self.transaction: Transaction | None = None
        self.watched = Watched(self)
        self.kept = 0
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self._parser = Parser(door.bulk, door.request)
        self._todo: deque[Request] = deque()
        self._wrong: ProtocolError | None = None
        self._slots: list[_Slot] = []
        self._busy = False
        self._out: deque[Reply | partial[Reply]] = deque()
        self._pushed = 0
        self._writing = True
        self._reading = True
        self._ending = self._going = self._ended = False
        self._held = 0
        self._walk: asyncio.Future[None] | None = None
        self.stuck_since: float | None = None
        self.waits_since: float | None = None

    # -- asyncio's calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_CHUNK)
        for level, option, value in _KEEPALIVE:
            transport.get_extra_info("socket").setsockopt(level, option, value)
        if not self.door.admit(self):
            self._ending = True
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone; what is under way executes all the same."""
        del exc
        self._ending = True
        self._todo.clear()
        self._out.clear()
        if self._walk is not None:
            self._walk.cancel()
        self.door.leave(self)
        self._account(0)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._ending:
            return
        self._parser.feed(data)
        self._go()

    def eof_received(self) -> bool:
        """It says no more: what it asked for is answered still, if it was complete."""
        self._ended = True
        self._go()
        return not self._ending

    def pause_writing(self) -> None:
        """It does not read as fast as it asks."""
        self._writing = False
        self.stuck_since = self.door.monotonic()

    def resume_writing(self) -> None:
        """It has read."""
        self._writing = True
        self.stuck_since = None
        self._pump()
        self._go()

    # -- requests ----------------------------------------------------------------------------------------------

    def _go(self) -> None:
        """Begin what can be begun, until something is under way."""
        if self._going or self._ending:
            return
        self._going = True
        while self._is_free:
            if not self._todo and self._wrong is None:
                requests, self._wrong = self._parser.take(_RUN, BYTES)
                self._todo += requests
                if requests:
                    self.waits_since = None
            if not self._todo:
                break
            self._run()
        self._going = False
        if self._is_free and not self._todo and (self._wrong is not None or self._ended):
            self._end(self._wrong)
        self._account(self._parser.held + self._kept_for_it)
        if not (self._is_free and self._parser.held):
            self.waits_since = None
        elif self.waits_since is None:
            self.waits_since = self.door.monotonic()
        reading = self._parser.held < _AHEAD or self._is_free
        if reading != self._reading and not self._ending:
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    @property
    def _is_free(self) -> bool:
        """Whether nothing is under way, and all that was told has left, or nearly."""
        return not (self._busy or self._out or self._ending) and self._writing

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be told on it."""
        return self._ending

    @property
    def _kept_for_it(self) -> int:
        """Bytes that stay until it says something else."""
        queued = 0 if self.transaction is None else self.transaction.size
        return self.kept + queued + len(self.name) + len(self.library) + len(self.library_version)

    def _account(self, held: int) -> None:
        """Take account of what is in memory for it; who wants more than there is room for is cut."""
        if held <= _AHEAD:
            held = 0
        if held != self._held:
            self.door.held += held - self._held
            grows, self._held = held > self._held, held
            if grows and self.door.held > self.door.most_held and not self._ending:
                self._end(ProtocolError("no room for so much now"))

    def _end(self, wrong: ProtocolError | None) -> None:
        """Tell what is wrong, and close once that has left."""
        self._ending = True
        if wrong is not None:
            self.door.counts["protocol_errors"] += 1
            self.transport.write(encode(RedisError(f"ERR Protocol error: {wrong}"), self.version))
        self.transport.close()

    def _run(self) -> None:
        """Begin some requests: all that are operations of the store, or one that is not."""
        commands: list[Command] = []
        parts = size = 0
        while self._todo and len(self._slots) < _RUN and parts < _PARTS and size < BYTES:
            request = self._todo[0]
            if request[0].lower() in _OF_HTTP:
                self.door.counts["protocol_errors"] += 1
                self.cut()
                return
            try:
                spec = self._allowed(request)
                slot = self._slot(spec, request)
            except RedisError as error:
                slot = None, error
            if slot is None:  # to be alone
                if not self._slots:
                    self._todo.popleft()
                    self._begin_alone(spec, request)
                    return
                break
            self._todo.popleft()
            self._slots.append(slot)
            if slot[0] is not None:
                commands.append(as_one(slot[0].parts))
                parts += len(slot[0].parts)
                size += sum(map(len, request))
        self.door.counts["commands"] += len(self._slots)
        if commands:
            self._busy = True
            self.ask(commands, self._finish_planned)
        else:
            self._finish_run([])

    def ask(self, commands: Sequence[Command], then: Then) -> None:
        """Ask the replica for commands."""
        self.door.desk.ask(commands, self._guarded(then))

    def _guarded(self, then: Then) -> Then:
        """Takes an answer; where that is a fault of ours it ends this connection, which would wait for ever."""

        def guarded(results: Sequence[Result] | ClientError) -> None:
            try:
                then(results)
            except Exception:
                self.cut()
                raise

        return guarded

    def _slot(self, spec: Spec, request: Request) -> _Slot | None:
        """What a request is, with others beside it; None if it must be alone."""
        if self.transaction is not None and spec.name not in _AT_ONCE:
            return None, self.transaction.queue(spec, request, self.door.request)
        if spec.alone:
            return None
        if spec.local is not None:
            return None, spec.local(self, request)
        if spec.reads_only and self.reads_here:
            return None
        plan = plan_of(self.door, spec, request)
        return None if plan is None else (plan, None)

    def _allowed(self, request: Request) -> Spec:
        """The command of a request; one that may not be asked for makes EXEC refuse all others.

        Raises:
            RedisError: there is none, or it may not be asked for.
        """
        try:
            spec = admitted(self, request)
        except RedisError:
            if self.transaction is not None:
                self.transaction.spoilt = True
            raise
        self.last = spec.name
        return spec

    @property
    def rights(self) -> Rights | None:
        """What it may do now; None if it has not logged in, or what it did so with is not on the list any more."""
        passwords = self.door.passwords
        return EVERYTHING if passwords is None else passwords.still(*self.user)

    @property
    def address(self) -> str:
        """Where it comes from."""
        return str((self.transport.get_extra_info("peername") or ("unknown",))[0])

    def _finish_planned(self, results: Sequence[Result] | ClientError) -> None:
        """What was asked for has come."""
        plans = [plan for plan, _ in self._slots if plan]
        if isinstance(results, ClientError):
            self._finish_run([error_of(results)] * len(plans))
        else:
            again = [index for index, (outcome, _) in enumerate(results) if outcome == Outcome.UNTOLD]
            if again and all(part.operation in READERS for plan in plans for part in plan.parts):
                self._ask_again(list(results), again)
                return
            self._finish_run([partial(answer_of, *one) for one in zip(plans, results, strict=True)])
        self._go()

    def _ask_again(self, results: list[Result], again: list[int]) -> None:
        """Values that were too much beside others: nothing of this connection changes them meanwhile."""
        plans = [plan for plan, _ in self._slots if plan]

        def then(more: Sequence[Result] | ClientError) -> None:
            if isinstance(more, ClientError):
                self._finish_planned(more)
                return
            for index, result in zip(again, more, strict=True):
                results[index] = result
            self._finish_planned(results)

        self.ask([as_one(plans[index].parts) for index in again], then)

    def _finish_run(self, replies: Sequence[Reply | partial[Reply]]) -> None:
        """Put the replies of a run in their order, those that were known before among those that have come."""
        come = iter(replies)
        self._out += [reply if plan is None else next(come) for plan, reply in self._slots]
        self._slots.clear()
        self._busy = False
        self._pump()

    @property
    def is_subscriber(self) -> bool:
        """Whether what it is told without having asked leaves no room for commands, as in version 2."""
        return self.version == 2 and bool(self.channels or self.patterns)

    def push(self, message: Push) -> None:
        """Tell what nobody asked for; who does not read it is cut, and who has not all keys any more."""
        rights = self.rights
        self._pushed += sum(len(item) for item in message.items if isinstance(item, bytes))
        is_full = len(self._out) >= _PUSHED or self._pushed > _PUSHED_BYTES
        if is_full or rights is None or rights.prefixes:
            self.cut()
        elif not self._ending:
            self._out.append(message)
            self._pump()

    def cut(self) -> None:
        """End the connection at once, whatever was still to be told."""
        if not self._ending:
            self._ending = True
            self._out.clear()
            self.door.counts["cut"] += 1
            self.transport.abort()

    def finish(self, reply: Reply) -> None:
        """The reply to a request that was alone."""
        self._busy = False
        self.door.counts["commands"] += 1
        self._out.append(reply)
        self._pump()
        self._go()

    def _pump(self) -> None:
        """Let replies leave, as long as they are read."""
        while self._out and self._writing and not self._ending:
            chunk: list[bytes] = []
            size = 0
            while self._out and size < _CHUNK:
                reply = self._out.popleft()
                encoded = encode(reply() if isinstance(reply, partial) else reply, self.version)
                chunk.append(encoded)
                size += len(encoded)
            self.transport.write(b"".join(chunk))
        if not self._out:
            self._pushed = 0

    def close(self, last: Reply) -> None:
        """Answer one thing more and close."""
        self._ending = True
        self.transport.write(encode(last, self.version))
        self.transport.close()

    # -- what is alone -----------------------------------------------------------------------------------------

    def _begin_alone(self, spec: Spec, request: Request) -> None:
        self._busy = True
        if spec.name == "exec":
            execute(self)
        elif spec.name == "watch":
            self.watched.begin(request[1:])
        elif spec.local is not None:
            self._local_alone(spec, request)
        elif spec.walk is not None:
            self._walk = asyncio.ensure_future(self._walk_through(spec.walk, request))
        elif self.reads_here and spec.reads_only:
            self._read_here(spec, request)
        else:
            assert spec.apply is not None
            apply = spec.apply
            Attempt(self, spec.keys(request), lambda view: apply(view, request), self.finish).begin()

    def _local_alone(self, spec: Spec, request: Request) -> None:
        assert spec.local is not None
        try:
            reply = spec.local(self, request)
        except RedisError as error:
            reply = error
        if not self._ending:
            self.finish(reply)

    async def _walk_through(self, walk: Walk, request: Request) -> None:
        reply: Reply
        try:
            reply = await walk(self, request)
        except ClientError as error:
            reply = error_of(error)
        except RedisError as error:
            reply = error
        except Exception:
            self.cut()
            raise
        if not self._ending:
            self.finish(reply)

    def _read_here(self, spec: Spec, request: Request) -> None:
        keys = list(dict.fromkeys(spec.keys(request)))

        def then(results: Sequence[Result] | ClientError) -> None:
            if isinstance(results, ClientError):
                self.finish(error_of(results))
                return
            values = [value if isinstance(value, bytes) else None for _, value in results]
            view = self.door.view(dict(zip(keys, values, strict=True)))
            self.finish(carried_out(spec, request, view, self.door.request))

        self.door.desk.read_here(keys, self._guarded(then))


_OF_HTTP: Final = frozenset({b"post", b"host:"})
"""How a request of HTTP begins, or goes on: a page in somebody's browser sends it, with commands as its lines."""

_AT_ONCE: Final = frozenset({"multi", "exec", "discard", "watch", "quit", "reset"})
"""What is never queued."""
