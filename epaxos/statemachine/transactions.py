"""Transactions across groups: the records of those that are under way here, and the locks that follow from them.

A group is a cluster that holds part of the keys (`docs/groups.md`). Of a transaction that touches several, each group
decides its own vote in its own log, so that the group is a write-once register with the fault tolerance of its
consensus: Paxos commit (Gray and Lamport, "Consensus on transaction commit") with a register for each participant.
The transaction is *committed* if and only if the vote of all its groups is PREPARED.

=========== ============================== =========================================================================
operation   argument                       what it does
=========== ============================== =========================================================================
PREPARE     [generation, groups, columns]  votes: PREPARED if the columns execute, as those of a MULTI; then nothing
                                           is changed yet, all their keys are locked, and a record says so
VOTE        generation                     tells the vote, if there is one; else it is ABORTED from now on
RESOLVE     [committed, keys]              executes the columns or drops them, and unlocks; without effect unless
                                           `keys` are those of the record
FORGET      keys                           drops the record, unless it still locks; without effect unless `keys` are
                                           those of the record
=========== ============================== =========================================================================

The key of all four is that of the record, `RECORDS` and the transaction's name: 8 bytes for who began it, its
coordinator, and 8 for a number that counts up. So the protocol orders what concerns one transaction, and a record is
an ordinary value: checkpoints, transfers, backups and digests hold it without knowing of it. `groups` names all the
groups, each with the generation in which the coordinator began there, and is kept so that whoever meets a lock can end
the transaction of a coordinator that died.

**A vote stands for ever, its record does not.** A PREPARE that comes late must not vote after a VOTE was told that
there is none, or again after its record was forgotten: another group may have dropped its part meanwhile, and the
coordinator, who has that group's earlier answer, would take both for a commit. So PREPARE and VOTE claim the
transaction's number in the coordinator's session (`statemachine.session`), which remembers exactly which numbers were
claimed, and ends as all sessions do; a PREPARE of a session that has ended votes ABORTED. So such a vote needs no
record. Where the number is claimed or the session has ended, and no record stands, VOTE tells nothing: the group voted
ABORTED, or the transaction is over everywhere (`groups.transaction`, rule 4). It does not answer FORGOTTEN: so answers
a session that has dropped the result of an earlier try, which may have been that all is prepared. A coordinator begins
once at a group, in one generation, and never again under the same name.

**Who ends a transaction names its keys**, by RESOLVE and by FORGET, so that a client's rights to them are known before
the command is proposed (`security.rights`): who forgets a record that is not its own makes others, who find none, drop
what this group has executed.

**A lock is met by whoever touches the key**, readers too, or lists, counts or clears keys among which it is, a page as
far as it reaches: the command ends as LOCKED, with the record's key and the groups, and changes nothing. Nobody waits
inside a replica, so there is no deadlock. A PREPARE that meets a lock votes ABORTED. What a command is told of a lock
takes room as its result would: a small frame can meet one ten thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Final, NamedTuple, cast

import msgpack

from epaxos.errors import InvariantError
from epaxos.statemachine.batch import Bounds
from epaxos.statemachine.columns import (
    Argument,
    Groups,
    is_generation,
    multi_columns,
    prepared_columns,
    resolved_keys,
)
from epaxos.statemachine.operations import (
    OF_TRANSACTIONS,
    ON_ALL,
    READERS,
    READERS_OF_ALL,
    RECORD_KEY,
    RECORDS,
    Operation,
    Outcome,
)
from epaxos.statemachine.ordered import range_of
from epaxos.statemachine.results import Value
from epaxos.statemachine.sessions import Sessions
from epaxos.statemachine.store import Result, Store

_INVALID: Final[Result] = (int(Outcome.ABORTED), None)
_OK: Final[Result] = (int(Outcome.DONE), None)
_TOO_LARGE: Final[Result] = (int(Outcome.TOO_LARGE), None)
_NONE: Final[list[object]] = [None]
_READERS: Final = READERS | READERS_OF_ALL
_NUMBERS_END: Final = b"\x80"  # numbers are below 2**63, as those of requests

TOLD: Final = 1000
"""Records that a replica tells of at a time: with as many groups of as long names as are allowed, some 5 MB."""


class Record(NamedTuple):
    """Of a transaction that was prepared here: what it locks and would execute, then what became of it.

    `keys` has one for each operation. `committed` is None as long as nobody has told; `columns` are there as long as
    they may have to be executed, under the `bounds` with which they were tried.
    """

    committed: bool | None
    groups: Groups
    keys: list[bytes]
    columns: list[object] | None = None
    bounds: tuple[int, int] | None = None

    @property
    def locks(self) -> bool:
        """Whether the keys are locked."""
        return self.committed is None


class Transactions:
    """The transactions of one replica's store, owned by the same thread."""

    __slots__ = ("_handlers", "_locks", "_records", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: dict[bytes, list[object]] = {}  # a locked key -> the key of the record, and its groups
        self._records: set[bytes] = set()
        self._handlers: dict[int, Callable[[bytes, Argument, Sessions], Result]] = {
            Operation.PREPARE: self._prepare,
            Operation.VOTE: self._vote,
            Operation.RESOLVE: self._resolve,
            Operation.FORGET: self._forget,
        }

    def __len__(self) -> int:
        """How many keys are locked."""
        return len(self._locks)

    def told(self) -> list[list[object]]:
        """The first records, for people: each its key, whether it is committed, its groups, how many keys it locks."""
        found: list[list[object]] = []
        for key in sorted(self._records)[:TOLD]:
            record = self._find(key)
            if record is not None:
                found.append([key, record.committed, record.groups, len(record.keys) * record.locks])
        return found

    def note(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Values came from a checkpoint; records among them lock and unlock. Before they are in the store."""
        for key, value in items:
            if key.startswith(RECORDS):
                self._unlock(key)
                self._records.discard(key)
                if value is not None:
                    self._records.add(key)
                    self._lock(key, _decode(value))

    def concern(self, operations: bytes, keys: Iterable[bytes]) -> bool:
        """Whether one of these commands may be of a transaction, or meet a lock."""
        if not OF_TRANSACTIONS.isdisjoint(operations):
            return True
        return bool(self._locks) and (
            Operation.MULTI in operations
            or not ON_ALL.isdisjoint(operations)
            or not self._locks.keys().isdisjoint(keys)
        )

    def execute(self, operation: int, key: bytes, argument: Argument, sessions: Sessions) -> Result | None:
        """Execute a command of a transaction, or one that meets a lock; None for any other."""
        handler = self._handlers.get(operation)
        if handler is not None:
            return handler(key, argument, sessions) if is_record_key(key) else _INVALID
        if not self._locks or (operation in READERS_OF_ALL and not self._store.lists):
            return None
        columns = multi_columns(argument) if operation == Operation.MULTI else None
        if operation in ON_ALL:
            held = self._held(self._within(operation, key, argument))
        else:
            held = self._held(columns[1] if columns else (key,))
        if held is None:
            return None
        reads = operation in _READERS or (columns is not None and READERS.issuperset(columns[0]))
        if self._store.has_room(held, reads=reads):
            return int(Outcome.LOCKED), held
        return int(Outcome.UNTOLD if reads else Outcome.TOO_LARGE), None

    def _held(self, keys: Iterable[bytes]) -> list[object] | None:
        """The first lock among some keys."""
        return next(filter(None, map(self._locks.get, keys)), None)

    def _within(self, operation: int, prefix: bytes, argument: Argument) -> list[bytes]:
        """The first locked key among those that a command with a prefix looks at: the same everywhere.

        A page looks no further than at the key that shows that there are more.
        """
        given = argument if type(argument) is list else [None]
        after = given[0] if given and type(given[0]) is bytes else None
        reverse = operation == Operation.SCAN and given[-1:] == [True]
        keys = range_of(prefix, after, reverse=reverse)
        locked = sorted(key for key in self._locks if key in keys)
        page = self._store.page(operation, prefix, argument) if locked else None
        if page is not None and (last := page[1]) is not None:
            locked = [key for key in locked if (key >= last if reverse else key <= last)]
        return locked[:1]

    def _prepare(self, key: bytes, argument: Argument, sessions: Sessions) -> Result:
        columns = prepared_columns(argument)
        if columns is None:
            return _INVALID
        generation, groups, _ = cast("tuple[int, Groups, object]", argument)
        if self._find(key) is not None:
            return int(
                Outcome.FORGOTTEN
            ), None  # the session that remembered this has ended; the record has not
        if not _claim(key, generation, sessions):
            return _INVALID
        held = self._held(columns[1])
        if held is not None:
            return (int(Outcome.LOCKED), held) if self._store.has_room(held, reads=False) else _INVALID
        outcome = self._store.attempt(columns, _name(key)[1], keep=False)
        if outcome[0] == Outcome.DONE:
            record = Record(None, groups, columns[1], list(columns), self._store.bounds)
            self._lock(key, record)
            self._write(key, record)
        return outcome

    def _vote(self, key: bytes, generation: Argument, sessions: Sessions) -> Result:
        if not is_generation(generation):
            return _INVALID
        record = self._find(key)
        if record is not None:
            told: Value = [True, record.committed, record.keys]
            return (int(Outcome.DONE), told) if self._store.has_room(told, reads=False) else _TOO_LARGE
        if _claim(key, cast("int", generation), sessions):
            return int(Outcome.DONE), [False, None, []]
        return _OK

    def _resolve(self, key: bytes, argument: Argument, _: Sessions) -> Result:
        keys = resolved_keys(argument)
        if keys is None:
            return _INVALID
        record = self._find(key)
        if record is None or not record.locks or keys != record.keys:
            return _OK
        committed = cast("list[bool]", argument)[0]
        self._unlock(key)
        if committed:
            self._apply(key, record)
        self._write(key, Record(committed, record.groups, keys))
        return _OK

    def _apply(self, key: bytes, record: Record) -> None:
        """Execute what was tried: the keys were locked since, so that it comes to the same."""
        columns = multi_columns(record.columns)
        if columns is None or record.bounds is None:
            raise InvariantError(f"the record {key.hex()} locks, and holds nothing to execute")
        outcome, _ = self._store.redo(columns, Bounds(*record.bounds), _name(key))
        if outcome != Outcome.DONE:
            raise InvariantError(
                f"transaction {key.hex()} was prepared, and ended as {Outcome(outcome).name}"
            )

    def _forget(self, key: bytes, keys: Argument, _: Sessions) -> Result:
        record = self._find(key)
        if record is not None and not record.locks and keys == record.keys:
            self._store.put(key, None)
            self._records.discard(key)
        return _OK

    def _find(self, key: bytes) -> Record | None:
        value = self._store.get(key)
        return None if value is None else _decode(value)

    def _write(self, key: bytes, record: Record) -> None:
        self._store.put(key, msgpack.packb(tuple(record)))
        self._records.add(key)

    def _lock(self, key: bytes, record: Record) -> None:
        if record.locks:
            self._locks.update(zip(record.keys, repeat([key, record.groups]), strict=False))

    def _unlock(self, key: bytes) -> None:
        record = self._find(key)
        if record is not None and record.locks:
            for locked in record.keys:
                if (
                    self._locks.get(locked, _NONE)[0] == key
                ):  # a checkpoint may have brought the next one's lock before
                    del self._locks[locked]


def is_record_key(key: bytes) -> bool:
    """Whether a key is one that a transaction's record may have."""
    return len(key) == RECORD_KEY and key.startswith(RECORDS) and key[-8:] < _NUMBERS_END


def _name(key: bytes) -> tuple[int, int]:
    """The coordinator of a transaction and its number, by the key of the record."""
    return int.from_bytes(key[-16:-8], "big"), int.from_bytes(key[-8:], "big")


def _claim(key: bytes, generation: int, sessions: Sessions) -> bool | None:
    """Take a transaction's number in its coordinator's session: False if it is taken, None if that has ended."""
    coordinator, number = _name(key)
    session = sessions.admit(coordinator, generation)
    return None if session is None else session.claim(number, number + 1)


def _decode(value: bytes) -> Record:
    committed, groups, keys, columns, bounds = msgpack.unpackb(value)
    return Record(committed, groups, keys, columns, bounds)
