"""One core under a test's hand: the test gives it events and looks at their effects."""

from __future__ import annotations

from random import Random
from typing import TypeVar

from epaxos.protocol.contract import Effects, PeerStatus, Propose, Receive, Tick
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import Instance
from epaxos.protocol.quorums import make_quorums
from harness.commands import Access
from harness.invariants import Watch

MessageT = TypeVar("MessageT", bound=Message)

RETRY = 0.2
FAST_PATH_TIMEOUT = 0.05


class Probe:
    """A core of row `row` in a cluster of n, with invariants checked after every event.

    Messages to itself are in the effects like all others: a test decides when they are durable. It recovers
    nothing of itself, if not told to.
    """

    def __init__(
        self,
        n: int = 3,
        row: Row = 0,
        *,
        f: int | None = None,
        e: int | None = None,
        thrifty: bool = False,
        preferred: tuple[Row, ...] = (),
        retry_limit: float = 2.0,
        recovery_timeout: float = 1000.0,
    ) -> None:
        settings = Settings(
            row=row,
            quorums=make_quorums(n, f, e),
            thrifty=thrifty,
            preferred=preferred,
            fast_path_timeout=FAST_PATH_TIMEOUT,
            retry=RETRY,
            retry_limit=retry_limit,
            recovery_timeout=recovery_timeout,
        )
        self.core = EPaxos(settings, Random(0))
        self.row = row
        self.now = 0.0
        self._watch = Watch(self.core)

    def propose(self, command: Access) -> Effects[Message]:
        """A client's command arrives."""
        return self._take(Propose(command))

    def receive(self, sender: Row, message: Message) -> Effects[Message]:
        """A message arrives."""
        return self._take(Receive(sender, message))

    def persisted(self, effects: Effects[Message]) -> Effects[Message]:
        """The records are durable: messages of these effects to the replica itself come back to it."""
        joined: Effects[Message] = Effects()
        for message in sent_to(effects, self.row):
            joined.extend(self.receive(self.row, message))
        return joined

    def pass_time(self, seconds: float) -> Effects[Message]:
        """Time passes; the core is told if it had asked for that."""
        self.now += seconds
        if self.core.deadline > self.now:
            return Effects()
        return self._take(Tick())

    def hint(self, peer: Row, *, online: bool) -> Effects[Message]:
        """The failure detector changes its mind."""
        return self._take(PeerStatus(peer, online))

    def _take(self, event: Propose | Receive[Message] | Tick | PeerStatus) -> Effects[Message]:
        effects = self.core.on_event(event, self.now)
        self._watch.after(event, effects)
        return effects

    def instance(self, row: Row, slot: int) -> Instance:
        """The record of a place, which there must be."""
        instance = self.core.state.logs.get(InstanceId(row, slot))
        assert instance is not None
        return instance


def sendings(effects: Effects[Message]) -> list[tuple[Row, Message]]:
    """Every (receiver, message), whenever it may leave."""
    return [
        (receiver, message)
        for receivers, message in (*effects.messages, *effects.early, *effects.promises, *effects.deferrable)
        for receiver in receivers
    ]


def sent_to(effects: Effects[Message], row: Row) -> list[Message]:
    """What is sent to one replica."""
    return [message for receiver, message in sendings(effects) if receiver == row]


def sent(effects: Effects[Message], kind: type[MessageT]) -> dict[Row, MessageT]:
    """The messages of one type, by receiver; at most one each."""
    found: dict[Row, MessageT] = {}
    for receiver, message in sendings(effects):
        if isinstance(message, kind):
            assert receiver not in found
            found[receiver] = message
    return found


def asks_only(effects: Effects[Message], *names: str) -> bool:
    """Whether an event asked for nothing but what these attributes of its effects hold."""
    return all(bool(getattr(effects, name)) == (name in names) for name in Effects.__slots__)


def is_quiet(effects: Effects[Message]) -> bool:
    """Whether an event asked for nothing at all."""
    return asks_only(effects)
