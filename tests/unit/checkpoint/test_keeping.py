"""When a checkpoint begins and ends, and what is asked of a peer: with a core and a writer that only look like it."""

from __future__ import annotations

import math
from itertools import count
from random import Random
from typing import Any, cast

import pytest

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.keeper import PAUSE, SLICE_BYTES, SLICES, CatchUp, Keeper, KeeperSettings, Todo
from epaxos.checkpoint.rows import Meta, meta_row
from epaxos.checkpoint.transfer import BEGIN, DONE, Source
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.protocol.contract import Adopt, Checkpointed, Component, Core, CoreStatus, Hold, Preparation
from epaxos.protocol.ids import Vector
from epaxos.protocol.membership import Configuration
from epaxos.protocol.transfer import CheckpointRows, FetchRows, TransferMessage
from epaxos.statemachine.batch import decode_payload
from epaxos.storage.memory_engine import MemoryEngine
from harness.lone import NONE, Lone, N, random_history
from harness.members import MEMBERS

INTERVAL, INSTANCES, RETRY, LEASE = 10.0, 5, 1.0, 4.0
ONE: list[Component] = [()]


class Progress:
    """How far a core is, as a test says."""

    def __init__(self) -> None:
        self.at = CoreStatus(NONE, NONE, NONE, NONE, 0, 0, 0)
        self.longest = 0.0

    def status(self) -> CoreStatus:
        return self.at

    def round_trip(self, _: int) -> float:
        return self.longest


class Writer:
    """A checkpoint takes as many slices as a test says."""

    def __init__(self) -> None:
        self.epoch = 0
        self.lasting = True
        self.executed: Vector = NONE
        self.begun: list[str] = []
        self.slices = 1
        self.before = self.waits = 0
        self.staged = self.large = 0

    def prepare(self) -> Preparation:
        if self.waits:
            self.waits -= 1
            return Preparation.WAITS
        self.before -= 1
        return Preparation.MORE if self.before >= 0 else Preparation.READY

    def begin(self, *, asked: bool) -> None:
        self.begun.append("own" if asked or self.lasting else "passed over")

    def turn(self, configuration: Configuration, core: Core[Any]) -> None:
        del core
        self.epoch = configuration.epoch

    def give_up(self) -> None:
        self.begun.append("given up")

    def adopt(self, fetched: Fetched) -> None:
        assert fetched.complete
        self.begun.append("adopted")

    def step(self) -> bool:
        self.slices -= 1
        self.staged += self.large
        return self.slices <= 0


class Rig:
    """A keeper between these two; `peer` is a replica whose checkpoint may be fetched."""

    def __init__(self) -> None:
        self.core = Progress()
        self.writer = Writer()
        self.engine = MemoryEngine()
        numbers = count(1)
        self.keeper = Keeper(
            cast("Core[Any]", self.core),
            cast("CheckpointWriter", self.writer),
            Source(LEASE, self.engine.snapshot_state, numbers.__next__),
            KeeperSettings(INTERVAL, INSTANCES, RETRY),
            lambda: Fetched(MEMBERS, decode_payload),
            numbers.__next__,
            lambda _: self.core.round_trip(1),
            lambda _: iter(()),
        )
        self.peer = Lone()
        for decision in random_history(Random(0), 40):
            self.peer.take(decision.commit)
        self.peer.checkpoint()
        self.far = self.peer.writer.executed
        self.source = Source(LEASE, self.peer.engine.snapshot_state, numbers.__next__, chunk=200)

    def reach(
        self, *, executed: Vector | None = None, seen: Vector | None = None, truncated: Vector | None = None
    ) -> None:
        at = self.core.at
        self.core.at = at._replace(
            executed=executed or at.executed, seen=seen or at.seen, truncated=truncated or at.truncated
        )

    def exchange(self, todo: Todo, now: float) -> Todo:
        """Bring messages to the peer, b, and its answers back, until there is something else to do."""
        while todo.messages and not (todo.events or todo.commit):
            answers = [
                self.source.answer("a", cast("FetchRows", message), now) for _, message in todo.messages
            ]
            for answer in answers:
                if answer is not None:
                    self.keeper.receive("b", answer, now)
            todo = self.keeper.poll(now)
        return todo

    def fetch_all(self, now: float) -> None:
        """Fetch the whole of the peer's checkpoint."""
        self.keeper.wanted(["b"], now)
        todo = self.exchange(self.keeper.poll(now), now)
        assert [type(event) for event in todo.events] == [Hold]

    def adopt(self, now: float) -> Todo:
        """Merge it and make it durable."""
        while not self.keeper.poll(now).commit:
            pass
        self.writer.executed = self.far
        self.reach(seen=self.far)
        return self.keeper.committed()


def asked(todo: Todo) -> list[TransferMessage]:
    assert all(peer == "b" for peer, _ in todo.messages)
    return [message for _, message in todo.messages]


def stage_of(keeper: Keeper) -> str:
    return "" if keeper.catch_up is None else keeper.catch_up.stage


def is_quiet(todo: Todo) -> bool:
    return todo == Todo()


# -- own checkpoints ---------------------------------------------------------------------------------------


def test_nothing_is_due_before_something_has_executed() -> None:
    rig = Rig()
    assert rig.keeper.deadline == math.inf
    rig.keeper.executed([], 1.0)
    assert rig.keeper.deadline == math.inf
    assert is_quiet(rig.keeper.poll(10**6))
    assert rig.writer.begun == []


def test_a_checkpoint_begins_an_interval_after_the_first_execution() -> None:
    rig = Rig()
    for now in (1.0, 2.0, 3.0):
        rig.keeper.executed(ONE, now)
    assert rig.keeper.deadline == 1.0 + INTERVAL
    assert not rig.keeper.wants_cut(1.0 + INTERVAL - 0.1)
    assert is_quiet(rig.keeper.poll(1.0 + INTERVAL - 0.1))
    assert rig.keeper.wants_cut(1.0 + INTERVAL)
    rig.keeper.poll(1.0 + INTERVAL)
    assert (rig.writer.begun, rig.keeper.cut_at) == (["own"], 1.0 + INTERVAL)


def test_a_checkpoint_begins_earlier_once_enough_has_executed() -> None:
    rig = Rig()
    rig.keeper.executed(ONE * (INSTANCES - 1), 1.0)
    assert rig.keeper.deadline == 1.0 + INTERVAL
    rig.keeper.executed(ONE, 2.0)
    assert rig.keeper.deadline == 2.0
    assert rig.keeper.wants_cut(2.0)


def test_what_can_be_done_before_the_cut_is_done_before_it_some_of_it_a_round() -> None:
    rig = Rig()
    rig.writer.before = 2 * SLICES
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    for now in (1.0, 2.0):
        assert is_quiet(rig.keeper.poll(now))
        assert not rig.writer.begun
        assert rig.keeper.deadline <= now
    rig.keeper.poll(3.0)
    assert (rig.writer.begun, rig.keeper.cut_at) == (["own"], 3.0)


def test_a_cut_that_waits_for_something_is_asked_for_again_after_a_pause_and_once_a_round() -> None:
    """Rounds that follow one another at once would use up all of the patience in some milliseconds."""
    rig = Rig()
    rig.writer.waits = 2
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    assert is_quiet(rig.keeper.poll(1.0))
    for now in (1.0, 1.0 + PAUSE):
        assert rig.keeper.deadline == now + PAUSE
        assert not rig.keeper.wants_cut(now + PAUSE / 2)
        assert is_quiet(rig.keeper.poll(now + PAUSE / 2))
        assert rig.writer.begun == []
        rig.keeper.poll(now + PAUSE)
    assert (rig.writer.begun, rig.keeper.cut_at) == (["own"], 1.0 + PAUSE + PAUSE)


def test_the_phases_of_a_checkpoint() -> None:
    rig = Rig()
    rig.writer.slices = 2 * SLICES + 1
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    for _ in range(2):
        assert is_quiet(rig.keeper.poll(1.0))
        assert rig.keeper.deadline == -math.inf, "slices wait for nothing"
        assert not rig.keeper.wants_cut(1.0), "one is being written"
    assert rig.keeper.poll(1.0) == Todo(commit=True)
    rig.keeper.executed(ONE * INSTANCES, 2.0)
    assert rig.keeper.deadline == math.inf, "a second one begins before the first is durable"
    assert is_quiet(rig.keeper.poll(2.0))
    rig.writer.executed = (3, -1, 4)
    assert rig.keeper.committed().events == [Checkpointed((3, -1, 4))]
    rig.writer.slices = 1
    assert rig.keeper.poll(2.0).commit
    assert rig.writer.begun == ["own", "own"]


def test_a_round_takes_fewer_slices_where_they_are_large() -> None:
    rig = Rig()
    rig.writer.slices, rig.writer.large = 4 * SLICES, 2 * SLICE_BYTES
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    rig.keeper.poll(1.0)
    assert rig.writer.slices == 4 * SLICES - SLICES // 2


def test_the_core_is_told_again_until_it_drops_no_more() -> None:
    rig = Rig()
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    rig.keeper.poll(1.0)
    rig.writer.executed = (9, 9, 9)
    told = [Checkpointed((9, 9, 9))]
    assert rig.keeper.committed().events == told
    for slot in (3, 6, 9):
        rig.reach(truncated=(slot, -1, -1))
        assert rig.keeper.deadline == -math.inf
        assert rig.keeper.poll(1.0).events == told
    assert is_quiet(rig.keeper.poll(1.0))
    assert rig.keeper.deadline == math.inf


def test_of_what_a_peer_fetches_nothing_above_is_dropped() -> None:
    rig = Rig()
    rig.engine.stage_state(rig.peer.engine.snapshot_state().scan(b"", 10**6))
    rig.engine.commit_state()
    [(peer, answer)] = rig.keeper.receive("b", FetchRows(77, 0), 0.0).messages
    assert peer == "b"
    assert isinstance(answer, CheckpointRows)
    rig.keeper.executed(ONE * INSTANCES, 1.0)
    rig.keeper.poll(1.0)
    rig.writer.executed = tuple(slot + 5 for slot in rig.far)
    assert rig.keeper.committed().events == [Checkpointed(rig.far)]
    rig.reach(truncated=(0, -1, -1))
    later = 1.0 + LEASE + 0.1
    assert rig.keeper.poll(later).events == [Checkpointed(rig.writer.executed)], "the lease is over"


# -- catching up -------------------------------------------------------------------------------------------


def test_catching_up_from_the_first_request_to_the_last_word() -> None:
    rig = Rig()
    keeper = rig.keeper
    assert stage_of(keeper) == ""
    keeper.wanted(["b", "c"], 5.0)
    assert keeper.deadline == 5.0
    assert keeper.catch_up == CatchUp("b", "fetching", 0, 0)
    rig.fetch_all(5.0)
    assert stage_of(keeper) == "merging"
    assert rig.writer.begun == ["adopted"]
    assert rig.source.pinned((10**6,) * N, 0) == rig.far
    events = rig.adopt(5.0).events
    assert [type(event) for event in events] == [Adopt, Checkpointed]
    assert cast("Adopt", events[0]).executed == rig.far
    assert stage_of(keeper) == "following"
    rig.reach(executed=tuple(slot - 1 for slot in rig.far))
    keeper.poll(5.0)
    for _ in range(3):
        now = keeper.deadline
        [again] = asked(keeper.poll(now))
        assert rig.source.answer("a", cast("FetchRows", again), now) is not None
        assert keeper.deadline == now + RETRY
    rig.reach(executed=rig.far)
    [last] = asked(keeper.poll(keeper.deadline))
    assert cast("FetchRows", last).position == -1
    rig.source.answer("a", cast("FetchRows", last), 9.0)
    assert not rig.source.active
    assert (stage_of(keeper), keeper.caught_up, keeper.deadline) == ("", 1, math.inf)


def test_a_peer_that_is_silent_is_asked_some_times_and_given_up() -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    requests = []
    while rig.keeper.deadline < math.inf:
        requests += asked(rig.keeper.poll(rig.keeper.deadline))
    first, *again, last = requests
    assert again == [first] * 4
    assert last == cast("FetchRows", first)._replace(position=DONE), "else it would keep its log for a while"
    assert (rig.keeper.catch_up, rig.keeper.caught_up) == (None, 0)
    rig.keeper.wanted(["b"], 100.0)
    [fresh] = asked(rig.keeper.poll(100.0))
    assert fresh != requests[0], "an old answer could be taken for one of these"


def test_every_part_that_comes_gives_a_peer_new_time() -> None:
    rig = Rig()
    keeper = rig.keeper
    keeper.wanted(["b"], 0.0)
    parts = 0
    now = 0.0
    while stage_of(keeper) != "merging":
        for _ in range(4):  # once less than what makes it give up
            [request] = asked(keeper.poll(now))
            now = keeper.deadline
        answer = rig.source.answer("a", cast("FetchRows", request), 0.0)
        assert answer is not None
        keeper.receive("b", answer, now)
        parts += 1
    assert parts > 2


def test_who_never_catches_up_gives_the_peer_up_in_the_end() -> None:
    rig = Rig()
    rig.fetch_all(0.0)
    rig.adopt(0.0)
    rig.keeper.poll(0.0)
    requests = 1
    while rig.keeper.deadline < math.inf:
        requests += len(asked(rig.keeper.poll(rig.keeper.deadline)))
    assert 10 < requests <= 1000
    assert (rig.keeper.catch_up, rig.keeper.caught_up) == (None, 0)


def test_who_is_wanted_while_one_is_fetched_or_merged_waits() -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    first = asked(rig.keeper.poll(0.0))
    rig.keeper.wanted(["c"], 0.0)
    assert is_quiet(rig.keeper.poll(0.0))
    rig.exchange(Todo(messages=[("b", message) for message in first]), 0.0)
    rig.keeper.wanted(["c"], 0.0)
    while not rig.keeper.poll(0.0).commit:
        rig.keeper.wanted(["c"], 0.0)
    rig.keeper.wanted(["c"], 0.0)
    assert rig.keeper.catch_up is not None
    assert rig.keeper.catch_up.peer == "b"
    assert [type(event) for event in rig.keeper.committed().events] == [Adopt, Checkpointed]


@pytest.mark.parametrize("advances", [False, True])
def test_who_follows_is_faithful_as_long_as_that_helps(advances: bool) -> None:  # noqa: FBT001 - a parameter
    rig = Rig()
    rig.fetch_all(0.0)
    rig.adopt(0.0)
    for _ in range(6):
        rig.keeper.poll(rig.keeper.deadline)
    if advances:
        rig.reach(executed=(0, -1, -1))
    rig.keeper.wanted(["c"], 1.0)
    assert rig.keeper.catch_up is not None
    assert rig.keeper.catch_up.peer == ("b" if advances else "c")
    if not advances:
        receivers = [(peer, cast("FetchRows", m).position) for peer, m in rig.keeper.poll(1.0).messages]
        assert receivers == [("b", -1), ("c", 0)]


@pytest.mark.parametrize("sender", ["a", "c"])
def test_only_the_peer_that_was_asked_is_heard(sender: str) -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    [request] = asked(rig.keeper.poll(0.0))
    answer = rig.source.answer("a", cast("FetchRows", request), 0.0)
    assert answer is not None
    assert is_quiet(rig.keeper.receive(sender, answer, 0.0))
    assert rig.keeper.catch_up == CatchUp("b", "fetching", 0, 0)


def test_an_own_checkpoint_ends_before_a_peers_is_merged() -> None:
    rig = Rig()
    rig.writer.slices = 200
    rig.keeper.executed(ONE * INSTANCES, 0.0)
    rig.keeper.poll(0.0)
    rig.keeper.wanted(["b"], 0.0)
    todo = rig.exchange(rig.keeper.poll(0.0), 0.0)
    while not todo.commit:
        assert todo.events == []
        todo = rig.exchange(rig.keeper.poll(0.0), 0.0)
    assert rig.writer.begun == ["own"]
    assert not rig.keeper.wants_cut(0.0)
    assert [type(event) for event in rig.keeper.committed().events] == [Checkpointed]
    assert rig.keeper.wants_cut(0.0)
    assert rig.keeper.deadline == -math.inf
    assert [type(event) for event in rig.keeper.poll(0.0).events] == [Hold]
    assert rig.writer.begun == ["own", "adopted"]


def test_what_does_not_last_is_written_once_a_peer_asks_who_waits_for_it() -> None:
    rig = Rig()
    rig.writer.lasting = False
    rig.keeper.executed(ONE * INSTANCES, 0.0)
    assert rig.keeper.poll(0.0).commit
    rig.writer.executed = rig.far
    assert rig.keeper.committed().events == [Checkpointed(rig.far)], "the log may go all the same"
    coming = [("b", CheckpointRows(7, 0, b"", 0))]
    assert rig.keeper.receive("b", FetchRows(7, 0), 1.0).messages == coming
    rig.keeper.receive("c", FetchRows(8, 0), 1.0)
    rig.keeper.receive("c", FetchRows(8, -1), 1.0)
    assert rig.keeper.poll(1.0).commit
    assert rig.keeper.receive("b", FetchRows(7, 0), 1.5).messages == coming
    rig.engine.stage_state(rig.peer.engine.snapshot_state().scan(b"", 10**6))
    rig.engine.commit_state()
    rig.keeper.committed()
    [(peer, answer)] = rig.keeper.poll(2.0).messages
    assert isinstance(answer, CheckpointRows)
    assert (peer, answer.transfer, answer.last) == ("b", 7, 1), "the other wants it no more"
    rig.keeper.executed(ONE * INSTANCES, 2.0)
    rig.keeper.poll(2.0)
    assert rig.writer.begun == ["passed over", "own", "passed over"]
    rig.writer.executed = tuple(slot + 5 for slot in rig.far)
    assert rig.keeper.committed().events == [Checkpointed(rig.far)], (
        "who takes it asks for the log above it next"
    )


def test_who_is_told_that_a_checkpoint_is_coming_asks_again_for_as_long_as_it_takes() -> None:
    rig = Rig()
    rig.keeper.wanted(["b"], 0.0)
    for now in range(20):
        [request] = asked(rig.keeper.poll(now * RETRY))
        assert request == FetchRows(request.transfer, 0)
        rig.keeper.receive("b", CheckpointRows(request.transfer, 0, b"", 0), now * RETRY)
        assert rig.keeper.deadline == (now + 1) * RETRY
    assert stage_of(rig.keeper) == "fetching"


def test_a_checkpoint_that_cannot_be_written_is_tried_again_after_a_while() -> None:
    rig = Rig()
    rig.keeper.executed([()], 0.0)
    assert is_quiet(rig.keeper.poll(0.0))
    rig.writer.slices = 5
    assert is_quiet(rig.keeper.poll(INTERVAL))
    rig.keeper.given_up(INTERVAL)
    assert rig.keeper.deadline == 5 * INTERVAL
    assert rig.keeper.finish(INTERVAL, INTERVAL)  # who stops must not wait for it
    rig.keeper.executed([()] * INSTANCES, 2 * INTERVAL)
    assert is_quiet(rig.keeper.poll(3 * INTERVAL))
    assert rig.writer.begun == ["own", "given up"]
    rig.writer.slices = 1
    assert rig.keeper.poll(5 * INTERVAL).commit
    rig.keeper.committed()


def test_a_merged_checkpoint_that_cannot_be_written_is_merged_again() -> None:
    rig = Rig()
    rig.fetch_all(0.0)
    rig.keeper.given_up(0.0)
    rig.keeper.poll(INTERVAL)
    assert rig.writer.begun == ["adopted", "given up"]
    todo = rig.keeper.poll(4 * INTERVAL)
    assert [type(event) for event in todo.events] == [Hold]
    assert [type(event) for event in rig.adopt(4 * INTERVAL).events] == [Adopt, Checkpointed]
    assert rig.writer.begun == ["adopted", "given up", "adopted"]


def test_a_peer_keeps_its_place_for_some_round_trips() -> None:
    """Each request comes a round trip after the one before, and where queues are long that exceeds any lease."""
    rig = Rig()
    rig.engine.stage_state([meta_row(Meta(MEMBERS, NONE))])
    rig.engine.commit_state()
    rig.core.longest = LEASE
    rig.keeper.receive("b", FetchRows(5, 0), 0.0)
    rig.keeper.poll(4 * LEASE)
    assert rig.keeper.source.active
    rig.keeper.poll(6 * LEASE)
    assert not rig.keeper.source.active


def test_a_peer_that_asks_before_there_is_a_checkpoint_gets_one_that_is_made_for_it() -> None:
    """One that is to join a cluster that has just begun could do nothing without."""
    rig = Rig()
    [(peer, answer)] = rig.keeper.receive("b", FetchRows(7, BEGIN), 0.0).messages
    assert (peer, answer) == ("b", CheckpointRows(7, BEGIN, b"", 0))
    assert rig.keeper.wants_cut(0.0)
    assert rig.keeper.deadline <= 0.0
    rig.keeper.poll(0.0)
    assert rig.writer.begun == ["own"]


def test_who_begins_to_fetch_gets_the_checkpoint_with_which_the_epoch_begins() -> None:
    """With the one before it would have to come through an earlier epoch, whose log others may have dropped."""
    rig = Rig()
    rig.engine.stage_state([meta_row(Meta(MEMBERS, NONE))])
    rig.engine.commit_state()
    [(_, begun)] = rig.keeper.receive("c", FetchRows(5, BEGIN), 0.0).messages
    assert isinstance(begun, CheckpointRows)
    assert begun.last
    later = MEMBERS.next(1)
    rig.keeper.turn(later, rig.keeper._core, 0.0)
    wait = CheckpointRows(7, BEGIN, b"", 0)
    assert rig.keeper.receive("b", FetchRows(7, BEGIN), 0.0).messages == [("b", wait)]
    [(_, more)] = rig.keeper.receive("c", FetchRows(5, BEGIN), 0.0).messages
    assert more == begun, "it goes on with what it has"
    assert rig.keeper.poll(0.0).commit
    rig.engine.stage_state([meta_row(Meta(later, NONE))])
    rig.engine.commit_state()
    rig.keeper.committed()
    [(peer, told)] = rig.keeper.poll(0.0).messages
    assert (peer, cast("CheckpointRows", told).last) == ("b", 1)
    assert rig.keeper.source.oldest(1) == 0, "for c"
    rig.keeper.receive("c", FetchRows(5, DONE), 0.0)
    assert rig.keeper.source.oldest(1) == 1
