"""The messages by which a replica fetches a peer's checkpoint: the same whatever the consensus protocol.

They promise nothing and change nothing at the peer. A core never sees them.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from epaxos.protocol.ids import Slot


class FetchRows(NamedTuple):
    """Send me your checkpoint, from a position on.

    `transfer` is a number that the asking replica has never used before; `position` counts the bytes that have come. A
    position of -1 says that no more are wanted, and that the peer need not keep its log for this replica any longer.
    """

    transfer: int
    position: Slot


class CheckpointRows(NamedTuple):
    """Bytes of the checkpoint in `transfer`, from `position` on; `last` is 1 if none follow.

    The checkpoint is a stream of rows; a message may end within one.

    A position of -1 says that the peer does not know that transfer any more.
    """

    transfer: int
    position: Slot
    rows: bytes
    last: int


TransferMessage: TypeAlias = FetchRows | CheckpointRows
