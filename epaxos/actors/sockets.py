"""The two sockets that a replica listens on, and the descriptors that its clients may take."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from epaxos.actors.mailbox import readable
from epaxos.actors.porter import CLIENTS, PEERS, Counting, Failures
from epaxos.config import ReplicaAddress
from epaxos.errors import ConfigError
from epaxos.security.curve import arm_server
from epaxos.transport.addresses import listen_zmq

_log = logging.getLogger(__name__)

CLIENT_REPLIES: Final = 10_000
"""Frames to one client that ZeroMQ keeps at most, as far as `actors.replies` lets them come that far: replies to what a
round takes in. Further ones are dropped, and the client asks again."""

CLIENT_REQUESTS: Final = 64
"""Frames from one client that ZeroMQ keeps at most, as many as a client of ours has under way; further ones wait at
the client."""

_UNREAD: Final = 60_000
"""Milliseconds after which a client that takes nothing of what is sent to it is cut off; it may connect again."""

PEER_HIGH_WATER: Final = 1000
"""Frames from one peer that ZeroMQ keeps at most; further ones wait at the peer."""


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    replica: ReplicaAddress,
    key: str,
    hosts: Sequence[str],
    max_frame: int,
    secret: str | None = None,
) -> tuple[zmq.Socket[bytes], list[str]]:
    """A ROUTER bound to the replica's port for `key`, which is "port" or "client_port", and where it listens.

    With the `secret` key of the replica, it lets in whom the gate lets in. `hosts` are numeric. A frame of up to twice
    `max_frame` is still received, so that it can be counted and answered; ZeroMQ cuts the connection of a larger one
    without a word.

    Raises:
        ConfigError: no address can be bound; says why and what to do.
    """
    router = context.socket(zmq.ROUTER)
    # High-water marks count only if they are set before bind.
    router.set(zmq.RCVHWM, PEER_HIGH_WATER if key == "port" else CLIENT_REQUESTS)
    router.set(zmq.SNDHWM, PEER_HIGH_WATER if key == "port" else CLIENT_REPLIES)
    if key == "client_port":
        router.set(zmq.TCP_MAXRT, _UNREAD)
    router.set(zmq.LINGER, 0)
    router.set(zmq.MAXMSGSIZE, 2 * max_frame)
    if secret is not None:
        arm_server(router, secret, PEERS if key == "port" else CLIENTS)
    try:
        return router, listen_zmq(router, replica, key, hosts)
    except ConfigError:
        router.close()
        raise


DESCRIPTORS: Final = 1 << 20
"""More are of no use, and a system without a limit has to have one here."""

RESERVE: Final = 64
"""Descriptors that clients leave for peers, pages and files; at most a quarter of all."""

REMINDER: Final = 600.0
"""Seconds after which the log says again that clients are turned away."""


def raise_limit() -> None:
    """Let this process have as many descriptors as the system allows it, and say how many that are.

    Each connection of a client takes one, and the soft limit is often 1,024 for the sake of old programs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError) as error:
            _log.warning("file descriptors: the limit of %d cannot be raised to %d: %s", soft, most, error)
        else:
            _log.info("file descriptors: %d at most, the limit was %d", most, soft)


_TURNED_BACK: Final = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
"""A connection has ended before its key was known: of a client that takes the replica to be open, or for another."""


class Door:
    """Watches who comes to a socket.

    New clients are turned away while so many are connected that descriptors run out. Without any, the replica could not
    take a peer back, serve its pages or open a file; and ZeroMQ, which would find connections that it cannot accept,
    would turn in a circle. A client that is turned away goes to another replica, and comes back by itself. The system
    numbers descriptors from below, so a high number says that many are in use.

    With `failures`, those are noted who do not get as far as to show a key. ZeroMQ tells of the failure first and of
    its connection then, so where one comes from is looked up when it comes.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        router: zmq.Socket[bytes],
        stats: Counting,
        name: str = CLIENTS,
        failures: Failures | None = None,
    ) -> None:
        self._stats = stats
        self._name = name
        self._failures = failures
        self._addresses: dict[int, str] = {}
        self._failed = False
        place = f"inproc://door-{id(self)}"
        watched = 0 if failures is None else _TURNED_BACK | int(zmq.EVENT_DISCONNECTED)
        router.monitor(place, int(zmq.EVENT_ACCEPTED) | watched)
        self._news = context.socket(zmq.PAIR)
        self._news.set(zmq.RCVHWM, 0)  # else ZeroMQ's thread would wait for this one
        self._news.connect(place)
        self.descriptor = int(self._news.get(zmq.FD))
        """Readable when something has come since the last `watch`."""
        self._silent_until = float("-inf")

    def watch(self, now: float) -> None:
        """Look at who has come in; to be called now and then, it costs next to nothing where nobody has."""
        while readable(self._news):
            news = parse_monitor_message(self._news.recv_multipart())
            event, descriptor = int(news["event"]), news["value"]
            if event & _TURNED_BACK:
                self._failed = True
            elif event == zmq.EVENT_DISCONNECTED:
                address = self._addresses.pop(descriptor, "unknown")
                if self._failed and self._failures is not None:
                    self._failures.note("handshake", self._name, address, now)
                self._failed = False
            else:
                self._came(descriptor, now)

    def _came(self, descriptor: int, now: float) -> None:
        if self._failures is not None:
            self._addresses[descriptor] = _address_of(descriptor)
        if self._name != CLIENTS:
            return
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY and descriptor >= most - min(RESERVE, most // 4):
            self._turn_away(descriptor, most, now)

    def _turn_away(self, descriptor: int, most: int, now: float) -> None:
        with suppress(OSError), _connection(descriptor) as connection:
            connection.shutdown(socket.SHUT_RDWR)
        self._stats.error("descriptors")
        if now >= self._silent_until:
            self._silent_until = now + REMINDER
            _log.warning(
                "out of file descriptors: of %d, all that clients may have are in use, so new ones are turned away; "
                "raise the limit (ulimit -n), or find out who keeps so many connections",
                most,
            )


@contextmanager
def _connection(descriptor: int) -> Iterator[socket.socket]:
    """A connection that is ZeroMQ's to close; an OSError if it has gone by itself, and its number is a file's."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _address_of(descriptor: int) -> str:
    """Where a connection comes from, as far as it is still there."""
    with suppress(OSError), _connection(descriptor) as connection:
        return str(connection.getpeername()[0]).removeprefix("::ffff:")
    return "unknown"
