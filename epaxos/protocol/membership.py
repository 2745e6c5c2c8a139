"""Who takes part in an epoch of a cluster (protocol 6.1): a configuration, which lasts as long as the epoch."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

from epaxos import version
from epaxos.protocol.ids import Row
from epaxos.protocol.quorums import Quorums, allowed, make_quorums

_EPOCHS = 2**32
_REQUESTS = 2**64
_LEVELS = 2**8


class Configuration(NamedTuple):
    """The configuration of one epoch; rows of a log, vectors and ballots mean nothing without it.

    epoch     counts configurations from 0, which is that of a cluster when it begins
    protocol  by which instances are decided (`protocol.kinds`)
    names     the voters, in the order of their rows
    f, e      as in `protocol.quorums`
    request   a number drawn by who asked for this epoch, by which they know it; 0 of the first one
    level     of all that its members send one another, and keep (`epaxos.version`); it never falls
    """

    epoch: int
    protocol: str
    names: tuple[str, ...]
    f: int
    e: int
    request: int = 0
    level: int = version.OLDEST

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

    def is_like(self, other: Configuration) -> bool:
        """Whether the same vote in the same way, in whichever epoch."""
        return self[1:5] == other[1:5]

    def has_voters_of(self, other: Configuration) -> bool:
        """Whether the same vote in the same rows by the same protocol, perhaps with other thresholds."""
        return (self.protocol, self.names) == (other.protocol, other.names)

    def next(
        self, request: int, f: int | None = None, e: int | None = None, level: int | None = None
    ) -> Configuration:
        """The same voters in the next epoch, as somebody asks for it, with these thresholds if they are given.

        What is not given stays, but for an `e` that the `f` does not allow: that becomes as high as it may be.

        Raises:
            ValueError: the thresholds do not fit together.
        """
        f = self.f if f is None else f
        if e is None:
            e = self.e if allowed(self.n, f, self.e) else None
        _, f, e = make_quorums(self.n, f, e)
        level = self.level if level is None else level
        return self._replace(epoch=self.epoch + 1, request=request, f=f, e=e, level=level)

    def followed_by(self, said: Configuration) -> Configuration:
        """What follows this epoch, of which a barrier says that.

        One that cannot follow changes nothing, and no replica stops for it (protocol 6.8): all take the same for it.
        """
        follows = said.epoch == self.epoch + 1 and said.has_voters_of(self) and said.level >= self.level
        if follows and allowed(said.n, said.f, said.e):
            return said
        return self.next(said.request)

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
    epoch, protocol, names, f, e, request, level = fields
    if list(map(type, fields)) != [int, str, list, int, int, int, int]:
        raise TypeError("fields of other types")
    if set(map(type, names)) != {str} or len(set(names)) != len(names):
        raise ValueError("names that are none, or not distinct")
    in_range = 0 <= epoch < _EPOCHS and 0 <= request < _REQUESTS and 0 < level < _LEVELS
    if not (in_range and allowed(len(names), f, e)):
        raise ValueError(f"epoch {epoch}, request {request}, n={len(names)}, f={f}, e={e}, level {level}")
    return Configuration(epoch, protocol, tuple(names), f, e, request, level)
