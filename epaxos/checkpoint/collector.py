"""When a replica proposes a collection (protocol 4.13): without sockets, threads or clocks, like `keeper`.

Any replica may, and one is enough: the others count from the moment when it has executed with them. Each waits a
little longer than the one before it in rank, so that they do not all propose at once; where two do, the second changes
nothing.
"""

from __future__ import annotations

from epaxos.protocol.ids import Row


class Collector:
    """The collections that replica `row` of `n` proposes, at most one in `interval` seconds.

    A cluster in which nothing is left to collect proposes none.
    """

    def __init__(self, interval: float, row: Row, n: int) -> None:
        self._patience = interval * (1 + row / n)
        self._generation = -1
        self._due = 0.0

    def is_due(self, generation: int, now: float) -> bool:
        """Whether it is time for the next one, `generation` others having executed here; it is put off then."""
        if generation == self._generation and now < self._due:
            return False
        known, self._generation = self._generation == generation, generation
        self._due = now + self._patience
        return known

    @property
    def deadline(self) -> float:
        """When `is_due` is to be asked even if nothing else happens."""
        return self._due
