"""The messages by which a replica fetches a peer's checkpoint: the same whatever the consensus protocol.

They promise nothing and change nothing at the peer. A core never sees them.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from epaxos.protocol.ids import Slot


class FetchRows(NamedTuple):
    """Send me rows of your checkpoint, from a position on.

    `transfer` is 0 to begin, then the number that the peer gave; `position` counts the rows that have come. A
    position of -1 says that no more are wanted, and that the peer need not keep its log for this replica any longer.
    """

    transfer: int
    position: Slot


class CheckpointRows(NamedTuple):
    """Some rows of the checkpoint in `transfer`, from `position` on, in one piece of bytes; `last` if none follow.

    A peer that has forgotten the transfer, or is asked to begin one, answers with another number and position 0.
    """

    transfer: int
    position: Slot
    rows: bytes
    last: int


TransferMessage: TypeAlias = FetchRows | CheckpointRows
