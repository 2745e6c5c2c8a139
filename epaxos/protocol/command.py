"""What consensus has to know of a command: which keys it reads and writes, and its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epaxos.protocol.ids import Vector
from epaxos.protocol.membership import Configuration


class Command(Protocol):
    """The payload of an instance, opaque but for its conflicts (protocol 4.4).

    Two commands conflict if they share a key that at least one of them writes, *all* being every key; a collection
    (`base`), and what writes all, conflicts with every command, also one without keys. Equality must be equality of the
    bytes. A read-write of a key belongs in `writes`.
    Keys are in sequences and not in sets, whose order is another one in every process: rows of checkpoints, and runs of
    the simulator, are made in this order.
    """

    @property
    def reads(self) -> Sequence[bytes]:
        """The keys it only reads; a key may stand in it twice."""
        ...

    @property
    def writes(self) -> Sequence[bytes]:
        """The keys it writes; a key may stand in it twice."""
        ...

    @property
    def reads_all(self) -> bool:
        """Whether it reads all keys."""
        ...

    @property
    def writes_all(self) -> bool:
        """Whether it writes all keys."""
        ...

    def transient(self) -> Command:
        """Itself, or a copy that nobody keeps, for a look at its keys, which one that has executed may lack."""
        ...

    @property
    def base(self) -> Vector | None:
        """Of a collection: up to where every row had executed at its proposer. None for any other command.

        Whoever knows a collection covers all up to its base ever after, beside the collection itself.
        """
        ...

    @property
    def ends(self) -> bool:
        """Whether it is a barrier: a collection with which an epoch ends (protocol 6.3)."""
        ...

    @property
    def follows(self) -> Configuration | None:
        """Of a barrier: the configuration of the next epoch, as who proposed it wants that. None for any other."""
        ...

    @property
    def encoded(self) -> bytes:
        """Its bytes, as they are stored and sent; of one that has executed they may have to be made again."""
        ...

    @property
    def size(self) -> int:
        """How many bytes `encoded` has."""
        ...
