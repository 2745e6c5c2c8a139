"""The two sockets that a replica listens on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zmq

from epaxos.config import ReplicaAddress
from epaxos.errors import ConfigError
from epaxos.transport.addresses import listen_zmq

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
