"""What may be asked of the store, and what its answers mean in Python.

`Op.get(key)`, `Op.put(key, value)`, … make commands, and check what can be checked before anything is sent.
`decode` turns the outcome and value of an answer into a result, or raises `OperationFailed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, cast

from epaxos.config.kinds import show
from epaxos.errors import ClientError, Locked, OperationFailed, Refused, SessionExpired, Untold
from epaxos.statemachine.batch import Argument
from epaxos.statemachine.operations import (
    INTEGER_MAX,
    INTEGER_MIN,
    KEYLESS,
    OF_TRANSACTIONS,
    Operation,
    Outcome,
)

_READ: Final = int(Operation.READ)
_MULTI: Final = int(Operation.MULTI)
_DONE: Final = int(Outcome.DONE)
_NOT_FOUND: Final = int(Outcome.NOT_FOUND)

_NAMES: Final[Mapping[int, str]] = {
    Operation.NULL: "null",
    Operation.READ: "get",
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
}

_REASONS: Final[Mapping[int, str]] = {
    Outcome.COMPARE_FAILED: "the value found is not the expected one",
    Outcome.NOT_A_NUMBER: "the value found is not a 64-bit integer in decimal digits",
    Outcome.OUT_OF_RANGE: "the result would be outside -2**63 to 2**63 - 1",
    Outcome.TOO_LARGE: "the result would be longer than the cluster allows: a value `max_value`, what a call "
    "returns `max_frame`",
    Outcome.ABORTED: "the replicas found it malformed",
}

_OVERHEAD: Final = 16
"""Bytes on the wire, at most, of a command beside its key and argument, or of an element of its argument."""


class CasResult(NamedTuple):
    """What a compare-and-swap did.

    `swapped` says whether the value was the expected one and has been replaced; `current` is the value that
    stands there now: the new one if swapped, else the one found, None where there is none.
    """

    swapped: bool
    current: bytes | None


Reply: TypeAlias = "bytes | int | bool | CasResult | list[Reply] | None"
"""What a command returns: as the method of the client of the same name."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one command of a bulk call came to: `value` as its method returns it, or the `error`."""

    value: Reply = None
    error: ClientError | None = None

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.error is None

    def unwrap(self) -> Reply:
        """The value.

        Raises:
            ClientError: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self.value


class MultiAborted(OperationFailed):
    """A multi of which one operation failed; none of its operations changed anything.

    `part` is the position of the first operation that failed, `outcome` how it failed (an `Outcome`).
    """

    def __init__(self, text: str, part: int, outcome: int) -> None:
        super().__init__(text)
        self.part = part
        self.outcome = outcome


class Op(NamedTuple):
    """A command, as it will stand on the wire; made by the functions below, which check it.

    All of them raise `TypeError` for an argument of a wrong type and `Refused` for one that no replica takes.
    """

    operation: int
    key: bytes
    argument: Argument

    @staticmethod
    def get(key: bytes) -> Op:
        """Read the value of a key; None where there is none."""
        return Op(_READ, _key(key), None)

    @staticmethod
    def put(key: bytes, value: bytes) -> Op:
        """Set the value of a key."""
        return Op(2, _key(key), _bytes("value", value))

    @staticmethod
    def write_read(key: bytes, value: bytes) -> Op:
        """Set the value of a key; the result is the value before, None where there was none."""
        return Op(3, _key(key), _bytes("value", value))

    @staticmethod
    def delete(key: bytes) -> Op:
        """Remove a key; the result says whether there was one."""
        return Op(4, _key(key), None)

    @staticmethod
    def cas(key: bytes, expected: bytes | None, new: bytes) -> Op:
        """Set the value of a key if it is `expected` (None: there is none); the result is a `CasResult`."""
        if expected is not None:
            _bytes("expected", expected)
        return Op(5, _key(key), [expected, _bytes("new", new)])

    @staticmethod
    def increment(key: bytes, amount: int = 1) -> Op:
        """Add to the number under a key (absent counts as 0); the result is the new number."""
        return Op(6, _key(key), _integer("amount", amount, INTEGER_MIN, INTEGER_MAX))

    @staticmethod
    def append(key: bytes, suffix: bytes) -> Op:
        """Add bytes to the end of a value (absent counts as empty); the result is the new length."""
        return Op(7, _key(key), _bytes("suffix", suffix))

    @staticmethod
    def pause(milliseconds: int) -> Op:
        """Make every replica that executes this sleep; for tests. `max_pause` is the longest."""
        return Op(8, b"", _integer("milliseconds", milliseconds, 0, INTEGER_MAX))

    @staticmethod
    def null() -> Op:
        """Do nothing, but be ordered and executed like any command."""
        return Op(0, b"", None)

    @staticmethod
    def multi(operations: Iterable[Op]) -> Op:
        """Execute operations on any keys as one, all or nothing; the result lists their results.

        Each sees what those before it did. A failed cas, increment or append aborts the whole; a get or
        delete that finds nothing does not.
        """
        parts = as_operations(operations)
        if not parts:
            raise Refused("multi needs at least one operation")
        for position, part in enumerate(parts):
            if part.operation in KEYLESS or part.operation in OF_TRANSACTIONS:
                raise Refused(f"multi may not hold {name_of(part.operation)} (its operation {position})")
        kinds, keys, arguments = zip(*parts, strict=True)
        return Op(9, b"", [bytes(kinds), list(keys), list(arguments)])


def as_operations(operations: Iterable[Op]) -> list[Op]:
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


def weigh(key: bytes, argument: Argument) -> int:
    """How many bytes a command adds to a frame, at most."""
    if argument.__class__ is bytes:
        return len(key) + len(argument) + _OVERHEAD
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
        return kinds.count(_READ) == len(kinds)
    return kind == _READ or not kind


def name_of(operation: int) -> str:
    """What the methods of a client call an operation."""
    return _NAMES.get(operation) or f"operation {operation}"


def decode(op: Op, outcome: int, value: object) -> Reply:
    """The result of a command that was answered with `outcome` and `value`.

    Raises:
        OperationFailed: the command failed, as its operation defines.
        Untold: the replica did not say.
    """
    special = _SPECIAL.get(op.operation)
    if special is not None:
        return special(op, outcome, value)
    if outcome != _DONE:
        _fail(op, outcome, value)
    return value  # type: ignore[return-value]  # the replica's table of results gives the type


def _decode_read(op: Op, outcome: int, value: object) -> Reply:
    if outcome > _NOT_FOUND:
        _fail(op, outcome, value)
    return value  # type: ignore[return-value]  # bytes, or None where nothing was found


def _decode_delete(op: Op, outcome: int, value: object) -> Reply:
    if outcome > _NOT_FOUND:
        _fail(op, outcome, value)
    return outcome == _DONE


def _decode_cas(op: Op, outcome: int, value: Any) -> Reply:
    if outcome == _DONE:
        _, new = cast("tuple[bytes | None, bytes]", op.argument)
        return CasResult(swapped=True, current=new)
    if outcome != Outcome.COMPARE_FAILED:
        _fail(op, outcome, value)
    return CasResult(swapped=False, current=value)


def _as_it_came(_: Op, outcome: int, value: Any) -> Reply:
    """Of a command of a transaction, whatever it came to: `groups.transaction` makes sense of it."""
    return [outcome, value]


def _decode_multi(op: Op, outcome: int, value: Any) -> Reply:
    parts = parts_of(op)
    if outcome not in (_DONE, Outcome.ABORTED) or not _are_columns(value, len(parts)):
        _fail(op, outcome, value)
    return decode_parts(parts, *value)


def decode_parts(parts: Sequence[Op], outcomes: bytes, values: Sequence[object]) -> list[Reply]:
    """What each operation of a multi returns.

    Raises:
        MultiAborted: one of them failed.
    """
    for position, (part, failure) in enumerate(zip(parts, outcomes, strict=True)):
        if failure in _REASONS:
            text = f"operation {position}, {_describe(part)}, failed: {_REASONS[failure]}"
            raise MultiAborted(f"multi aborted and changed nothing: its {text}", position, failure)
    return [decode(*part) for part in zip(parts, outcomes, values, strict=True)]


def parts_of(multi: Op) -> list[Op]:
    """The operations of a multi."""
    kinds, keys, arguments = cast("tuple[bytes, list[bytes], list[Argument]]", multi.argument)
    return list(map(Op, kinds, keys, arguments))


def _are_columns(value: object, count: int) -> bool:
    return (
        type(value) is list
        and len(value) == 2
        and type(value[0]) is bytes
        and type(value[1]) is list
        and len(value[0]) == len(value[1]) == count
    )


_SPECIAL: Final[Mapping[int, Callable[[Op, int, object], Reply]]] = {
    Operation.READ: _decode_read,
    Operation.DELETE: _decode_delete,
    Operation.CAS: _decode_cas,
    Operation.MULTI: _decode_multi,
    **dict.fromkeys(OF_TRANSACTIONS, _as_it_came),
}


def _fail(op: Op, outcome: int, value: object) -> NoReturn:
    if outcome == Outcome.LOCKED:
        record, groups = cast("tuple[bytes, list[tuple[bytes, int]]]", value)
        raise Locked(
            f"{_describe(op)} changed nothing: a transaction across groups has locked the key; a GroupClient ends it",
            record,
            dict(groups),
        )
    if outcome == Outcome.FORGOTTEN:
        raise Untold(
            f"{_describe(op)} was executed, but its answer was lost, and replicas do not keep its result any more: "
            "too much else was under way without an answer"
        )
    if outcome == Outcome.EXPIRED:
        raise SessionExpired(
            f"{_describe(op)} came so late that replicas had forgotten the session; an earlier try may have executed"
        )
    if outcome not in _REASONS:
        raise Untold(f"{_describe(op)} was executed, but the answer, outcome {outcome}, makes no sense here")
    raise OperationFailed(f"{_describe(op)} failed and changed nothing: {_REASONS[outcome]}")


def _describe(op: Op) -> str:
    name = name_of(op.operation)
    return f"{name} of {_shown(op.key)}" if op.key else name


def _shown(key: bytes) -> str:
    """A key in a message: as text in quotes, or as hexadecimal digits where it is none."""
    try:
        return show(key.decode())
    except UnicodeDecodeError:
        return "0x" + key[:32].hex() + ("…" if len(key) > 32 else "")


def _key(key: bytes) -> bytes:
    if type(key) is bytes and key:
        return key
    _bytes("key", key)
    raise Refused("the key is empty; it needs at least 1 byte")


def _bytes(name: str, value: object) -> bytes:
    if type(value) is bytes:
        return value
    hint = "; encode it first: text.encode()" if isinstance(value, str) else ""
    raise TypeError(f"{name} must be bytes, not {_type(value)}{hint}")


def _integer(name: str, value: object, lowest: int, highest: int) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int, not {_type(value)}")
    if not lowest <= value <= highest:
        raise Refused(f"{name} is {value}; allowed: {lowest} to {highest}")
    return value


def _type(value: object) -> str:
    return type(value).__name__
