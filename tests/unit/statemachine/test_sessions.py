from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.errors import FrameError, InvariantError
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.results import BatchResult, Value
from epaxos.statemachine.session import Session
from epaxos.statemachine.sessions import Budget, Sessions

CLIENT = 2**64 - 1

# A command's first number, how many follow, and how many numbers before the first are unacknowledged.
BATCHES = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 40))


def export(sessions: Sessions) -> list[list[object]]:
    """All sessions as rows, by client."""
    for client in sessions.executed():
        sessions.open(client)
    sessions.freeze()
    return sorted(sessions.take(10**9), key=lambda row: str(row[0]))


def outcome_of(number: int) -> int:
    return number % 3


def value_of(number: int) -> Value:
    return None if number % 4 else number


def result_of(first: int, end: int, client: int = CLIENT) -> BatchResult:
    """What the commands of these numbers come to: a function of the number alone."""
    values = [value_of(number) for number in range(first, end)]
    column = None if all(value is None for value in values) else values
    return BatchResult(client, first, bytes(map(outcome_of, range(first, end))), column)


def execute(session: Session, first: int, end: int, client: int = CLIENT) -> None:
    """What the state machine does with the numbers of a batch."""
    for start, stop in session.missing(first, end):
        assert session.claim(start, stop)
        session.keep(result_of(start, stop, client))


def numbers(session: Session) -> set[int]:
    bounds = session.executed
    return {n for start, stop in zip(bounds[::2], bounds[1::2], strict=True) for n in range(start, stop)}


def assert_answers(session: Session, members: set[int], acked: int) -> None:
    """Every number that is still awaited is answered rightly; one that is not, rightly or as forgotten."""
    for number in members:
        answer = session.recall(CLIENT, number, number + 1)
        right = result_of(number, number + 1)
        gone = BatchResult(CLIENT, number, bytes([Outcome.FORGOTTEN]), None)
        assert answer == right or (number < acked and answer == gone)


@given(st.lists(BATCHES, max_size=25))
def test_a_session_behaves_as_a_set_of_numbers_and_a_dict_of_results(
    batches: list[tuple[int, int, int]],
) -> None:
    session = Session()
    members: set[int] = set()
    acked = 0
    for first, count, unacknowledged in batches:
        end = first + count
        acked = max(acked, first - unacknowledged)
        session.acknowledge(first - unacknowledged)
        fresh = members.isdisjoint(range(first, end))
        assert session.claim(first, end) == fresh
        if fresh:
            session.keep(result_of(first, end))
        else:
            execute(session, first, end)
        members.update(range(first, end))

        assert numbers(session) == members
        assert all(result.end > acked for result in session.kept)
        assert all(low.end <= high.first for low, high in zip(session.kept, session.kept[1:], strict=False))
        assert_answers(session, members, acked)


@given(st.permutations(range(12)), st.integers(1, 50))
def test_the_order_of_execution_leaves_no_trace_in_what_has_executed(order: list[int], size: int) -> None:
    session = Session()
    for position in order:
        assert session.claim(1 + position * size, 1 + (position + 1) * size)
    assert session.executed == [1, 1 + 12 * size]


def test_batches_one_after_the_other_stay_one_interval() -> None:
    session = Session()
    for first in range(1, 10_001, 10):
        assert session.claim(first, first + 10)
        assert session.executed == [1, first + 10]


def test_a_duplicate_claims_nothing() -> None:
    session = Session()
    assert session.claim(5, 8)
    for first, end in ((5, 8), (4, 6), (7, 9), (1, 20), (6, 7)):
        assert not session.claim(first, end)
        assert session.executed == [5, 8]


def test_acknowledging_drops_results_and_never_membership() -> None:
    session = Session()
    execute(session, 1, 4)
    execute(session, 4, 6)
    session.acknowledge(5)
    assert session.kept == [result_of(4, 6)]  # number 5 is still awaited
    session.acknowledge(2)
    session.acknowledge(6)
    assert session.kept == []
    assert session.executed == [1, 6]
    assert session.recall(CLIENT, 1, 6) == BatchResult(CLIENT, 1, bytes([Outcome.FORGOTTEN] * 5), None)
    assert session.weight == 0


def test_a_result_acknowledged_before_it_exists_is_not_kept() -> None:
    session = Session()
    session.acknowledge(10)
    execute(session, 3, 5)
    execute(session, 9, 11)
    assert session.kept == [result_of(9, 11)]
    assert session.executed == [3, 5, 9, 11]


def test_results_are_recalled_across_the_batches_they_came_in() -> None:
    session = Session()
    for first, end in ((9, 12), (1, 3), (5, 9)):
        execute(session, first, end)
    answer = session.recall(CLIENT, 2, 11)
    assert answer.outcomes == bytes([outcome_of(2), *[Outcome.FORGOTTEN] * 2, *map(outcome_of, range(5, 11))])
    assert answer.values == [value_of(2), None, None, *map(value_of, range(5, 11))]


def table(rows: list[tuple[int, int, int, int]]) -> Sessions:
    sessions = Sessions()
    for client, first, count, acked in rows:
        session = sessions.open(client)
        session.acknowledge(acked)
        execute(session, first, first + count, client)
    return sessions


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(1, 6), st.integers(0, 20)), max_size=15
)


@given(ROWS)
def test_a_table_survives_a_trip_through_msgpack(rows: list[tuple[int, int, int, int]]) -> None:
    sessions = table(rows)
    loaded = Sessions.load(msgpack.unpackb(msgpack.packb(export(sessions))))
    assert export(loaded) == export(sessions)
    assert loaded.executed() == sessions.executed()
    assert len(loaded) == len({client for client, *_ in rows})


@given(ROWS, ROWS)
def test_merging_is_the_union(
    ours: list[tuple[int, int, int, int]], theirs: list[tuple[int, int, int, int]]
) -> None:
    merged = table(ours)
    merged.merge(table(theirs))

    assert merged.executed() == table(ours + theirs).executed()
    for client in merged.executed():
        session = merged.open(client)
        acked = max([acked for c, _, _, acked in ours + theirs if c == client], default=0)
        assert session.acked == acked
        for number in numbers(session):
            if number >= acked:
                assert session.recall(client, number, number + 1) == result_of(number, number + 1, client)
    assert export(Sessions.load(export(merged))) == export(merged)


def test_an_export_does_not_change_with_its_table() -> None:
    sessions = table([(1, 1, 3, 0)])
    exported = export(sessions)
    before = msgpack.packb(exported)
    session = sessions.open(1)
    execute(session, 4, 9, 1)
    session.acknowledge(4)
    sessions.open(2)
    assert msgpack.packb(exported) == before


GOOD_ROW = [7, 1, [1, 4], [1, 2], [[2, b"\1\0", None]], 5]


@pytest.mark.parametrize(
    "exported",
    [
        None,
        {},
        [None],
        [[]],
        [GOOD_ROW, GOOD_ROW],
        [[-1, 1, [1, 4], [], [], 0]],
        [[2**64, 1, [1, 4], [], [], 0]],
        [[7.0, 1, [1, 4], [], [], 0]],
        [[7, None, [1, 4], [], [], 0]],
        [[7, 1, [1, 4], [], [], -1]],
        [[7, 1, [1, 4], [], []]],
        [[7, 1, [1, 4], None, [], 0]],
        [[7, 1, [1, 4], [1], [], 0]],
        [[7, 1, [1, 4], [3, 5], [], 0]],
        [[7, 1, [], [], [], 0]],
        [[7, 1, [1], [], [], 0]],
        [[7, 1, [4, 1], [], [], 0]],
        [[7, 1, [1, 4, 4, 5], [], [], 0]],
        [[7, 1, [1, "4"], [], [], 0]],
        [[7, 1, [1, 4], [], None, 0]],
        [[7, 1, [1, 4], [], [None], 0]],
        [[7, 1, [1, 4], [], [[1, b"", None]], 0]],
        [[7, 1, [1, 4], [], [[1, "ab", None]], 0]],
        [[7, 1, [1, 4], [], [[1, b"\0", [None, None]]], 0]],
        [[7, 1, [1, 4], [], [[1, b"\0", b"x"]], 0]],
        [[7, 1, [1, 4], [], [[None, b"\0", None]], 0]],
        [[7, 1, [1, 4], [], [[3, b"\0\0", None]], 0]],
        [[7, 1, [1, 4], [], [[2, b"\0", None], [1, b"\0", None]], 0]],
        [[7, 1, [1, 4], [], [[1, b"\0\0", None], [2, b"\0", None]], 0]],
    ],
)
def test_a_table_that_is_none_is_refused(exported: object) -> None:
    assert export(Sessions.load([GOOD_ROW])) == [GOOD_ROW]
    with pytest.raises(FrameError) as refusal:
        Sessions.load(exported)
    assert refusal.value.kind == "malformed"


@given(ROWS, ROWS, st.integers(1, 3))
def test_frozen_sessions_are_taken_as_they_were(
    before: list[tuple[int, int, int, int]], after: list[tuple[int, int, int, int]], most: int
) -> None:
    sessions, twin = table(before), table(before)
    sessions.freeze()
    taken: list[list[object]] = []
    for client, first, count, _ in after:
        taken += sessions.take(most)
        execute(sessions.open(client), first, first + count, client)
    while rows := sessions.take(most):
        taken += rows
    assert sorted(taken, key=lambda row: str(row[0])) == export(twin)


def test_only_what_changed_since_is_frozen_again() -> None:
    sessions = table([(1, 1, 3, 0), (2, 1, 3, 0)])
    assert [row[0] for row in export(sessions)] == [1, 2]
    execute(sessions.open(2), 9, 10, 2)
    sessions.freeze()
    assert [row[:3] for row in sessions.take(10)] == [[2, 0, [1, 4, 9, 10]]]
    assert sessions.take(10) == []


def test_a_freeze_within_a_freeze_is_refused() -> None:
    sessions = table([(1, 1, 3, 0)])
    sessions.freeze()
    with pytest.raises(InvariantError):
        sessions.freeze()


def keep(sessions: Sessions, client: int, number: int, size: int) -> None:
    session = sessions.open(client)
    assert session.claim(number, number + 1)
    session.keep(BatchResult(client, number, b"\0", [bytes(size)]))
    sessions.settle(client, session)


def kept(sessions: Sessions, client: int, numbers: range) -> list[int]:
    """The numbers whose results are still there; all have executed."""
    session = sessions.open(client)
    assert not session.missing(numbers.start, numbers.stop)
    return [
        number
        for number in numbers
        if session.recall(client, number, number + 1).outcomes != bytes([Outcome.FORGOTTEN])
    ]


def test_a_session_keeps_its_newest_results_only() -> None:
    sessions = Sessions(Budget(session=3000, total=10**6))
    for number in range(1, 9):
        keep(sessions, 1, number, 800)
    assert kept(sessions, 1, range(1, 9)) == [6, 7, 8]
    assert sessions.weight <= 3000
    keep(sessions, 1, 9, 5000)  # what is more than all by itself is kept until it is not the newest any more
    assert kept(sessions, 1, range(1, 10)) == [9]
    keep(sessions, 1, 10, 1)
    assert kept(sessions, 1, range(1, 11)) == [10]


def test_who_keeps_most_lets_go_first() -> None:
    sessions = Sessions(Budget(session=10**6, total=10_000))
    for client in range(20):
        keep(sessions, client, 1, 100)
    for number in range(1, 30):
        keep(sessions, 99, number, 1000)
        assert sessions.weight <= 10_000
    assert all(kept(sessions, client, range(1, 2)) for client in range(20))
    assert kept(sessions, 99, range(1, 30))[-1] == 29
    keep(sessions, 98, 1, 20_000)
    assert sessions.weight <= 10_000
    assert kept(sessions, 98, range(1, 2)) == []
    assert all(kept(sessions, client, range(1, 2)) for client in range(20))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300), st.integers(0, 3)), max_size=60))
def test_what_is_kept_stays_within_the_budget_and_is_counted_rightly(
    steps: list[tuple[int, int, int]],
) -> None:
    budget = Budget(session=1200, total=2500)
    sessions = Sessions(budget)
    for client in range(6):
        keep(sessions, client, 100, 1)
    for number, (client, size, unacknowledged) in enumerate(steps, 1):
        session = sessions.open(client)
        session.acknowledge(number - unacknowledged)
        keep(sessions, client, number, size)
        assert sessions.weight <= budget.total
    assert sessions.weight == sum(sessions.open(client).weight for client in range(6))
    assert Sessions.load(export(sessions), budget).weight == sessions.weight


def test_a_session_that_lets_go_while_it_is_frozen_is_taken_as_it_was() -> None:
    sessions = Sessions(Budget(session=10**6, total=3000))
    keep(sessions, 1, 1, 2000)
    sessions.freeze()
    keep(sessions, 2, 1, 900)  # the first lets go
    assert kept(sessions, 1, range(1, 2)) == []
    taken = {row[0]: row for row in sessions.take(10)}
    assert taken[1][4] == [[1, b"\0", [bytes(2000)]]]
    sessions.freeze()
    assert [row[4] for row in sessions.take(10) if row[0] == 1] == [[]]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.binary(max_size=3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=15,
)


@given(ANYTHING | st.lists(st.lists(ANYTHING, min_size=6, max_size=6), max_size=2))
def test_loading_anything_raises_nothing_but_frame_error(exported: object) -> None:
    try:
        loaded = Sessions.load(exported)
    except FrameError:
        return
    assert len(loaded) == len(export(loaded))


def test_an_idle_session_is_small() -> None:
    count = 500
    sessions = Sessions()
    tracemalloc.start()
    try:
        for client in range(2**40, 2**40 + count):
            session = sessions.open(client)
            execute(session, 1, 1000, client)
            session.acknowledge(1000)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sessions) == count
    assert size / count < 500  # bytes; 450 when written, with its share of the table
