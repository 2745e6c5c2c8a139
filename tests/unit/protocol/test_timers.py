from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.epaxos.timers import Timer, TimerKind, Timers
from epaxos.protocol.ids import InstanceId

TIMERS = st.builds(
    Timer,
    st.integers(0, 20).map(float),
    st.sampled_from(list(TimerKind)),
    st.builds(InstanceId, st.integers(0, 2), st.integers(0, 5)),
)


@given(st.lists(TIMERS, max_size=30), st.lists(st.integers(0, 20).map(float), max_size=6))
def test_timers_come_due_in_order_and_once(timers: list[Timer], moments: list[float]) -> None:
    heap = Timers()
    left = sorted(timers)
    for timer in timers:
        heap.set(*timer)
    for now in (*sorted(moments), math.inf):
        assert heap.next_deadline == (left[0].when if left else math.inf)
        due = heap.take_due(now)
        assert due == [timer for timer in left if timer.when <= now]
        left = left[len(due) :]
    assert heap.next_deadline == math.inf


def test_a_timer_is_due_at_its_deadline_and_not_before() -> None:
    heap = Timers()
    heap.set(1.0, TimerKind.RETRY, InstanceId(0, 0))
    assert heap.take_due(0.999) == []
    assert heap.take_due(1.0) == [Timer(1.0, TimerKind.RETRY, InstanceId(0, 0))]
    assert heap.take_due(2.0) == []


def test_deadlines_of_what_is_led_no_more_do_not_come_up_but_those_behind_one_that_is() -> None:
    heap = Timers()
    first, second, third = (InstanceId(0, slot) for slot in range(3))
    for when, kind, place in (
        (1.0, TimerKind.RETRY, first),
        (2.0, TimerKind.FAST_PATH, first),
        (3.0, TimerKind.RETRY, second),
        (4.0, TimerKind.RECOVERY, third),
    ):
        heap.set(when, kind, place)
    heap.forget({first, second})
    assert heap.next_deadline == 1.0
    heap.forget({second})
    assert heap.next_deadline == 3.0
    heap.forget(())
    assert heap.next_deadline == 4.0
    assert heap.take_due(5.0) == [Timer(4.0, TimerKind.RECOVERY, third)]
    heap.forget(())
    assert heap.next_deadline == math.inf
