"""Data directories are read as they are, and stay as they are."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from engines import IDENTITY, open_durable
from epaxos.errors import DataCorrupt, DirectoryLocked, DirectoryMissing, FormatUnsupported, NotADataDirectory
from epaxos.storage.engine import open_engine
from epaxos.storage.reading import Reading

LOG = [(b"a", b"1"), (b"b", b"2" * 3000)]
STATE = [(b"m", b"3"), (b"v", b"4")]


def fill(path: Path) -> None:
    engine = open_durable(path)
    engine.write_log(LOG)
    engine.stage_state(STATE)
    engine.commit_state()
    engine.close()


def read(path: Path) -> tuple[str | None, list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    with Reading(path) as reading:
        snapshot = reading.snapshot_state()
        try:
            return reading.user, list(reading.scan_log()), snapshot.scan(b"", 1000)
        finally:
            snapshot.close()


def files(path: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}


def test_a_directory_that_was_left_in_order(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    before = files(tmp_path / "data")
    assert read(tmp_path / "data") == (None, LOG, STATE)
    assert files(tmp_path / "data") == before
    with Reading(tmp_path / "data") as reading:
        assert reading.identity._replace(incarnation=None) == IDENTITY
        assert reading.sizes()["log.db"] > 0


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    for file in (tmp_path / "data").iterdir():
        file.chmod(0o400)
    (tmp_path / "data").chmod(0o500)
    assert read(tmp_path / "data") == (None, LOG, STATE)
    (tmp_path / "data").chmod(0o700)


def test_a_directory_that_was_left_by_a_crash(tmp_path: Path) -> None:
    engine = open_durable(tmp_path / "live")
    engine.write_log(LOG)
    engine.stage_state(STATE)
    engine.commit_state()
    engine.stage_state([(b"v", b"never committed" * 1000)])
    shutil.copytree(tmp_path / "live", tmp_path / "data")
    engine.close()
    before = files(tmp_path / "data")
    assert before["log.db-wal"][0]
    assert read(tmp_path / "data") == (None, LOG, STATE)
    assert files(tmp_path / "data") == before


def test_a_directory_in_use(tmp_path: Path) -> None:
    engine = open_durable(tmp_path / "data")
    engine.write_log(LOG)
    engine.stage_state(STATE)
    engine.commit_state()
    engine.stage_state([(b"v", b"not yet")])
    assert read(tmp_path / "data") == (str(os.getpid()), LOG, STATE)
    engine.commit_state()
    assert read(tmp_path / "data")[2] == [(b"m", b"3"), (b"v", b"not yet")]
    engine.close()


def test_no_replica_starts_on_a_directory_that_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    with Reading(tmp_path / "data"):
        assert read(tmp_path / "data") == (None, LOG, STATE)
        with pytest.raises(DirectoryLocked, match="is being read, as by `epaxos inspect`"):
            open_durable(tmp_path / "data")
    open_durable(tmp_path / "data").close()


KEYS = 50


def write_rounds(path: Path, stop: threading.Event) -> None:
    """Round r writes r under key r % KEYS, so that a consistent view holds the last KEYS numbers."""
    engine = open_engine("sqlite", path, IDENTITY, "never", 1, create=True)
    engine.write_log([(b"%02d" % number, b"%08d" % number * 1000) for number in range(KEYS)])
    number = KEYS
    while not stop.is_set():
        engine.write_log([(b"%02d" % (number % KEYS), b"%08d" % number * 1000)])
        number += 1
        time.sleep(0.0002)
    engine.close()


def test_a_log_that_is_being_written_is_read_as_it_was_at_one_moment(tmp_path: Path) -> None:
    stop = threading.Event()
    writer = threading.Thread(target=write_rounds, args=(tmp_path / "data", stop))
    writer.start()
    try:
        seen: list[int] = []
        deadline = time.monotonic() + 10
        # The write-ahead log begins anew about every 500 rounds; some of that has to happen meanwhile.
        while not seen or (seen[-1] < 2000 and time.monotonic() < deadline):
            numbers = whole_rounds(tmp_path / "data")
            if numbers:
                assert numbers == list(range(numbers[0], numbers[0] + KEYS))
                seen.append(numbers[0])
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[-1] >= 2000
    assert len(set(seen)) > 3


def whole_rounds(path: Path) -> list[int]:
    """The numbers in the log, ascending; none before the directory is complete."""
    if not (path / "identity").exists():
        return []
    with Reading(path) as reading:
        return sorted(int(value[:8]) for _, value in reading.scan_log())


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DirectoryMissing, match="there is no data directory"):
        Reading(tmp_path / "none")
    with pytest.raises(DirectoryMissing, match="holds no data yet"):
        Reading(tmp_path)
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(NotADataDirectory, match="holds other files"):
        Reading(tmp_path)
    fill(tmp_path / "data")
    (tmp_path / "data" / "state.db").unlink()
    with Reading(tmp_path / "data") as reading, pytest.raises(DataCorrupt, match=r"state\.db is missing"):
        reading.snapshot_state()
    identity = tmp_path / "data" / "identity"
    identity.write_text(identity.read_text().replace('"name"', '"nom"'))
    with pytest.raises(DataCorrupt, match="identity is damaged"):
        Reading(tmp_path / "data")
    identity.write_text('{"format": 99}')
    with pytest.raises(FormatUnsupported, match="is of level 99"):
        Reading(tmp_path / "data")
