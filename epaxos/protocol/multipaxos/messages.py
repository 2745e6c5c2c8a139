"""Every message that one replica's core sends to another's (multipaxos 3), on one page.

The sender is on the envelope, and receivers count distinct senders: a second copy of any message changes nothing. All
slots are of row 0 of the log. "Promises" below must not leave before the record that they promise is durable.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from epaxos.protocol.command import Command
from epaxos.protocol.ids import Ballot, Slot, Vector
from epaxos.protocol.log import Value
from epaxos.protocol.reads import ReadIndex, ReadIndexOK

NOBODY: Final[Ballot] = 0
"""The ballot of no leader: every leader's is above it."""

DECIDED: Final = -1
"""In the place of the ballot of a vote: the value is decided. It counts more than any vote."""


class Prepare(NamedTuple):
    """A candidate to all: promise me `ballot` and tell your votes from slot `first` on. Answer: Promised, then Voted.

    What has not come is asked for again, from the first lacking slot on.
    """

    ballot: Ballot
    first: Slot


class Voted(NamedTuple):
    """Promise, a part of it: at `slot` I have voted for `value` at ballot `abal`, or it is DECIDED."""

    ballot: Ballot
    slot: Slot
    abal: Ballot
    value: Value


class Promised(NamedTuple):
    """Promise: I vote at no ballot below `ballot`; for each slot in `slots` there is a Voted, all from `first` on.

    `slots` are stretches, (first, last) each, ascending: which slots, not how many, since answers to two Prepares may
    mix. `truncated` is up to where I have dropped what is decided.
    """

    ballot: Ballot
    first: Slot
    slots: tuple[tuple[Slot, Slot], ...]
    truncated: Slot


class Accept(NamedTuple):
    """The leader of `ballot` to all: vote for this value. Answer: AcceptOK, or Missing.

    What it proposed at this ballot up to `chosen` is chosen. `value` is None to a peer that was sent it before.
    """

    ballot: Ballot
    slot: Slot
    value: Value | None
    chosen: Slot


class AcceptOK(NamedTuple):
    """Promise, to all or to the leader: I have voted at `slot` for the value of `ballot`."""

    ballot: Ballot
    slot: Slot


class Missing(NamedTuple):
    """To the leader: I have no vote at `slot` and no value to vote for. No promise, no vote."""

    ballot: Ballot
    slot: Slot


class Commit(NamedTuple):
    """The leader of `ballot` to all: what I proposed at it up to `chosen` is chosen."""

    ballot: Ballot
    chosen: Slot


class Nack(NamedTuple):
    """I have promised `ballot`, which is higher than yours."""

    ballot: Ballot


class Handover(NamedTuple):
    """The leader of `ballot` to one who follows it: I am about to stop, campaign. No promise, no vote."""

    ballot: Ballot


class Forward(NamedTuple):
    """To the leader, or to somebody who hears it: a client here wants this. Passed on once: `relayed` is 1 then."""

    command: Command
    relayed: int


class Chosen(NamedTuple):
    """The decision of a slot, final at any ballot."""

    slot: Slot
    value: Value


class ChosenRequest(NamedTuple):
    """Send me the decisions that you have of slots `first` to `last`. No promise, no vote."""

    first: Slot
    last: Slot


class Truncated(NamedTuple):
    """What you speak of is executed and dropped here, like all up to `frontier`."""

    frontier: Slot


class Beacon(NamedTuple):
    """Sent at intervals: whom I follow, and how far I am. Answer: Echo.

    known      the highest ballot that I have heard of
    leads      the ballot that I lead, or NOBODY
    follows    the ballot that I lead or whose leader I hear, or NOBODY
    happy      1 if I see no reason for an election
    committed, executed, truncated   by row, up to where all is decided, executed, dropped
    stamp      the time on the sender's clock
    """

    known: Ballot
    leads: Ballot
    follows: Ballot
    happy: int
    committed: Vector
    executed: Vector
    truncated: Vector
    stamp: int


class Echo(NamedTuple):
    """Your Beacon of this stamp has come: all that you sent before it has, where links keep the order."""

    stamp: int


Message: TypeAlias = (
    Prepare
    | Voted
    | Promised
    | Accept
    | AcceptOK
    | Missing
    | Commit
    | Nack
    | Handover
    | Forward
    | Chosen
    | ChosenRequest
    | Truncated
    | Beacon
    | Echo
    | ReadIndex
    | ReadIndexOK
)

OVERTAKING: Final = frozenset({AcceptOK, Missing, Nack, ChosenRequest, Truncated, ReadIndex, ReadIndexOK})
"""Small messages that mean the same before and after what was sent earlier.

Not Prepare and its answers, which are to be told together; nor Beacon and Echo, which tell that all before them has
come.
"""
