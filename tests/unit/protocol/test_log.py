"""Protocol 4.2: the record of an instance, and the rows that hold them."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.ids import InstanceId, Vector
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


def test_what_waits_is_what_was_heard_of_and_has_not_executed() -> None:
    logs = Logs(3)
    known = [logs.ensure(InstanceId(0, 3)), logs.ensure(InstanceId(1, 9))]
    executed, seen = (2, 7, -1), (3, 9, 0)
    found = logs.waiting(executed, {InstanceId(1, 8)}, seen, 10)
    assert [instance.id for instance in found] == [InstanceId(2, 0), InstanceId(0, 3), InstanceId(1, 9)]
    assert found[1:] == known
    assert logs.get(InstanceId(2, 0)) is None, "looking changes nothing"
    assert [instance.id for instance in logs.waiting(executed, (), (10**12,) * 3, 2)] == [
        InstanceId(2, 0),
        InstanceId(2, 1),
    ]


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


SLOTS = st.integers(0, 40) | st.integers(0, 2**40)
RECORDS = st.dictionaries(st.builds(InstanceId, st.integers(0, 1), SLOTS), st.booleans(), max_size=30)
FRONTIERS = st.lists(st.tuples(*[SLOTS | st.just(-1)] * 2), min_size=1, max_size=5)


@given(RECORDS, FRONTIERS)
def test_truncating_leaves_what_lies_above(records: dict[InstanceId, bool], frontiers: list[Vector]) -> None:
    """Rows may be dense or have gaps as wide as they like; frontiers rise, or are of the past."""
    logs = Logs(2)
    for place, committed in records.items():
        logs.ensure(place).phase = Phase.COMMITTED if committed else Phase.ACCEPTED
    for row in range(2):
        logs.advance_committed(row)
    reached: Vector = (-1, -1)
    for frontier in frontiers:
        logs.truncate(frontier)
        reached = tuple(map(max, reached, frontier))
        assert logs.truncated == list(reached)
        for row in range(2):
            assert logs.rows[row].keys() == {s for r, s in records if r == row and s > reached[row]}
            up_to = max(reached[row], committed_up_to(records, row))
            assert logs.committed[row] == max(up_to, committed_up_to(records, row, reached[row]))


def committed_up_to(records: dict[InstanceId, bool], row: int, slot: int = -1) -> int:
    """The highest slot up to which all above `slot` are committed."""
    while records.get(InstanceId(row, slot + 1)):
        slot += 1
    return slot
