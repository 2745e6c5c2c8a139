"""The sockets of a session: one DEALER to each replica in use.

A socket is looked at through its event descriptor. That is edge-triggered: it wakes a sleeper when something
new has happened inside the socket, so the socket's event flags must have been read to the end before each
sleep. In return it tells of lost connections too, where a poll for input would sleep on.

`IMMEDIATE` makes a socket take frames only while there is a connection: it refuses at once what would wait in
a queue for a dead replica, and the frame can go to another one without any doubt whether it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final, Generic

import zmq

from epaxos.client.options import Options
from epaxos.client.session.core import Session
from epaxos.client.session.tickets import Waiter
from epaxos.transport.addresses import split
from epaxos.transport.way import Way

_HIGH_WATER: Final = 1000  # frames queued in a socket at most; a session has far fewer under way
_RECONNECT: Final = 50  # milliseconds; doubled after each failure up to
_RECONNECT_MAX: Final = 1000
_HEARTBEAT: Final = 1000  # milliseconds between signs of life on an idle connection, and
_HEARTBEAT_TIMEOUT: Final = 5000  # without one until it counts as lost
_LINGER: Final = 100  # milliseconds that the end of the process waits for a last frame to leave, if it must
_ROUND: Final = 64  # frames taken from one socket before the next one has its turn

# Plain integers: pyzmq's own constants are members of enumerations, slower to combine.
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)


class Wire(Generic[Waiter]):
    """Carries a session's frames; only one thread at a time may use it.

    `watch` is called with the descriptor of every new socket, which is to be read when it becomes readable, and `wake`
    in any thread when there is a reason to `pump`.
    """

    def __init__(
        self,
        session: Session[Waiter],
        options: Options,
        watch: Callable[[int], object],
        wake: Callable[[], object],
    ) -> None:
        self._session = session
        self._options = options
        self._watch = watch
        self._wake = wake
        self._ways: dict[int, Way] = {}
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._by_descriptor: dict[int, int] = {}
        self._look_at = inf

    def pump(self, now: float) -> bool:
        """Send all that can be sent, receive what is there; returns whether to call again before sleeping."""
        news = self._send(now)
        self._look_at = inf
        for replica, socket in self._sockets.items():
            if self._drain(replica, socket, now):
                news = True
        return news

    def _send(self, now: float) -> bool:
        session = self._session
        all_sent = True
        for outgoing in session.outgoing(now):
            try:
                self._sockets[outgoing.replica].send(outgoing.frame, _NOBLOCK)
            except zmq.Again:
                session.unsent(outgoing)
                all_sent = False
        for replica in session.take_opens():
            self._open(replica)
        return not all_sent

    def _drain(self, replica: int, socket: zmq.Socket[bytes], now: float) -> bool:
        session = self._session
        news = False
        for _ in range(_ROUND):
            events: int = socket.getsockopt(zmq.EVENTS)  # type: ignore[assignment]  # flags
            up = bool(events & _POLLOUT)
            if not up:
                self._seek(replica, socket, now)
            if up != session.is_up(replica):
                news = True
                if up:
                    session.rise(replica)
                    self._ways[replica].settle()
                else:
                    session.fall(replica)
            if not events & _POLLIN:
                return news
            session.receive(replica, socket.recv(_NOBLOCK), now)
            news = True
        return news

    def _seek(self, replica: int, socket: zmq.Socket[bytes], now: float) -> None:
        way = self._ways[replica]
        way.advance(socket, now)
        self._session.hindered(replica, way.trouble)
        self._look_at = min(self._look_at, way.deadline)

    def next_event(self) -> float:
        """When `pump` is to be called again, if nothing else happens; infinite if never."""
        event = self._session.next_event()
        return event if event == inf else min(event, self._look_at)

    def take(self, descriptor: int, now: float) -> None:
        """A descriptor became readable: most likely there is one frame, so take it without asking first."""
        replica = self._by_descriptor[descriptor]
        try:
            frame = self._sockets[replica].recv(_NOBLOCK)
        except zmq.Again:
            return  # something else happened; `pump` sees what
        self._session.receive(replica, frame, now)

    def _open(self, replica: int) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, _HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, self._options.max_frame)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT)
        way = Way(*split(self._options.endpoints[replica]), self._wake)
        way.start(socket)
        descriptor: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]  # a file
        self._sockets[replica] = socket
        self._ways[replica] = way
        self._by_descriptor[descriptor] = replica
        self._watch(descriptor)

    def descriptors(self) -> list[int]:
        """The descriptors of all open sockets."""
        return list(self._by_descriptor)

    def close(self) -> None:
        """Say farewell and close the sockets; other frames that have not left are dropped."""
        receiver, frame = self._session.farewell() or (None, b"")
        for replica, socket in self._sockets.items():
            if replica == receiver:
                with suppress(zmq.Again):
                    socket.setsockopt(zmq.LINGER, _LINGER)
                    socket.send(frame, _NOBLOCK)
            socket.close()
        self._sockets.clear()
        self._by_descriptor.clear()
