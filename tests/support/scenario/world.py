"""A cluster under a script's hand: nothing is delivered, lost, written or timed but by command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Final

from epaxos.protocol.contract import PeerStatus, Propose, Receive, Retire, Tick
from epaxos.protocol.ids import InstanceId, Row, covers
from epaxos.protocol.log import NOP
from epaxos.protocol.quorums import make_quorums
from harness.commands import Access, conflict
from harness.invariants import Record
from scenario.dialect import MULTIPAXOS, Dialect
from scenario.mail import Mail, Parcel, ScenarioError
from scenario.replica import Replica, Surroundings
from scenario.wording import deps_text, place_name, replica_name

BEACON = 0.1
PATIENCE = 120.0
"""Virtual seconds after which a cluster that has not finished is stuck."""


ALL: Final = b"*"
"""How a script names all keys."""


class World(Mail):
    """Replicas, what is under way between them, and the decisions of all; `say` adds to the transcript."""

    def __init__(
        self,
        n: int,
        f: int | None,
        e: int | None,
        dialect: Dialect,
        words: Mapping[str, str],
        *,
        say: Callable[[str], None],
    ) -> None:
        self.dialect = dialect
        self.now = 0.0
        self.names: list[str] = []
        self.wording = dialect.wording(self.names)
        super().__init__(say)
        self._muted = False
        self._decisions: dict[InstanceId, Record] = {}
        quorums = make_quorums(n, f, e)
        surroundings = Surroundings(self.wording, self.say, self._send, self._on_decision)
        self.replicas = [
            Replica(dialect.settings(row, quorums, words), dialect, surroundings) for row in range(n)
        ]
        self.say(self.wording.quorums(quorums))

    def say(self, line: str) -> None:
        if not self._muted:
            super().say(line)

    @property
    def has_leader(self) -> bool:
        """Whether the protocol has one."""
        return self.dialect is MULTIPAXOS

    @property
    def coverage(self) -> Counter[str]:
        """How often each decision of the protocol was taken, at all replicas."""
        return sum((Counter(replica.coverage) for replica in self.replicas), Counter())

    @property
    def _living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.alive]

    def _alive(self, row: Row) -> Replica:
        if not self.replicas[row].alive:
            raise ScenarioError(f"{replica_name(row)} is down")
        return self.replicas[row]

    # -- commands ------------------------------------------------------------------------------------------

    def propose(self, row: Row, name: str, reads: tuple[bytes, ...], writes: tuple[bytes, ...]) -> None:
        """A client asks a replica for a command."""
        replica = self._alive(row)
        if name in self.names:
            raise ScenarioError(f"{name} is already proposed")
        self.names.append(name)
        command = Access(
            len(self.names) - 1,
            tuple(key for key in reads if key != ALL),
            tuple(key for key in writes if key != ALL),
            reads_all=ALL in reads,
            writes_all=ALL in writes,
        )
        replica.clients.add(command.name)
        replica.take(Propose(command), self.now)

    def tick(self, seconds: float) -> None:
        """Let time pass, and nothing be delivered."""
        end = self.now + seconds
        while self._living:
            replica = min(self._living, key=lambda each: (each.core.deadline, each.row))
            if replica.core.deadline > end:
                break
            self.now = max(self.now, replica.core.deadline)
            replica.take(Tick(), self.now)
        self.now = end

    def crash(self, row: Row) -> None:
        self._alive(row).crash()

    def restart(self, row: Row) -> None:
        if self.replicas[row].alive:
            raise ScenarioError(f"{replica_name(row)} is up")
        self.replicas[row].restart(self.now)

    def hold(self, row: Row) -> None:
        """Let the disk of a replica take its time, until `flush`."""
        self._alive(row).held = True

    def flush(self, row: Row) -> None:
        self._alive(row).flush(self.now)

    def take_over(self, row: Row, place: InstanceId | None) -> None:
        """A replica recovers an instance, or campaigns, where none is given."""
        if (place is None) != self.has_leader:
            raise ScenarioError("recover where nobody leads, campaign where somebody may")
        self._alive(row).take_over(place, self.now)

    def retire(self, row: Row) -> None:
        """A replica is told that it is about to stop."""
        self._alive(row).take(Retire(), self.now)

    def hear(self, row: Row, *, heard: bool) -> None:
        """All others find that a replica is there, or is not."""
        for replica in self._living:
            if replica.row != row:
                replica.take(PeerStatus(row, heard), self.now)

    def beacon(self, row: Row) -> None:
        """A replica tells all others how far it is."""
        replica = self._alive(row)
        beacon = replica.beacon(self.now)
        self.say(f"{replica.name} -> all: {self.wording.message(beacon)}")
        for peer in replica.core.state.peers:
            self._send(row, peer, beacon)

    def show(self, place: InstanceId) -> None:
        """What everybody has on disk of an instance."""
        for replica in self.replicas:
            self.say(replica.describe(place))

    def finish(self) -> None:
        """Deliver everything and let time pass until nothing is left to do; then tell decisions and executions."""
        self._muted = True
        end = self.now + PATIENCE
        while self._under_way or not self._finished:
            if self.now > end:
                raise ScenarioError(f"stuck: {[replica.core.status() for replica in self._living]}")
            self.stabilize()
            self.tick(BEACON)
            for replica in self._living:
                self.beacon(replica.row)
            self.stabilize()
        self._muted = False
        self._check_orders()
        for place, record in sorted(self._decisions.items()):
            self.say(
                f"decided: {self.wording.place(place)} {self.wording.triple(record.value, record.deps, record.seq)}"
            )
        for replica in self._living:
            order = "; ".join(self.wording.component(component) for component in replica.executed)
            self.say(f"{replica.name} has executed {order or 'nothing'}")

    @property
    def _finished(self) -> bool:
        frontiers = {replica.core.status().executed for replica in self._living}
        return len(frontiers) == 1 and all(replica.quiet for replica in self._living)

    # -- messages ------------------------------------------------------------------------------------------

    def _place_of(self, message: Any) -> InstanceId | None:
        return self.wording.place_of(message)

    def _arrive(self, parcel: Parcel) -> None:
        replica = self.replicas[parcel.receiver]
        if not replica.alive:
            self.say(f"lost, {replica.name} is down: {self._describe(parcel)}")
            return
        self.say(f"{self._describe(parcel)}")
        replica.take(Receive(parcel.sender, parcel.message), self.now)

    def _describe(self, parcel: Parcel) -> str:
        message = parcel.message
        place = self.wording.place_of(message)
        about = f" {self.wording.place(place)}" if place else ""
        ends = f"{replica_name(parcel.sender)}->{replica_name(parcel.receiver)}"
        return f"{ends} {type(message).__name__}{about}"

    # -- what must hold ------------------------------------------------------------------------------------

    def _on_decision(self, row: Row, place: InstanceId, record: Record) -> None:
        """Check agreement and visibility (protocol, "Words")."""
        first = self._decisions.setdefault(place, record)
        if _decision(first) != _decision(record):
            raise ScenarioError(
                f"two decisions for {self.wording.place(place)}: {self.wording.record(place, first)},"
                f" and at {replica_name(row)} {self.wording.record(place, record)}"
            )
        commands = [item for item in self._decisions.items() if item[1].value is not NOP]
        for (one, here), (other, there) in combinations(commands, 2):
            if _conflict(here, there) and not covers(here.deps, other) and not covers(there.deps, one):
                raise ScenarioError(
                    f"neither covers the other: {place_name(one)} deps={deps_text(here.deps)}"
                    f" and {place_name(other)} deps={deps_text(there.deps)}"
                )

    def _check_orders(self) -> None:
        first, *others = self._living
        for other in others:
            if other.writes != first.writes:
                raise ScenarioError(f"{first.name} and {other.name} wrote in different orders")


def _decision(record: Record) -> tuple[object, ...]:
    return record.value, record.deps, record.seq


def _conflict(one: Record, other: Record) -> bool:
    assert isinstance(one.value, Access)
    assert isinstance(other.value, Access)
    return conflict(one.value, other.value)
