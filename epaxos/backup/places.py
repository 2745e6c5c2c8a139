"""Where backups go and come from: a file, a stream, or an object in storage that speaks S3.

An object is there as a whole or not at all, as a file is, and nothing of it passes through a disk of this machine.
Where the storage is and who may use it boto3 finds out by itself: `AWS_ENDPOINT_URL`, `AWS_PROFILE`, roles and so on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, Protocol, TypeVar

from epaxos.errors import BackupError, ConfigError

Result = TypeVar("Result")

TIME: Final = "{time}"
"""In the name of a place: when the backup was begun, in UTC, so that names ascend with time."""

_S3: Final = re.compile(r"s3://([^/]+)/(.+)")
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_STAMPED: Final = r"\d{8}T\d{6}Z"


class Place(Protocol):
    """Where backups are kept under names, one of which is that of the place if it has no `TIME`."""

    name: str

    def write(self, name: str, make: Callable[[Path | BinaryIO], Result]) -> Result:
        """Have a backup made under a name that is free.

        Raises:
            BackupError: it is not free, or cannot be written; then nothing is there under it.
        """
        ...

    def open(self) -> Path | BinaryIO:
        """The backup that is there, for `BackupFile`.

        Raises:
            BackupError: it cannot be read.
        """
        ...

    def names(self, prefix: str) -> list[str]:
        """All names there that begin with `prefix`, up to which a pattern is the same for all."""
        ...

    def remove(self, name: str) -> None:
        """Remove a backup."""
        ...


def place_of(name: str) -> Place:
    """The place that is called `name`: a path, or s3://BUCKET/KEY.

    Raises:
        ConfigError: it is neither, or boto3 is not installed.
    """
    if not name.startswith("s3:"):
        return FilePlace(name)
    if (found := _S3.fullmatch(name)) is None:
        raise ConfigError(f"found {name!r}; allowed: s3://BUCKET/KEY")
    if find_spec("boto3") is None:
        raise ConfigError("s3:// needs what is not installed here (boto3): pip install 'epaxos[s3]'")
    return S3Place(name, *found.groups())


def stamped(name: str) -> str:
    """The name of a backup that is begun now."""
    return name.replace(TIME, datetime.now(UTC).strftime(_STAMP))


def keep(place: Place, count: int) -> list[str]:
    """Remove all but the last `count` backups of a place whose name has a `TIME`; the names of those removed.

    Raises:
        BackupError: they cannot be listed or removed.
    """
    pattern = re.compile(_STAMPED.join(map(re.escape, place.name.split(TIME))))
    found = sorted(name for name in place.names(place.name.partition(TIME)[0]) if pattern.fullmatch(name))
    gone = found[:-count]
    for name in gone:
        place.remove(name)
    return gone


class FilePlace:
    """Files in a directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, name: str, make: Callable[[Path | BinaryIO], Result]) -> Result:
        """See `Place`."""
        return make(Path(name))

    def open(self) -> Path | BinaryIO:
        """See `Place`."""
        return Path(self.name)

    def names(self, prefix: str) -> list[str]:
        """See `Place`."""
        path = Path(prefix + "x")
        try:
            return [str(found) for found in path.parent.iterdir()]
        except OSError as error:
            raise BackupError(f"cannot look into {path.parent}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """See `Place`."""
        try:
            Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise BackupError(f"cannot remove {name}: {error.strerror}") from error


class S3Place:
    """Objects in a bucket."""

    def __init__(self, name: str, bucket: str, key: str) -> None:
        import boto3  # noqa: PLC0415 - slow to import, and not installed everywhere

        self.name = name
        self._bucket = bucket
        self._key = key
        with _s3(name):
            self._client: Any = boto3.client("s3")

    def write(self, name: str, make: Callable[[Path | BinaryIO], Result]) -> Result:
        """See `Place`."""
        with _s3(name):
            self._check_free(name)
            stream = _Stream(make)
            try:
                self._client.upload_fileobj(stream, self._bucket, self._key_of(name))
            finally:
                stream.close()
            return stream.result()

    def open(self) -> Path | BinaryIO:
        """See `Place`."""
        with _s3(self.name):
            body: BinaryIO = self._client.get_object(Bucket=self._bucket, Key=self._key)["Body"]
            return body

    def names(self, prefix: str) -> list[str]:
        """See `Place`."""
        with _s3(self.name):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key_of(prefix)
            )
            return [f"s3://{self._bucket}/{one['Key']}" for page in pages for one in page.get("Contents", ())]

    def remove(self, name: str) -> None:
        """See `Place`."""
        with _s3(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._key_of(name))

    def _key_of(self, name: str) -> str:
        return name.removeprefix(f"s3://{self._bucket}/")

    def _check_free(self, name: str) -> None:
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key_of(name))
        if any(one["Key"] == self._key_of(name) for one in found.get("Contents", ())):
            raise BackupError(f"{name} exists already; give the backup another name")


class _Stream(Generic[Result]):
    """What a function writes, to be read by another one at the same time; a failure of either ends both."""

    def __init__(self, make: Callable[[Path | BinaryIO], Result]) -> None:
        reading, writing = os.pipe()
        self._reading = open(reading, "rb")  # noqa: PTH123, SIM115 - a descriptor, closed in `close`
        self._made: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(make, writing), daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[Path | BinaryIO], Result], writing: int) -> None:
        try:
            with open(writing, "wb") as target:
                try:
                    self._made.append(make(target))
                except BaseException as error:  # noqa: BLE001 - raised where it is read, before the end is seen
                    self._error = error
        except BrokenPipeError as error:  # the reader has failed, and says why
            self._error = self._error or error

    def read(self, size: int = -1) -> bytes:
        """The next bytes; raises what the writer has raised, so that half a backup is none."""
        content = self._reading.read(size)
        if not content:
            self._raise()
        return content

    def result(self) -> Result:
        """What the function returned."""
        self._thread.join()
        self._raise()
        return self._made[0]

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let go of the pipe; a writer that is not done fails."""
        self._reading.close()
        self._thread.join()


@contextmanager
def _s3(name: str) -> Iterator[None]:
    """Turn what boto3 raises into one line.

    Raises:
        BackupError: the storage cannot be used.
    """
    from boto3.exceptions import Boto3Error  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise BackupError(f"cannot use {name}: {error}") from error
