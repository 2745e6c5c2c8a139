"""The invariants of a single replica (protocol 2 and 4.12), after every handler, record and message.

Records are compared with the ones before, messages with what is durable where they leave. What is known of an
instance anywhere (its payload, what its owner proposed, the value of a ballot) is compared across replicas.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from epaxos.protocol.contract import Effects, Event
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Commit,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Validate,
    ValidateOK,
)
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector, covers
from epaxos.protocol.kinds import EPAXOS
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.checkers.reference import ANY, EVERYTHING
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer


class _Known:
    """The payloads that one replica ever learned, by key: the highest slot of each row that reads or writes it."""

    def __init__(self, n: int) -> None:
        self._reads: defaultdict[bytes, list[Slot]] = defaultdict(lambda: [-1] * n)
        self._writes: defaultdict[bytes, list[Slot]] = defaultdict(lambda: [-1] * n)

    def add(self, place: InstanceId, content: Content) -> None:
        for index, keys in ((self._reads, content.reads), (self._writes, content.brought)):
            for key in keys:
                slots = index[key]
                slots[place.row] = max(place.slot, slots[place.row])
        if content.base is not None:  # what it says has executed is to be covered as it is itself
            slots = self._writes[EVERYTHING]
            slots[:] = map(max, slots, content.base)

    def conflicts(self, content: Content) -> list[Sequence[Slot]]:
        """The highest conflicting slots, one sequence for each key and kind."""
        found: list[Sequence[Slot]] = [self._writes[key] for key in content.reads if key in self._writes]
        for key in content.writes:
            found += [index[key] for index in (self._reads, self._writes) if key in index]
        if content.writes and ANY in self._reads:
            found.append(self._reads[ANY])
        return found


class Acceptors(Observer):
    """Checks the records and promises of all replicas of a run of `n`.

    So many slots `ahead` of the highest durable one an owner may use without a record (protocol 4.11b). What it has
    proposed so it may forget, but not that the place was used, nor to cover it.
    """

    def __init__(self, n: int, ahead: int, contents: Contents) -> None:
        self._n = n
        self._ahead = ahead
        self._contents = contents
        self._latest: list[dict[InstanceId, Instance]] = [{} for _ in range(n)]
        self._durable: list[dict[InstanceId, Instance]] = [{} for _ in range(n)]
        self._known = [_Known(n) for _ in range(n)]
        self._starts = [0] * n
        self._forgetful: set[Row] = set()
        self._dropped: list[Vector] = [(-1,) * n] * n
        self._proposals: dict[InstanceId, Proposal] = {}
        self._proposed: list[dict[InstanceId, Content]] = [{} for _ in range(n)]
        self._accepts: dict[tuple[InstanceId, Ballot], tuple[Any, ...]] = {}
        self._answers: dict[tuple[Row, InstanceId], PreAcceptOK] = {}
        self._recovers: dict[tuple[InstanceId, Ballot], int] = {}
        self._checks: dict[type, Callable[[Row, Any, Instance | None], None]] = {
            PreAccept: self._on_pre_accept,
            PreAcceptOK: self._on_pre_accept_ok,
            Accept: self._on_accept,
            AcceptOK: self._on_accept_ok,
            Commit: self._on_commit,
            Recover: self._on_recover,
            RecoverOK: self._on_promise,
            Validate: self._on_promise,
            ValidateOK: self._on_validate_ok,
        }

    def of_epoch(self, configuration: Configuration) -> Observer:
        """See `Observer`: no promise of one epoch says anything of another."""
        if configuration.protocol != EPAXOS.name:
            return Observer()
        return Acceptors(configuration.n, self._ahead, self._contents) if configuration.epoch else self

    # -- records -------------------------------------------------------------------------------------------

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`. What was durable once counts, whatever the replica has dropped since."""
        del executed, above
        if row in self._forgetful:
            return
        self._starts[row] += 1
        self._check_read(row, records)
        self._latest[row] = dict(self._durable[row])
        self._known[row] = known = _Known(self._n)
        for place, record in self._durable[row].items():
            if record.orig is not None:
                known.add(place, self._contents.of(record.orig))
        for place, content in self._proposed[row].items():
            known.add(place, content)

    def _check_read(self, row: Row, records: Mapping[InstanceId, Instance]) -> None:
        """What a restart reads is what was written."""
        for place, written in self._durable[row].items():
            record = records.get(place)
            if record is None and covers(self._dropped[row], place):
                continue
            if record is None or any(
                getattr(record, field) != getattr(written, field) for field in Instance.__slots__
            ):
                self._fail(row, place, f"reads {record!r}, written was {written!r}")

    def forgot(self, row: Row) -> None:
        """See `Observer`. Nobody believes it, so nothing is asked of it."""
        self._forgetful.add(row)

    def durable(self, row: Row, record: Instance) -> None:
        """See `Observer`."""
        if row in self._forgetful:
            return
        self._durable[row][record.id] = record
        if record.init is not None:
            self._proposals.setdefault(record.id, record.init)

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        if row in self._forgetful:
            return
        latest = self._latest[row]
        if effects.truncate is not None:
            self._dropped[row] = effects.truncate
        for _, message in effects.early:
            self._check_cover(row, message.id, message.command, message.deps)
            self._known[row].add(message.id, self._contents.of(message.command))
            latest[message.id] = _proposed(message)
        for record in effects.records:
            before = latest.get(record.id)
            if covers(self._dropped[row], record.id):
                self._fail(row, record.id, f"writes what it has dropped: {record!r}")
            self._check_shape(row, record)
            if before is not None:
                self._check_change(row, before, record)
            self._check_proposal(row, record)
            if record.phase is Phase.PREACCEPTED and (before is None or before.phase is Phase.INITIAL):
                self._check_cover(row, record.id, record.orig, record.deps)
            if record.orig is not None and (before is None or before.orig is None):
                self._known[row].add(record.id, self._contents.of(record.orig))
            latest[record.id] = record

    def _check_shape(self, row: Row, record: Instance) -> None:
        if record.abal > record.bal:
            self._fail(row, record.id, f"accepted a ballot above the promised one: {record!r}")
        if (
            record.value is NOP
            and record.phase >= Phase.ACCEPTED
            and (record.seq or max(record.deps, default=-1) >= 0)
        ):
            self._fail(row, record.id, f"a no-op with dependencies: {record!r}")
        if record.phase is Phase.PREACCEPTED and (
            record.init is None
            or any(mine < proposed for mine, proposed in zip(record.deps, record.init.deps, strict=True))
        ):
            self._fail(row, record.id, f"pre-accepted less than was proposed: {record!r} of {record.init}")

    def _check_change(self, row: Row, before: Instance, record: Instance) -> None:
        if record.bal < before.bal or record.abal < before.abal or record.phase < before.phase:
            self._fail(row, record.id, f"went back from {before!r} to {record!r}")
        if before.orig is not None and record.orig != before.orig:
            self._fail(row, record.id, f"forgot the payload {before.orig!r}, has {record.orig!r}")
        same_vote = before.phase is record.phase is Phase.ACCEPTED and before.abal == record.abal
        final = before.phase is Phase.COMMITTED
        if (same_vote or final) and (before.value, before.deps, before.seq) != (
            record.value,
            record.deps,
            record.seq,
        ):
            self._fail(row, record.id, f"changed {before!r} to {record!r}")

    def _check_proposal(self, row: Row, record: Instance) -> None:
        """What the owner proposed is one thing, whoever heard of it, from the moment that it is durable."""
        proposal = self._proposals.get(record.id)
        if proposal is None or proposal is record.init:
            return
        if record.init is not None and record.init != proposal:
            self._fail(row, record.id, f"holds {record.init} as proposed, others {proposal}")
        if record.orig is not None and record.orig != proposal.command:
            self._fail(
                row, record.id, f"holds the payload {record.orig!r}, proposed was {proposal.command!r}"
            )

    def _check_cover(self, row: Row, place: InstanceId, command: Any, deps: Vector) -> None:
        """A replica that ever knew a payload covers it in every later answer (protocol 2).

        Of what an owner proposes in one event, what has no record yet is looked at before what has.
        """
        for slots in self._known[row].conflicts(self._contents.of(command)):
            for other, slot in enumerate(slots):
                if slot > deps[other] and (other != place.row or (row == other and slot < place.slot)):
                    text = f"pre-accepts with deps={deps}, but knows of {other}.{slot}"
                    self._fail(row, place, text, InstanceId(other, slot))

    # -- messages ------------------------------------------------------------------------------------------

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        del receivers
        check = self._checks.get(type(message))
        if check is not None and row not in self._forgetful:
            check(row, message, self._durable[row].get(message.id))

    def _on_pre_accept(self, row: Row, message: PreAccept, durable: Instance | None) -> None:
        proposal = Proposal(message.command, message.deps, message.seq)
        if durable is None or durable.init != proposal:
            least = message.id.slot - self._ahead
            # Most often one of the last records says it.
            if not any(place.row == row and place.slot >= least for place in reversed(self._durable[row])):
                self._fail(row, message.id, f"sends {proposal}, which is not durable: {durable!r}")
            content = self._contents.of(message.command)
            if content.base is not None:
                self._fail(
                    row, message.id, f"sends {proposal}, a collection, which is not durable: {durable!r}"
                )
            self._proposed[row].setdefault(message.id, content)
        self._proposals.setdefault(message.id, proposal)
        if self._proposals[message.id] != proposal:
            self._fail(row, message.id, f"sends {proposal}, but has sent {self._proposals[message.id]}")

    def _on_pre_accept_ok(self, row: Row, message: PreAcceptOK, durable: Instance | None) -> None:
        if durable is None or durable.phase < Phase.PREACCEPTED:
            self._fail(row, message.id, f"promises {message}, which is not durable: {durable!r}")
        first = self._answers.setdefault((row, message.id), message)
        if first != message:
            self._fail(row, message.id, f"answers {message} to a PreAccept, before it was {first}")

    def _on_accept(self, row: Row, message: Accept, durable: Instance | None) -> None:
        self._check_vote(row, message.id, message.ballot, durable)
        value = self._payload(message.id) if message.value is None else message.value
        self._check_ballot(row, message.id, message.ballot, (value, message.deps, message.seq))

    def _on_accept_ok(self, row: Row, message: AcceptOK, durable: Instance | None) -> None:
        self._check_vote(row, message.id, message.ballot, durable)
        if durable is not None and durable.phase is Phase.ACCEPTED and durable.abal == message.ballot:
            vote = (durable.value, durable.deps, durable.seq)
            self._check_ballot(row, message.id, message.ballot, vote)

    def _check_vote(self, row: Row, place: InstanceId, ballot: Ballot, durable: Instance | None) -> None:
        if durable is None or not (durable.abal >= ballot and durable.phase >= Phase.ACCEPTED):
            self._fail(row, place, f"votes at ballot {ballot}, which is not durable: {durable!r}")

    def _check_ballot(self, row: Row, place: InstanceId, ballot: Ballot, value: tuple[Any, ...]) -> None:
        """One ballot has one value."""
        known = self._accepts.setdefault((place, ballot), value)
        if known != value:
            self._fail(row, place, f"has {value} for ballot {ballot}, others {known}")

    def _payload(self, place: InstanceId) -> object:
        proposal = self._proposals.get(place)
        return None if proposal is None else proposal.command

    def _on_commit(self, row: Row, message: Commit, durable: Instance | None) -> None:
        if durable is None or durable.phase is not Phase.COMMITTED:
            self._fail(row, message.id, f"announces a decision that is not durable: {durable!r}")

    def _on_recover(self, row: Row, message: Recover, durable: Instance | None) -> None:
        self._on_promise(row, message, durable)
        if message.ballot % self._n != row:
            self._fail(row, message.id, f"recovers at ballot {message.ballot} of another replica")
        start = self._recovers.setdefault((message.id, message.ballot), self._starts[row])
        if start != self._starts[row]:
            self._fail(row, message.id, f"uses ballot {message.ballot} again after a restart")

    def _on_promise(
        self, row: Row, message: Recover | RecoverOK | Validate | ValidateOK, durable: Instance | None
    ) -> None:
        if durable is None or (durable.bal < message.ballot and durable.phase is not Phase.COMMITTED):
            self._fail(row, message.id, f"promises {message.ballot}, which is not durable: {durable!r}")

    def _on_validate_ok(self, row: Row, message: ValidateOK, durable: Instance | None) -> None:
        self._on_promise(row, message, durable)
        if durable is not None and durable.init is None and durable.phase is not Phase.COMMITTED:
            self._fail(row, message.id, f"has validated what it does not remember: {durable!r}")
        for other, _ in message.against:
            if other.row == message.id.row:
                self._fail(row, message.id, f"sets {other} of the same row against it", other)

    def _fail(self, row: Row, place: InstanceId, text: str, *others: InstanceId) -> None:
        raise ViolationError("acceptor", f"replica {row}, instance {place}: {text}", (place, *others))


def _proposed(message: PreAccept) -> Instance:
    """The record that an owner has not written of a proposal."""
    record = Instance(message.id, message.deps)
    record.phase, record.value, record.orig, record.seq = (
        Phase.PREACCEPTED,
        message.command,
        message.command,
        message.seq,
    )
    record.init = Proposal(message.command, message.deps, message.seq)
    return record
