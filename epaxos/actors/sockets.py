"""The two sockets that a replica listens on, and the descriptors that its clients may take."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from epaxos.actors.mailbox import readable
from epaxos.config import ReplicaAddress
from epaxos.errors import ConfigError
from epaxos.metrics import ReplicaStats
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
) -> tuple[zmq.Socket[bytes], list[str]]:
    """A ROUTER bound to the replica's port for `key`, which is "port" or "client_port", and where it listens.

    `hosts` are numeric. A frame of up to twice `max_frame` is still received, so that it can be counted and answered;
    ZeroMQ cuts the connection of a larger one without a word.

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


class Door:
    """Turns new clients away while so many are connected that descriptors run out.

    Without any, the replica could not take a peer back, serve its pages or open a file; and ZeroMQ, which would find
    connections that it cannot accept, would turn in a circle. A client that is turned away goes to another replica,
    and comes back by itself. The system numbers descriptors from below, so a high number says that many are in use.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        router: zmq.Socket[bytes],
        stats: ReplicaStats,
    ) -> None:
        self._stats = stats
        place = f"inproc://door-{id(self)}"
        router.monitor(place, zmq.EVENT_ACCEPTED)
        self._news = context.socket(zmq.PAIR)
        self._news.set(zmq.RCVHWM, 0)  # else ZeroMQ's thread would wait for this one
        self._news.connect(place)
        self._silent_until = float("-inf")
        self.descriptor = int(self._news.get(zmq.FD))
        """Readable when there is something to watch."""

    def watch(self, now: float) -> None:
        """Look at who has come in; to be called now and then, it costs next to nothing where nobody has."""
        while readable(self._news):
            descriptor = parse_monitor_message(self._news.recv_multipart())["value"]
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if most != resource.RLIM_INFINITY and descriptor >= most - min(RESERVE, most // 4):
                self._turn_away(descriptor, most, now)

    def _turn_away(self, descriptor: int, most: int, now: float) -> None:
        with suppress(OSError):  # it has gone by itself, and its number may be another file's
            connection = socket.socket(fileno=descriptor)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()  # it is ZeroMQ's to close
        self._stats.error("descriptors")
        if now >= self._silent_until:
            self._silent_until = now + REMINDER
            _log.warning(
                "out of file descriptors: of %d, all that clients may have are in use, so new ones are turned away; "
                "raise the limit (ulimit -n), or find out who keeps so many connections",
                most,
            )
