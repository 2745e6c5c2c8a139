"""Commands for tests: sets of keys, a name, and conflicts decided the obvious way."""

from __future__ import annotations

from dataclasses import dataclass

from epaxos.errors import FrameError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Decided, Over
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.membership import Configuration


@dataclass(frozen=True, slots=True)
class Access:
    """A command that reads and writes keys, or a collection; `name` tells it from others that touch the same."""

    name: int
    reads: tuple[bytes, ...] = ()
    writes: tuple[bytes, ...] = ()
    base: tuple[int, ...] | None = None
    ends: bool = False
    follows: Configuration | None = None
    reads_all: bool = False
    writes_all: bool = False

    def transient(self) -> Access:
        return self

    @property
    def encoded(self) -> bytes:
        base = b"" if self.base is None else b",".join(b"%d" % slot for slot in self.base)
        if self.ends:
            base = b"end," + base
        if self.reads_all or self.writes_all:
            base = b"all-written" if self.writes_all else b"all-read"
        return b"%d|%s|%s|%s" % (self.name, b",".join(self.reads), b",".join(self.writes), base)

    @property
    def size(self) -> int:
        return len(self.encoded)


def decode_access(encoded: bytes) -> Access:
    """The command of these bytes.

    Raises:
        FrameError: there is none.
    """
    try:
        name, reads, writes, base = encoded.split(b"|")
        if base.startswith(b"all-"):
            whole = base == b"all-written"
            return Access(int(name), _keys(reads), _keys(writes), reads_all=not whole, writes_all=whole)
        ends, base = base.startswith(b"end,"), base.removeprefix(b"end,")
        return Access(int(name), _keys(reads), _keys(writes), tuple(map(int, _keys(base))) or None, ends)
    except ValueError as error:
        raise FrameError("malformed", f"not a command: {error}") from error


def _keys(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined.split(b",")) if joined else ()


def put(name: int, *keys: bytes) -> Access:
    """A command that writes."""
    return Access(name, writes=keys)


def get(name: int, *keys: bytes) -> Access:
    """A command that reads."""
    return Access(name, reads=keys)


def scan(name: int, *keys: bytes) -> Access:
    """A command that reads all, and writes some keys."""
    return Access(name, writes=keys, reads_all=True)


def flush(name: int) -> Access:
    """A command that writes all."""
    return Access(name, writes_all=True)


def collect(name: int, *base: int) -> Access:
    """A collection."""
    return Access(name, base=base)


def barrier(name: int, *base: int) -> Access:
    """A collection with which the epoch ends."""
    return Access(name, base=base, ends=True)


def conflict(one: Access, other: Access) -> bool:
    """Whether two commands share a key that at least one of them writes, or one conflicts with everything."""
    if any(command.base is not None or command.writes_all for command in (one, other)):
        return True
    if (one.reads_all and other.writes) or (other.reads_all and one.writes):
        return True
    shared = {*one.reads, *one.writes} & {*other.reads, *other.writes}
    return any(key in one.writes or key in other.writes for key in shared)


def over(cut: Vector, *left: Command, follows: Configuration | None = None) -> Over:
    """An epoch has ended with this cut, and leaves commands over."""
    end = Access(0, base=cut, ends=True, follows=follows)
    return Over(Decided(InstanceId(0, 0), end, cut, 1), cut, left)
