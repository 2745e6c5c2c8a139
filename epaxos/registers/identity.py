"""Who nodes are to each other: each store was given a number when it was new, its node's *incarnation*.

A node that has lost what it promised, or has taken another's number, is refused, in both directions: an empty acceptor
would break its promises, and an empty proposer use its ballots twice.
"""

from __future__ import annotations

from typing import Any, Final

from epaxos.errors import FrameError
from epaxos.protocol.registers.values import Follow, List, Peek, Scan
from epaxos.registers.cells import Cells
from epaxos.transport.registers import ID_MAX, malformed

FORGOT: Final = "forgot"
"""The kind of a refusal of who is not who it was."""

_READS: Final = (Peek, List, Scan, Follow)
"""What anybody may ask, as it changes nothing."""


class Identity:
    """Node `id`, and those that it has met; whom it meets is kept in its store."""

    def __init__(self, id_: int, cells: Cells) -> None:
        self.id = id_
        self.incarnation = cells.incarnation
        self._cells = cells
        self._known: dict[int, int] = {}

    def known(self, peer: int) -> int:
        """The incarnation that a peer had when it was heard last, since this start; 0 if it was not."""
        return self._known.get(peer, 0)

    def recognise(self, peer: int, incarnation: Any) -> None:
        """See that a peer is who it was.

        Raises:
            FrameError: it is not.
            StorageError: the own store has failed.
        """
        if self._known.get(peer) == incarnation:
            return
        if type(incarnation) is not int or not 0 < incarnation < 2**63:
            malformed("no incarnation")
        if not self._cells.meets(peer, incarnation):
            raise FrameError(FORGOT, _forgotten(peer))
        self._known[peer] = incarnation

    def admit(self, sender: Any, incarnation: Any, addressee: Any, request: Any) -> Any:
        """The request, if it comes from who that was, and is for this incarnation, or for any (0).

        sender  the node that asks; None is somebody who only reads

        Raises:
            FrameError: it is not so.
            StorageError: the own store has failed.
        """
        if addressee not in (0, self.incarnation):
            raise FrameError(FORGOT, _forgotten(self.id))
        if sender is None:
            if not isinstance(request, _READS):
                malformed(f"{type(request).__name__} comes from no node")
            return request
        if type(sender) is not int or not 0 <= sender <= ID_MAX:
            malformed(f"{str(sender)[:40]} is no number of a node")
        self.recognise(sender, incarnation)
        return request


def _forgotten(node: int) -> str:
    return (
        f"node {node} has lost what it promised, or another has taken its number: give it a number of its own"
    )
