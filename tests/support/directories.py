"""Data directories with a past, made without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

from epaxos.checkpoint.rows import Meta, entry_key, meta_row, session_row
from epaxos.config import Config, default_replicas, make_config
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import Instance, Phase, Proposal
from epaxos.statemachine.batch import Payload, decode_batch, decode_payload, encode_batch, make_payload
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.storage.engine import Engine, Identity, open_engine
from epaxos.storage.journal import Journal
from epaxos.storage.records import encode_whole
from harness.blocks import index_rows, value_row
from harness.members import members

N = 3
NONE = (-1,) * N
_NUMBERS = count(1)
"""Of checkpoints: each adds to what the ones before it left."""


def configuration(directory: Path, n: int = N, name: str = "old", **storage: object) -> Config:
    """A configuration of n replicas that keep their data in a directory."""
    replicas = [dict(replica) for replica in default_replicas(n)]
    document = {"name": name, "storage": {"directory": str(directory), **storage}, "replicas": replicas}
    return make_config(document, "test.toml", {})


def write(key: bytes, value: bytes, client: int = 1, first: int = 1) -> Payload:
    """The payload of one write."""
    encoded = encode_batch(client, first, first, bytes([Operation.WRITE]), [key], [value])
    return make_payload([decode_batch(encoded)])


def record(place: InstanceId, phase: Phase, deps: Vector = NONE, payload: Payload | None = None) -> Instance:
    """An instance as its owner would have it, with a payload unless it is INITIAL."""
    made = Instance(place, NONE)
    made.phase, made.seq = phase, sum(slot + 1 for slot in deps)
    if phase is not Phase.INITIAL:
        made.deps = deps
        made.value = made.orig = payload or write(b"key", b"%d.%d" % place)
        made.init = Proposal(made.orig, deps, made.seq)
    return made


def open_directory(config: Config, name: str, sync: str = "never", *, joins: bool = False) -> Engine:
    """The engine of a replica, whose directory is made if there is none."""
    identity = Identity(config.identity, name, joins=joins)
    return open_engine("sqlite", config.storage.directory_of(name), identity, sync, 1.0, create=True)


def write_log(
    engine: Engine, n: int, records: Sequence[Instance], truncated: Vector | None = None
) -> Journal:
    """Put records into a log, and drop what is truncated."""
    journal = Journal(engine, members(n), decode_payload)
    journal.load()
    journal.persist(records)
    if truncated is not None:
        journal.drop(truncated)
    return journal


def write_checkpoint(
    engine: Engine,
    executed: Vector,
    values: Mapping[bytes, bytes],
    sessions: Iterable[Sequence[object]] = (),
    entries: Iterable[Instance] = (),
    *,
    deleted: Sequence[bytes] = (),
    generation: int = 0,
) -> None:
    """Commit a checkpoint."""
    keys = [*values, *deleted]
    columns = [[0] * len(keys)] * (4 * len(executed))
    number = next(_NUMBERS)
    engine.stage_state([*index_rows(keys, columns, number), value_row(values, number)] if keys else [])
    engine.stage_state([session_row(session) for session in sessions])
    engine.stage_state([(entry_key(entry.id), encode_whole(entry)) for entry in entries])
    engine.stage_state([meta_row(Meta(members(len(executed)), executed, (), generation))])
    engine.commit_state()


def checkpoint_of(engine: Engine, machine: StateMachine, executed: Vector) -> None:
    """Commit all that a state machine holds, which has never been frozen before."""
    machine.freeze()
    sessions = []
    while some := machine.take_sessions(100):
        sessions += some
    write_checkpoint(engine, executed, machine.digest_source().data, sessions)
