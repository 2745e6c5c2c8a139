"""Changes of a register: any function of its value, or one that is named, with arguments, so that it can be sent.

A change is called by a proposer, perhaps more than once, and only the outcome is sent to acceptors. So it must be
pure; and only named ones can be proposed from afar, through nodes that know the name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.client.commands import Op
from epaxos.client.decoding import decode
from epaxos.errors import OperationFailed, Refused
from epaxos.protocol.registers.steps import keep, read
from epaxos.protocol.registers.values import State, Step
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.changes import Changes
from epaxos.statemachine.operations import KEYLESS, Operation

LIMITS: Final = Limits(pause=0)
"""Of keys and values, as a cluster has them by default."""

Function: TypeAlias = Callable[..., "bytes | None"]
"""From the value that stands, None where there is none, and the arguments, to the next one; None deletes it."""


class Change(NamedTuple):
    """A named change with its arguments."""

    name: str
    arguments: tuple[bytes | int | str, ...] = ()


class ChangeFailed(OperationFailed):
    """The change raised, or came to something that is no value: the register is as it was."""


_NAMED: Final[dict[str, Function]] = {}

_OPERATIONS: Final[dict[str, Callable[..., Op]]] = {
    "get": Op.get,
    "put": Op.put,
    "write_read": Op.write_read,
    "delete": Op.delete,
    "cas": Op.cas,
    "increment": Op.increment,
    "append": Op.append,
}
"""The operations of the key-value store, as changes with these names."""

KEEP: Final = "keep"


def change(name: str) -> Callable[[Function], Function]:
    """Let a function be proposed by this name, in every process that has it.

    Raises:
        ValueError: the name stands for something already.
    """

    def register(function: Function) -> Function:
        if name in _OPERATIONS or name == KEEP or _NAMED.setdefault(name, function) is not function:
            raise ValueError(f"there is a change {name!r} already")
        return function

    return register


def forget(name: str) -> None:
    """Undo `change`."""
    _NAMED.pop(name, None)


class Applied(NamedTuple):
    """A change, ready to be proposed.

    decode   makes what the caller gets of the result and the value that stands then
    reads    it changes nothing
    harmless  proposing it again after an unknown outcome does no harm
    """

    step: Step
    decode: Callable[[Any, bytes | None], Any]
    reads: bool = False
    harmless: bool = False


class Applier:
    """Makes steps of changes; one thread at a time may call them."""

    def __init__(self) -> None:
        self._changes = Changes(LIMITS)

    def applied(self, key: bytes, wanted: Op | Change | Function) -> Applied:
        """How a change is proposed.

        Raises:
            Refused: no register can be changed so, or nobody here knows the name.
        """
        if not 0 < len(key) <= LIMITS.key:
            raise Refused(f"the key has {len(key)} bytes; allowed: 1 to {LIMITS.key}")
        if isinstance(wanted, Change):
            return self._named(key, wanted)
        if isinstance(wanted, Op):
            return self._operation(wanted)
        return self._function(wanted, ())

    def _named(self, key: bytes, wanted: Change) -> Applied:
        name, arguments = wanted
        if name == KEEP:
            if len(arguments) != 1 or not isinstance(arguments[0], bytes):
                raise Refused("keep takes one value, bytes")
            return Applied(keep(arguments[0]), lambda result, _: result, harmless=True)
        if name in _OPERATIONS:
            try:
                return self._operation(_OPERATIONS[name](key, *arguments))
            except TypeError as error:
                raise Refused(f"{name}: {error}") from error
        if name not in _NAMED:
            known = ", ".join(sorted([KEEP, *_OPERATIONS, *_NAMED]))
            raise Refused(f"there is no change {name!r} here; there are {known}")
        return self._function(_NAMED[name], arguments)

    def _operation(self, op: Op) -> Applied:
        if op.operation in KEYLESS or op.operation >= Operation.MULTI:
            raise Refused("a register is changed by operations on one key alone")
        if op.operation == Operation.READ:
            return Applied(read, lambda result, _: result, reads=True, harmless=True)

        def step(state: State) -> tuple[State, Any]:
            value, outcome, result = self._changes.apply(op.operation, op.argument, state.value)
            return (state if value == state.value else state._replace(value=value)), (outcome, result)

        return Applied(step, lambda result, _: decode(op, *result))

    def _function(self, function: Function, arguments: Sequence[Any]) -> Applied:
        name = getattr(function, "__name__", "the change")

        def step(state: State) -> tuple[State, Any]:
            try:
                value = _checked(function(state.value, *arguments))
            except Exception as error:  # noqa: BLE001 - a user's function may raise anything; the register stays
                return state, f"{name} raised {type(error).__name__}: {error}"[:500]
            return state._replace(value=value), None

        def result(failure: str | None, value: bytes | None) -> bytes | None:
            if failure is not None:
                raise ChangeFailed(f"{failure}; nothing was changed")
            return value

        return Applied(step, result)


def _checked(value: object) -> bytes | None:
    if value is not None and type(value) is not bytes:
        raise TypeError(f"a register holds bytes or None, not {type(value).__name__}")
    if value is not None and len(value) > LIMITS.value:
        raise ValueError(f"the value would have {len(value)} bytes; allowed: up to {LIMITS.value}")
    return value
