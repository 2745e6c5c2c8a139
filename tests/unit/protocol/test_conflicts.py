"""Protocol 4.4 and 1, D and E: the index of known payloads, beside one that compares every pair."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter, le
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.protocol.epaxos.conflicts import ALL, Conflicts
from epaxos.protocol.ids import InstanceId
from harness.blocks import columns_of
from harness.commands import Access, collect, conflict, flush, get, put, scan

ROWS = 3
KEYS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=3).map(tuple)
NAMING = st.builds(Access, st.just(0), KEYS, KEYS)
COMMANDS = (
    NAMING | st.builds(Access, st.just(0), KEYS, KEYS, reads_all=st.just(value=True)) | st.just(flush(0))
)
PLACES = st.builds(InstanceId, st.integers(0, ROWS - 1), st.integers(0, 30))
HISTORIES = st.dictionaries(PLACES, COMMANDS, max_size=25)


class Twin(NamedTuple):
    """The same, by looking at every command ever added."""

    known: dict[InstanceId, Access]

    def deps(self, command: Access) -> tuple[int, ...]:
        return tuple(
            max(
                (slot for (r, slot), other in self.known.items() if r == row and conflict(command, other)),
                default=-1,
            )
            for row in range(ROWS)
        )


@given(st.permutations(range(25)), HISTORIES, st.lists(COMMANDS, min_size=1, max_size=5))
def test_dependencies_are_those_found_by_comparing_every_pair(
    order: list[int], history: dict[InstanceId, Access], asked: list[Access]
) -> None:
    index, twin = Conflicts(ROWS), Twin({})
    places = list(history)
    for position in order:
        if position < len(places):
            place = places[position]
            index.add(place, history[place])
            twin.known[place] = history[place]
            for command in asked:
                assert index.deps(command) == twin.deps(command)


@given(
    st.permutations(range(25)),
    HISTORIES,
    st.lists(COMMANDS, min_size=1, max_size=5),
    st.dictionaries(PLACES, NAMING, max_size=5),
)
def test_keys_that_were_compared_with_other_rows_need_not_be_asked_for_there_again(
    order: list[int],
    history: dict[InstanceId, Access],
    asked: list[Access],
    elsewhere: dict[InstanceId, Access],
) -> None:
    index, twin = Conflicts(ROWS, compares=True), Twin({})
    for position, place in zip(order, history, strict=False):
        command = history[place]
        row, own = place.row, bool(position % 2)
        found = tuple(slot if own or at != row else -1 for at, slot in enumerate(twin.deps(command)))
        if position % 3:  # else it is learned as a decision is
            assert index.deps(command, row, own=own) == found
        index.add(place, command)
        twin.known[place] = command
        if position == 5:  # a checkpoint brings more
            theirs = Conflicts(ROWS)
            for other, access in elsewhere.items():
                theirs.add(other, access)
                twin.known.setdefault(InstanceId(other.row, other.slot + 100), access)
            index.raise_vectors(tuple(slot + 100 * (slot >= 0) for slot in theirs.highest), (-1,) * ROWS)
            for column in range(2 * ROWS):
                keys = list(theirs.keys(column))
                index.raise_column(column, keys, [slot + 100 for slot in theirs.column(column, keys)])
        for _ in index.forget(1):
            pass
        for other_row, one in enumerate(asked):
            assert index.deps(one, other_row % ROWS) == twin.deps(one)


def test_a_key_that_another_row_comes_to_share_is_found_there() -> None:
    index = Conflicts(ROWS, compares=True)
    index.add(InstanceId(0, 1), put(1, b"x"))
    assert index.deps(put(2, b"x"), 0) == (1, -1, -1)
    index.add(InstanceId(1, 4), put(3, b"x"))
    assert index.deps(put(4, b"x"), 0) == (1, 4, -1)


@given(HISTORIES, st.lists(COMMANDS, min_size=1, max_size=5))
def test_adding_again_changes_nothing(history: dict[InstanceId, Access], asked: list[Access]) -> None:
    index = Conflicts(ROWS)
    for place, command in history.items():
        index.add(place, command)
    before = [index.deps(command) for command in asked]
    for place, command in reversed(history.items()):
        index.add(place, command)
    assert [index.deps(command) for command in asked] == before


@pytest.mark.parametrize(
    ("earlier", "later", "conflicts"),
    [
        (Access(1, reads=(b"x",)), Access(2, reads=(b"x",)), False),
        (Access(1, reads=(b"x",)), Access(2, writes=(b"x",)), True),
        (Access(1, writes=(b"x",)), Access(2, reads=(b"x",)), True),
        (Access(1, writes=(b"x",)), Access(2, writes=(b"x",)), True),
        (Access(1, writes=(b"x",)), Access(2, (b"z",), (b"y",)), False),
        (Access(1, (b"a", b"b"), (b"c",)), Access(2, (b"a",), (b"d", b"b")), True),
        (Access(1, (b"a", b"b"), (b"c",)), Access(2, (b"a", b"b"), (b"d",)), False),
        (Access(1, (b"x",), (b"x",)), Access(2, reads=(b"x",)), True),
        (Access(1), Access(2, (b"x",), (b"x",)), False),
        (Access(1, (b"x",), (b"x",)), Access(2), False),
        (scan(1), put(2, b"x"), True),
        (put(1, b"x"), scan(2), True),
        (scan(1), get(2, b"x"), False),
        (get(1, b"x"), scan(2), False),
        (scan(1), scan(2), False),
        (scan(1, b"x"), scan(2), True),
        (scan(1), scan(2, b"x"), True),
        (Access(1), scan(2), False),
        (flush(1), scan(2), True),
        (scan(1), flush(2), True),
        (flush(1), get(2, b"x"), True),
        (get(1, b"x"), flush(2), True),
        (flush(1), Access(2), True),
        (Access(1), flush(2), True),
        (flush(1), flush(2), True),
    ],
)
def test_two_commands_conflict_if_they_share_a_key_that_one_of_them_writes(
    earlier: Access, later: Access, *, conflicts: bool
) -> None:
    index = Conflicts(ROWS)
    index.add(InstanceId(1, 7), earlier)
    assert index.deps(later) == ((-1, 7, -1) if conflicts else (-1, -1, -1))


def test_keys_may_come_in_any_sequence() -> None:
    class Lists(NamedTuple):
        reads: list[bytes]
        writes: tuple[bytes, ...]
        base: None = None
        ends: bool = False
        follows: None = None
        reads_all: bool = False
        writes_all: bool = False
        encoded: bytes = b""
        size: int = 0

        def transient(self) -> Lists:
            return self

    index = Conflicts(ROWS)
    index.add(InstanceId(0, 1), Lists([b"r", b"r"], (b"w",)))
    index.add(InstanceId(0, 0), Lists([b"r"], (b"w", b"v")))
    assert index.deps(Lists([b"w", b"w"], ())) == (1, -1, -1)
    assert index.deps(Lists([], (b"r",))) == (1, -1, -1)
    assert index.deps(Lists([b"v"], (b"nothing",))) == (0, -1, -1)


# -- columns: what a checkpoint holds of an index (protocol 4.10) ---------------------------------------------

NAMED = [b"a", b"b", b"c", b"d", b"never seen"]
ALL_KEYS = [*NAMED, ALL]


def raise_to(index: Conflicts, other: Conflicts) -> None:
    for column, slots in enumerate(columns_of(other, ALL_KEYS)):
        index.raise_column(column, ALL_KEYS, slots)


def index_of(history: dict[InstanceId, Access]) -> Conflicts:
    index = Conflicts(ROWS)
    for place, command in history.items():
        index.add(place, command)
    return index


@given(HISTORIES)
def test_columns_are_the_highest_slots_that_read_and_that_write(history: dict[InstanceId, Access]) -> None:
    expected = [
        [
            max(
                (place.slot for place, c in history.items() if place.row == row and key in keys_of(c)),
                default=-1,
            )
            for key in NAMED
        ]
        for keys_of in (attrgetter("reads"), attrgetter("writes"))
        for row in range(ROWS)
    ]
    columns = columns_of(index_of(history), NAMED)
    assert columns == expected
    assert columns_of(index_of(history), []) == [[]] * (2 * ROWS)


@given(HISTORIES)
def test_what_reads_all_and_what_writes_any_key_have_a_column_of_their_own(
    history: dict[InstanceId, Access],
) -> None:
    for row, column in enumerate(index_of(history).column(at, [ALL])[0] for at in range(2 * ROWS)):
        of_row = [(place.slot, one) for place, one in history.items() if place.row == row % ROWS]
        touching = [slot for slot, one in of_row if (one.writes if row >= ROWS else one.reads_all)]
        assert column == max(touching, default=-1)


@given(HISTORIES, HISTORIES, st.lists(COMMANDS, min_size=1, max_size=5))
def test_raised_to_the_columns_of_another_it_knows_what_both_know(
    ours: dict[InstanceId, Access], theirs: dict[InstanceId, Access], asked: list[Access]
) -> None:
    index = index_of(ours)
    raise_to(index, index_of(theirs))
    index.raise_vectors(tuple(index_of(theirs).highest), tuple(index_of(theirs).base))
    both = [tuple(map(max, Twin(ours).deps(command), Twin(theirs).deps(command))) for command in asked]
    assert [index.deps(command) for command in asked] == both
    raise_to(index, index_of(theirs))
    assert [index.deps(command) for command in asked] == both


def test_what_is_added_after_raising_may_be_lower() -> None:
    """After a restart the checkpoint's part comes second, and what is learned later may be of a lower slot."""
    index = Conflicts(ROWS)
    raise_to(index, index_of({InstanceId(0, 9): put(1, b"a"), InstanceId(1, 9): get(2, b"b")}))
    index.add(InstanceId(0, 3), put(3, b"a"))
    index.add(InstanceId(1, 3), get(4, b"b"))
    assert index.deps(put(5, b"a")) == (9, -1, -1)
    assert index.deps(put(6, b"b")) == (-1, 9, -1)


def test_what_joins_part_by_part_is_named_and_known() -> None:
    """Each key that was written since a moment is named at least once since then, whatever was written before."""
    for seed in range(200):
        random = Random(seed)
        before, *parts = (random_history(random, 5 * part) for part in range(random.randint(1, 4)))
        index, untold, whole = (index_of(before) for _ in range(3))
        since, named = tuple(index.highest), set[bytes]()
        said = dict[tuple[int, bytes], int]()
        for part in parts:
            silent = list(untold.join(index_of(part), since, (-1,) * ROWS, 2, tells=False))
            assert silent == [None] * len(silent)
            for joined in index.join(index_of(part), since, (-1,) * ROWS, 2, tells=True):
                assert joined is not None
                column, keys, slots, written = joined
                named.update(written)
                for key, slot in zip(keys, slots, strict=True):
                    assert said.get((column, key), -1) < slot, "slots rise"
                    said[column, key] = slot
            for place, command in part.items():
                whole.add(place, command)
        assert named == {key for part in parts for command in part.values() for key in command.writes}
        assert columns_of(index, ALL_KEYS) == columns_of(untold, ALL_KEYS) == columns_of(whole, ALL_KEYS)
        assert all(index.column(column, [key]) == [slot] for (column, key), slot in said.items())
        assert (index.highest, index.base) == (whole.highest, whole.base)


def random_history(random: Random, lowest: int) -> dict[InstanceId, Access]:
    return {
        InstanceId(random.randrange(ROWS), lowest + random.randrange(9)): Access(
            0,
            tuple(random.sample(NAMED, random.randrange(2))),
            tuple(random.sample(NAMED, random.randrange(3))),
            reads_all=random.random() < 0.1,
        )
        for _ in range(random.randrange(6))
    }


# -- collections (protocol 4.13) ------------------------------------------------------------------------------


def test_a_collection_conflicts_with_everything_and_its_base_is_covered_ever_after() -> None:
    index = Conflicts(ROWS)
    index.add(InstanceId(0, 4), put(1, b"x"))
    index.add(InstanceId(1, 2), Access(2))
    assert index.deps(collect(3, -1, -1, 7)) == (4, 2, 7)
    index.add(InstanceId(1, 3), collect(3, 2, -1, 7))
    for command in (put(4, b"y"), get(5, b"y"), Access(6)):
        assert index.deps(command) == (2, 3, 7)
    assert index.deps(get(7, b"x")) == (4, 3, 7)


BASES = st.none() | st.tuples(*[st.integers(-1, 9)] * ROWS)
STEPS = st.one_of(
    st.sampled_from(["forget", "go on", "forget there", "merge", "adopt"]),
    st.tuples(st.booleans(), PLACES, st.builds(Access, st.just(0), KEYS, KEYS, BASES) | COMMANDS),
)


@given(st.lists(STEPS, max_size=40), st.lists(COMMANDS, max_size=5))
def test_what_follows_from_an_index_is_the_same_whatever_was_forgotten(
    steps: list[str | tuple[bool, InstanceId, Access]], asked: list[Access]
) -> None:
    """Of the protocol nothing reads an index in another way, so to it there is no forgetting (protocol 4.13)."""
    index, other, twin = Conflicts(ROWS), Conflicts(ROWS), Conflicts(ROWS)
    forgetting: Iterator[object] = iter(())
    for step in [*steps, "merge", "adopt"]:
        if isinstance(step, tuple):
            here, place, command = step
            twin.add(place, command)
            (index.cover if here else other.add)(place, command)
        elif step == "forget":
            forgetting = index.forget(1)
        elif step == "go on":
            next(forgetting, None)
        elif step == "forget there":
            list(other.forget(3))
        elif step == "merge":
            raise_to(index, other)
        else:
            index.raise_vectors(tuple(other.highest), tuple(other.base))
    for command in [*asked, *(put(0, key) for key in NAMED), scan(2), flush(3), collect(1, -1, 3, 5)]:
        assert index.deps(command) == twin.deps(command)


def test_what_a_base_speaks_for_is_forgotten_and_still_covered() -> None:
    index = Conflicts(ROWS)
    for slot, key in enumerate((b"a", b"b", b"c", b"d")):
        index.add(InstanceId(0, slot), put(slot, key))
        index.add(InstanceId(1, slot), get(slot, key))
    keys = [b"a", b"b", b"c", b"d"]
    before = [index.deps(put(9, key)) for key in keys]
    index.add(InstanceId(2, 0), collect(8, 1, 2, -1))
    forgetting = index.forget(2)
    next(forgetting)
    index.add(InstanceId(0, 9), put(9, b"b"))
    list(forgetting)
    assert len(index) == 5  # of row 0 c, d, b anew and what is written at all, of row 1 d
    after = [index.deps(put(9, key)) for key in keys]
    assert all(all(map(le, one, other)) for one, other in zip(before, after, strict=True))


def test_what_a_checkpoint_says_below_a_base_is_not_remembered_again() -> None:
    index = Conflicts(ROWS)
    index.raise_vectors((9,) * ROWS, (5,) + (-1,) * (ROWS - 1))
    assert index.raise_column(0, [b"a", b"b", b"c"], [4, 5, 6]) == [False, False, True]
    assert index.raise_column(1, [b"a"], [4]) == [True]
    assert len(index) == 2


def test_what_comes_late_below_a_base_is_not_looked_for_again() -> None:
    index = Conflicts(2)
    index.cover(InstanceId(0, 1), put(1, b"k"))
    index.cover(InstanceId(1, 5), collect(2, 3, 4))
    assert list(index.forget(1))
    index.cover(InstanceId(0, 2), put(3, b"late"))
    assert not list(index.forget(1))
    assert len(index) == 0
    assert index.deps(put(4, b"late")) == (3, 5)


def test_the_last_instance_of_a_row_is_met_again_only_by_who_conflicts_with_it() -> None:
    index = Conflicts(ROWS)
    index.add(InstanceId(1, 3), put(0, b"cold"))
    index.add(InstanceId(1, 4), put(0, b"hot"))
    for command, slot in (
        (put(0, b"hot"), 4),
        (put(0, b"cold"), 3),
        (put(0, b"cold", b"hot"), 4),
        (get(0, b"hot"), 4),
        (get(0, b"cold"), 3),
        (get(0, b"hot"), 4),
        (put(0, b"new"), -1),
    ):
        assert index.deps(command)[1] == slot
    index.add(InstanceId(1, 5), get(0, b"hot"))
    assert index.deps(put(0, b"hot"))[1] == 5
    assert index.deps(get(0, b"hot"))[1] == 4
