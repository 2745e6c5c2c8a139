"""The keys of sockets: CurveZMQ (ZeroMQ RFC 26), as libzmq has it."""

from __future__ import annotations

from typing import Any, Final

import zmq

from epaxos.security.keys import KeyPair

HANDSHAKE: Final = 10_000
"""Milliseconds that a connection has to log in: more than an unknown key waits for its answer (`patience.LONGEST`)."""


def make_key() -> KeyPair:
    """A key that nobody has drawn before."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def arm(socket: zmq.Socket[Any], key: KeyPair, server: str) -> None:
    """Have a socket that is about to connect log in with a key, where somebody has the public key `server`.

    With "" it expects one that nobody has, and so logs in nowhere: without any, whoever listens there would be taken.
    """
    socket.set(zmq.CURVE_SERVERKEY, (server or make_key().public).encode())
    socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())


def arm_server(socket: zmq.Socket[Any], secret: str, domain: str) -> None:
    """Have a socket that is about to listen let nobody in whom the gate (`actors.porter`) does not."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, secret.encode())
    socket.set(zmq.ZAP_DOMAIN, domain.encode())
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE)
