"""A session against a cluster that does anything the network and the clients' protocol allow.

Frames are taken late, answered in any order or never, turned away busy or refused; connections come and go, or
cannot be asked for; callers give up, and ask for more than may be under way. Whatever happens: every command ends
once and in time, its answer is its own, a number never stands for another command, and what is said not to have
executed never does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from epaxos.client.commands import Op
from epaxos.client.drivers.calls import Bulk
from epaxos.client.session.questions import Question
from epaxos.client.session.tickets import Ticket
from epaxos.errors import Refused
from epaxos.transport.framing import Kind
from session_rig import NAMES, Rig, Sent

BAD = b"bad"  # the key of a command that every replica refuses
MAX_BATCH = 4
WINDOW = 5
REPLICAS = st.integers(0, len(NAMES) - 1)
SOME = st.integers(0, 1000)  # picks one of what there is
GRACE = 1e-6


@dataclass
class Caller:
    """A submission and what its caller has seen of it."""

    ticket: Ticket[Any]
    deadline: float
    commands: dict[int, bytes]  # number -> key
    over: bool = False


@dataclass
class Large:
    """A bulk call: its keys, and the numbers that its parts got, in their order."""

    call: Bulk[Any]
    keys: list[bytes]
    deadline: float
    numbers: list[int] = field(default_factory=list)


@dataclass
class Cluster:
    """What the replicas, taken as one, have executed; replies carry the number as the value."""

    executed: dict[int, bytes] = field(default_factory=dict)
    never: set[int] = field(default_factory=set)

    def execute(self, sent: Sent) -> None:
        for number, key in zip(sent.numbers, sent.batch.keys, strict=True):
            assert key != BAD
            assert number not in self.never, "a command executed that was said never to"
            assert self.executed.setdefault(number, key) == key


class SessionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(up=False, max_batch=MAX_BATCH, window=WINDOW, timeout=1.0)
        self.session = self.rig.session
        self.cluster = Cluster()
        self.callers: dict[int, Caller] = {}
        self.large: list[Large] = []
        self.questions: list[Question[Any]] = []
        self.to_replicas: list[Sent] = []
        self.to_client: list[tuple[Sent, Kind, tuple[Any, ...]]] = []
        self.keys: dict[int, bytes] = {}
        self.lost_connections = 0

    # What callers do

    @rule(bad=st.booleans(), timeout=st.sampled_from([0.003, 0.1, 1.0, 5.0]))
    def submit(self, *, bad: bool, timeout: float) -> None:
        key = BAD if bad else b"key"
        self.enter(self.session.submit(Op.put(key, b"v"), self.rig.now, timeout), [key], timeout)

    @rule(keys=st.lists(st.sampled_from([b"a", b"b", b"c", BAD]), min_size=1, max_size=6))
    def submit_columns(self, keys: list[bytes]) -> None:
        ticket = self.session.submit_columns(b"\x02" * len(keys), keys, keys, self.rig.now)
        self.enter(ticket, keys, 1.0)

    def enter(self, ticket: Ticket[Any], keys: list[bytes], timeout: float) -> None:
        numbers = range(ticket.first, ticket.end)
        assert self.keys.keys().isdisjoint(numbers)
        commands = dict(zip(numbers, keys, strict=True))
        self.keys.update(commands)
        self.callers[ticket.first] = Caller(ticket, self.rig.now + timeout, commands)
        self.turn()

    @rule(count=st.integers(1, 60), bad=SOME, timeout=st.sampled_from([0.05, 1.0, 5.0]))
    def bulk(self, count: int, bad: int, timeout: float) -> None:
        keys = [BAD if position == bad else b"key" for position in range(count)]
        operations = [Op.put(key, b"v") for key in keys]
        call = Bulk(operations, self.rig.options, self.rig.now, timeout)
        self.large.append(Large(call, keys, self.rig.now + timeout))
        call.submit(self.session, self.rig.now)
        self.note_parts(self.large[-1])
        assert len(call.items()) == min(4, -(-count // MAX_BATCH))
        self.turn()

    def note_parts(self, large: Large) -> None:
        """The numbers that new parts of a bulk call got."""
        for ticket in large.call.items():
            assert isinstance(ticket, Ticket)
            if ticket.first not in self.keys:
                keys = large.keys[len(large.numbers) :][: ticket.count]
                numbers = range(ticket.first, ticket.end)
                self.keys.update(zip(numbers, keys, strict=True))
                large.numbers += numbers

    @rule(replica=st.none() | REPLICAS)
    def ask(self, replica: int | None) -> None:
        self.questions.append(self.rig.ask(replica))
        self.turn()

    @precondition(lambda self: any(not caller.over for caller in self.callers.values()))
    @rule(which=SOME)
    def abandon(self, which: int) -> None:
        waiting = [caller for caller in self.callers.values() if not caller.over]
        caller = waiting[which % len(waiting)]
        caller.over = True
        self.session.abandon(caller.ticket)

    # What the network does

    @rule(replica=REPLICAS)
    def connect(self, replica: int) -> None:
        if replica in self.rig.opened:
            self.session.rise(replica)
            self.turn()

    @rule(replica=REPLICAS)
    def disconnect(self, replica: int) -> None:
        if self.session.is_up(replica):
            self.session.fall(replica)
            self.turn()

    @rule(replica=REPLICAS)
    def break_connection(self, replica: int) -> None:
        """No connection can be had: the system refuses what it would take."""
        if replica in self.rig.opened:
            self.rig.opened = [other for other in self.rig.opened if other != replica]
            self.session.broken(replica, "no descriptor", self.rig.now)
            self.turn()

    @rule(replica=REPLICAS)
    def give_up(self, replica: int) -> None:
        """A replica answers nothing any more of what it has under way."""
        self.rig.receive(replica, Kind.AWAY, self.session.id, 0, -1, "no")
        self.turn()

    @rule()
    def socket_is_full(self) -> None:
        """Nothing of what the session sends next is taken by the sockets."""
        for outgoing in self.rig.outgoing():
            self.session.unsent(outgoing)
        self.turn()

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.rig.now += seconds
        self.turn()

    @rule()
    def sleep(self) -> None:
        """As long as the session says that nothing will happen."""
        if self.session.next_event() < float("inf"):
            self.rig.now = max(self.rig.now, self.session.next_event())
            self.turn()

    @precondition(lambda self: self.to_replicas)
    @rule(
        which=SOME, how=st.sampled_from(["answer", "answer", "answer", "lose", "busy", "refuse", "stranger"])
    )
    def take_request(self, which: int, how: str) -> None:
        sent = self.to_replicas.pop(which % len(self.to_replicas))
        batch = sent.batch
        head = (batch.client, batch.first)
        if how == "lose":
            return
        if how == "busy":
            self.to_client.append((sent, Kind.BUSY, (*head, len(batch))))
        elif how == "refuse":
            self.to_client.append((sent, Kind.REFUSED, (*head, len(batch), -1, "no")))
        elif how == "stranger":
            self.to_client.append((sent, Kind.REFUSED, (0, 0, 0, -1, "who?")))
        elif BAD in batch.keys:
            refused = (*head, len(batch), batch.keys.index(BAD), "bad")
            self.to_client.append((sent, Kind.REFUSED, refused))
        else:
            self.cluster.execute(sent)
            columns = [batch.client], [batch.first], [len(batch)], bytes(len(batch)), list(sent.numbers)
            self.to_client.append((sent, Kind.REPLY, columns))

    @precondition(lambda self: self.to_client)
    @rule(which=SOME, lose=st.booleans())
    def take_answer(self, which: int, *, lose: bool) -> None:
        sent, kind, fields = self.to_client.pop(which % len(self.to_client))
        if not lose:
            self.rig.receive(sent.replica, kind, *fields)
            self.turn()

    @precondition(lambda self: self.rig.asked)
    @rule(which=SOME)
    def take_question(self, which: int) -> None:
        replica, number, _ = self.rig.asked.pop(which % len(self.rig.asked))
        self.rig.receive(replica, Kind.STATUS_REPLY, number, {"name": NAMES[replica]})
        self.turn()

    # What is checked

    def turn(self) -> None:
        for sent in self.rig.turn():
            self.check_sent(sent)
            self.to_replicas.append(sent)
        for item in self.rig.finished():
            if isinstance(item, Question):
                assert item.done
                assert item in self.questions
                self.questions.remove(item)
            elif isinstance(item.waiter, Bulk):
                self.deliver(item, item.waiter)
            else:
                self.check_finished(self.callers[item.first])

    def deliver(self, item: Ticket[Any], call: Bulk[Any]) -> None:
        (large,) = [large for large in self.large if large.call is call]
        submitted_more = call.over(item, self.session, self.rig.now)
        self.note_parts(large)
        if not call.missing:
            assert not call.items()
            self.large.remove(large)
            self.check_results(large)
        elif submitted_more:
            self.turn()

    def check_results(self, large: Large) -> None:
        """What a bulk call says of each command is true, for good."""
        results = large.call.result()
        assert len(results) == len(large.keys)
        for number, result in zip(large.numbers, results, strict=False):
            if result.ok:
                assert result.value == number
                assert self.cluster.executed[number] == self.keys[number]
            elif result.error is not None and not result.error.may_have_executed:
                assert number not in self.cluster.executed
                self.cluster.never.add(number)
        for result in results[len(large.numbers) :]:
            assert result.error is not None
            assert not result.error.may_have_executed

    def check_sent(self, sent: Sent) -> None:
        assert self.session.is_up(sent.replica)
        assert {number: self.keys[number] for number in sent.numbers} == dict(
            zip(sent.numbers, sent.batch.keys, strict=True)
        )
        over = {number for caller in self.callers.values() if caller.over for number in caller.commands}
        assert over.isdisjoint(sent.numbers), "a command was sent again after its caller was told"
        owners = [caller for caller in self.callers.values() if sent.batch.first in caller.commands]
        assert len(sent.batch) <= MAX_BATCH or len(owners[0].commands) >= len(sent.batch)

    @invariant()
    def bulk_calls_are_told_in_time(self) -> None:
        for large in self.large:
            assert self.rig.now < large.deadline + GRACE
            assert self.session.next_event() <= large.deadline + GRACE

    def check_finished(self, caller: Caller) -> None:
        assert not caller.over, "a caller was told twice, or after it gave up"
        caller.over = True
        ticket = caller.ticket
        assert ticket.done
        for position, (number, key) in enumerate(caller.commands.items()):
            error = ticket.error_at(position)
            if error is None:
                assert key != BAD
                assert ticket.values is not None
                assert ticket.values[position] == number
                assert self.cluster.executed[number] == key
            elif not error.may_have_executed:
                assert number not in self.cluster.executed
                self.cluster.never.add(number)
                assert not isinstance(error, Refused) or "refused" in str(error)

    @invariant()
    def every_caller_is_told_in_time(self) -> None:
        for caller in self.callers.values():
            assert caller.over or self.rig.now < caller.deadline + GRACE
            assert caller.over or self.session.next_event() <= caller.deadline + GRACE

    @invariant()
    def frames_under_way_are_bounded(self) -> None:
        assert len(self.session._ledger.flights) <= WINDOW

    @invariant()
    def acknowledged_is_below_what_waits(self) -> None:
        ledger = self.session._ledger
        assert ledger.acked <= min(ledger.waiting, default=ledger.next)

    def teardown(self) -> None:
        """With a network that works again, everything ends."""
        while self.to_replicas:
            self.take_request(which=0, how="answer")
        self.rig.now += 10.0
        self.turn()
        while self.to_replicas:
            self.take_request(which=0, how="answer")
        assert all(caller.over for caller in self.callers.values())
        assert not self.questions
        assert not self.large
        ledger = self.session._ledger
        assert ledger.acked == ledger.next == max(self.keys, default=0) + 1
        assert not ledger.waiting
        assert not ledger.flights
        assert not ledger.weight
        assert self.session.next_event() == float("inf")


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=150, stateful_step_count=50)
