"""Protocol 6.4: with the first barrier that executes an epoch ends, at the same cut everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from random import Random

from epaxos.protocol.contract import Decided, Over
from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import NOP
from harness.commands import Access, barrier, conflict, put
from harness.graphs import Feed

ROWS = 3


def decided(row: int, slot: int, command: Access, *deps: int, seq: int = 0) -> Decided:
    return Decided(InstanceId(row, slot), command, deps, seq)


def test_nothing_executes_after_a_barrier() -> None:
    feed = Feed(ROWS)
    end = decided(0, 0, barrier(1, -1, -1, -1), -1, 0, -1)
    feed.give_all([decided(1, 0, put(2, b"k"), -1, -1, -1), end])
    assert feed.executor.over == Over(end, (0, 0, -1))
    assert feed.give(decided(1, 1, put(3, b"k"), 0, 0, -1)) == []
    assert feed.executor.advance(2, 5) == []
    assert (feed.executor.pending, feed.executor.blockers()) == (0, [])
    assert len(feed.executed) == 2


def test_a_barrier_that_waits_takes_what_it_depends_on_with_it_and_nothing_else() -> None:
    """C.0 is decided and waits for the same instance as the barrier, which it covers: it is void."""
    feed = Feed(ROWS)
    end = decided(0, 0, barrier(1, -1, -1, -1), -1, 0, -1)
    later = decided(2, 0, put(2, b"k"), 0, 0, -1)
    feed.give_all([later, end])
    assert feed.executed == []
    feed.give(decided(1, 0, put(3, b"k"), -1, -1, -1))
    assert [member.id for component in feed.executed for member in component] == [(1, 0), (0, 0)]
    assert feed.executor.over == Over(end, (0, 0, -1))
    assert not feed.executor.has_executed(later.id)


def test_a_barrier_is_the_last_of_its_component_whatever_its_number() -> None:
    end = decided(0, 0, barrier(1, -1, -1, -1), -1, 0, -1, seq=0)
    beside = decided(1, 0, put(2, b"k"), 0, -1, -1, seq=9)
    for order in permutations((end, beside)):
        feed = Feed(ROWS)
        feed.give_all(order)
        assert feed.executed == [(beside, end)]
        assert feed.executor.over == Over(end, (0, 0, -1))


def test_of_two_barriers_in_one_component_the_first_executes_and_no_other() -> None:
    first = decided(2, 0, barrier(1, -1, -1, -1), 0, -1, -1, seq=1)
    second = decided(0, 0, barrier(2, -1, -1, -1), -1, -1, 0, seq=2)
    for order in permutations((first, second)):
        feed = Feed(ROWS)
        feed.give_all(order)
        assert feed.executed == [(first,)]
        assert feed.executor.over == Over(first, (0, -1, 0))
        assert feed.executor.executed == (0, -1, 0)


def test_the_cut_covers_places_that_only_others_of_the_component_depend_on() -> None:
    end = decided(0, 0, barrier(1, -1, -1, -1), -1, 0, -1)
    beside = decided(1, 0, put(2, b"k"), 0, -1, 1)
    nothing = [Decided(InstanceId(2, slot), NOP, (-1, -1, -1), 0) for slot in range(3)]
    feed = Feed(ROWS)
    feed.give_all([*nothing, beside, end])
    assert feed.executor.over == Over(end, (0, 0, 1))


# -- any histories in which of two that conflict one covers the other -----------------------------------------


def random_epoch(random: Random) -> list[Decided]:
    """What consensus may decide: payloads on two keys, no-ops and barriers, and dependencies that give Visibility."""
    count = [random.randint(1, 4) for _ in range(ROWS)]
    places = [InstanceId(row, slot) for row in range(ROWS) for slot in range(count[row])]
    values: dict[InstanceId, Access | None] = {}
    deps: dict[InstanceId, list[int]] = {}
    for number, place in enumerate(places):
        kind = random.random()
        values[place] = (
            put(number, random.choice((b"a", b"b"))) if kind < 0.6 else barrier(number, *(-1,) * ROWS)
        )
        if kind > 0.85:
            values[place] = None
        deps[place] = [-1] * ROWS
        if values[place] is not None and random.random() < 0.5:
            deps[place] = [random.randint(-1, top - 1) for top in count]
            deps[place][place.row] = random.randint(-1, place.slot - 1)
        if kind >= 0.6 and values[place] is not None:
            deps[place][place.row] = place.slot - 1
    for one, other in combinations(random.sample(places, len(places)), 2):
        mine, theirs = values[one], values[other]
        if mine is None or theirs is None or not conflict(mine, theirs):
            continue
        lower, upper = (one, other) if one.row != other.row or one.slot < other.slot else (other, one)
        if not (covers(tuple(deps[one]), other) or covers(tuple(deps[other]), one)):
            deps[upper][lower.row] = max(lower.slot, deps[upper][lower.row])
    return [
        Decided(
            place, NOP if value is None else value, tuple(deps[place]), random.randint(0, 3) if value else 0
        )
        for place, value in values.items()
    ]


def run(decisions: Sequence[Decided]) -> tuple[Over | None, list[Decided]]:
    feed = Feed(ROWS)
    feed.give_all(decisions)
    executed = [member for component in feed.executed for member in component if member.value is not NOP]
    if feed.executor.over is not None:
        check_end(feed, feed.executor.over, decisions, executed)
    return feed.executor.over, executed


def check_end(feed: Feed, over: Over, decisions: Sequence[Decided], executed: Sequence[Decided]) -> None:
    """What has executed is the cut, but for no-ops and barriers that came too late; the barrier is the last of it."""
    within = {each for each in decisions if covers(over.cut, each.id) and each.value is not NOP}
    lost = {each for each in within if each.value.ends and each != over.barrier}  # type: ignore[union-attr]  # no NOP
    assert set(executed) == within - lost
    assert executed[-1] == over.barrier
    assert all(mine >= theirs for mine, theirs in zip(feed.executor.executed, over.cut, strict=True))


def orders_of(executed: Sequence[Decided]) -> dict[bytes, list[InstanceId]]:
    found: dict[bytes, list[InstanceId]] = {}
    for each in executed:
        assert isinstance(each.value, Access)
        for key in each.value.writes:
            found.setdefault(key, []).append(each.id)
    return found


def test_replicas_that_learn_decisions_in_any_order_end_an_epoch_alike() -> None:
    """Some learn less than all: who comes to an end comes to the same one."""
    random = Random(5)
    ends = barriers_at_once = void = 0
    for _ in range(400):
        decisions = random_epoch(random)
        found: list[tuple[Vector, Decided, dict[bytes, list[InstanceId]]]] = []
        for _ in range(6):
            shuffled = random.sample(
                decisions, len(decisions) - random.choice((0, 0, 0, 1, 2)) % len(decisions)
            )
            over, executed = run(shuffled)
            if over is not None:
                found.append((over.cut, over.barrier, orders_of(executed)))
        assert all(each == found[0] for each in found)
        if found:
            cut, first, _ = found[0]
            ends += 1
            others = [each for each in decisions if each.value is not NOP and each != first]
            barriers_at_once += any(covers(cut, each.id) and each.value.ends for each in others)  # type: ignore[union-attr]
            void += any(not covers(cut, each.id) for each in others)
    assert min(ends, barriers_at_once, void) > 50
