"""The file of a backup.

    16 bytes             what it is
    a map                `Header`, and as "format" the level of all (`epaxos.version`)
    [key, value], …      sessions as a checkpoint has them (`checkpoint.rows`), then `v` + key with its value; ascending
    the number of rows
    32 bytes             BLAKE2b of all before

All but the first and the last is msgpack; a value that ends is of an extended type (`statemachine.expiry`). Of a
checkpoint's rows, those that speak of instances are not in it: they mean something only beside the log that the replica
has promised, which no file may stand for (protocol 4.11c).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, NamedTuple, Self

import msgpack

from epaxos import version
from epaxos.checkpoint.rows import SESSION, VALUE, Row
from epaxos.errors import BackupError, FormatUnsupported
from epaxos.protocol.ids import Vector
from epaxos.protocol.membership import Configuration
from epaxos.statemachine.expiry import Expiring, pack_row, unpack_end
from epaxos.storage.directory import sync_directory
from epaxos.storage.journal import read_configuration

_MAGIC: Final = b"epaxos backup\r\n\x1a"
_DIGEST_SIZE: Final = 32
_AT_A_TIME: Final = 1 << 20
_PART: Final = ".part"


class Header(NamedTuple):
    """Where a backup comes from.

    version   of the program that wrote it
    time      when, in UTC, as in ISO 8601
    cluster   whose promises stood beside it (`Config.identity`)
    configuration  of the epoch in which it is a cut
    replica   name of the one that it is from
    executed  per row, up to where everything had executed
    generation  how many collections had (`statemachine.sessions`)
    """

    version: str
    time: str
    cluster: int
    configuration: Configuration
    replica: str
    executed: Vector
    generation: int


class Written(NamedTuple):
    """What went into a file: how many values and sessions, in how many bytes."""

    keys: int
    sessions: int
    size: int


def write_backup(target: Path | BinaryIO, header: Header, rows: Iterable[Row]) -> Written:
    """Write a file, which is there as a whole or not at all and only its owner may read; or into a stream.

    Raises:
        BackupError: there is such a file already, or it cannot be written.
    """
    if not isinstance(target, Path):
        written = _write(target, header, rows)
        target.flush()
        return written
    path = target
    if path.exists():
        raise BackupError(f"{path} exists already; give the backup another name")
    part = path.with_name(path.name + _PART)
    try:
        with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
            written = _write(file, header, rows)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        sync_directory(path.absolute().parent)
    except OSError as error:
        raise BackupError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return written


def _write(file: BinaryIO, header: Header, rows: Iterable[Row]) -> Written:
    digest = blake2b(digest_size=_DIGEST_SIZE)
    size = 0

    def put(content: bytes) -> None:
        nonlocal size
        digest.update(content)
        size += file.write(content)

    counts = {VALUE: 0, SESSION: 0}
    put(_MAGIC)
    fields = header._asdict() | {"configuration": header.configuration.written}
    put(msgpack.packb({"format": header.configuration.level, **fields}))
    for row in rows:
        counts[row[0][:1]] += 1
        put(pack_row(*row))
    put(msgpack.packb(sum(counts.values())))
    size += file.write(digest.digest())
    return Written(counts[VALUE], counts[SESSION], size)


def _spooled(stream: BinaryIO) -> BinaryIO:
    """A copy of a stream in a file without a name: a backup is read more than once."""
    file = TemporaryFile()  # noqa: SIM115 - closed with the backup
    try:
        copyfileobj(stream, file, _AT_A_TIME)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


class BackupFile:
    """A file, or a stream, that has been found whole; use it as a context. Errors call it `name`.

    Raises:
        BackupError: it cannot be read, is no backup, of another format, cut off or damaged.
    """

    def __init__(self, source: Path | BinaryIO, name: str = "") -> None:
        self.name = name or str(source)
        with self._reading():
            self._file = source.open("rb") if isinstance(source, Path) else _spooled(source)
        try:
            with self._reading():
                self._check()
                self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """All rows, from the first.

        Raises:
            BackupError: they are none.
        """
        with self._reading():
            objects = self._objects()
            next(objects)
            count, total = 0, None
            for row in objects:
                if type(row) is int:
                    total = row
                    break
                key, value = row
                if type(value) not in (bytes, Expiring) or key[:1] not in {VALUE, SESSION}:
                    raise BackupError(f"{self.name} has a row of an unknown kind")
                count += 1
                yield key, value
            if count != total:
                raise BackupError(f"{self.name} has {count} rows and should have {total}")

    def _check(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if self._file.read(len(_MAGIC)) != _MAGIC:
            raise BackupError(f"{self.name} is no backup of epaxos")
        self._end = size - _DIGEST_SIZE
        digest = blake2b(digest_size=_DIGEST_SIZE)
        for content in self._contents(0):
            digest.update(content)
        if self._file.read() != digest.digest():
            raise BackupError(f"{self.name} is cut off or damaged: its checksum is wrong; use another backup")

    def _contents(self, position: int) -> Iterator[bytes]:
        """All bytes from a position on that the checksum is of."""
        self._file.seek(position)
        while content := self._file.read(min(_AT_A_TIME, max(0, self._end - position))):
            position += len(content)
            yield content

    def _objects(self) -> Iterator[Any]:
        unpacker = msgpack.Unpacker(max_buffer_size=0, ext_hook=unpack_end)
        for content in self._contents(len(_MAGIC)):
            unpacker.feed(content)
            yield from unpacker

    def _read_header(self) -> Header:
        fields = next(self._objects())
        found = fields.pop("format", None)
        if type(found) is not int or not version.is_known(found):
            raise BackupError(f"{self.name} is of level {found}; this program knows {version.known()}")
        header = Header(**fields)
        configuration = read_configuration(header.configuration)
        return header._replace(configuration=configuration, executed=tuple(header.executed))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackupError(f"cannot read {self.name}: {error.strerror}") from error
        except FormatUnsupported as error:
            raise BackupError(f"{self.name}: {error}") from error
        except (ValueError, TypeError, StopIteration, msgpack.exceptions.UnpackException) as error:
            raise BackupError(f"{self.name} is no backup of epaxos: {error}") from error
