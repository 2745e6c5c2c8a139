"""Batches of commands as columns, and the payload of an instance made of them.

A batch is what one client sends in one frame: commands of one session with consecutive request numbers,
held as columns, so that nothing is done once a command where a column can be handled by one C-level call.

A `Payload` is what one instance carries: the batches that one replica took from its clients in one round, with their
columns joined and five numbers a batch, its head, as columns too. A thousand clients with one command each cost the
replicas that execute them little more than one client with a thousand (`docs/profile.md`). It is encoded once, by
who proposes it; replicas store and forward those bytes.
To the protocol it is opaque but for the keys it reads and writes (`protocol.command.Command`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from operator import le
from typing import Any, Final, NamedTuple

import msgpack

from epaxos.errors import FrameError
from epaxos.protocol.ids import Vector
from epaxos.protocol.membership import Configuration, make_configuration
from epaxos.statemachine.columns import ALL_BYTES, Argument, is_plain, keys_touched
from epaxos.statemachine.expiry import Generation
from epaxos.statemachine.operations import READERS_OF_ALL, Operation
from epaxos.statemachine.sessions import WINDOW

_ONLY_INTEGERS: Final = {int}
_CLEAR: Final = int(Operation.CLEAR)

REPLY_HEAD: Final = 2048
"""Bytes of a frame with a reply beside outcomes and values, generously."""

SERVICE: Final = 0
"""The client of the commands that replicas propose by themselves: they have no session, and nobody is answered."""

MULTI_PARTS: Final = 10_000
"""Operations inside the MULTIs of one frame at most. They execute one by one in every replica's thread, some µs
each; without a bound one frame could hold millions and stop the cluster for half a minute."""


class Bounds(NamedTuple):
    """What the execution of a payload may come to, in bytes; part of the payload, so that it is the same everywhere.

    value    a value that APPEND makes, at most
    results  the results of one batch's commands that write, together, and those of one MULTI that only reads
    """

    value: int
    results: int


class Limits(NamedTuple):
    """The largest things a command may hold; the same on every replica of a cluster.

    `key`, `value` and `results` (see `Bounds`) are in bytes, `pause` in milliseconds; `window` is after how many
    collections without a command a session ends.
    """

    key: int = 64 * 1024
    value: int = 1024 * 1024
    pause: int = 100
    results: int = 32 * 1024 * 1024 - REPLY_HEAD
    window: int = WINDOW

    @property
    def bounds(self) -> Bounds:
        """What goes into a payload."""
        return Bounds(self.value, self.results)


_DEFAULT_BOUNDS: Final = Limits().bounds


@dataclass(slots=True)
class Batch:
    """Commands of one client session, as columns of one length.

    `client` is the session's random 64-bit id. The commands have the request numbers `first`,
    `first + 1`, …; every request number below `acked` has been answered to the client, so results
    kept for it may go. `arguments` is None where no command of the batch has one. `generation` is how many
    collections had executed at some replica when the session began (`statemachine.sessions`).
    """

    client: int
    first: int
    acked: int
    operations: bytes
    keys: list[bytes]
    arguments: list[Argument] | None
    generation: int = 0

    def __len__(self) -> int:
        return len(self.operations)

    def part(self, start: int, stop: int) -> Batch:
        """Some consecutive commands, by position, as a batch of their own."""
        return Batch(
            self.client,
            self.first + start,
            self.acked,
            self.operations[start:stop],
            self.keys[start:stop],
            None if self.arguments is None else self.arguments[start:stop],
            self.generation,
        )


def encode_batch(
    client: int,
    first: int,
    acked: int,
    operations: bytes,
    keys: Sequence[bytes],
    arguments: Sequence[Argument] | None,
    generation: int = 0,
) -> bytes:
    """Encode a batch; the columns must have one length (`operations` decides it)."""
    encoded: bytes = msgpack.packb((client, generation, first, acked, operations, keys, arguments))
    return encoded


def decode_batch(encoded: bytes | memoryview) -> Batch:
    """Decode a batch and check its shape, column by column; what the commands hold is not checked.

    Raises:
        FrameError: the bytes are no batch.
    """
    try:
        client, generation, first, acked, operations, keys, arguments = msgpack.unpackb(encoded)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a batch: {error}") from error
    count = len(operations) if type(operations) is bytes else 0
    if not (
        count
        and type(client) is type(generation) is type(first) is type(acked) is int
        and 0 <= client < 2**64
        and 0 <= generation < 2**62
        and 0 < first < 2**63
        and 0 <= acked <= first
        and type(keys) is list
        and len(keys) == count
        and set(map(type, keys)) == ALL_BYTES
        and (arguments is None or (type(arguments) is list and len(arguments) == count))
    ):
        raise FrameError("malformed", "not a batch: columns of wrong type or length")
    return Batch(client, first, acked, operations, keys, arguments, generation)


class Heads(NamedTuple):
    """Whose commands the columns of a payload hold: for each of its batches a number in each list (see `Batch`)."""

    clients: list[int]
    generations: list[int]
    firsts: list[int]
    ackeds: list[int]
    counts: list[int]


_NO_HEADS: Final = Heads([], [], [], [], [])
_COLUMNS: Final = ("heads", "operations", "keys", "arguments", "reads", "writes")
_LARGE: Final = 512
"""Bytes a command from which on a payload is held as columns once it has executed."""


class Payload:
    """What one instance carries: joined batches, the keys they read and write, and what their execution may come to.

    Or a collection, which has no batch: the one after `generation` others (`statemachine.sessions`); for `base` see
    `protocol.command.Command`. One after which the configuration `follows` is a barrier (protocol 6.3).

    `operations`, `keys` and `arguments` are the columns of all batches, one after the other; `heads` tells which part
    is whose. `reads` and `writes` may name a key twice; a key that is both read and written may stand in both. `bounds`
    are those of the replica that proposed it. They travel with it because replicas that executed it under bounds of
    their own would differ for ever once these were raised between two starts. None stands for those of whoever executes
    it.

    Raises:
        FrameError: a batch that `check_batch` would refuse holds a MULTI, PREPARE or RESOLVE of wrong shape.
    """

    __slots__ = (
        "_encoded",
        "arguments",
        "base",
        "bounds",
        "follows",
        "generation",
        "heads",
        "is_plain",
        "keys",
        "operations",
        "reads",
        "reads_all",
        "size",
        "writes",
        "writes_all",
    )

    def __init__(
        self,
        heads: Heads,
        columns: tuple[bytes, list[bytes], list[Argument] | None],
        encoded: bytes,
        bounds: Bounds | None = None,
        generation: int = 0,
        base: Vector | None = None,
        follows: Configuration | None = None,
    ) -> None:
        self.heads = heads
        self.operations, self.keys, self.arguments = columns
        self.bounds = bounds
        self._encoded: bytes | None = encoded
        self.size = len(encoded)
        self.generation = generation
        self.base = base
        self.follows = follows
        self.reads: Sequence[bytes]
        self.writes: Sequence[bytes]
        self.reads, self.writes = keys_touched(*columns)
        # Asked when it executes, when the arguments have gone from the processor's caches: 2 % of its time then.
        self.is_plain = is_plain(self.operations, self.arguments)
        self.reads_all = not READERS_OF_ALL.isdisjoint(self.operations)
        self.writes_all = _CLEAR in self.operations

    def __getattr__(self, name: str) -> Any:
        """A column that has been let go of; all come back."""
        if name not in _COLUMNS:
            raise AttributeError(f"a payload has no {name}")
        again = decode_payload(self.encoded)
        for column in _COLUMNS:
            setattr(self, column, getattr(again, column))
        return getattr(self, name)

    def transient(self) -> Payload:
        """See `protocol.command.Command`."""
        try:
            object.__getattribute__(self, "writes")
        except AttributeError:
            return decode_payload(self.encoded)
        return self

    @property
    def ends(self) -> bool:
        """See `protocol.command.Command`."""
        return self.follows is not None

    def __len__(self) -> int:
        return len(self.operations)

    @property
    def encoded(self) -> bytes:
        """Its bytes, as they are stored and sent."""
        return self._encoded or _encode(self.bounds, self.heads, (self.operations, self.keys, self.arguments))

    def let_go(self) -> None:
        """Be held in one form from now on: it has executed, and stays in the log, where it is hardly ever looked at.

        Columns of small values take five times the memory of their bytes; large values stand in the store too, as the
        objects that are in the columns. Whoever asks for the other form has it made again. Collections, which are
        small, stay as they are.
        """
        if self.base is not None:
            return
        if self.size > _LARGE * len(self.operations):
            self._encoded = None
        else:
            del self.heads, self.operations, self.keys, self.arguments, self.reads, self.writes

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Payload) and self._fields == other._fields)

    def __hash__(self) -> int:
        return hash((tuple(self.heads.clients), tuple(self.heads.firsts), self.generation, self.base))

    @property
    def _fields(self) -> tuple[object, ...]:
        """All that `encoded` tells."""
        return (
            self.generation,
            self.base,
            self.follows,
            self.bounds,
            self.heads,
            self.operations,
            self.keys,
            self.arguments,
        )

    def __repr__(self) -> str:
        if self.base is not None:
            what = "collection" if self.follows is None else f"barrier before epoch {self.follows.epoch}"
            return f"Payload({what} after {self.generation}, base={self.base})"
        return f"Payload({len(self)} commands, {self.size} bytes)"

    @property
    def batches(self) -> list[Batch]:
        """The batches, taken apart again; for people and checkers."""
        batches = []
        ends = accumulate(self.heads.counts)
        for end, client, generation, first, acked, count in zip(ends, *self.heads, strict=True):
            part = slice(end - count, end)
            arguments = None if self.arguments is None else self.arguments[part]
            if arguments == [None] * count:
                arguments = None
            operations, keys = self.operations[part], self.keys[part]
            batches.append(Batch(client, first, acked, operations, keys, arguments, generation))
        return batches


def make_payload(batches: Sequence[Batch], bounds: Bounds = _DEFAULT_BOUNDS) -> Payload:
    """The payload of the given batches, in their order (which is their order of execution)."""
    columns: tuple[bytes, list[bytes], list[Argument] | None]
    if len(batches) == 1:
        (only,) = batches
        columns = only.operations, only.keys, only.arguments
    else:
        arguments: list[Argument] | None = None
        if any(batch.arguments is not None for batch in batches):
            arguments = []
            for batch in batches:
                arguments += batch.arguments or repeat(None, len(batch))
        columns = (
            b"".join([batch.operations for batch in batches]),
            list(chain.from_iterable([batch.keys for batch in batches])),
            arguments,
        )
    heads = Heads(
        [batch.client for batch in batches],
        [batch.generation for batch in batches],
        [batch.first for batch in batches],
        [batch.acked for batch in batches],
        [len(batch.operations) for batch in batches],
    )
    return Payload(heads, columns, _encode(bounds, heads, columns), bounds)


def _encode(
    bounds: Bounds | None, heads: Heads, columns: tuple[bytes, list[bytes], list[Argument] | None]
) -> bytes:
    encoded: bytes = msgpack.packb((bounds, *heads, *columns))
    return encoded


def make_expirations(ended: Sequence[tuple[bytes, Generation]], bounds: Bounds) -> Payload:
    """Commands that remove values whose time is over, if they still stand; at least one."""
    keys, generations = zip(*ended, strict=True)
    operations = bytes((Operation.EXPIRE,)) * len(keys)
    return make_payload([Batch(SERVICE, 1, 0, operations, list(keys), list(map(list, generations)))], bounds)


def make_collection(generation: int, base: Vector) -> Payload:
    """A collection, the one after `generation` others; all up to `base` has executed here."""
    return _collection_of(generation, base, msgpack.packb((generation, base)))


def make_barrier(generation: int, base: Vector, follows: Configuration) -> Payload:
    """A collection with which the epoch ends; `follows` is the configuration of the next one."""
    return _collection_of(generation, base, msgpack.packb((generation, base, follows.written)), follows)


def _collection_of(
    generation: int, base: Vector, encoded: bytes, follows: Configuration | None = None
) -> Payload:
    return Payload(_NO_HEADS, (b"", [], None), encoded, None, generation, base, follows)


def decode_payload(encoded: bytes) -> Payload:
    """Decode what `make_payload` encoded.

    Raises:
        FrameError: the bytes are no payload.
    """
    try:
        first, *parts = msgpack.unpackb(encoded)
        if type(first) is int:
            return _collection(first, parts, encoded)
        *lists, operations, keys, arguments = parts
        heads = Heads._make(lists)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a payload: {error}") from error
    if type(first) is not list or list(map(type, first)) != [int, int] or not _are_heads(heads):
        raise FrameError("malformed", "not a payload: bounds and heads must be numbers in range")
    if not (
        type(operations) is bytes
        and type(keys) is list
        and len(operations) == len(keys) == sum(heads.counts)
        and set(map(type, keys)) == ALL_BYTES
        and (arguments is None or (type(arguments) is list and len(arguments) == len(keys)))
    ):
        raise FrameError("malformed", "not a payload: columns of wrong type or length")
    return Payload(heads, (operations, keys, arguments), encoded, Bounds(*first))


def _are_heads(heads: Heads) -> bool:
    """Whether these are columns of one length, at least 1, of numbers as `decode_batch` takes them."""
    if set(map(type, heads)) != {list} or len(set(map(len, heads))) != 1 or not heads.clients:
        return False
    clients, generations, firsts, ackeds, counts = heads
    return (
        set(map(type, chain.from_iterable(heads))) == _ONLY_INTEGERS
        and 0 <= min(clients) <= max(clients) < 2**64
        and 0 <= min(generations) <= max(generations) < 2**62
        and 0 < min(firsts) <= max(firsts) < 2**63
        and min(ackeds) >= 0
        and all(map(le, ackeds, firsts))
        and min(counts) > 0
    )


def _collection(generation: int, parts: list[object], encoded: bytes) -> Payload:
    base, follows = (*parts, None)[:2] if len(parts) in (1, 2) else (None, None)
    if (
        type(base) is list
        and set(map(type, base)) == _ONLY_INTEGERS
        and all(-1 <= slot < 2**62 for slot in base)
        and 0 <= generation < 2**62
    ):
        try:
            following = None if len(parts) == 1 else make_configuration(follows)
        except (TypeError, ValueError) as error:
            raise FrameError("malformed", f"not a barrier: {error}") from error
        return _collection_of(generation, tuple(base), encoded, following)
    raise FrameError("malformed", "not a collection: a count and a vector are expected")
