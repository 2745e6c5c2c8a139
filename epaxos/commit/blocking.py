"""The manager whose calls wait."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, Self, runtime_checkable

from epaxos.commit.desk import ENDS, Desk, Pauses, again_after, check_named, firsts_of, named
from epaxos.commit.votes import Votes
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
    recover,
    run,
    vote,
)

_THREADS: Final = 8


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
        self._desk = Desk(patience, timeout)
        self.counts = self._desk.counts
        self._votes = votes
        self._threads = ThreadPoolExecutor(_THREADS, "commit")

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
        transaction = named([resource.name for resource in resources], meta)
        if len(resources) == 1 and isinstance(resources[0], ResourceAlone):
            done = resources[0].commit_alone(transaction)
            return self._desk.ended(Ended(transaction, Outcome.COMMITTED if done else Outcome.ABORTED))
        names = [resource.name for resource in resources]
        return self._desk.ended(self._drive(run(transaction, names), transaction, resources))

    def begin(self, names: Iterable[str], meta: bytes = b"") -> Transaction:
        """Begin a transaction whose resources are elsewhere: each has its `vote` cast, and `recover` ends it.

        Raises:
            As `run`; after Undecided, nobody has to be told.
        """
        transaction = named(names, meta)
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
        return self._desk.ended(self._drive(recover(checked(transaction), names), transaction, resources))

    # -- driving a procedure -----------------------------------------------------------------------------------

    def _drive(self, procedure: Any, transaction: Transaction, resources: Sequence[Resource]) -> Any:
        here = {resource.name: resource for resource in resources}
        check_named(transaction, here)
        perform = partial(self.perform, transaction, here, Pauses(self._desk.patience))
        results: Sequence[Any] | None = None
        try:
            while True:
                todos = procedure.send(results)
                results = list((map if len(todos) == 1 else self._threads.map)(perform, todos))
        except StopIteration as end:
            return end.value
        except ENDS as error:
            raise self._desk.undecided(transaction, error) from error

    def perform(
        self, transaction: Transaction, here: dict[str, Resource], patience: Pauses, todo: Todo
    ) -> Any:
        """Do one of the things that a procedure wants done."""
        match todo:
            case Prepare(resource):
                return self._prepare(here[resource], transaction)
            case Tell(resource, commit):
                return self._tell(here[resource], transaction, commit=commit)
            case Wait():
                return _wait(patience)
        return self._insist(todo)

    def _insist(self, todo: Open | Swap | Read | Remove) -> Any:
        """Ask the registers until it is done."""
        pauses, firsts = Pauses(self._desk.timeout), firsts_of(todo)
        while True:
            try:
                return self._ask(todo, first=next(firsts))
            except again_after(todo):
                self._desk.count("tried again")
                if not _wait(pauses):
                    raise

    def _ask(self, todo: Open | Swap | Read | Remove, *, first: bool) -> Any:
        match todo:
            case Open(key, record):
                return self._votes.swap(key, None, record)
            case Swap(key, expected, new):
                return self._votes.swap(key, expected, new, first=first)
            case Read(key):
                return self._votes.read(key)
            case Remove(keys):
                return self._votes.remove(keys)

    def _prepare(self, resource: Resource, transaction: Transaction) -> Vote:
        found: Any
        try:
            found = resource.prepare(transaction)
        except Exception as error:  # noqa: BLE001 - a resource may raise anything; that is a vote, and logged
            found = error
        return self._desk.voted(resource.name, transaction, found)

    def _tell(self, resource: Resource, transaction: Transaction, *, commit: bool) -> bool:
        try:
            (resource.commit if commit else resource.abort)(transaction)
        except Exception as error:  # noqa: BLE001 - a resource may raise anything; it is told again, and logged
            self._desk.deaf(resource.name, transaction, error)
            return False
        return True


def _wait(pauses: Pauses) -> bool:
    """Whether there is patience left after a pause."""
    pause, left = pauses.next()
    time.sleep(pause)
    return left
