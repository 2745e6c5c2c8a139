"""Checkpoints across the end of an epoch (protocol 6.7): what goes on, what goes, and what replaces all."""

from __future__ import annotations

from random import Random

import pytest

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import ENTRY, INDEX
from epaxos.protocol.contract import Durable, Propose
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.log import NOP
from epaxos.protocol.quorums import make_quorums
from epaxos.statemachine.batch import decode_payload
from harness.lone import ME, NONE, Lone, N, machine, random_history
from harness.members import MEMBERS

LATER = MEMBERS.next(1)


def turned(lone: Lone) -> EPaxos:
    """The core of the next epoch, which the replica's checkpoints are of from now on."""
    core = EPaxos(Settings(row=ME, quorums=make_quorums(N)), Random(0), Durable((), NONE, NONE, ()))
    lone.writer.turn(LATER, core)
    return core


def with_history(seed: int, count: int = 60) -> Lone:
    lone = Lone(retain=10**9)
    for decision in random_history(Random(seed), count):
        lone.take(decision.commit)
    return lone


def write(lone: Lone, *, most: int | None = None) -> None:
    """Write the checkpoint that is under way, or so many slices of it."""
    while most is None or most > 0:
        most = None if most is None else most - 1
        if lone.writer.step():
            lone.engine.commit_state()
            return


def rows(lone: Lone) -> list[bytes]:
    return [key for key, _ in lone.engine.snapshot_state().scan(b"", 10**9)]


def read(lone: Lone) -> Fetched:
    fetched = Fetched(MEMBERS, decode_payload)
    fetched.take(lone.engine.snapshot_state().scan(b"", 10**9))
    return fetched


def digest_of(fetched: Fetched) -> str:
    fresh = machine()
    fresh.load(fetched.values())
    fresh.load_sessions(fetched.sessions, fetched.generation)
    return fresh.digest_source().hexdigest()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("checkpoints", [0, 1])
def test_the_first_checkpoint_of_an_epoch_has_all_values_and_nothing_else_of_the_last_one(
    seed: int, checkpoints: int
) -> None:
    """What was written since the last checkpoint is told by the core that has executed it."""
    lone = with_history(seed)
    for _ in range(checkpoints):
        lone.checkpoint()
    for decision in random_history(Random(seed), 90)[60:]:
        lone.take(decision.commit)
    turned(lone)
    lone.writer.begin()
    write(lone)
    fetched = read(lone)
    assert fetched.configuration == LATER
    assert (fetched.executed, fetched.entries, list(fetched.index())) == (NONE, [], [])
    assert not [key for key in rows(lone) if key[:1] in {ENTRY, INDEX}]
    assert digest_of(fetched) == lone.digest


@pytest.mark.parametrize("slices", [1, 3, 20])
def test_a_checkpoint_that_is_being_written_is_completed_in_its_epoch(slices: int) -> None:
    lone = with_history(1)
    before, cut = lone.digest, lone.core.status().executed
    lone.writer.begin()
    write(lone, most=slices)
    core = turned(lone)
    write(lone)
    assert (read(lone).configuration, read(lone).executed) == (MEMBERS, cut)
    assert digest_of(read(lone)) == before
    assert lone.writer.epoch == 0
    values = (each.value for each in random_history(Random(9), 60))
    core.on_event(Propose(next(value for value in values if value is not NOP and value.base is None)), 0.0)
    lone.writer.begin()
    write(lone)
    assert read(lone).configuration == LATER
    assert digest_of(read(lone)) == before


def test_what_could_not_be_written_goes_into_the_next_checkpoint_of_the_new_epoch() -> None:
    lone = with_history(2)
    lone.checkpoint()
    turned(lone)
    lone.writer.begin()
    write(lone, most=2)
    lone.engine.rollback_state()
    lone.writer.give_up()
    lone.writer.begin()
    write(lone)
    assert not [key for key in rows(lone) if key[:1] in {ENTRY, INDEX}]
    assert digest_of(read(lone)) == lone.digest


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_of_a_later_epoch_replaces_all_there_is(seed: int) -> None:
    """Key by key it cannot be told which value is the later one: indexes of two epochs mean different things."""
    peer, lone = with_history(seed, 90), with_history(seed, 40)
    turned(peer)
    peer.writer.begin()
    write(peer)
    lone.checkpoint()
    lone.writer.replace(read(peer))
    write(lone)
    fetched = read(lone)
    assert (fetched.configuration, fetched.executed) == (LATER, NONE)
    assert digest_of(fetched) == peer.digest
    assert not [key for key in rows(lone) if key[:1] in {ENTRY, INDEX}]
