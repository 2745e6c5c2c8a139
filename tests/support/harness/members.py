"""Configurations for tests."""

from __future__ import annotations

from epaxos.protocol.membership import Configuration
from epaxos.protocol.quorums import make_quorums

_NAMES = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf")


def members(n: int = 3, protocol: str = "epaxos", epoch: int = 0) -> Configuration:
    _, f, e = make_quorums(n)
    return Configuration(epoch, protocol, _NAMES[:n], f, e)


MEMBERS = members()
