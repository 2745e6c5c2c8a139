"""What may be asked of the store.

`Op.get(key)`, `Op.put(key, value)`, … make commands, and check what can be checked before anything is sent.
`client.decoding` turns answers into what `client.results` has for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import repeat
from math import ceil
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast, overload

from epaxos.client.codecs import Codec, V
from epaxos.client.results import CasResult, Cleared, Page, T_co
from epaxos.errors import Refused
from epaxos.statemachine.columns import Argument, listed
from epaxos.statemachine.expiry import TTL_MAX
from epaxos.statemachine.operations import (
    INTEGER_MAX,
    INTEGER_MIN,
    KEYLESS,
    NOT_IN_MULTI,
    OF_TRANSACTIONS,
    ON_ALL,
    PAGE_KEYS,
    READERS,
    READERS_OF_ALL,
    Operation,
)
from epaxos.statemachine.reading import Reading, of_the_log, reading_of

T = TypeVar("T")
Codecs: TypeAlias = "tuple[Codec[Any] | None, ...]"

_AS_IT_IS: Final[Codecs] = (None,)
_READ: Final = int(Operation.READ)
_MULTI: Final = int(Operation.MULTI)

_NAMES: Final[Mapping[int, str]] = {
    Operation.NULL: "null",
    Operation.READ: "get",
    Operation.EXISTS: "exists",
    Operation.WRITE: "put",
    Operation.WRITEREAD: "write_read",
    Operation.DELETE: "delete",
    Operation.CAS: "cas",
    Operation.INCREMENT: "increment",
    Operation.APPEND: "append",
    Operation.PAUSE: "pause",
    Operation.MULTI: "multi",
    Operation.PREPARE: "prepare",
    Operation.VOTE: "vote",
    Operation.RESOLVE: "resolve",
    Operation.FORGET: "forget",
    Operation.APPLY: "apply",
    Operation.SETEX: "put",
    Operation.SETTTL: "expire",
    Operation.PERSIST: "persist",
    Operation.EXPIRE: "expired",
    Operation.SCAN: "scan",
    Operation.COUNT: "count",
    Operation.CLEAR: "clear",
}

_OVERHEAD: Final = 16
"""Bytes on the wire, at most, of a command beside its key and argument, or of an element of its argument."""


class Op(NamedTuple, Generic[T_co]):
    """A command, as it will stand on the wire; made by the functions below, which check it.

    `Op[int]` is one that returns an int. Values are bytes; `Ops` makes commands with others, and then `codecs` holds
    what reads the value returned: one codec, or one (or None) for each part of a multi.

    All functions raise `TypeError` for an argument of a wrong type and `Refused` for one that no replica takes.
    """

    operation: int
    key: bytes
    argument: Argument
    codecs: Codecs = ()

    def __repr__(self) -> str:
        return _written(self)

    @staticmethod
    def get(key: bytes) -> Op[bytes | None]:
        """Read the value of a key; None where there is none."""
        return Op(_READ, _key(key), None)

    @staticmethod
    def exists(key: bytes) -> Op[bool]:
        """Read whether a key has a value."""
        return Op(Operation.EXISTS, _key(key), None)

    @staticmethod
    def put(
        key: bytes, value: bytes, *, ttl: float | timedelta | None = None, keep_ttl: bool = False
    ) -> Op[None]:
        """Set the value of a key, which ends `ttl` seconds from now, or later; without it, it does not end.

        With `keep_ttl` it ends when the value before it would have, if it would.
        """
        return _put(key, as_bytes("value", value), ttl, (), keep_ttl=keep_ttl)

    @staticmethod
    def expire(key: bytes, ttl: float | timedelta) -> Op[bool]:
        """Let the value of a key end `ttl` seconds from now, or later; the result says whether there is one."""
        return Op(Operation.SETTTL, _key(key), _milliseconds(ttl))

    @staticmethod
    def persist(key: bytes) -> Op[bool]:
        """Let the value of a key not end; the result says whether there is one that would have."""
        return Op(Operation.PERSIST, _key(key), None)

    @staticmethod
    def write_read(key: bytes, value: bytes) -> Op[bytes | None]:
        """Set the value of a key; the result is the value before, None where there was none."""
        return Op(3, _key(key), as_bytes("value", value))

    @staticmethod
    def delete(key: bytes) -> Op[bool]:
        """Remove a key; the result says whether there was one."""
        return Op(4, _key(key), None)

    @staticmethod
    def cas(key: bytes, expected: bytes | None, new: bytes | None) -> Op[CasResult[bytes]]:
        """Set the value of a key if it is `expected` (None: there is none); the result is a `CasResult`.

        None as `new` removes it. If both are equal, it is only compared, and a time to live stays.
        """
        if expected is not None:
            as_bytes("expected", expected)
        if new is not None:
            as_bytes("new", new)
        return Op(5, _key(key), [expected, new])

    @staticmethod
    def expect(key: bytes, value: bytes) -> Op[CasResult[bytes]]:
        """Only compare: a `multi` with this aborts unless the value of the key is this one."""
        return Op.cas(key, value, value)

    @staticmethod
    def absent(key: bytes) -> Op[CasResult[bytes]]:
        """Only compare: a `multi` with this aborts unless there is no value."""
        return Op.cas(key, None, None)

    @staticmethod
    def increment(key: bytes, amount: int = 1) -> Op[int]:
        """Add to the number under a key (absent counts as 0); the result is the new number."""
        return Op(6, _key(key), _integer("amount", amount, INTEGER_MIN, INTEGER_MAX))

    @staticmethod
    def append(key: bytes, suffix: bytes) -> Op[int]:
        """Add bytes to the end of a value (absent counts as empty); the result is the new length."""
        return Op(7, _key(key), as_bytes("suffix", suffix))

    @staticmethod
    def pause(milliseconds: int) -> Op[None]:
        """Make every replica that executes this sleep; for tests. `max_pause` is the longest."""
        return Op(8, b"", _integer("milliseconds", milliseconds, 0, INTEGER_MAX))

    @staticmethod
    def null() -> Op[None]:
        """Do nothing, but be ordered and executed like any command."""
        return Op(0, b"", None)

    @staticmethod
    def apply(command: bytes) -> Op[bytes | None]:
        """A command of a state machine of the program's own (`epaxos.Node`); the result is its answer."""
        return Op(14, b"", as_bytes("command", command))

    @staticmethod
    def scan(
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int = 1000,
        *,
        values: bool = True,
        reverse: bool = False,
    ) -> Op[Page[bytes]]:
        """List the keys that begin with a prefix, in the order of their bytes; the result is a `Page`."""
        return Op(Operation.SCAN, *_scan(prefix, after, limit, values=values, reverse=reverse))

    @staticmethod
    def count(prefix: bytes = b"") -> Op[int]:  # type: ignore[override]  # nobody counts what is in an Op
        """How many keys begin with a prefix."""
        return Op(Operation.COUNT, as_bytes("prefix", prefix), None)

    @staticmethod
    def clear(prefix: bytes, after: bytes | None = None, limit: int = 1000) -> Op[Cleared]:
        """Remove the first keys that begin with a prefix and come after a key; the result is a `Cleared`."""
        key, (after, limit, *_) = _scan(prefix, after, limit, values=False, reverse=False)
        return Op(Operation.CLEAR, key, [after, limit])

    @staticmethod
    def multi(operations: Iterable[Op[T]]) -> Op[list[T]]:
        """Execute operations on any keys as one, all or nothing; the result lists their results.

        Each sees what those before it did. A failed cas, increment or append aborts the whole; a get or
        delete that finds nothing does not.
        """
        parts = as_operations(operations)
        if not parts:
            raise Refused("multi needs at least one operation")
        for position, part in enumerate(parts):
            if part.operation in NOT_IN_MULTI or part.operation in OF_TRANSACTIONS:
                raise Refused(f"multi may not hold {name_of(part.operation)} (its operation {position})")
        kinds, keys, arguments, codecs = zip(*parts, strict=True)
        its = tuple(one[0] if one else None for one in codecs) if any(codecs) else ()
        return Op(9, b"", [bytes(kinds), list(keys), list(arguments)], its)


class Ops(Generic[V]):
    """What `Op` makes, with values of a codec: `Ops(JSON).put(b"k", {"a": 1})`. Those of a client are its `op`.

    Without a codec, values are bytes.
    """

    __slots__ = ("_codecs", "_joins", "_numbers", "_write", "codec")

    @overload
    def __init__(self: Ops[bytes], codec: None = None) -> None: ...
    @overload
    def __init__(self, codec: Codec[V]) -> None: ...
    def __init__(self, codec: Codec[V] | None = None) -> None:
        if codec is not None and not isinstance(codec, Codec):
            raise TypeError(f"codec must be a Codec, such as epaxos.JSON, not {_type(codec)}")
        self.codec: Final = codec
        self._codecs: Codecs = () if codec is None else (codec,)
        self._write: Callable[[str, V], bytes] = as_bytes if codec is None else codec.write
        self._numbers = codec is None or codec.numbers
        self._joins = codec is None or codec.joins

    def __repr__(self) -> str:
        return "Op" if self.codec is None else f"Ops({self.codec})"

    def get(self, key: bytes) -> Op[V | None]:
        """See `Op.get`."""
        return Op(_READ, _key(key), None, self._codecs)

    def put(
        self, key: bytes, value: V, *, ttl: float | timedelta | None = None, keep_ttl: bool = False
    ) -> Op[None]:
        """See `Op.put`."""
        return _put(key, self._write("value", value), ttl, self._codecs, keep_ttl=keep_ttl)

    def write_read(self, key: bytes, value: V) -> Op[V | None]:
        """See `Op.write_read`."""
        return Op(3, _key(key), self._write("value", value), self._codecs)

    def exists(self, key: bytes) -> Op[bool]:
        """See `Op.exists`."""
        return Op.exists(key)

    def scan(
        self,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int = 1000,
        *,
        values: bool = True,
        reverse: bool = False,
    ) -> Op[Page[V]]:
        """See `Op.scan`."""
        page = _scan(prefix, after, limit, values=values, reverse=reverse)
        return Op(Operation.SCAN, *page, self._codecs)

    def delete(self, key: bytes) -> Op[bool]:
        """See `Op.delete`."""
        return Op.delete(key)

    def cas(self, key: bytes, expected: V | None, new: V | None) -> Op[CasResult[V]]:
        """See `Op.cas`."""
        before = None if expected is None else self._write("expected", expected)
        after = None if new is None else self._write("new", new)
        return Op(5, _key(key), [before, after], self._codecs)

    def expect(self, key: bytes, value: V) -> Op[CasResult[V]]:
        """See `Op.expect`."""
        return self.cas(key, value, value)

    def absent(self, key: bytes) -> Op[CasResult[V]]:
        """See `Op.absent`."""
        return self.cas(key, None, None)

    def increment(self, key: bytes, amount: int = 1) -> Op[int]:
        """See `Op.increment`; TypeError if the digits that it leaves would be no value of the codec."""
        if not self._numbers:
            raise TypeError(
                f"increment leaves decimal digits, which are no value in {self.codec}; use Op.increment"
            )
        return Op.increment(key, amount)

    def append(self, key: bytes, suffix: V) -> Op[int]:
        """See `Op.append`; TypeError if what it makes of two values would be none of the codec."""
        if not self._joins:
            raise TypeError(f"append joins bytes, which makes no value in {self.codec}; use Op.append")
        return Op(7, _key(key), self._write("suffix", suffix), self._codecs)


def as_operations(operations: Iterable[Op[T]]) -> list[Op[T]]:
    """The operations as a list.

    Raises:
        TypeError: they are not all `Op`.
    """
    if isinstance(operations, Op):
        raise TypeError("operations must be a list of Op, not one Op")
    listed = list(operations)
    for position, operation in enumerate(listed):
        if type(operation) is not Op:
            raise TypeError(f"operation {position} must be an Op like Op.get(key), not {_type(operation)}")
    return listed


def as_columns(operations: Sequence[Op]) -> tuple[bytes, list[bytes], list[Argument] | None]:
    """The columns of a batch of these commands: operations, keys, arguments (None where there are none)."""
    arguments = [operation.argument for operation in operations]
    return (
        bytes([operation.operation for operation in operations]),
        [operation.key for operation in operations],
        None if arguments.count(None) == len(arguments) else arguments,
    )


def weigh(operation: int, key: bytes, argument: Argument, most: int) -> int:
    """How many bytes a command adds to a frame, at most; of one on many keys its share of `most` bytes."""
    if argument.__class__ is bytes:
        return len(key) + len(argument) + _OVERHEAD
    if operation in ON_ALL:
        weight = len(key) + _OVERHEAD + _weigh_nested(argument)
        return max(weight, -(-most * listed(argument) // PAGE_KEYS))
    if argument is None or isinstance(argument, int):
        return len(key) + _OVERHEAD
    return len(key) + _OVERHEAD + _weigh_nested(argument)


def _weigh_nested(argument: object) -> int:
    """The same of the argument of a cas or a multi: lists in a list, two levels deep at most."""
    if isinstance(argument, list | tuple):
        return _OVERHEAD + sum(map(_weigh_nested, argument))
    return _OVERHEAD + (len(argument) if isinstance(argument, bytes) else 0)


def only_reads(op: Op) -> bool:
    """Whether a command changes nothing, so that it makes no difference whether it executed."""
    kind = op.operation
    if kind == _MULTI:
        kinds, _, _ = cast("tuple[bytes, list[bytes], list[Argument]]", op.argument)
        return READERS.issuperset(kinds)
    return kind in READERS or kind in READERS_OF_ALL or not kind


def name_of(operation: int) -> str:
    """What the methods of a client call an operation."""
    return _NAMES.get(operation) or f"operation {operation}"


def read_value(op: Op, value: bytes | None) -> Any:
    """A value that stands or stood in the store, as who asked wants it; None where there is none."""
    (codec,) = op.codecs or _AS_IT_IS
    return value if codec is None or value is None else codec.read(value)


def parts_of(multi: Op) -> list[Op]:
    """The operations of a multi."""
    kinds, keys, arguments = cast("tuple[bytes, list[bytes], list[Argument]]", multi.argument)
    codecs = [(codec,) if codec else () for codec in multi.codecs] or repeat(())
    return list(map(Op, kinds, keys, arguments, codecs))


def _written(op: Op) -> str:
    """A command as one would write it."""
    reading = reading_of(op.operation, op.argument)
    if reading:
        bare = op._replace(argument=of_the_log(op.operation, op.argument))
        return f"{_written(bare)} by {Reading(reading).name.lower()}"
    argument: Any = op.argument
    if op.operation == _MULTI:
        return f"Op.multi({parts_of(op)})"
    name = _NAMES.get(op.operation)
    if name is None or op.operation in OF_TRANSACTIONS:
        return f"Op({op.operation}, {op.key!r}, {argument!r})"
    maker = f"Ops({op.codecs[0]})" if op.codecs else "Op"
    given: list[object] = [] if op.operation in KEYLESS else [op.key]
    if op.operation == Operation.CAS:
        given += [None if value is None else read_value(op, value) for value in argument]
    elif op.operation == Operation.SETEX:
        value, ttl = argument
        return f"{maker}.put({op.key!r}, {read_value(op, value)!r}, {_written_ttl(ttl)})"
    elif op.operation == Operation.SETTTL:
        given.append(argument / 1000)
    elif op.operation in ON_ALL and argument is not None:
        names = ("after", "limit", "values", "reverse")
        how = [f"{name}={value!r}" for name, value in zip(names, argument, strict=False)]
        return f"{maker}.{name}({op.key!r}, {', '.join(how)})"
    elif argument is not None:
        given.append(read_value(op, argument) if isinstance(argument, bytes) else argument)
    return f"{maker}.{name}({', '.join(map(repr, given))})"


def _written_ttl(ttl: int | None) -> str:
    return "keep_ttl=True" if ttl is None else f"ttl={ttl / 1000!r}"


def _key(key: bytes) -> bytes:
    if type(key) is bytes and key:
        return key
    as_bytes("key", key)
    raise Refused("the key is empty; it needs at least 1 byte")


def as_bytes(name: str, value: object) -> bytes:
    """The argument of that name, which must be bytes.

    Raises:
        TypeError: it is something else.
    """
    if type(value) is bytes:
        return value
    hint = "; encode it first: text.encode()" if isinstance(value, str) else ""
    raise TypeError(f"{name} must be bytes, not {_type(value)}{hint}")


def _put(
    key: bytes, value: bytes, ttl: float | timedelta | None, codecs: Codecs, *, keep_ttl: bool
) -> Op[None]:
    if ttl is None and not keep_ttl:
        return Op(2, _key(key), value, codecs)
    if ttl is not None and keep_ttl:
        raise Refused("put takes ttl or keep_ttl, not both")
    return Op(Operation.SETEX, _key(key), [value, None if ttl is None else _milliseconds(ttl)], codecs)


def _milliseconds(ttl: float | timedelta) -> int:
    """Seconds, rounded up: nothing ends early."""
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"ttl must be seconds or a timedelta, not {_type(ttl)}")
    if not 0 < seconds <= TTL_MAX / 1000:  # false for NaN
        raise Refused(f"ttl is {seconds} s; allowed: more than 0, at most {TTL_MAX // 1000}")
    return min(ceil(seconds * 1000), TTL_MAX)


def _scan(
    prefix: bytes, after: bytes | None, limit: int, *, values: bool, reverse: bool
) -> tuple[bytes, list[Any]]:
    if after is not None:
        as_bytes("after", after)
    argument = [after, _integer("limit", limit, 1, PAGE_KEYS), bool(values), bool(reverse)]
    return as_bytes("prefix", prefix), argument


def _integer(name: str, value: object, lowest: int, highest: int) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int, not {_type(value)}")
    if not lowest <= value <= highest:
        raise Refused(f"{name} is {value}; allowed: {lowest} to {highest}")
    return value


def _type(value: object) -> str:
    return type(value).__name__
