"""The promises and the checkpoint in a data directory, and how far its replica is by them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from epaxos.checkpoint.rows import ENTRY, INDEX, META, SESSION, VALUE, read_index, read_meta, read_values
from epaxos.errors import DataCorrupt, FrameError, StorageError
from epaxos.inspection.wording import bytes_text
from epaxos.protocol.contract import Core, CoreStatus, Durable
from epaxos.protocol.ids import InstanceId, Name, Row, Vector, covers
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance, Phase
from epaxos.protocol.membership import Configuration, joined
from epaxos.protocol.spectator import Spectator
from epaxos.statemachine.batch import decode_payload
from epaxos.storage.directory import Identity
from epaxos.storage.engine import StateSnapshot
from epaxos.storage.journal import Loaded, read_journal, rows_of
from epaxos.storage.reading import Reading
from epaxos.storage.records import decode_whole

_AT_A_TIME: Final = 1 << 20
"""Bytes of a checkpoint in memory at once."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint without its values.

    configuration of its epoch
    executed  per row, up to where everything had executed
    entries   what had executed above that
    keys      keys with a value; `deleted` is how many others it remembers, because they had one or were read
    sessions  clients
    """

    configuration: Configuration
    executed: Vector
    entries: list[Instance]
    keys: int
    deleted: int
    sessions: int


@dataclass(frozen=True)
class Contents:
    """What a data directory holds: of the last epoch of which there is something.

    configuration of that epoch; the checkpoint may be of an earlier one, and stands for nothing of the log then
    earlier       epochs of which there are records too: until a checkpoint of a later one is there a restart needs them
    user          the pid of the process that uses it, as text; None if there is none
    sizes         bytes, by file
    records       what was promised, by place; with it the entries of the checkpoint
    truncated     per row, up to where instances were dropped
    incarnations  the numbers by which replicas know one another, by name
    checkpoint    None until the first one
    """

    path: Path
    identity: Identity
    configuration: Configuration
    earlier: list[int]
    engine: str
    user: str | None
    sizes: dict[str, int]
    records: dict[InstanceId, Instance]
    truncated: Vector
    incarnations: dict[Name, int]
    checkpoint: Checkpoint | None

    @property
    def row(self) -> Row | None:
        """The replica's row; None if it has no vote, as one that is to join, observes, or was removed."""
        identity, names = self.identity, self.configuration.names
        me = joined(identity.name, identity.incarnation or 0) if identity.joins else identity.name
        return names.index(me) if me in names else None

    @property
    def rows(self) -> int:
        """Rows of its log."""
        return rows_of(self.configuration)

    @cached_property
    def core(self) -> Core[Any]:
        """A core that has begun with this, as the replica would, and executed what it can; it is told nothing more."""
        checkpoint = self.checkpoint
        executed = (-1,) * self.rows if checkpoint is None else checkpoint.executed
        entries = [] if checkpoint is None else checkpoint.entries
        logged = [
            record for record in self.records.values() if record.id.slot > self.truncated[record.id.row]
        ]
        kind, quorums = KINDS[self.configuration.protocol], self.configuration.quorums
        settings = kind.settings(quorums.n if self.row is None else self.row, quorums)
        core = kind.make(settings, Random(0), Durable(logged, self.truncated, executed, entries))  # noqa: S311
        if self.row is None:
            core = Spectator(core, kind, quorums, math.inf, 0)
        core.resume(0.0)
        return core

    @cached_property
    def above(self) -> frozenset[InstanceId]:
        """What executes above the frontier."""
        return frozenset(self.core.cut().above)

    @cached_property
    def progress(self) -> CoreStatus:
        """How far the replica is, per row; `seen` is the highest slot that anything here speaks of."""
        return self.core.status()

    def is_executed(self, place: InstanceId) -> bool:
        """Whether an instance has executed, or does so when the replica starts."""
        return covers(self.progress.executed, place) or place in self.above

    def is_committed(self, place: InstanceId) -> bool:
        """Whether what was decided for an instance is known here."""
        record = self.records.get(place)
        return self.is_executed(place) or (record is not None and record.phase is Phase.COMMITTED)

    def undecided(self, most: int | None = None) -> list[InstanceId]:
        """What is not committed here although something speaks of it, row by row, lowest first."""
        places = (
            InstanceId(row, slot)
            for row, (committed, seen) in enumerate(
                zip(self.progress.committed, self.progress.seen, strict=True)
            )
            for slot in range(committed + 1, seen + 1)
        )
        return list(islice((place for place in places if not self.is_committed(place)), most))

    def waiting(self) -> list[InstanceId]:
        """What is committed and cannot execute yet, ascending."""
        return sorted(
            place
            for place, record in self.records.items()
            if record.phase is Phase.COMMITTED and not self.is_executed(place)
        )


def read_contents(path: Path) -> Contents:
    """Read a data directory, in use or not, without changing it.

    Raises:
        StorageError: it is none, or cannot be read.
    """
    with Reading(path) as reading:
        try:
            # In this order: what the log has dropped by now is in every later checkpoint.
            first = read_journal(reading.scan_log(), decode_payload)
            if first is None:
                raise StorageError(f"{path} holds nothing yet: {reading.identity.name} has never run on it")
            checkpoint = _read_checkpoint(reading)
        except FrameError as error:
            raise DataCorrupt(f"{path} holds commands that cannot be read: {error}") from error
    log = first.last
    if checkpoint is not None and checkpoint.configuration.epoch > log.configuration.epoch:
        nothing = (-1,) * rows_of(checkpoint.configuration)
        log = Loaded(checkpoint.configuration, [], nothing, log.incarnations, log.kept)
    elif checkpoint is not None and checkpoint.configuration.epoch < log.configuration.epoch:
        checkpoint = replace(checkpoint, executed=(-1,) * rows_of(log.configuration), entries=[])
    records = {record.id: record for record in log.records}
    for entry in () if checkpoint is None else checkpoint.entries:
        if entry.id not in records or records[entry.id].phase is not Phase.COMMITTED:
            records[entry.id] = entry
    return Contents(
        path,
        reading.identity,
        log.configuration,
        [epoch for epoch in _epochs(first) if epoch != log.configuration.epoch],
        reading.engine,
        reading.user,
        reading.sizes(),
        records,
        log.truncated,
        log.incarnations | {reading.identity.name: reading.identity.incarnation or 0},
        checkpoint,
    )


def _epochs(first: Loaded | None) -> Iterator[int]:
    while first is not None:
        yield first.configuration.epoch
        first = first.then


def _read_checkpoint(reading: Reading) -> Checkpoint | None:
    snapshot = reading.snapshot_state()
    try:
        blob = snapshot.get(META)
        if blob is None:
            return None
        meta = read_meta(blob)
        found = _scan(snapshot)
    finally:
        snapshot.close()
    return Checkpoint(
        configuration=meta.configuration,
        executed=meta.executed,
        entries=found.entries,
        keys=len(found.values),
        deleted=len(found.remembered - found.values),
        sessions=found.sessions,
    )


class _Found:
    """What stands in a checkpoint: keys with values, keys of which something is remembered, and the rest."""

    def __init__(self) -> None:
        self.values: set[bytes] = set()
        self.remembered: set[bytes] = set()
        self.entries: list[Instance] = []
        self.sessions = 0


def _scan(snapshot: StateSnapshot) -> _Found:
    found = _Found()
    after = b""
    while rows := snapshot.scan(after, _AT_A_TIME):
        after = rows[-1][0]
        for key, blob in rows:
            kind = key[:1]
            if kind == ENTRY:
                found.entries.append(decode_whole(blob, decode_payload))
            elif kind == INDEX:
                found.remembered.update(read_index(blob)[0])
            elif kind == SESSION:
                found.sessions += 1
            elif kind == VALUE:
                for name, value in zip(*read_values(blob), strict=True):
                    (found.values.discard if value is None else found.values.add)(name)
            elif kind != META:
                raise DataCorrupt(f"the checkpoint has a row of an unknown kind: {bytes_text(key)}")
    return found
