"""Where votes are kept: a cluster, or registers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from epaxos.client.asynchronous import AsyncClient
from epaxos.client.blocking import Client
from epaxos.client.commands import Op
from epaxos.client.options import check_timeout
from epaxos.registers.node import Node


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


# -- for asyncio -----------------------------------------------------------------------------------------------------


class AsyncVotes(Protocol):
    """As `Votes`, for several tasks of one event loop."""

    async def swap(
        self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False
    ) -> bytes | None:
        """See `Votes`."""
        ...

    async def read(self, key: bytes) -> bytes | None:
        """See `Votes`."""
        ...

    async def remove(self, keys: Sequence[bytes]) -> None:
        """See `Votes`."""
        ...


class AsyncClusterVotes:
    """Votes as keys of a cluster."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def swap(
        self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False
    ) -> bytes | None:
        """See `Votes`."""
        del first
        return (await self._client.cas(key, expected, new)).current

    async def read(self, key: bytes) -> bytes | None:
        """See `Votes`."""
        return await self._client.get(key)

    async def remove(self, keys: Sequence[bytes]) -> None:
        """See `Votes`; here all at once."""
        await self._client.multi([Op.delete(key) for key in keys])


class AsyncRegisterVotes:
    """Votes as registers. A node's calls wait in threads, those of the event loop's `to_thread`."""

    def __init__(self, node: Node, timeout: float = 5.0) -> None:
        self._votes = RegisterVotes(node, timeout)

    async def swap(
        self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False
    ) -> bytes | None:
        """See `Votes`."""
        return await asyncio.to_thread(self._votes.swap, key, expected, new, first=first)

    async def read(self, key: bytes) -> bytes | None:
        """See `Votes`."""
        return await asyncio.to_thread(self._votes.read, key)

    async def remove(self, keys: Sequence[bytes]) -> None:
        """See `Votes`."""
        await asyncio.to_thread(self._votes.remove, keys)
