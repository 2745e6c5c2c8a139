"""What the commands of a batch may come to, and that every replica comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epaxos.statemachine.batch import (
    Bounds,
    Limits,
    Payload,
    decode_batch,
    decode_payload,
    encode_batch,
    make_payload,
)
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.results import BatchResult
from epaxos.statemachine.sessions import Budget

ALICE, BOB = 1, 2
Command = tuple[int, bytes, Argument]


def make_machine(kept: int = 10**6) -> StateMachine:
    return StateMachine(Limits(), lambda _: None, Budget(kept, kept))


def payload(bounds: Bounds, *batches: tuple[int, int, list[Command]]) -> Payload:
    made = [
        decode_batch(
            encode_batch(
                client,
                first,
                0,
                bytes(operation for operation, _, _ in commands),
                [key for _, key, _ in commands],
                [argument for _, _, argument in commands],
            )
        )
        for client, first, commands in batches
    ]
    return decode_payload(make_payload(made, bounds).encoded)


def get(key: bytes) -> Command:
    return Operation.READ, key, None


def put(key: bytes, value: bytes) -> Command:
    return Operation.WRITE, key, value


def swap(key: bytes, value: bytes) -> Command:
    return Operation.WRITEREAD, key, value


def cas(key: bytes, expected: bytes, new: bytes) -> Command:
    return Operation.CAS, key, [expected, new]


def multi(*parts: Command) -> Command:
    operations = bytes(operation for operation, _, _ in parts)
    return Operation.MULTI, b"", [operations, [key for _, key, _ in parts], [last for _, _, last in parts]]


BOUNDS = Bounds(value=100, results=250)


def run(machine: StateMachine, first: int, *commands: Command, client: int = ALICE) -> BatchResult:
    return machine.apply(payload(BOUNDS, (client, first, list(commands))))[0]


@pytest.fixture
def machine() -> StateMachine:
    machine = make_machine()
    run(machine, 1, put(b"a", bytes(100)), put(b"b", bytes(100)), put(b"c", bytes(100)), client=BOB)
    return machine


def test_what_a_batch_of_writes_tells_is_bounded_and_the_rest_changes_nothing(machine: StateMachine) -> None:
    result = run(machine, 1, swap(b"a", b"1"), cas(b"b", b"", b"2"), swap(b"c", b"3"), swap(b"a", b"4"))
    assert result.outcomes == bytes([Outcome.DONE, Outcome.COMPARE_FAILED, Outcome.TOO_LARGE, Outcome.DONE])
    assert result.values == [bytes(100), bytes(100), None, b"1"]
    assert run(machine, 5, get(b"c"), get(b"a")).values == [bytes(100), b"4"]
    assert run(
        machine, 7, cas(b"b", b"x", b""), cas(b"c", b"x", b""), cas(b"b", b"x", b"")
    ).outcomes == bytes([Outcome.COMPARE_FAILED, Outcome.COMPARE_FAILED, Outcome.TOO_LARGE])


def test_a_duplicate_of_what_was_too_large_is_so_again(machine: StateMachine) -> None:
    commands = [swap(b"a", b"1"), swap(b"b", b"2"), swap(b"c", b"3")]
    first = run(machine, 1, *commands)
    assert first.outcomes[2] == Outcome.TOO_LARGE
    assert run(machine, 1, *commands) == first
    assert run(machine, 3, commands[2]).outcomes == bytes([Outcome.TOO_LARGE])


def test_a_multi_whose_results_are_too_many_changes_nothing(machine: StateMachine) -> None:
    too_many = multi(swap(b"a", b"1"), get(b"b"), get(b"c"))
    assert run(machine, 1, too_many) == BatchResult(ALICE, 1, bytes([Outcome.TOO_LARGE]), None)
    assert run(machine, 2, multi(get(b"a"), get(b"b"), get(b"c"))).outcomes == bytes([Outcome.TOO_LARGE])
    failing = multi(swap(b"a", b"1"), cas(b"b", b"x", b"y"))
    assert run(machine, 3, failing).outcomes == bytes([Outcome.ABORTED])
    assert run(machine, 4, failing, failing).outcomes == bytes([Outcome.ABORTED, Outcome.TOO_LARGE])
    assert run(machine, 6, multi(swap(b"a", b"1"), get(b"b"))).outcomes == bytes([Outcome.DONE])
    assert run(machine, 7, get(b"a")).values == [b"1"]


def test_values_of_reads_between_writes_are_left_out_where_they_are_too_many(machine: StateMachine) -> None:
    """Each is another version of the value: a reply of one batch would hold them all in memory."""
    grow: Command = (Operation.APPEND, b"v", bytes(10))
    result = run(machine, 1, *[grow, get(b"v")] * 10)
    assert result.values == [
        10,
        bytes(10),
        20,
        bytes(20),
        *[30, bytes(30), 40, bytes(40), 50, bytes(50)],
        *(
            part
            for length in range(60, 110, 10)
            for part in (length, bytes(length) if length <= 70 else None)
        ),
    ]
    assert result.outcomes.count(Outcome.UNTOLD) == 3
    again = run(machine, 1, *[grow, get(b"v")] * 10)  # nothing is between the reads any more
    assert again.values == [part for length in range(10, 110, 10) for part in (length, bytes(100))]
    both = multi(get(b"a"), get(b"b"))
    assert run(machine, 30, both, both, both).outcomes == bytes([Outcome.DONE, Outcome.DONE, Outcome.UNTOLD])


def test_the_bounds_are_those_of_the_payload(machine: StateMachine) -> None:
    commands = [swap(b"a", bytes(100)), swap(b"a", b""), (Operation.APPEND, b"b", b"x")]
    assert run(machine, 1, *commands).outcomes == bytes([0, 0, Outcome.TOO_LARGE])
    (result,) = machine.apply(payload(Bounds(101, 10), (ALICE, 4, [swap(b"c", b""), commands[2]])))
    assert result.outcomes == bytes([Outcome.TOO_LARGE, 0])


KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.integers(0, 8).map(bytes)
PARTS = st.one_of(
    st.builds(get, KEYS),
    st.builds(put, KEYS, VALUES),
    st.builds(swap, KEYS, VALUES),
    st.builds(cas, KEYS, VALUES, VALUES),
    st.tuples(st.just(Operation.APPEND), KEYS, VALUES),
)
COMMANDS = st.one_of(PARTS, st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: multi(*parts)))
SCRIPTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(4, 60)), min_size=2, max_size=8
)


def touched(one: Payload) -> tuple[set[bytes], set[bytes]]:
    return set(one.reads), set(one.writes)


def conflict(one: Payload, other: Payload) -> bool:
    (reads, writes), (other_reads, other_writes) = touched(one), touched(other)
    return bool(writes & other_writes or writes & other_reads or reads & other_writes)


def reordered(payloads: list[Payload], choose: Callable[[list[int]], int]) -> list[int]:
    """An order in which those that conflict stay as they are; `choose` picks the next of those that may come."""
    order: list[int] = []
    left = list(range(len(payloads)))
    while left:
        free = [
            index
            for index in left
            if not any(conflict(payloads[index], payloads[earlier]) for earlier in left if earlier < index)
        ]
        chosen = choose(free)
        left.remove(chosen)
        order.append(chosen)
    return order


# Did a read execute once, and take room, then the swap had room only where the read came alone before.
@example([get(b"a"), swap(b"b", b""), *[get(b"c")] * 12], [(0, 1, 30), (0, 2, 12)], 1)
@given(st.lists(COMMANDS, min_size=14, max_size=14), SCRIPTS, st.integers(0, 2**32))
def test_replicas_come_to_the_same_in_whatever_order_conflicts_allow(
    commands: list[Command], script: list[tuple[int, int, int]], seed: int
) -> None:
    """Batches of one session that overlap, each as an instance with bounds of its own, in different orders.

    Digests agree, and so does what every instance tells of a command that writes, as far as it is kept.
    """
    start = [put(b"a", bytes(8)), put(b"b", bytes(7)), put(b"c", bytes(6))]
    payloads = [
        payload(Bounds(20, results), (ALICE, first + 1, commands[first : first + count]))
        for first, count, results in script
    ]
    told: dict[tuple[int, int], tuple[int, object]] = {}
    digests = set()
    for choose, kept in ((min, 10**6), (max, 300), (Random(seed).choice, 600)):
        machine = make_machine(kept)
        run(machine, 1, *start, client=BOB)
        for index in reordered(payloads, choose):
            (result,) = machine.apply(payloads[index])
            values = result.values or [None] * len(result.outcomes)
            reads = set(payloads[index].reads)
            for number, answer in enumerate(zip(result.outcomes, values, strict=True), result.first):
                operation, _, argument = commands[number - 1]
                only_reads = operation == Operation.READ or (
                    operation == Operation.MULTI and set(argument[0]) == {Operation.READ}  # type: ignore[index,arg-type]
                )
                if only_reads:
                    assert reads
                elif answer[0] != Outcome.FORGOTTEN:
                    assert told.setdefault((index, number), answer) == answer
        digests.add(machine.digest_source().hexdigest())
    assert len(digests) == 1


def test_a_result_that_is_not_kept_any_more_is_told_as_that() -> None:
    machine = make_machine(kept=500)
    run(machine, 1, put(b"a", bytes(100)))
    for number in range(2, 8):
        run(machine, number, swap(b"a", bytes(100)))
    assert run(machine, 2, swap(b"a", b"")) == BatchResult(ALICE, 2, bytes([Outcome.FORGOTTEN]), None)
    assert run(machine, 7, swap(b"a", b"")).values == [bytes(100)]
    assert run(machine, 8, get(b"a")).values == [bytes(100)]  # and nothing executed again
