"""The two sockets that a replica listens on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zmq

from epaxos.config import ReplicaAddress
from epaxos.errors import ConfigError
from epaxos.transport.addresses import listen_zmq

CLIENT_HIGH_WATER: Final = 10_000
"""Frames from or to one client that ZeroMQ keeps at most. Further requests wait at the client; further
replies are dropped, and the client asks again."""

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
    router.set(zmq.RCVHWM, PEER_HIGH_WATER if key == "port" else CLIENT_HIGH_WATER)
    router.set(zmq.SNDHWM, PEER_HIGH_WATER if key == "port" else CLIENT_HIGH_WATER)
    router.set(zmq.LINGER, 0)
    router.set(zmq.MAXMSGSIZE, 2 * max_frame)
    try:
        return router, listen_zmq(router, replica, key, hosts)
    except ConfigError:
        router.close()
        raise
