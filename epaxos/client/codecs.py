"""How values that are no bytes stand in the store: `Client(codec=JSON)`, or a `Codec` of one's own.

Replicas see bytes only. Two clients of the same keys need the same codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

import msgpack

from epaxos.errors import Undecodable

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V = TypeVar(
        "V", default=bytes
    )  # a Client without more is one of bytes; to type checkers, before Python 3.13
else:
    from typing import TypeVar

    V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Codec(Generic[V]):
    """How values of a type become bytes, and bytes values.

    name     as which messages speak of it
    encode   the bytes of a value; of equal values equal ones, since `cas` compares bytes
    decode   the value of bytes; raises anything for those that are none
    numbers  whether decimal digits, which `increment` leaves, are the bytes of a value
    joins    whether the bytes of two values, one after the other, are those of a value: `append` does that
    """

    name: str
    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    numbers: bool = False
    joins: bool = False

    def __repr__(self) -> str:
        return self.name

    def write(self, name: str, value: V) -> bytes:
        """The bytes of an argument of that name.

        Raises:
            TypeError: it is None, which stands for no value, or the codec has no bytes for it.
        """
        if value is None:
            raise TypeError(
                f"{name} must not be None, which says that there is no value; delete the key instead"
            )
        try:
            return self.encode(value)
        except Exception as error:  # a codec may be anybody's
            raise TypeError(f"{name} cannot be written as {self.name}: {error}") from error

    def read(self, value: bytes) -> V:
        """The value of bytes that stand in the store.

        Raises:
            Undecodable: they are none.
        """
        try:
            return self.decode(value)
        except Exception as error:
            raise Undecodable(f"the value found is not {self.name}: {error}", value) from error


def _encode_json(value: Any) -> bytes:
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    ).encode()


def _encode_text(value: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"it is no str but {type(value).__name__}")
    return value.encode()


TEXT: Final[Codec[str]] = Codec("TEXT", _encode_text, bytes.decode, numbers=True, joins=True)
"""Strings, in UTF-8."""

JSON: Final[Codec[Any]] = Codec("JSON", _encode_json, json.loads, numbers=True)
"""What JSON can say, the keys of objects sorted. Tuples come back as lists."""

MSGPACK: Final[Codec[Any]] = Codec("MSGPACK", msgpack.packb, msgpack.unpackb)
"""What msgpack can say: bytes too. `cas` finds two maps equal that were filled in the same order."""
