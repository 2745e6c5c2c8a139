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
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import zmq

from epaxos.transport.framing import Body

# Plain integers: an operation on pyzmq's enumerations costs several µs, and these stand in the inner loop.
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_FD: Final = int(zmq.FD)


Arrived: TypeAlias = tuple[bytes, list[zmq.Frame]]
"""The identity of a connection and the parts of a message from there; a message in order has one part."""


def content_of(part: zmq.Frame) -> Body:
    """What a part holds: a view of it where it is large, a copy of a small one, which is opened in 2.7 µs, not 3.2."""
    return part.bytes if len(part) < _SMALL else part.buffer


def address_of(part: zmq.Frame) -> str:
    """Where the connection comes from, for the log."""
    try:
        return str(part.get("Peer-Address"))
    except zmq.ZMQError:  # not over TCP
        return "unknown"


class Round(NamedTuple):
    """Everything that waited at one moment.

    `waited` is the longest time in seconds that one of its frames can have waited since the last round. It is `urged`
    if there may be something else than frames: a thread has asked for it, or there is news, or room where something is
    blocked.
    """

    peers: list[Arrived]
    clients: list[Arrived]
    waited: float
    urged: bool = False


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
    one of these can take it. `sent` tells through which ROUTERs something was sent since that was last asked.
    """

    peers: zmq.Socket[bytes]
    clients: zmq.Socket[bytes]
    deadline: Callable[[], float]
    now: Callable[[], float]
    news: Sequence[int]
    sent: Callable[[], Sequence[zmq.Socket[bytes]]]
    blocked: Callable[[], Sequence[zmq.Socket[bytes]]] = tuple


def readable(source: zmq.Socket[bytes]) -> bool:
    """Whether a message waits on the socket; asking costs half of what an `Again` exception does."""
    return bool(int(source.getsockopt(_EVENTS)) & _POLLIN)


def _takes(target: zmq.Socket[bytes]) -> bool:
    """Whether the socket takes a message."""
    return bool(int(target.getsockopt(_EVENTS)) & _POLLOUT)


class Mailbox:
    """A pykka inbox that is fed by sockets too; `attach` is called once, in the thread that calls `get`.

    pykka makes an actor's inbox before the actor knows its configuration, so `capacity` is set afterwards.

    The sockets' descriptors are polled, not the sockets: ZeroMQ's own poll asks each of them twice, and each time two
    system calls answer. A descriptor is readable once something has come since its socket was last asked or sent
    through, so a socket must be known to be empty before the poll waits: one that was left with messages, or sent
    through, is asked first.
    """

    def __init__(self) -> None:
        self._told: queue.Queue[Any] = queue.Queue(_CAPACITY)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._woken = self._wake_reader.fileno()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._sources: Sources | None = None
        self._poll = select.poll()
        self._peers = self._clients = -1
        self._full: list[zmq.Socket[bytes]] = []
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
        self._peers, self._clients = (
            int(router.getsockopt(_FD)) for router in (sources.peers, sources.clients)
        )
        self._full = [sources.peers, sources.clients]
        for descriptor in (self._peers, self._clients, self._woken, *sources.news):
            self._poll.register(descriptor, select.POLLIN)

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
        deadline = sources.deadline()
        unsure, self._full = self._full, []
        unsure += [router for router in sources.sent() if router not in unsure]
        full = [router for router in unsure if readable(router)] if unsure else ()
        polled_at = sources.now()
        timeout = 0.0 if full else deadline - polled_at
        # Rounded up: a poll that returns before the deadline would spin until it is reached.
        ready = self._wait(sources, int(min(timeout, 60.0) * 1000) + 1 if timeout > 0 else 0)
        now = sources.now()
        # Frames that were there at once may have come at any time since the last round; others came just now.
        waited = now - self._last_round if now - polled_at < _AT_ONCE else 0.0
        self._last_round = now
        if self._woken in ready:
            self._wake_reader.recv(4096)
        peers = self._take(sources.peers) if self._peers in ready or sources.peers in full else []
        clients = self._take(sources.clients) if self._clients in ready or sources.clients in full else []
        urged = not ready <= {self._peers, self._clients}
        return Round(peers, clients, waited if peers or clients else 0.0, urged)

    def _wait(self, sources: Sources, milliseconds: int) -> set[int]:
        """The descriptors that are readable, at the latest after so long."""
        blocked = sources.blocked()
        if not blocked:
            return {descriptor for descriptor, _ in self._poll.poll(milliseconds)}
        descriptors = [int(target.getsockopt(_FD)) for target in blocked]
        for descriptor in descriptors:
            self._poll.register(descriptor, select.POLLIN)
        free = {descriptor for descriptor, target in zip(descriptors, blocked, strict=True) if _takes(target)}
        ready = {descriptor for descriptor, _ in self._poll.poll(0 if free else milliseconds)}
        for descriptor in descriptors:
            self._poll.unregister(descriptor)
        return ready | free

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
        else:
            self._full.append(source)
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

_SMALL: Final = 4096
"""Bytes from which a part is not copied to be looked at."""

_AT_ONCE: Final = 20e-6
"""A poll that took no longer than this (seconds) found its frames waiting."""
