"""Every message that one replica's core sends to another's (protocol 4.3), on one page.

The sender is not in the message but on its envelope, and receivers count distinct senders: a second copy
of any message changes nothing. `id` is the instance spoken of. "Promises" below must not leave before the
record that they promise is durable (protocol 2).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from epaxos.protocol.command import Command
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import Phase, Proposal, Value
from epaxos.protocol.reads import ReadIndex, ReadIndexOK


class PreAccept(NamedTuple):
    """Owner to all: here is a payload, with the conflicts that I know. Answer: PreAcceptOK."""

    id: InstanceId
    command: Command
    deps: Vector
    seq: int


class PreAcceptOK(NamedTuple):
    """Promise: I hold the payload, and cover in `deps` every conflict that I know."""

    id: InstanceId
    deps: Vector
    seq: int


class Offer(NamedTuple):
    """Owner to who has not answered its PreAccept: have you got it? Answer: PreAcceptOK, or Missing.

    It brings no payload, so nobody pre-accepts anything on the strength of it.
    """

    id: InstanceId


class Missing(NamedTuple):
    """I have not got the payload that you speak of: send it. No promise, no vote."""

    id: InstanceId


class Accept(NamedTuple):
    """Coordinator of `ballot` to all: vote for this value. Answer: AcceptOK, or Missing.

    `value` is None to a replica that was sent the payload before, or has shown that it has it.
    """

    id: InstanceId
    ballot: Ballot
    value: Value | None
    deps: Vector
    seq: int


class AcceptOK(NamedTuple):
    """Promise: I voted for the value of `ballot`."""

    id: InstanceId
    ballot: Ballot


class Commit(NamedTuple):
    """The decision; final at any ballot. `value` is None where the receiver was sent the PreAccept."""

    id: InstanceId
    value: Value | None
    deps: Vector
    seq: int


class CommitRequest(NamedTuple):
    """Send me the Commits that you have of row `row`, slots `first` to `last`. No promise, no vote."""

    row: Row
    first: Slot
    last: Slot


class Recover(NamedTuple):
    """A recoverer to all: promise me `ballot` and say what you know. Answer: RecoverOK."""

    id: InstanceId
    ballot: Ballot


class RecoverOK(NamedTuple):
    """Promise: I take part in no lower ballot; this is what I held before."""

    id: InstanceId
    ballot: Ballot
    abal: Ballot
    phase: Phase
    value: Value | None
    deps: Vector
    seq: int
    init: Proposal | None


class Validate(NamedTuple):
    """A recoverer to its quorum: which instances do you know that speak against this fast decision?"""

    id: InstanceId
    ballot: Ballot
    command: Command
    deps: Vector
    seq: int


class ValidateOK(NamedTuple):
    """Promise: I remember the payload; `against` are the instances asked for, with their phases."""

    id: InstanceId
    ballot: Ballot
    against: tuple[tuple[InstanceId, Phase], ...]


class Waiting(NamedTuple):
    """A recoverer to all: I cannot decide `id` yet; `k` of my quorum had pre-accepted it unchanged."""

    id: InstanceId
    k: int


class Nack(NamedTuple):
    """I have promised `ballot`, which is higher than yours."""

    id: InstanceId
    ballot: Ballot


class Truncated(NamedTuple):
    """The instance is executed and dropped here, like all up to `frontier`."""

    id: InstanceId
    frontier: Vector


class Beacon(NamedTuple):
    """Sent at intervals: the highest slots heard of, committed and executed without gap, truncated. Answer: Echo.

    `floor` is up to where owners may have forgotten what they proposed (protocol 4.11b). `stamp` is the time on the
    sender's clock.
    """

    seen: Vector
    committed: Vector
    executed: Vector
    truncated: Vector
    floor: Vector
    stamp: int


class Echo(NamedTuple):
    """Your Beacon of this stamp has come: all that you sent before it has, where links keep the order."""

    stamp: int


Message: TypeAlias = (
    PreAccept
    | PreAcceptOK
    | Offer
    | Missing
    | Accept
    | AcceptOK
    | Commit
    | CommitRequest
    | Recover
    | RecoverOK
    | Validate
    | ValidateOK
    | Waiting
    | Nack
    | Truncated
    | Beacon
    | Echo
    | ReadIndex
    | ReadIndexOK
)

OVERTAKING: Final = frozenset(
    {
        PreAcceptOK,
        AcceptOK,
        ValidateOK,
        Recover,
        Waiting,
        Nack,
        Missing,
        CommitRequest,
        Truncated,
        ReadIndex,
        ReadIndexOK,
    }
)
"""Small messages that mean the same before and after what was sent earlier.

Not Offer, Accept and Commit, which may speak of a payload that was sent before; nor Beacon and Echo, which tell that
all before them has come.
"""
