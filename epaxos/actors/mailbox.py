"""The bounded mailbox under the Replica: its sockets and the messages of other threads, taken in rounds.

pykka's loop asks its inbox for one envelope at a time. This inbox answers with everything that waits on the
replica's sockets as one envelope, a `Round`, so the Replica's thread polls its sockets itself and no
frame is handed from thread to thread: a hand-over costs more than consensus on a small command. Messages
told by other threads go through an ordinary bounded queue and wake the poll through a socket pair; they come
one by one, between rounds. pykka's own loop and failure handling stay as they are.

What bounds it: a round takes at most `capacity` frames, and of a socket at most about `_ROUND_BYTES`; what has not
been taken stays in ZeroMQ's queues, which are bounded by high-water marks, and then with the senders.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import zmq

# Plain integers: an operation on pyzmq's enumerations costs several µs, and these stand in the inner loop.
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)


Arrived: TypeAlias = tuple[bytes, list[zmq.Frame]]
"""The identity of a connection and the parts of a message from there; a message in order has one part."""


def address_of(part: zmq.Frame) -> str:
    """Where the connection comes from, for the log."""
    try:
        return str(part.get("Peer-Address"))
    except zmq.ZMQError:  # not over TCP
        return "unknown"


class Round(NamedTuple):
    """Everything that waited at one moment.

    `waited` is the longest time in seconds that one of its frames can have waited since the last round.
    """

    peers: list[Arrived]
    clients: list[Arrived]
    waited: float


class Broken(NamedTuple):
    """In place of a round: polling or receiving failed, which the actor is to raise where pykka sees it."""

    error: Exception


class Envelope(NamedTuple):
    """A message in pykka's inbox; `reply_to` is the future of an `ask`, None for a `tell`."""

    message: Any
    reply_to: Any


class Sources(NamedTuple):
    """Where rounds come from: the ROUTER of the peers and that of the clients.

    `deadline` is when the Replica wants a round even if nothing arrives, on the clock of `now`; `news` are descriptors
    that make one due when they become readable, and `blocked` are sockets for which something waits: one is due when
    one of these can take it.
    """

    peers: zmq.Socket[bytes]
    clients: zmq.Socket[bytes]
    deadline: Callable[[], float]
    now: Callable[[], float]
    news: Sequence[int]
    blocked: Callable[[], Sequence[zmq.Socket[bytes]]] = tuple


def readable(source: zmq.Socket[bytes]) -> bool:
    """Whether a message waits on the socket; asking costs half of what an `Again` exception does."""
    return bool(int(source.getsockopt(_EVENTS)) & _POLLIN)


class Mailbox:
    """A pykka inbox that is fed by sockets too; `attach` is called once, in the thread that calls `get`.

    pykka makes an actor's inbox before the actor knows its configuration, so `capacity` is set afterwards.
    """

    def __init__(self) -> None:
        self._told: queue.Queue[Any] = queue.Queue(_CAPACITY)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._woken = self._wake_reader.fileno()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._sources: Sources | None = None
        self._pollables: list[tuple[Any, int]] = []
        self._last_round = 0.0

    @property
    def capacity(self) -> int:
        """How many frames a round takes from a socket, and how many messages of other threads wait, at most."""
        return self._told.maxsize

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        self._told.maxsize = capacity

    def attach(self, sources: Sources) -> None:
        """Begin to take rounds from sockets."""
        self._sources = sources
        self._last_round = sources.now()
        sockets = (sources.peers, sources.clients, self._woken, *sources.news)
        self._pollables = [(pollable, _POLLIN) for pollable in sockets]

    def put(self, envelope: Any, /) -> None:
        """Add a message from any thread; waits for room if `capacity` messages wait already."""
        self._told.put(envelope)
        self.wake()

    def wake(self) -> None:
        """Make a waiting `get` look again; for any thread."""
        try:
            self._wake_writer.send(b"!")
        except BlockingIOError:
            return  # the pair is full of wake-ups that have not been seen yet

    def empty(self) -> bool:
        """Whether no thread's message waits (frames are the sockets' matter)."""
        return self._told.empty()

    def get(self) -> Any:
        """The next message, or everything that the sockets hold; waits for either or the deadline."""
        sources = self._sources
        if sources is None:
            return self._told.get()
        if self._told.queue:  # `get_nowait` raises in almost every round, for 0.7 µs
            return self._told.get()
        try:
            return Envelope(self._round(sources), None)
        except Exception as error:  # noqa: BLE001 - pykka calls `get` outside of its own error handling
            return Envelope(Broken(error), None)

    def _round(self, sources: Sources) -> Round:
        deadline, pollables = sources.deadline(), self._pollables
        if blocked := sources.blocked():
            pollables = pollables + [(socket, _POLLOUT) for socket in blocked]
        polled_at = sources.now()
        timeout = deadline - polled_at
        # Rounded up: a poll that returns before the deadline would spin until it is reached.
        ready = dict(zmq.zmq_poll(pollables, int(min(timeout, 60.0) * 1000) + 1 if timeout > 0 else 0))
        now = sources.now()
        # Frames that were there at once may have come at any time since the last round; others came just now.
        waited = now - self._last_round if now - polled_at < _AT_ONCE else 0.0
        self._last_round = now
        if self._woken in ready:
            self._wake_reader.recv(4096)
        peers = self._take(sources.peers) if sources.peers in ready else []
        clients = self._take(sources.clients) if sources.clients in ready else []
        return Round(peers, clients, waited if peers or clients else 0.0)

    def _take(self, source: zmq.Socket[bytes]) -> list[Arrived]:
        """All messages that wait on a readable ROUTER, at most `capacity` frames and the bytes of a round.

        Of a few it is asked whether another one waits, of many found out by trying. A part as a frame is not copied,
        and says whether it is the last one and where it comes from: 0.8 µs a message instead of 3.2.
        """
        messages: list[Arrived] = []
        frames = size = 0
        receive = source.recv
        while frames < self._told.maxsize and size < _ROUND_BYTES:
            if 0 < len(messages) < _FEW and not readable(source):
                break
            try:
                identity = receive(_NOBLOCK)
            except zmq.Again:
                break
            part = receive(_NOBLOCK, copy=False)
            parts = [part]
            size += len(part)
            while part.more:
                part = receive(_NOBLOCK, copy=False)
                parts.append(part)
                size += len(part)
            messages.append((identity, parts))
            frames += len(parts)
        return messages

    def close(self) -> None:
        """Release the wake-up pair; the sockets belong to others."""
        self._wake_reader.close()
        self._wake_writer.close()


_CAPACITY: Final = 10_000

_ROUND_BYTES: Final = 64 * 1024 * 1024
"""Bytes after which a round takes no further frame from a socket: what it takes is in memory at once."""

_FEW: Final = 3
"""Messages after which trying costs less than asking before each."""

_AT_ONCE: Final = 20e-6
"""A poll that took no longer than this (seconds) found its frames waiting."""
