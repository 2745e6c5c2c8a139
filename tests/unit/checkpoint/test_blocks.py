"""What the blocks of a checkpoint may take, in bytes and in the time of a step, whatever is written again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, product

import pytest

from epaxos.checkpoint.blocks import GROWTH
from epaxos.checkpoint.rows import BLOCK_BYTES, VALUE, Change, read_values
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.errors import StorageError
from epaxos.protocol.contract import Receive
from epaxos.protocol.epaxos.messages import Commit, PreAccept
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP
from epaxos.statemachine.operations import Operation
from epaxos.storage.memory_engine import MemorySnapshot
from harness.blocks import recall
from harness.lone import Lone, payload_of
from harness.members import MEMBERS

WRITE, DELETE, APPEND, MULTI = Operation.WRITE, Operation.DELETE, Operation.APPEND, Operation.MULTI
LARGE = BLOCK_BYTES + 1


class Writing:
    """A replica with blocks of a few keys, which are all that `keys` names; `snapshots` are those that were taken."""

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self.steps: list[list[Change]] = []
        self.snapshots: list[MemorySnapshot] = []
        self._slots = count()
        self.lone = Lone()
        self._make_writer()

    def _make_writer(self) -> None:
        lone = self.lone
        lone.writer = CheckpointWriter(
            lone.core, lone.machine, MEMBERS, self._stage, self._snapshot, self.size
        )
        lone.writer.loaded(lone.read())

    def _stage(self, changes: Sequence[Change]) -> None:
        self.steps[-1] += changes
        self.lone.engine.stage_state(changes)

    def _snapshot(self) -> MemorySnapshot:
        self.snapshots.append(self.lone.engine.snapshot_state())
        return self.snapshots[-1]

    def execute(self, *operations: tuple[Operation, bytes, object]) -> None:
        slot = next(self._slots)
        payload = payload_of(7, 1 + 99 * slot, list(operations))
        self.lone.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))

    def annul(self, slot: int, key: bytes) -> None:
        """Hear of a payload that is not chosen, but for which a no-op is."""
        place, payload = InstanceId(1, slot), payload_of(7, 1 + 99 * slot, [(WRITE, key, b"v")])
        self.lone.take(Receive(1, PreAccept(place, payload, (-1, -1, -1), 0)))
        self.lone.take(Receive(1, Commit(place, NOP, (-1, -1, -1), 0)))

    def knows(self, key: bytes) -> int:
        """The last slot of row 1 that is known to write a key."""
        return self.lone.core.state.conflicts.column(4, [key])[0]

    def step(self) -> bool:
        self.steps.append([])
        return self.lone.writer.step()

    def checkpoint(self) -> None:
        self.lone.writer.begin()
        self.finish()

    def finish(self) -> None:
        while not self.step():
            pass
        self.lone.commit()

    def restart(self) -> None:
        self.lone = Lone(self.lone.engine)
        self._make_writer()

    @property
    def values(self) -> dict[bytes, bytes]:
        return dict(self.lone.read().values())

    @property
    def size_of_values(self) -> int:
        return sum(size for row, size in self.lone.read().blocks.items() if row.startswith(VALUE))


def test_a_key_that_went_and_came_back_between_two_cuts_is_not_lost() -> None:
    """Although it changes once more before its block is written, and the replica stops then."""
    writing = Writing()
    writing.execute((WRITE, b"k", b"old"))
    writing.checkpoint()
    writing.execute((DELETE, b"k", None))
    writing.execute((WRITE, b"k", b"v"))
    writing.lone.writer.begin()
    writing.execute((APPEND, b"k", b"x"))
    writing.finish()
    assert writing.values == {b"k": b"v"}
    digest = writing.lone.digest
    writing.restart()
    assert writing.lone.digest == digest


OVERWRITES: list[list[tuple[Operation, bytes, object]]] = [
    [(WRITE, b"k", b"new")],
    [(WRITE, b"k", b"new"), (Operation.READ, b"other", None)],
    [(DELETE, b"k", None), (WRITE, b"other", b"new")],
    [(APPEND, b"k", b"x")],
    [(MULTI, b"", [bytes([WRITE, APPEND]), [b"k", b"k"], [b"new", b"x"]])],
    [(MULTI, b"", [bytes([WRITE, Operation.INCREMENT]), [b"k", b"k"], [b"new", 1]])],
]
"""In a column of writes; among plain commands; among others; alone; in a MULTI that is done, and in one that is not."""


def test_what_is_overwritten_in_whatever_way_is_put_aside_first() -> None:
    """Its older block is sifted beside: it stands in that alone."""
    for overwrite in OVERWRITES:
        writing = Writing(size=1)
        writing.execute((WRITE, b"k", b"old"))
        writing.checkpoint()
        for turn in range(12):
            writing.execute((WRITE, b"a", b"%d" % turn * 20))
            writing.lone.writer.begin()
            writing.execute(*overwrite)
            writing.finish()
            assert writing.values.get(b"k") == b"old"
            writing.execute((WRITE, b"k", b"old"))
            writing.checkpoint()


CHANGES: dict[str, Callable[[int], bytes]] = {
    "new": lambda turn: b"%06d" % turn,
    "equal": lambda _: b"equal.",
    "to and fro": lambda turn: b"%06d" % (turn % 2),
    "large": lambda turn: b"%06d" % turn * (LARGE // 6),
    "large and equal": lambda _: b"equal." * (LARGE // 6),
}


def test_a_checkpoint_takes_a_few_times_what_it_holds() -> None:
    """Whatever is written, again and again, and after whatever restarts."""
    for change, restart in product(CHANGES, (False, True)):
        writing = Writing()
        keys = [b"%d" % key for key in range(2 if "large" in change else 24)]
        small = [b"small %d" % key for key in range(60)]
        writing.execute(*((WRITE, key, b"") for key in small))
        largest = 0
        for turn in range(9 if "large" in change else 20):
            writing.execute(*((WRITE, key, CHANGES[change](turn)) for key in keys))
            writing.checkpoint()
            if restart:
                writing.restart()
            largest = max(largest, writing.size_of_values)
        needed = sum(len(key) + len(CHANGES[change](0)) + 8 for key in keys) + 20 * len(small)
        assert largest <= (2 * GROWTH + 1) * needed, change
        assert writing.values == dict.fromkeys(small, b"") | dict.fromkeys(keys, CHANGES[change](turn))


def test_what_a_block_knows_of_a_key_twice_counts_by_the_later_slot() -> None:
    """However it comes to stand there twice: here by a checkpoint that was given up; then everything is sifted."""
    writing = Writing()
    writing.annul(0, b"k")
    writing.lone.writer.begin()
    writing.step()
    writing.lone.writer.give_up()
    writing.lone.engine.rollback_state()
    writing.annul(1, b"k")
    writing.checkpoint()
    for slot in (2, 3):
        writing.restart()
        assert writing.knows(b"k") == 1
        writing.annul(slot, b"other")
        writing.checkpoint()


def test_what_was_put_aside_goes_with_its_checkpoint() -> None:
    for end in (Writing.finish, lambda writing: writing.lone.writer.give_up()):
        writing = Writing()
        writing.execute((WRITE, b"k", b"old"))
        writing.lone.writer.begin()
        writing.execute((WRITE, b"k", b"new"))
        end(writing)
        assert writing.lone.writer._frozen.values([b"k"]) == [None]


def test_a_block_of_few_large_values_that_all_stand_is_left_alone() -> None:
    writing = Writing(size=64)
    half = b"v" * (BLOCK_BYTES * 2 // 3)
    writing.execute((WRITE, b"a", half))
    writing.checkpoint()
    writing.execute((WRITE, b"b", half))
    writing.checkpoint()
    before = set(writing.lone.read().blocks)
    for turn in range(8):
        writing.execute((WRITE, b"c", b"%d" % turn * BLOCK_BYTES))
        writing.checkpoint()
    assert len(writing.snapshots) > 2, "they were sifted"
    kept = [row for row in before if row.startswith(VALUE)]
    assert len(kept) == 2
    assert set(kept) <= set(writing.lone.read().blocks)


def test_no_step_makes_much_more_than_a_block_of_bytes() -> None:
    """Blocks that are joined are small, and one value may be larger."""
    writing = Writing(size=512)
    for turn in range(8):
        for first in range(0, 150, 50):
            keys = [b"%d" % key for key in range(first, first + 50) if turn == 0 or key % 4]
            writing.execute(*((WRITE, key, b"%d" % turn * 20_000) for key in keys))
        writing.checkpoint()
    assert len(writing.snapshots) > 1, "they were sifted"
    sizes = [sum(len(blob or b"") for _, blob in changes) for changes in writing.steps]
    assert max(sizes) <= BLOCK_BYTES + 2 * BLOCK_BYTES // 3
    assert max(map(len, (read_values(blob)[0] for row, blob in rows(writing.steps, VALUE)))) < 20


def rows(steps: list[list[Change]], kind: bytes) -> list[tuple[bytes, bytes]]:
    return [(row, blob) for changes in steps for row, blob in changes if blob is not None and row[:1] == kind]


@pytest.mark.parametrize("end", ["close", "give up"])
def test_who_stops_while_blocks_are_sifted_leaves_no_snapshot(end: str) -> None:
    writing = Writing(size=1)
    for turn in range(20):
        writing.execute(*((WRITE, b"%d" % key, b"%d" % turn * 99) for key in range(9)))
        writing.lone.writer.begin()
        taken = len(writing.snapshots)
        while not writing.step():
            if len(writing.snapshots) > taken:
                (writing.lone.writer.close if end == "close" else writing.lone.writer.give_up)()
                [snapshot] = writing.snapshots[taken:]
                with pytest.raises(StorageError, match="closed"):
                    snapshot.get(b"m")
                return
        writing.lone.commit()
    raise AssertionError("nothing was sifted")


def test_what_a_checkpoint_had_that_was_given_up_is_in_the_next_one() -> None:
    writing = Writing()
    writing.execute((WRITE, b"k", b"old"))
    writing.lone.writer.begin()
    while not writing.steps or not rows(writing.steps, VALUE):
        writing.step()
    writing.lone.engine.rollback_state()
    writing.lone.writer.give_up()
    writing.execute((WRITE, b"other", b"new"))
    writing.checkpoint()
    known = recall(writing.lone.core, [b"k", b"other"])
    writing.restart()
    assert writing.values == {b"k": b"old", b"other": b"new"}
    assert recall(writing.lone.core, [b"k", b"other"]) == known


def test_a_replica_in_memory_serves_what_it_holds() -> None:
    """Its journal keeps nothing; a peer adopts its checkpoint, and goes on with what it has in its log."""
    source = Lone(lasting=False)
    for slot in range(4):
        payload = payload_of(7, 1 + slot, [(APPEND, b"k", b"%d" % slot)])
        source.take(Receive(1, Commit(InstanceId(1, slot), payload, (-1, slot - 1, -1), slot)))
        if slot < 3:
            source.checkpoint()
    fetched = source.read()
    peer = Lone(lasting=False)
    peer.begin_adopting(fetched)
    while not peer.writer.step():
        pass
    peer.adopt(fetched)
    assert dict(fetched.values()) == {b"k": b"012"}
    assert peer.machine.digest_source().data == {b"k": b"012"}
    assert source.journal.load().records == []
    assert source.core.status().executed == (-1, 3, -1) != peer.core.status().executed == fetched.executed
