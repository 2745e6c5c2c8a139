"""The disk of one replica: what is durable, and what is on its way there.

It is a log: a record becomes durable after all that were written before it. All that waits when a write ends goes with
the next one. A crash keeps any beginning of what was on its way. What is durable is, for each place, its last record;
a checkpoint, and the records that it makes unnecessary, would be kept here as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance
from epaxos.simulation.options import Options
from epaxos.simulation.schedule import Schedule

Then: TypeAlias = Callable[[], None]
"""What to do once all records written before are durable."""

Guard: TypeAlias = Callable[[Then], None]
"""Runs what may end in a crash of the replica."""
_FIELDS: Final = Instance.__slots__


def copy_record(record: Instance) -> Instance:
    """A record as it is now; its fields are values, so that this is all it takes."""
    copy = Instance.__new__(Instance)
    for field in _FIELDS:
        setattr(copy, field, getattr(record, field))
    return copy


class Disk:
    """Durable records of one replica.

    `step` is called before each record becomes durable, and may raise to end the replica there; `on_durable`
    after it. `guard` runs what happens later than the call of `write`.
    """

    def __init__(
        self,
        options: Options,
        schedule: Schedule,
        random: Random,
        step: Callable[[], None],
        on_durable: Callable[[Instance], None],
        guard: Guard,
    ) -> None:
        self.records: dict[InstanceId, Instance] = {}
        self.slowness = 1.0
        self.busy = False
        self._schedule = schedule
        self._random = random
        self._delay = options.disk_delay if options.disk != "instant" else 0.0
        self._calm_delay = options.calm_delay
        self._step = step
        self._on_durable = on_durable
        self._guard = guard
        self._waiting: deque[Instance | Then] = deque()
        self._under_way: deque[Instance | Then] = deque()
        self._crashes = 0

    def write(self, records: Sequence[Instance], then: Then) -> None:
        """Make records durable and call `then`: at once, if there is nothing to wait for."""
        if self.busy or (self._delay and records):
            self._waiting += records
            self._waiting.append(then)
            if not self.busy:
                self._begin()
            return
        for record in records:
            self._step()
            self._keep(record)
        then()

    def crash(self) -> bool:
        """Stop in the middle; the result says whether something was lost."""
        self._crashes += 1
        coming = [entry for entry in (*self._under_way, *self._waiting) if isinstance(entry, Instance)]
        kept = self._random.randint(0, len(coming))
        for record in coming[:kept]:
            self._keep(record)
        self._under_way.clear()
        self._waiting.clear()
        self.busy = False
        return kept < len(coming)

    def calm(self) -> None:
        """Be as fast as a good disk from now on."""
        self.slowness = 1.0
        self._delay = min(self._delay, self._calm_delay)

    def _begin(self) -> None:
        self.busy = True
        self._under_way, self._waiting = self._waiting, deque()
        delay = self._delay * self.slowness * self._random.expovariate(1.0)
        self._schedule.after(delay, self._end, self._crashes)

    def _end(self, crashes: int) -> None:
        if crashes == self._crashes:
            self._guard(self._finish)

    def _finish(self) -> None:
        while self._under_way:
            entry = self._under_way.popleft()
            if isinstance(entry, Instance):
                self._step()
                self._keep(entry)
            else:
                entry()
        self.busy = False
        if self._waiting:
            self._begin()

    def _keep(self, record: Instance) -> None:
        self.records[record.id] = record
        self._on_durable(record)
