"""The disk of one replica: what is durable, and what is on its way there.

It is a log: a record becomes durable after all that were written before it, and records are dropped after that. All
that waits when a write ends goes with the next one. A crash keeps any beginning of what was on its way. What is durable
is, for each place that has not been dropped, its last record.

Beside it stands the state, the last checkpoint as rows. What is staged becomes durable as a whole or not at all, at any
time relative to the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, NamedTuple, TypeAlias

from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import Instance
from epaxos.simulation.plan.options import Options
from epaxos.simulation.world.schedule import Schedule

Then: TypeAlias = Callable[[], None]
"""What to do once all records written before are durable."""

Guard: TypeAlias = Callable[[Then], None]
"""Runs what may end in a crash of the replica."""


class Drop(NamedTuple):
    """An entry of the log: the records up to here are dropped."""

    frontier: Vector


class Snapshot:
    """The state as it was (`checkpoint.transfer.Snapshot`)."""

    def __init__(self, rows: Mapping[bytes, bytes]) -> None:
        self._rows = rows
        self._keys = sorted(rows)

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Rows after a key, ascending, of about `limit` bytes together; none at the end."""
        found: list[tuple[bytes, bytes]] = []
        for key in self._keys[bisect_right(self._keys, after) :]:
            found.append((key, self._rows[key]))
            limit -= len(key) + len(self._rows[key])
            if limit <= 0:
                break
        return found

    def get(self, key: bytes) -> bytes | None:
        """The row of one key."""
        return self._rows.get(key)

    def close(self) -> None:
        """Let go of it."""


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
        self.truncated: Vector = (-1,) * options.replicas
        self.state: dict[bytes, bytes] = {}
        self.slowness = 1.0
        self.busy = False
        self._schedule = schedule
        self._random = random
        self._delay = options.disk_delay if options.disk != "instant" else 0.0
        self._calm_delay = options.calm_delay
        self._step = step
        self._on_durable = on_durable
        self._guard = guard
        self._waiting: deque[Instance | Drop | Then] = deque()
        self._under_way: deque[Instance | Drop | Then] = deque()
        self._staged: list[tuple[bytes, bytes | None]] = []
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

    def drop(self, frontier: Vector) -> None:
        """Drop the records up to here, after all that was written before."""
        if self.busy:
            self._waiting.append(Drop(frontier))
        else:
            self._step()
            self._drop(frontier)

    # -- the state -----------------------------------------------------------------------------------------

    def stage(self, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add to the next checkpoint; None removes a row."""
        self._staged += changes

    def commit(self, then: Then) -> None:
        """Make what was staged durable and call `then`."""
        delay = self._delay * self.slowness * self._random.expovariate(1.0)
        self._schedule.after(delay, self._end_commit, self._crashes, then)

    def _end_commit(self, crashes: int, then: Then) -> None:
        if crashes == self._crashes:
            self._guard(partial(self._commit, then))

    def _commit(self, then: Then) -> None:
        self._step()
        self._apply_staged()
        self._step()
        then()

    def _apply_staged(self) -> None:
        # A new dictionary: snapshots of the old one stay as they are.
        state = self.state.copy()
        for key, value in self._staged:
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        self.state, self._staged = state, []

    def snapshot(self) -> Snapshot:
        """The state as it is now."""
        return Snapshot(self.state)

    # -- life ----------------------------------------------------------------------------------------------

    def crash(self) -> bool:
        """Stop in the middle; the result says whether something was lost."""
        self._crashes += 1
        self._staged = []
        coming = [entry for entry in (*self._under_way, *self._waiting) if isinstance(entry, Instance | Drop)]
        kept = self._random.randint(0, len(coming))
        for entry in coming[:kept]:
            self._take(entry)
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
            if isinstance(entry, Instance | Drop):
                self._step()
                self._take(entry)
            else:
                entry()
        self.busy = False
        if self._waiting:
            self._begin()

    def _take(self, entry: Instance | Drop) -> None:
        if isinstance(entry, Drop):
            self._drop(entry.frontier)
        else:
            self._keep(entry)

    def _drop(self, frontier: Vector) -> None:
        self.truncated = tuple(map(max, frontier, self.truncated))
        self.records = {
            place: record for place, record in self.records.items() if not covers(frontier, place)
        }

    def _keep(self, record: Instance) -> None:
        self.records[record.id] = record
        self._on_durable(record)
