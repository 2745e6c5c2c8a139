"""What answers mean in Python: results, or what is raised instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from epaxos.client.commands import Op, T, name_of, parts_of, read_value
from epaxos.client.reading import Look
from epaxos.client.results import CasResult, Cleared, MultiAborted, Page
from epaxos.config.kinds import show
from epaxos.errors import Locked, OperationFailed, SessionExpired, Untold
from epaxos.statemachine.operations import OF_TRANSACTIONS, Operation, Outcome
from epaxos.statemachine.reading import Reading

_DONE: Final = int(Outcome.DONE)
_NOT_FOUND: Final = int(Outcome.NOT_FOUND)

_REASONS: Final[Mapping[int, str]] = {
    Outcome.COMPARE_FAILED: "the value found is not the expected one",
    Outcome.NOT_A_NUMBER: "the value found is not a 64-bit integer in decimal digits",
    Outcome.OUT_OF_RANGE: "the result would be outside -2**63 to 2**63 - 1",
    Outcome.TOO_LARGE: "the result would be longer than the cluster allows: a value `max_value`, what a call "
    "returns `max_frame`",
    Outcome.ABORTED: "the replicas found it malformed",
}


def decode(op: Op[T], outcome: int, value: object) -> T:
    """The result of a command that was answered with `outcome` and `value`.

    Raises:
        OperationFailed: the command failed, as its operation defines.
        Untold: the replica did not say.
        Undecodable: the codec cannot read the value.
    """
    special = _SPECIAL.get(op.operation)
    if special is not None:
        return cast("T", special(op, outcome, value))
    if outcome != _DONE:
        _fail(op, outcome, value)
    return cast("T", value)  # the replica's table of results gives the type


def _decode_value(op: Op, outcome: int, value: Any) -> Any:
    if outcome > _NOT_FOUND:
        _fail(op, outcome, value)
    if op.argument == Reading.BEHIND:  # or the log has told the value alone
        value, behind = value if isinstance(value, list) else (value, 0)
        return Look(read_value(op, value), behind)
    if op.argument == Reading.AGED:
        value, age = value if isinstance(value, list) else (value, 0)
        return Look(read_value(op, value), age=None if age is None else age / 1000)
    return read_value(op, value)


def _decode_found(op: Op, outcome: int, value: object) -> bool:
    if outcome > _NOT_FOUND:
        _fail(op, outcome, value)
    return outcome == _DONE


def _decode_cas(op: Op, outcome: int, value: Any) -> CasResult[Any]:
    if outcome == _DONE:
        _, new = cast("tuple[bytes | None, bytes | None]", op.argument)
        return CasResult(swapped=True, current=read_value(op, new))
    if outcome != Outcome.COMPARE_FAILED:
        _fail(op, outcome, value)
    return CasResult(swapped=False, current=read_value(op, value))


def _decode_page(op: Op, outcome: int, value: Any) -> Page[Any]:
    if outcome != _DONE:
        _fail(op, outcome, value)
    keys, values, more = value
    return Page(keys, None if values is None else [read_value(op, one) for one in values], more)


def _decode_cleared(op: Op, outcome: int, value: Any) -> Cleared:
    if outcome != _DONE:
        _fail(op, outcome, value)
    return Cleared(*value)


def _as_it_came(_: Op, outcome: int, value: Any) -> list[Any]:
    """Of a command of a transaction, whatever it came to: `groups.transaction` makes sense of it."""
    return [outcome, value]


def _decode_multi(op: Op, outcome: int, value: Any) -> list[Any]:
    parts = parts_of(op)
    if outcome not in (_DONE, Outcome.ABORTED) or not _are_columns(value, len(parts)):
        _fail(op, outcome, value)
    return decode_parts(parts, *value)


def decode_parts(parts: Sequence[Op[T]], outcomes: bytes, values: Sequence[object]) -> list[T]:
    """What each operation of a multi returns.

    Raises:
        MultiAborted: one of them failed.
    """
    for position, (part, failure) in enumerate(zip(parts, outcomes, strict=True)):
        if failure in _REASONS:
            text = f"operation {position}, {_describe(part)}, failed: {_REASONS[failure]}"
            raise MultiAborted(f"multi aborted and changed nothing: its {text}", position, failure)
    return [decode(*part) for part in zip(parts, outcomes, values, strict=True)]


def _are_columns(value: object, count: int) -> bool:
    return (
        type(value) is list
        and len(value) == 2
        and type(value[0]) is bytes
        and type(value[1]) is list
        and len(value[0]) == len(value[1]) == count
    )


_SPECIAL: Final[Mapping[int, Callable[[Op, int, object], object]]] = {
    Operation.READ: _decode_value,
    Operation.WRITEREAD: _decode_value,
    **dict.fromkeys((Operation.EXISTS, Operation.DELETE, Operation.SETTTL, Operation.PERSIST), _decode_found),
    Operation.CAS: _decode_cas,
    Operation.MULTI: _decode_multi,
    Operation.SCAN: _decode_page,
    Operation.CLEAR: _decode_cleared,
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
