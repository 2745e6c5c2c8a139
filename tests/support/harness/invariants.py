"""What must hold after every event and of every message that leaves (protocol 2, 4.4, 4.12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from epaxos.protocol.contract import Effects, Event, Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Instance, Phase, Proposal, Value
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from harness.commands import Access, conflict, flush

_PROMISE_NOTHING = (Nack, CommitRequest, Truncated, Beacon, Echo, Missing, Waiting, ReadIndex, ReadIndexOK)


class Record(NamedTuple):
    """What an acceptor remembers of an instance, as it is at one moment."""

    bal: Ballot
    abal: Ballot
    phase: Phase
    value: Value | None
    deps: Vector
    seq: int
    init: Proposal | None
    orig: Access | None


def record_of(instance: Instance) -> Record:
    return Record(
        instance.bal,
        instance.abal,
        instance.phase,
        instance.value,
        instance.deps,
        instance.seq,
        instance.init,
        cast("Access | None", instance.orig),
    )


class Watch:
    """Looks at one core after every event; fails by assertion."""

    def __init__(self, core: EPaxos) -> None:
        self._core = core
        self._before: dict[InstanceId, Record] = {}
        self._answers: dict[InstanceId, PreAcceptOK] = {}

    def after(self, event: Event[Message], effects: Effects[Message]) -> None:
        """Check the effects of an event and the instances that it touched."""
        for _, message in effects.messages:
            assert isinstance(message, _PROMISE_NOTHING), f"promised without a record: {message}"
        for _, message in effects.deferrable:
            assert isinstance(message, Commit)
        recorded = {instance.id for instance in effects.records}
        touched = recorded | ({place} if (place := _place_of(event)) else set())
        for place in sorted(touched):
            self._check_instance(place, place in recorded)
        for _, message in effects.promises:
            if isinstance(message, PreAcceptOK):
                self._check_answer(event, message)

    def all_recorded(self) -> None:
        """Check that no instance has changed unnoticed since the last event that touched it."""
        for row in self._core.state.logs.rows:
            for instance in row.values():
                self._check_instance(instance.id, recorded=False)
                self._check_known(instance)

    def _check_instance(self, place: InstanceId, recorded: bool) -> None:  # noqa: FBT001 - a fact, not an option
        instance = self._core.state.logs.get(place)
        if instance is None:
            return
        now = record_of(instance)
        before = self._before.get(place)
        self._before[place] = now
        assert recorded or before == now or (before is None and _is_blank(now)), f"{place} changed unrecorded"
        _check_fields(place, now)
        if before is not None:
            _check_step(place, before, now)

    def _check_known(self, instance: Instance) -> None:
        """A payload once learned stays in the conflict index (protocol 1, D)."""
        if instance.orig is not None:
            row, slot = instance.id
            probe = Access(0, writes=(*instance.orig.reads, *instance.orig.writes))
            if instance.orig.reads or instance.orig.writes:
                assert self._core.state.conflicts.deps(probe)[row] >= slot
            if instance.orig.reads_all or instance.orig.writes_all:
                assert self._core.state.conflicts.deps(flush(0))[row] >= slot

    def _check_answer(self, event: Event[Message], answer: PreAcceptOK) -> None:
        """The first answer is exact (protocol 4.4), all later ones equal it (4.12)."""
        first = self._answers.setdefault(answer.id, answer)
        assert answer == first, f"a second answer differs: {first} and {answer}"
        if answer is not first:
            return
        state = self._core.state
        owned = answer.id.row == state.me
        proposed = state.logs.no_deps
        if not owned:
            assert isinstance(event, Receive)
            assert isinstance(event.message, PreAccept)
            proposed = event.message.deps
        expected = tuple(
            proposed[row]
            if row == answer.id.row and not owned
            else max([proposed[row], *self._conflicting_slots(answer.id, row)])
            for row in range(state.n)
        )
        assert answer.deps == expected, f"{answer} instead of {expected}"

    def _conflicting_slots(self, place: InstanceId, row: Row) -> list[Slot]:
        """The slots of a row that are known to conflict with an instance, later ones of its own row left out."""
        logs = self._core.state.logs
        instance = logs.get(place)
        assert instance is not None
        command = cast("Access", instance.orig)
        return [
            slot
            for slot, other in logs.rows[row].items()
            if other.orig is not None
            and (row != place.row or slot < place.slot)
            and conflict(cast("Access", other.orig), command)
        ]


def _place_of(event: Event[Message]) -> InstanceId | None:
    if isinstance(event, Receive):
        return getattr(event.message, "id", None)
    return None


def _is_blank(record: Record) -> bool:
    return record.phase is Phase.INITIAL and record.bal == 0 and record.value is None and record.orig is None


def _check_fields(place: InstanceId, now: Record) -> None:
    assert now.abal <= now.bal, f"{place}: {now}"
    if now.phase is Phase.PREACCEPTED:
        assert now.init is not None
        assert now.value == now.init.command == now.orig
        assert all(stored >= first for stored, first in zip(now.deps, now.init.deps, strict=True))
    if now.value is NOP:
        assert set(now.deps) == {-1}, f"{place}: {now}"
        assert now.seq == 0, f"{place}: {now}"
    elif now.value is not None:
        assert now.orig == now.value, f"{place}: {now}"
        assert now.deps[place.row] < place.slot, f"{place}: {now}"


def _check_step(place: InstanceId, before: Record, now: Record) -> None:
    change = f"{place}: {before} -> {now}"
    assert before.bal <= now.bal, change
    assert before.abal <= now.abal, change
    assert before.phase <= now.phase, change
    assert before.orig is None or before.orig == now.orig, change
    assert before.init is None or before.init == now.init, change
    if before.phase is Phase.COMMITTED:
        assert before == now, change


def check_promise(message: Message, disk: Mapping[InstanceId, Record]) -> None:
    """Check that what a message promises is durable at its sender when it leaves (protocol 2)."""
    if isinstance(message, _PROMISE_NOTHING):
        return
    record = disk.get(message.id)
    assert record is not None, f"{message} without a record"
    if isinstance(message, PreAccept):
        assert record.init == (message.command, message.deps, message.seq)
    elif isinstance(message, Offer):
        assert record.init is not None
    elif isinstance(message, PreAcceptOK):
        assert record.orig is not None
        if record.phase is Phase.PREACCEPTED:
            assert (record.deps, record.seq) == (message.deps, message.seq)
    elif isinstance(message, Accept | AcceptOK):
        assert record.phase is Phase.COMMITTED or record.abal >= message.ballot
        assert record.phase >= Phase.ACCEPTED
    elif isinstance(message, Commit):
        assert record.phase is Phase.COMMITTED
        assert (record.deps, record.seq) == (message.deps, message.seq)
        assert message.value is None or message.value == record.value
    else:
        assert isinstance(message, Recover | RecoverOK | Validate | ValidateOK)
        assert record.phase is Phase.COMMITTED or record.bal >= message.ballot
        assert not isinstance(message, ValidateOK) or record.init is not None
