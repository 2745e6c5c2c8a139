"""How much room a disk has: when a replica takes nothing more that grows, and when it does again."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest

from directories import N, configuration, open_directory, write_checkpoint, write_log
from epaxos.storage.room import Room, Usage


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A file system; `f_bavail` may be set."""
    found = SimpleNamespace(f_bavail=1000, f_frsize=10)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    return found


def test_a_reserve_is_kept_and_given_back_with_a_margin(free: SimpleNamespace, tmp_path: Path) -> None:
    room = Room(tmp_path, quota=0, reserve=5000)
    assert not room.look(Usage(0, 0))
    assert room.left == 5000
    free.f_bavail = 500
    assert room.look(Usage(0, 0))
    assert "5000 bytes left, of which 5000 are kept" in room.why
    free.f_bavail = 540
    assert not room.look(Usage(0, 0)), "nearly"
    assert room.why
    free.f_bavail = 560
    assert room.look(Usage(0, 0))
    assert not room.why


def test_what_is_free_inside_the_files_is_room(free: SimpleNamespace, tmp_path: Path) -> None:
    free.f_bavail = 500
    room = Room(tmp_path, quota=0, reserve=5000)
    room.look(Usage(0, 4000))
    assert (room.left, room.why) == (4000, "")


def test_a_quota_is_of_what_is_used(free: SimpleNamespace, tmp_path: Path) -> None:
    room = Room(tmp_path, quota=2000, reserve=0)
    assert not room.look(Usage(1500, 0))
    assert room.left == 500
    assert room.look(Usage(2100, 0))
    assert "2100 bytes of a quota of 2000" in room.why
    assert room.look(Usage(100, 2000))
    assert free.f_bavail == 1000


def test_without_either_there_is_no_end(free: SimpleNamespace, tmp_path: Path) -> None:
    free.f_bavail = 0
    room = Room(tmp_path, quota=0, reserve=0)
    assert not room.look(Usage(1, 0))
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
    assert full.used > 1_000_000 > empty.used
    assert empty.spare > full.spare
