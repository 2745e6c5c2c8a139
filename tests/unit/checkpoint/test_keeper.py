"""Fetching a peer's checkpoint: how long the peer is asked, and for what."""

from __future__ import annotations

import math
from itertools import count
from random import Random

import msgpack
import pytest

from epaxos import version
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.keeper import SLICES_WHILE_MERGING, Keeper, KeeperSettings, Todo
from epaxos.checkpoint.rows import Change, Meta, meta_row
from epaxos.checkpoint.transfer import DONE, Snapshot, Source
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.errors import FrameError
from epaxos.protocol.contract import Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Commit
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP
from epaxos.protocol.quorums import make_quorums
from epaxos.protocol.transfer import CheckpointRows, FetchRows
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.machine import StateMachine
from epaxos.storage.memory_engine import MemoryEngine
from harness.commands import decode_access
from harness.members import MEMBERS

EXECUTED: Vector = (-1, 9, -1)
RETRY = 1.0
UNKNOWN_COMMAND = msgpack.packb((0, 0, b"", b"no command"))


class Rig:
    """The keeper of a core of three that has nothing; its commits take as long as a test likes."""

    def __init__(self) -> None:
        self.core = EPaxos(Settings(row=0, quorums=make_quorums(3)), Random(0))
        staged: list[Change] = []
        machine = StateMachine(Limits(64, 64, 1), lambda _: None)
        numbers = count(1)
        self.keeper = Keeper(
            self.core,
            CheckpointWriter(self.core, machine, MEMBERS, staged.extend, MemoryEngine().snapshot_state),
            Source(10.0, self._no_snapshot, lambda: next(numbers)),
            KeeperSettings(math.inf, 10**9, RETRY),
            lambda: Fetched(MEMBERS, decode_access),
            lambda: next(numbers),
            lambda _: self.core.round_trip(1).longest,
            lambda _: iter(()),
        )

    def poll(self, now: float) -> Todo:
        """A round, in which the core takes its events."""
        return self.do(self.keeper.poll(now), now)

    def do(self, todo: Todo, now: float) -> Todo:
        """Hand the core its events."""
        for event in todo.events:
            self.core.on_event(event, now)
        return todo

    @staticmethod
    def _no_snapshot() -> Snapshot:
        raise AssertionError


def test_the_peer_keeps_its_log_while_its_checkpoint_is_merged_and_committed() -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    assert rig.poll(0.0).messages == [("b", FetchRows(1, 0))]
    rows = msgpack.packb(meta_row(Meta(MEMBERS, EXECUTED)))
    assert not rig.keeper.receive("b", CheckpointRows(1, 0, rows, 1), 0.1).messages
    again = FetchRows(1, len(rows))
    todo = rig.poll(0.1)
    while not todo.commit:
        todo = rig.poll(0.1)
    # More often than an unanswered peer is asked: that its answers bring nothing is no reason to stop.
    for _ in range(20):
        now = rig.keeper.deadline
        assert rig.poll(now).messages == [("b", again)]
        assert rig.keeper.deadline == now + RETRY
        rig.keeper.receive("b", CheckpointRows(1, len(rows), b"", 1), now)
    rig.do(rig.keeper.committed(), now)
    assert rig.core.status().executed == EXECUTED
    assert rig.poll(now).messages == [("b", FetchRows(1, -1))]
    assert rig.keeper.catch_up is None


def test_what_replaces_all_says_of_which_level_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "NEWEST", version.OLDEST + 1)
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    rig.poll(0.0)
    later = MEMBERS.next(7, level=version.NEWEST)
    rig.keeper.receive("b", CheckpointRows(1, 0, msgpack.packb(meta_row(Meta(later, EXECUTED))), 1), 0.1)
    todo = rig.poll(0.1)
    while not todo.commit:
        todo = rig.poll(0.1)
    assert todo.level == version.NEWEST
    assert not rig.keeper.committed().replaced
    assert rig.poll(0.1).replaced


def test_what_replaces_all_is_loaded_in_slices_and_the_peer_keeps_its_log_until_then() -> None:
    rig = Rig()
    left = list(range(100))
    rig.keeper._load = lambda _: (left.pop() for _ in range(100))  # type: ignore[misc]
    rig.keeper.wanted(["b"], 0.0)
    rig.poll(0.0)
    later = MEMBERS.next(7)
    rig.keeper.receive("b", CheckpointRows(1, 0, msgpack.packb(meta_row(Meta(later, EXECUTED))), 1), 0.1)
    while not rig.poll(0.1).commit:
        pass
    rig.keeper.committed()
    rounds, now, kept = 0, 0.1, 0
    while True:
        before, rounds, now = len(left), rounds + 1, now + RETRY / 2
        todo = rig.poll(now)
        assert before - len(left) <= SLICES_WHILE_MERGING
        if todo.replaced:
            break
        assert (rig.keeper.merging, rig.keeper.deadline) == (True, -math.inf)
        kept += len(todo.messages)
    assert (rounds, left) == (1 + 100 // SLICES_WHILE_MERGING, [])
    assert kept == rounds // 2
    assert FetchRows(1, DONE) not in [message for _, message in todo.messages]


def begun_anew() -> Rig:
    """One that has begun anew at second 0 with a checkpoint of `b`."""
    before, after = Rig(), Rig()
    before.keeper.wanted(["b"], 0.0)
    before.poll(0.0)
    rows = msgpack.packb(meta_row(Meta(MEMBERS.next(7), EXECUTED)))
    before.keeper.receive("b", CheckpointRows(1, 0, rows, 1), 0.0)
    while not before.poll(0.0).commit:
        pass
    before.keeper.committed()
    assert before.poll(0.0).replaced
    after.keeper.follow(before.keeper, 0.0)
    return after


@pytest.mark.parametrize("follows", [0, 1, 150])
def test_the_peer_keeps_its_log_until_what_followed_has_executed_where_all_was_replaced(follows: int) -> None:
    """However long that takes, as long as it goes on; without it a loaded peer drops that, and sends all once more."""
    rig, now = begun_anew(), 0.0
    for slot in range(follows):
        [(peer, kept)] = rig.poll(now).messages
        assert (peer, kept.transfer, kept.position > 0) == ("b", 1, True)
        rig.core.state.hear_of((-1, follows - 1, -1))
        rig.core.on_event(Receive(1, Commit(InstanceId(1, slot), NOP, (-1, -1, -1), 0)), now)
        now = rig.keeper.deadline
    if not follows:  # a peer would have told by now
        rig.poll(now)
        now = rig.keeper.deadline
    assert rig.poll(now).messages == [("b", FetchRows(1, DONE))]
    assert (now, rig.keeper.caught_up) == (max(follows, 1) * RETRY, 1)


def test_who_looks_on_does_not_take_silence_for_nothing_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peers hear of it only once it is there; under load that took longer than the first question."""
    monkeypatch.setattr(EPaxos, "unsure", True)
    rig, now = begun_anew(), 0.0
    for _ in range(10):
        assert rig.poll(now).messages != [("b", FetchRows(1, DONE))]
        now = rig.keeper.deadline
    monkeypatch.setattr(EPaxos, "unsure", False)
    assert rig.poll(now).messages == [("b", FetchRows(1, DONE))]


def test_who_looks_on_does_not_take_what_it_knows_at_first_for_all_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checkpoint may have instances above a hole, and the first beacon be that of a peer which lags."""
    monkeypatch.setattr(EPaxos, "unsure", True)
    rig = begun_anew()

    def follows(slot: int) -> bool:
        rig.core.on_event(Receive(1, Commit(InstanceId(1, slot), NOP, (-1, -1, -1), 0)), 0.0)
        return rig.poll(rig.keeper.deadline).messages != [("b", FetchRows(1, DONE))]

    rig.core.state.hear_of((-1, 0, -1))
    rig.poll(0.0)
    assert follows(0)
    rig.core.state.hear_of((-1, 2, -1))
    monkeypatch.setattr(EPaxos, "unsure", False)
    assert follows(1)
    assert not follows(2)


def test_who_follows_is_faithful_until_some_questions_have_been_of_no_use() -> None:
    """A peer that has dropped more is heard long before the first decision has executed."""
    rig = begun_anew()
    rig.core.state.hear_of((-1, 5, -1))
    for peer in [*"bbbbb", "c"]:
        rig.keeper.wanted(["c"], rig.keeper.deadline)
        assert rig.keeper.catch_up is not None
        assert rig.keeper.catch_up.peer == peer
        rig.poll(rig.keeper.deadline)


@pytest.mark.parametrize(("steps", "most"), [(0, 100), (10**6, 1000)])
def test_who_hardly_follows_does_not_keep_a_peers_log_for_ever(steps: int, most: int) -> None:
    rig = begun_anew()
    rig.core.state.hear_of((-1, 10**6, -1))
    asked = 0
    while rig.keeper.catch_up is not None:
        if asked < steps:
            rig.core.on_event(Receive(1, Commit(InstanceId(1, asked), NOP, (-1, -1, -1), 0)), 0.0)
        (message,) = rig.poll(rig.keeper.deadline).messages
        asked += 1
        assert asked <= most + 1
    assert (asked, message, rig.keeper.caught_up) == (most + 1, ("b", FetchRows(1, DONE)), 0)


def test_an_epoch_that_has_executed_is_one_that_was_followed() -> None:
    rig = begun_anew()
    rig.poll(0.0)
    rig.keeper.turn(MEMBERS.next(8), rig.core, 0.0)
    assert (rig.keeper.catch_up, rig.keeper.caught_up) == (None, 1)


@pytest.mark.parametrize("row", [(b"z", b""), (b"a" + bytes(10), b""), (b"a" + bytes(10), UNKNOWN_COMMAND)])
def test_a_checkpoint_of_which_a_row_cannot_be_read_is_given_up(row: tuple[bytes, bytes]) -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    rig.poll(0.0)
    bad, last = msgpack.packb(row), msgpack.packb(meta_row(Meta(MEMBERS, EXECUTED)))
    with pytest.raises(FrameError):
        rig.keeper.receive("b", CheckpointRows(1, 0, bad, 0), 0.1)
    assert rig.keeper.catch_up is None
    # The rest would be taken for the whole.
    rig.keeper.receive("b", CheckpointRows(1, len(bad), last, 1), 0.2)
    assert not rig.keeper.wants_cut(0.2)


def test_rows_are_not_asked_for_again_before_they_can_have_come() -> None:
    rig = Rig()
    rig.core.state.measured(1, 10.0)
    rig.keeper.wanted(["b"], 0.0)
    rig.poll(0.0)
    assert rig.keeper.deadline == rig.core.round_trip(1).longest > 10.0
