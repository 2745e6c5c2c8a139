"""What a run measured, before anybody makes a table or JSON of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from epaxos.bench.histogram import Latencies


@dataclass(slots=True)
class Tally:
    """What became of the measured commands of the clients of one replica, or of all.

    `operations` counts the commands that were answered as they should be, `errors` the others by kind:

    =========== ================================================================================
    no_answer   no replica tried answered in time
    busy        every try was turned away until the time was up
    refused     the replica said that the command may not be proposed
    outcome     answered, but with an outcome that the operation cannot have
    frame       bytes from the replica that are no frame, or an answer of the wrong shape; one each
    =========== ================================================================================

    `busy` counts commands turned away and sent again, `retries` commands sent again for want of an answer;
    neither is an error. Warm-up commands count only where they fail.
    """

    operations: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    retries: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.operations += other.operations
        self.errors.update(other.errors)
        self.busy += other.busy
        self.retries += other.retries
        self.latencies.add(other.latencies)


@dataclass(slots=True)
class Measured:
    """The result of the load: a tally per replica, by its name.

    `elapsed` is the time (s) from when the first measured command was sent to the last one's answer. `cpu` is
    what the generator itself used (s) for all `sent` commands, those of the warm-up included. `unsent` is
    how many were due by a given rate and could not be sent before the end: they are missing from the
    latencies. `remarks` are texts of replicas that refused, a few of them. `interrupted` tells that the load
    was stopped before its end. `series` is how it went over time, if that was asked for (`series.Series`).
    """

    tallies: dict[str, Tally]
    elapsed: float
    cpu: float
    sent: int
    unsent: int = 0
    remarks: list[str] = field(default_factory=list)
    interrupted: bool = False
    series: dict[str, Any] | None = None

    def total(self) -> Tally:
        """All tallies in one."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total
