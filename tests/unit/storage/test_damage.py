"""What the durable engine makes of files that are damaged, and of a disk that refuses."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import NoReturn

import pytest

from engines import entries_of, log_of, open_durable, state_of
from epaxos.errors import DataCorrupt, StorageError, WriteFailed
from epaxos.storage import sqlite
from epaxos.storage.sqlite import SqliteEngine

ROUNDS = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with a log and a state, closed as it should be."""
    engine = open_durable(tmp_path / "data")
    for number in range(ROUNDS):
        engine.write_log(round_of(number))
    engine.stage_state([(b"%04d" % i, b"%04d" % i * 30) for i in range(300)])
    engine.commit_state()
    engine.close()
    return tmp_path / "data"


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A directory as a crash leaves it: the log is in its write-ahead log."""
    engine = open_durable(tmp_path / "alive")
    for number in range(ROUNDS):
        engine.write_log(round_of(number))
    shutil.copytree(tmp_path / "alive", tmp_path / "crashed")
    engine.close()
    return tmp_path / "crashed"


def round_of(number: int) -> list[tuple[bytes, bytes]]:
    return [(b"%04d-%d" % (number, i), b"%04d" % number * 10 * 20**i) for i in range(3)]


def rounds_in(directory: Path) -> int:
    """How many rounds the log has: all of them whole, and none missing before the last."""
    engine = open_durable(directory, create=False)
    try:
        found = log_of(engine)
        number = len(found) // 3
        assert found == dict(entry for i in range(number) for entry in round_of(i))
        return number
    finally:
        engine.close()


def flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def corrupt_entry(path: Path, column: str, value: object) -> None:
    with sqlite3.connect(path) as base:
        base.execute(f"UPDATE entries SET {column} = ? WHERE key = (SELECT max(key) FROM entries)", (value,))
    base.close()


# -- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["value", "crc"])
def test_a_wrong_checksum_names_the_key(data: Path, column: str) -> None:
    corrupt_entry(data / "log.db", column, b"x" if column == "value" else 1)
    corrupt_entry(data / "state.db", column, b"x" if column == "value" else 1)
    engine = open_durable(data)
    key = round_of(ROUNDS - 1)[2][0]
    with pytest.raises(DataCorrupt, match=f"log.db is damaged: the entry of key {key.hex()} has a wrong"):
        list(engine.scan_log())
    snapshot = engine.snapshot_state()
    with pytest.raises(DataCorrupt, match=f"state.db is damaged: the entry of key {b'0299'.hex()}"):
        entries_of(snapshot)
    with pytest.raises(DataCorrupt):
        snapshot.get(b"0299")
    snapshot.close()
    engine.close()


@pytest.mark.parametrize("name", ["log.db", "state.db"])
def test_a_flipped_byte_anywhere_is_found_or_changes_nothing(data: Path, tmp_path: Path, name: str) -> None:
    engine = open_durable(data)
    log, state = log_of(engine), state_of(engine)
    engine.close()
    chance = random.Random(8)
    found = 0
    size = (data / name).stat().st_size
    for attempt in range(60):
        copy = tmp_path / str(attempt)
        shutil.copytree(data, copy)
        flip(copy / name, chance.randrange(size), 1 << chance.randrange(8))
        try:
            engine = open_durable(copy, create=False)
        except StorageError:
            found += 1
            continue
        try:
            assert log_of(engine) == log
            assert state_of(engine) == state
        except DataCorrupt:
            found += 1
        finally:
            engine.close()
        shutil.rmtree(copy)
    assert found > 20


def test_a_torn_tail_costs_whole_rounds_at_the_end_only(crashed: Path, tmp_path: Path) -> None:
    size = (crashed / "log.db-wal").stat().st_size
    chance = random.Random(8)
    lengths = sorted(chance.randrange(size) for _ in range(15))
    counts = []
    for length in lengths:
        copy = tmp_path / str(length)
        shutil.copytree(crashed, copy)
        os.truncate(copy / "log.db-wal", length)
        try:
            counts.append(rounds_in(copy))
        except DataCorrupt:
            counts.append(-1)  # not even the table is there: nothing was ever acknowledged
    assert counts.count(-1) < 5
    assert counts == sorted(counts)
    assert rounds_in(crashed) == ROUNDS


def test_a_torn_last_round_is_dropped(crashed: Path) -> None:
    flip(crashed / "log.db-wal", (crashed / "log.db-wal").stat().st_size - 10)
    assert rounds_in(crashed) == ROUNDS - 1
    assert rounds_in(crashed) == ROUNDS - 1


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_damage_before_a_synced_round_is_no_torn_tail(crashed: Path, part: float) -> None:
    path = crashed / "log.db-wal"
    flip(path, int(path.stat().st_size * part))
    for _ in range(2):
        with pytest.raises(DataCorrupt, match=r"log.db-wal is damaged at byte \d+, before \d+ commits"):
            open_durable(crashed)


@pytest.mark.parametrize("offset", [2, 9, 17, 30])
def test_a_damaged_head_of_the_log_is_found(crashed: Path, offset: int) -> None:
    flip(crashed / "log.db-wal", offset)
    with pytest.raises(DataCorrupt, match=r"log\.db-wal is damaged"):
        open_durable(crashed)


@pytest.mark.parametrize("name", ["log.db", "state.db"])
def test_a_database_that_is_missing_empty_or_foreign_is_no_new_one(data: Path, name: str) -> None:
    (data / name).rename(data / "aside")
    with pytest.raises(DataCorrupt, match=f"{name} is missing"):
        open_durable(data)
    (data / name).touch()
    with pytest.raises(DataCorrupt, match=f"{name} is empty or not ours"):
        open_durable(data)
    (data / name).write_bytes(b"something else" * 1000)
    with pytest.raises(DataCorrupt, match=f"{name} is damaged"):
        open_durable(data)


def test_the_two_databases_are_not_confused(data: Path) -> None:
    (data / "log.db").rename(data / "aside")
    (data / "state.db").rename(data / "log.db")
    (data / "aside").rename(data / "state.db")
    with pytest.raises(DataCorrupt, match="not ours"):
        open_durable(data)


# -- a disk that refuses -----------------------------------------------------------------------------------


def durable(directory: Path, sync: str = "always") -> SqliteEngine:
    engine = open_durable(directory, sync)
    assert isinstance(engine, SqliteEngine)
    return engine


def test_a_full_disk_says_so_and_ends_the_engine(data: Path) -> None:
    engine = durable(data)
    engine._log.execute("PRAGMA max_page_count = 1")
    with pytest.raises(WriteFailed, match=r"cannot write .*log\.db .*the disk is full"):
        engine.write_log([(b"a", b"x" * 1_000_000)])
    engine._log.execute("PRAGMA max_page_count = 1000000")
    with pytest.raises(WriteFailed, match="out of use: an earlier write failed"):
        engine.write_log([(b"a", b"1")])
    with pytest.raises(WriteFailed, match="out of use"):
        engine.stage_state([(b"a", b"1")])
    engine.close()
    assert rounds_in(data) == ROUNDS


def test_a_full_disk_under_a_checkpoint_keeps_the_one_before(data: Path) -> None:
    engine = durable(data)
    before = state_of(engine)
    engine._state.execute("PRAGMA max_page_count = 1")
    with pytest.raises(WriteFailed, match=r"cannot write .*state\.db .*the disk is full"):
        engine.stage_state([(b"%d" % i, b"x" * 10_000) for i in range(100)])
    with pytest.raises(WriteFailed, match="out of use"):
        engine.commit_state()
    engine.close()
    engine = durable(data)
    assert state_of(engine) == before
    engine.close()


def test_a_read_only_database_says_so(data: Path) -> None:
    engine = durable(data)
    engine._log.execute("PRAGMA query_only = ON")
    with pytest.raises(WriteFailed, match=r"cannot write .*log\.db .*may not be written"):
        engine.write_log([(b"a", b"1")])
    engine.close()


def test_a_sync_that_fails_beside_is_the_end_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sqlite, "_sync_file", fail)
    engine = durable(data, "interval")
    engine.write_log([(b"a", b"1")])
    assert engine._syncer is not None
    engine._syncer._thread.join(timeout=10)
    with pytest.raises(WriteFailed, match=r"an earlier sync failed: cannot sync .*log\.db-wal .*is failing"):
        engine.write_log([(b"a", b"1")])
    engine.close()


def test_a_last_sync_that_fails_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    engine = open_durable(data, "interval", interval=60)
    engine.write_log([(b"a", b"1")])
    monkeypatch.setattr(sqlite, "_sync_file", fail)
    with pytest.raises(WriteFailed, match="an earlier sync failed"):
        engine.close()
    open_durable(data, create=False).close()


def test_interval_syncs_what_was_written_last(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(sqlite, "_sync_file", synced.append)
    engine = durable(data, "interval")
    engine.write_log([(b"a", b"1")])
    deadline = time.monotonic() + 10
    while not synced and time.monotonic() < deadline:
        time.sleep(0.001)
    assert synced
    count = len(synced)
    time.sleep(0.05)
    assert len(synced) == count, "an idle log is not synced"
    engine.close()
