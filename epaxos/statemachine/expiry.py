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

TTL_MAX: Final = 2**63 - 1
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


def pack_row(key: bytes, value: bytes) -> bytes:
    """A key and its value, with how it ends."""
    packed: bytes = msgpack.packb([key, value], default=_pack_end, strict_types=True)
    return packed


def pack_values(keys: Sequence[bytes], values: Sequence[bytes | None]) -> bytes:
    """Keys and their values, None for one that has gone, as they stand in checkpoints."""
    packed: bytes = msgpack.packb([list(keys), list(values)], default=_pack_end, strict_types=True)
    return packed


def unpack_values(blob: bytes) -> Any:
    """What `pack_values` packed, or something else that msgpack holds.

    Raises:
        ValueError, TypeError, msgpack.UnpackException: nothing at all.
    """
    return msgpack.unpackb(blob, ext_hook=unpack_end)


def _pack_end(value: object) -> msgpack.ExtType:
    if not isinstance(value, Expiring):
        raise TypeError(f"no value: {type(value).__name__}")
    return msgpack.ExtType(_EXTENSION, msgpack.packb((bytes(value), value.ttl, *value.generation)))


def unpack_end(code: int, data: bytes) -> Expiring:
    """What msgpack is to make of a value that ends.

    Raises:
        ValueError, TypeError, msgpack.UnpackException: it is none.
    """
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

    Entries stand in buckets, by a time that is rounded up by a 256th of the time until then at most, so that there are
    few buckets however far away they are. A value that is replaced, or deleted, leaves its entry behind; twice as many
    as are noted are looked at in turn, so that those do not become more than what stands.
    """

    def __init__(self, patience: Patience, get: Callable[[bytes], bytes | None]) -> None:
        self._patience = patience
        self._get = get
        self._due: list[float] = []
        self._buckets: dict[float, list[_Entry]] = {}
        self._to_tidy: list[list[_Entry]] = []
        self._tidied: list[_Entry] = []
        self._place = 0

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    @property
    def deadline(self) -> float:
        """When `take` may have something."""
        return self._due[0] if self._due else inf

    def note(self, keys: Sequence[bytes], now: float) -> None:
        """These keys may have been given values that end. One that was noted before has its entry."""
        for key in keys:
            value = self._get(key)
            if isinstance(value, Expiring) and not value.since:
                value.since = now
                width = _width(value.ttl / 1000)
                rank = (self._patience.row + crc32(key)) % self._patience.n
                when = ceil((now + value.ttl / 1000) / width) * width + rank * (
                    self._patience.interval + width
                )
                self._put(when, _Entry(key, value.generation))
        self._tidy(2 * len(keys))

    def take(self, now: float, most: int, weight: int) -> list[tuple[bytes, Generation]]:
        """What is to be proposed now: at most so many keys, of so many bytes or one; all is looked at again later.

        Of those that are over, `4 * most` are looked at: then there may be nothing now, and more to come at once.
        """
        taken: list[_Entry] = []
        looks = 4 * most
        while self._due and self._due[0] <= now and looks > 0 and len(taken) < most and weight > 0:
            bucket = self._buckets[self._due[0]]
            if not bucket:
                del self._buckets[heappop(self._due)]
                continue
            looks -= 1
            entry = bucket.pop()
            if self._stands(entry):
                taken.append(entry)
                weight -= len(entry.key)
        for entry in taken:
            delay = self._patience.interval * self._patience.n * 2 ** min(entry.tries, _DOUBLINGS)
            width = _width(delay)
            self._put(ceil((now + delay) / width) * width, entry._replace(tries=entry.tries + 1))
        return [(entry.key, entry.generation) for entry in taken]

    def left(self, key: bytes, now: float) -> float | None:
        """Seconds until a key ends, as counted here; None if it does not."""
        value = self._get(key)
        return max(0.0, value.since + value.ttl / 1000 - now) if isinstance(value, Expiring) else None

    def _put(self, when: float, entry: _Entry) -> None:
        if when not in self._buckets:
            self._buckets[when] = []
            heappush(self._due, when)
        self._buckets[when].append(entry)

    def _stands(self, entry: _Entry) -> bool:
        value = self._get(entry.key)
        return isinstance(value, Expiring) and value.generation == entry.generation

    def _tidy(self, looks: int) -> None:
        """Look at so many entries, of all in turn, and drop those of values that are gone."""
        for _ in range(looks):
            while self._place >= len(self._tidied):
                if not self._to_tidy:
                    self._to_tidy = [bucket for bucket in self._buckets.values() if bucket]
                    if not self._to_tidy:
                        return
                self._tidied, self._place = self._to_tidy.pop(), 0
            if self._stands(self._tidied[self._place]):
                self._place += 1
            else:
                self._tidied[self._place] = self._tidied[-1]
                self._tidied.pop()


def _width(delay: float) -> float:
    """By how much a time so far away may be rounded up."""
    return 2.0 ** max(_FINEST, frexp(delay)[1] - _PARTS)


_FINEST: Final = -6
"""Times are no finer than 2**-6 s."""

_PARTS: Final = 9
"""Of the time until then, a width is no more than 2**-8."""

_DOUBLINGS: Final = 6
