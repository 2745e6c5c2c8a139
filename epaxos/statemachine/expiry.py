"""Values that end: what the state says of them, and when a replica proposes that one has ended (protocol 4.14).

Nothing deterministic may look at a clock. So a value that ends is a value of its own type, which carries for how long
it was given and its *generation*, the command that gave it, as part of the state: checkpoints, transfers, backups and
digests take it with the value, and whatever replaces the value ends it. Time only ever proposes: each replica counts
by its own clock (`Expirations`), and what it then proposes, EXPIRE of a key and a generation, changes nothing where
another generation stands by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import ceil, frexp, inf
from operator import eq
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgpack

from epaxos.protocol.ids import Row

TTL_MAX: Final = 2**53
"""Milliseconds for which a value may be given, at most."""

_EXTENSION: Final = 1


class Generation(NamedTuple):
    """The command that gave a value its time: no other ever has the same.

    `client` and `number` are its session and request number, `place` its position in a MULTI, or in what a PREPARE
    holds, else 0.
    """

    client: int
    number: int
    place: int


class Expiring(bytes):
    """A value that ends `ttl` milliseconds after the command `generation`, or later.

    Equal to all bytes that are equal; `same` tells it from them.
    """

    ttl: int
    generation: Generation
    since: float
    """When it was executed or loaded here; no part of the state."""

    @classmethod
    def of(cls, value: bytes, ttl: int, generation: Generation) -> Expiring:
        """A value of these bytes."""
        made = cls(value)
        made.ttl, made.generation, made.since = ttl, generation, 0.0
        return made

    def renewed(self, value: bytes) -> Expiring:
        """Other bytes that end when this ends."""
        made = self.of(value, self.ttl, self.generation)
        made.since = self.since
        return made


def same(one: bytes | None, other: bytes | None) -> bool:
    """Whether two values are equal and end alike."""
    return one == other and _end_of(one) == _end_of(other)


def _end_of(value: bytes | None) -> object:
    return (value.ttl, value.generation) if isinstance(value, Expiring) else None


def are_same(values: Sequence[bytes | None], others: Sequence[bytes | None]) -> list[bool]:
    """`same`, of each pair; by a C-level call where none ends."""
    compare = same if Expiring in {*map(type, values), *map(type, others)} else eq
    return list(map(compare, values, others))


def is_ttl(number: object) -> bool:
    """Whether this is a time that a value may be given."""
    return type(number) is int and 0 < number <= TTL_MAX


def pack_values(keys: Sequence[bytes], values: Sequence[bytes | None]) -> bytes:
    """Keys and their values, None for one that has gone, as they stand in checkpoints."""
    packed: bytes = msgpack.packb([list(keys), list(values)], default=_pack_end, strict_types=True)
    return packed


def unpack_values(blob: bytes) -> Any:
    """What `pack_values` packed, or something else that msgpack holds.

    Raises:
        ValueError, TypeError, msgpack.UnpackException: nothing at all.
    """
    return msgpack.unpackb(blob, ext_hook=_unpack_end)


def _pack_end(value: object) -> msgpack.ExtType:
    if not isinstance(value, Expiring):
        raise TypeError(f"no value: {type(value).__name__}")
    return msgpack.ExtType(_EXTENSION, msgpack.packb((bytes(value), value.ttl, *value.generation)))


def _unpack_end(code: int, data: bytes) -> Expiring:
    value, ttl, *generation = msgpack.unpackb(data)
    numbers = [ttl, *generation]
    if code != _EXTENSION or type(value) is not bytes or list(map(type, numbers)) != [int] * 4:
        raise ValueError("not a value that ends")
    return Expiring.of(value, ttl, Generation(*generation))


class Patience(NamedTuple):
    """When replica `row` of `n` proposes what is over: `interval` seconds after the one before it in rank."""

    row: Row
    n: int
    interval: float


class _Entry(NamedTuple):
    """A key to look at, which generation was meant, and how often it has been proposed."""

    key: bytes
    generation: Generation
    tries: int = 0


class Expirations:
    """The values that end, of one replica's store: when to propose which.

    A value counts from the moment when it was executed or loaded here, which is never before the moment when its
    client sent it. Replicas take turns: of each key another one is the first, and the next ones follow if nothing came
    of it. What stands is proposed again, ever later: nobody waits for it, so nobody else would notice that it was
    lost or annulled.

    Entries stand in buckets, each for at most a 256th of the time until then, so that there are few
    buckets however far away they are. A value that is replaced, or deleted, leaves its entry behind; as many as are
    noted are looked at in turn, twice, so that those do not become more than what stands.
    """

    def __init__(self, patience: Patience, get: Callable[[bytes], bytes | None]) -> None:
        self._patience = patience
        self._get = get
        self._due: list[tuple[float, int, list[_Entry]]] = []
        self._open: dict[float, list[_Entry]] = {}
        self._to_tidy: list[list[_Entry]] = []
        self._made = 0

    def __len__(self) -> int:
        return sum(len(bucket) for *_, bucket in self._due)

    @property
    def deadline(self) -> float:
        """When `take` may have something."""
        return self._due[0][0] if self._due else inf

    def note(self, keys: Sequence[bytes], now: float) -> None:
        """These keys may have been given values that end."""
        for key in keys:
            value = self._get(key)
            if isinstance(value, Expiring):
                value.since = value.since or now
                rank = (self._patience.row + crc32(key)) % self._patience.n
                delay = value.ttl / 1000 + rank * self._patience.interval
                self._put(now, delay, _Entry(key, value.generation))
        self._tidy(2 * len(keys))

    def take(self, now: float, most: int) -> list[tuple[bytes, Generation]]:
        """What is to be proposed now, about `most` at a time; all of it is looked at again later."""
        taken: list[_Entry] = []
        while self._due and self._due[0][0] <= now and len(taken) < most:
            when, _, bucket = heappop(self._due)
            if self._open.get(when) is bucket:
                del self._open[when]
            taken += filter(self._stands, bucket)
            bucket.clear()
        for entry in taken:
            delay = self._patience.interval * self._patience.n * 2 ** min(entry.tries, _DOUBLINGS)
            self._put(now, delay, entry._replace(tries=entry.tries + 1))
        return [(entry.key, entry.generation) for entry in taken]

    def left(self, key: bytes, now: float) -> float | None:
        """Seconds until a key ends, as counted here; None if it does not."""
        value = self._get(key)
        return max(0.0, value.since + value.ttl / 1000 - now) if isinstance(value, Expiring) else None

    def _put(self, now: float, delay: float, entry: _Entry) -> None:
        width = 2.0 ** max(_FINEST, frexp(delay)[1] - _PARTS)
        when = ceil((now + delay) / width) * width
        bucket = self._open.get(when)
        if bucket is None or len(bucket) >= _BUCKET:
            bucket = self._open[when] = []
            self._made += 1
            heappush(self._due, (when, self._made, bucket))
        bucket.append(entry)

    def _stands(self, entry: _Entry) -> bool:
        value = self._get(entry.key)
        return isinstance(value, Expiring) and value.generation == entry.generation

    def _tidy(self, entries: int) -> None:
        """Drop entries of values that are gone, from buckets with about so many in all."""
        while entries > 0 and self._due:
            if not self._to_tidy:
                self._to_tidy = [bucket for *_, bucket in self._due]
            bucket = self._to_tidy.pop()
            entries -= len(bucket) + 1
            bucket[:] = filter(self._stands, bucket)


_FINEST: Final = -6
"""Buckets are no finer than 2**-6 s."""

_PARTS: Final = 9
"""Of the time until then, a bucket covers no more than 2**-8."""

_BUCKET: Final = 256
_DOUBLINGS: Final = 6
