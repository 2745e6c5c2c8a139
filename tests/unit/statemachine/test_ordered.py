"""Lists, counts and clears by prefix, beside a sorted list; and that the index follows all that changes keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epaxos.errors import CommandError
from epaxos.statemachine.batch import Batch, Limits, make_payload
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import GROUP_MAP, PAGE_BYTES, PAGE_KEYS, RECORDS, Operation, Outcome
from epaxos.statemachine.ordered import PACE, OrderedKeys
from epaxos.statemachine.results import Value, weigh_value
from epaxos.statemachine.store import Store
from epaxos.statemachine.values import Frozen

SCAN, COUNT, CLEAR = Operation.SCAN, Operation.COUNT, Operation.CLEAR
BYTES = st.binary(max_size=3).map(lambda text: text.translate(bytes([97, 98, 255]) * 85 + b"a"))
KEYS = BYTES.filter(bool)
DONE, UNTOLD = bytes([Outcome.DONE]), bytes([Outcome.UNTOLD])


def store_of(*keys: bytes, value: bytes = b"v") -> Store:
    store = Store(Limits(), lambda _: None, PACES[-1])
    store.load((key, value) for key in keys)
    return store


def ask(store: Store, operation: Operation, prefix: bytes, argument: Argument = None) -> Any:
    store.begin(None)
    outcomes, values = store.execute(bytes([operation]), [prefix], [argument])
    assert outcomes == DONE
    assert values is not None
    return values[0]


PACES = [PACE]
"""The last one is that of the stores which are made."""


@pytest.fixture(autouse=True, params=[PACE, 1], ids=["at once", "slowly"])
def _pace(request: pytest.FixtureRequest) -> Iterator[None]:
    """The index is complete soon after it is first asked for, or walks are needed for long."""
    PACES.append(request.param)
    yield
    PACES.pop()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(KEYS), BYTES, st.none() | BYTES, st.integers(1, 5), st.booleans(), st.booleans())
def test_a_page_is_what_sorting_all_keys_gives(
    keys: set[bytes],
    prefix: bytes,
    after: bytes | None,
    limit: int,
    values: bool,  # noqa: FBT001 - hypothesis gives them by position
    reverse: bool,  # noqa: FBT001
) -> None:
    found = sorted((key for key in keys if key.startswith(prefix)), reverse=reverse)
    following = [key for key in found if after is None or (key < after if reverse else key > after)]
    page, more = following[:limit], len(following) > limit
    store = store_of(*keys)
    told = ask(store, SCAN, prefix, [after, limit, values, reverse])
    assert told == [page, [b"v"] * len(page) if values else None, more]
    assert ask(store, COUNT, prefix) == len(found)
    if not reverse:
        assert ask(store, CLEAR, prefix, [after, limit]) == [len(page), page[-1] if more else None]
        assert set(store) == keys - set(page)
        assert ask(store, COUNT, b"") == len(keys) - len(page)


STEPS = st.one_of(
    st.tuples(st.just(Operation.WRITE), KEYS, st.just(b"v")),
    st.tuples(st.just(Operation.DELETE), KEYS, st.none()),
    st.tuples(st.just(Operation.CAS), KEYS, st.sampled_from([[b"v", None], [None, b"w"], [b"w", b"v"]])),
    st.tuples(st.just(Operation.INCREMENT), KEYS, st.just(1)),
    st.tuples(st.just(Operation.APPEND), KEYS, st.just(b"+")),
    st.tuples(st.just(Operation.WRITEREAD), KEYS, st.just(b"r")),
    st.tuples(st.just(Operation.SETEX), KEYS, st.just([b"t", 5])),
    st.tuples(st.just(Operation.EXPIRE), KEYS, st.just([1, 1, 0])),
    st.tuples(
        st.just(Operation.MULTI),
        st.just(b""),
        st.tuples(KEYS, KEYS).map(
            lambda two: [
                b"\x02\x04\x02\x05",
                [two[0], two[1], two[1], two[0]],
                [b"m", None, b"m", [b"m", None]],
            ]
        ),
    ),
    st.tuples(
        st.just(Operation.MULTI), st.just(b""), KEYS.map(lambda key: [b"\x02\x06", [key] * 2, [b"x", 1]])
    ),
    st.tuples(st.just(CLEAR), BYTES, st.just([None, 2])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(KEYS, max_size=12),
    st.lists(st.tuples(st.integers(0, 3), st.lists(STEPS, min_size=1, max_size=8))),
)
def test_the_index_has_the_keys_that_there_are(
    keys: set[bytes], frames: Sequence[tuple[int, Sequence[tuple[int, bytes, Any]]]]
) -> None:
    """However far it had come when they came and went."""
    store = store_of(*keys)
    store.order.begin()
    for steps, frame in frames:
        for _ in range(steps):
            store.order.step()
        store.begin(None)
        operations, names, arguments = zip(*frame, strict=True)
        if set(operations) == {Operation.WRITE}:
            store.execute_plain(bytes(operations), names, arguments)
        else:
            store.execute(bytes(operations), names, arguments)
        store.put(b"ab", None if len(frame) % 2 else b"put")
        if steps:  # asking hastens it
            continue
        assert ask(store, SCAN, b"", [None, PAGE_KEYS, False, False])[0] == sorted(store)
    while not store.order.step():
        pass
    assert ask(store, SCAN, b"", [None, PAGE_KEYS, False, False])[0] == sorted(store)
    assert list(store.order._index) == sorted(store)


def test_a_page_ends_where_it_is_large_and_has_a_key_at_least() -> None:
    half = bytes(PAGE_BYTES // 2 - 11)  # a key of one byte takes 6, a value 5 more than it has
    store = store_of(b"a", b"b", b"c", value=half)
    assert ask(store, SCAN, b"", [None, 9, True, False])[::2] == [[b"a", b"b"], True]
    assert ask(store, SCAN, b"", [b"b", 9, True, False])[::2] == [[b"c"], False]
    assert ask(store, SCAN, b"", [None, 9, False, False])[::2] == [[b"a", b"b", b"c"], False]
    store = store_of(b"a", b"b", value=bytes(2 * PAGE_BYTES))
    assert ask(store, SCAN, b"", [None, 9, True, False])[::2] == [[b"a"], True]


@pytest.mark.parametrize("reverse", [False, True])
def test_one_page_fits_into_a_reply_however_small(reverse: bool) -> None:  # noqa: FBT001 - pytest gives it by position
    limits = Limits(results=150)
    keys = [b"%02d" % number for number in range(9)]
    store = Store(limits, lambda _: None)
    store.load((key, bytes(20)) for key in keys)
    found: list[bytes] = []
    more = True
    while more:
        page, values, more = ask(store, SCAN, b"", [found[-1] if found else None, 9, True, reverse])
        assert weigh_value([page, values, more]) + 1 <= limits.results
        assert len(page) == 3
        found += page
    assert sorted(found, reverse=reverse) == found == sorted(keys, reverse=reverse)
    store.load([(b"00", bytes(200))])
    assert ask(store, SCAN, b"", [None, 9, True, False])[::2] == [[b"00"], True]
    assert ask(store, CLEAR, b"", [None, 9]) == [9, None]


def test_who_ask_the_same_at_once_walk_once() -> None:
    class Keys(dict[bytes, bytes]):
        walks = 0

        def __iter__(self) -> Iterator[bytes]:
            self.walks += 1
            return super().__iter__()

    data = Keys(dict.fromkeys([b"a", b"b", b"c", b"d", b"e", b"f", b"g"], b"v"))
    keys = OrderedKeys(data, 1)
    assert [keys.count(b"") for _ in range(9)] == [7] * 9
    assert [keys.page(b"", None, 1) for _ in range(2)] == [([b"a"], b"b")] * 2
    once = data.walks
    data[b"h"] = b"v"
    assert [keys.count(b""), keys.count(b"")] == [8, 8]
    keys.remove(b"a")
    del data[b"a"]
    assert [keys.count(b""), keys.count(b"")] == [7, 7]
    assert (once, data.walks) == (2, 4)  # the first lists them, and walks


def test_the_services_own_keys_are_in_no_page() -> None:
    own = [RECORDS + b"r", GROUP_MAP]
    store = store_of(*own, b"\0a", b"\0groupsX", b"z")
    assert ask(store, SCAN, b"", [None, 9, False, False])[0] == [b"\0a", b"\0groupsX", b"z"]
    assert ask(store, SCAN, b"\0", [None, 9, False, True])[0] == [b"\0groupsX", b"\0a"]
    for prefix, count in ((b"", 3), (b"\0", 2), (GROUP_MAP, 1), (b"\0epaxos", 0), (RECORDS, 0)):
        assert ask(store, COUNT, prefix) == count
    ask(store, CLEAR, b"", [None, 9])
    assert sorted(store) == sorted(own)


def test_pages_that_are_too_much_together_are_asked_for_again() -> None:
    store = Store(Limits(results=100), lambda _: None)
    store.load([(b"a", bytes(60)), (b"b", bytes(60))])
    argument: list[object] = [None, 9, True, False]
    outcomes, values = store.execute(bytes([SCAN] * 3), [b""] * 3, [argument] * 3)
    assert outcomes == DONE + DONE + UNTOLD
    assert values is not None
    assert values[2] is None


@pytest.mark.parametrize(
    "argument",
    [
        None,
        b"",
        5,
        [],
        [None],
        [None, 0],
        [None, -1],
        [None, PAGE_KEYS + 1],
        [3, 1],
        [None, b"1"],
        [None, 1, 1, 1],
    ],
)
def test_what_slips_through_changes_nothing(argument: Any) -> None:
    store = store_of(b"a")
    for operation in (SCAN, CLEAR):
        assert store.execute(bytes([operation]), [b""], [argument]) == (bytes([Outcome.ABORTED]), None)
    assert list(store) == [b"a"]


def batch(*commands: tuple[Operation, bytes, Any], first: int = 1) -> Batch:
    kinds, keys, arguments = zip(*commands, strict=True)
    return Batch(7, first, 0, bytes(kinds), list(keys), list(arguments))


def refusal(*commands: tuple[Operation, bytes, Any]) -> str:
    with pytest.raises(CommandError) as refused:
        StateMachine(Limits(), lambda _: None).admit(batch(*commands))
    return str(refused.value)


def test_commands_on_all_keys_are_checked() -> None:
    page: list[Any] = [None, 10, True, False]
    assert "SCAN needs [a key or null, limit, values, reverse]" in refusal((SCAN, b"", [None, 10]))
    assert "CLEAR needs [a key or null, limit]" in refusal((CLEAR, b"", page))
    assert "integer from 1 to 10000" in refusal((SCAN, b"", [None, 0, True, False]))
    assert "booleans" in refusal((SCAN, b"", [None, 1, 1, False]))
    assert "at most 65536 bytes" in refusal((CLEAR, b"", [bytes(70_000), 1]))
    assert "COUNT takes no argument" in refusal((COUNT, b"", b""))
    assert "are the service's own" in refusal((COUNT, RECORDS, None))
    assert "SCANs and CLEARs of 10002 keys" in refusal(*[(SCAN, b"", [None, 5001, True, False])] * 2)
    for cheap in ((SCAN, b"", [None, 1, True, False]), (CLEAR, b"", [None, 1]), (COUNT, b"", None)):
        assert "of 11250 keys, at least 1250 each, in a frame; at most 10000" in refusal(*[cheap] * 9)
        StateMachine(Limits(), lambda _: None).admit(batch(*[cheap] * 8))
    assert "MULTI may not hold operation 21" in refusal(
        (Operation.MULTI, b"", [bytes([SCAN]), [b""], [page]])
    )
    StateMachine(Limits(), lambda _: None).admit(
        batch((SCAN, b"", page), (CLEAR, b"a", [b"b", 3]), (COUNT, b"", None))
    )


def frozen_after(machine: StateMachine) -> Frozen:
    """Freeze, and take all there is."""
    frozen = machine.freeze()
    machine.take_sessions(9)
    return frozen


def test_what_is_cleared_is_told_to_the_next_checkpoint() -> None:
    machine = StateMachine(Limits(), lambda _: None)
    machine.apply(make_payload([batch(*((Operation.WRITE, key, b"v") for key in (b"a", b"b", b"c")))]))
    frozen_after(machine)
    machine.apply(make_payload([batch((CLEAR, b"", [None, 2]), first=4)]))
    frozen = frozen_after(machine)
    assert [list(keys) for keys in frozen.cleared] == [[b"a", b"b"]]
    assert frozen.values([b"a", b"c"]) == [None, b"v"]
    assert frozen_after(machine).cleared == []


def test_what_was_frozen_has_what_is_cleared_later() -> None:
    machine = StateMachine(Limits(), lambda _: None)
    machine.apply(make_payload([batch((Operation.WRITE, b"a", b"v"))]))
    frozen = machine.freeze()
    machine.apply(make_payload([batch((CLEAR, b"", [None, 2]), first=2)]))
    assert frozen.values([b"a"]) == [b"v"]


def prepared(machine: StateMachine, key: bytes) -> None:
    """A transaction across groups has locked a key."""
    record = RECORDS + (1).to_bytes(8, "big") + (1).to_bytes(8, "big")
    machine.apply(
        make_payload(
            [batch((Operation.PREPARE, record, [0, [[b"here", 0]], [b"\x02", [key], [b"v"]]]), first=50)]
        )
    )
    assert len(machine.transactions) == 1


def test_a_list_meets_the_locks_among_its_keys() -> None:
    machine = StateMachine(Limits(), lambda _: None)
    prepared(machine, b"m")
    commands: list[tuple[Operation, bytes, Any, bool]] = [
        (SCAN, b"", [None, 1, True, False], True),
        (SCAN, b"m", [None, 1, True, False], True),
        (SCAN, b"n", [None, 1, True, False], False),
        (SCAN, b"", [b"m", 1, True, False], False),
        (SCAN, b"", [b"m", 1, True, True], False),
        (SCAN, b"", [b"n", 1, True, True], True),
        (COUNT, b"", None, True),
        (COUNT, b"a", None, False),
        (CLEAR, b"", [None, 1], True),
        (CLEAR, b"", [b"z", 1], False),
    ]
    for number, (operation, prefix, argument, meets) in enumerate(commands, 60):
        (result,) = machine.apply(make_payload([batch((operation, prefix, argument), first=number)]))
        assert (result.outcomes == bytes([Outcome.LOCKED])) is meets, (operation, prefix, argument)


def test_a_page_meets_no_lock_behind_the_key_that_shows_that_there_are_more() -> None:
    machine = StateMachine(Limits(), lambda _: None)
    there = (b"a", b"b", b"c", b"m", b"x", b"y", b"z")
    machine.apply(make_payload([batch(*((Operation.WRITE, key, b"v") for key in there))]))
    prepared(machine, b"m")
    commands: list[tuple[Operation, bytes, Any, bool]] = [
        (SCAN, b"", [None, 2, True, False], False),
        (SCAN, b"", [None, 3, True, False], True),
        (SCAN, b"", [None, 4, True, False], True),
        (SCAN, b"", [None, 2, True, True], False),
        (SCAN, b"", [None, 3, True, True], True),
        (SCAN, b"", [b"m", 1, True, False], False),
        (CLEAR, b"", [None, 4], True),
        (COUNT, b"", None, True),
        (CLEAR, b"", [None, 2], False),
        (SCAN, b"", [None, 1, True, False], True),
    ]
    for number, (operation, prefix, argument, meets) in enumerate(commands, 60):
        (result,) = machine.apply(make_payload([batch((operation, prefix, argument), first=number)]))
        assert (result.outcomes == bytes([Outcome.LOCKED])) is meets, (operation, prefix, argument)


def test_a_list_that_comes_again_executes_again_and_a_clear_does_not() -> None:
    machine = StateMachine(Limits(), lambda _: None)

    def told(*commands: tuple[Operation, bytes, Any], first: int) -> Value:
        (result,) = machine.apply(make_payload([batch(*commands, first=first)]))
        return None if result.values is None else result.values[0]

    told((Operation.WRITE, b"a", b"v"), first=1)
    page: list[Any] = [None, 5, False, False]
    assert told((SCAN, b"", page), first=2) == [[b"a"], None, False]
    assert told((CLEAR, b"", [None, 5]), first=3) == [1, None]
    told((Operation.WRITE, b"b", b"v"), first=4)
    assert told((SCAN, b"", page), first=2) == [[b"b"], None, False]
    assert told((CLEAR, b"", [None, 5]), first=3) == [1, None]
    assert told((COUNT, b"", None), first=5) == 1


def test_all_keep_the_same_of_what_a_list_stands_beside() -> None:
    """Where it is told it takes room, so that lists after it may come to something else."""
    bounds = Limits(results=300).bounds
    commands = [(SCAN, b"", [None, 5, True, False])] * 3 + [(Operation.WRITE, b"n", b"1")]
    payload = make_payload([batch(*commands, first=2)], bounds)
    rows, told = [], []
    for lists in (True, False):
        machine = StateMachine(Limits(), lambda _: None)
        machine.apply(make_payload([batch((Operation.WRITE, b"a", bytes(200)), first=1)]))
        (run,) = machine.runs(payload, lists=lists)
        told.append(run.outcomes)
        machine.freeze()
        rows += machine.take_sessions(9)
    assert told[0] != told[1]
    assert rows[0] == rows[1]


def test_a_list_that_nobody_waits_for_costs_nothing_and_is_told_where_it_comes_again() -> None:
    machine, payloads = StateMachine(Limits(), lambda _: None), []
    page: list[Any] = [None, 5, False, False]
    commands = [
        (Operation.WRITE, b"a", b"v"),
        (SCAN, b"", page),
        (COUNT, b"", None),
        (Operation.INCREMENT, b"n", 1),
    ]
    payloads = [make_payload([batch(*commands, first=1)]), make_payload([batch((COUNT, b"", None), first=9)])]
    for payload in payloads:
        (run,) = machine.runs(payload, lists=False)
        assert run.outcomes == DONE * len(run.outcomes)
        assert not run.values or run.values[1:3] == [None, None]
    assert not machine.order._wanted  # a new key is as cheap as before
    assert machine.apply(payloads[0])[0].values == [None, [[b"a", b"n"], None, False], 2, 1]
    assert machine.apply(payloads[1])[0].values == [2]


def test_what_is_needed_no_more_is_freed_in_steps() -> None:
    """At a million keys the index alone stopped a round for 50 ms where a replica began anew."""
    store = Store(Limits(), lambda _: None)
    store.load((b"%d" % number, b"v") for number in range(10 * PACE))
    store.order.begin()
    while not store.order.step():
        pass
    steps = 1
    while store.let_go(2 * PACE):
        steps += 1
    assert steps == 5 + 5
