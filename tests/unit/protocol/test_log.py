"""Protocol 4.2: the record of an instance, and the rows that hold them."""

from __future__ import annotations

from random import Random

from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Logs, Phase

PLACE = InstanceId(1, 4)


def test_a_record_is_blank_at_first_and_made_once() -> None:
    logs = Logs(3)
    assert logs.get(PLACE) is None
    instance = logs.ensure(PLACE)
    assert logs.ensure(PLACE) is instance
    assert logs.get(PLACE) is instance
    assert (instance.id, instance.bal, instance.abal, instance.phase) == (PLACE, 0, 0, Phase.INITIAL)
    assert (instance.value, instance.deps, instance.seq) == (None, (-1, -1, -1), 0)
    assert instance.init is None
    assert instance.orig is None


def test_phases_rise() -> None:
    assert Phase.INITIAL < Phase.PREACCEPTED < Phase.ACCEPTED < Phase.COMMITTED


def test_a_record_describes_itself() -> None:
    assert repr(Logs(2).ensure(InstanceId(1, 4))) == "<1.4 INITIAL bal=0 abal=0 None deps=(-1, -1) seq=0>"


def test_committed_is_the_highest_slot_without_a_gap_below() -> None:
    random = Random(0)
    for _ in range(50):
        logs = Logs(2)
        slots = list(range(12))
        random.shuffle(slots)
        committed = set()
        for slot in slots:
            logs.ensure(InstanceId(1, slot + random.randint(0, 3)))
            logs.ensure(InstanceId(1, slot)).phase = Phase.COMMITTED
            committed.add(slot)
            logs.advance_committed(1)
            assert logs.committed == [-1, min(set(range(13)) - committed) - 1]
