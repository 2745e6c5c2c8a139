"""Protocol 4.9: what executes when, beside a twin that walks every edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from random import Random

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.contract import Decided
from epaxos.protocol.execution.executor import Executor
from epaxos.protocol.ids import InstanceId
from harness.graphs import Feed, chain, decide, random_decisions, ring, tangle

Closures = dict[InstanceId, set[InstanceId]]


def closures(decisions: Iterable[Decided]) -> Closures:
    """Of each instance all that it depends on, directly or not, by repeating until nothing changes.

    Places that nobody decides are members of closures like any other.
    """
    reach = {
        decided.id: {InstanceId(row, slot) for row, top in enumerate(decided.deps) for slot in range(top + 1)}
        for decided in decisions
    }
    while True:
        wider = {
            place: found.union(*(reach.get(other, set()) for other in found))
            for place, found in reach.items()
        }
        if wider == reach:
            return reach
        reach = wider


def check_order(decisions: Sequence[Decided], closure: Closures, rows: int) -> int:
    """Give decisions in this order and compare after each; return how many components were larger than one."""
    feed = Feed(rows)
    given: set[InstanceId] = set()
    executed: set[InstanceId] = set()
    cycles = 0
    for decided in decisions:
        given.add(decided.id)
        for component in feed.give(decided):
            members = {member.id for member in component}
            first = component[0].id
            assert members == {first} | {other for other in closure[first] if first in closure.get(other, ())}
            assert [(m.seq, *m.id) for m in component] == sorted((m.seq, *m.id) for m in component)
            assert closure[first] <= executed | members, f"{first} executed before what it depends on"
            assert not members & executed
            executed |= members
            cycles += len(component) > 1
        assert executed == {place for place in given if closure[place] <= given}
        check_figures(feed, given, executed, closure)
    return cycles


def check_figures(feed: Feed, given: set[InstanceId], executed: set[InstanceId], closure: Closures) -> None:
    executor = feed.executor
    assert executor.pending == len(given) - len(executed)
    for row, frontier in enumerate(executor.executed):
        assert all(InstanceId(row, slot) in executed for slot in range(frontier + 1))
        assert InstanceId(row, frontier + 1) not in executed
    for place in given:
        assert executor.has_executed(place) == (place in executed)
    waited_for = set().union(*(closure[place] for place in given - executed))
    blockers = executor.blockers()
    assert set(blockers) <= waited_for & set(feed.undecided)
    assert bool(blockers) == bool(given - executed)


def test_every_order_of_decisions_executes_the_same() -> None:
    random = Random(0)
    cycles = graphs = 0
    while graphs < 60:
        rows = random.randint(1, 3)
        decisions = random_decisions(random, rows=rows, slots=3)
        if not 2 <= len(decisions) <= 5:
            continue
        graphs += 1
        closure = closures(decisions)
        cycles += sum(check_order(order, closure, rows) for order in permutations(decisions))
    assert cycles > 100


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_execute_as_their_edges_say(seed: int) -> None:
    random = Random(seed)
    cycles = 0
    for _ in range(150):
        rows = random.choice((1, 2, 3, 5))
        decisions = random_decisions(random, rows=rows, slots=random.randint(2, 7))
        closure = closures(decisions)
        for _ in range(4):
            random.shuffle(decisions)
            cycles += check_order(decisions, closure, rows)
    assert cycles > 100


@pytest.mark.parametrize(("shape", "size"), [(chain, 1), (tangle, 12), (ring, 12)])
@pytest.mark.parametrize("rows", [2, 3])
def test_the_long_graphs_below_are_what_they_are_named(shape: type, size: int, rows: int) -> None:
    decisions = shape(12, rows)
    feed = Feed(rows)
    feed.give_all(decisions)
    assert {len(component) for component in feed.executed} == {size}
    check_order(decisions[::-1], closures(decisions), rows)


def test_dependencies_execute_first_whatever_their_sequence_numbers() -> None:
    feed = Feed(2)
    assert feed.give(decide(1, 0, 0, -1, seq=0)) == []
    assert [[member.id for member in component] for component in feed.give(decide(0, 0, -1, -1, seq=9))] == [
        [(0, 0)],
        [(1, 0)],
    ]


def test_a_component_executes_by_sequence_number_then_row_then_slot() -> None:
    feed = Feed(3)
    feed.give_all(
        [decide(2, 0, 0, 1, -1, seq=1), decide(1, 0, -1, -1, 0, seq=2), decide(1, 1, -1, 0, 0, seq=1)]
    )
    ((*members,),) = feed.give(decide(0, 0, -1, -1, 0, seq=1))
    assert [member.id for member in members] == [(0, 0), (1, 1), (2, 0), (1, 0)]


def test_a_dependency_is_a_prefix() -> None:
    feed = Feed(2)
    assert feed.give(decide(0, 0, -1, 2)) == []
    assert feed.give(decide(1, 2, -1, -1)) == [(decide(1, 2, -1, -1),)]
    assert feed.give(decide(1, 1, -1, -1)) == [(decide(1, 1, -1, -1),)]
    assert feed.executor.blockers() == [(1, 0)]
    assert feed.give(decide(1, 0, -1, -1)) == [(decide(1, 0, -1, -1),), (decide(0, 0, -1, 2),)]
    assert feed.executor.blockers() == []


def test_a_row_that_nobody_waits_for_may_have_gaps() -> None:
    feed = Feed(1)
    assert feed.give(decide(0, 5, -1)) == [(decide(0, 5, -1),)]
    assert feed.executor.executed == (-1,)
    assert feed.executor.has_executed(InstanceId(0, 5))
    assert not feed.executor.has_executed(InstanceId(0, 4))
    assert not feed.executor.has_executed(InstanceId(0, 6))
    assert feed.executor.pending == 0


def test_an_instance_that_is_said_to_be_decided_and_was_never_given_is_an_error() -> None:
    executor = Executor(1)
    with pytest.raises(InvariantError, match=r"0\.0 is decided but execution never heard of it"):
        executor.decide(decide(0, 1, 0), 1)


# -- beginning with what has executed before (protocol 4.10, 4.11) --------------------------------------------


def executed_by(executor: Executor, places: Iterable[InstanceId]) -> set[InstanceId]:
    return {place for place in places if executor.has_executed(place)}


def continue_from(feed: Feed, decisions: Sequence[Decided], rows: int) -> Feed:
    """Go on as after a restart: from the cut, with what was decided and had not executed yet."""
    again = Feed(rows, feed.executor.executed, feed.executor.above)
    again.give_all(decided for decided in decisions if not feed.executor.has_executed(decided.id))
    return again


@pytest.mark.parametrize("seed", range(4))
def test_going_on_from_a_cut_comes_to_the_same(seed: int) -> None:
    """The order of what conflicts is the same: each component executes when all before it have, in both."""
    random = Random(seed)
    above = 0
    for _ in range(150):
        rows = random.choice((1, 2, 3, 5))
        decisions = random_decisions(random, rows=rows, slots=random.randint(2, 7))
        random.shuffle(decisions)
        closure = closures(decisions)
        cut = random.randint(0, len(decisions))
        straight = Feed(rows)
        straight.give_all(decisions)
        feed = Feed(rows)
        feed.give_all(decisions[:cut])
        above += bool(feed.executor.above)
        again = continue_from(feed, decisions[:cut], rows)
        assert again.executed == [], "something executes at once that had not before the cut"
        assert again.executor.executed == feed.executor.executed
        assert again.executor.above == feed.executor.above
        again.give_all(decisions[cut:])
        assert sorted(feed.executed + again.executed) == sorted(straight.executed)
        executed = {member.id for component in feed.executed for member in component}
        for component in again.executed:
            members = {member.id for member in component}
            assert closure[component[0].id] <= executed | members
            assert not members & executed
            executed |= members
        assert again.executor.executed == straight.executor.executed
        assert again.executor.above == straight.executor.above
        assert again.executor.pending == straight.executor.pending
        assert bool(again.executor.blockers()) == bool(straight.executor.blockers())
    assert above > 10


@pytest.mark.parametrize("seed", range(4))
def test_an_older_cut_executes_again_what_followed_it(seed: int) -> None:
    """A checkpoint is older than the log: all that is decided is given at once, row by row, as after a restart."""
    random = Random(seed)
    for _ in range(150):
        rows = random.choice((1, 2, 3))
        decisions = random_decisions(random, rows=rows, slots=random.randint(2, 7))
        random.shuffle(decisions)
        feed = Feed(rows)
        first = random.randint(0, len(decisions))
        feed.give_all(decisions[:first])
        cut = feed.executor.executed, feed.executor.above
        before = len(feed.executed)
        feed.give_all(decisions[first:])
        again = Feed(rows, *cut)
        again.give_all(
            sorted(decided for decided in decisions if not again.executor.has_executed(decided.id))
        )
        assert sorted(again.executed) == sorted(feed.executed[before:])


def test_an_executor_that_begins_above_nothing_begins_at_the_frontier() -> None:
    executor = Executor(2, (3, -1), [InstanceId(0, 2), InstanceId(0, 5), InstanceId(1, 0), InstanceId(1, 2)])
    assert executor.executed == (3, 0)
    assert executor.above == [(0, 5), (1, 2)]
    assert executed_by(executor, (InstanceId(0, slot) for slot in range(8))) == {
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 5),
    }


def test_what_sleeps_below_an_executed_slot_wakes_when_the_row_is_said_to_be_decided() -> None:
    """The last slots of a row may have executed before: nobody will decide them here."""
    executor = Executor(2, (-1, -1), [InstanceId(0, 1)])
    assert executor.decide(decide(1, 0, 1, -1), 0) == []
    assert executor.blockers() == [(0, 0)]
    assert executor.decide(decide(0, 0, -1, -1), 0) == [(decide(0, 0, -1, -1),)]
    assert executor.executed == (1, -1)
    assert executor.advance(0, 1) == [(decide(1, 0, 1, -1),)]
    assert executor.executed == (1, 0)
    assert executor.blockers() == []
    assert executor.advance(0, 1) == []
