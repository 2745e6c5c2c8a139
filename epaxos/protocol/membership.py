"""Who takes part in an epoch of a cluster (protocol 6.1): a configuration, which lasts as long as the epoch."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

from epaxos.protocol.ids import Row
from epaxos.protocol.quorums import Quorums, allowed

_EPOCHS = 2**32


class Configuration(NamedTuple):
    """The configuration of one epoch; rows of a log, vectors and ballots mean nothing without it.

    epoch     counts configurations from 0, which is that of a cluster when it begins
    protocol  by which instances are decided (`protocol.kinds`)
    names     the voters, in the order of their rows
    f, e      as in `protocol.quorums`
    """

    epoch: int
    protocol: str
    names: tuple[str, ...]
    f: int
    e: int

    @property
    def n(self) -> int:
        """How many vote."""
        return len(self.names)

    @property
    def quorums(self) -> Quorums:
        """The thresholds of its epoch."""
        return Quorums(self.n, self.f, self.e)

    @property
    def digest(self) -> int:
        """64 bits by which replicas notice that they mean different things by one epoch."""
        return int.from_bytes(blake2b(repr(tuple(self)).encode(), digest_size=8).digest(), "big")

    def row_of(self, name: str) -> Row:
        """The row of a voter.

        Raises:
            ValueError: nobody votes under this name.
        """
        return self.names.index(name)


def make_configuration(fields: Any) -> Configuration:
    """The configuration that was written as these fields.

    Raises:
        ValueError, TypeError: they are none.
    """
    epoch, protocol, names, f, e = fields
    if [type(field) for field in (epoch, protocol, names, f, e)] != [int, str, list, int, int]:
        raise TypeError("fields of other types")
    if set(map(type, names)) != {str} or len(set(names)) != len(names):
        raise ValueError("names that are none, or not distinct")
    if not (0 <= epoch < _EPOCHS and allowed(len(names), f, e)):
        raise ValueError(f"epoch {epoch}, n={len(names)}, f={f}, e={e}")
    return Configuration(epoch, protocol, tuple(names), f, e)
