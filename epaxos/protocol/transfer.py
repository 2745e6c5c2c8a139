"""The messages by which a replica fetches a peer's checkpoint: the same whatever the consensus protocol.

They promise nothing and change nothing at the peer. A core never sees them.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from epaxos.protocol.ids import Slot


class FetchRows(NamedTuple):
    """Send me your checkpoint, from a position on.

    `transfer` is a number that the asking replica has never used before. A `position` of 0 begins it, any other is that
    behind the bytes that have come last; -1 says that no more are wanted, and that the peer need not keep its log for
    this replica any longer.
    """

    transfer: int
    position: Slot


class CheckpointRows(NamedTuple):
    """Bytes of the checkpoint in `transfer`, from `position` on; `last` is 1 if none follow.

    The checkpoint is a stream of rows; a message may end within one. Positions count bytes, the first from a number
    above 0 that the sender draws for each checkpoint: parts of two never fit together.

    A position of -1 says that the peer does not know that transfer any more.
    """

    transfer: int
    position: Slot
    rows: bytes
    last: int


TransferMessage: TypeAlias = FetchRows | CheckpointRows
