"""Requests to peers through a transport that waits: in threads of each peer's own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from epaxos.errors import FrameError, StorageError
from epaxos.registers.transport import Transport, Unreachable

LANES: Final = 4
"""Requests to one peer that are under way at a time."""

MOST_WAITING: Final = 1000
"""Requests to one peer that wait for that; more are lost, as in a network."""

Take: TypeAlias = Callable[[Any], None]
"""Takes an answer, or an error in its place, of those that `Transport.ask` raises."""


class Lanes:
    """A peer that does not answer makes nobody wait but itself."""

    def __init__(self, name: str, transport: Transport) -> None:
        self._name = name
        self._transport = transport
        self._lock = threading.Lock()
        self._lanes: dict[int, ThreadPoolExecutor] = {}
        self._waiting: Counter[int] = Counter()

    def post(self, peer: int, request: Any, take: Take) -> None:
        """Ask a peer; `take` is called in another thread, or never once this is closed."""
        with self._lock:
            full = self._waiting[peer] >= MOST_WAITING
            self._waiting[peer] += not full
            if peer not in self._lanes:
                self._lanes[peer] = ThreadPoolExecutor(LANES, f"{self._name}-{peer}")
            lane = self._lanes[peer]
        if full:
            take(Unreachable(f"{MOST_WAITING} requests wait for node {peer}"))
            return
        try:
            lane.submit(self._ask, peer, request, take)
        except RuntimeError:  # closed meanwhile
            return

    def _ask(self, peer: int, request: Any, take: Take) -> None:
        try:
            answer: Any = self._transport.ask(peer, request, 1.0)
        except (Unreachable, FrameError, StorageError) as error:
            answer = error
        with self._lock:
            self._waiting[peer] -= 1
        take(answer)

    def close(self) -> None:
        """Ask nobody any more."""
        with self._lock:
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.shutdown(wait=False, cancel_futures=True)
