"""How much room a disk has: when a replica takes nothing more that grows, and when it does again."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest

from directories import N, configuration, open_directory, write_checkpoint, write_log
from epaxos.storage.room import Room


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A file system; `f_bavail` may be set."""
    found = SimpleNamespace(f_bavail=1000, f_frsize=10)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    return found


def test_a_reserve_is_kept_and_given_back_with_a_margin(free: SimpleNamespace, tmp_path: Path) -> None:
    room = Room(tmp_path, quota=0, reserve=5000)
    assert not room.look(0)
    assert room.left == 5000
    free.f_bavail = 500
    assert room.look(0)
    assert "5000 bytes left, of which 5000 are kept" in room.why
    free.f_bavail = 540
    assert not room.look(0), "nearly"
    assert room.why
    free.f_bavail = 560
    assert room.look(0)
    assert not room.why


def test_a_quota_is_of_what_is_used(free: SimpleNamespace, tmp_path: Path) -> None:
    room = Room(tmp_path, quota=2000, reserve=0)
    assert not room.look(1500)
    assert room.left == 500
    assert room.look(2100)
    assert "2100 bytes of a quota of 2000" in room.why
    assert room.look(100)
    assert free.f_bavail == 1000


def test_without_either_there_is_no_end(free: SimpleNamespace, tmp_path: Path) -> None:
    free.f_bavail = 0
    room = Room(tmp_path, quota=0, reserve=0)
    assert not room.look(1)
    assert (room.left, room.why) == (inf, "")


def test_pages_in_use_are_told_from_free_ones(tmp_path: Path) -> None:
    engine = open_directory(configuration(tmp_path), "alpha")
    try:
        write_log(engine, N, [])
        write_checkpoint(engine, (-1,) * N, {b"key": b"x" * 1_000_000}, [], [])
        full = engine.usage()
        engine.stage_state([(key, None) for key, _ in engine.snapshot_state().scan(b"", 1 << 30)])
        engine.commit_state()
        empty = engine.usage()
    finally:
        engine.close()
    assert full is not None
    assert empty is not None
    assert full > 1_000_000 > empty


def test_pages_that_are_free_in_the_log_are_no_room_on_the_disk(
    free: SimpleNamespace, tmp_path: Path
) -> None:
    room = Room(tmp_path, quota=0, reserve=5000)
    engine = open_directory(configuration(tmp_path), "alpha")
    try:
        engine.write_log([(b"entry", b"x" * 1_000_000)])
        engine.drop_log([(b"entry", b"entry")], [])
        free.f_bavail = 0
        room.look(engine.usage() or 0)
    finally:
        engine.close()
    assert "0 bytes left, of which 5000 are kept" in room.why


def test_the_log_counts_as_it_grows_and_the_state_when_it_is_committed(tmp_path: Path) -> None:
    engine = open_directory(configuration(tmp_path), "alpha")
    try:
        before = engine.usage() or 0
        engine.write_log([(b"entry", b"x" * 1_000_000)])
        grown = engine.usage() or 0
        engine.drop_log([(b"entry", b"entry")], [])
        dropped = engine.usage() or 0
        engine.stage_state([(b"key", b"x" * 2_000_000)])
        staged = engine.usage() or 0
        engine.commit_state()
        committed = engine.usage() or 0
    finally:
        engine.close()
    assert before + 1_100_000 > grown > before + 990_000
    assert dropped == staged < before + 100_000
    assert committed > dropped + 1_990_000
