"""The manager for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from epaxos.commit.desk import ENDS, Desk, Pauses, again_after, check_named, firsts_of, named
from epaxos.commit.votes import AsyncVotes
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


class AsyncResource(Protocol):
    """As `Resource`, its methods to be awaited."""

    name: str

    async def prepare(self, transaction: Transaction) -> Vote:
        """See `Resource`."""
        ...

    async def commit(self, transaction: Transaction) -> None:
        """See `Resource`."""
        ...

    async def abort(self, transaction: Transaction) -> None:
        """See `Resource`."""
        ...


@runtime_checkable
class AsyncResourceAlone(AsyncResource, Protocol):
    """As `ResourceAlone`."""

    async def commit_alone(self, transaction: Transaction) -> bool:
        """See `ResourceAlone`."""
        ...


class AsyncManager:
    """As `Manager`, for the tasks of one event loop.

    A call that is cancelled stops where it is, as one that is killed does: what it began may end either way, and is to
    be recovered.
    """

    def __init__(self, votes: AsyncVotes, *, patience: float = 5.0, timeout: float = 10.0) -> None:
        self._desk = Desk(patience, timeout)
        self.counts = self._desk.counts
        self._votes = votes

    async def run(self, resources: Sequence[AsyncResource], meta: bytes = b"") -> Ended:
        """See `Manager.run`."""
        transaction = named([resource.name for resource in resources], meta)
        if len(resources) == 1 and isinstance(resources[0], AsyncResourceAlone):
            done = await resources[0].commit_alone(transaction)
            return self._desk.ended(Ended(transaction, Outcome.COMMITTED if done else Outcome.ABORTED))
        procedure = run(transaction, transaction.resources)
        return self._desk.ended(await self._drive(procedure, transaction, resources))

    async def begin(self, names: Iterable[str], meta: bytes = b"") -> Transaction:
        """See `Manager.begin`."""
        transaction = named(names, meta)
        await self._drive(begin(transaction), transaction, ())
        return transaction

    async def vote(self, transaction: Transaction, resource: AsyncResource, *, first: bool = False) -> None:
        """See `Manager.vote`."""
        procedure = vote(checked(transaction), [resource.name], first=first)
        await self._drive(procedure, transaction, [resource])

    async def recover(self, transaction: Transaction, resources: Sequence[AsyncResource] = ()) -> Ended:
        """See `Manager.recover`."""
        procedure = recover(checked(transaction), [resource.name for resource in resources])
        return self._desk.ended(await self._drive(procedure, transaction, resources))

    # -- driving a procedure -----------------------------------------------------------------------------------

    async def _drive(
        self, procedure: Any, transaction: Transaction, resources: Sequence[AsyncResource]
    ) -> Any:
        here = {resource.name: resource for resource in resources}
        check_named(transaction, here)
        patience = Pauses(self._desk.patience)
        results: Sequence[Any] | None = None
        try:
            while True:
                todos = procedure.send(results)
                found = await asyncio.gather(
                    *(self._perform(transaction, here, patience, todo) for todo in todos),
                    return_exceptions=True,  # so that nothing of it is still under way when this ends
                )
                for one in found:
                    if isinstance(one, BaseException):
                        raise one
                results = found
        except StopIteration as end:
            return end.value
        except ENDS as error:
            raise self._desk.undecided(transaction, error) from error

    async def _perform(
        self, transaction: Transaction, here: dict[str, AsyncResource], patience: Pauses, todo: Todo
    ) -> Any:
        match todo:
            case Prepare(resource):
                return await self._prepare(here[resource], transaction)
            case Tell(resource, commit):
                return await self._tell(here[resource], transaction, commit=commit)
            case Wait():
                return await _wait(patience)
        return await self._insist(todo)

    async def _insist(self, todo: Open | Swap | Read | Remove) -> Any:
        """Ask the registers until it is done."""
        pauses, firsts = Pauses(self._desk.timeout), firsts_of(todo)
        while True:
            try:
                return await self._ask(todo, first=next(firsts))
            except again_after(todo):
                self._desk.count("tried again")
                if not await _wait(pauses):
                    raise

    async def _ask(self, todo: Open | Swap | Read | Remove, *, first: bool) -> Any:
        match todo:
            case Open(key, record):
                return await self._votes.swap(key, None, record)
            case Swap(key, expected, new):
                return await self._votes.swap(key, expected, new, first=first)
            case Read(key):
                return await self._votes.read(key)
            case Remove(keys):
                return await self._votes.remove(keys)

    async def _prepare(self, resource: AsyncResource, transaction: Transaction) -> Vote:
        found: Any
        try:
            found = await resource.prepare(transaction)
        except Exception as error:  # noqa: BLE001 - a resource may raise anything; that is a vote, and logged
            found = error
        return self._desk.voted(resource.name, transaction, found)

    async def _tell(self, resource: AsyncResource, transaction: Transaction, *, commit: bool) -> bool:
        try:
            await (resource.commit if commit else resource.abort)(transaction)
        except Exception as error:  # noqa: BLE001 - a resource may raise anything; it is told again, and logged
            self._desk.deaf(resource.name, transaction, error)
            return False
        return True


async def _wait(pauses: Pauses) -> bool:
    """Whether there is patience left after a pause."""
    pause, left = pauses.next()
    await asyncio.sleep(pause)
    return left
