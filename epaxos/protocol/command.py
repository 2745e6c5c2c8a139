"""What consensus has to know of a command: which keys it reads and writes, and its bytes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Command(Protocol):
    """The payload of an instance, opaque but for its conflicts (protocol 4.4).

    Two commands conflict if they share a key that at least one of them writes. Equality must be
    equality of the bytes. A read-write of a key belongs in `writes`.
    """

    @property
    def reads(self) -> Collection[bytes]:
        """The keys it only reads; a key may stand in it twice."""
        ...

    @property
    def writes(self) -> Collection[bytes]:
        """The keys it writes; a key may stand in it twice."""
        ...

    @property
    def encoded(self) -> bytes:
        """Its bytes, as they are stored and sent."""
        ...
