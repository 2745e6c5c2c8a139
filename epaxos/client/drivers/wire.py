"""The sockets of a session: one DEALER to each replica in use, in a ZeroMQ context of their own.

A socket is looked at through its event descriptor. That is edge-triggered: it wakes a sleeper when something
new has happened inside the socket, so the socket's event flags must have been read to the end before each
sleep. In return it tells of lost connections too, where a poll for input would sleep on.

`IMMEDIATE` makes a socket take frames only while there is a connection: it refuses at once what would wait in
a queue for a dead replica, and the frame can go to another one without any doubt whether it was sent.

**Failures.** What ZeroMQ or the system refuses is trouble with one replica: its socket goes, the session is told why
and asks for another after a while. The context is no other client's, so none can use up its sockets, and a
call from a signal handler meets no lock of its own thread.

**Forks.** A child shares the kernel's half of its parent's sockets: one byte that it takes or leaves there makes the
parent sleep for ever, or abort. `disown` takes the sockets out of its reach.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, Generic

import zmq

from epaxos.client.options import Options
from epaxos.client.session.core import Session
from epaxos.client.session.tickets import Uncopied, Waiter
from epaxos.security.curve import arm
from epaxos.transport.addresses import split
from epaxos.transport.way import Way

_HIGH_WATER: Final = 1000  # frames queued in a socket at most; a session has far fewer under way
_RECONNECT: Final = 50  # milliseconds; doubled after each failure up to
_RECONNECT_MAX: Final = 1000
_HEARTBEAT: Final = 1000  # milliseconds between signs of life on an idle connection, and
_HEARTBEAT_TIMEOUT: Final = 5000  # without one until it counts as lost
_LINGER: Final = 100  # milliseconds that closing waits for a last frame to leave, if it must
_ROUND: Final = 64  # frames taken from one socket before the next one has its turn
_DESCRIPTORS: Final = 8  # what a context and its first socket take: without those libzmq aborts the process

# Plain integers: pyzmq's own constants are members of enumerations, slower to combine.
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)

_disowned: Final[list[object]] = []  # never freed: to free a socket is to use it


class _Socket(zmq.Socket[bytes]):
    """The DEALER of a replica, in its place among all `sockets` before there is anything to close.

    A context waits for its last socket when it ends. One that a signal handler's exception made be forgotten would
    live on in the traceback, and nobody would close it.
    """

    def __init__(
        self, context: zmq.Context[Any], sockets: dict[int, zmq.Socket[bytes]], replica: int
    ) -> None:
        sockets[replica] = self
        super().__init__(context, zmq.DEALER)


class Wire(Uncopied, Generic[Waiter]):
    """Carries a session's frames; only one thread at a time may use it.

    `watch` is called with the descriptor of every new socket, which is to be read when it becomes readable, `unwatch`
    before it is closed, and `wake` in any thread when there is a reason to `pump`.
    """

    def __init__(
        self,
        session: Session[Waiter],
        options: Options,
        watch: Callable[[int], object],
        unwatch: Callable[[int], object],
        wake: Callable[[], object],
    ) -> None:
        self._session = session
        self._options = options
        self._watch = watch
        self._unwatch = unwatch
        self._wake = wake
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._ways: dict[int, Way] = {}
        self._by_descriptor: dict[int, int] = {}
        self._look_at = inf

    def pump(self, now: float) -> bool:
        """Send all that can be sent, receive what is there; returns whether to call again before sleeping."""
        news = self._send(now)
        self._look_at = inf
        for replica in tuple(self._sockets):
            try:
                if self._drain(replica, now):
                    news = True
            except zmq.ZMQError as error:
                self._break(replica, error, now)
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
            except (KeyError, zmq.ZMQError) as error:
                session.unsent(outgoing)
                self._break(outgoing.replica, error, now)
                all_sent = False
        for replica in session.take_opens():
            if not self._open(replica, now):
                all_sent = False
        return not all_sent

    def _drain(self, replica: int, now: float) -> bool:
        session = self._session
        sockets = self._sockets
        news = False
        for _ in range(_ROUND):
            socket = sockets.get(replica)
            if socket is None:
                return news  # the process has forked, in a signal handler
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
        way.advance((socket,), now)
        self._session.hindered(replica, way.trouble)
        self._look_at = min(self._look_at, way.deadline)

    def next_event(self) -> float:
        """When `pump` is to be called again, if nothing else happens; infinite if never."""
        event = self._session.next_event()
        return event if event == inf else min(event, self._look_at)

    def take(self, descriptor: int, now: float) -> None:
        """A descriptor became readable: most likely there is one frame, so take it without asking first."""
        replica = self._by_descriptor.get(descriptor)
        if replica is None:
            return
        try:
            frame = self._sockets[replica].recv(_NOBLOCK)
        except zmq.ZMQError:
            return  # something else happened; `pump` sees what
        self._session.receive(replica, frame, now)

    def _open(self, replica: int, now: float) -> bool:
        place = self._options.directory.places[replica]
        try:
            if self._context is None:
                self._context = _make_context(len(self._options.endpoints))
            socket = _Socket(self._context, self._sockets, replica)
            _set_options(socket, self._options.max_frame)
            login = self._options.login
            if login is not None:
                arm(socket, login.key, place.server)
            way = self._ways[replica] = Way(*split(place.endpoint), self._wake, keys=login is not None)
            way.start((socket,))
            descriptor: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]  # a file
            # What is watched is known first, wherever this is broken off.
            self._by_descriptor[descriptor] = replica
            self._watch(descriptor)
        except (zmq.ZMQError, OSError) as error:
            if error.errno is None:
                raise  # a TimeoutError of the program's own, from a signal handler
            self._break(replica, error, now)
            return False
        return True

    def _break(self, replica: int, error: Exception, now: float) -> None:
        """A replica's socket cannot be made, or is of no more use."""
        for descriptor, owner in tuple(self._by_descriptor.items()):
            if owner == replica:
                self._unwatch(descriptor)
                del self._by_descriptor[descriptor]
        self._ways.pop(replica, None)
        socket = self._sockets.get(replica)
        if socket is not None:
            socket.close(linger=0)
            self._sockets.pop(replica, None)  # only now: see `_Socket`
        self._session.broken(replica, getattr(error, "strerror", None) or type(error).__name__, now)

    def close(self, *, farewell: bool = True) -> None:
        """`shut` and `end`."""
        self.shut(farewell=farewell)
        self.end()

    def shut(self, *, farewell: bool = True) -> None:
        """Say farewell and close the sockets; other frames that have not left are dropped."""
        receiver, frame = (self._session.farewell() if farewell else None) or (None, b"")
        for descriptor in self._by_descriptor:
            self._unwatch(descriptor)
        self._by_descriptor.clear()
        for replica, socket in self._sockets.items():
            if replica == receiver:
                with suppress(zmq.ZMQError):
                    socket.setsockopt(zmq.LINGER, _LINGER)
                    socket.send(frame, _NOBLOCK)
            socket.close()
        self._sockets.clear()
        self._ways.clear()

    def end(self) -> None:
        """After `shut`, in any thread: wait until the farewell has left, for `_LINGER` at most."""
        if self._context is not None:
            self._context.term()

    def disown(self) -> None:
        """In a forked child: leave alone what is the parent's."""
        _disowned.append((self._context, dict(self._sockets)))
        self._context = None
        self._sockets.clear()
        self._by_descriptor.clear()


def _make_context(replicas: int) -> zmq.Context[zmq.Socket[bytes]]:
    """A context with room for a socket to each replica.

    Raises:
        OSError: there are not enough descriptors.
    """
    spare: list[int] = []
    try:
        while len(spare) < _DESCRIPTORS:
            spare.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in spare:
            os.close(descriptor)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    if replicas > 1000:
        context.set(zmq.MAX_SOCKETS, 2 * replicas)
    return context


def _set_options(socket: zmq.Socket[bytes], max_frame: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
    socket.setsockopt(zmq.RCVHWM, _HIGH_WATER)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT)
