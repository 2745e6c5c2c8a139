"""Numbers that nobody else gives, without asking anybody: of transactions, of log entries, of clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from epaxos.errors import ConfigError
from epaxos.registers.store import Store

_SERVERS: Final = 256
_AHEAD: Final = 10_000
"""Milliseconds that are reserved in the store at a time."""


class ServerIds:
    """Ids of one of 256 servers: the milliseconds since 1970 and, in the last byte, the server.

    Strictly increasing: within a millisecond, and where the clock goes back, they run ahead of it. With a `store`, over
    restarts too; without one, only if the clock has not gone back meanwhile.

    Raises:
        ConfigError: `server` is none of 0 to 255.
    """

    def __init__(
        self,
        server: int,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
        key: bytes = b"ids",
    ) -> None:
        if not 0 <= server < _SERVERS:
            raise ConfigError(f"server is {server}; allowed: 0 to {_SERVERS - 1}")
        self._server = server
        self._store = store
        self._clock = clock
        self._key = key
        self._lock = threading.Lock()
        self._last = self._reserved = 0 if store is None else store.get_uint64(key)

    def next(self) -> int:
        """An id above all before it.

        Raises:
            What the store raises; then no id was given.
        """
        with self._lock:
            moment = max(int(self._clock() * 1000), self._last + 1)
            if self._store is not None and moment > self._reserved:
                self._store.set_uint64(self._key, moment + _AHEAD)
                self._reserved = moment + _AHEAD
            self._last = moment
            return moment << 8 | self._server
