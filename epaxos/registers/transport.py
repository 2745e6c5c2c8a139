"""How nodes ask each other."""

from __future__ import annotations

from typing import Any, Protocol

from epaxos.errors import EpaxosError


class Unreachable(EpaxosError):
    """A peer cannot be asked now, or did not answer in time; it may have done what it was asked."""


class Transport(Protocol):
    """Carries requests to peers, from several threads at once. Bodies are made by `epaxos.transport.registers`."""

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """The answer of a peer to a request, within `timeout` seconds.

        Raises:
            Unreachable: there is none.
            FrameError: it makes no sense.
        """
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...
