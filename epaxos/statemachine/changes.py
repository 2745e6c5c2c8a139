"""The operations of the key-value store on one value by itself: what registers are changed by."""

from __future__ import annotations

from typing import Final

from epaxos.statemachine.batch import Limits
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.results import Value
from epaxos.statemachine.store import Store

_KEY: Final = b"v"


class Changes:
    """Applies operations to values, each in a store that holds nothing else. One thread at a time may use it."""

    def __init__(self, limits: Limits) -> None:
        self._store = Store(limits, sleep=_do_not)

    def apply(
        self, operation: int, argument: Argument, value: bytes | None
    ) -> tuple[bytes | None, int, Value]:
        """The value after an operation, its outcome (an `Outcome`) and its result. Nothing raises."""
        store = self._store
        store.put(_KEY, value)
        store.begin(None)
        outcomes, values = store.execute(bytes((operation,)), (_KEY,), (argument,))
        return store.copy().get(_KEY), outcomes[0], None if values is None else values[0]


def _do_not(_: float) -> None:
    """A PAUSE is for replicas."""
