"""The state machine: committed payloads in, results out.

Deterministic: the same payloads in the same order give the same state, results and digest on every replica.
Nothing here looks at a clock, a random number or the order of a hash.

**A read that comes again executes again.** It changes nothing, and whoever asked has not been answered yet, so a later
moment is as good as the first. So no result of a read is kept, and a small request cannot make replicas keep what
is large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import compress, islice, repeat
from typing import Final, NamedTuple

from epaxos.statemachine.batch import SERVICE, Batch, Bounds, Limits, Payload
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.columns import Argument, multi_columns, only_reads
from epaxos.statemachine.digest import DigestSource
from epaxos.statemachine.hosted import Hosted, Machine
from epaxos.statemachine.notes import Notes
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.ordered import PACE, OrderedKeys
from epaxos.statemachine.results import BatchResult, Value, as_column
from epaxos.statemachine.session import Session
from epaxos.statemachine.sessions import Budget, Sessions
from epaxos.statemachine.store import Store
from epaxos.statemachine.transactions import Transactions
from epaxos.statemachine.values import Frozen

_DEFAULT_BUDGET: Final = Budget()
_EXPIRED: Final = bytes([Outcome.EXPIRED])
_EXPIRATIONS: Final = {int(Operation.EXPIRE)}
_marked: Final = re.compile(rb"\x01+").finditer


class Run(NamedTuple):
    """What the batches of a payload from position `start` up to, not including, `stop` came to, as columns.

    `values` is None if all are None; never change it: a session or the store may keep the same objects.
    """

    start: int
    stop: int
    outcomes: bytes
    values: list[Value] | None

    def results(self, payload: Payload) -> Iterator[BatchResult]:
        """The same, batch by batch."""
        place = slice(self.start, self.stop)
        heads, values = payload.heads, self.values
        begin = 0
        for client, first, count in zip(
            heads.clients[place], heads.firsts[place], heads.counts[place], strict=True
        ):
            end = begin + count
            column = None if values is None else as_column(values[begin:end])
            yield BatchResult(client, first, self.outcomes[begin:end], column)
            begin = end


class StateMachine:
    """The store and the sessions of one replica, owned by one thread.

    `executed` counts the commands executed, by `Operation`; `duplicates` those that were answered from
    their first execution instead. `sleep` is called with seconds when a PAUSE executes. `budget` bounds the results
    that are kept; it may differ between replicas. `hosted` takes the place of the store. `admit` checks a
    client's batch before it may be proposed, and raises CommandError; it says how many bytes it has put beside the
    commands, if any. `merges` counts the parts of peers' checkpoints that were taken. `pace` is that of the index that
    finds lists; it may differ between replicas too.
    """

    def __init__(
        self,
        limits: Limits,
        sleep: Callable[[float], None],
        budget: Budget = _DEFAULT_BUDGET,
        hosted: Machine | None = None,
        pace: int = PACE,
    ) -> None:
        self._store = Store(limits, sleep, pace) if hosted is None else Hosted(hosted, limits)
        self.admit: Callable[[Batch], int | None] = (
            self._store.admit if isinstance(self._store, Hosted) else partial(check_batch, limits=limits)
        )
        self._sessions = Sessions(budget, limits.window)
        self.transactions = Transactions(self._store)
        self.executed = [0] * len(Operation)
        self.duplicates = 0
        self.merges = 0

    @property
    def keys(self) -> int:
        """How many keys have a value."""
        return len(self._store)

    @property
    def order(self) -> OrderedKeys:
        """The keys in order, as far as that has come: what lists, counts and clears are found by."""
        return self._store.order

    @property
    def sessions(self) -> int:
        """How many clients have executed a command here."""
        return len(self._sessions)

    @property
    def generation(self) -> int:
        """How many collections have executed."""
        return self._sessions.generation

    def ended(self, batch: Batch) -> int | None:
        """The generation, if a batch is one of a session that has ended (`Sessions.is_over`)."""
        over = self._sessions.is_over(batch.client, batch.generation)
        return self._sessions.generation if over else None

    def knows(self, batch: Batch) -> bool:
        """Whether all of a batch has executed here, so that it only tells what it came to if it comes again."""
        return self._sessions.known(batch.client, batch.first, batch.first + len(batch)) is not None

    @property
    def kept(self) -> int:
        """Bytes of the results that are kept for clients, about."""
        return self._sessions.weight

    def apply(self, payload: Payload) -> list[BatchResult]:
        """Execute the commands of a payload, in order, that have not executed before, and its reads; or a collection.

        Returns one result per batch, in order. It raises nothing for what a command holds: the proposer
        checked it, and what slipped through gets a failing outcome (`statemachine.store`), since an
        exception would stop all replicas at the same command.
        """
        return [result for run in self.runs(payload) for result in run.results(payload)]

    def runs(self, payload: Payload, *, lists: bool = True) -> Iterator[Run]:
        """The same as columns of as many batches as can be executed together; what all come to may be too much.

        To be taken to the end, before anything else executes. Without `lists` nobody waits for it here: what SCANs and
        COUNTs tell is left out. Of that nothing is kept anywhere, as of all reads.
        """
        self._store.lists = lists
        yield from self._runs(payload)
        self._store.lists = True

    def _runs(self, payload: Payload) -> Iterator[Run]:
        if payload.base is not None:
            self._sessions.collect(payload.generation)
            return
        if payload.heads.clients[0] == SERVICE and _is_own(payload):
            self._execute_own(payload)
            return
        heads, batches = payload.heads, None
        plain = payload.is_plain and not self.transactions.concern(b"", payload.keys)
        start = 0
        while start < len(heads.clients):
            stop = self._sessions.claim(heads, start) if plain else start
            if stop > start:
                yield self._execute_plain(payload, start, stop)
                start = stop
                continue
            batches = batches or payload.batches
            result = self._apply_batch(batches[start], payload.bounds)
            yield Run(start, start + 1, result.outcomes, result.values)
            start += 1

    def recall(self, payload: Payload, *, prefix: bool) -> list[BatchResult] | None:
        """What all of it came to, if all of it has executed, in whatever instances, and else None; changes nothing.

        What only reads tells of the state as it is now, as a command that came again would. If that is not what a
        `prefix` of one order of all commands has left (`contract.Core`), not one that reads several keys, or all: of
        writes that do not conflict this state may have one and lack another, and somebody was told of these the other
        way round. Two reads of a frame are two commands, of which neither tells of the other. One that reads all, or
        several, then costs the batches joined with it their answers too: they are proposed again.
        Of a collection there is nothing to tell, nor of what a replica proposes by itself again.
        """
        if payload.reads_all and not prefix:
            return None
        if payload.base is not None:
            return [] if payload.follows is None and payload.generation < self.generation else None
        if _is_own(payload):
            return []
        results = []
        for batch in payload.batches:
            end = batch.first + len(batch.operations)
            session = self._sessions.known(batch.client, batch.first, end)
            if session is None:
                return None
            self._store.begin(payload.bounds)
            reads = only_reads(batch.operations, batch.arguments)
            if not prefix and _reads_several(batch, reads):
                return None
            outcomes, values = self._answer_executed(session, batch, end, reads)
            results.append(BatchResult(batch.client, batch.first, outcomes, as_column(values)))
        return results

    def _execute_own(self, payload: Payload) -> None:
        """Execute what a replica proposed by itself: idempotent, so that it needs no session."""
        self._store.begin(payload.bounds)
        for batch in payload.batches:
            self._execute(batch, batch.first, batch.operations, batch.keys, batch.arguments)

    def _execute_plain(self, payload: Payload, start: int, stop: int) -> Run:
        """Execute batches of plain commands that have been claimed."""
        operations, keys, arguments = payload.operations, payload.keys, payload.arguments
        if stop - start < len(payload.heads.counts):
            begin = sum(payload.heads.counts[:start])
            part = slice(begin, begin + sum(payload.heads.counts[start:stop]))
            operations, keys = operations[part], keys[part]
            arguments = None if arguments is None else arguments[part]
        self._count(operations)
        outcomes, values = self._store.execute_plain(operations, keys, arguments)
        return Run(start, stop, outcomes, values)

    def look(self, batch: Batch, *, locks: bool = True) -> BatchResult:
        """What commands that only read come to in the state as it is, in no session (protocol 7).

        Without `locks` those of transactions are not met: what these would change stands as it was.
        """
        operations, keys = batch.operations, batch.keys
        plain = operations.count(Operation.READ) == len(operations)
        if locks and self.transactions.concern(b"" if plain else operations, keys):
            self._store.begin(None)
            return self._execute(batch, batch.first, operations, keys, batch.arguments)
        self._count(operations)
        if plain:
            outcomes, values = self._store.execute_plain(operations, keys, None)
        else:
            self._store.begin(None)
            outcomes, values = self._store.execute(operations, keys, batch.arguments)
        return BatchResult(batch.client, batch.first, outcomes, values)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key as it stands, None if it has none."""
        return self._store.get(key)

    @property
    def tells(self) -> bool:
        """Whether it can tell what commands change: a state machine of a program's own can not."""
        return not isinstance(self._store, Hosted)

    def note(self, notes: Notes | None) -> None:
        """From now on, have what commands change in these notes; in none, with None."""
        self._store.notes = notes

    def page(self, prefix: bytes, after: bytes | None, room: int) -> tuple[list[bytes], list[bytes], bool]:
        """The next keys with a prefix as they stand (`Store.page_of`)."""
        return self._store.page_of(prefix, after, room)

    def take_timed(self) -> list[bytes]:
        """The keys that may have been given a value that ends since the last call (`statemachine.expiry`)."""
        return self._store.take_timed()

    def digest_source(self) -> DigestSource:
        """A copy of the state from which its digest can be computed in another thread."""
        return DigestSource(self._store.copy(), self._sessions.executed(), self._sessions.generation)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def freeze(self, *, whole: bool = False) -> Frozen:
        """The values of this moment, for a checkpoint: to be had until `release`.

        The sessions that changed since the last call are then to be had from `take_sessions`; all, if it is `whole`.
        """
        self._sessions.freeze(whole=whole)
        return self._store.freeze()

    def forget_changes(self) -> None:
        """What has changed since the last call of `freeze` will not be asked for."""
        self._sessions.forget_changes()
        self._store.freeze()
        self._store.release()

    def thaw(self) -> None:
        """The checkpoint of what was frozen last has been given up: the sessions of it belong to the next one."""
        self._sessions.thaw()
        self._store.release()

    def release(self) -> None:
        """All of what was frozen last has been taken."""
        self._store.release()

    def take_sessions(self, most: int) -> list[list[object]]:
        """The next of the frozen sessions, as they were when they were frozen (`Sessions.take`)."""
        return self._sessions.take(most)

    def let_go(self, most: int) -> bool:
        """Nobody asks this one for anything any more: free about `most` keys; whether there are more."""
        return self._store.let_go(most)

    def load(self, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Take values from this replica's own checkpoint, at the start."""
        items = list(values)
        self.transactions.note(items)
        self._store.load(items)

    def load_sessions(self, rows: list[object], generation: int) -> None:
        """Take sessions from this replica's own checkpoint, at the start.

        Raises:
            FrameError: they are none.
        """
        sessions = self._sessions
        self._sessions = Sessions.load(rows, sessions.budget, generation, sessions.window)

    def names(self) -> list[bytes]:
        """All keys that have a value now."""
        return list(self._store)

    def slices(self, most: int) -> list[tuple[bytes, ...]]:
        """The same, `most` at a time."""
        names = iter(self._store)
        return list(iter(lambda: tuple(islice(names, most)), ()))

    def merge(self, values: Iterable[tuple[bytes, bytes | None]]) -> list[bytes]:
        """Take values of a later moment from a peer's checkpoint; None for a key that has gone.

        Returns the keys that had another value before.
        """
        self.merges += 1
        items = list(values)
        self.transactions.note(items)
        return [key for key, value in items if self._store.put(key, value)]

    def merge_sessions(self, rows: list[object], generation: int) -> None:
        """Add what a peer's checkpoint knows of sessions.

        Raises:
            FrameError: they are none.
        """
        self._sessions.merge(Sessions.load(rows, generation=generation))

    def _apply_batch(self, batch: Batch, bounds: Bounds | None) -> BatchResult:
        session = self._sessions.admit(batch.client, batch.generation)
        if session is None:
            return BatchResult(batch.client, batch.first, _EXPIRED * len(batch), None)
        self._store.begin(bounds)
        session.acknowledge(batch.acked)
        end = batch.first + len(batch.operations)
        reads = only_reads(batch.operations, batch.arguments)
        if session.claim(batch.first, end):
            result = self._execute(batch, batch.first, batch.operations, batch.keys, batch.arguments)
            _keep(session, result, reads)
        else:
            result = self._apply_rest(session, batch, end, reads)
        self._sessions.settle(batch.client, session)
        return result

    def _apply_rest(self, session: Session, batch: Batch, end: int, reads: bytes) -> BatchResult:
        """Execute what is new, or only reads, in a batch of which some commands have executed; answer all of it."""
        first = batch.first
        new = session.missing(first, end)
        marks = bytearray(reads)
        for start, stop in new:
            session.claim(start, stop)
            marks[start - first : stop - first] = b"\1" * (stop - start)
        outcomes, values = self._answer_executed(session, batch, end, marks)
        for start, stop in new:
            part = slice(start - first, stop - first)
            _keep(session, BatchResult(batch.client, start, outcomes[part], values[part]), reads[part])
        self.duplicates += marks.count(0)
        return BatchResult(batch.client, first, outcomes, as_column(values))

    def _answer_executed(
        self, session: Session, batch: Batch, end: int, marks: bytes | bytearray
    ) -> tuple[bytes, list[Value]]:
        """Execute the marked commands of a batch, and answer the others as they were when they executed."""
        answer = session.recall(batch.client, batch.first, end)
        outcomes = bytearray(answer.outcomes)
        values: list[Value] = answer.values or [None] * len(outcomes)
        for marked in _marked(marks):
            part = slice(*marked.span())
            arguments = None if batch.arguments is None else batch.arguments[part]
            result = self._execute(
                batch, batch.first + part.start, batch.operations[part], batch.keys[part], arguments
            )
            outcomes[part] = result.outcomes
            values[part] = result.values or [None] * len(result.outcomes)
        return bytes(outcomes), values

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
        if self.transactions.concern(operations, keys):
            outcomes, values = self._execute_each((batch.client, first), operations, keys, arguments)
        else:
            self._store.origin = batch.client, first
            outcomes, values = self._store.execute(operations, keys, arguments)
        return BatchResult(batch.client, first, outcomes, values)

    def _execute_each(
        self,
        origin: tuple[int, int],
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Sequence[Argument] | None,
    ) -> tuple[bytes, list[Value] | None]:
        """Execute commands of which some are of transactions, or may meet a lock."""
        outcomes, values = bytearray(), list[Value]()
        client, first = origin
        columns = zip(operations, keys, arguments or repeat(None, len(keys)), strict=True)
        for position, (operation, key, argument) in enumerate(columns):
            result = self.transactions.execute(operation, key, argument, self._sessions)
            if result is None:
                part = slice(position, position + 1)
                self._store.origin = client, first + position
                its, found = self._store.execute_part(operations[part], (key,), (argument,))
                result = its[0], found[0]
            outcomes.append(result[0])
            values.append(result[1])
        return bytes(outcomes), as_column(values)

    def _count(self, operations: bytes) -> None:
        """Count commands by operation; unknown operations, which change nothing, are not counted."""
        executed = self.executed
        kind = operations[0]
        if kind < len(executed) and operations.count(kind) == len(operations):
            executed[kind] += len(operations)
            return
        for operation in range(len(executed)):
            executed[operation] += operations.count(operation)


def _is_own(payload: Payload) -> bool:
    """Whether a replica proposed this by itself: what only calls itself the service executes once, as all else."""
    return set(payload.heads.clients) == {SERVICE} and set(payload.operations) == _EXPIRATIONS


def _reads_several(batch: Batch, reads: bytes) -> bool:
    """Whether a command, of those marked as ones that only read, names several keys, and so tells of one moment."""
    return batch.arguments is not None and any(
        len(set(columns[1])) > 1
        for argument in compress(batch.arguments, reads)
        if (columns := multi_columns(argument)) is not None
    )


def _keep(session: Session, result: BatchResult, reads: bytes) -> None:
    """Keep what a batch came to, but for what its reads tell; `reads` marks those.

    They are executed again, and come to other things where nobody waits for a list: replicas are to keep the same.
    """
    if 0 not in reads:
        return
    if 1 in reads:
        outcomes = bytes([0 if read else one for read, one in zip(reads, result.outcomes, strict=True)])
        values = result.values
        if values is not None:
            values = as_column([None if read else one for read, one in zip(reads, values, strict=True)])
        result = result._replace(outcomes=outcomes, values=values)
    session.keep(result)
