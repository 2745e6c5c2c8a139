"""Backups in storage that speaks S3 (moto's server, over HTTP) and in files, made on a schedule, and read again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import toml
from click.testing import CliRunner, Result

from directories import N, configuration, open_directory, write_checkpoint, write_log
from epaxos.backup import places
from epaxos.backup.file import BackupFile
from epaxos.backup.places import keep, place_of, stamped
from epaxos.cli import backup
from epaxos.cli.main import main
from epaxos.config import Config
from epaxos.errors import BackupError, ConfigError

LARGE = 20 << 20
"""Bytes of more than one part of an upload."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - every process would pay for it, and one uses it

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the bucket `vault`."""
    import boto3  # noqa: PLC0415 - as above

    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="vault")
    yield client
    for one in client.list_objects_v2(Bucket="vault").get("Contents", ()):
        client.delete_object(Bucket="vault", Key=one["Key"])


@pytest.fixture
def old(tmp_path: Path) -> Config:
    config = configuration(tmp_path / "old")
    engine = open_directory(config, "alpha")
    write_log(engine, N, [])
    write_checkpoint(engine, (-1,) * N, {b"one": b"1"}, [], [])
    engine.close()
    return config


def run(config: Config, tmp_path: Path, *arguments: str) -> Result:
    """A command for the cluster, whose file is written for it."""
    file = tmp_path / "epaxos.toml"
    replicas = [
        {key: getattr(one, key) for key in ("pid", "name", "host", "port", "client_port", "metrics_port")}
        for one in config.replicas
    ]
    storage = {"directory": config.storage.directory}
    file.write_text(toml.dumps({"name": config.name, "storage": storage, "replicas": replicas}))
    return CliRunner().invoke(main, [arguments[0], "-c", str(file), *arguments[1:]])


def write(text: bytes) -> Any:
    def make(target: Path | BinaryIO) -> int:
        if isinstance(target, Path):
            return target.write_bytes(text)
        return target.write(text)

    return make


def test_a_backup_goes_to_a_bucket_and_a_new_cluster_comes_of_it(
    old: Config, bucket: Any, tmp_path: Path
) -> None:
    saved = run(old, tmp_path, "backup", "alpha", "s3://vault/some/where.backup")
    assert saved.exit_code == 0, saved.output
    assert "s3://vault/some/where.backup: 1 keys" in saved.stdout
    assert [one["Key"] for one in bucket.list_objects_v2(Bucket="vault")["Contents"]] == ["some/where.backup"]
    again = run(old, tmp_path, "backup", "alpha", "s3://vault/some/where.backup")
    assert again.exit_code == 1
    assert "s3://vault/some/where.backup exists already" in again.stderr
    new = configuration(tmp_path / "new", name="new")
    restored = run(new, tmp_path, "restore", "s3://vault/some/where.backup")
    assert restored.exit_code == 0, restored.output
    assert "1 keys" in restored.stdout


@pytest.mark.usefixtures("bucket")
def test_what_cannot_be_had_of_a_bucket_is_said_in_a_line(old: Config, tmp_path: Path) -> None:
    for command in (("restore", "s3://vault/none"), ("backup", "alpha", "s3://none/x")):
        result = run(old, tmp_path, *command)
        assert result.exit_code == 1, result.output
        assert re.search(r"cannot use s3://(vault/none|none/x): .*(NoSuchKey|NoSuchBucket)", result.stderr)
        assert len(result.stderr.splitlines()) <= 2


@pytest.mark.usefixtures("bucket")
def test_a_large_one_passes_through_no_disk(tmp_path: Path) -> None:
    place = place_of("s3://vault/large")
    text = bytes(range(256)) * (LARGE // 256)
    assert place.write(place.name, write(text)) == LARGE
    read = place.open()
    assert not isinstance(read, Path)
    assert read.read() == text
    assert list(tmp_path.iterdir()) == []


def test_half_a_backup_is_none(bucket: Any) -> None:
    def fail(target: Path | BinaryIO) -> int:
        assert not isinstance(target, Path)
        target.write(bytes(LARGE))
        raise BackupError("the directory cannot be read")

    place = place_of("s3://vault/half")
    with pytest.raises(BackupError, match="cannot be read"):
        place.write(place.name, fail)
    assert "Contents" not in bucket.list_objects_v2(Bucket="vault")
    assert "Uploads" not in bucket.list_multipart_uploads(Bucket="vault")


@pytest.mark.usefixtures("bucket")
def test_one_who_cannot_send_does_not_wait_for_what_is_written() -> None:
    place = place_of("s3://none/x")
    with pytest.raises(BackupError, match="NoSuchBucket"):
        place.write(place.name, write(bytes(LARGE)))
    stream = places._Stream(write(bytes(LARGE)))  # whose reader gives up
    stream.read(10)
    stream.close()
    with pytest.raises(BrokenPipeError):
        stream.result()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("where", ["s3://vault/", "/"])
def test_the_last_ones_are_kept_and_nothing_else_is_touched(tmp_path: Path, where: str) -> None:
    where = str(tmp_path) + where if where == "/" else where
    place = place_of(where + "alpha-{time}.backup")
    names = [f"{where}alpha-2026010{day}T000000Z.backup" for day in range(1, 5)]
    others = [where + "alpha-now.backup", where + "bravo-20260101T000000Z.backup"]
    for name in (*names, *others):
        place.write(name, write(b"x"))
    assert keep(place, 2) == names[:2]
    assert sorted(place.names(where)) == sorted([*names[2:], *others])


def test_names_with_a_time_ascend() -> None:
    assert re.fullmatch(r"a-\d{8}T\d{6}Z\.b", stamped("a-{time}.b"))
    assert stamped("plain") == "plain"


def test_it_goes_on_after_one_that_failed(
    old: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first finds its name taken; then the clock of names goes on."""
    times = iter(["20260101T000000Z", "20260101T000001Z", "20260101T000002Z"])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(backup, "stamped", lambda name: name.replace("{time}", next(times)))
    monkeypatch.setattr(time, "sleep", sleep)
    (tmp_path / "a-20260101T000000Z").write_text("taken")
    result = run(old, tmp_path, "backup", "alpha", str(tmp_path / "a-{time}"), "--every", "1h", "--keep", "2")
    assert result.exit_code == 130
    assert "a-20260101T000000Z exists already" in result.stderr
    assert f"removed {tmp_path}/a-20260101T000000Z" in result.stdout
    assert sorted(file.name for file in tmp_path.glob("a-*")) == ["a-20260101T000001Z", "a-20260101T000002Z"]
    assert all(3590 < seconds <= 3600 for seconds in slept)
    with BackupFile(tmp_path / "a-20260101T000002Z") as made:
        assert made.header.replica == "alpha"


def test_mistakes(old: Config, tmp_path: Path) -> None:
    wrong = run(old, tmp_path, "backup", "alpha", "x", "--every", "1h")
    assert wrong.exit_code == 2
    assert "{time}" in wrong.stderr
    with pytest.raises(ConfigError, match="allowed: s3://BUCKET/KEY"):
        place_of("s3://vault")


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"epaxos\[s3\]"):
        place_of("s3://vault/x")
