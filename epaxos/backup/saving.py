"""Making a backup of what is in a data directory, whether its replica runs or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import ge
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from epaxos.backup.file import Header, Written, write_backup
from epaxos.checkpoint.rows import META, SESSION, VALUE, Meta, Row, read_meta, read_values
from epaxos.errors import BackupError
from epaxos.protocol.ids import Vector
from epaxos.storage.engine import StateSnapshot
from epaxos.storage.reading import Reading
from epaxos.version import __version__

_AT_A_TIME: Final = 1 << 20
_PAUSE: Final = 0.05
"""Seconds between two looks at a checkpoint that is awaited."""


class Moment(NamedTuple):
    """Up to where each row had executed, of an epoch."""

    epoch: int
    executed: Vector


def save(
    reading: Reading, target: Path | BinaryIO, wanted: Moment | None, timeout: float
) -> tuple[Header, Written]:
    """Write the last checkpoint into a file or a stream, once it holds all up to `wanted`.

    The checkpoint is one cut: of commands that conflict, it never has the later one without the earlier.

    Raises:
        BackupError: no such checkpoint within `timeout` seconds, or the file cannot be written.
        StorageError: the directory cannot be read.
    """
    snapshot, meta = _await(reading, wanted, time.monotonic() + timeout)
    try:
        header = Header(
            __version__,
            datetime.now(UTC).isoformat(timespec="seconds"),
            reading.identity.cluster,
            meta.configuration,
            reading.identity.name,
            meta.executed,
            meta.generation,
        )
        return header, write_backup(target, header, _rows(snapshot))
    finally:
        snapshot.close()


def _holds(meta: Meta, wanted: Moment | None) -> bool:
    """Whether a checkpoint has what is wanted: one of a later epoch has all that will ever execute of that one."""
    if wanted is None or meta.configuration.epoch > wanted.epoch:
        return True
    return meta.configuration.epoch == wanted.epoch and all(map(ge, meta.executed, wanted.executed))


def _await(reading: Reading, wanted: Moment | None, deadline: float) -> tuple[StateSnapshot, Meta]:
    """A snapshot of the first checkpoint that holds what is wanted, and what is known of that as a whole."""
    while True:
        snapshot = reading.snapshot_state()
        try:
            blob = snapshot.get(META)
            if blob is not None:
                meta = read_meta(blob)
                if _holds(meta, wanted):
                    return snapshot, meta
        except BaseException:
            snapshot.close()
            raise
        snapshot.close()
        if time.monotonic() >= deadline:
            raise BackupError(_missing(reading, blob is None))
        time.sleep(_PAUSE)


def _missing(reading: Reading, never: bool) -> str:  # noqa: FBT001 - read where it is called
    name = reading.identity.name
    if never:
        return f"{reading.path} holds no checkpoint yet: {name} writes one when it has executed something"
    return (
        f"no checkpoint of {name} holds all that it knew of: perhaps something waits for a quorum (see "
        f"`epaxos status`, `epaxos inspect {reading.path}`); --at-once takes the last checkpoint as it is"
    )


def _rows(snapshot: StateSnapshot) -> Iterator[Row]:
    """Sessions, then values; these are in memory together, as they are in a replica."""
    values: dict[bytes, bytes | None] = {}
    yield from _of_kind(snapshot, SESSION)
    for _, blob in _of_kind(snapshot, VALUE):
        values.update(zip(*read_values(blob), strict=True))
    for key in sorted(values):
        value = values[key]
        if value is not None:
            yield VALUE + key, value


def _of_kind(snapshot: StateSnapshot, kind: bytes) -> Iterator[Row]:
    after = kind
    while rows := snapshot.scan(after, _AT_A_TIME):
        after = rows[-1][0]
        yield from (row for row in rows if row[0][:1] == kind)
        if after[:1] != kind:
            break
