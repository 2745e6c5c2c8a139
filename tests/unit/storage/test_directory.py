"""Whose data directory it is, and which directories are none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from engines import IDENTITY, log_of, open_durable
from epaxos import version
from epaxos.errors import (
    DataCorrupt,
    DirectoryLocked,
    DirectoryMissing,
    EpaxosError,
    FormatUnsupported,
    NotADataDirectory,
    Retired,
    WriteFailed,
    WrongIdentity,
)
from epaxos.storage.directory import find
from epaxos.storage.engine import Identity, open_engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    open_durable(tmp_path / "data").close()
    return tmp_path / "data"


def reopen(path: Path, identity: Identity = IDENTITY, *, create: bool = True) -> None:
    open_engine("sqlite", path, identity, "always", 1, create=create).close()


def test_a_directory_is_made_with_its_parents_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with pytest.raises(DirectoryMissing, match=f"there is no data directory {path}"):
        reopen(path, create=False)
    assert not path.parent.exists()
    reopen(path)
    reopen(path, create=False)


def test_an_empty_directory_is_used_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(DirectoryMissing, match="holds no data yet"):
        reopen(tmp_path, create=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lost+found"]
    reopen(tmp_path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"cluster": 1}, "cluster 0000000000abcdef; this is 'bravo' with cluster 0000000000000001"),
        ({"name": "charlie"}, "replica 'bravo'; this is 'charlie': check"),
    ],
)
def test_the_data_of_another_is_refused(data: Path, changes: dict[str, int], what: str) -> None:
    with pytest.raises(WrongIdentity, match=what):
        reopen(data, IDENTITY._replace(**changes))  # type: ignore[arg-type]
    reopen(data)


def test_a_directory_has_one_incarnation(data: Path) -> None:
    numbers = set()
    for _ in range(2):
        engine = open_durable(data)
        numbers.add(engine.incarnation)
        engine.close()
    assert len(numbers) == 1
    assert find(data).identity.incarnation in numbers


def test_an_incarnation_may_be_given(tmp_path: Path) -> None:
    given = IDENTITY._replace(incarnation=2**64 - 1)
    engine = open_engine("sqlite", tmp_path / "new", given, "never", 1.0, create=True)
    assert engine.incarnation == 2**64 - 1
    engine.close()
    with pytest.raises(
        WrongIdentity, match=r"with incarnation f{16}; this is 'bravo' with incarnation 0{15}1"
    ):
        reopen(tmp_path / "new", IDENTITY._replace(incarnation=1))


def test_another_format_is_refused(data: Path) -> None:
    identity = json.loads((data / "identity").read_text())
    (data / "identity").write_text(json.dumps({**identity, "format": 1}))
    with pytest.raises(
        FormatUnsupported, match=f"is of level 1; this program knows {version.known()}: start"
    ):
        reopen(data)


def test_a_directory_of_the_level_before_is_used_and_raised_for_good(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = version.NEWEST
    with monkeypatch.context() as later:
        later.setattr(version, "NEWEST", now + 1)
        reopen(data)
        reopened = open_engine("sqlite", data, IDENTITY, "always", 1, create=False)
        before = (data / "identity").read_text()
        reopened.raise_level(now)
        assert (data / "identity").read_text() == before
        reopened.raise_level(now + 1)
        reopened.write_log([(b"key", b"value")])
        reopened.close()
        reopen(data)
        assert find(data).identity.name == IDENTITY.name
    with pytest.raises(FormatUnsupported, match=f"is of level {now + 1}; this program knows"):
        reopen(data)


def test_a_level_that_could_not_be_written_is_written_when_it_is_raised_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine("sqlite", data, IDENTITY, "always", 1, create=False)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "no space left")))
        with pytest.raises(WriteFailed, match="cannot raise the level"):
            engine.raise_level(version.NEWEST + 1)
    engine.raise_level(version.NEWEST + 1)
    engine.close()
    assert json.loads((data / "identity").read_text())["format"] == version.NEWEST + 1


def test_nobody_begins_with_the_data_of_one_that_was_removed(data: Path) -> None:
    engine = open_durable(data)
    engine.retire()
    engine.close()
    for identity in (IDENTITY, IDENTITY._replace(joins=True)):
        with pytest.raises(
            Retired, match="has been removed from the cluster, and is of no use any more: it may go"
        ):
            reopen(data, identity)
    assert find(data).engine == "sqlite", "but it may be looked at"


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_an_identity_that_cannot_be_read_is_damage(data: Path, text: str) -> None:
    (data / "identity").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataCorrupt, match="identity is damaged"):
        reopen(data)


def test_what_is_no_data_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(NotADataDirectory, match=r"holds other files \(letter\)"):
        reopen(tmp_path)
    with pytest.raises(NotADataDirectory, match="letter is a file"):
        reopen(tmp_path / "letter")
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter"]


def test_data_without_identity_is_not_taken_for_a_new_directory(data: Path) -> None:
    (data / "identity").unlink()
    with pytest.raises(NotADataDirectory, match="no identity"):
        reopen(data)


def test_an_unfinished_directory_is_made_anew(data: Path) -> None:
    (data / "identity").rename(data / "identity.new")
    (data / "log.db").write_bytes(b"half")
    with pytest.raises(DirectoryMissing, match="holds no data yet"):
        reopen(data, create=False)
    engine = open_durable(data)
    assert log_of(engine) == {}
    engine.close()
    reopen(data, create=False)


def test_a_directory_is_opened_once(data: Path) -> None:
    engine = open_durable(data)
    with pytest.raises(DirectoryLocked, match=f"in use by process {os.getpid()}"):
        reopen(data)
    engine.close()
    reopen(data)


def test_a_refused_directory_is_not_kept_locked(data: Path) -> None:
    for _ in range(2):
        with pytest.raises(WrongIdentity):
            reopen(data, IDENTITY._replace(name="berta"))


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EROFS, "may not be written"),
        (errno.EACCES, "may not be written"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EIO, "is failing"),
    ],
)
@pytest.mark.parametrize("name", ["data", "other"])
def test_a_directory_that_cannot_be_written_says_so(
    data: Path, number: int, hint: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    path = data.parent / name
    with pytest.raises(WriteFailed, match=f"cannot use the data directory {path} .*{hint}"):
        reopen(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_says_so(data: Path) -> None:
    data.chmod(0o500)
    (data / "lock").chmod(0o400)
    try:
        with pytest.raises(WriteFailed, match="may not be written"):
            reopen(data)
    finally:
        data.chmod(0o700)


def test_only_its_user_may_look_into_it(data: Path) -> None:
    assert data.stat().st_mode & 0o777 == 0o700
    engine = open_durable(data)
    engine.write_log([(b"key", b"value")])
    engine.stage_state([(b"key", b"value")])
    engine.commit_state()
    engine.snapshot_state().close()
    modes = {file.name: file.stat().st_mode & 0o777 for file in data.iterdir()}
    engine.close()
    assert len(modes) > 5
    assert set(modes.values()) == {0o600}, modes


def test_nothing_is_left_of_a_new_directory_that_is_abandoned(tmp_path: Path) -> None:
    engine = open_durable(tmp_path / "some" / "where")
    assert engine.made
    engine.write_log([(b"who", b"am I")])
    engine.abandon()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_when_it_is_abandoned(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    open_durable(tmp_path / "mounted").abandon()
    assert list((tmp_path / "mounted").iterdir()) == []
    engine = open_durable(data)
    assert not engine.made
    engine.abandon()
    reopen(data, create=False)


def test_what_has_come_in_the_place_of_an_abandoned_directory_stays(data: Path, tmp_path: Path) -> None:
    """As where a replica started before the file system with its data was mounted."""
    place = tmp_path / "place"
    engine = open_durable(place)
    place.rename(tmp_path / "covered")
    data.rename(place)
    with pytest.raises(WriteFailed, match="moved or removed"):
        engine.abandon()
    reopen(place, create=False)


@pytest.mark.parametrize("moment", ["_lock", "_write", "make_private_file", "sync_directory"])
def test_nothing_is_left_of_a_directory_that_could_not_be_made(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    module = "sqlite" if moment == "make_private_file" else "directory"
    monkeypatch.setattr(f"epaxos.storage.{module}.{moment}", refuse)
    with pytest.raises(WriteFailed, match="the disk is full"):
        reopen(tmp_path / "some" / "where")
    assert list(tmp_path.iterdir()) == []


def replace_by_copy(data: Path) -> None:
    shutil.copytree(data, data.parent / "copy")
    shutil.rmtree(data)
    (data.parent / "copy").rename(data)


def replace_by_empty(data: Path) -> None:
    data.rename(data.parent / "away")
    data.mkdir()


REMOVALS: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "moved": lambda data: data.rename(data.parent / "away"),
    "parent moved": lambda data: data.parent.rename(data.parent.with_name("elsewhere")),
    "replaced by an empty one": replace_by_empty,
    "replaced by a copy": replace_by_copy,
    **{
        f"{name} unlinked": lambda data, name=name: (data / name).unlink()  # type: ignore[misc]
        for name in ("identity", "lock", "log.db", "log.db-wal", "state.db", "state.db-wal")
    },
}


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("removal", REMOVALS)
def test_nothing_is_acknowledged_that_is_not_in_the_directory_of_that_name(
    tmp_path: Path, removal: str, monkeypatch: pytest.MonkeyPatch, *, settled: bool
) -> None:
    """Also where it is the first write after that, and where the time of the last change is trusted."""
    data = tmp_path / "parent" / "data"
    engine = open_durable(data)
    if settled:
        later = time.time() + 10
        monkeypatch.setattr(time, "time", lambda: later)
    for _ in range(3):
        engine.write_log([(b"key", b"value")])
    REMOVALS[removal](data)
    with pytest.raises(WriteFailed, match="was moved or removed while the replica used it"):
        engine.write_log([(b"key", b"other")])
    with pytest.raises(WriteFailed, match="out of use"):
        engine.write_log([])
    engine.close()


def test_an_empty_write_and_a_checkpoint_notice_too(data: Path) -> None:
    engine = open_durable(data)
    engine.write_log([])
    data.rename(data.parent / "away")
    with pytest.raises(WriteFailed, match=r"put all of .* back as it was and start again"):
        engine.write_log([])
    engine.close()
    (data.parent / "away").rename(data)
    engine = open_durable(data)
    engine.stage_state([(b"key", b"value")])
    (data / "state.db").unlink()
    with pytest.raises(WriteFailed, match=r"state\.db was moved or removed"):
        engine.commit_state()
    engine.close()


def test_other_files_may_come_and_go(data: Path) -> None:
    engine = open_durable(data)
    for _ in range(2):
        (data / "note").touch()
        engine.write_log([(b"key", b"value")])
        (data / "note").unlink()
        engine.write_log([(b"key", b"value")])
    engine.close()


def test_the_end_of_a_moved_directorys_replica_leaves_the_one_in_its_place_alone(data: Path) -> None:
    engine = open_durable(data)
    engine.write_log([(b"key", b"value")])
    data.rename(data.parent / "away")
    shutil.copytree(data.parent / "away", data)
    before = {file.name: file.read_bytes() for file in data.iterdir()}
    with pytest.raises(WriteFailed):
        engine.write_log([(b"key", b"other")])
    engine.close()
    assert {file.name: file.read_bytes() for file in data.iterdir()} == before


def test_trouble_is_an_error_of_ours() -> None:
    for kind in (DirectoryLocked, DirectoryMissing, WrongIdentity, DataCorrupt, WriteFailed):
        assert issubclass(kind, EpaxosError)
