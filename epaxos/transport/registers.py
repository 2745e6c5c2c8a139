"""Messages and cells of registers as bytes: msgpack arrays, read field by field and refused as a whole.

A result of a change that a register remembers (`Once`) is None, a boolean, an integer of 64 bits, bytes, text, or a
tuple of such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias, get_type_hints

import msgpack

from epaxos.errors import FrameError
from epaxos.protocol.registers import values
from epaxos.protocol.registers.upkeep import Configure, Settled
from epaxos.protocol.registers.values import COUNTER_MAX, Ballot, Cell, Configuration, Once, State, Told

_Reader: TypeAlias = Callable[[Any], Any]

ID_MAX: Final = 2**31 - 1
"""Of acceptors and proposers."""

_INT64: Final = range(-(2**63), 2**64)


def malformed(text: str) -> NoReturn:
    """Refuse bytes that are no message.

    Raises:
        FrameError: always.
    """
    raise FrameError("malformed", text)


def _bytes(found: Any) -> bytes:
    return found if type(found) is bytes else malformed(f"found {type(found).__name__}, not bytes")


def _flag(found: Any) -> bool:
    return found if type(found) is bool else malformed(f"found {type(found).__name__}, not a boolean")


def _whole(found: Any, below: int) -> int:
    return (
        found
        if type(found) is int and 0 <= found < below
        else malformed(f"{str(found)[:40]} is no such number")
    )


def _count(found: Any) -> int:
    return _whole(found, COUNTER_MAX)


def _row(found: Any, length: int) -> Sequence[Any]:
    if type(found) is list and len(found) == length:
        return found
    return malformed(f"found {type(found).__name__}, not {length} fields")


def _ballot(found: Any) -> Ballot:
    counter, proposer = _row(found, 2)
    return Ballot(_count(counter), _whole(proposer, ID_MAX + 1))


def _result(found: Any) -> Any:
    if found is None or type(found) in (bool, bytes, str) or (type(found) is int and found in _INT64):
        return found
    if type(found) is list:
        return tuple(map(_result, found))  # msgpack has seen to it that this ends
    return malformed(f"a result may not be {type(found).__name__}")


def _once(found: Any) -> Once:
    client, number, result = _row(found, 3)
    return Once(_whole(client, 2**64), _count(number), _result(result))


def _many(found: Any, reader: _Reader) -> tuple[Any, ...]:
    return tuple(map(reader, found)) if type(found) is list else malformed("found no list")


def _state(found: Any) -> State:
    value, once = _row(found, 2)
    return State(None if value is None else _bytes(value), _many(once, _once))


def _ids(found: Any) -> tuple[int, ...]:
    return _many(found, lambda id_: _whole(id_, ID_MAX + 1))


def _configuration(found: Any) -> Configuration:
    version, prepare, accept = _row(found, 3)
    return Configuration(_count(version), _ids(prepare), _ids(accept))


def _ballots(found: Any) -> tuple[Ballot, ...]:
    return _many(found, _ballot)


def _keys(found: Any) -> tuple[bytes, ...]:
    return _many(found, _bytes)


def _told(found: Any) -> Told:
    key, accepted, state = _row(found, 3)
    return Told(_bytes(key), _ballot(accepted), _state(state))


def _all_told(found: Any) -> tuple[Told, ...]:
    return _many(found, _told)


_READERS: Final[dict[Any, _Reader]] = {
    Ballot: _ballot,
    Configuration: _configuration,
    State: _state,
    bool: _flag,
    bytes: _bytes,
    int: _count,
    tuple[bytes, ...]: _keys,
    tuple[int, ...]: _ids,
    tuple[Ballot, ...]: _ballots,
    tuple[Told, ...]: _all_told,
}
"""How a field is read, by its type as the class says it."""

_KINDS: Final[dict[int, Any]] = {
    1: values.Prepare,
    2: values.Accept,
    3: values.Peek,
    4: values.Remove,
    5: values.List,
    6: Configure,
    7: values.Scan,
    8: values.Follow,
    11: values.Promise,
    12: values.Accepted,
    13: values.Conflict,
    14: values.Seen,
    15: values.Removed,
    16: values.Listed,
    17: Settled,
    18: values.Scanned,
    19: values.Followed,
    21: Cell,
    22: Configuration,
}
"""The first field of everything. Never reuse a number."""

_CODES: Final = {kind: code for code, kind in _KINDS.items()}
_FIELDS: Final = {
    code: [_READERS[hint] for hint in get_type_hints(kind).values()] for code, kind in _KINDS.items()
}
NAMES: Final = {kind.__name__ for code, kind in _KINDS.items() if code < 21}
"""The messages by their names."""


def encode(message: Any) -> bytes:
    """A request, an answer, a cell or a configuration as bytes."""
    packed: bytes = msgpack.packb([_CODES[type(message)], *message])
    return packed


def decode(data: bytes) -> Any:
    """What was encoded.

    Raises:
        FrameError: it is nothing of that kind.
    """
    try:
        found = msgpack.unpackb(data)
    except Exception as error:  # noqa: BLE001 - msgpack raises many kinds for what is no msgpack
        raise FrameError("malformed", f"no message of registers: {type(error).__name__}") from None
    if type(found) is not list or not found:
        malformed("no message of registers")
    code, *fields = found
    readers = _FIELDS.get(code) if type(code) is int else None
    if readers is None or len(readers) != len(fields):
        malformed("no message of registers")
    return _KINDS[code](*(reader(item) for reader, item in zip(readers, fields, strict=True)))
