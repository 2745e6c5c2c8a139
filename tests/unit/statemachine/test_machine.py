from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.statemachine.batch import (
    SERVICE,
    Batch,
    Limits,
    Payload,
    decode_batch,
    decode_payload,
    encode_batch,
    make_collection,
    make_expirations,
    make_payload,
)
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.expiry import Generation
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.results import BatchResult, Value
from epaxos.statemachine.sessions import WINDOW

ALICE, BOB = 2**63, 7


def make_machine() -> StateMachine:
    return StateMachine(Limits(), lambda _: None)


def batch(
    client: int,
    first: int,
    *commands: tuple[int, bytes, Argument],
    acked: int = 0,
) -> Batch:
    operations = bytes(operation for operation, _, _ in commands)
    keys = [key for _, key, _ in commands]
    arguments = [argument for _, _, argument in commands]
    column = arguments if any(argument is not None for argument in arguments) else None
    return decode_batch(encode_batch(client, first, acked, operations, keys, column))


def payload(*batches: Batch) -> Payload:
    """A payload as a peer gets it."""
    return decode_payload(make_payload(batches).encoded)


def digest(machine: StateMachine) -> str:
    return machine.digest_source().hexdigest()


def put(key: bytes, value: bytes) -> tuple[int, bytes, Argument]:
    return Operation.WRITE, key, value


def get(key: bytes) -> tuple[int, bytes, Argument]:
    return Operation.READ, key, None


def add(key: bytes, amount: int = 1) -> tuple[int, bytes, Argument]:
    return Operation.INCREMENT, key, amount


def test_one_result_for_each_batch_in_order() -> None:
    machine = make_machine()
    results = machine.apply(
        payload(
            batch(ALICE, 1, put(b"a", b"1"), put(b"b", b"2")),
            batch(BOB, 5, get(b"a"), get(b"none"), add(b"b", 3)),
            batch(ALICE, 3, get(b"b")),
        )
    )
    assert results == [
        BatchResult(ALICE, 1, b"\0\0", None),
        BatchResult(BOB, 5, bytes([Outcome.DONE, Outcome.NOT_FOUND, Outcome.DONE]), [b"1", None, 5]),
        BatchResult(ALICE, 3, b"\0", [b"5"]),
    ]
    assert machine.keys == 2
    assert machine.sessions == 2
    assert machine.duplicates == 0


def test_a_retried_batch_executes_once_and_gets_the_first_answer() -> None:
    machine = make_machine()
    commands = batch(ALICE, 1, add(b"n"), add(b"n"))
    (first,) = machine.apply(payload(commands))
    machine.apply(payload(batch(BOB, 1, add(b"n", 40))))
    before = digest(machine)
    (again,) = machine.apply(payload(commands))
    assert first == again == BatchResult(ALICE, 1, b"\0\0", [1, 2])
    assert digest(machine) == before
    assert machine.duplicates == 2
    assert machine.executed[Operation.INCREMENT] == 3


def test_what_has_executed_elsewhere_is_recalled_without_a_change() -> None:
    machine = make_machine()
    commands = payload(batch(ALICE, 1, add(b"n"), get(b"n")), batch(BOB, 5, put(b"m", b"1")))
    assert machine.recall(commands, prefix=False) is None
    machine.apply(payload(batch(ALICE, 1, add(b"n"), get(b"n"))))
    assert machine.recall(commands, prefix=False) is None
    machine.apply(payload(batch(BOB, 5, put(b"m", b"1"))))
    machine.apply(payload(batch(BOB, 6, put(b"n", b"later"))))
    before = digest(machine), machine.sessions, machine.kept
    assert machine.recall(commands, prefix=False) == [
        BatchResult(ALICE, 1, b"\0\0", [1, b"later"]),
        BatchResult(BOB, 5, b"\0", None),
    ]
    assert (digest(machine), machine.sessions, machine.kept) == before


def multi(*parts: tuple[int, bytes, Argument]) -> tuple[int, bytes, Argument]:
    operations, keys, arguments = zip(*parts, strict=True)
    return Operation.MULTI, b"", [bytes(operations), list(keys), list(arguments)]


def test_a_command_that_reads_several_keys_is_not_recalled_from_a_state_in_no_order() -> None:
    """Of two writes an adopted state may have the later one alone; of who read both before, it would tell that."""
    machine = make_machine()
    commands = batch(ALICE, 1, multi(get(b"x"), get(b"y")))
    machine.apply(payload(commands))
    machine.merge([(b"y", b"later")])
    everything = payload(batch(BOB, 9, (Operation.COUNT, b"", None)))
    machine.apply(everything)
    assert machine.recall(payload(commands), prefix=False) is None
    assert machine.recall(everything, prefix=False) is None
    assert machine.recall(payload(batch(ALICE, 1, multi(get(b"y"), get(b"y")))), prefix=False) is not None
    told: list[Value] = [[bytes([Outcome.NOT_FOUND, Outcome.DONE]), [None, b"later"]]]
    assert machine.recall(payload(commands), prefix=True) == [BatchResult(ALICE, 1, b"\0", told)]
    assert machine.recall(everything, prefix=True) == [BatchResult(BOB, 9, b"\0", [1])]
    assert machine.recall(payload(batch(BOB, 10, (Operation.COUNT, b"", None))), prefix=True) is None
    writing = payload(batch(BOB, 1, multi(get(b"x"), put(b"y", b"1")), get(b"x"), get(b"y")))
    assert machine.apply(writing) == machine.recall(writing, prefix=False)


def test_nobody_waits_for_what_replicas_propose_by_themselves() -> None:
    machine = make_machine()
    collection = make_collection(0, (-1, -1, -1))
    assert machine.recall(collection, prefix=False) is None
    machine.apply(collection)
    assert machine.recall(collection, prefix=False) == []
    expirations = make_expirations([(b"key", Generation(ALICE, 1, 0))], Limits().bounds)
    assert machine.recall(expirations, prefix=False) == []


def test_a_duplicate_within_one_payload_executes_once() -> None:
    machine = make_machine()
    commands = batch(ALICE, 1, add(b"n"), add(b"n"))
    results = machine.apply(payload(commands, commands, batch(ALICE, 2, add(b"n"), add(b"n"))))
    assert [result.values for result in results] == [[1, 2], [1, 2], [2, 3]]
    assert machine.duplicates == 3


def test_a_regrouped_batch_executes_only_what_is_new() -> None:
    machine = make_machine()
    numbered = {number: add(b"n", 10**number) for number in range(1, 8)}

    def part(first: int, end: int) -> BatchResult:
        commands = [numbered[number] for number in range(first, end)]
        return machine.apply(payload(batch(ALICE, first, *commands)))[0]

    assert part(2, 4).values == [100, 1100]
    assert part(5, 6).values == [101100]
    assert part(1, 8) == BatchResult(
        ALICE, 1, bytes(7), [101110, 100, 1100, 111110, 101100, 1111110, 11111110]
    )
    assert part(3, 7).values == [1100, 111110, 101100, 1111110]
    assert machine.executed[Operation.INCREMENT] == 7
    assert machine.duplicates == 3 + 4


def test_a_duplicate_of_an_acknowledged_command_is_answered_as_forgotten() -> None:
    machine = make_machine()
    old = batch(ALICE, 1, add(b"n"), put(b"m", b""))
    machine.apply(payload(old))
    machine.apply(payload(batch(ALICE, 3, add(b"n"), acked=3)))
    assert machine.apply(payload(old)) == [BatchResult(ALICE, 1, bytes([Outcome.FORGOTTEN] * 2), None)]
    mixed = batch(ALICE, 2, put(b"m", b""), add(b"n"), add(b"n"))
    assert machine.apply(payload(mixed)) == [
        BatchResult(ALICE, 2, bytes([Outcome.FORGOTTEN, 0, 0]), [None, 2, 3])
    ]


def test_a_read_that_comes_again_tells_what_is_there_now_and_nothing_of_it_is_kept() -> None:
    machine = make_machine()
    both: list[object] = [b"\x01\x01", [b"n", b"m"], [None, None]]
    mixed = batch(ALICE, 1, add(b"n"), get(b"n"), (Operation.MULTI, b"", both))
    (first,) = machine.apply(payload(mixed))
    assert first.values == [1, b"1", [bytes([0, Outcome.NOT_FOUND]), [b"1", None]]]
    machine.apply(payload(batch(BOB, 1, add(b"n"), put(b"m", b"x"))))
    (again,) = machine.apply(payload(mixed))
    assert again == BatchResult(ALICE, 1, bytes(3), [1, b"2", [bytes(2), [b"2", b"x"]]])
    assert machine.duplicates == 1
    weight = machine.kept
    machine.apply(payload(batch(ALICE, 4, *[get(b"m")] * 100)))
    assert machine.kept == weight


def test_an_acknowledgement_that_overtakes_an_older_command_does_not_skip_it() -> None:
    older, newer = batch(ALICE, 1, put(b"a", b"1")), batch(ALICE, 2, put(b"b", b"2"), acked=2)
    here, there = make_machine(), make_machine()
    here.apply(payload(older))
    here.apply(payload(newer))
    there.apply(payload(newer))
    there.apply(payload(older))
    assert there.keys == 2
    assert digest(here) == digest(there)


def test_clients_do_not_share_request_numbers() -> None:
    machine = make_machine()
    machine.apply(payload(batch(ALICE, 1, add(b"n")), batch(BOB, 1, add(b"n"))))
    assert machine.apply(payload(batch(BOB, 2, get(b"n"))))[0].values == [b"2"]


def test_the_digest_covers_what_executed_but_not_what_is_kept_for_clients() -> None:
    here, there = make_machine(), make_machine()
    here.apply(payload(batch(ALICE, 1, get(b"a"))))
    empty = make_machine()
    assert digest(here) != digest(empty)  # a read changes no key, but must not execute again
    there.apply(payload(batch(ALICE, 1, (Operation.NULL, b"", None))))
    assert digest(here) == digest(there)


def test_a_digest_source_is_a_copy() -> None:
    machine = make_machine()
    machine.apply(payload(batch(ALICE, 1, put(b"a", b"1"))))
    source, before = machine.digest_source(), digest(machine)
    machine.apply(payload(batch(ALICE, 2, put(b"a", b"2")), batch(BOB, 1, put(b"b", b"2"))))
    assert source.hexdigest() == before != digest(machine)


def test_commands_are_counted_by_operation() -> None:
    machine = make_machine()
    unknown = Batch(BOB, 1, 0, b"\xfe\xff", [b"", b""], None)
    part: list[object] = [b"\x02", [b"x"], [b"1"]]
    machine.apply(payload(batch(ALICE, 1, put(b"a", b""), put(b"b", b""), put(b"c", b""))))
    machine.apply(
        payload(batch(ALICE, 4, get(b"a"), put(b"b", b""), get(b"a"), (Operation.MULTI, b"", part)))
    )
    assert machine.apply(make_payload([unknown])) == [BatchResult(BOB, 1, bytes([Outcome.ABORTED] * 2), None)]
    expected = dict.fromkeys(Operation, 0) | {Operation.READ: 2, Operation.WRITE: 4, Operation.MULTI: 1}
    assert machine.executed == [expected[operation] for operation in Operation]


def test_a_duplicate_pause_does_not_sleep_again() -> None:
    slept: list[float] = []
    machine = StateMachine(Limits(), slept.append)
    pause = payload(batch(ALICE, 1, (Operation.PAUSE, b"", 20)))
    machine.apply(pause)
    machine.apply(pause)
    assert slept == [0.02]


def test_a_failed_command_counts_as_executed() -> None:
    machine = make_machine()
    part: list[object] = [b"\x02\x05", [b"a", b"b"], [b"1", [b"x", b"y"]]]
    failing = payload(batch(ALICE, 1, (Operation.MULTI, b"", part), (Operation.CAS, b"b", [b"x", b"y"])))
    (first,) = machine.apply(failing)
    assert first.outcomes == bytes([Outcome.ABORTED, Outcome.COMPARE_FAILED])
    assert machine.keys == 0
    machine.apply(payload(batch(BOB, 1, put(b"b", b"x"))))
    assert machine.apply(failing) == [first]
    assert machine.keys == 1


KEYS = st.sampled_from([b"a", b"b"])
COMMANDS: st.SearchStrategy[tuple[int, bytes, Argument]] = st.one_of(
    st.tuples(st.just(Operation.READ), KEYS, st.none()),
    st.tuples(st.just(Operation.WRITE), KEYS, st.binary(max_size=2)),
    st.tuples(st.just(Operation.WRITEREAD), KEYS, st.binary(max_size=2)),
    st.tuples(st.just(Operation.INCREMENT), KEYS, st.integers(-5, 5)),
    st.tuples(st.just(Operation.APPEND), KEYS, st.binary(max_size=2)),
    st.tuples(
        st.just(Operation.MULTI), st.just(b""), KEYS.map(lambda key: [b"\x06\x01", [key] * 2, [1, None]])
    ),
)
# A script is a list of batches: client, position of the first command, length.
SCRIPTS = st.lists(
    st.tuples(st.sampled_from([ALICE, BOB]), st.integers(0, 14), st.integers(1, 6)), max_size=12
)


@given(st.lists(COMMANDS, min_size=20, max_size=20), SCRIPTS, st.integers(1, 4))
def test_every_number_executes_once_in_the_order_of_its_first_coming(
    commands: Sequence[tuple[int, bytes, Argument]], script: list[tuple[int, int, int]], group: int
) -> None:
    """Grouped, overlapping and repeated batches come to what each command alone, executed once, comes to."""
    batches = [
        batch(client, start + 1, *commands[start : start + length]) for client, start, length in script
    ]
    whole = make_machine()
    results = []
    for start in range(0, len(batches), group):
        results += whole.apply(payload(*batches[start : start + group]))

    plain = make_machine()
    executed: dict[tuple[int, int], tuple[int, object]] = {}
    fresh = count(1)  # the plain machine sees one new client a command: it has no duplicates to find
    for (client, start, length), result in zip(script, results, strict=True):
        for number in range(start + 1, start + 1 + length):
            if (client, number) not in executed or commands[number - 1][0] == Operation.READ:
                (alone,) = plain.apply(payload(batch(next(fresh) * 1000, 1, commands[number - 1])))
                executed[client, number] = (alone.outcomes[0], alone.values and alone.values[0])
        values = result.values or [None] * length
        answers = list(zip(result.outcomes, values, strict=True))
        assert answers == [executed[client, number] for number in range(start + 1, start + 1 + length)]

    assert whole.digest_source().data == plain.digest_source().data
    assert sum(whole.executed) == sum(plain.executed)
    assert sum(whole.executed) + whole.duplicates == sum(length for _, _, length in script)


@given(st.lists(COMMANDS, min_size=20, max_size=20), SCRIPTS)
def test_the_same_payloads_give_the_same_state_and_results(
    commands: Sequence[tuple[int, bytes, Argument]], script: list[tuple[int, int, int]]
) -> None:
    machines = make_machine(), make_machine()
    for client, start, length in script:
        one = payload(batch(client, start + 1, *commands[start : start + length], acked=start))
        results = [machine.apply(one) for machine in machines]
        assert results[0] == results[1]
    assert digest(machines[0]) == digest(machines[1])


@given(st.permutations(range(6)))
def test_commands_that_do_not_conflict_may_execute_in_any_order(order: list[int]) -> None:
    machine, ordered = make_machine(), make_machine()
    payloads = [
        payload(batch(ALICE, 2 * i + 1, put(b"%d" % i, b""), get(b"%d" % i), acked=i)) for i in range(6)
    ]
    for position in order:
        machine.apply(payloads[position])
    for each in payloads:
        ordered.apply(each)
    assert digest(machine) == digest(ordered)


SHAPED = {Operation.MULTI, Operation.PREPARE, Operation.RESOLVE, Operation.APPLY}
"""Of which a payload with an argument of wrong shape is refused: nobody could say which keys it touches."""

ODD: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=3)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.tuples(st.integers(0, 255).filter(lambda operation: operation not in SHAPED), KEYS, ODD),
        min_size=1,
        max_size=6,
    )
)
def test_a_batch_that_no_proposer_should_have_taken_never_raises(
    commands: list[tuple[int, bytes, Argument]],
) -> None:
    one = payload(batch(ALICE, 1, *commands))
    machines = make_machine(), make_machine()
    results = [machine.apply(one) for machine in machines]
    assert results[0] == results[1]
    assert len(results[0][0].outcomes) == len(commands)
    assert digest(machines[0]) == digest(machines[1])
    if Operation.READ not in {operation for operation, _, _ in commands}:
        assert machines[0].apply(one) == results[0]


@pytest.mark.parametrize("argument", [None, [], [b"\x02", [b"a"], None], [b"\x00", [b""], [None]]])
def test_a_multi_of_wrong_shape_is_answered(argument: Argument) -> None:
    machine = make_machine()
    one = make_payload([Batch(ALICE, 1, 0, b"\0", [b""], [argument])])
    one.operations = bytes(
        [Operation.MULTI]
    )  # its bytes could not be decoded, but nothing here relies on that
    assert machine.apply(one) == [BatchResult(ALICE, 1, bytes([Outcome.ABORTED]), None)]


BY_NUMBER = (put(b"a", b"1"), get(b"a"), put(b"b", b""), (Operation.DELETE, b"a", None), get(b"b"))
JOINED = st.lists(
    st.tuples(st.sampled_from([ALICE, BOB, BOB + 1]), st.integers(1, 12), st.integers(1, 3)),
    min_size=1,
    max_size=8,
)


@given(st.lists(JOINED, max_size=3))
def test_joined_batches_execute_as_each_by_itself(history: list[list[tuple[int, int, int]]]) -> None:
    """Whatever is a duplicate of what, and whosesoever columns are handled at once."""
    joined, apart = make_machine(), make_machine()
    for entry in history:
        batches = [
            batch(
                client,
                first,
                *[BY_NUMBER[number % len(BY_NUMBER)] for number in range(first, first + count)],
            )
            for client, first, count in entry
        ]
        for _ in range(2):
            results = [apart.apply(payload(one))[0] for one in batches]
            assert joined.apply(payload(*batches)) == results
            assert digest(joined) == digest(apart)
    assert joined.executed == apart.executed
    assert joined.duplicates == apart.duplicates


def test_columns_of_many_sessions_are_executed_at_once() -> None:
    machine = make_machine()
    batches = [batch(client, 1, put(b"%d" % client, b"x")) for client in range(1, 6)]
    (run,) = machine.runs(payload(*batches))
    assert (run.start, run.stop, run.outcomes, run.values) == (0, 5, bytes(5), None)
    again = [batch(3, 1, put(b"3", b"y")), batch(3, 2, put(b"3", b"z"))]
    runs = list(machine.runs(payload(batch(1, 2, get(b"3")), *again, batch(9, 1, get(b"3")))))
    assert [(run.start, run.stop, run.values) for run in runs] == [
        (0, 1, [b"x"]),
        (1, 2, None),
        (2, 4, [None, b"z"]),
    ]


def test_a_session_that_is_over_ends_no_columns_but_its_own() -> None:
    machine = make_machine()
    for generation in range(WINDOW + 1):
        machine.apply(make_collection(generation, (-1, -1, -1)))
    late = batch(ALICE, 1, put(b"a", b"1"))
    fresh = [replace(batch(client, 1, put(b"b", b"1")), generation=WINDOW) for client in (BOB, BOB + 1)]
    results = machine.apply(payload(fresh[0], late, fresh[1]))
    assert [set(result.outcomes) for result in results] == [{Outcome.DONE}, {Outcome.EXPIRED}, {Outcome.DONE}]
    assert machine.keys == 1


def test_what_only_calls_itself_the_service_executes_once() -> None:
    machine = make_machine()
    own = Batch(SERVICE, 1, 0, bytes([Operation.EXPIRE]), [b"k"], [[1, 1, 0]])
    one, other = (
        batch(ALICE, 1, (Operation.INCREMENT, b"n", 1)),
        batch(SERVICE, 2, (Operation.APPEND, b"a", b"x")),
    )
    for batches in ((own, one), (other, one), (other,)):
        for _ in range(2):
            assert len(machine.apply(payload(*batches))) == len(batches)
    assert (machine.get(b"n"), machine.get(b"a")) == (b"1", b"x")
    assert machine.apply(payload(own)) == []
