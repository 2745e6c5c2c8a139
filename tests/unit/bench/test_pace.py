from __future__ import annotations

from epaxos.bench.options import Amount
from epaxos.bench.pace import Budget, Due, Scheduled, Windowed
from epaxos.bench.session import Session
from epaxos.bench.workload import Stream, Workload

SECOND = 1_000_000_000
WORKLOAD = Workload(clients=4, keys=100, key_size=8, value_size=8, writes=100)


def sessions(number: int, window: int = 10, reach: int | None = None) -> list[Session]:
    return [Session(Stream(WORKLOAD, client), 0, window, 1, reach) for client in range(number)]


def test_a_window_makes_as_many_commands_due_as_it_has_room() -> None:
    (session,) = sessions(1)
    pace = Windowed([session])
    assert list(pace.ready(5)) == [session]
    assert pace.due(session, 5) == Due(10, 5, 0)
    session.take_off(10, 5)
    assert list(pace.ready(6)) == []
    pace.freed(session)
    assert list(pace.ready(7)) == [session]
    assert pace.due(session, 7).commands == 0
    session.land(1)
    assert pace.due(session, 8).commands == 10


def test_a_schedule_gives_the_sessions_their_turns() -> None:
    one, two = sessions(2)
    pace = Scheduled([one, two], 1000, begin=0)
    assert pace.next_due() == 0
    assert list(pace.ready(0)) == [one]
    assert pace.due(one, 0) == Due(1, 0, SECOND // 500)
    pace.took(one, 1)
    assert pace.due(one, 0).commands == 0
    pace.rest(one)
    assert pace.next_due() == SECOND // 1000
    assert list(pace.ready(SECOND // 1000)) == [two]


def test_commands_that_could_not_be_sent_in_time_stay_due_from_when_they_were() -> None:
    (session,) = sessions(1, window=3)
    pace = Scheduled([session], 1000, begin=0)
    late = SECOND // 100
    assert list(pace.ready(late)) == [session]
    assert pace.due(session, late) == Due(3, 0, SECOND // 1000)
    session.take_off(3, late)
    pace.took(session, 3)
    pace.rest(session)
    assert pace.next_due() is None
    assert pace.unsent(late) == 7  # at 3 to 9 ms
    assert pace.unsent(late + 1) == 8
    assert pace.unsent(1) == 0
    session.land(1)
    pace.freed(session)
    assert list(pace.ready(late)) == [session]
    assert pace.due(session, late) == Due(3, 3 * SECOND // 1000, SECOND // 1000)


def test_warm_up_commands_come_first_and_are_not_measured() -> None:
    budget = Budget(Amount(operations=15), Amount(operations=10), begin=0)
    assert budget.grant(10, 1) == (10, False)
    assert budget.grant(10, 2) == (5, False)
    assert budget.grant(8, 3) == (8, True)
    assert budget.started == 3
    assert not budget.is_over(4)
    assert budget.grant(8, 4) == (2, True)
    assert budget.is_over(4)
    assert budget.grant(8, 5) == (0, True)


def test_a_duration_begins_when_the_warm_up_is_over() -> None:
    budget = Budget(Amount(seconds=1), Amount(seconds=2), begin=SECOND)
    assert budget.grant(7, 2 * SECOND - 1) == (7, False)
    assert budget.grant(7, 2 * SECOND) == (7, True)
    assert budget.grant(7, 4 * SECOND - 1) == (7, True)
    assert budget.share_done(14, 3 * SECOND) == 0.5
    assert budget.is_over(4 * SECOND)
    assert budget.grant(7, 4 * SECOND) == (0, True)


def test_a_session_with_a_reach_waits_for_its_oldest_command() -> None:
    (session,) = sessions(1, window=10, reach=25)
    session.take_off(1, 0)
    session.take_off(9, 0)
    session.land(2)
    assert session.room == 9
    session.take_off(9, 0)
    session.land(11)
    assert session.room == 6
    session.land(1)
    assert session.room == 10
