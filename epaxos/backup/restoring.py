"""Making the data directories of a new cluster of a backup.

**Why a new cluster.** A replica that came back with an old state under its identity would not know what it has
promised since, and its vote could decide an instance twice (protocol 4.11c). A cluster with another identity has no
past: no instance of it exists, no frame of the old one is taken by it or the other way round. So all its replicas
may begin with an empty log, from slot 0, and with no key remembered in the indexes, since nothing that was ever
proposed in it touches one. What they must have is the *same* state; it stands for "before slot 0".

**How that is made sure.** All directories are made in one act, of one file, and each is told the incarnations of all,
which are drawn anew. A replica that was started without its directory, or with that of another act, has an
incarnation that the others do not know, and is refused before its first vote is counted. For this reason there is no
way to make one directory alone: doing so later, of the same file, would be the return of an old state under an identity
that has voted since.

The sessions stay, and with them the count of collections by which they end: a client that sends a command again which
is in the backup is told the result, and it does not execute twice.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from epaxos.backup.file import BackupFile
from epaxos.checkpoint.rows import (
    SESSION,
    VALUE,
    Meta,
    Row,
    block_key,
    in_blocks,
    meta_row,
    read_session,
    value_block,
)
from epaxos.config import Config
from epaxos.errors import BackupError, ConfigError, FrameError, StorageError
from epaxos.protocol.ids import Name
from epaxos.protocol.ids import Row as ReplicaRow
from epaxos.protocol.membership import Configuration
from epaxos.statemachine.batch import decode_payload
from epaxos.statemachine.sessions import Sessions
from epaxos.statemachine.transactions import is_record_key
from epaxos.storage.directory import sync_directory
from epaxos.storage.engine import Engine, Identity, open_engine
from epaxos.storage.journal import Journal, rows_of

_ROWS: Final = 1000
"""Keys in a block."""


class Restored(NamedTuple):
    """What was made: directories, with how many values and sessions each."""

    directories: list[Path]
    keys: int
    sessions: int


def restore(config: Config, backup: BackupFile) -> Restored:
    """Make the data directories of all replicas; they appear together once all are written.

    Raises:
        ConfigError: the configuration is that of the old cluster, keeps nothing, allows less than what the backup
            holds, or a directory is not empty.
        BackupError, StorageError: the file cannot be read, or a directory not be written.
    """
    places = [config.storage.directory_of(replica.name) for replica in config.replicas]
    _check_config(config, backup)
    for place in places:
        _check_free(place)
    keys, sessions = _check_rows(config, backup)
    incarnations = {replica.name: secrets.randbits(64) or 1 for replica in config.replicas}
    made = [place.with_name(f".{place.name}.restoring") for place in places]
    try:
        for row, directory in enumerate(made):
            _fill(config, row, directory, backup, incarnations)
        _move(made, places)
    finally:
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)
    return Restored(places, keys, sessions)


def _check_config(config: Config, backup: BackupFile) -> None:
    if config.storage.engine == "memory":
        raise ConfigError(
            f"{config.source}: storage.engine is 'memory', which keeps nothing; allowed: 'sqlite'"
        )
    if config.identity == backup.header.cluster:
        raise ConfigError(
            f"{config.source}: this is the cluster that {backup.name} is of; its replicas may have promised since "
            "what the backup does not know of, and would decide otherwise now. Give the new cluster another name "
            "(the key name), in the files of all replicas and clients"
        )


def _check_free(place: Path) -> None:
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ConfigError(
            f"{place} is in use or holds data already; a restored cluster begins with new directories: choose "
            "another storage.directory, or move this one away"
        )


def _check_rows(config: Config, backup: BackupFile) -> tuple[int, int]:
    """See that all rows can be loaded; how many values and sessions they are."""
    counts = {VALUE: 0, SESSION: 0}
    for key, value in backup.rows():
        counts[key[:1]] += 1
        if key[:1] == SESSION:
            _check_session(value, backup.name)
            continue
        if is_record_key(key[1:]):  # as long as the operations that it locks keys for, together
            continue
        for size, limit, name in (
            (len(key) - 1, config.max_key, "max_key"),
            (len(value), config.max_value, "max_value"),
        ):
            if size > limit:
                raise ConfigError(f"{config.source}: {name}: found {limit}; the backup needs {size} at least")
    return counts[VALUE], counts[SESSION]


def _check_session(value: bytes, name: str) -> None:
    try:
        Sessions.load([read_session(value)])
    except (FrameError, StorageError) as error:
        raise BackupError(f"{name} has a session that cannot be read: {error}") from error


def _fill(
    config: Config,
    row: ReplicaRow,
    directory: Path,
    backup: BackupFile,
    incarnations: Mapping[Name, int],
) -> None:
    """Write one directory, under a name that no replica has."""
    shutil.rmtree(directory, ignore_errors=True)  # what an attempt before this one left
    name = config.replicas[row].name
    identity = Identity(config.identity, name, incarnations[name])
    engine = open_engine(config.storage.engine, directory, identity, "always", 1.0, create=True)
    try:
        _stage(engine, backup, config.initial)
        engine.commit_state()
        journal = Journal(engine, config.initial, decode_payload)
        journal.load()
        for replica, incarnation in incarnations.items():
            journal.remember(replica, incarnation)
    finally:
        engine.close()


def _stage(engine: Engine, backup: BackupFile, configuration: Configuration) -> None:
    engine.stage_state([row for row in backup.rows() if row[0][:1] == SESSION])
    values = (row for row in backup.rows() if row[0][:1] == VALUE)
    for number, some in enumerate(in_blocks(values, _ROWS, _weigh)):
        keys, stored = zip(*some, strict=True)
        engine.stage_state([(block_key(VALUE, 1, number), value_block([key[1:] for key in keys], stored))])
    nothing = (-1,) * rows_of(configuration)
    engine.stage_state([meta_row(Meta(configuration, nothing, (), backup.header.generation))])


def _weigh(rows: Sequence[Row]) -> int:
    return sum(len(key) + len(value) for key, value in rows)


def _move(made: list[Path], places: list[Path]) -> None:
    try:
        for directory, place in zip(made, places, strict=True):
            directory.rename(place)
        sync_directory(places[0].parent)
    except OSError as error:
        raise StorageError(
            f"cannot make {places[0].parent} hold the new directories: {error.strerror}"
        ) from error
