"""The contract between a consensus core and whatever drives it: events in, `Effects` out.

Nothing here is particular to EPaxos. The `Replica` actor and the simulator drive any `Core` the same way;
another protocol is another `Core` with another page of messages.

The driver's duties, for every `Effects` and in this order:

1. make `records` durable;
2. only then let `promises` and `deferrable` leave (`messages` and `early` may leave at any time);
3. execute `executions`, in order, each component as one atomic step;
4. answer clients from the results of the execution, never earlier (protocol 3.7), and `reads` from the state
   that it leaves (protocol 7).

**Checkpoints** (protocol 4.10). Between two rounds, when everything that was to execute has, a driver may take a
`Cut`: with the state machine's part of the same moment, durable in one transaction, it is a checkpoint. `Checkpointed`
tells the core, which may then ask for instances to be dropped (`truncate`). A replica that asks for what its peers
have dropped (`fetch`) has to merge the checkpoint of one of them: `Hold` before the first key of it is merged into the
state machine, `Adopt` when the result is durable as a checkpoint of its own.

Several effects may be joined (`Effects.extend`) and performed together: that is a round.
Messages to the replica itself are handed back to the core as `Receive` events after step 1: a replica's own
vote is a message like any other, which counts only once it is durable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Reversible, Sequence
from enum import IntEnum
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from epaxos.protocol.command import Command
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import Instance, Value
from epaxos.protocol.roundtrips import RoundTrip

MessageT = TypeVar("MessageT")
MessageT_contra = TypeVar("MessageT_contra", contravariant=True)


class Propose(NamedTuple):
    """A client's command for this replica to order."""

    command: Command


class Read(NamedTuple):
    """Find out when the state of this replica can answer reads of one of these keys each (protocol 7).

    `number` was never used before, by any replica, in any life of it.
    """

    number: int
    keys: Sequence[bytes]


class Receive(NamedTuple, Generic[MessageT]):
    """A message from a replica (perhaps this one), already decoded and checked for shape.

    One that has no vote in the epoch has a row behind those that have: it is told what is decided, and not listened to.
    """

    sender: Row
    message: MessageT


class Tick(NamedTuple):
    """Time has passed; due when the clock reaches the core's `deadline`."""


class PeerStatus(NamedTuple):
    """The driver's failure detector has changed its mind about a peer. A hint, never relied on for safety."""

    peer: Row
    online: bool


class Checkpointed(NamedTuple):
    """A cut is durable, with the state machine's part of the same moment; `executed` is the cut's."""

    executed: Vector


class Hold(NamedTuple):
    """Give nothing to execute until `Adopt`: a peer's checkpoint is being merged into what has executed here.

    `executed` and `above` are what has executed at the peer. What is not decided here and stands there is over:
    this replica takes no part in it any more, since what it learns of it now would not be in the checkpoint.
    """

    executed: Vector
    above: Collection[InstanceId]


class Adopt(NamedTuple):
    """The state machine holds what has executed here or at a peer, and a checkpoint of that is durable.

    `executed` is the peer's frontier, `entries` its decided instances above that which have executed, `vectors` what it
    remembered of whole rows (`Core.vectors`).
    """

    executed: Vector
    entries: Sequence[Instance]
    vectors: Sequence[Vector] = ()


class Retire(NamedTuple):
    """The replica finishes what it has and then stops: what only it does had better be done by another from now on."""


class Lead(NamedTuple):
    """Where somebody leads, this replica had better: it led the epoch before, or ended one without a leader. A hint."""


class Measured(NamedTuple):
    """The epoch before knew how long a peer takes to answer: links and disks are the same in this one.

    It is told when many answer late at once, since all begin anew. Without it a wait would be the least that is
    configured, or by the first answer alone.
    """

    peer: Row
    trip: RoundTrip


class Ended(NamedTuple):
    """A peer has said that the epoch is over; `cut` is what it has executed, if the peer knows (protocol 6.7).

    It seals nothing: this core goes on voting, since it may be needed for deciding what is in the cut. But nobody has
    to decide what is above that, and commands can only go on in a later epoch.
    """

    cut: Vector | None


Event: TypeAlias = (
    Propose
    | Read
    | Receive[MessageT]
    | Tick
    | PeerStatus
    | Checkpointed
    | Hold
    | Adopt
    | Retire
    | Lead
    | Measured
    | Ended
)


class Decided(NamedTuple):
    """A decided instance, as execution needs it."""

    id: InstanceId
    value: Value
    deps: Vector
    seq: int


class Over(NamedTuple):
    """An epoch has ended at this replica (protocol 6.4).

    barrier  the first barrier that executed; its payload says what follows
    cut      all up to here has executed, and nothing above it ever will, but for no-ops
    left     commands that were proposed, or kept, here since the start and have not executed; the sessions tell which
             of them have in another instance
    """

    barrier: Decided
    cut: Vector
    left: Sequence[Command] = ()


Component: TypeAlias = tuple[Decided, ...]
"""Instances that depend on one another, in the order in which they execute; most often a single one."""


class CommitNote(NamedTuple):
    """For metrics: an instance that this replica coordinated was committed.

    `path` is "fast", "slow" or "recovered"; `seconds` the time since it was proposed or taken over.
    """

    id: InstanceId
    path: str
    seconds: float


class Effects(Generic[MessageT]):
    """What an event asks of the driver; see the module's text for the order of its duties.

    records     instances whose durable fields changed; durable before anything of the round leaves
    promises    (receivers, message) that must wait for the records
    messages    (receivers, message) that may leave at once
    early       the same of what had better leave before the records are written: who receives it writes meanwhile
    deferrable  (receivers, message) that must wait for the records, and may then wait a little more for
                another message to the same receiver to ride on
    executions  components to execute, in this order
    reads       numbers of `Read` that the state answers once all of `executions` has executed
    as_of       once they have, the state has all that anybody was answered by that time, of the clock of `on_event`;
                None if nothing new is known of that. Of a core that has no vote alone (`protocol.spectator`)
    unread      numbers of those that come to nothing, and had better go through the log
    commits     what this replica decided, for metrics
    truncate    drop the records of all instances up to here; None if there is nothing to drop
    fetch       peers that have dropped what this replica needs: the checkpoint of one of them is wanted
    over        the epoch has ended with the last of `executions`: this core executes and promises nothing more. Told
                again if something is proposed after that, with all that is left
    overtaken   what was proposed here and may have executed in what is adopted. The core waits for it no more: the
                driver answers what its sessions know, and proposes the rest again (`eras.Eras.settle`); before it
                goes on from what is `over`, for nothing that has a base goes into the next epoch
    """

    __slots__ = (
        "as_of",
        "commits",
        "deferrable",
        "early",
        "executions",
        "fetch",
        "messages",
        "over",
        "overtaken",
        "promises",
        "reads",
        "records",
        "truncate",
        "unread",
    )

    def __init__(self) -> None:
        self.records: list[Instance] = []
        self.promises: list[tuple[Sequence[Row], MessageT]] = []
        self.messages: list[tuple[Sequence[Row], MessageT]] = []
        self.early: list[tuple[Sequence[Row], MessageT]] = []
        self.deferrable: list[tuple[Sequence[Row], MessageT]] = []
        self.executions: list[Component] = []
        self.reads: list[int] = []
        self.unread: list[int] = []
        self.as_of: float | None = None
        self.commits: list[CommitNote] = []
        self.truncate: Vector | None = None
        self.fetch: list[Row] = []
        self.over: Over | None = None
        self.overtaken: Sequence[Command] = ()

    @property
    def is_talk(self) -> bool:
        """Whether nothing is asked for but that messages leave, or not even that."""
        return not (
            self.records
            or self.promises
            or self.early
            or self.deferrable
            or self.executions
            or self.reads
            or self.unread
            or self.as_of is not None
            or self.commits
            or self.truncate is not None
            or self.fetch
            or self.over is not None
            or self.overtaken
        )

    def extend(self, later: Effects[MessageT]) -> None:
        """Join the effects of a later event to these."""
        self.records += later.records
        self.promises += later.promises
        self.messages += later.messages
        self.early += later.early
        self.deferrable += later.deferrable
        self.executions += later.executions
        self.reads += later.reads
        self.unread += later.unread
        self.as_of = self.as_of if later.as_of is None else later.as_of
        self.commits += later.commits
        self.truncate = later.truncate or self.truncate
        self.fetch += later.fetch
        self.over = later.over or self.over
        self.overtaken = later.overtaken or self.overtaken


def joined(several: Sequence[Effects[MessageT]]) -> Effects[MessageT]:
    """The effects of some events as those of one. They become the first ones; most rounds have no more."""
    if not several:
        return Effects()
    first, *others = several
    for later in others:
        first.extend(later)
    return first


class CoreStatus(NamedTuple):
    """A copy of a core's main figures, for people and metrics.

    `changing` tells whether a barrier is under way (protocol 6.5). `kept` is how many instances its log holds,
    `remembered` how many numbers it remembers of keys until a collection speaks for them. Of a protocol with a leader,
    `leader` is the row of the one that this replica follows, or None while it knows of none, and `ballot` the highest
    that it knows.
    """

    committed: Vector
    executed: Vector
    seen: Vector
    truncated: Vector
    in_flight: int
    pending: int
    kept: int
    remembered: int = 0
    leader: Row | None = None
    ballot: Ballot = 0
    changing: bool = False


class Remembered(NamedTuple):
    """What a core remembers of some keys beyond its log: in one of its columns, of each a slot."""

    column: int
    keys: Sequence[bytes]
    slots: Sequence[Slot]


class News(NamedTuple):
    """What a cut brings of news: what is remembered, and the keys whose values may have changed.

    A key may come several times, in a column with slots that rise. What is written has an order that is the same in
    every process, which no set has.
    """

    remembered: Iterable[Remembered]
    written: Reversible[bytes]


class Cut(Protocol):
    """The consensus part of a checkpoint: what had executed when it was taken.

    executed  per row, the highest slot up to which everything had executed
    above     the instances above that which had executed
    """

    @property
    def executed(self) -> Vector:
        """See the class."""
        ...

    @property
    def above(self) -> Sequence[InstanceId]:
        """See the class."""
        ...

    def absorb(self, most: int) -> News | None:
        """Bring what the core remembers of keys up to the cut, a step of about `most` at a time; None at the end."""
        ...

    def entry(self, place: InstanceId) -> Instance:
        """The decided instance at a place of `above`."""
        ...


class Comparison(Protocol):
    """Tells whose values are of the later moment: those here, or those of a peer's checkpoint."""

    def take(self, said: Remembered) -> None:
        """Take account of what the peer remembers of some keys; one may come several times."""
        ...

    def later(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """For each of some keys, whether the peer's value is the later one; when all it remembers has been taken.

        Raises:
            InvariantError: neither is, and they differ, which cannot be.
        """
        ...


class Durable(NamedTuple):
    """What a core begins with after a restart.

    records    the instances of the log, one for each place
    truncated  up to where records have been dropped
    executed   up to where each row had executed in the last checkpoint
    entries    its decided instances above that which had executed
    vectors    what it says of whole rows (`Core.vectors`); nothing without a checkpoint
    """

    records: Iterable[Instance]
    truncated: Vector
    executed: Vector
    entries: Sequence[Instance]
    vectors: Sequence[Vector] = ()


class Preparation(IntEnum):
    """What there is to do before a cut.

    READY  nothing any more: a cut may as well be taken now
    MORE   something more
    WAITS  nothing now, and a little later less than if the cut were taken now
    """

    READY = 0
    MORE = 1
    WAITS = 2


class Core(Protocol[MessageT]):
    """A consensus protocol as a value machine: no clock, thread, socket or randomness of its own."""

    @property
    def deadline(self) -> float:
        """When the next Tick is due, on the clock of `on_event`; infinity if none is."""
        ...

    @property
    def in_flight(self) -> int:
        """How many instances this replica coordinates that are not committed yet."""
        ...

    @property
    def lost(self) -> bool:
        """Whether commands of clients get nowhere from here, and have not for a while: others may do better."""
        ...

    @property
    def unsure(self) -> bool:
        """Whether it only looks on, and has not been told yet by who votes that all that is known has executed here.

        Never of one that votes: it hears of what it lacks by those who ask it.
        """
        ...

    @property
    def adopts_prefix(self) -> bool:
        """Whether all execute one sequence, so that what is adopted is the state after a prefix of it (protocol 4.10).

        Else it is a moment of each key, and not of two.
        """
        ...

    @property
    def quiet(self) -> bool:
        """Whether the end of the epoch is in sight, so that nothing is proposed (protocol 6.5)."""
        ...

    @property
    def coverage(self) -> Mapping[str, int]:
        """How often each named decision of the protocol was taken, for tests and for people."""
        ...

    def on_event(self, event: Event[MessageT], now: float) -> Effects[MessageT]:
        """Take one event at time `now` (seconds, never decreasing).

        Raises:
            InvariantError: the state is broken; the replica must stop and perform nothing more.
        """
        ...

    def resume(self, now: float) -> Effects[MessageT]:
        """Go on after a restart with something durable: once, before the first event."""
        ...

    def left(self) -> Sequence[Command]:
        """What was proposed or kept here since the start and has not executed: it goes on in the next epoch."""
        ...

    @property
    def width(self) -> int:
        """How many columns of slots by key this core remembers; 0 if none, and then it is never asked for them."""
        ...

    def prepare(self, most: int) -> Preparation:
        """Take in about `most` keys of what has executed since the last cut, which the next one then need not.

        A cut may as well be taken if little is left, or not less than the last time.
        """
        ...

    def cut(self) -> Cut:
        """The cut of this moment, between two rounds. The one before must have been absorbed."""
        ...

    def remembered(self, column: int) -> int:
        """Of how many keys a column says something."""
        ...

    def all_remembered(self, most: int) -> Iterable[Remembered]:
        """All that a checkpoint needs of what this core remembers of keys, about `most` of them at a time.

        When the last cut has been absorbed, and before the next one is.
        """
        ...

    def stands(self, said: Remembered) -> Sequence[bool]:
        """Which of some slots, at least one, a checkpoint needs: what nothing newer in a later one stands for.

        Called when the last cut has been absorbed.
        """
        ...

    def vectors(self) -> Sequence[Vector]:
        """What this core remembers of whole rows beyond its log: of the last cut, once that is absorbed, or more."""
        ...

    def remember(self, said: Remembered) -> Remembered:
        """Add to it what a checkpoint says: the own one at the start, a peer's under `Hold`, once it is compared.

        Returns what of it the own checkpoint does not say yet, or more.
        """
        ...

    def compare(self, executed: Vector, vectors: Sequence[Vector]) -> Comparison:
        """Begin to compare the values of a peer's checkpoint with those here; `executed` and `vectors` are its own."""
        ...

    def payload_keys(
        self, frontier: Vector, above: Collection[InstanceId], most: int
    ) -> Iterable[Remembered]:
        """What is known of payloads in the log up to `frontier` and at the places `above` it, about `most` at a time.

        Where that has executed at a peer only, it must be in the checkpoint: the log drops it, at once or one day.
        Under `Hold`. What comes may be nothing: then some was looked at.
        """
        ...

    def let_go(self, most: int) -> bool:
        """Nobody asks this core for anything any more: free about `most` of what it holds; whether there is more."""
        ...

    def beacon(self, now: float) -> MessageT:
        """The message that tells peers how far this replica is at `now`; carries no promise.

        Sent in order with all else, so that its way there and back takes what that of other messages takes.
        """
        ...

    def round_trip(self, peer: Row) -> RoundTrip:
        """How long a peer takes to answer, by what was measured."""
        ...

    def status(self) -> CoreStatus:
        """How far this replica is, for people and metrics."""
        ...

    def told(self, peer: Row) -> Vector:
        """Up to where a peer has said that all is decided there, per row; for people."""
        ...

    def waiting(self, most: int) -> list[Instance]:
        """What this replica knows of and has not executed, at most so many, the lowest slots first; for people.

        They are the core's own, or empty ones where nothing more is known: to be read before its next event.
        """
        ...
