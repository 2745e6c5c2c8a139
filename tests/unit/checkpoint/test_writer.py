"""What stands in a checkpoint that was merged with a peer's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from random import Random
from typing import NoReturn

import pytest

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import (
    VALUE,
    Change,
    Meta,
    entry_key,
    index_kind,
    meta_row,
    read_index,
    read_values,
)
from epaxos.checkpoint.writer import CheckpointWriter, hold_event
from epaxos.errors import RowRefused
from epaxos.protocol.contract import Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Commit, Message, PreAccept, PreAcceptOK
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase
from epaxos.protocol.quorums import make_quorums
from epaxos.statemachine.batch import Limits, make_collection
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.storage.records import encode_whole
from harness.blocks import index_rows, recall
from harness.commands import decode_access, put
from harness.lone import Lone, payload_of, random_history, replayed
from harness.members import MEMBERS
from harness.probe import sent

NONE: Vector = (-1, -1, -1)
PLACE = InstanceId(1, 5)
PRE_ACCEPT: Receive[Message] = Receive(1, PreAccept(PLACE, put(1, b"x"), NONE, 0))


def no_sleep(_: float) -> None:
    """Nothing here pauses."""


class Merge:
    """A replica that adopts the checkpoint of a peer, which annulled `PLACE` and never knew the payload."""

    def __init__(self) -> None:
        self.core = EPaxos(Settings(row=0, quorums=make_quorums(3)), Random(0))
        self._staged: list[Change] = []
        machine = StateMachine(Limits(64, 64, 1), no_sleep)
        self._writer = CheckpointWriter(
            self.core, machine, MEMBERS, self._staged.extend, MemoryEngine().snapshot_state
        )

    def begin(self) -> None:
        """All rows have come; a first slice of them is merged."""
        annulled = Instance(PLACE, NONE)
        annulled.phase, annulled.value = Phase.COMMITTED, NOP
        fetched = Fetched(MEMBERS, decode_access)
        rows = [meta_row(Meta(MEMBERS, NONE)), *index_rows([b"other"], [[0]] * self.core.width)]
        fetched.take([(key, value) for key, value in rows if value is not None])
        fetched.take([(entry_key(PLACE), encode_whole(annulled))])
        self._writer.adopt(fetched)
        self.core.on_event(hold_event(fetched), 0.0)
        assert not self._writer.step()

    def end(self) -> None:
        """Write the merged checkpoint."""
        while not self._writer.step():
            pass

    def remembers(self, key: bytes) -> bool:
        """Whether it says of a key that `PLACE` writes it."""
        columns = recall(self.core, [key])
        blocks = [read_index(blob or b"") for row, blob in self._staged if row.startswith(index_kind(4))]
        staged = any(key in keys and slots[keys.index(key)] == PLACE.slot for keys, slots in blocks)
        return columns[4] == [PLACE.slot] and staged


def test_a_payload_is_remembered_that_the_peer_annulled_without_knowing_it() -> None:
    # Above the peer's frontier: the entry stays in the log now, and will be dropped one day like all others.
    merge = Merge()
    merge.core.on_event(PRE_ACCEPT, 0.0)
    merge.begin()
    merge.end()
    assert merge.remembers(b"x")


def test_nothing_is_promised_that_the_merged_checkpoint_will_not_remember() -> None:
    merge = Merge()
    merge.begin()
    effects = merge.core.on_event(PRE_ACCEPT, 0.0)
    merge.end()
    assert merge.remembers(b"x") or not sent(effects, PreAcceptOK)


def test_what_a_checkpoint_was_to_hold_that_cannot_be_written_is_in_the_next_one() -> None:
    """Whichever stage is refused, and although much changes before the next attempt."""
    for refused_at in range(1, 14):
        refuse_once(refused_at)


def refuse_once(refused_at: int) -> None:
    lone = Lone()
    decisions = random_history(Random(refused_at), 60)
    stage, left = lone.engine.stage_state, refused_at

    def refuse(changes: Sequence[Change]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise RowRefused("this one")
        stage(changes)

    lone.writer = CheckpointWriter(
        lone.core, lone.machine, MEMBERS, refuse, lone.engine.snapshot_state, size=8
    )
    for position, decision in enumerate(decisions):
        lone.take(decision.commit)
        if position % 15 == 14:
            try:
                lone.checkpoint()
            except RowRefused:
                lone.engine.rollback_state()
                lone.writer.give_up()
    lone.checkpoint()
    assert left <= 0
    again = Lone(lone.engine)
    assert again.digest == lone.digest == replayed(lone.applied).digest_source().hexdigest()
    again.machine.freeze()
    assert again.core.status().executed == lone.core.status().executed


def test_a_key_that_has_gone_stays_gone_while_its_blocks_are_sifted() -> None:
    lone = small(Lone())
    slots = count()

    def execute(operation: Operation, key: bytes, argument: object = None) -> None:
        slot = next(slots)
        payload = payload_of(7, 1 + slot, [(operation, key, argument)])
        lone.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))

    others = [b"%d" % number for number in range(9)]
    for key in others:
        execute(Operation.WRITE, key, b"")
    execute(Operation.WRITE, b"k", b"1")
    lone.checkpoint()
    execute(Operation.DELETE, b"k")
    lone.checkpoint()
    assert dict(lone.read().values()) == dict.fromkeys(others, b"")
    for key in others:
        execute(Operation.WRITE, key, b"")
    lone.writer.begin()
    execute(Operation.WRITE, b"k", b"2")
    while not lone.writer.step():
        pass
    lone.commit()
    assert dict(lone.read().values()) == dict.fromkeys(others, b"")
    for _ in range(3):
        for key in others:
            execute(Operation.WRITE, key, b"3")
        lone.checkpoint()
    assert dict(lone.read().values()) == {b"k": b"2", **dict.fromkeys(others, b"3")}
    assert sum(lone.read().blocks.values()) < 3 * 1024, "what a later entry stands for goes"


def test_what_executes_after_a_collection_that_speaks_for_it_is_in_the_checkpoint() -> None:
    """Its keys are forgotten as soon as they are gathered, and its values are no less new."""
    lone = Lone()
    first, collection, between = InstanceId(1, 0), InstanceId(1, 1), InstanceId(2, 0)
    payload = payload_of(7, 1, [(Operation.WRITE, b"k", b"v")])
    lone.take(Receive(1, Commit(first, payload, (-1, -1, 0), 5)))
    lone.take(Receive(2, Commit(between, payload_of(8, 1, [(Operation.READ, b"k", None)]), (-1, 1, -1), 6)))
    lone.take(Receive(1, Commit(collection, make_collection(0, NONE), (-1, 0, 0), 0)))
    assert [[decided.id for decided in component] for component in lone.components] == [
        [collection, first, between]
    ]
    lone.checkpoint()
    assert lone.core.status().kept == 0
    assert [column for column in recall(lone.core, [b"k"]) if column != [-1]] == [[0], [0]], (
        "only the reader's"
    )
    again = Lone(lone.engine)
    assert again.digest == lone.digest
    assert dict(again.machine.digest_source().data) == {b"k": b"v"}


def test_a_key_that_a_peer_deleted_and_forgot_stays_gone_after_a_restart() -> None:
    mine, theirs = Lone(), Lone()
    puts = payload_of(7, 1, [(Operation.WRITE, b"k", b"v"), (Operation.WRITE, b"same", b"v")])
    written = Commit(InstanceId(1, 0), puts, NONE, 0)
    deleted = Commit(InstanceId(1, 1), payload_of(7, 3, [(Operation.DELETE, b"k", None)]), (-1, 0, -1), 0)
    for lone in (mine, theirs):
        lone.take(Receive(1, written))
        lone.checkpoint()
    theirs.take(Receive(1, deleted))
    theirs.take(Receive(2, Commit(InstanceId(2, 0), make_collection(0, (-1, 1, -1)), (-1, 1, -1), 0)))
    theirs.checkpoint()
    assert theirs.core.status().remembered == 0
    mine.begin_adopting(theirs.read())
    while not mine.writer.step():
        pass
    mine.adopt(theirs.read())
    again = Lone(mine.engine)
    assert again.digest == mine.digest == theirs.digest
    assert dict(mine.read().values()) == {b"same": b"v"}
    last = max(row for row in mine.read().blocks if row.startswith(VALUE))
    assert read_values(mine.engine.snapshot_state().get(last) or b"") == ([b"k"], [None]), "no more"


def test_what_is_known_of_an_annulled_command_is_not_sifted_out() -> None:
    """Nothing has executed that touches its key, so nothing newer is there either."""
    lone = small(Lone())
    for slot in range(9):
        place = InstanceId(1, slot)
        lost = payload_of(7, 1 + slot, [(Operation.WRITE, b"k%d" % slot, b"v")])
        lone.take(Receive(1, PreAccept(place, lost, NONE, 0)))
        lone.take(Receive(1, Commit(place, NOP, NONE, 0)))
        lone.checkpoint()
    keys = [b"k%d" % slot for slot in range(9)]
    known = recall(Lone(lone.engine).core, keys)
    assert known == recall(lone.core, keys)
    assert known.count(list(range(9))) == 1
    assert lone.core.status().kept == 0


def test_a_value_that_is_written_again_and_again_stands_a_few_times_in_a_checkpoint() -> None:
    """Its entries differ in nothing; nor do restarts make it more."""
    lone = small(Lone())
    for slot in range(40):
        payload = payload_of(7, 1 + slot, [(Operation.WRITE, b"k", b"same" * 2_000)])
        lone.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))
        lone.checkpoint()
        if slot % 3 == 0:
            lone = small(Lone(lone.engine))
        assert sum(lone.read().blocks.values()) < 7 * 8_000
    assert dict(lone.read().values()) == {b"k": b"same" * 2_000}


def small(lone: Lone) -> Lone:
    """Let a replica write blocks of one key."""
    engine = lone.engine
    lone.writer = CheckpointWriter(
        lone.core, lone.machine, MEMBERS, engine.stage_state, engine.snapshot_state, size=1
    )
    lone.writer.loaded(lone.read())
    return lone


def test_one_large_value_that_changes_all_the_time_stands_a_few_times_in_a_checkpoint() -> None:
    lone = Lone()
    for slot in range(20):
        payload = payload_of(7, 1 + slot, [(Operation.WRITE, b"k", b"%03d" % slot * 10_000)])
        lone.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))
        lone.checkpoint()
        assert sum(lone.read().blocks.values()) < 4 * 30_000 + 4096
    assert dict(lone.read().values()) == {b"k": b"019" * 10_000}


@pytest.mark.parametrize("failing", ["absorb", "merge"])
def test_what_cannot_be_done_over_is_not_given_up(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a cut that is absorbed, or of a slice that is merged, is nowhere noted."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    lone = Lone()
    for decision in random_history(Random(1), 60):
        lone.take(decision.commit)
    if failing == "absorb":
        monkeypatch.setattr(lone.core.state.executed, "join", fail)
        lone.writer.begin()
    else:
        monkeypatch.setattr(lone.machine, "merge", fail)
        fetched = Fetched(MEMBERS, decode_access)
        rows = [meta_row(Meta(MEMBERS, NONE)), *index_rows([b"other"], [[0]] * lone.core.width)]
        fetched.take([(key, value) for key, value in rows if value is not None])
        lone.core.on_event(hold_event(fetched), 0.0)
        lone.writer.adopt(fetched)
    with pytest.raises(MemoryError):
        any(lone.writer.step() for _ in range(99))


def test_what_was_taken_in_before_a_cut_is_in_its_checkpoint_as_it_was_then() -> None:
    """And what is written while the values are is not."""
    lone = Lone()
    lone.writer = CheckpointWriter(
        lone.core, lone.machine, MEMBERS, lone.engine.stage_state, lone.engine.snapshot_state, size=2
    )
    keys = [b"%02d" % number for number in range(40)]
    slots = count()

    def write(some: Sequence[bytes], value: bytes) -> None:
        slot = next(slots)
        payload = payload_of(7, 1 + 40 * slot, [(Operation.WRITE, key, value) for key in some])
        lone.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))

    for key in keys:
        write([key], b"before")
    for _ in range(7):
        assert lone.writer.prepare()
    lone.writer.begin()
    left = list(keys)
    while not lone.writer.step():
        if lone.writer.staged and left:
            write([left.pop()], b"after")
    lone.commit()
    assert len(left) < len(keys) / 2
    assert dict(lone.read().values()) == dict.fromkeys(keys, b"before")
