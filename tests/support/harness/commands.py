"""Commands for tests: sets of keys, a name, and conflicts decided the obvious way."""

from __future__ import annotations

from dataclasses import dataclass

from epaxos.errors import FrameError


@dataclass(frozen=True, slots=True)
class Access:
    """A command that reads and writes keys, or a collection; `name` tells it from others that touch the same."""

    name: int
    reads: tuple[bytes, ...] = ()
    writes: tuple[bytes, ...] = ()
    base: tuple[int, ...] | None = None
    ends: bool = False

    @property
    def encoded(self) -> bytes:
        base = b"" if self.base is None else b",".join(b"%d" % slot for slot in self.base)
        if self.ends:
            base = b"end," + base
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


def collect(name: int, *base: int) -> Access:
    """A collection."""
    return Access(name, base=base)


def barrier(name: int, *base: int) -> Access:
    """A collection with which the epoch ends."""
    return Access(name, base=base, ends=True)


def conflict(one: Access, other: Access) -> bool:
    """Whether two commands share a key that at least one of them writes, or one is a collection."""
    if one.base is not None or other.base is not None:
        return True
    shared = {*one.reads, *one.writes} & {*other.reads, *other.writes}
    return any(key in one.writes or key in other.writes for key in shared)
