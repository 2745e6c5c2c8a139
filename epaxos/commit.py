"""Transactions over any resources, decided by Paxos commit (docs/commit.md).

    manager = Manager(ClusterVotes(client))
    ended = manager.run([database, files], meta=b"order 17")
    if ended.outcome is Outcome.COMMITTED: ...

A resource that finds in what it kept that it has prepared a transaction, and has not heard how it ended, calls
`manager.recover(transaction, [itself])`: when it starts, and whenever it has waited for too long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, Self, TypeVar, runtime_checkable
from uuid import uuid4

from epaxos.client.blocking import Client
from epaxos.client.commands import Op
from epaxos.client.options import check_timeout
from epaxos.errors import Busy, Closed, NoAnswer, Refused, SessionExpired, StorageError, Untold
from epaxos.protocol.commit import (
    Ended,
    Open,
    Outcome,
    Prepare,
    Read,
    Remove,
    Swap,
    Tell,
    Todo,
    Transaction,
    Vote,
    Wait,
    begin,
    checked,
    decode,
    encode,
    recover,
    run,
    vote,
)
from epaxos.registers.node import Node

__all__ = [
    "ClusterVotes",
    "Ended",
    "Manager",
    "Outcome",
    "RegisterVotes",
    "Resource",
    "ResourceAlone",
    "Transaction",
    "Undecided",
    "Vote",
    "Votes",
    "decode",
    "encode",
]

_log: Final = logging.getLogger(__name__)

_THREADS: Final = 8
_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two tries or two looks: they double."""

_IN_DOUBT: Final = (Busy, NoAnswer, Untold, SessionExpired)

_Found = TypeVar("_Found")


class Undecided(NoAnswer):
    """No majority answered in time, or it could not be asked.

    The `transaction` may end either way, and whoever recovers it learns how.
    """

    def __init__(self, transaction: Transaction, cause: Exception) -> None:
        super().__init__(f"transaction {transaction.id} is not decided here: {cause}")
        self.transaction = transaction


# -- where votes are kept ------------------------------------------------------------------------------------------


class Votes(Protocol):
    """Linearizable registers that several threads may use.

    Methods raise `Busy` if nothing has happened, `NoAnswer` if something may have.
    """

    def swap(self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False) -> bytes | None:
        """Replace `expected` by `new`; what stands then.

        first  nobody else says so of this key, and it is said once: something may be spared
        """
        ...

    def read(self, key: bytes) -> bytes | None:
        """What stands."""
        ...

    def remove(self, keys: Sequence[bytes]) -> None:
        """Remove what stands under keys, in this order."""
        ...


class ClusterVotes:
    """Votes as keys of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def swap(self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False) -> bytes | None:
        """See `Votes`."""
        del first
        return self._client.cas(key, expected, new).current

    def read(self, key: bytes) -> bytes | None:
        """See `Votes`."""
        return self._client.get(key)

    def remove(self, keys: Sequence[bytes]) -> None:
        """See `Votes`; here all at once."""
        self._client.multi([Op.delete(key) for key in keys])


class RegisterVotes:
    """Votes as registers; what is removed is a tombstone until a node collects. `timeout` is of one change."""

    def __init__(self, node: Node, timeout: float = 5.0) -> None:
        self._node = node
        self._timeout = check_timeout(timeout)

    def swap(self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False) -> bytes | None:
        """See `Votes`; what is `first` takes one round trip, not two."""
        change = Op.cas(key, expected, new)
        current: bytes | None = self._node.propose(key, change, self._timeout, first=first).result.current
        return current

    def read(self, key: bytes) -> bytes | None:
        """See `Votes`."""
        return self._node.propose(key, Op.get(key), self._timeout).value

    def remove(self, keys: Sequence[bytes]) -> None:
        """See `Votes`."""
        for key in keys:
            self._node.delete(key, self._timeout)


# -- what takes part -----------------------------------------------------------------------------------------------


class Resource(Protocol):
    """Something that can promise to do its part of a transaction. Calls come from several threads."""

    name: str
    """No other resource's, over restarts too."""

    def prepare(self, transaction: Transaction) -> Vote:
        """Get ready, durably: after PREPARED, both of what follows must succeed, after a crash too.

        Called once. Whatever it raises counts as ABORTED, and `abort` follows.
        """
        ...

    def commit(self, transaction: Transaction) -> None:
        """Do it. What is done already stays as it is: it may be told again."""
        ...

    def abort(self, transaction: Transaction) -> None:
        """Let go of what is prepared. What is not, or is committed already, stays as it is."""
        ...


@runtime_checkable
class ResourceAlone(Resource, Protocol):
    """One that needs nobody else's word if a transaction names nobody else: two steps and all votes are spared."""

    def commit_alone(self, transaction: Transaction) -> bool:
        """Do it, or nothing of it, in one durable step; whether it is done."""
        ...


class Manager:
    """Runs transactions, and brings those of others to their end. Any number of them need not know of each other.

    patience  seconds that votes may take; whose does not come by then gets ABORTED
    timeout   seconds without a majority after which `Undecided` is raised

    `counts` says what happened how often. Several threads may share a manager.

    Raises:
        ValueError, TypeError: a time is no number of seconds above 0.
    """

    def __init__(self, votes: Votes, *, patience: float = 5.0, timeout: float = 10.0) -> None:
        self.counts: Counter[str] = Counter()
        self._votes = votes
        self._patience = check_timeout(patience)
        self._timeout = check_timeout(timeout)
        self._threads = ThreadPoolExecutor(_THREADS, "commit")
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the threads; a second call does nothing."""
        self._threads.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, resources: Sequence[Resource], meta: bytes = b"") -> Ended:
        """Let all resources commit, or none; `meta` tells them what this is about.

        What fails at a resource after it has voted does not change the outcome: see `Ended.untold`.

        Raises:
            Refused: a resource is named twice, or there is none.
            Undecided: no majority answered in time.
        """
        transaction = self._named([resource.name for resource in resources], meta)
        if len(resources) == 1 and isinstance(resources[0], ResourceAlone):
            done = resources[0].commit_alone(transaction)
            return self._ended(Ended(transaction, Outcome.COMMITTED if done else Outcome.ABORTED))
        names = [resource.name for resource in resources]
        return self._ended(self._drive(run(transaction, names), transaction, resources))

    def begin(self, names: Iterable[str], meta: bytes = b"") -> Transaction:
        """Begin a transaction whose resources are elsewhere: each has its `vote` cast, and `recover` ends it.

        Raises:
            As `run`; after Undecided, nobody has to be told.
        """
        transaction = self._named(names, meta)
        self._drive(begin(transaction), transaction, ())
        return transaction

    def vote(self, transaction: Transaction, resource: Resource, *, first: bool = False) -> None:
        """Let a resource prepare, and cast its vote; once for each.

        first  whether this is surely the first time, also if the process of the resource was killed and the transaction
               came to it again: its vote then takes one round trip less over registers

        Raises:
            Undecided: no majority answered in time.
        """
        procedure = vote(checked(transaction), [resource.name], first=first)
        self._drive(procedure, transaction, [resource])

    def recover(self, transaction: Transaction, resources: Sequence[Resource] = ()) -> Ended:
        """Learn how a transaction that was begun ends, deciding it if need be, and tell resources.

        Raises:
            Refused: there is another transaction of this id.
            Undecided: no majority answered in time.
        """
        names = [resource.name for resource in resources]
        return self._ended(self._drive(recover(checked(transaction), names), transaction, resources))

    def _named(self, names: Iterable[str], meta: bytes) -> Transaction:
        return checked(Transaction(uuid4().hex, tuple(names), meta))

    def _ended(self, ended: Ended) -> Ended:
        self._count(ended.outcome.value)
        return ended

    # -- driving a procedure -----------------------------------------------------------------------------------

    def _drive(self, procedure: Any, transaction: Transaction, resources: Sequence[Resource]) -> Any:
        here = {resource.name: resource for resource in resources}
        strangers = [name for name in here if name not in transaction.resources]
        if strangers:
            raise Refused(
                f"{', '.join(strangers)}: no resource of transaction {transaction.id}, "
                f"which names {', '.join(transaction.resources)}"
            )
        perform = partial(self.perform, transaction, here, _Patience(self._patience))
        results: Sequence[Any] | None = None
        try:
            while True:
                todos = procedure.send(results)
                results = list((map if len(todos) == 1 else self._threads.map)(perform, todos))
        except StopIteration as end:
            return end.value
        except (*_IN_DOUBT, Closed, StorageError) as error:
            self._count("undecided")
            raise Undecided(transaction, error) from error

    def perform(
        self, transaction: Transaction, here: dict[str, Resource], patience: _Patience, todo: Todo
    ) -> Any:
        """Do one of the things that a procedure wants done."""
        match todo:
            case Open(key, record):
                return self._insist(partial(self._votes.swap, key, None, record), (Busy,))
            case Swap(key, expected, new, first):
                tries = iter((first,))
                return self._insist(lambda: self._votes.swap(key, expected, new, first=next(tries, False)))
            case Read(key):
                return self._insist(partial(self._votes.read, key))
            case Remove(keys):
                return self._insist(partial(self._votes.remove, keys))
            case Prepare(resource):
                return self._prepare(here[resource], transaction)
            case Tell(resource, commit):
                return self._tell(here[resource], transaction, commit=commit)
            case Wait():
                return patience.wait()

    def _insist(self, action: Callable[[], _Found], again: tuple[type[Exception], ...] = _IN_DOUBT) -> _Found:
        """Try until it is done; `again` are the failures after which it may be tried again."""
        patience = _Patience(self._timeout)
        while True:
            try:
                return action()
            except again:
                self._count("tried again")
                if not patience.wait():
                    raise

    def _prepare(self, resource: Resource, transaction: Transaction) -> Vote:
        try:
            found = resource.prepare(transaction)
            if type(found) is not Vote:
                raise TypeError(f"prepare returned {found!r}, not a Vote")  # noqa: TRY301 - it counts as failed
        except Exception:  # noqa: BLE001 - a resource may raise anything; that is a vote, and logged
            self._count("failed to prepare")
            _log.exception("resource %s, transaction %s: aborts", resource.name, transaction.id)
            return Vote.ABORTED
        return found

    def _tell(self, resource: Resource, transaction: Transaction, *, commit: bool) -> bool:
        try:
            (resource.commit if commit else resource.abort)(transaction)
        except Exception:  # noqa: BLE001 - a resource may raise anything; it is told again, and logged
            self._count("failed to hear")
            _log.exception("resource %s, transaction %s: must be told again", resource.name, transaction.id)
            return False
        return True

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


class _Patience:
    """Pauses that get longer, for some seconds in all."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = _SHORTEST

    def wait(self) -> bool:
        """Whether there is patience left after a pause."""
        left = self._end - time.monotonic()
        time.sleep(max(0.0, min(self._pause, left)))
        self._pause = min(2 * self._pause, _LONGEST)
        return left > 0
