"""The disk of one replica: what is durable, and what is on its way there.

It is the log under a `Journal`, as bytes: a restart reads what the journal wrote, and nothing else. A record becomes
durable after all that were written before it, and records are dropped after that. All that waits when a write ends goes
with the next one. A crash keeps any beginning of what was on its way, and so does a write that fails.

With an interval between syncs, what is written is in the hands of the system at once and outlives the process. A loss
of power alone tells what was synced: it leaves that and any beginning of what came later.

Beside it stands the state, the last checkpoint as rows. What is staged becomes durable as a whole or not at all, at any
time relative to the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import WriteFailed
from epaxos.protocol.ids import Row, Vector
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration
from epaxos.simulation.plan.options import Options
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.batch import decode_payload
from epaxos.storage.engine import Entry
from epaxos.storage.journal import Journal, Loaded, rows_of

Then: TypeAlias = Callable[[], None]
"""What to do once all records written before are durable."""

Guard: TypeAlias = Callable[[Then], None]
"""Runs what may end in a crash of the replica."""


class Write(NamedTuple):
    """What the journal makes of one record of an epoch, or of what it drops: all of it becomes durable, or nothing."""

    ranges: Sequence[Entry]
    puts: Sequence[Entry]
    record: Any = None
    epoch: int = 0


_NOTHING: Final = Write((), ())


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


def copy_record(record: Instance) -> Instance:
    """A record as it is now; its fields are values, so that this is all it takes."""
    copy = Instance.__new__(Instance)
    copy.id, copy.phase = record.id, record.phase
    copy.bal, copy.abal = record.bal, record.abal
    copy.value, copy.deps, copy.seq = record.value, record.deps, record.seq
    copy.init, copy.orig = record.init, record.orig
    return copy


class Disk:
    """The durable memory of one replica, in which `journal` writes; `incarnations` by row.

    `step` is called before each write becomes durable, and may raise to end the replica there; `on_durable`
    after that of a record, with its epoch. `guard` runs what happens later than the call of `write`. While `failing`,
    it writes a part of what is next and raises.
    """

    def __init__(
        self,
        options: Options,
        schedule: Schedule,
        random: Random,
        step: Callable[[], None],
        on_durable: Callable[[Any, int], None],
        guard: Guard,
        initial: Configuration | None = None,
    ) -> None:
        self.state: dict[bytes, bytes] = {}
        self.slowness = 1.0
        self.busy = False
        self.failing = False
        self.incarnations: dict[Row, int] = {}
        self._log: dict[bytes, bytes] = {}
        self._schedule = schedule
        self._random = random
        self._delay = options.disk_delay if options.disk != "instant" else 0.0
        self._calm_delay = options.calm_delay
        self._step = step
        self._on_durable = on_durable
        self._guard = guard
        self._waiting: deque[Write | Then] = deque()
        self._under_way: deque[Write | Then] = deque()
        self._staged: list[tuple[bytes, bytes | None]] = []
        self._sync = options.sync
        self._synced: dict[bytes, bytes] = {}
        self._unsynced: list[Write] = []
        self._syncing = False
        self._crashes = 0
        self._written = _NOTHING
        self.load(initial or options.configuration)

    def load(self, configuration: Configuration) -> Loaded:
        """What is durable of an epoch, as a restart finds it; it syncs that before anything is built on it.

        Earlier epochs are over, by what is in the checkpoint, and go.
        """
        self._settle(len(self._unsynced))
        self._journal = Journal(self, configuration, decode_payload)
        self._written = _NOTHING
        self._epoch = configuration.epoch
        loaded = self._journal.load()
        if self._written is not _NOTHING:  # the configuration, into a log that is empty
            self._keep(self._written)
        if loaded.configuration == configuration:
            return loaded
        loaded = self.turn(configuration)
        self.retire()
        return loaded

    def turn(self, configuration: Configuration) -> Loaded:
        """Go on in a later epoch: what is durable of it, by a restart that has come to its beginning again."""
        self._epoch = configuration.epoch
        nothing = (-1,) * rows_of(configuration)
        return self._journal.begin(configuration) or Loaded(configuration, [], nothing, {}, {})

    @property
    def unreached(self) -> int | None:
        """A later epoch of which there are records."""
        return self._journal.unreached

    def write(self, records: Sequence[Any], then: Then) -> None:
        """Make records durable and call `then`: at once, if there is nothing to wait for.

        Raises:
            WriteFailed: the disk fails.
        """
        writes = [self._encoded(record) for record in records] if records else []
        if self.busy or (self._delay and writes and not self._sync):
            self._waiting += writes
            self._waiting.append(then)
            if not self.busy:
                self._begin()
            return
        self._fail_if_it_does(writes)
        for write in writes:
            self._step()
            self._keep(write)
        then()

    def _encoded(self, record: Any) -> Write:
        self._journal.persist((record,))
        return self._written._replace(record=record, epoch=self._epoch)

    def drop(self, frontier: Vector) -> None:
        """Drop the records up to here, after all that was written before."""
        self._journal.drop(frontier)
        self._add(self._written)

    def retire(self) -> None:
        """Drop the log of all earlier epochs, slice by slice, after all that was written before."""
        more = True
        while more:
            self._written = _NOTHING
            more = self._journal.retire()
            if self._written is not _NOTHING:
                self._add(self._written)

    def _add(self, write: Write) -> None:
        """Write something else than records, after all that was written before."""
        if self.busy:
            self._waiting.append(write)
        else:
            self._step()
            self._keep(write)

    # -- the journal's log -----------------------------------------------------------------------------------

    def raise_level(self, level: int) -> None:
        """See `Log`; nobody else's program opens it."""

    def write_log(self, puts: Sequence[Entry]) -> None:
        """See `Log`; what calls the journal sees to it that this becomes durable."""
        self._written = Write((), puts)

    def drop_log(self, ranges: Sequence[Entry], puts: Sequence[Entry]) -> None:
        """See `Log`."""
        self._written = Write(ranges, puts)

    def scan_log(self) -> Iterator[Entry]:
        """See `Log`."""
        return iter(sorted(self._log.items()))

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
        self._fail_if_it_does(())
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
        coming = [entry for entry in (*self._under_way, *self._waiting) if isinstance(entry, Write)]
        kept = self._random.randint(0, len(coming))
        for write in coming[:kept]:
            self._keep(write)
        self._under_way.clear()
        self._waiting.clear()
        self.busy = self._syncing = False
        return kept < len(coming)

    def lose_power(self) -> bool:
        """After a crash, lose what was not synced, or the end of it; the result says whether there was such."""
        kept = self._random.randint(0, len(self._unsynced))
        lost = kept < len(self._unsynced)
        self._settle(kept)
        self._log, self._unsynced = self._synced.copy(), []
        return lost

    def calm(self) -> None:
        """Be as fast as a good disk from now on, and fail no more."""
        self.slowness = 1.0
        self.failing = False
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
        self._fail_if_it_does([entry for entry in self._under_way if isinstance(entry, Write)])
        while self._under_way:
            if isinstance(self._under_way[0], Write):
                self._step()  # a crash here finds it still under way: what comes later is not durable without it
            entry = self._under_way.popleft()
            if isinstance(entry, Write):
                self._keep(entry)
            else:
                entry()
        self.busy = False
        if self._waiting:
            self._begin()

    def _fail_if_it_does(self, writes: Sequence[Write]) -> None:
        """Write some of it and no more; nobody will be told how much."""
        if not self.failing:
            return
        for write in writes[: self._random.randint(0, len(writes))]:
            self._keep(write)
        raise WriteFailed("the simulated disk fails")

    def _keep(self, write: Write) -> None:
        _apply(write, self._log)
        if self._sync:
            self._unsynced.append(write)
            if not self._syncing:
                self._sync_later()
        if write.record is not None:
            self._on_durable(write.record, write.epoch)

    def _sync_later(self) -> None:
        self._syncing = True
        self._schedule.after(self._sync, self._begin_sync, self._crashes)

    def _begin_sync(self, crashes: int) -> None:
        """Sync what is written by now; what is written meanwhile waits for the next time."""
        if crashes == self._crashes:
            delay = self._delay * self.slowness * self._random.expovariate(1.0)
            self._schedule.after(delay, self._end_sync, crashes, len(self._unsynced))

    def _end_sync(self, crashes: int, count: int) -> None:
        if crashes == self._crashes:
            self._syncing = False
            self._settle(count)
            if self._unsynced:
                self._sync_later()

    def _settle(self, count: int) -> None:
        """So many writes are synced."""
        for write in self._unsynced[:count]:
            _apply(write, self._synced)
        del self._unsynced[:count]


def _apply(write: Write, log: dict[bytes, bytes]) -> None:
    for first, last in write.ranges:
        for key in [key for key in log if first <= key <= last]:
            del log[key]
    log.update(write.puts)
