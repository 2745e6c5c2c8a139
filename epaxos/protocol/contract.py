"""The contract between a consensus core and whatever drives it: events in, `Effects` out.

Nothing here is particular to EPaxos. The `Replica` actor and the simulator drive any `Core` the same way;
another protocol is another `Core` with another page of messages.

The driver's duties, for every `Effects` and in this order:

1. make `records` durable;
2. only then let `promises` and `deferrable` leave (`messages` may leave at any time);
3. execute `executions`, in order, each component as one atomic step;
4. answer clients from the results of the execution, never earlier (protocol 3.7).

Several effects may be joined (`Effects.extend`) and performed together: that is a round.
Messages to the replica itself are handed back to the core as `Receive` events after step 1: a replica's own
vote is a message like any other, which counts only once it is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import Instance, Value

MessageT = TypeVar("MessageT")
MessageT_contra = TypeVar("MessageT_contra", contravariant=True)


class Propose(NamedTuple):
    """A client's command for this replica to order."""

    command: Command


class Receive(NamedTuple, Generic[MessageT]):
    """A message from a replica (perhaps this one), already decoded and checked for shape."""

    sender: Row
    message: MessageT


class Tick(NamedTuple):
    """Time has passed; due when the clock reaches the core's `deadline`."""


class PeerStatus(NamedTuple):
    """The driver's failure detector has changed its mind about a peer. A hint, never relied on for safety."""

    peer: Row
    online: bool


Event: TypeAlias = Propose | Receive[MessageT] | Tick | PeerStatus


class Decided(NamedTuple):
    """A decided instance, as execution needs it."""

    id: InstanceId
    value: Value
    deps: Vector
    seq: int


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
    deferrable  (receivers, message) that must wait for the records, and may then wait a little more for
                another message to the same receiver to ride on
    executions  components to execute, in this order
    commits     what this replica decided, for metrics
    """

    __slots__ = ("commits", "deferrable", "executions", "messages", "promises", "records")

    def __init__(self) -> None:
        self.records: list[Instance] = []
        self.promises: list[tuple[Sequence[Row], MessageT]] = []
        self.messages: list[tuple[Sequence[Row], MessageT]] = []
        self.deferrable: list[tuple[Sequence[Row], MessageT]] = []
        self.executions: list[Component] = []
        self.commits: list[CommitNote] = []

    def extend(self, later: Effects[MessageT]) -> None:
        """Join the effects of a later event to these."""
        self.records += later.records
        self.promises += later.promises
        self.messages += later.messages
        self.deferrable += later.deferrable
        self.executions += later.executions
        self.commits += later.commits


class CoreStatus(NamedTuple):
    """A copy of a core's main figures, for people and metrics."""

    committed: Vector
    executed: Vector
    seen: Vector
    in_flight: int
    pending: int


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

    def on_event(self, event: Event[MessageT], now: float) -> Effects[MessageT]:
        """Take one event at time `now` (seconds, never decreasing).

        Raises:
            InvariantError: the state is broken; the replica must stop and perform nothing more.
        """
        ...

    def beacon(self) -> MessageT:
        """The message that tells peers how far this replica is; carries no promise."""
        ...

    def status(self) -> CoreStatus:
        """How far this replica is, for people and metrics."""
        ...
