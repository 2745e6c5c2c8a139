"""A checkpoint as rows of bytes, in the order of their keys.

| key | value |
|-|-|
| `i` + key | what the core remembers of the key: numbers of 64 bits (`Core.recall`) |
| `v` + key | the key's value; no row if it has none |
| `s` + client | the client's session |
| `a` + instance | a decided instance above `executed` that has executed |
| `m` | `Meta` |

The first two have a row each because they change for different reasons: a read, or an annulled command, changes what is
remembered of a key and leaves the value alone, of which nobody knows any more what it was when the cut was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from epaxos.errors import StorageError
from epaxos.protocol.contract import Columns
from epaxos.protocol.ids import InstanceId, Vector

Row: TypeAlias = tuple[bytes, bytes]
Change: TypeAlias = "tuple[bytes, bytes | None]"
"""A row to put, or with None to remove."""

ENTRY, INDEX, META, SESSION, VALUE = b"a", b"i", b"m", b"s", b"v"
"""What the key of a row begins with."""

_CLIENT: Final = Struct(">Q")
_PLACE: Final = Struct(">HQ")


class Meta(NamedTuple):
    """What is known of a checkpoint as a whole.

    executed    up to where each row had executed
    vectors     what the core remembers of whole rows (`Core.vectors`), or nothing
    generation  how many collections had executed (`statemachine.sessions`)
    """

    executed: Vector
    vectors: Sequence[Vector] = ()
    generation: int = 0


def index_rows(keys: Sequence[bytes], columns: Columns) -> list[Change]:
    """The rows of what a core remembers of some keys."""
    pack = Struct(f">{len(columns)}q").pack
    return list(zip(map(INDEX.__add__, keys), map(pack, *columns), strict=True))


def check_index(width: int, blob: bytes) -> None:
    """See to it that a row holds `width` numbers.

    Raises:
        StorageError: a row of another width, as of a cluster of another size.
    """
    if len(blob) != 8 * width:
        raise StorageError(f"the checkpoint's index has {len(blob)} bytes of a key; {8 * width} are expected")


def read_index(width: int, blobs: Iterable[bytes]) -> Columns:
    """The columns of some rows that have been checked, at least one."""
    return list(zip(*map(Struct(f">{width}q").unpack, blobs), strict=True))


def value_rows(values: Iterable[tuple[bytes, bytes | None]]) -> list[Change]:
    """The rows of some values."""
    return [(VALUE + key, value) for key, value in values]


def session_row(row: Sequence[Any]) -> Change:
    """The row of a session, in the form of `Sessions.take`; one that has gone has no more than its client."""
    return SESSION + _CLIENT.pack(row[0]), msgpack.packb(row) if len(row) > 1 else None


def read_session(blob: bytes) -> object:
    """What `session_row` encoded.

    Raises:
        StorageError: it is something else.
    """
    try:
        return msgpack.unpackb(blob)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise StorageError(f"a session of the checkpoint cannot be read: {error}") from error


def entry_key(place: InstanceId) -> bytes:
    """The key of the row of an instance."""
    return ENTRY + _PLACE.pack(*place)


def meta_row(meta: Meta) -> Change:
    """The row of what is known of the whole."""
    return META, msgpack.packb(meta)


def read_meta(blob: bytes, n: int) -> Meta:
    """What `meta_row` encoded.

    Raises:
        StorageError: it is something else, or of a cluster of another size.
    """
    try:
        executed, vectors, generation = msgpack.unpackb(blob)
        if all(_is_vector(vector, n) for vector in (executed, *vectors)) and _is_slot(generation):
            return Meta(tuple(executed), tuple(map(tuple, vectors)), generation)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise StorageError(f"the checkpoint's frontier cannot be read: {error}") from error
    raise StorageError(f"the checkpoint's frontier is not one of {n} rows")


def _is_vector(field: object, n: int) -> bool:
    return type(field) is list and len(field) == n and all(map(_is_slot, field))


def _is_slot(field: object) -> bool:
    return type(field) is int and field >= -1
