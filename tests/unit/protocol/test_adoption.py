"""What a replica may conclude, and must remember, while it takes over a peer's checkpoint (protocol 4.10, 4.11)."""

from __future__ import annotations

from random import Random

from epaxos.protocol.contract import (
    Adopt,
    Checkpointed,
    Durable,
    Effects,
    Event,
    Hold,
    PeerStatus,
    Propose,
    Receive,
    Tick,
)
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import (
    Accept,
    Commit,
    Message,
    PreAccept,
    Recover,
    RecoverOK,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import Ballot, InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from epaxos.protocol.quorums import make_quorums
from harness.blocks import recall, remember
from harness.commands import put
from harness.probe import sent, sent_to

N = 5
NONE: Vector = (-1,) * N
KEY = b"x"
X = InstanceId(1, 0)
J = InstanceId(2, 0)
M = InstanceId(3, 0)


class Alone:
    """The core of row 0 of five, with `retain` bytes of what has executed; its records are durable at once."""

    def __init__(self, durable: Durable | None = None, retain: int = 0) -> None:
        settings = Settings(row=0, quorums=make_quorums(N), retain=retain)
        self.core = EPaxos(settings, Random(0), durable)
        self.now = 0.0

    def take(self, event: Event[Message]) -> Effects[Message]:
        """Hand over an event, and messages to itself after it."""
        joined: Effects[Message] = Effects()
        effects = self.core.on_event(event, self.now)
        joined.extend(effects)
        for message in sent_to(effects, 0):
            joined.extend(self.take(Receive(0, message)))
        return joined

    def pass_time(self, seconds: float) -> Effects[Message]:
        """Time passes, and the core is told."""
        self.now += seconds
        return self.take(Tick())

    def checkpoint(self) -> None:
        """Write one, of which only that it is durable matters here."""
        cut = self.core.cut()
        while cut.absorb(100) is not None:
            pass
        self.take(Checkpointed(cut.executed))

    def merge(self, executed: Vector) -> None:
        """What a peer's checkpoint knows of the key: it was read by nobody."""
        unread = [[-1] for _ in range(N)]
        writes = [[slot] for slot in executed]
        remember(self.core, [KEY], [*unread, *writes, *unread, *writes])


def validating() -> tuple[Alone, Ballot]:
    """X was decided at once by 0, 1 and 4; here it is validated, and only 2 and 3 have not answered to that."""
    alone = Alone()
    alone.take(Receive(1, PreAccept(X, put(1, KEY), NONE, 0)))
    alone.take(Receive(2, PreAccept(J, put(2, KEY), NONE, 0)))
    alone.take(Receive(3, PreAccept(M, put(3, KEY), NONE, 0)))
    alone.take(PeerStatus(1, online=False))
    ballot = None
    while ballot is None:
        asked = [message for message in sent_to(alone.pass_time(0.5), 2) if isinstance(message, Recover)]
        ballot = next((message.ballot for message in asked if message.id == X), None)
    init = Proposal(put(1, KEY), NONE, 0)
    for row in (2, 3):
        deps = tuple(0 if column == row else -1 for column in range(N))
        answer = RecoverOK(X, ballot, 0, Phase.PREACCEPTED, init.command, deps, 1, init)
        effects = alone.take(Receive(row, answer))
    assert sent(effects, Validate).keys() == {0, 2, 3}
    return alone, ballot


def waiting_for_two() -> Alone:
    """X waits for J and M, of which the owners know nothing of X.

    J was annulled since, has executed here, and is dropped.
    """
    alone, ballot = validating()
    alone.take(Receive(2, ValidateOK(X, ballot, ((J, Phase.PREACCEPTED),))))
    effects = alone.take(Receive(3, ValidateOK(X, ballot, ((M, Phase.PREACCEPTED),))))
    assert Waiting(X, 1) in sent_to(effects, 2)
    alone.take(Receive(4, Commit(J, NOP, NONE, 0)))
    alone.checkpoint()
    assert alone.core.status().truncated == (-1, -1, 0, -1, -1)
    return alone


def test_the_index_of_a_cut_knows_nothing_that_executed_after_it() -> None:
    # It is compared with that of another replica, to tell which of two values is the later one.
    alone = Alone()
    alone.take(Receive(1, Commit(X, put(1, KEY), NONE, 0)))
    cut = alone.core.cut()
    alone.take(Receive(2, Commit(J, put(2, KEY), (-1, 0, -1, -1, -1), 1)))
    while cut.absorb(100) is not None:
        pass
    assert alone.core.status().executed == (-1, 0, 0, -1, -1)
    assert recall(alone.core, [KEY])[3 * N :] == [[-1], [0], [-1], [-1], [-1]]


def test_what_has_executed_and_is_dropped_tells_a_recovery_that_waits_for_it() -> None:
    # J was decided without X while the answers of 2 and 3 were under way, of whom neither knew that.
    alone, ballot = validating()
    alone.take(Receive(4, Commit(J, put(2, KEY), NONE, 0)))
    alone.checkpoint()
    assert alone.core.status().truncated == (-1, -1, 0, -1, -1)
    alone.take(Receive(2, ValidateOK(X, ballot, ((J, Phase.PREACCEPTED),))))
    effects = alone.take(Receive(3, ValidateOK(X, ballot, ())))
    assert [message.value for message in sent_to(effects, 2) if isinstance(message, Accept)] == [NOP]


def test_a_recovery_does_not_judge_by_what_a_peer_has_executed_with_its_own_instance() -> None:
    # 2 has proposed its command again, with X among the dependencies; the peer has executed X and that one.
    alone = waiting_for_two()
    executed = (-1, 0, 1, -1, -1)
    alone.take(Hold(executed, ()))
    alone.merge(executed)
    effects = alone.take(Receive(4, Waiting(M, 0)))
    effects.extend(alone.take(Receive(4, Commit(M, NOP, NONE, 0))))
    assert not [message for message in sent_to(effects, 2) if isinstance(message, Accept)]
    effects = alone.take(Adopt(executed, ()))
    assert not [message for message in sent_to(effects, 2) if isinstance(message, Accept)]


def test_the_entries_of_a_checkpoint_are_taken_as_one() -> None:
    # The peer has executed X out of order: it is an entry, like M before it in the list.
    alone = waiting_for_two()
    executed = (-1, -1, 1, -1, -1)
    entry = Instance(X, NONE)
    entry.phase, entry.value, entry.orig = Phase.COMMITTED, put(1, KEY), put(1, KEY)
    annulled = Instance(M, NONE)
    annulled.phase, annulled.value = Phase.COMMITTED, NOP
    alone.take(Hold(executed, (M, X)))
    alone.merge((-1, 0, 1, -1, -1))
    effects = alone.take(Adopt(executed, (annulled, entry)))
    assert not [message for message in sent_to(effects, 2) if isinstance(message, Accept)]


def test_a_payload_that_only_this_replica_knows_outlives_the_entry_that_annuls_it() -> None:
    # The crash fell between the checkpoint, whose entry knows no payload, and the change of the log.
    place = InstanceId(1, 5)
    record = Instance(place, NONE)
    record.phase, record.value, record.orig = Phase.PREACCEPTED, put(1, KEY), put(1, KEY)
    record.init = Proposal(put(1, KEY), NONE, 0)
    annulled = Instance(place, NONE)
    annulled.phase, annulled.value = Phase.COMMITTED, NOP
    alone = Alone(Durable([record], NONE, NONE, [annulled]))
    effects = alone.core.resume(0.0)
    assert [(one.phase, one.value, one.orig) for one in effects.records] == [
        (Phase.COMMITTED, NOP, put(1, KEY))
    ]
    effects = alone.take(Propose(put(2, KEY)))
    assert sent(effects, PreAccept)[1].deps == (-1, 5, -1, -1, -1)


def test_what_executes_after_an_adoption_is_kept_once() -> None:
    # Row 2 waits for 1.0, which comes with a peer's checkpoint.
    alone = Alone(retain=2500)
    for slot in range(4):
        alone.take(Receive(2, Commit(InstanceId(2, slot), NOP, NONE, 0)))
    alone.take(Receive(2, Commit(InstanceId(2, 4), put(1, KEY), (-1, 0, 3, -1, -1), 1)))
    alone.checkpoint()
    alone.take(Hold((-1, 0, -1, -1, -1), ()))
    alone.merge((-1, 0, -1, -1, -1))
    assert alone.take(Adopt((-1, 0, -1, -1, -1), ())).executions
    alone.checkpoint()
    # Five instances of 500 bytes and a few: the oldest one goes.
    assert alone.core.status().truncated == (-1, 0, 0, -1, -1)
