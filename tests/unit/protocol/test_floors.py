"""Protocol 4.11b: what an owner proposes without a record, and what it owes to what it may have forgotten."""

from __future__ import annotations

from copy import copy

import pytest

from epaxos.protocol.contract import Durable, Effects, Propose
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    Message,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
)
from epaxos.protocol.ids import InstanceId, Slot, Vector
from epaxos.protocol.log import NOP, Instance, Phase
from harness.alone import Alone
from harness.commands import collect, put
from harness.probe import sent, sent_to

AHEAD = 3
NONE: Vector = (-1, -1, -1)


def own(slot: Slot) -> InstanceId:
    return InstanceId(0, slot)


def with_a_record() -> tuple[Alone, list[Instance]]:
    """A replica whose first proposal is durable and undecided, and what is on its disk."""
    alone = Alone(ahead=AHEAD)
    effects = alone.take(Propose(put(1, b"k")))
    assert not effects.early
    return alone, [copy(record) for record in effects.records]


def restarted(disk: list[Instance]) -> tuple[Alone, Effects[Message]]:
    """The same after a crash."""
    alone = Alone(durable=Durable(disk, NONE, NONE, ()), ahead=AHEAD)
    return alone, alone.resume()


def test_near_a_durable_slot_the_first_record_is_that_of_the_decision() -> None:
    alone, _ = with_a_record()
    effects = alone.take(Propose(put(2, b"k")))
    assert effects.early == [((1, 2), PreAccept(own(1), put(2, b"k"), (0, -1, -1), 1))]
    assert not effects.records
    assert not effects.promises

    effects = alone.hear(1, PreAcceptOK(own(1), (0, -1, -1), 1))
    (record,) = effects.records
    assert record.phase is Phase.COMMITTED
    assert record.init is not None
    assert record.orig == put(2, b"k")
    assert [type(message) for _, message in effects.deferrable] == [Commit]


def test_farther_ones_have_a_record_first_and_bring_others_near() -> None:
    alone, _ = with_a_record()
    early = [bool(alone.take(Propose(put(number, b"k"))).early) for number in range(2, 3 + 2 * AHEAD)]
    assert early == [True] * AHEAD + [False] + [True] * AHEAD


def test_a_decision_that_is_durable_brings_others_near() -> None:
    alone, _ = with_a_record()
    for number in range(AHEAD):
        alone.take(Propose(put(2 + number, b"k")))
    alone.hear(1, PreAcceptOK(own(AHEAD), (AHEAD - 1, -1, -1), AHEAD))
    assert alone.take(Propose(put(9, b"k"))).early


def test_a_collection_has_a_record_first() -> None:
    alone, _ = with_a_record()
    effects = alone.take(Propose(collect(2, -1, -1, -1)))
    assert not effects.early
    assert effects.records


def test_a_lone_replica_has_a_record_of_each() -> None:
    alone = Alone(1, ahead=AHEAD)
    for number in range(3):
        assert alone.take(Propose(put(number, b"k"))).records


def test_a_slow_path_records_all_that_is_known() -> None:
    alone, _ = with_a_record()
    alone.take(Propose(put(2, b"k")))
    effects = Effects[Message]()
    for peer in (1, 2):
        effects.extend(alone.hear(peer, PreAcceptOK(own(1), (0, 5, -1), 2)))
    record = effects.records[0]
    assert record.phase is Phase.ACCEPTED
    assert record.init is not None


def test_a_restart_annuls_what_it_may_have_forgotten_and_uses_no_slot_again() -> None:
    alone, disk = with_a_record()
    alone.take(Propose(put(2, b"k")))
    alone, effects = restarted(disk)
    annulled = [message for message in sent_to(effects, 1) if isinstance(message, Accept)]
    assert annulled == [Accept(own(slot), 0, NOP, NONE, 0) for slot in range(1, 1 + AHEAD)]

    effects = alone.take(Propose(put(3, b"other")))
    pre_accept = sent(effects, PreAccept)[1]
    assert pre_accept.id == own(1 + AHEAD)
    assert pre_accept.deps == (AHEAD, -1, -1)


def test_what_may_be_forgotten_is_covered_in_every_later_answer() -> None:
    _, disk = with_a_record()
    alone, _ = restarted(disk)
    effects = alone.hear(1, PreAccept(InstanceId(1, 0), put(4, b"other"), NONE, 0))
    assert sent(effects, PreAcceptOK) == {1: PreAcceptOK(InstanceId(1, 0), (AHEAD, -1, -1), 1)}


def test_floors_of_a_second_restart_are_no_lower() -> None:
    _, disk = with_a_record()
    alone, effects = restarted(disk)
    floor = alone.core.state.floors[0]
    assert floor == AHEAD
    alone, _ = restarted([*disk, *map(copy, effects.records)])
    assert alone.core.state.floors[0] >= floor


def test_restarts_without_a_quorum_annul_no_more_than_the_first_one() -> None:
    _, disk = with_a_record()
    for _ in range(4):
        alone, effects = restarted(disk)
        disk = [*disk, *map(copy, effects.records)]
        assert alone.core.state.floors[0] == alone.core.state.seen[0] == AHEAD
        disk = list({record.id: record for record in disk}.values())
    assert len(disk) == 1 + AHEAD


def test_what_a_restart_annuls_brings_no_others_near() -> None:
    _, disk = with_a_record()
    alone, effects = restarted(disk)
    assert own(AHEAD) in [record.id for record in effects.records]
    assert not alone.take(Propose(put(2, b"k"))).early
    assert alone.take(Propose(put(3, b"k"))).early


def test_others_are_told_once_all_below_is_decided() -> None:
    _, disk = with_a_record()
    alone, _ = restarted(disk)
    assert alone.core.beacon(0.0).floor == NONE
    alone.learn(own(0), put(1, b"k"))
    for slot in range(1, 1 + AHEAD):
        alone.hear(1, AcceptOK(own(slot), 0))
    assert alone.core.beacon(0.0).floor == (AHEAD, -1, -1)


def test_others_cover_the_floors_that_they_hear_of() -> None:
    alone = Alone(ahead=AHEAD)
    alone.hear(1, Beacon(NONE, NONE, NONE, NONE, (-1, 7, -1), 1))
    pre_accept = sent(alone.take(Propose(put(1, b"k"))), PreAccept)[1]
    assert pre_accept.deps == (-1, 7, -1)
    assert alone.core.status().seen == (0, 7, -1)


@pytest.mark.parametrize("decision", [put(2, b"k"), NOP])
def test_what_was_forgotten_is_learned_from_whom_decided_it(decision: object) -> None:
    _, disk = with_a_record()
    alone, _ = restarted(disk)
    alone.learn(own(1), decision, *((0, -1, -1) if decision is not NOP else NONE))  # type: ignore[arg-type]
    instance = alone.core.state.logs.get(own(1))
    assert instance is not None
    assert instance.value == decision


def test_a_promise_to_a_recoverer_is_kept() -> None:
    alone, disk = with_a_record()
    alone.take(Propose(put(2, b"k")))
    effects = alone.hear(1, Recover(own(1), 4))
    answer = sent(effects, RecoverOK)[1]
    assert answer.phase is Phase.PREACCEPTED
    alone, effects = restarted([*disk, *map(copy, effects.records)])
    assert own(1) not in [message.id for message in sent_to(effects, 1) if isinstance(message, Accept)]
