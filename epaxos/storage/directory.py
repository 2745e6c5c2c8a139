"""The data directory of one replica: whose it is."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """Whose data a directory holds.

    cluster  64-bit fingerprint of what the replicas of the cluster agree on
    n        number of replicas
    row      the replica's row in the log
    name     the replica's name; for people, it is not compared
    """

    cluster: int
    n: int
    row: int
    name: str
