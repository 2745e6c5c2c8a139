"""The invariants of a single replica of a protocol with a leader (multipaxos 2), after every record and message.

Records are compared with the ones before, messages with what is durable where they leave; the value of a ballot is
compared across replicas. What a quorum has voted for is chosen, whether or not anybody has learned it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from epaxos.protocol.contract import Effects, Event
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.kinds import MULTIPAXOS
from epaxos.protocol.log import Instance, Phase, Value
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.messages import DECIDED, Accept, AcceptOK, Prepare, Promised, Voted
from epaxos.protocol.multipaxos.state import LOG, VIEW
from epaxos.protocol.quorums import Quorums
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer


class _Vote(NamedTuple):
    """A durable vote of a replica at a slot."""

    ballot: Ballot
    row: Row
    value: Value | None


class LeaderAcceptors(Observer):
    """Checks the records and promises of all replicas of a run.

    Of each replica: `_durable` is what its disk holds by slot, and `_promised` the ballot that this promises; `_latest`
    is what its core has promised last. `_dropped` is up to where its log is dropped or stands in a checkpoint.
    Of all: `_votes` are the durable ones by slot, and `_promises` by ballot who has promised it, with how far it had
    dropped its log by then. `_chosen` is by slot the lowest ballot at which a quorum has voted.
    """

    def __init__(self, quorums: Quorums) -> None:
        self._quorums = quorums
        n = self._n = quorums.n
        self._quorum = quorums.n - quorums.f
        self._durable: list[dict[Slot, Instance]] = [{} for _ in range(n)]
        self._promised: list[Ballot] = [0] * n
        self._latest: list[Ballot] = [0] * n
        self._covered: list[Slot] = [-1] * n
        self._dropped: list[Slot] = [-1] * n
        self._starts = [0] * n
        self._forgetful: set[Row] = set()
        self._values: dict[tuple[Slot, Ballot], Value] = {}
        self._decided: dict[Slot, Value] = {}
        self._campaigns: dict[Ballot, int] = {}
        self._votes: defaultdict[Slot, set[_Vote]] = defaultdict(set)
        self._promises: defaultdict[Ballot, dict[Row, Slot]] = defaultdict(dict)
        self._chosen: dict[Slot, tuple[Ballot, Value | None]] = {}
        self._proposed: set[tuple[Slot, Ballot]] = set()
        self._checks: dict[type, Callable[[Row, Any], None]] = {
            Prepare: self._on_prepare,
            Voted: self._on_voted,
            Promised: self._on_promised,
            Accept: self._on_accept,
            AcceptOK: self._on_accept_ok,
        }

    # -- records -------------------------------------------------------------------------------------------

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`: no promise of one epoch says anything of another."""
        if configuration.protocol != MULTIPAXOS.name:
            return Observer()
        return LeaderAcceptors(configuration.quorums) if configuration.epoch else self

    def forgot(self, row: Row) -> None:
        """See `Observer`. Nobody believes it, so nothing is asked of it."""
        self._forgetful.add(row)

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`. What a restart reads is what was written."""
        del above
        if row in self._forgetful:
            return
        self._starts[row] += 1
        self._latest[row] = self._promised[row]
        self._dropped[row] = max(executed[LOG], self._dropped[row])
        for slot, written in self._durable[row].items():
            record = records.get(InstanceId(LOG, slot))
            if record is None and slot <= self._dropped[row]:
                continue
            if record is None or (record.abal, record.value, record.phase) != (
                written.abal,
                written.value,
                written.phase,
            ):
                self._fail(row, slot, f"reads {record!r}, written was {written!r}")

    def durable(self, row: Row, record: Instance) -> None:
        """See `Observer`."""
        if row in self._forgetful:
            return
        self._promised[row] = max(record.bal, self._promised[row])
        if record.id != VIEW:
            self._durable[row][record.id.slot] = record
            if record.phase is Phase.ACCEPTED:
                self._count(_Vote(record.abal, row, record.value), record.id.slot)
            return
        for slot in range(self._covered[row] + 1, record.deps[LOG] + 1):
            self._check_covered(row, slot)
        self._covered[row] = max(record.deps[LOG], self._covered[row])

    def _count(self, vote: _Vote, slot: Slot) -> None:
        """Once a quorum has voted for a value, nobody votes for another at a higher ballot (rule 3)."""
        votes = self._votes[slot]
        votes.add(vote)
        ballot, value = self._chosen.get(slot, (vote.ballot, vote.value))
        if vote.ballot > ballot and vote.value != value:
            self._fail(
                vote.row, slot, f"votes for {vote.value} at {vote.ballot}; chosen at {ballot} is {value}"
            )
        if vote.ballot <= ballot and sum(other.ballot == vote.ballot for other in votes) >= self._quorum:
            self._chosen[slot] = vote.ballot, vote.value
            for later in sorted(votes, key=lambda other: other[:2]):
                if later.ballot > vote.ballot and later.value != vote.value:
                    self._fail(later.row, slot, f"has {later}; chosen at {vote.ballot} is {vote.value}")

    def _check_covered(self, row: Row, slot: Slot) -> None:
        """The VIEW covers a slot only if the decided value stands in the own durable record (rule 10)."""
        held = self._durable[row].get(slot)
        if slot <= self._dropped[row]:
            return
        if held is None or (slot in self._decided and held.value != self._decided[slot]):
            decided = self._decided.get(slot)
            self._fail(row, slot, f"has a VIEW that covers it, and holds {held!r}; decided is {decided!r}")

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        if row in self._forgetful:
            return
        if effects.truncate is not None:
            self._dropped[row] = max(effects.truncate[LOG], self._dropped[row])
        for record in effects.records:
            if record.id != VIEW and record.phase is Phase.ACCEPTED:
                if record.bal < self._latest[row] or record.abal != record.bal:
                    self._fail(
                        row, record.id.slot, f"votes below the promise {self._latest[row]}: {record!r}"
                    )
                self._check_value(row, record.id.slot, record.abal, record.value)
            if record.id == VIEW and record.bal < self._latest[row]:
                self._fail(row, 0, f"takes back the promise {self._latest[row]}: {record!r}")
            self._latest[row] = max(record.bal, self._latest[row])
        for component in effects.executions:
            for decided in component:
                self._decided.setdefault(decided.id.slot, decided.value)

    def _check_value(self, row: Row, slot: Slot, ballot: Ballot, value: Value | None) -> None:
        """One ballot has one value at a slot (rule 1)."""
        assert value is not None
        known = self._values.setdefault((slot, ballot), value)
        if known != value:
            self._fail(row, slot, f"has {value} for ballot {ballot}, others {known}")

    def adopted(self, row: Row, executed: Vector, above: Sequence[InstanceId]) -> None:
        """See `Observer`."""
        del above
        self._dropped[row] = max(executed[LOG], self._dropped[row])

    # -- messages ------------------------------------------------------------------------------------------

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        del receivers
        check = self._checks.get(type(message))
        if check is not None and row not in self._forgetful:
            check(row, message)

    def _check_promise(self, row: Row, ballot: Ballot) -> None:
        if self._promised[row] < ballot:
            self._fail(row, 0, f"promises {ballot}; durable is the promise {self._promised[row]}")

    def _on_prepare(self, row: Row, message: Prepare) -> None:
        self._check_promise(row, message.ballot)
        if message.ballot % self._n != row:
            self._fail(row, message.first, f"campaigns at ballot {message.ballot} of another replica")
        start = self._starts[row]
        if self._campaigns.setdefault(message.ballot, start) != start:
            self._fail(row, message.first, f"uses ballot {message.ballot} again")

    def _on_voted(self, row: Row, message: Voted) -> None:
        self._check_promise(row, message.ballot)
        held = self._durable[row].get(message.slot)
        if message.abal == DECIDED or (held is not None and held.abal >= message.ballot):
            return  # it has voted at that ballot since
        if held is None or (held.value, held.abal) != (message.value, message.abal):
            self._fail(row, message.slot, f"tells a vote {message}, durable is {held!r}")

    def _on_promised(self, row: Row, message: Promised) -> None:
        self._check_promise(row, message.ballot)
        self._promises[message.ballot].setdefault(row, message.truncated)
        named = {slot for first, last in message.slots for slot in range(first, last + 1)}
        for slot, held in self._durable[row].items():
            if (
                max(message.first - 1, message.truncated) < slot
                and slot not in named
                and 0 < held.abal < message.ballot
            ):
                self._fail(row, slot, f"does not tell in {message} that it holds {held!r}")

    def _on_accept(self, row: Row, message: Accept) -> None:
        if message.ballot % self._n != row:
            self._fail(row, message.slot, f"leads ballot {message.ballot} of another replica")
        promised = self._promises[message.ballot]
        if len(promised) < self._quorum:
            self._fail(
                row, message.slot, f"leads ballot {message.ballot}, promised by {sorted(promised)} only"
            )
        if message.value is not None:
            self._check_value(row, message.slot, message.ballot, message.value)
            if (message.slot, message.ballot) not in self._proposed:
                self._proposed.add((message.slot, message.ballot))
                self._check_choice(row, message)

    def _check_choice(self, row: Row, message: Accept) -> None:
        """It must be what some quorum of the promises leaves no other choice but (rules 3 and 7).

        That is the value of its highest vote, or any value where it has none. What is decided may be told by one of
        them, and then counts more.
        """
        ballot, slot, value, _ = message
        if slot in self._decided and value == self._decided[slot]:
            return
        dropped = {other for other, frontier in self._promises[ballot].items() if slot <= frontier}
        last: dict[Row, _Vote] = {}
        for vote in self._votes[slot]:
            if vote.ballot < ballot and vote.ballot > last.get(vote.row, vote._replace(ballot=-1)).ballot:
                last[vote.row] = vote
        voters = [
            last.get(other, _Vote(0, other, value)) for other in self._promises[ballot].keys() - dropped
        ]
        for vote in voters:
            below = sum(other.ballot <= vote.ballot for other in voters)
            if vote.value == value and below >= self._quorum:
                return
        told = sorted(voters, key=lambda other: other[:2])
        self._fail(
            row, slot, f"proposes {value} at {ballot}, of which promise {told}, and {sorted(dropped)} dropped"
        )

    def _on_accept_ok(self, row: Row, message: AcceptOK) -> None:
        held = self._durable[row].get(message.slot)
        if message.slot <= self._dropped[row]:
            return
        if held is None or held.abal < message.ballot:
            self._fail(row, message.slot, f"votes at ballot {message.ballot}; durable is {held!r}")

    def _fail(self, row: Row, slot: Slot, text: str) -> None:
        place = InstanceId(LOG, slot)
        raise ViolationError("leader", f"replica {row}, slot {slot}: {text}", (place,))
