"""The Redis door of a replica: a thread with an event loop, its connections, and what they share."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self

from epaxos.config import Config
from epaxos.doors.desk import Desk
from epaxos.doors.gate import Executed, Gate
from epaxos.doors.redis import command, keys, lcs, notices, server, strings, walks
from epaxos.doors.redis.connection import Connection
from epaxos.doors.redis.table import TABLE
from epaxos.doors.redis.view import View
from epaxos.metrics import ReplicaStats
from epaxos.security.passwords import Passwords
from epaxos.statemachine.batch import REPLY_HEAD, Limits

__all__ = [
    "TABLE",
    "Door",
    "command",
    "keys",
    "lcs",
    "notices",
    "server",
    "strings",
    "walks",
]  # reading these modules fills the table

_log = logging.getLogger(__name__)

MOST: Final = 10_000
"""Connections at once; or half of the file descriptors that the process may have, if that is less."""

_HELD_FRAMES: Final = 8
"""What is kept for all connections, as requests that are not complete yet: so many frames of the largest."""

PATIENCE: Final = 60.0
"""Seconds for which a client need not read what it was told, nor end a request that it has begun."""

_LOOK: Final = 1.0
_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1
_ENDING: Final = 2.0  # seconds


class Door:
    """Listens on `sockets` until closed; running once made.

    bulk     bytes of an argument at most, and
    request  of a whole request
    most     connections at once
    passwords  who may log in, with what; without, all may do anything, and need not log in
    held     bytes that are kept for those connections that have many: requests that are not complete, or queued by
             MULTI, watched keys with their values, channels and names
    counts   what has happened, for INFO
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        gate: Gate,
        config: Config,
        limits: Limits,
        stats: ReplicaStats,
        *,
        patience: float = PATIENCE,
        passwords: Passwords | None = None,
        certificate: str = "",
    ) -> None:
        self.config = config
        self.limits = limits
        self.bulk = max(config.max_value, config.max_key)
        self.request = config.max_frame - REPLY_HEAD
        self.most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self.most_held = _HELD_FRAMES * config.max_frame
        self.held = 0
        self.since = self.monotonic()
        self.port: int = sockets[0].getsockname()[1]
        self.counts = stats.redis
        self.connections: set[Connection] = set()
        self.desk: Desk
        self._gate = gate
        self._stats = stats
        self._patience = patience
        self.passwords = passwords
        self._tls = _tls_of(certificate)
        self._sockets = sockets
        self.notices = notices.Notices(self.monotonic)
        self.cursors = walks.Cursors()
        self._watched: dict[bytes, set[Connection]] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - how long to wait, nothing secret
        self._thread = threading.Thread(target=self._run, name="epaxos-redis", daemon=True)
        self._thread.start()

    @property
    def replicas(self) -> int:
        """How many members the cluster has now."""
        return len(self._stats.replicas)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more and let go of all connections; a second call does nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_ENDING)

    # -- the loop ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:  # noqa: BLE001 - told in the log; it must not end the process
            _log.exception("the Redis door has failed; the replica goes on without it")
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._loop.set_exception_handler(self._complain)
        self.desk = Desk(self._gate, self.config, self.limits)
        servers = [
            await self._loop.create_server(lambda: Connection(self), sock=one, ssl=self._tls)
            for one in self._sockets
        ]
        try:
            while not self._stop.is_set():
                self._cut_stuck()
                try:
                    async with asyncio.timeout(min(_LOOK, self._patience)):
                        await self._stop.wait()
                except TimeoutError:
                    continue
        finally:
            self.desk.close()
            for one in servers:
                one.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A fault of a connection ends that connection; one of ours is told in the log."""
        error = context.get("exception")
        if isinstance(error, OSError):
            _log.debug("%s: %s", context.get("message"), error)
            return
        loop.default_exception_handler(context)
        protocol = context.get("protocol")
        if isinstance(protocol, Connection):
            protocol.transport.abort()

    def _cut_stuck(self) -> None:
        """Let go of clients that do not read what they were told, or do not end what they ask for."""
        until = self.monotonic() - self._patience
        for connection in list(self.connections):
            for since in (connection.stuck_since, connection.waits_since):
                if since is not None and since < until:
                    connection.cut()

    # -- connections -------------------------------------------------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """Let a connection in; False if there are as many as may be."""
        if len(self.connections) >= self.most:
            self.counts["rejected"] += 1
            return False
        self.counts["connections"] += 1
        self.connections.add(connection)
        self.counts["open"] = len(self.connections)
        return True

    def leave(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.counts["open"] = len(self.connections)
        connection.watched.end()
        notices.forget(connection)

    def watch(self, connection: Connection, names: Sequence[bytes]) -> None:
        """Note for a connection which of these keys are changed from now on."""
        for key in names:
            self._watched.setdefault(key, set()).add(connection)
        self.listen()

    def unwatch(self, connection: Connection, names: Iterable[bytes]) -> None:
        """Note nothing any more for a connection of these keys."""
        for key in names:
            self._watched[key].discard(connection)
            if not self._watched[key]:
                del self._watched[key]
        self.listen()

    def listen(self) -> None:
        """Be told of what executes here, as long as anybody wants to know."""
        self.desk.listen(self._executed if self._watched or self.notices else None)

    def _executed(self, executed: Executed | None) -> None:
        if executed is None:
            self._missed()
            return
        changes = list(notices.changes_of(executed))
        for key, event in changes:
            if event == notices.CLEARED:
                self._touch_cleared(key)
            elif event != b"expired":  # that shows when the key is read, and a time is no client's doing
                self._touch(key)
        if self.notices:
            self.notices.tell(changes)

    def _touch(self, key: bytes) -> None:
        for connection in self._watched.get(key, ()):
            connection.watched.touched.add(key)

    def _touch_cleared(self, prefix: bytes) -> None:
        """All keys that begin so have gone: a change to those that were there when somebody began to watch them."""
        for key, connections in self._watched.items():
            if key.startswith(prefix):
                for connection in connections:
                    if connection.watched.values.get(key) is not None:
                        connection.watched.touched.add(key)

    def _missed(self) -> None:
        """Of what executed, nothing can be told of each change."""
        for key in self._watched:
            self._touch(key)
        self.notices.cut()

    # -- what they ask -----------------------------------------------------------------------------------------

    def view(self, found: Mapping[bytes, bytes | None]) -> View:
        """What a command sees that has found this."""
        return View(found, self.milliseconds(), self.monotonic(), self.limits.value)

    def later(self, tries: int, again: Callable[[], None]) -> None:
        """Call something after a while that grows, not at the same time as others who wait."""
        self._loop.call_later(self._random.uniform(0, min(_PAUSE * tries, _LONGEST_PAUSE)), again)

    def choose(self, keys: Sequence[bytes]) -> bytes:
        """One of some keys, by chance."""
        return self._random.choice(keys)

    def keys(self) -> int:
        """How many keys this replica has, as it last noted."""
        return self._stats.gauges.keys

    @staticmethod
    def monotonic() -> float:
        """Seconds, on the clock of this machine."""
        return time.monotonic()

    @staticmethod
    def milliseconds() -> int:
        """The time of people, since the epoch."""
        return time.time_ns() // 1_000_000

    @staticmethod
    def microseconds() -> int:
        """The same, finer."""
        return time.time_ns() // 1000


def _tls_of(certificate: str) -> ssl.SSLContext | None:
    """What speaks TLS with the certificate and key in a PEM file; None without one."""
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
