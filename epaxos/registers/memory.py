"""Nodes of one process, for tests and examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epaxos.errors import StorageError
from epaxos.registers.transport import Unreachable
from epaxos.transport.registers import decode, encode


class MemoryNetwork:
    """Carries requests between the nodes of a process, as the bytes that other transports carry.

    Nodes in `down` are not reached.
    """

    def __init__(self) -> None:
        self.down: set[int] = set()
        self._nodes: dict[int, Callable[[Any], Any]] = {}

    def serve(self, id_: int, handle: Callable[[Any], Any]) -> None:
        """Let a node answer, by its `handle`."""
        self._nodes[id_] = handle

    def transport(self, id_: int) -> MemoryTransport:
        """What a node asks others through."""
        return MemoryTransport(self, id_)

    def ask(self, sender: int, peer: int, request: Any) -> Any:
        """See `Transport`."""
        handle = self._nodes.get(peer)
        if handle is None or peer in self.down or sender in self.down:
            raise Unreachable(f"node {peer} is not there")
        try:
            return decode(encode(handle(decode(encode(request)))))
        except StorageError as error:
            raise Unreachable(f"node {peer}: {error}") from error


class MemoryTransport:
    """A node's end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, id_: int) -> None:
        self._network = network
        self._id = id_

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """See `Transport`."""
        del timeout
        return self._network.ask(self._id, peer, request)

    def close(self) -> None:
        """See `Transport`."""
