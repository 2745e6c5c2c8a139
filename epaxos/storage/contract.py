"""The contract of a storage engine, as the Replica uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epaxos.protocol.log import Instance


class Storage(Protocol):
    """Keeps the acceptor's promises. Every engine implements this and nothing else is called."""

    @property
    def name(self) -> str:
        """The engine's name, as in the configuration."""
        ...

    def persist(self, records: Sequence[Instance]) -> None:
        """Make the records of one round durable, in their order; they are so when this returns.

        An instance may stand in `records` more than once; its fields are taken as they are at the call.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; nothing is persisted after it."""
        ...
