"""The state machine: committed payloads in, results out.

Deterministic: the same payloads in the same order give the same state, results and digest on every replica.
Nothing here looks at a clock, a random number or the order of a hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from epaxos.statemachine.batch import Argument, Batch, Limits, Payload
from epaxos.statemachine.digest import DigestSource
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.sessions import BatchResult, Session, Sessions
from epaxos.statemachine.store import Store


class StateMachine:
    """The store and the sessions of one replica, owned by one thread.

    `executed` counts the commands executed, by `Operation`; `duplicates` those that were answered from
    their first execution instead. `sleep` is called with seconds when a PAUSE executes.
    """

    def __init__(self, limits: Limits, sleep: Callable[[float], None]) -> None:
        self._store = Store(limits, sleep)
        self._sessions = Sessions()
        self.executed = [0] * len(Operation)
        self.duplicates = 0

    @property
    def keys(self) -> int:
        """How many keys have a value."""
        return len(self._store)

    @property
    def sessions(self) -> int:
        """How many clients have executed a command here."""
        return len(self._sessions)

    def apply(self, payload: Payload) -> list[BatchResult]:
        """Execute the commands of a payload, in order, that have not executed before.

        Returns one result per batch, in order. It raises nothing for what a command holds: the proposer
        checked it, and what slipped through gets a failing outcome (`statemachine.store`), since an
        exception would stop all replicas at the same command.
        """
        return list(map(self._apply_batch, payload.batches))

    def digest_source(self) -> DigestSource:
        """A copy of the state from which its digest can be computed in another thread."""
        return DigestSource(self._store.copy(), self._sessions.executed())

    # -- checkpoints ---------------------------------------------------------------------------------------

    def freeze(self) -> Mapping[bytes, bytes | None]:
        """What a checkpoint of this moment has to write: the values that changed since the last call.

        None stands for a key that has gone. The sessions that changed are then to be had from `take_sessions`.
        """
        self._sessions.freeze()
        return self._store.freeze()

    def take_sessions(self, most: int) -> list[list[object]]:
        """The next of the frozen sessions, as they were when they were frozen (`Sessions.take`)."""
        return self._sessions.take(most)

    def load(self, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Take values from this replica's own checkpoint, at the start."""
        self._store.load(values)

    def load_sessions(self, rows: list[object]) -> None:
        """Take sessions from this replica's own checkpoint, at the start.

        Raises:
            FrameError: they are none.
        """
        self._sessions = Sessions.load(rows)

    def merge(self, values: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take values of a later moment from a peer's checkpoint; None for a key that has gone."""
        for key, value in values:
            self._store.put(key, value)

    def merge_sessions(self, rows: list[object]) -> None:
        """Add what a peer's checkpoint knows of sessions.

        Raises:
            FrameError: they are none.
        """
        self._sessions.merge(Sessions.load(rows))

    def _apply_batch(self, batch: Batch) -> BatchResult:
        session = self._sessions.open(batch.client)
        session.acknowledge(batch.acked)
        end = batch.first + len(batch.operations)
        if not session.claim(batch.first, end):
            return self._apply_rest(session, batch, end)
        result = self._execute(batch, batch.first, batch.operations, batch.keys, batch.arguments)
        session.keep(result)
        return result

    def _apply_rest(self, session: Session, batch: Batch, end: int) -> BatchResult:
        """Execute what is new in a batch of which some commands have executed, and answer all of it."""
        duplicates = len(batch.operations)
        for start, stop in session.missing(batch.first, end):
            session.claim(start, stop)
            part = slice(start - batch.first, stop - batch.first)
            arguments = None if batch.arguments is None else batch.arguments[part]
            session.keep(self._execute(batch, start, batch.operations[part], batch.keys[part], arguments))
            duplicates -= stop - start
        self.duplicates += duplicates
        return session.recall(batch.client, batch.first, end)

    def _execute(
        self,
        batch: Batch,
        first: int,
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Sequence[Argument] | None,
    ) -> BatchResult:
        """Execute the given columns of a batch, which begin with request number `first`."""
        self._count(operations)
        outcomes, values = self._store.execute(operations, keys, arguments)
        return BatchResult(batch.client, first, outcomes, values)

    def _count(self, operations: bytes) -> None:
        """Count commands by operation; unknown operations, which change nothing, are not counted."""
        executed = self.executed
        kind = operations[0]
        if kind < len(executed) and operations.count(kind) == len(operations):
            executed[kind] += len(operations)
            return
        for operation in range(len(executed)):
            executed[operation] += operations.count(operation)
