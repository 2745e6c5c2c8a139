"""How nodes ask each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from epaxos.errors import EpaxosError

if TYPE_CHECKING:
    from epaxos.registers.node import Node


class Unreachable(EpaxosError):
    """A peer cannot be asked now, or did not answer in time; it may have done what it was asked."""


class Transport(Protocol):
    """Carries requests to peers, from several threads at once. Bodies are made by `epaxos.transport.registers`."""

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """The answer of a peer to a request, within `timeout` seconds.

        Raises:
            Unreachable: there is none.
            FrameError: it makes no sense, or comes from who is not who it was.
            StorageError: the own store has failed.
        """
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


@runtime_checkable
class NamedTransport(Transport, Protocol):
    """A transport that says who asks (`epaxos.registers.identity`)."""

    def belongs_to(self, node: Node) -> None:
        """Ask in the name of a node from now on."""
        ...


@runtime_checkable
class PostingTransport(Transport, Protocol):
    """A transport that need not wait."""

    def post(self, peer: int, request: Any, take: Callable[[Any], None]) -> None:
        """Ask a peer; `take` is called in a thread of the transport's with what `ask` returns or raises, or never."""
        ...


@runtime_checkable
class LocatingTransport(Transport, Protocol):
    """A transport that can be told where a node is that joins."""

    def locate(self, peer: int, address: tuple[str, int], *, again: bool = False) -> None:
        """A node is at this host and port; `again`, from an earlier start, counts less than what is known."""
        ...
