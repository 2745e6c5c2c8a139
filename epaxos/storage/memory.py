"""The engine that keeps nothing: what the Replica itself holds in memory is all there is.

A replica on this engine must not come back after it stopped: it would have forgotten its promises. Its peers
see to that (`actors.peers`).
"""

from __future__ import annotations

from collections.abc import Sequence

from epaxos.protocol.log import Instance


class MemoryStorage:
    """A `Storage` for tests, for benchmarks and for clusters that may lose everything."""

    name = "memory"

    def persist(self, records: Sequence[Instance]) -> None:
        """Do nothing: a record in the log is as durable as this engine promises."""

    def close(self) -> None:
        """Do nothing."""
