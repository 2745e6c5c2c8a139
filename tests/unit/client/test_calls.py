"""How bulk calls pace themselves: a few frames at a time, as many as come back before they count as lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epaxos.client.commands import Op
from epaxos.client.drivers.calls import Bulk
from session_rig import Rig, Sent

FRAME = 10  # commands in one


def drive(
    latency: Callable[[int], float], frames: int, timeout: float = 2.0
) -> tuple[Bulk[Any], list[int], float]:
    """A bulk call over a network that answers after `latency(frames under way)` seconds.

    Returns it, how many frames were under way whenever one left, and how long it took.
    """
    rig = Rig(max_batch=FRAME, timeout=timeout)
    begun = rig.now
    call = Bulk([Op.put(b"k", b"v")] * (frames * FRAME), rig.options, rig.now, None)
    call.submit(rig.session, rig.now)
    due: list[tuple[float, Sent]] = []
    under_way: list[int] = []
    while call.missing:
        for sent in rig.turn():
            under_way.append(len(call.items()))
            due.append((rig.now + latency(len(call.items())), sent))
        due.sort(key=lambda entry: entry[0])
        rig.now = min([rig.session.next_event(), *(when for when, _ in due[:1])])
        while due and due[0][0] <= rig.now:
            rig.reply(due.pop(0)[1])
        rig.session.expire(rig.now)
        for item in rig.finished():
            call.over(item, rig.session, rig.now)
    return call, under_way, rig.now - begun


def test_quick_answers_let_a_call_go_faster() -> None:
    call, under_way, took = drive(lambda _: 0.001, frames=200)
    assert all(result.ok for result in call.result())
    assert under_way[0] == 4
    assert max(under_way) == 32
    assert took < 0.05


def test_replicas_that_are_far_do_not_slow_it_down() -> None:
    call, under_way, took = drive(lambda _: 0.3, frames=60)
    assert all(result.ok for result in call.result())
    assert max(under_way) >= 16
    assert took < 2.0


def test_replicas_that_take_longer_for_more_get_less_and_nothing_is_sent_again() -> None:
    call, under_way, _ = drive(lambda frames: 0.06 * frames, frames=200)
    sent = len(under_way)
    assert max(under_way) <= 8
    assert max(under_way[20:]) <= 6
    done = sum(result.ok for result in call.result()) // FRAME
    assert done > 20
    assert sent - done <= 20, "frames were sent again although they were to be answered"


def test_what_is_left_at_the_deadline_is_not_sent() -> None:
    call, under_way, took = drive(lambda _: 0.5, frames=1000)
    assert took == 2.0
    results = call.result()
    assert len(results) == 1000 * FRAME
    unsent = [result for result in results if "was not sent within 2 s" in str(result.error)]
    assert len(unsent) >= (1000 - len(under_way)) * FRAME
    assert not any(result.error is not None and result.error.may_have_executed for result in unsent)
