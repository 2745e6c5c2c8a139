"""Which keys executed commands have changed, or set anew: what WATCH notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final

from epaxos.doors.gate import Executed
from epaxos.statemachine.batch import multi_columns, resolved_keys
from epaxos.statemachine.operations import READERS, Operation, Outcome
from epaxos.statemachine.results import Value

_SILENT: Final = READERS | {Operation.NULL, Operation.PAUSE, Operation.EXPIRE}
"""Change nothing, or what is found out otherwise: that a key has ended shows when it is read."""


def touched_by(executed: Executed) -> Iterator[bytes]:
    """The keys, some perhaps more than once."""
    arguments = executed.arguments or repeat(None, len(executed.keys))
    values = executed.values or repeat(None, len(executed.keys))
    return _touched(executed.operations, executed.keys, arguments, executed.outcomes, values)


def _touched(
    operations: bytes,
    keys: Sequence[bytes],
    arguments: Iterable[object],
    outcomes: bytes,
    values: Iterable[Value],
) -> Iterator[bytes]:
    for operation, key, argument, outcome, value in zip(
        operations, keys, arguments, outcomes, values, strict=True
    ):
        if outcome != Outcome.DONE or operation in _SILENT:
            continue
        if operation == Operation.MULTI:
            columns = multi_columns(argument)
            if columns is not None and isinstance(value, list) and isinstance(value[0], bytes):
                yield from _touched(*columns, value[0], repeat(None, len(columns[0])))
        elif operation == Operation.RESOLVE:
            yield from resolved_keys(argument) or ()
        elif operation == Operation.CAS:
            if isinstance(argument, list) and argument[0] != argument[1]:
                yield key
        else:
            yield key
