"""Replies on their way to clients, bounded in bytes: what a client does not read may not fill the replica.

ZeroMQ bounds what it queues for a connection in frames, and a frame may be large. It tells nobody how much is queued,
but it tells when it has let go of a message that was given to it without a copy. So every so many bytes a frame is sent
that way; messages of a connection leave in order, and what was sent before it has left by then too. What has been sent
after the last such frame is not known: less than `_SEGMENT` a connection.

**A connection may hold as much as is free.** One alone gets half of the whole, two that stand still a third each, and
what is left over is for those that read: so no client that does not read keeps others from being answered.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any, Final

import zmq

from epaxos.metrics import ReplicaStats

_SEGMENT: Final = 64 * 1024
"""Bytes of one connection between two frames whose leaving is noticed; noticing costs some 30 µs."""

_TAILS: Final = 10_000
"""Connections of which it is known how much has been sent since the last such frame."""

# Plain integers: an operation on pyzmq's enumerations costs several µs.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)


class Replies:
    """Sends through the ROUTER of the clients; together at most `limit` bytes wait there to leave."""

    def __init__(self, router: zmq.Socket[bytes], limit: int, stats: ReplicaStats) -> None:
        self._router = router
        self._limit = limit
        self._stats = stats
        self._total = 0
        self._held: defaultdict[bytes, int] = defaultdict(int)
        self._segments: defaultdict[bytes, deque[tuple[Any, int]]] = defaultdict(deque)
        self._tails: dict[bytes, int] = {}

    def room(self, identity: bytes) -> int:
        """How many bytes a connection takes now."""
        if self._total:
            self._look()
        return self._limit - self._total - self._held.get(identity, 0)

    def _look(self) -> None:
        """Take account of what has left."""
        for identity, segments in list(self._segments.items()):
            while segments and segments[0][0].done:
                _, size = segments.popleft()
                self._held[identity] -= size
                self._total -= size
            if not segments:
                del self._segments[identity], self._held[identity]
        self._stats.replies_waiting = self._total

    def send(self, identity: bytes, frame: bytes) -> None:
        """Send a frame if there is room for it; never waits.

        A ROUTER drops what it cannot queue, and what is for a client that has gone.
        """
        if self._total and len(frame) > self.room(identity):
            self._stats.replies_dropped += 1
            return
        tail = self._tails.get(identity, 0) + len(frame)
        if tail < _SEGMENT:
            if len(self._tails) >= _TAILS:
                self._tails.clear()
            self._tails[identity] = tail
            send_now(self._router, identity, frame)
            return
        self._tails.pop(identity, None)
        self._router.send(identity, _MORE)
        message = zmq.Frame(frame, track=True, copy=False, copy_threshold=0)
        tracker = self._router.send(message, _NOBLOCK, copy=False, track=True)
        self._segments[identity].append((tracker, tail))
        self._held[identity] += tail
        self._total += tail
        self._stats.replies_waiting = self._total


def send_now(router: zmq.Socket[bytes], identity: bytes, frame: bytes) -> None:
    """Send through a ROUTER, which drops what it cannot queue: an absent or stuck client costs nothing."""
    router.send(identity, _MORE)
    router.send(frame, _NOBLOCK)
