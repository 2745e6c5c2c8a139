"""The two sockets that a replica listens on."""

from __future__ import annotations

import socket
from typing import Final

import zmq

from epaxos.config import ReplicaAddress
from epaxos.errors import ConfigError

CLIENT_HIGH_WATER: Final = 10_000
"""Frames from or to one client that ZeroMQ keeps at most. Further requests wait at the client; further
replies are dropped, and the client asks again."""

PEER_HIGH_WATER: Final = 1000
"""Frames from one peer that ZeroMQ keeps at most; further ones wait at the peer."""


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    replica: ReplicaAddress,
    key: str,
    max_frame: int,
) -> zmq.Socket[bytes]:
    """A ROUTER bound to the replica's address for `key`, which is "port" or "client_port".

    A frame of up to twice `max_frame` is still received, so that it can be counted and answered; ZeroMQ
    cuts the connection of a larger one without a word.

    Raises:
        ConfigError: the address cannot be bound; says why and what to do.
    """
    port: int = getattr(replica, key)
    router = context.socket(zmq.ROUTER)
    # High-water marks count only if they are set before bind.
    router.set(zmq.RCVHWM, PEER_HIGH_WATER if key == "port" else CLIENT_HIGH_WATER)
    router.set(zmq.SNDHWM, PEER_HIGH_WATER if key == "port" else CLIENT_HIGH_WATER)
    router.set(zmq.LINGER, 0)
    router.set(zmq.MAXMSGSIZE, 2 * max_frame)
    router.set(zmq.IPV6, 1)
    try:
        host = socket.getaddrinfo(replica.host, port, type=socket.SOCK_STREAM)[0][4][0]
        router.bind(f"tcp://[{host}]:{port}" if ":" in str(host) else f"tcp://{host}:{port}")
    except (OSError, zmq.ZMQError) as error:
        router.close()
        raise ConfigError(_binding_failed(replica, key, port, error)) from error
    return router


def _binding_failed(replica: ReplicaAddress, key: str, port: int, error: OSError | zmq.ZMQError) -> str:
    where = f"replica {replica.name}: cannot listen on {replica.host}:{port} ({key})"
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name does not resolve ({error.strerror}); correct `host`"
    if error.errno == zmq.EADDRINUSE:
        return f"{where}: the port is in use, perhaps by another {replica.name}; stop that or change `{key}`"
    if error.errno == zmq.EADDRNOTAVAIL:
        return f"{where}: the address is not one of this machine; run {replica.name} there or correct `host`"
    return f"{where}: {error.strerror or error}"


def unresolved(replica: ReplicaAddress) -> str | None:
    """Why a peer's name does not resolve, None if it does; may take as long as the resolver likes."""
    try:
        socket.getaddrinfo(replica.host, replica.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"peer {replica.name}: host {replica.host!r} does not resolve ({error.strerror or error})"
    return None
