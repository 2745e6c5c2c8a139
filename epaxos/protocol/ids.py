"""Identities: an instance is a place in the 2-D log, a ballot a number that names its maker."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Row: TypeAlias = int
"""A replica as the protocol knows it: 0 to n-1. It owns the row of the log with that number."""

Name: TypeAlias = str
"""Who a replica is, in all epochs (protocol 6.10): the row in which it votes, if it does, is another one in each."""

Slot: TypeAlias = int
"""A place in a row, from 0; -1 stands for "none" in every vector of slots."""

Vector: TypeAlias = tuple[Slot, ...]
"""One highest slot per row, with prefix meaning: `v[r] = s` covers every instance of row r up to s."""


class InstanceId(NamedTuple):
    """A place in the log; only the owner of `row` proposes there, each slot once (protocol 1, A)."""

    row: Row
    slot: Slot

    def __str__(self) -> str:
        return f"{self.row}.{self.slot}"


Ballot: TypeAlias = int
"""0 belongs to the row's owner; b > 0 to the replica `b % n` that recovers the instance (protocol 4.1)."""


def next_ballot(above: Ballot, recoverer: Row, n: int) -> Ballot:
    """The ballot of `recoverer` in the round of n ballots after the one that `above` is in."""
    return (above // n + 1) * n + recoverer


def covers(vector: Vector, instance: InstanceId) -> bool:
    """Whether `instance` is in the prefix that `vector` describes ("id in D")."""
    return instance.slot <= vector[instance.row]


def slots_text(vector: Vector) -> str:
    """The slots of a vector as people read them, by row; - for none."""
    return " ".join("-" if slot < 0 else str(slot) for slot in vector)
