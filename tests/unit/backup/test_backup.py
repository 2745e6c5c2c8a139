"""A backup holds what its source held, and a new cluster begins with it; nothing else comes of one."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from directories import (
    N,
    checkpoint_of,
    configuration,
    open_directory,
    record,
    write,
    write_checkpoint,
    write_log,
)
from epaxos import version
from epaxos.actors.assembly import make_parts
from epaxos.backup.file import BackupFile, Header, write_backup
from epaxos.backup.restoring import restore
from epaxos.backup.saving import Moment, save
from epaxos.checkpoint.rows import SESSION, VALUE
from epaxos.cli.main import main
from epaxos.config import Config
from epaxos.errors import BackupError, ConfigError
from epaxos.inspection.contents import read_contents
from epaxos.protocol.contract import Propose
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Phase
from epaxos.statemachine.batch import Batch, Limits, decode_batch, encode_batch, make_payload
from epaxos.statemachine.expiry import Expiring, Generation, same
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import RECORDS, Operation, Outcome
from epaxos.storage.reading import Reading
from harness.members import MEMBERS

VALUES = {b"one": b"1", b"two": b"2" * 1000, b"\x00": b""}
SESSIONS: list[list[object]] = [
    [7, 1, [1, 3], [1, 3], [], 2],
    [2**64 - 1, 5, [1, 9], [], [[5, b"\0\0\0\0", None]], 3],
]
HEADER = Header("0.1.0", "2025-11-21T08:56:16+00:00", 5, MEMBERS, "alpha", (4, -1, 7), 3)


@pytest.fixture
def old(tmp_path: Path) -> Config:
    """A cluster of which alpha has stopped after a checkpoint."""
    config = configuration(tmp_path / "old")
    engine = open_directory(config, "alpha")
    write_log(engine, N, [record(InstanceId(0, 5), Phase.COMMITTED)], truncated=(4, -1, -1))
    entry = record(InstanceId(2, 9), Phase.COMMITTED)
    write_checkpoint(engine, (4, -1, 7), VALUES, SESSIONS, [entry], deleted=[b"gone"], generation=6)
    engine.close()
    return config


@pytest.fixture
def new(tmp_path: Path) -> Config:
    return configuration(tmp_path / "new", name="new")


def backed_up(config: Config, path: Path, name: str = "alpha") -> Path:
    with Reading(config.storage.directory_of(name)) as reading:
        save(reading, path, None, 0.0)
    return path


@pytest.fixture
def file(old: Config, tmp_path: Path) -> Path:
    return backed_up(old, tmp_path / "backup")


def left_behind(config: Config) -> list[str]:
    directory = Path(config.storage.directory)
    return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []


# -- the file ----------------------------------------------------------------------------------------------


def test_it_says_where_it_comes_from_and_holds_values_and_sessions_alone(old: Config, file: Path) -> None:
    with BackupFile(file) as backup:
        assert backup.header[2:] == (old.identity, MEMBERS, "alpha", (4, -1, 7), 6)
        rows = dict(backup.rows())
        assert dict(backup.rows()) == rows
    assert {key[1:]: value for key, value in rows.items() if key[:1] == VALUE} == VALUES
    assert sum(key[:1] == SESSION for key in rows) == len(SESSIONS) == len(rows) - len(VALUES)
    assert file.stat().st_mode & 0o077 == 0
    assert list(file.parent.glob("*.part")) == []


def test_values_that_end_are_restored_with_their_end(tmp_path: Path, new: Config) -> None:
    ending = Expiring.of(b"me", 5000, Generation(7, 1, 0))
    old = configuration(tmp_path / "timed")
    engine = open_directory(old, "alpha")
    write_log(engine, N, [])
    write_checkpoint(engine, (-1,) * N, {b"lock": ending, b"plain": b"v"}, SESSIONS, [])
    engine.close()
    with BackupFile(backed_up(old, tmp_path / "backup")) as backup:
        restore(new, backup)
    parts = make_parts(new, 0)
    try:
        assert same(parts.machine.get(b"lock"), ending)
        assert same(parts.machine.get(b"plain"), b"v")
        assert parts.machine.take_timed() == [b"lock"]
    finally:
        parts.disk.engine.close()


def test_restored_directories_say_of_which_level_they_are(
    new: Config, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "NEWEST", version.NEWEST + 1)
    with BackupFile(file) as backup:
        places = restore(new, backup).directories
    levels = {json.loads((place / "identity").read_text())["format"] for place in places}
    assert levels == {version.NEWEST}


def test_an_existing_file_stays(old: Config, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(BackupError, match="exists already"):
        backed_up(old, file)
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_written(old: Config, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"cannot write .*No such file"):
        backed_up(old, tmp_path / "none" / "backup")


def test_a_cut_or_changed_byte_is_found(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write_backup(whole, HEADER, [(b"sclient00", b"\x94\x01\x01\x90\x90"), (b"vkey", b"value")])
    content = whole.read_bytes()
    damaged = tmp_path / "damaged"
    changed = [bytes([*content[:at], content[at] ^ 1, *content[at + 1 :]]) for at in range(len(content))]
    for bad in (*(content[:size] for size in range(len(content))), *changed, content + b"\0"):
        damaged.write_bytes(bad)
        with pytest.raises(BackupError, match=r"no backup of epaxos|is cut off or damaged"):
            BackupFile(damaged)


def test_what_is_no_backup_of_this_version(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"cannot read .*No such file"):
        BackupFile(tmp_path / "none")
    later = HEADER.configuration.next(1, level=99)
    write_backup(tmp_path / "later", HEADER._replace(configuration=later), [])
    with pytest.raises(BackupError, match=f"is of level 99; this program knows {version.known()}"):
        BackupFile(tmp_path / "later")


# -- saving ------------------------------------------------------------------------------------------------


def test_without_a_checkpoint_there_is_nothing_to_save(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    open_directory(config, "alpha").close()
    with pytest.raises(BackupError, match="holds no checkpoint yet: alpha writes one when"):
        backed_up(config, tmp_path / "backup")


def test_a_later_checkpoint_is_waited_for(old: Config, tmp_path: Path) -> None:
    engine = open_directory(old, "alpha")
    later = Timer(0.2, write_checkpoint, (engine, (9, 9, 9), {b"one": b"later"}))
    with Reading(old.storage.directory_of("alpha")) as reading:
        with pytest.raises(BackupError, match=r"no checkpoint of alpha holds all .* --at-once takes"):
            save(reading, tmp_path / "backup", Moment(0, (5, -1, 7)), 0.1)
        later.start()
        header, written = save(reading, tmp_path / "backup", Moment(0, (5, -1, 7)), 10.0)
    later.join()
    engine.close()
    assert header.executed == (9, 9, 9)
    assert written.keys == len(VALUES)
    with BackupFile(tmp_path / "backup") as backup:
        assert (VALUE + b"one", b"later") in backup.rows()


# -- restoring ---------------------------------------------------------------------------------------------


def test_all_replicas_begin_alike_with_empty_logs_and_know_one_another(new: Config, file: Path) -> None:
    with BackupFile(file) as backup:
        restored = restore(new, backup)
    assert [directory.name for directory in restored.directories] == left_behind(new)
    assert (restored.keys, restored.sessions) == (len(VALUES), len(SESSIONS))
    contents = [read_contents(directory) for directory in restored.directories]
    assert [told.row for told in contents] == [0, 1, 2]
    assert {told.identity.cluster for told in contents} == {new.identity}
    for told in contents:
        assert not told.records
        assert told.checkpoint is not None
        assert (told.truncated, told.checkpoint.executed, told.progress.seen) == ((-1,) * N,) * 3
        assert told.incarnations == contents[0].incarnations
    assert len(set(contents[0].incarnations.values())) == N


def test_each_act_draws_other_incarnations(new: Config, file: Path, tmp_path: Path) -> None:
    other = configuration(tmp_path / "other", name="new")
    with BackupFile(file) as backup:
        first, second = restore(new, backup), restore(other, backup)
    numbers = [
        set(read_contents(restored.directories[0]).incarnations.values()) for restored in (first, second)
    ]
    assert not numbers[0] & numbers[1]


@pytest.mark.parametrize("n", [1, 5])
def test_the_new_cluster_may_be_of_another_size(file: Path, tmp_path: Path, n: int) -> None:
    config = configuration(tmp_path / "new", n=n, name="new")
    with BackupFile(file) as backup:
        assert len(restore(config, backup).directories) == n
    parts = make_parts(config, 0)
    assert parts.machine.keys == len(VALUES)
    parts.disk.engine.close()


def test_a_restored_replica_goes_on(file: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path / "new", n=1, name="new")
    with BackupFile(file) as backup:
        restore(config, backup)
    parts = make_parts(config, 0)
    assert parts.resumes
    parts.core.resume(0.0)
    parts.core.on_event(Propose(write(b"one", b"new")), 0.0)
    assert parts.core.status().seen == (0,)
    parts.disk.engine.close()


def refused(config: Config, file: Path, text: str) -> None:
    before = left_behind(config)
    with BackupFile(file) as backup, pytest.raises(ConfigError, match=text):
        restore(config, backup)
    assert left_behind(config) == before


def test_the_old_cluster_is_not_restored(old: Config, file: Path, tmp_path: Path) -> None:
    refused(old, file, "this is the cluster that .* is of; its replicas may have promised since")
    refused(configuration(tmp_path / "elsewhere"), file, "Give the new cluster another name")


def test_a_directory_that_holds_anything_is_left_alone(new: Config, file: Path) -> None:
    directory = new.storage.directory_of("charlie")
    directory.mkdir(parents=True)
    (directory / "letter").write_text("dear")
    refused(new, file, r"new/charlie is in use or holds data already")
    (directory / "letter").unlink()
    with BackupFile(file) as backup:
        restore(new, backup)
    refused(new, file, r"new/alpha is in use or holds data already")


def test_limits_must_allow_what_it_holds(file: Path, tmp_path: Path) -> None:
    base: dict[str, Any] = {"name": "new", "directory": tmp_path / "new"}
    narrow = _with(configuration(**base), max_value=999)
    refused(narrow, file, "max_value: found 999; the backup needs 1000 at least")
    refused(_with(narrow, max_value=1000, max_key=2), file, "max_key: found 2; the backup needs 3 at least")


def _with(config: Config, **changes: Any) -> Config:
    return replace(config, **changes)


def test_memory_keeps_no_backup(file: Path, tmp_path: Path) -> None:
    refused(
        configuration(tmp_path / "new", name="new", engine="memory"), file, "'memory', which keeps nothing"
    )


def test_a_failed_attempt_leaves_nothing_and_is_in_nobodys_way(
    new: Config, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def fail_at_the_second(*_: object) -> None:
        nonlocal made
        made += 1
        if made == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("epaxos.backup.restoring._stage", fail_at_the_second)
    with BackupFile(file) as backup:
        with pytest.raises(KeyboardInterrupt):
            restore(new, backup)
        assert left_behind(new) == []
        monkeypatch.undo()
        left = Path(new.storage.directory) / ".alpha.restoring"
        left.mkdir()
        (left / "log.db").write_text("half")
        restore(new, backup)
    assert left_behind(new) == ["alpha", "bravo", "charlie"]


def test_a_session_that_cannot_be_read_is_found_before_anything_is_made(new: Config, tmp_path: Path) -> None:
    write_backup(tmp_path / "odd", HEADER, [(b"s" + bytes(8), b"\x93\x01\x01\x90")])
    with (
        BackupFile(tmp_path / "odd") as backup,
        pytest.raises(BackupError, match="session that cannot be read"),
    ):
        restore(new, backup)
    assert left_behind(new) == []


commands = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(0, 2),
        st.sampled_from([Operation.WRITE, Operation.DELETE, Operation.APPEND, Operation.READ]),
        st.binary(min_size=1, max_size=3),
        st.binary(max_size=20),
    ),
    max_size=30,
)


@settings(max_examples=12)
@given(commands)
def test_what_was_saved_is_what_is_restored(
    done: list[tuple[int, int, Operation, bytes, bytes]],
) -> None:
    """Clients, of whom some have had all answers and others none, write what they like."""
    machine = StateMachine(Limits(), time.sleep)
    numbers = dict.fromkeys(range(4), 1)
    for client, lag, operation, key, value in done:
        first = numbers[client]
        numbers[client] += 1
        argument = value if operation in {Operation.WRITE, Operation.APPEND} else None
        acked = max(0, first - lag)
        batch = encode_batch(client, first, acked, bytes([operation]), [key], [argument])
        machine.apply(make_payload([decode_batch(batch)]))
    with tempfile.TemporaryDirectory() as place:
        source, target = (
            configuration(Path(place) / "a", n=1),
            configuration(Path(place) / "b", n=1, name="b"),
        )
        engine = open_directory(source, "alpha")
        checkpoint_of(engine, machine, (-1,))
        engine.close()
        with BackupFile(backed_up(source, Path(place) / "file")) as backup:
            restore(target, backup)
            rows = list(backup.rows())
        parts = make_parts(target, 0)
        parts.disk.engine.close()
        assert parts.machine.digest_source().hexdigest() == machine.digest_source().hexdigest()
        again = backed_up(target, Path(place) / "again")
        with BackupFile(again) as second:
            assert list(second.rows()) == rows


# -- the commands ------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs `epaxos` for the cluster `old` or `new` of this test."""
    for name in ("old", "new"):
        replicas = "".join(
            f'[[replicas]]\npid = {pid}\nname = "{replica}"\nhost = "127.0.0.1"\n'
            f"port = {1000 + pid}\nclient_port = {2000 + pid}\nmetrics_port = {3000 + pid}\n"
            for pid, replica in enumerate(("alpha", "bravo", "charlie"))
        )
        directory = f'[storage]\ndirectory = "{tmp_path / name}"\n'
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\n{directory}{replicas}')
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.usefixtures("old")
def test_a_backup_to_standard_output_is_that_of_a_file(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("backup", "-c", tmp_path / "old.toml", "alpha", "-")
    assert result.exit_code == 0, result.output
    assert "standard output: 3 keys and 2 sessions of alpha, executed up to 4 - 7; " in result.stderr
    assert f"; {len(result.stdout_bytes)} bytes\n" in result.stderr
    (tmp_path / "f").write_bytes(result.stdout_bytes)
    with BackupFile(tmp_path / "f") as backup:
        assert dict(backup.rows())[VALUE + b"two"] == VALUES[b"two"]


@pytest.mark.usefixtures("old")
def test_a_backup_from_standard_input_is_restored(run: Callable[..., Result], tmp_path: Path) -> None:
    saved = run("backup", "-c", tmp_path / "old.toml", "alpha", "-").stdout_bytes
    command = ["restore", "-c", str(tmp_path / "new.toml"), "-"]
    result = CliRunner().invoke(main, command, input=saved[:-1])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the backup from standard input is cut off or damaged" in result.stderr
    result = CliRunner().invoke(main, command, input=saved)
    assert result.exit_code == 0, result.output
    assert "from standard input: 3 keys and 2 sessions of alpha" in result.stdout
    assert (tmp_path / "new" / "charlie").is_dir()


@pytest.mark.usefixtures("old")
def test_backup_and_restore_as_commands(run: Callable[..., Result], tmp_path: Path) -> None:
    file, old_file, new_file = tmp_path / "f", tmp_path / "old.toml", tmp_path / "new.toml"
    result = run("backup", "-c", old_file, "alpha", file)
    assert result.exit_code == 0, result.output
    assert result.stderr == "alpha does not run: this is its last checkpoint, without what followed\n"
    assert f"{file}: 3 keys and 2 sessions of alpha, executed up to 4 - 7; " in result.stdout
    assert run("restore", "-c", old_file, file).exit_code == 2
    result = run("restore", "-c", new_file, file)
    assert result.exit_code == 0, result.output
    assert "are now cluster new\n" in result.stdout
    assert result.stdout.splitlines()[1:] == [
        str(tmp_path / "new" / name) for name in ("alpha", "bravo", "charlie")
    ]
    assert run("restore", "-c", new_file, file).exit_code == 2
    file.write_bytes(file.read_bytes()[:-1])
    result = run("restore", "-c", new_file, file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is cut off or damaged" in result.stderr


def test_backup_of_what_is_not_there(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("backup", "-c", tmp_path / "old.toml", "alpha", tmp_path / "f")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no data directory" in result.stderr
    assert result.stderr.endswith(": check the path; a replica makes it when it first starts\n")
    assert run("backup", "-c", tmp_path / "old.toml", "delta", tmp_path / "f").exit_code == 2


def test_a_transaction_under_way_goes_on_in_the_new_cluster(tmp_path: Path) -> None:
    """Its record may be longer than any value."""
    key, keys, values = RECORDS + bytes(15) + b"\1", [b"a", b"b", b"c"], [b"x" * 600] * 3
    columns: list[object] = [b"\2\2\2", keys, values]
    machine = StateMachine(Limits(), time.sleep)
    begun = Batch(1, 1, 0, bytes([Operation.PREPARE]), [key], [[0, [[b"east", 0], [b"west", 0]], columns]])
    machine.apply(make_payload([begun]))
    source = configuration(tmp_path / "a", n=1)
    target = _with(configuration(tmp_path / "b", n=1, name="b"), max_value=1000)
    engine = open_directory(source, "alpha")
    checkpoint_of(engine, machine, (-1,))
    engine.close()
    with BackupFile(backed_up(source, tmp_path / "file")) as backup:
        restore(target, backup)
    parts = make_parts(target, 0)
    parts.disk.engine.close()
    met = Batch(2, 1, 0, bytes([Operation.READ]), [b"b"], None)
    (locked,) = parts.machine.apply(make_payload([met]))
    assert locked.outcomes == bytes([Outcome.LOCKED])
    ended = Batch(3, 1, 0, bytes([Operation.RESOLVE]), [key], [[True, keys]])
    met_again = Batch(3, 2, 0, bytes([Operation.READ]), [b"b"], None)
    assert parts.machine.apply(make_payload([ended, met_again]))[1].values == [b"x" * 600]
