"""A checkpoint as rows of bytes, in the order of their keys.

| key | value |
|-|-|
| `M` | `Meta`: first, since it says of which epoch the others are |
| `i` + column + checkpoint + block | keys, and the slots that a column of the core has of them (`Core.recall`) |
| `v` + checkpoint + block | keys and their values, nil for one that has gone |
| `s` + client | the client's session |
| `a` + instance | a decided instance above `executed` that has executed |

What is there by key comes in *blocks*: a checkpoint adds those of what has changed since the one before, under its own
number, and of two entries of one key the later counts. A row a key took thirty times as much of the Replica's thread
(decision 0022). Index and value stand apart because they change for different reasons: a read, or an annulled command,
changes what is remembered of a key and leaves the value alone, of which nobody knows any more what it was at the cut.
And so do the columns of the index: what an instance leaves as it is of a key need not be looked up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from struct import Struct, pack, unpack
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgpack

from epaxos.errors import StorageError
from epaxos.protocol.ids import InstanceId, Slot, Vector
from epaxos.protocol.membership import Configuration
from epaxos.statemachine.expiry import Expiring, pack_values, unpack_values
from epaxos.storage.journal import read_configuration, rows_of

Row: TypeAlias = tuple[bytes, bytes]
Change: TypeAlias = "tuple[bytes, bytes | None]"
"""A row to put, or with None to remove."""

Item = TypeVar("Item")

ENTRY, INDEX, META, SESSION, VALUE = b"a", b"i", b"M", b"s", b"v"
"""What the key of a row begins with."""

BLOCK_BYTES: Final = 256 * 1024
"""Of what is in a block; one key with its value may be more."""

_BLOCK: Final = Struct(">QI")
_COLUMN: Final = Struct(">H")
_CLIENT: Final = Struct(">Q")
_PLACE: Final = Struct(">HQ")
_ALL_BYTES: Final = {bytes}
_VALUES: Final = {bytes, Expiring, type(None)}
_UNREADABLE: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)


class Meta(NamedTuple):
    """What is known of a checkpoint as a whole.

    configuration  of the epoch in which it is a cut
    executed       up to where each row had executed
    vectors        what the core remembers of whole rows (`Core.vectors`), or nothing
    generation     how many collections had executed (`statemachine.sessions`)
    """

    configuration: Configuration
    executed: Vector
    vectors: Sequence[Vector] = ()
    generation: int = 0


def block_key(kind: bytes, checkpoint: int, block: int) -> bytes:
    """The key of the row of a block, the `block`th that the `checkpoint`th checkpoint wrote."""
    return kind + _BLOCK.pack(checkpoint, block)


def checkpoint_of_block(key: bytes) -> int:
    """Which checkpoint wrote a block, by the key of its row.

    Raises:
        StorageError: it is the key of no block.
    """
    start = 1 + _COLUMN.size * key.startswith(INDEX)
    if len(key) != start + _BLOCK.size:
        raise StorageError(f"the checkpoint has a block with the key {key[:40].hex()}, which is none")
    checkpoint: int = _BLOCK.unpack_from(key, start)[0]
    return checkpoint


def index_kind(column: int) -> bytes:
    """What the keys of the blocks of a column of the index begin with."""
    return INDEX + _COLUMN.pack(column)


def column_of_block(key: bytes) -> int:
    """Of which column a block of the index is, by the key of its row."""
    column: int = _COLUMN.unpack_from(key, 1)[0]
    return column


def in_blocks(items: Iterable[Item], size: int, weigh: Callable[[list[Item]], int]) -> Iterator[list[Item]]:
    """Items by at most `size`, and by `BLOCK_BYTES` of what `weigh` says if there is more than one."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield from _halved(some, weigh)


def _halved(some: list[Item], weigh: Callable[[list[Item]], int]) -> Iterator[list[Item]]:
    if len(some) == 1 or weigh(some) <= BLOCK_BYTES:
        yield some
    else:
        middle = len(some) // 2
        yield from _halved(some[:middle], weigh)
        yield from _halved(some[middle:], weigh)


def index_block(keys: Sequence[bytes], slots: Sequence[Slot]) -> bytes:
    """What a column has of some keys, at least one."""
    encoded: bytes = msgpack.packb((keys, pack(f">{len(keys)}q", *slots)))
    return encoded


def read_index(blob: bytes) -> tuple[list[bytes], Sequence[Slot]]:
    """The keys and slots of a block.

    Raises:
        StorageError: it is none.
    """
    try:
        keys, packed = msgpack.unpackb(blob)
        return keys, unpack(f">{_check_keys(keys)}q", packed)
    except (*_UNREADABLE, struct.error) as error:
        raise StorageError(f"what the checkpoint's index has of keys cannot be read: {error}") from error


def value_block(keys: Sequence[bytes], values: Sequence[bytes | None]) -> bytes:
    """Some keys, at least one, and their values; None for one that has gone."""
    return pack_values(keys, values)


def read_values(blob: bytes) -> tuple[list[bytes], list[bytes | None]]:
    """The keys and values of a block.

    Raises:
        StorageError: it is none.
    """
    try:
        keys, values = unpack_values(blob)
        if len(values) != _check_keys(keys) or not set(map(type, values)) <= _VALUES:
            raise ValueError("columns of wrong type or length")
    except _UNREADABLE as error:
        raise StorageError(f"values of the checkpoint cannot be read: {error}") from error
    return keys, values


def _check_keys(keys: Any) -> int:
    """How many keys there are."""
    if type(keys) is not list or set(map(type, keys)) != _ALL_BYTES:
        raise ValueError("no keys")
    return len(keys)


def session_row(row: Sequence[Any]) -> Change:
    """The row of a session, in the form of `Sessions.take`; one that has gone has no more than its client."""
    return SESSION + _CLIENT.pack(row[0]), msgpack.packb(row) if len(row) > 1 else None


def read_session(blob: bytes) -> Any:
    """What `session_row` encoded.

    Raises:
        StorageError: it is something else.
    """
    try:
        return msgpack.unpackb(blob)
    except _UNREADABLE as error:
        raise StorageError(f"a session of the checkpoint cannot be read: {error}") from error


def entry_key(place: InstanceId) -> bytes:
    """The key of the row of an instance."""
    return ENTRY + _PLACE.pack(*place)


def meta_row(meta: Meta) -> Change:
    """The row of what is known of the whole."""
    return META, msgpack.packb((meta.configuration.written, *meta[1:]))


def read_meta(blob: bytes) -> Meta:
    """What `meta_row` encoded.

    Raises:
        StorageError: it is something else.
    """
    try:
        fields, executed, vectors, generation = msgpack.unpackb(blob)
        configuration = read_configuration(fields)
        rows = rows_of(configuration)
        if all(_is_vector(vector, rows) for vector in (executed, *vectors)) and _is_slot(generation):
            return Meta(configuration, tuple(executed), tuple(map(tuple, vectors)), generation)
    except _UNREADABLE as error:
        raise StorageError(f"the checkpoint's frontier cannot be read: {error}") from error
    raise StorageError(f"the checkpoint's frontier is not one of {rows} rows")


def _is_vector(field: object, n: int) -> bool:
    return type(field) is list and len(field) == n and all(map(_is_slot, field))


def _is_slot(field: object) -> bool:
    return type(field) is int and field >= -1
