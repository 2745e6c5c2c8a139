"""Putting a replica together: on a new data directory, on its own, and on that of another."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ledger import Ledger

from epaxos.actors.assembly import LetsGo, Parts, begin_anew, make_era, make_parts
from epaxos.actors.durability import Durability
from epaxos.actors.execution import Execution
from epaxos.actors.health import Standing
from epaxos.actors.proposals import Proposals
from epaxos.actors.replica import Replica
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import VALUE, Meta, block_key, index_block, index_kind, meta_row, value_block
from epaxos.config import Config, load_config
from epaxos.errors import ConfigError, DirectoryLocked, StorageError, WrongIdentity
from epaxos.protocol.contract import Checkpointed, CoreStatus, Durable, Effects, Receive
from epaxos.protocol.epaxos.messages import Commit, Message, PreAccept
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.membership import NOBODY, Member, joined
from epaxos.statemachine.batch import Payload, decode_payload
from epaxos.statemachine.expiry import Expiring, Generation
from epaxos.statemachine.hosted import Footprint
from epaxos.statemachine.operations import Operation
from epaxos.watching.watchers import Poll
from harness.lone import payload_of

NONE = (-1, -1, -1)
ME, PEER = 0, 1


def config(directory: Path, engine: str = "sqlite", *, name: str = "cluster", retain: int = 0) -> Config:
    whole = load_config(None, environ={})
    storage = replace(whole.storage, engine=engine, directory=str(directory), sync="never", retain=retain)
    return replace(whole, name=name, storage=storage)


@contextmanager
def made(settings: Config, row: int = ME) -> Iterator[Parts]:
    parts = make_parts(settings, row)
    try:
        yield parts
    finally:
        parts.disk.engine.close()


def write(number: int) -> Payload:
    return payload_of(7, number, [(Operation.WRITE, b"key%d" % (number % 3), b"%d" % number)])


def learn(parts: Parts, slot: int) -> None:
    """Take the decision of one write, as the Replica would."""
    deps = (-1, slot - 1, -1)
    perform(
        parts,
        parts.core.on_event(Receive(PEER, Commit(InstanceId(PEER, slot), write(slot + 1), deps, 0)), 0.0),
    )


def perform(parts: Parts, effects: Effects[Message]) -> None:
    parts.disk.journal.persist(effects.records)
    if effects.truncate is not None:
        parts.disk.journal.drop(effects.truncate)
    for component in effects.executions:
        for decided in component:
            assert isinstance(decided.value, Payload)
            parts.machine.apply(decided.value)


def checkpoint(parts: Parts) -> None:
    writer = parts.disk.keeper.writer
    writer.begin()
    while not writer.step():
        pass
    parts.disk.engine.commit_state()
    perform(parts, parts.core.on_event(Checkpointed(writer.executed), 0.0))


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_new_replica_has_no_past(tmp_path: Path, engine: str) -> None:
    with made(config(tmp_path, engine)) as parts:
        assert not parts.resumes
        assert parts.core.status().executed == NONE
        assert (parts.machine.keys, parts.machine.sessions) == (0, 0)
        assert parts.disk.incarnations == {}
        assert parts.disk.engine.name == engine
        assert parts.core.width == 4 * 3


def test_incarnations_outlive_the_process(tmp_path: Path) -> None:
    with made(config(tmp_path)) as parts:
        mine = parts.disk.engine.incarnation
        parts.disk.journal.remember("bravo", 2**64 - 1)
    with made(config(tmp_path)) as parts:
        assert parts.disk.engine.incarnation == mine
        assert parts.disk.incarnations == {"bravo": 2**64 - 1}
        assert not parts.resumes, "nothing was promised"


def test_another_directory_is_another_incarnation(tmp_path: Path) -> None:
    drawn = set()
    for place in ("a", "b"):
        with made(config(tmp_path / place)) as parts:
            drawn.add(parts.disk.engine.incarnation)
    for _ in range(2):
        with made(config(tmp_path, "memory")) as parts:
            drawn.add(parts.disk.engine.incarnation)
    assert len(drawn) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}, (
        "the engine without a disk leaves nothing"
    )


def test_a_replica_goes_on_where_it_was(tmp_path: Path) -> None:
    """With what is in the checkpoint and what followed, and with nothing twice."""
    with made(config(tmp_path)) as parts:
        for slot in range(5):
            learn(parts, slot)
        checkpoint(parts)
        for slot in range(5, 8):
            learn(parts, slot)
        promise = PreAccept(InstanceId(PEER, 8), write(9), (-1, 7, -1), 0)
        perform(parts, parts.core.on_event(Receive(PEER, promise), 0.0))
        status, digest = parts.core.status(), parts.machine.digest_source().hexdigest()
        assert status.truncated == (-1, 4, -1)
    for _ in range(2):
        with made(config(tmp_path)) as parts:
            assert parts.resumes
            assert parts.core.status().executed == (-1, 4, -1)
            assert parts.disk.keeper.writer.executed == (-1, 4, -1)
            perform(parts, parts.core.resume(0.0))
            assert parts.core.status() == status
            assert parts.machine.digest_source().hexdigest() == digest
            assert sum(parts.machine.executed) == 3
            assert parts.machine.duplicates == 0


def test_a_checkpoint_without_a_log_is_a_past(tmp_path: Path) -> None:
    with made(config(tmp_path)) as parts:
        learn(parts, 0)
        checkpoint(parts)
        assert parts.core.status().kept == 0
    with made(config(tmp_path)) as parts:
        assert parts.resumes
        assert (parts.core.status().executed, parts.machine.keys) == ((-1, 0, -1), 1)


class Shelf:
    """A state machine of a program's own, with nothing to do."""

    name = "shelf"

    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}

    def footprint(self, command: bytes) -> Footprint:
        return Footprint(writes={command})

    def apply(self, commands: Sequence[bytes]) -> Sequence[bytes | None]:
        return [None for _ in commands]

    def keys(self) -> Collection[bytes]:
        return self.state.keys()

    def save(self, key: bytes) -> bytes | None:
        return self.state.get(key)

    def load(self, key: bytes, state: bytes | None) -> None:
        if state is None:
            del self.state[key]
        else:
            self.state[key] = state


def begin(settings: Config, parts: Parts) -> list[LetsGo]:
    """Begin anew with what its engine has; what is to be let go of."""
    deque(parts.disk.anew.load(durable(parts)), maxlen=0)
    parts.disk.keeper.wanted(["bravo"], 0.0)
    return begin_anew(settings, parts, 0.0, retiring=False)[1]


def durable(parts: Parts) -> Fetched:
    fetched = Fetched(parts.configuration, decode_payload)
    fetched.take(parts.disk.engine.snapshot_state().scan(b"", 10**9))
    return fetched


def test_no_round_has_much_to_do_where_a_replica_begins_anew(tmp_path: Path) -> None:
    """All keys at once stopped it for three seconds at a million; what was there goes in slices too."""
    settings, size, blocks = config(tmp_path), 500, 40
    keys = [[b"%d" % key for key in range(size * block, size * (block + 1))] for block in range(blocks)]
    with made(settings) as parts:
        later = parts.configuration.next(1)
        parts.disk.engine.stage_state([meta_row(Meta(later, NONE, parts.core.vectors(), 0))])
        for block, some in enumerate(keys):
            index = block_key(index_kind(6), 1, block), index_block(some, list(range(size)))
            values = block_key(VALUE, 1, block), value_block(some, [b"value"] * size)
            parts.disk.engine.stage_state([index, values])
        parts.disk.engine.commit_state()
        for slot in range(9):
            learn(parts, slot)
        anew, before = parts.disk.anew, parts.machine
        done = 0
        for _ in anew.load(durable(parts)):
            last, done = done, anew.machine.keys + anew.era.core.status().remembered
            assert 0 < done - last <= 2 * 512
        assert done == 3 * size * blocks
        parts.disk.keeper.wanted(["bravo"], 0.0)
        _, gone = begin_anew(settings, parts, 0.0, retiring=False)
        assert (parts.machine, parts.machine.keys) == (anew.machine, size * blocks)
        assert [each.let_go(2) for each in gone] == [True, True]
        assert before.keys == 1
        for each in gone:
            while each.let_go(2):
                pass
        assert before.keys == 0
        assert parts.machine.keys == size * blocks


def test_a_state_machine_begins_anew_with_nothing_but_the_checkpoint(tmp_path: Path) -> None:
    """What a program holds outlives that of the epoch before, and some of it has gone meanwhile (protocol 6.7)."""
    settings, shelf = replace(config(tmp_path), machine=Shelf.name), Shelf()
    parts = make_parts(settings, ME, shelf)
    shelf.state = {b"gone": b"1", b"kept": b"1"}
    later = parts.configuration.next(1)
    parts.disk.engine.stage_state(
        [
            meta_row(Meta(later, NONE, parts.core.vectors(), 0)),
            (block_key(VALUE, 1, 0), value_block([b"kept", b"new"], [b"2", b"2"])),
        ]
    )
    parts.disk.engine.commit_state()
    watchers = parts.watchers
    begin(settings, parts)
    assert (parts.watchers, watchers.history.epoch) == (watchers, 1)
    assert (parts.configuration, shelf.state) == (later, {b"kept": b"2", b"new": b"2"})
    assert parts.machine.keys == 2
    parts.disk.engine.close()


def test_a_replica_that_begins_anew_counts_when_values_of_its_new_state_end_and_lets_doors_look_again() -> (
    None
):
    """That of the machine before is over, and what the doors of this process have been told is not all."""
    ending = Expiring.of(b"value", 50, Generation(7, 1, 0))
    machine = Mock(merges=0, take_timed=lambda: [b"key"], get={b"key": ending}.get)
    parts: Any = Mock(machine=Mock(merges=0, take_timed=list))
    gate: Any = Mock(listening=[Mock()])
    execution = Execution(parts, Mock(), gate)
    settings = load_config("conf/local.toml")
    parts.eras.running = Mock(row=0, configuration=settings.initial)
    proposals = Proposals(settings, parts, Mock(), Mock(), Mock(), now=0.0)
    parts.machine = machine
    proposals.begin_anew(100.0)
    assert 100.05 <= proposals.expirations.deadline < 110
    execution.take_local(100.0, lambda: False)
    gate.listening[0].miss.assert_not_called()
    execution.begin_anew()
    execution.take_local(100.0, lambda: False)
    gate.listening[0].miss.assert_called_once()


def test_the_data_of_another_cluster_or_replica_is_refused(tmp_path: Path) -> None:
    with made(config(tmp_path)):
        pass
    with pytest.raises(WrongIdentity, match="cluster"):
        make_parts(config(tmp_path, name="another"), ME)
    for changes in ({"f": 0, "e": 0}, {"protocol": "multipaxos"}):
        with pytest.raises(WrongIdentity, match=r"alpha: epoch 0 was begun by alpha, bravo, charlie \(f 1"):
            make_parts(replace(config(tmp_path), **changes), ME)
    (tmp_path / "alpha").rename(tmp_path / "bravo")
    with pytest.raises(WrongIdentity, match="alpha"):
        make_parts(config(tmp_path), PEER)


def test_a_directory_in_use_is_refused_and_free_after_that(tmp_path: Path) -> None:
    with made(config(tmp_path)), pytest.raises(DirectoryLocked):
        make_parts(config(tmp_path), ME)
    with made(config(tmp_path)):
        pass


@pytest.mark.parametrize("row", [(b"z", b""), (b"ikey", b"\0"), (b"s" + bytes(8), b"\x90"), (b"M", b"\x90")])
def test_a_checkpoint_that_cannot_be_read_is_told_and_lets_the_directory_go(
    tmp_path: Path, row: tuple[bytes, bytes]
) -> None:
    with made(config(tmp_path)) as parts:
        parts.disk.engine.stage_state([row])
        parts.disk.engine.commit_state()
    for _ in range(2):  # not that it is locked
        with pytest.raises(StorageError, match="checkpoint"):
            make_parts(config(tmp_path), ME)


def test_a_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with made(config(tmp_path)) as parts:
        learn(parts, 0)
        [(key, _), *_] = parts.disk.engine.scan_log()
        parts.disk.engine.write_log([(key, b"\x90")])
    for _ in range(2):
        with pytest.raises(StorageError, match=r"record of instance 1\.0 cannot be read"):
            make_parts(config(tmp_path), ME)


def test_a_state_machine_is_new_and_not_called_as_the_store(tmp_path: Path) -> None:
    used, stranger = Ledger(), Ledger()
    used.balances[b"ann"] = 1
    stranger.name = "kv"
    for machine, text in (
        (used, 'the "ledger" that was given has a state; give each Node a new one'),
        (stranger, '"kv" is the key-value store; call yours something else'),
    ):
        with pytest.raises(ConfigError, match=text):
            make_parts(replace(config(tmp_path), machine=machine.name), ME, machine)
    assert not list(tmp_path.iterdir())


def test_a_replica_collects_with_the_quorum_of_its_epoch_and_not_of_its_file(tmp_path: Path) -> None:
    settings = config(tmp_path)
    with made(settings) as parts:
        following = settings.initial.next(7, f=0, e=0)
        parts.eras.running = make_era(settings, parts.me, following, Durable((), NONE, NONE, ()))
        replica = Replica(settings, ME, parts, [], Standing())
        status = CoreStatus(NONE, NONE, NONE, NONE, 0, 0, 0)
        assert not replica._proposals._collector.may_propose(status, 1, {PEER})
        assert replica._proposals._collector.may_propose(status, 1, {1, 2})
        replica._context.destroy()


def test_who_is_the_first_to_watch_is_told_no_state_while_a_checkpoint_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nobody watches no round tells that, so it is looked up when it is asked for."""
    settings = config(tmp_path)
    with made(settings) as parts:
        replica = Replica(settings, ME, parts, [], Standing())
        told: list[object] = []
        parts.watchers.ask("a", Poll(b"", state=True), 0.0, told.append)
        monkeypatch.setattr(Durability, "merging", True)
        parts.watchers.ask("b", Poll(b"", state=True), 0.0, told.append)
        assert len(told) == 1
        replica._context.destroy()


def test_one_that_is_to_join_begins_in_an_epoch_of_nobodys_and_is_itself_for_ever(tmp_path: Path) -> None:
    settings = config(tmp_path)
    for joins in (True, False):  # at later starts nothing is to be said
        parts = make_parts(settings, ME, joins=joins)
        assert parts.me == joined("alpha", parts.disk.engine.incarnation)
        assert (parts.configuration.names, parts.eras.running.row) == ((NOBODY,), None)
        assert not parts.stats.has_quorum
        parts.disk.engine.close()


def test_one_that_joins_votes_where_a_checkpoint_says_so(tmp_path: Path) -> None:
    settings = config(tmp_path)
    parts = make_parts(settings, ME, joins=True)
    names = ("bravo", "charlie", parts.me)
    epoch = settings.initial.next(7, names=names, members={parts.me: Member(parts.disk.engine.incarnation)})
    parts.disk.engine.stage_state([meta_row(Meta(epoch, NONE, (NONE,) * len(parts.core.vectors()), 0))])
    parts.disk.engine.commit_state()
    begin(settings, parts)
    parts.disk.engine.close()
    for _ in range(2):
        assert (parts.configuration, parts.eras.running.row) == (epoch, 2)
        assert parts.stats.replicas == names
        parts = make_parts(settings, ME)
        parts.disk.engine.close()


def test_one_that_is_to_join_follows_in_the_first_epoch_too_and_observes_for_nobody(tmp_path: Path) -> None:
    """What its log has of nobody's epoch bears the same number, and is no reason to refuse it after a restart."""
    settings = config(tmp_path)
    parts = make_parts(settings, ME, joins=True)
    meta = Meta(settings.initial, NONE, (NONE,) * len(parts.core.vectors()), 0)
    parts.disk.engine.stage_state([meta_row(meta)])
    parts.disk.engine.commit_state()
    begin(settings, parts)
    learn(parts, 0)
    while parts.disk.journal.retire():
        pass
    for _ in range(3):
        assert (parts.configuration, parts.eras.running.row) == (settings.initial, None)
        assert not parts.observes
        parts.disk.engine.close()
        parts = make_parts(settings, ME)
    [record] = parts.disk.journal.load().records
    assert record.id == InstanceId(PEER, 0)
    parts.disk.engine.close()


def test_the_data_of_a_first_member_joins_nothing(tmp_path: Path) -> None:
    with made(config(tmp_path)):
        pass
    with pytest.raises(WrongIdentity, match="start it without --join"):
        make_parts(config(tmp_path), ME, joins=True)
