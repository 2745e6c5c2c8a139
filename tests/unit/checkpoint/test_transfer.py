"""Moving a checkpoint over a channel that loses, repeats and reorders, from a source that may begin again."""

from __future__ import annotations

from itertools import count
from typing import TypeVar, cast

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import META, Meta, Row, meta_row
from epaxos.checkpoint.transfer import Fetch, Source
from epaxos.errors import FrameError, StorageError
from epaxos.protocol.ids import Vector
from epaxos.protocol.transfer import CheckpointRows, FetchRows
from epaxos.storage.memory_engine import MemoryEngine, MemorySnapshot
from harness.blocks import value_row
from harness.commands import decode_access
from harness.members import MEMBERS

Message = TypeVar("Message")

ME = "c"
LEASE = 10.0
ROWS_OF_A_CUT = 12


class Collected:
    """Collects rows as they come, in the place of `Fetched`, which wants those of a real checkpoint."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    count = 0

    @property
    def complete(self) -> bool:
        return any(key == META for key, _ in self.rows)

    def take(self, rows: list[Row]) -> None:
        self.rows += rows


class Disk:
    """The engine of a source; counts the snapshots that are open."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.version = -1
        self.open = 0

    def commit(self) -> None:
        """Another checkpoint, of rows as long as before: only their contents tell the two apart."""
        self.version += 1
        self.engine.stage_state(self.rows(self.version))
        self.engine.commit_state()

    @staticmethod
    def rows(version: int) -> list[Row]:
        values = [(b"v%02d" % key, b"%04d" % version * (key % 5)) for key in range(ROWS_OF_A_CUT)]
        return sorted([*values, cast("Row", meta_row(Meta(MEMBERS, (version, -1, -1))))])

    def snapshot(self) -> MemorySnapshot:
        return Counted(self)


class Counted(MemorySnapshot):
    def __init__(self, disk: Disk) -> None:
        snapshot = disk.engine.snapshot_state()
        self.__dict__.update(snapshot.__dict__)
        self._disk = disk
        disk.open += 1

    def close(self) -> None:
        super().close()
        self._disk.open -= 1


class Link:
    """One source, one fetching replica, and what is under way between them."""

    def __init__(self, chunk: int) -> None:
        self.now = 0.0
        self.disk = Disk()
        self.disk.commit()
        self._chunk = chunk
        self._numbers = count(100, 10**6)
        self.source = Source(LEASE, self.disk.snapshot, self._numbers.__next__, chunk)
        self.fetch = Fetch("b", lambda: cast("Fetched", Collected()), self._numbers.__next__)
        self.asked: list[FetchRows] = []
        self.answers: list[CheckpointRows] = []

    def begin_source(self) -> None:
        """It has died and begun again, with its last checkpoint."""
        self.disk.open = 0
        self.source = Source(LEASE, self.disk.snapshot, self._numbers.__next__, self._chunk)

    def ask(self) -> None:
        self.asked.append(self.fetch.request())

    def hear(self, request: FetchRows) -> None:
        answer = self.source.answer(ME, request, self.now)
        if answer is not None:
            assert len(answer.rows) <= self._chunk
            self.answers.append(answer)
        assert self.disk.open <= 1

    def take(self, answer: CheckpointRows) -> None:
        self.fetch.take(answer)

    @property
    def rows(self) -> list[Row]:
        return cast("Collected", self.fetch.fetched).rows

    def finish(self) -> None:
        """Every message comes at once, and none twice; there is an end."""
        for _ in range(5000):
            if self.fetch.complete:
                return
            self.ask()
            while self.asked:
                self.hear(self.asked.pop(0))
            while self.answers:
                self.take(self.answers.pop(0))
        raise AssertionError("no end")

    def act(self, kind: str, index: int) -> None:
        """One thing of many that may happen."""
        if kind == "ask" and not self.fetch.complete:
            self.ask()
        elif kind.startswith("request"):
            for request in picked(self.asked, kind, index):
                self.hear(request)
        elif kind.startswith("answer"):
            for answer in picked(self.answers, kind, index):
                self.take(answer)
        elif kind == "commit":
            self.disk.commit()
        elif kind == "begin again":
            self.begin_source()
        elif kind == "time passes":
            self.now += 1000 * LEASE  # longer than any that has been doubled
            self.source.expire(self.now)
            assert not self.source.active


def picked(queue: list[Message], kind: str, index: int) -> list[Message]:
    """One of those that are under way; it stays there if another copy comes later, and may be lost."""
    if not queue:
        return []
    message = queue[index % len(queue)]
    if not kind.endswith("again later"):
        del queue[index % len(queue)]
    return [] if kind.endswith("is lost") else [message]


KINDS = [
    *("ask", "request", "answer") * 3,
    "request, and again later",
    "answer, and again later",
    "request is lost",
    "answer is lost",
    "commit",
    "begin again",
    "time passes",
]
ACTIONS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7)), max_size=60)


@settings(max_examples=400)
@given(st.sampled_from([1, 3, 7, 40, 64, 10_000]), ACTIONS)
def test_whatever_happens_all_rows_of_one_cut_come(chunk: int, actions: list[tuple[str, int]]) -> None:
    link = Link(chunk)
    for action in actions:
        link.act(*action)
    link.finish()
    assert link.rows in [Disk.rows(version) for version in range(link.disk.version + 1)]
    assert link.fetch.rows == ROWS_OF_A_CUT + 1
    assert link.fetch.size == sum(len(msgpack.packb(row)) for row in link.rows)


@pytest.mark.parametrize("again", ["begin again", "time passes"])
def test_two_cuts_are_never_taken_for_one(again: str) -> None:
    """The first request is repeated, and its second copy comes to a source that has another checkpoint by then."""
    link = Link(chunk=40)
    link.act("ask", 0)
    link.act("request, and again later", 0)
    link.act("commit", 0)
    link.act(again, 0)
    link.act("request", 0)
    link.act("answer", 0)
    del link.answers[:]
    link.finish()
    assert link.rows in (Disk.rows(0), Disk.rows(1))


def test_a_source_that_began_again_says_that_the_transfer_is_gone() -> None:
    link = Link(chunk=40)
    for action in ("ask", "request", "answer"):
        link.act(action, 0)
    assert link.fetch.size > 0
    before = link.fetch.transfer
    link.begin_source()
    link.act("ask", 0)
    link.act("request", 0)
    assert [answer.position for answer in link.answers] == [-1]
    link.act("answer", 0)
    assert (link.fetch.rows, link.fetch.size, link.rows) == (0, 0, [])
    assert link.fetch.transfer != before
    link.finish()


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_a_row_may_be_longer_than_a_message_and_a_message_than_all(chunk: int) -> None:
    link = Link(chunk)
    link.disk.engine.stage_state([(b"vlong", b"x" * 3000)])
    link.disk.engine.commit_state()
    link.finish()
    assert (b"vlong", b"x" * 3000) in link.rows


def test_without_a_checkpoint_there_is_no_answer() -> None:
    link = Link(chunk=40)
    link.disk.engine = MemoryEngine()
    assert link.source.answer(ME, link.fetch.request(), 0.0) is None
    assert (link.disk.open, link.source.active) == (0, False)


# -- what the source keeps, and for how long -----------------------------------------------------------------


def test_the_log_is_kept_above_what_a_peer_fetches_until_it_says_so() -> None:
    link = Link(chunk=40)
    assert link.source.pinned((9, 9, 9), 0) == (9, 9, 9)
    link.finish()
    link.disk.commit()
    executed: Vector = (0, -1, -1)
    assert link.source.pinned((9, 9, 9), 0) == executed
    assert link.source.pinned((-1, 9, 9), 0) == (-1, -1, -1)
    other = Fetch("b", lambda: cast("Fetched", Collected()), lambda: 7)
    link.source.answer("a", other.request(), 0.0)
    assert link.source.pinned((9, 9, 9), 0) == executed, "that of the older one counts"
    assert link.source.answer(ME, link.fetch.end(), 0.0) is None
    assert link.source.pinned((9, 9, 9), 0) == (1, -1, -1)
    assert link.disk.open == 1
    link.source.close()
    assert (link.disk.open, link.source.active) == (0, False)


def test_who_goes_on_asking_keeps_the_lease_also_when_all_has_come() -> None:
    link = Link(chunk=40)
    link.finish()
    for _ in range(5):
        link.now += 0.9 * LEASE
        link.source.expire(link.now)
        assert link.source.active
        answer = link.source.answer(ME, link.fetch.request(), link.now)
        assert answer is not None
        assert (answer.rows, answer.last) == (b"", 1)
    link.now += 1.1 * LEASE
    link.source.expire(link.now)
    assert not link.source.active


def test_who_comes_back_too_late_has_twice_the_time_until_it_is_done() -> None:
    """A chunk takes longer on its way than a transfer lives that nobody asks about."""
    source = Link(chunk=40).source

    def lives(number: int, seconds: float, now: float) -> bool:
        begun = source.answer(ME, FetchRows(number, 0), now)
        assert begun is not None
        source.expire(now + seconds)
        following = source.answer(ME, FetchRows(number, begun.position + 40), now + seconds)
        assert following is not None
        return following.position > 0

    assert [lives(number, 3 * LEASE, 100.0 * number) for number in range(4)] == [False, False, True, True]
    source.answer(ME, FetchRows(3, -1), 350.0)
    assert not lives(4, 3 * LEASE, 400.0), "the next transfer is another one"
    assert not any(lives(number, 1000 * LEASE, 10_000.0 * number) for number in range(5, 25))


def test_who_begins_anew_gives_up_what_it_had_begun() -> None:
    link = Link(chunk=40)
    for number in range(5):
        link.source.answer(ME, FetchRows(number, 0), 0.0)
        link.disk.commit()
        assert link.disk.open == 1
    assert link.source.pinned((9, 9, 9), 0) == (4, -1, -1)


def test_parts_of_a_checkpoint_are_counted_from_where_the_source_says() -> None:
    link = Link(chunk=40)
    link.ask()
    link.hear(link.asked[0])
    [first] = link.answers
    assert link.asked == [FetchRows(link.fetch.transfer, 0)]
    assert first.position > 0
    link.take(first)
    assert link.fetch.request() == FetchRows(link.fetch.transfer, first.position + 40)


# -- bad bytes ---------------------------------------------------------------------------------------------


def fetch_of_a_real_checkpoint() -> Fetch:
    return Fetch("b", lambda: Fetched(MEMBERS, decode_access), lambda: 1)


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_random_bytes_raise_frame_or_storage_errors_only(parts: list[bytes]) -> None:
    fetch = fetch_of_a_real_checkpoint()
    for part in parts:
        try:
            fetch.take(CheckpointRows(1, fetch.request().position, part, 0))
        except (FrameError, StorageError):
            return
    assert not fetch.complete


META_ROW = msgpack.packb(meta_row(Meta(MEMBERS, (3, -1, 5))))


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        msgpack.packb(value_row({b"key": b"value"})),
        META_ROW + META_ROW[:-1],
        META_ROW + b"\x92",
        META_ROW + b"\xc6\x7f\xff\xff\xff",
    ],
)
def test_a_stream_that_ends_too_early_is_refused(rows: bytes) -> None:
    fetch = fetch_of_a_real_checkpoint()
    with pytest.raises((FrameError, StorageError)):
        fetch.take(CheckpointRows(1, 0, rows, 1))
    assert not fetch.complete


@pytest.mark.parametrize(
    "value", [None, 7, b"row", [b"m"], [b"v", b"", b""], ["v", b""], [b"v", None], {b"v": b""}]
)
def test_what_is_no_row_is_refused(value: object) -> None:
    with pytest.raises(FrameError):
        fetch_of_a_real_checkpoint().take(CheckpointRows(1, 0, msgpack.packb(value) + META_ROW, 1))


def test_the_last_byte_of_a_real_checkpoint_completes_it() -> None:
    fetch = fetch_of_a_real_checkpoint()
    for position in range(len(META_ROW)):
        assert not fetch.complete
        last = position == len(META_ROW) - 1
        assert fetch.take(
            CheckpointRows(1, fetch.request().position, META_ROW[position : position + 1], int(last))
        )
    assert fetch.complete
    assert fetch.fetched.executed == (3, -1, 5)
    assert not fetch.take(CheckpointRows(1, fetch.request().position, META_ROW, 1)), "it is over"
