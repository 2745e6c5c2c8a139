"""The messages by which a replica that lags is brought forward: the same whatever the consensus protocol.

They promise nothing and change nothing at the peer. A core never sees them. Of all messages they alone are heeded in
whatever epoch their sender is (protocol 6.7).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from epaxos.protocol.ids import Slot, Vector


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

    A position of 0 says that the checkpoint is being written, one of -1 that the peer does not know that transfer any
    more.
    """

    transfer: int
    position: Slot
    rows: bytes
    last: int


class EpochOver(NamedTuple):
    """Epoch `ended` is over, and its log is not here any more: fetch my checkpoint.

    `cut` is what the epoch has executed, if that is known here: nothing above it ever will.
    """

    ended: int
    cut: Vector | None


TransferMessage: TypeAlias = FetchRows | CheckpointRows
