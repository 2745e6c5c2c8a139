"""What every engine does: one suite for all of them."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from engines import IDENTITY, entries_of, log_of, state_of
from epaxos.errors import NoDescriptor, StorageError
from epaxos.storage.engine import ENGINES, SYNCS, Engine, StateSnapshot, open_engine
from epaxos.storage.parts import PART

DURABLE = [kind for kind in ENGINES if kind != "memory"]
KINDS = [(kind, sync, PART) for kind in DURABLE for sync in SYNCS]
KINDS += [("sqlite", "always", 5000), ("memory", "always", PART)]
"""Engine, when it syncs, and bytes of a value beyond which it is kept in parts."""

Opener: TypeAlias = Callable[[], Engine]


@pytest.fixture(params=KINDS, ids=lambda param: f"{param[0]}-{param[1]}{'-parts' if param[2] < PART else ''}")
def opener(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    kind, sync, part = request.param
    monkeypatch.setattr("epaxos.storage.sqlite.PART", part)
    return lambda: open_engine(kind, tmp_path / "data", IDENTITY, sync, 0.01, create=True)


@pytest.fixture
def engine(opener: Opener) -> Iterator[Engine]:
    engine = opener()
    yield engine
    engine.close()


def test_it_begins_empty(engine: Engine) -> None:
    assert log_of(engine) == {}
    assert state_of(engine) == {}


def test_the_last_of_two_values_counts(engine: Engine) -> None:
    engine.write_log([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    engine.write_log([(b"b", b"4"), (b"c", b"")])
    assert log_of(engine) == {b"a": b"3", b"b": b"4", b"c": b""}


def test_a_long_key_may_stand_twice(opener: Opener) -> None:
    engine = opener()
    first, second = bytes(5000), b"\1" * 5000
    engine.write_log([(first, b"x" * 9000), (first, b"y" * 9000), (second, b"x" * 9000), (second, b"")])
    assert log_of(engine) == {first: b"y" * 9000, second: b""}
    engine.close()
    opener().close()  # looks at the structure of what is there


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 1000])
def test_a_round_has_any_length(engine: Engine, count: int) -> None:
    puts = [(b"%04d" % i, b"x" * i) for i in range(count)]
    engine.write_log(puts)
    assert log_of(engine) == dict(puts)


def test_keys_are_ordered_as_bytes(engine: Engine) -> None:
    keys = [b"\x00", b"\x00\x00", b"\x00\xff", b"\x7f", b"\x80", b"\xff", b"\xff\x00", b"\xff\xff"]
    engine.write_log([(key, key) for key in reversed(keys)])
    engine.stage_state([(key, key) for key in reversed(keys)])
    engine.commit_state()
    assert list(log_of(engine)) == keys
    assert list(state_of(engine)) == keys


def test_a_drop_removes_both_ends_and_puts_afterwards(engine: Engine) -> None:
    engine.write_log([(b"%d" % i, b"x") for i in range(10)])
    engine.drop_log([(b"2", b"4"), (b"6", b"6"), (b"70", b"79")], [(b"3", b"put")])
    assert log_of(engine) == {b"0": b"x", b"1": b"x", b"3": b"put", b"5": b"x"} | {
        b"%d" % i: b"x" for i in (7, 8, 9)
    }


def test_what_is_staged_is_invisible_until_it_is_committed(engine: Engine) -> None:
    engine.stage_state([(b"a", b"1"), (b"b", b"2")])
    engine.commit_state()
    before = engine.snapshot_state()
    engine.stage_state([(b"a", None), (b"b", b"3")])
    engine.stage_state([(b"c", b"4"), (b"d", b"5"), (b"d", None), (b"e", None), (b"e", b"6")])
    assert state_of(engine) == {b"a": b"1", b"b": b"2"}
    engine.commit_state()
    assert state_of(engine) == {b"b": b"3", b"c": b"4", b"e": b"6"}
    assert entries_of(before) == {b"a": b"1", b"b": b"2"}
    before.close()


def test_rolling_back_forgets_what_was_staged(engine: Engine) -> None:
    engine.rollback_state()
    engine.stage_state([(b"a", b"1")])
    engine.rollback_state()
    engine.commit_state()
    assert state_of(engine) == {}
    engine.stage_state([(b"b", b"2")])
    engine.commit_state()
    assert state_of(engine) == {b"b": b"2"}


def test_the_log_is_written_while_a_state_is_staged(engine: Engine) -> None:
    for i in range(20):
        engine.stage_state([(b"%d" % i, b"x" * 10_000)])
        engine.write_log([(b"%02d" % i, b"y" * 5000)])
        engine.drop_log([(b"", b"%02d" % (i - 5))], [])
    engine.commit_state()
    assert len(log_of(engine)) == 5
    assert len(state_of(engine)) == 20


def test_a_scan_ends_where_the_limit_is_exceeded(engine: Engine) -> None:
    engine.stage_state([(b"%d" % i, b"x" * 9) for i in range(5)])
    engine.commit_state()
    snapshot = engine.snapshot_state()
    assert [key for key, _ in snapshot.scan(b"", 0)] == [b"0"]
    assert [key for key, _ in snapshot.scan(b"0", 20)] == [b"1", b"2", b"3"]
    assert [key for key, _ in snapshot.scan(b"31", 1 << 20)] == [b"4"]
    assert snapshot.scan(b"4", 1) == []
    assert snapshot.get(b"3") == b"x" * 9
    assert snapshot.get(b"33") is None
    snapshot.close()
    snapshot.close()
    with pytest.raises(StorageError, match="closed"):
        snapshot.get(b"3")


def test_without_a_descriptor_for_another_view_the_engine_is_well(tmp_path: Path) -> None:
    engine = open_engine("sqlite", tmp_path / "data", IDENTITY, "never", 1, create=True)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(tmp_path, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(
            NoDescriptor, match=r"state\.db cannot be opened once more: too many files are open"
        ):
            engine.snapshot_state()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    engine.stage_state([(b"a", b"1")])
    engine.commit_state()
    assert state_of(engine) == {b"a": b"1"}
    engine.close()


def test_keys_and_values_may_be_large(engine: Engine) -> None:
    large = {bytes([i]) * 65_536: bytes([i]) * (1 << 20) for i in range(3)}
    engine.stage_state(list(large.items()))
    engine.commit_state()
    engine.write_log(list(large.items()))
    assert state_of(engine, 1 << 20) == large
    assert log_of(engine) == large
    assert engine.size > 3 << 20


def test_another_thread_commits_and_reads_while_the_log_is_written(engine: Engine) -> None:
    engine.stage_state([(b"%05d" % i, b"x" * 100) for i in range(5000)])
    failures: list[BaseException] = []
    done = threading.Event()

    def commit_and_read() -> None:
        try:
            engine.commit_state()
            for _ in range(3):
                assert len(state_of(engine, 10_000)) == 5000
        except BaseException as error:  # noqa: BLE001 shown by the thread that waits
            failures.append(error)
        done.set()

    helper = threading.Thread(target=commit_and_read)
    helper.start()
    rounds = 0
    while not done.is_set():
        engine.write_log([(b"%05d" % rounds, b"y" * 100)])
        rounds += 1
    helper.join()
    assert not failures
    assert len(log_of(engine)) == rounds


def test_a_closed_engine_refuses_everything(engine: Engine) -> None:
    engine.close()
    engine.close()
    calls: list[Callable[[], object]] = [
        lambda: engine.write_log([(b"a", b"1")]),
        lambda: engine.drop_log([(b"a", b"b")], []),
        lambda: list(engine.scan_log()),
        lambda: engine.stage_state([(b"a", b"1")]),
        engine.commit_state,
        engine.rollback_state,
        engine.snapshot_state,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="closed"):
            call()


def test_an_unknown_engine_or_sync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"storage\.engine is 'paper'.*sqlite, memory"):
        open_engine("paper", tmp_path, IDENTITY, "always", 1, create=True)
    with pytest.raises(StorageError, match=r"storage\.sync is 'sometimes'.*always, interval, never"):
        open_engine("sqlite", tmp_path, IDENTITY, "sometimes", 1, create=True)


@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("kind", DURABLE)
def test_a_durable_engine_keeps_what_was_committed(kind: str, sync: str, tmp_path: Path) -> None:
    for round_ in range(3):
        engine = open_engine(kind, tmp_path, IDENTITY, sync, 0.01, create=round_ == 0)
        assert log_of(engine) == {b"%d" % i: b"log" for i in range(round_)}
        assert state_of(engine) == {b"%d" % i: b"state" for i in range(round_)}
        engine.write_log([(b"%d" % round_, b"log")])
        engine.stage_state([(b"%d" % round_, b"state")])
        engine.commit_state()
        engine.stage_state([(b"staged", b"only")])
        engine.close()


# -- against a model -----------------------------------------------------------------------------------------

_KEYS = st.one_of(st.binary(min_size=1, max_size=2), st.integers(0, 5).map(lambda i: bytes([i]) * 5000))
_VALUES = st.one_of(st.binary(max_size=5), st.integers(0, 9).map(lambda i: bytes([i]) * 9000))
_PUTS = st.lists(st.tuples(_KEYS, _VALUES), max_size=6)
_CHANGES = st.lists(st.tuples(_KEYS, st.none() | _VALUES), max_size=6)
_RANGES = st.lists(st.tuples(_KEYS, _KEYS), max_size=3)


class Model(RuleBasedStateMachine):
    """An engine beside two dictionaries."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.engine = self.open()
        self.log: dict[bytes, bytes] = {}
        self.state: dict[bytes, bytes] = {}
        self.staged: dict[bytes, bytes | None] = {}
        self.snapshots: list[tuple[StateSnapshot, dict[bytes, bytes]]] = []

    def open(self) -> Engine:
        return open_engine(self.kind, self.directory, IDENTITY, "never", 1, create=True)

    @rule(puts=_PUTS)
    def write(self, puts: list[tuple[bytes, bytes]]) -> None:
        self.engine.write_log(puts)
        self.log.update(puts)

    @rule(ranges=_RANGES, puts=_PUTS)
    def drop(self, ranges: list[tuple[bytes, bytes]], puts: list[tuple[bytes, bytes]]) -> None:
        self.engine.drop_log(ranges, puts)
        self.log = {
            key: value
            for key, value in self.log.items()
            if not any(first <= key <= last for first, last in ranges)
        } | dict(puts)

    @rule(changes=_CHANGES)
    def stage(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        self.engine.stage_state(changes)
        self.staged.update(changes)

    @rule()
    def commit(self) -> None:
        self.engine.commit_state()
        merged = {**self.state, **self.staged}
        self.state = {key: value for key, value in merged.items() if value is not None}
        self.staged = {}

    @rule()
    def roll_back(self) -> None:
        self.engine.rollback_state()
        self.staged = {}

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def look(self) -> None:
        self.snapshots.append((self.engine.snapshot_state(), dict(self.state)))

    @precondition(lambda self: self.snapshots)
    @rule(limit=st.integers(0, 20_000))
    def compare_snapshot(self, limit: int) -> None:
        snapshot, state = self.snapshots.pop(0)
        assert entries_of(snapshot, limit) == state
        for key in list(state)[:3]:
            assert snapshot.get(key) == state[key]
        snapshot.close()

    @rule()
    def compare(self) -> None:
        assert log_of(self.engine) == self.log
        assert state_of(self.engine) == self.state

    @precondition(lambda self: self.kind != "memory")
    @rule()
    def reopen(self) -> None:
        self.close()
        self.engine = self.open()
        self.staged = {}
        self.compare()

    def close(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots = []
        self.engine.close()

    def teardown(self) -> None:
        self.compare()
        self.close()
        shutil.rmtree(self.directory)


class DurableModel(Model):
    kind = "sqlite"


class PartsModel(DurableModel):
    """Long values are in parts; some become short, and long again."""

    def open(self) -> Engine:
        with patch("epaxos.storage.sqlite.PART", 900):
            return super().open()


_SETTINGS = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
Model.TestCase.settings = _SETTINGS
DurableModel.TestCase.settings = _SETTINGS
PartsModel.TestCase.settings = _SETTINGS
TestMemory = Model.TestCase
TestSqlite = DurableModel.TestCase
TestParts = PartsModel.TestCase
