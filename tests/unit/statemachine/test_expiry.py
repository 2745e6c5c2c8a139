"""Values that end: what commands do to them, how they are stored, and when a replica proposes that one has ended."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.checkpoint.rows import read_values, value_block
from epaxos.errors import CommandError, StorageError
from epaxos.statemachine.batch import SERVICE, Batch, Limits, make_expirations, make_payload
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.expiry import TTL_MAX, Expirations, Expiring, Generation, Patience, are_same, same
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import RECORDS, Operation, Outcome

SET, TTL, PERSIST, EXPIRE = Operation.SETEX, Operation.SETTTL, Operation.PERSIST, Operation.EXPIRE
WRITE, READ, DELETE = Operation.WRITE, Operation.READ, Operation.DELETE
LIMITS = Limits()
CLIENT = 7
MANY = 10**9


class Cluster:
    """A state machine and a client of it, whose requests count up."""

    def __init__(self) -> None:
        self.machine = StateMachine(LIMITS, lambda _: None)
        self._next = 1

    def ask(self, *commands: tuple[Operation, bytes, Any]) -> list[tuple[int, Any]]:
        """Execute commands of one batch."""
        operations, keys, arguments = zip(*commands, strict=True)
        batch = Batch(CLIENT, self._next, 0, bytes(operations), list(keys), list(arguments))
        self._next += len(commands)
        (result,) = self.machine.apply(make_payload([batch]))
        return list(zip(result.outcomes, result.values or [None] * len(commands), strict=True))

    def expire(self, *ended: tuple[bytes, Generation]) -> None:
        """What a replica proposes."""
        assert self.machine.apply(make_expirations(ended, LIMITS.bounds)) == []

    def value(self, key: bytes = b"k") -> bytes | None:
        return self.machine.get(key)

    def ending(self, key: bytes = b"k") -> Expiring:
        value = self.value(key)
        assert isinstance(value, Expiring)
        return value


def multi(*parts: tuple[Operation, bytes, Any]) -> tuple[Operation, bytes, Any]:
    operations, keys, arguments = zip(*parts, strict=True)
    return Operation.MULTI, b"", [bytes(operations), list(keys), list(arguments)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_value_ends_by_the_proposal_that_means_it(cluster: Cluster) -> None:
    assert cluster.ask((SET, b"k", [b"v", 500]), (READ, b"k", None)) == [
        (Outcome.DONE, None),
        (Outcome.DONE, b"v"),
    ]
    generation = cluster.ending().generation
    assert (cluster.ending().ttl, generation) == (500, (CLIENT, 1, 0))
    cluster.expire((b"k", generation))
    assert cluster.ask((READ, b"k", None)) == [(Outcome.NOT_FOUND, None)]


@pytest.mark.parametrize(
    "after",
    [
        (SET, b"k", [b"v", 500]),
        (TTL, b"k", 500),
        (WRITE, b"k", b"v"),
        (PERSIST, b"k", None),
        (Operation.CAS, b"k", [b"v", b"w"]),
        (Operation.WRITEREAD, b"k", b"v"),
        multi((SET, b"k", [b"v", 500])),
    ],
    ids=lambda command: Operation(command[0]).name,
)
def test_a_late_proposal_does_not_end_what_came_after(
    cluster: Cluster, after: tuple[Operation, bytes, Any]
) -> None:
    cluster.ask((SET, b"k", [b"v", 500]))
    late = cluster.ending().generation
    assert cluster.ask(after)[0][0] == Outcome.DONE
    cluster.expire((b"k", late))
    assert cluster.value() is not None


def test_a_deleted_key_has_another_life(cluster: Cluster) -> None:
    cluster.ask((SET, b"k", [b"v", 500]))
    late = cluster.ending().generation
    cluster.ask((DELETE, b"k", None), (WRITE, b"k", b"new"))
    cluster.expire((b"k", late))
    assert cluster.value() == b"new"


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ((Operation.INCREMENT, b"k", 1), b"2"),
        ((Operation.APPEND, b"k", b"+"), b"1+"),
        ((SET, b"k", [b"new", None]), b"new"),
    ],
)
def test_what_changes_a_value_keeps_its_time(
    cluster: Cluster, command: tuple[Operation, bytes, Any], value: bytes
) -> None:
    cluster.ask((SET, b"k", [b"1", 500]))
    before = cluster.ending()
    assert cluster.ask(command)[0][0] == Outcome.DONE
    assert (cluster.ending(), cluster.ending().generation) == (value, before.generation)


def test_to_keep_the_time_of_what_has_none_is_to_have_none(cluster: Cluster) -> None:
    cluster.ask((SET, b"k", [b"v", None]))
    assert type(cluster.value()) is bytes


def test_no_time_can_be_given_to_what_is_not_there(cluster: Cluster) -> None:
    assert cluster.ask((TTL, b"k", 500), (PERSIST, b"k", None)) == [(Outcome.NOT_FOUND, None)] * 2
    cluster.ask((WRITE, b"k", b"v"))
    assert cluster.ask((PERSIST, b"k", None), (TTL, b"k", 500), (PERSIST, b"k", None)) == [
        (Outcome.NOT_FOUND, None),
        (Outcome.DONE, None),
        (Outcome.DONE, None),
    ]
    assert type(cluster.value()) is bytes


def test_each_command_gives_a_generation_of_its_own(cluster: Cluster) -> None:
    cluster.ask(
        (SET, b"a", [b"", 5]),
        (SET, b"b", [b"", 5]),
        multi((SET, b"c", [b"", 5]), (WRITE, b"x", b"1"), (TTL, b"x", 5)),
        (SET, b"d", [b"", 5]),
    )
    found = [cluster.ending(key).generation for key in (b"a", b"b", b"c", b"x", b"d")]
    assert found == [(CLIENT, 1, 0), (CLIENT, 2, 0), (CLIENT, 3, 0), (CLIENT, 3, 2), (CLIENT, 4, 0)]


def test_a_multi_that_fails_leaves_the_time_as_it_was(cluster: Cluster) -> None:
    cluster.ask((SET, b"k", [b"v", 500]))
    before = cluster.ending()
    ((outcome, _),) = cluster.ask(multi((SET, b"k", [b"w", 9]), (Operation.CAS, b"k", [b"no", b"no"])))
    assert outcome == Outcome.ABORTED
    assert cluster.ending() is before


def test_a_transaction_gives_the_time_that_it_promised(cluster: Cluster) -> None:
    record = RECORDS + (9).to_bytes(8, "big") + (4).to_bytes(8, "big")
    columns = [bytes((WRITE, SET)), [b"x", b"k"], [b"1", [b"v", 500]]]
    prepared = cluster.ask((Operation.PREPARE, record, [0, [[b"here", 0]], columns]))
    assert prepared[0][0] == Outcome.DONE
    cluster.expire((b"k", Generation(1, 1, 1)))
    cluster.ask((Operation.RESOLVE, record, [True, [b"x", b"k"]]))
    assert cluster.ending().generation == (9, 4, 1)


def test_a_locked_value_does_not_end_before_its_transaction(cluster: Cluster) -> None:
    """What was prepared has to come to the same when it is told to commit."""
    cluster.ask((SET, b"k", [b"v", 500]))
    generation = cluster.ending().generation
    record = RECORDS + (9).to_bytes(8, "big") + (4).to_bytes(8, "big")
    columns = [bytes((Operation.CAS,)), [b"k"], [[b"v", b"w"]]]
    cluster.ask((Operation.PREPARE, record, [0, [[b"here", 0]], columns]))
    cluster.expire((b"k", generation))
    assert cluster.value() == b"v"
    cluster.ask((Operation.RESOLVE, record, [True, [b"k"]]))
    assert cluster.value() == b"w"


def test_replicas_that_differ_in_the_time_of_a_value_differ_in_their_digest(cluster: Cluster) -> None:
    other = Cluster()
    cluster.ask((SET, b"k", [b"v", 500]))
    other.ask((WRITE, b"k", b"v"))
    digests = {each.machine.digest_source().hexdigest() for each in (cluster, other)}
    assert len(digests) == 2


def test_the_time_of_a_value_travels_with_it() -> None:
    cluster = Cluster()
    cluster.ask((SET, b"k", [b"v", 500]), (WRITE, b"plain", b"v"))
    keys = [b"k", b"plain", b"gone"]
    names, values = read_values(value_block(keys, [*map(cluster.value, keys)]))
    assert list(map(same, map(cluster.value, keys), values)) == [True] * 3
    assert not same(*values[:2])
    loaded = StateMachine(LIMITS, lambda _: None)
    loaded.load(zip(names[:2], values[:2], strict=True))  # type: ignore[arg-type]  # no None
    assert loaded.take_timed() == [b"k"]
    assert loaded.merge([(b"k", values[0])]) == []
    assert loaded.take_timed() == []
    assert loaded.merge([(b"k", b"v")]) == [b"k"]
    assert loaded.merge([(b"k", values[0])]) == [b"k"]
    assert loaded.take_timed() == [b"k"]


def test_values_that_end_differently_are_not_the_same() -> None:
    ending = Expiring.of(b"v", 500, Generation(CLIENT, 1, 0))
    later = Expiring.of(b"v", 500, Generation(CLIENT, 2, 0))
    assert are_same([b"v", b"v", ending, ending, ending, None], [b"v", b"w", ending, later, b"v", b"v"]) == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert are_same([b"v", None, b"v"], [b"v", None, b"w"]) == [True, True, False]


@pytest.mark.parametrize(
    "blob",
    [
        b"\x92\x91\xc4\x01k\x91\xd4\x01\x00",
        b"\x92\x91\xc4\x01k\x91\xc7\x05\x02\x95\x00\x00\x00\x00",
    ],
)
def test_what_is_no_value_is_refused(blob: bytes) -> None:
    with pytest.raises(StorageError):
        read_values(blob)


@pytest.mark.parametrize(
    ("operation", "argument", "words"),
    [
        (SET, b"v", "SETEX needs [value, milliseconds or null]"),
        (SET, [b"v", 0], f"SETEX in milliseconds needs an integer from 1 to {TTL_MAX}"),
        (SET, [b"v", 1.5], "SETEX in milliseconds"),
        (SET, ["v", 1], "SETEX needs a value of bytes"),
        (SET, [bytes(LIMITS.value + 1), 1], "at most"),
        (TTL, TTL_MAX + 1, "SETTTL in milliseconds"),
        (TTL, None, "SETTTL in milliseconds"),
        (PERSIST, b"", "PERSIST takes no argument"),
        (EXPIRE, [1, 1, 0], "EXPIRE is proposed by replicas alone"),
    ],
)
def test_what_a_client_may_not_ask_for(operation: Operation, argument: Any, words: str) -> None:
    with pytest.raises(CommandError, match=words.replace("[", r"\[").replace("]", r"\]")):
        check_batch(Batch(CLIENT, 1, 0, bytes((operation,)), [b"k"], [argument]), LIMITS)


def test_no_client_is_the_service() -> None:
    with pytest.raises(CommandError, match="the service itself"):
        check_batch(Batch(SERVICE, 1, 0, bytes((WRITE,)), [b"k"], [b"v"]), LIMITS)


@pytest.mark.parametrize("argument", [None, b"", [b"v"], [b"v", -1], [b"v", True], [1, 2], "v"])
@pytest.mark.parametrize("operation", [SET, TTL, EXPIRE])
def test_what_slips_through_changes_nothing(cluster: Cluster, operation: Operation, argument: Any) -> None:
    cluster.ask((SET, b"k", [b"v", 500]))
    before = cluster.ending()
    cluster.ask((operation, b"k", argument))
    assert cluster.ending() is before


# -- when ----------------------------------------------------------------------------------------------------


def expirations(values: dict[bytes, bytes], row: int = 0, n: int = 1, interval: float = 1.0) -> Expirations:
    return Expirations(Patience(row, n, interval), values.get)


def lend(values: dict[bytes, bytes], key: bytes, ttl: int, number: int) -> None:
    values[key] = Expiring.of(b"v", ttl, Generation(CLIENT, number, 0))


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 5_000_000), st.floats(0, 100)), min_size=1, max_size=40
    )
)
def test_each_value_is_proposed_after_its_time_and_not_long_after(
    loans: list[tuple[int, int, float]],
) -> None:
    values: dict[bytes, bytes] = {}
    subject = expirations(values)
    due: dict[bytes, float] = {}
    now = 0.0
    for number, (name, ttl, pause) in enumerate(loans):
        now += pause
        key = b"%d" % name
        lend(values, key, ttl, number)
        subject.note([key], now)
        due[key] = now + ttl / 1000
    ended: dict[bytes, float] = {}
    while subject.deadline < 1e9 and len(ended) < len(due):
        at = subject.deadline
        for key, generation in subject.take(at, 10, MANY):
            assert same(values[key], Expiring.of(b"v", values[key].ttl, generation))  # type: ignore[attr-defined]
            ended.setdefault(key, at)
    assert ended.keys() == due.keys()
    for key, at in ended.items():
        ttl = values[key].ttl / 1000  # type: ignore[attr-defined]
        assert due[key] <= at <= due[key] + 2**-6 + ttl / 128


def test_what_stands_is_proposed_again_ever_later() -> None:
    values: dict[bytes, bytes] = {}
    subject = expirations(values, interval=1.0)
    lend(values, b"k", 1000, 1)
    subject.note([b"k"], 0.0)
    times = []
    for _ in range(12):
        times.append(subject.deadline)
        assert subject.take(times[-1], 10, MANY) == [(b"k", Generation(CLIENT, 1, 0))]
    gaps = [round(after - before) for before, after in pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64]
    del values[b"k"]
    assert subject.take(subject.deadline, 10, MANY) == []
    assert subject.deadline == float("inf")


def test_replicas_take_turns() -> None:
    values: dict[bytes, bytes] = {}
    keys = [b"%d" % number for number in range(300)]
    first: list[int] = []
    for key in keys:
        lend(values, key, 1000, 1)
    for row in range(3):
        subject = expirations(values, row, 3)
        subject.note(keys, 0.0)
        first.append(len(subject.take(1.1, 1000, MANY)))
    assert sum(first) == 300
    assert min(first) > 50


def test_so_many_are_proposed_at_a_time_and_none_is_forgotten() -> None:
    values: dict[bytes, bytes] = {}
    subject = expirations(values)
    keys = [b"%d" % number for number in range(2000)]
    for key in keys:
        lend(values, key, 1000, 1)
    subject.note(keys, 0.0)
    seen: list[bytes] = []
    while len(seen) < 2000:
        taken = subject.take(1.5, 300, MANY)
        assert 0 < len(taken) <= 300
        seen += [key for key, _ in taken]
    assert sorted(seen) == sorted(keys)


def test_replaced_values_do_not_pile_up() -> None:
    """A lease that is renewed each second for an hour would leave 3,600 entries."""
    values: dict[bytes, bytes] = {}
    subject = expirations(values)
    for number in range(20_000):
        key = b"%d" % (number % 10)
        lend(values, key, 86_400_000, number)
        subject.note([key], float(number))
    assert len(subject) < 2000


def test_what_is_noted_again_has_one_entry(cluster: Cluster) -> None:
    """Who finds a lock taken mentions its key each time, and changes nothing."""
    subject = Expirations(Patience(0, 1, 1.0), cluster.machine.get)
    cluster.ask((SET, b"k", [b"v", 86_400_000]))
    subject.note(cluster.machine.take_timed(), 1.0)
    for _ in range(50):
        cluster.ask(multi((Operation.CAS, b"k", [None, b"w"]), (TTL, b"k", 5)))
        subject.note(cluster.machine.take_timed(), 2.0)
    assert len(subject) == 1
    assert subject.left(b"k", 1.0) == pytest.approx(86_400)


def test_what_is_proposed_at_once_is_bounded_by_bytes() -> None:
    values: dict[bytes, bytes] = {}
    subject = expirations(values)
    keys = [bytes([number]) * 1000 for number in range(100)]
    for key in keys:
        lend(values, key, 1000, 1)
    subject.note(keys, 0.0)
    sizes: list[int] = []
    while sum(sizes) < 100:
        sizes.append(len(subject.take(1.5, 1000, 10_000)))
    assert sizes == [10] * 10
    assert len(subject.take(10.0, 1000, 1)) == 1


@pytest.mark.parametrize("ttl", [1_000, 3_600_000, 86_400_000])
def test_who_comes_next_in_rank_waits_for_the_one_before(ttl: int) -> None:
    values: dict[bytes, bytes] = {}
    lend(values, b"k", ttl, 1)
    due = []
    for row, begun in enumerate((1000.0, 1003.0, 1007.0)):
        values[b"k"] = Expiring.of(b"v", ttl, Generation(CLIENT, 1, 0))
        subject = expirations(values, row, 3)
        subject.note([b"k"], begun)
        due.append(subject.deadline - begun)
    first, second, third = sorted(due)
    assert second >= first + 1.0
    assert third >= second + 1.0


def test_what_is_gone_does_not_hold_up_a_round() -> None:
    values: dict[bytes, bytes] = {}
    subject = expirations(values)
    keys = [b"%d" % number for number in range(10_000)]
    for key in keys:
        lend(values, key, 1000, 1)
    subject.note(keys, 0.0)
    values.clear()
    assert subject.take(2.0, 10, MANY) == []
    assert len(subject) == 9_960
    assert subject.deadline <= 2.0


def test_how_much_is_left() -> None:
    values: dict[bytes, bytes] = {b"plain": b"v"}
    subject = expirations(values)
    lend(values, b"k", 1500, 1)
    subject.note([b"k"], 10.0)
    assert subject.left(b"k", 10.5) == pytest.approx(1.0)
    assert subject.left(b"k", 99.0) == 0.0
    assert subject.left(b"plain", 10.0) is None
    assert subject.left(b"absent", 10.0) is None


# -- conditions on when a value ends -------------------------------------------------------------------------


def test_a_condition_on_the_time_of_a_value_holds_for_that_time_alone() -> None:
    cluster = Cluster()
    cluster.ask((SET, b"k", [b"v", 1000]), (WRITE, b"plain", b"v"))
    by = [*cluster.ending().generation]
    asked = [
        (b"k", by),
        (b"k", None),
        (b"k", [*by[:2], 9]),
        (b"plain", None),
        (b"plain", by),
        (b"none", None),
    ]
    answers = cluster.ask(*[(Operation.ENDSBY, key, argument) for key, argument in asked])
    assert [outcome == Outcome.DONE for outcome, _ in answers] == [True, False, False, True, False, False]
    cluster.ask((TTL, b"k", 1000))  # the same time, given anew
    (again,) = cluster.ask(multi((Operation.ENDSBY, b"k", by), (DELETE, b"k", None)))
    assert again[0] == Outcome.ABORTED
    assert cluster.value() == b"v"


@pytest.mark.parametrize("argument", [b"x", 5, [1, 2], [1, 2, -1], [1, 2, "3"], [1, 2, True]])
def test_a_condition_on_no_time_is_refused(argument: Any) -> None:
    with pytest.raises(CommandError, match="ENDSBY needs"):
        check_batch(Batch(CLIENT, 1, 0, bytes((Operation.ENDSBY,)), [b"k"], [argument]), LIMITS)
