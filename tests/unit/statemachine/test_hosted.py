"""A state machine of a program's own in the place of the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgpack
import pytest
from ledger import Ledger

from epaxos import Node
from epaxos.errors import CommandError, InvariantError
from epaxos.statemachine.batch import (
    SERVICE,
    Batch,
    Limits,
    decode_payload,
    encode_batch,
    make_payload,
)
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.hosted import Footprint, Machine
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import RECORDS, Operation, Outcome

LIMITS = Limits(key=8, value=64, results=4000)


class Words:
    """Commands are words, joined to what stands under their first letter: b"?ab" reads what stands under a and b."""

    name = "words"

    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}
        self.calls: list[int] = []
        self.saved: list[bytes] = []

    def footprint(self, command: bytes) -> Footprint:
        if command == b"bad":
            raise ValueError("a bad word")
        if command.startswith(b"?"):
            return Footprint(reads=[command[at : at + 1] for at in range(1, len(command))])
        return Footprint(writes={command[:1]} if command != b"long" else {b"l" * 9})

    def apply(self, commands: Sequence[bytes]) -> Sequence[bytes | None]:
        self.calls.append(len(commands))
        return [self._one(command) for command in commands]

    def _one(self, command: bytes) -> bytes | None:
        if command.startswith(b"?"):
            return b",".join(self.state.get(command[at : at + 1], b"-") for at in range(1, len(command)))
        if command == b"crash":
            raise RuntimeError("no such word")
        self.state[command[:1]] = self.state.get(command[:1], b"") + command
        return b"x" * 5000 if command == b"huge" else None

    def keys(self) -> Collection[bytes]:
        return self.state.keys()

    def save(self, key: bytes) -> bytes | None:
        self.saved.append(key)
        return self.state.get(key)

    def load(self, key: bytes, state: bytes | None) -> None:
        if state is None:
            self.state.pop(key, None)
        else:
            self.state[key] = state


def machine_of(words: Machine) -> StateMachine:
    return StateMachine(LIMITS, lambda _: None, hosted=words)


def batch_of(first: int, *commands: bytes) -> Batch:
    count = len(commands)
    return Batch(7, first, first, bytes([Operation.APPLY]) * count, [b""] * count, list(commands))


def run(machine: StateMachine, batch: Batch) -> tuple[bytes, list[object] | None]:
    """Admit a batch at one replica, and execute it as another one that got its bytes."""
    machine.admit(batch)
    (result,) = machine.apply(decode_payload(make_payload([batch], LIMITS.bounds).encoded))
    return result.outcomes, None if result.values is None else list(result.values)


def test_commands_are_applied_by_columns_and_answered() -> None:
    words = Words()
    machine = machine_of(words)
    assert run(machine, batch_of(1, b"ant", b"bee", b"auk")) == (b"\0\0\0", None)
    assert run(machine, batch_of(4, b"?abc")) == (b"\0", [b"antauk,bee,-"])
    assert words.calls == [3, 1]
    assert machine.keys == 2


def test_the_footprint_is_what_the_protocol_orders_by() -> None:
    batch = batch_of(1, b"ant", b"?bc")
    machine_of(Words()).admit(batch)
    payload = make_payload([batch])
    assert (sorted(payload.reads), sorted(payload.writes)) == ([b"b", b"c"], [b"a"])
    assert sorted(decode_payload(payload.encoded).writes) == [b"a"]


def test_what_was_executed_before_is_not_executed_again() -> None:
    words = Words()
    machine = machine_of(words)
    for _ in range(2):
        assert run(machine, batch_of(1, b"ant", b"bee")) == (b"\0\0", None)
    assert run(machine, batch_of(2, b"bee", b"cat")) == (b"\0\0", None)
    assert words.state == {b"a": b"ant", b"b": b"bee", b"c": b"cat"}
    assert machine.duplicates == 3


@pytest.mark.parametrize(
    ("operation", "key", "argument", "text"),
    [
        (Operation.APPLY, b"", b"bad", "words: a bad word"),
        (Operation.APPLY, b"", b"", "words: the keys of a footprint must have 1 to 8 bytes"),
        (Operation.APPLY, b"", b"?", "words: the footprint of a command must name keys, as bytes"),
        (Operation.APPLY, b"", b"long", "must have 1 to 8 bytes and not begin with"),
        (Operation.APPLY, b"", b"x" * 65, "command of 65 bytes; at most 64 are allowed"),
        (Operation.APPLY, b"", [[b"a"], [], b"ant"], "APPLY alone is allowed"),
        (Operation.APPLY, b"k", b"ant", "APPLY alone is allowed"),
        (Operation.WRITE, b"k", b"v", "this cluster runs the state machine words: APPLY alone is allowed"),
        (Operation.NULL, b"", b"v", "APPLY alone is allowed"),
    ],
)
def test_what_may_not_be_proposed_is_refused_with_its_place(
    operation: Operation, key: bytes, argument: object, text: str
) -> None:
    batch = Batch(7, 1, 1, bytes([Operation.NULL, operation]), [b"", key], [None, argument])  # type: ignore[list-item]
    with pytest.raises(CommandError, match=text) as caught:
        machine_of(Words()).admit(batch)
    assert caught.value.index == 1


def test_the_key_value_store_takes_no_command_of_a_state_machine() -> None:
    with pytest.raises(CommandError, match="this cluster runs the key-value store"):
        check_batch(batch_of(1, b"ant"), LIMITS)
    with pytest.raises(CommandError, match="this cluster runs the key-value store"):
        StateMachine(LIMITS, lambda _: None).admit(batch_of(1, b"ant"))


def test_keys_of_the_service_are_no_footprint() -> None:
    class Greedy(Words):
        def footprint(self, command: bytes) -> Footprint:
            return Footprint(reads=[RECORDS + command])

    machine = StateMachine(Limits(), lambda _: None, hosted=Greedy())
    with pytest.raises(CommandError, match="not begin with"):
        machine.admit(batch_of(1, b"x"))


def test_a_checkpoint_is_of_one_moment_and_saves_what_changes_meanwhile_once() -> None:
    words = Words()
    machine = machine_of(words)
    run(machine, batch_of(1, b"ant", b"bee"))
    frozen = machine.freeze()
    run(machine, batch_of(3, b"auk", b"ape", b"cat"))
    run(machine, batch_of(6, b"asp"))
    assert words.saved.count(b"a") == 1
    assert frozen.values([b"a", b"b", b"c"]) == [b"ant", b"bee", None]
    machine.release()


def test_equal_states_have_equal_digests_and_a_merge_changes_them() -> None:
    one, other = machine_of(Words()), machine_of(Words())
    run(one, batch_of(1, b"ant", b"bee"))
    run(other, batch_of(1, b"ant", b"cat"))
    assert one.digest_source().hexdigest() != other.digest_source().hexdigest()
    assert other.merge([(b"a", b"ant"), (b"b", b"bee"), (b"c", None)]) == [b"b", b"c"]
    assert one.digest_source().hexdigest() == other.digest_source().hexdigest()


def test_an_answer_that_is_too_large_is_told_to_be_lost() -> None:
    words = Words()
    assert run(machine_of(words), batch_of(1, b"huge", b"?h")) == (
        bytes([Outcome.FORGOTTEN, 0]),
        [None, b"huge"],
    )


def test_an_exception_stops_the_replica_before_it_answers() -> None:
    with pytest.raises(InvariantError, match="the state machine words raised RuntimeError: no such word"):
        run(machine_of(Words()), batch_of(1, b"crash"))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no account \ud800"), r"words: no account \ud800"),
        (ValueError("no account:\n 7\x00"), "words: no account: 7\0"),
        (SystemExit(2), "words: 2"),
        (ValueError(), "words: ValueError"),
        (Unprintable(), "words: Unprintable"),
        (ValueError("x" * 10_000), "words: " + "x" * 300),
    ],
)
def test_whatever_a_footprint_raises_is_a_refusal_that_can_be_sent(error: BaseException, text: str) -> None:
    class Raising(Words):
        def footprint(self, _: bytes) -> Footprint:
            raise error

    with pytest.raises(CommandError) as caught:
        machine_of(Raising()).admit(batch_of(1, b"x"))
    assert str(caught.value) == text
    msgpack.packb(str(caught.value))


def test_who_calls_itself_the_service_is_refused_and_makes_nothing_execute_twice() -> None:
    words = Words()
    machine = machine_of(words)
    one = Batch(SERVICE, 1, 0, bytes([Operation.APPLY]), [b""], [b"bee"])
    with pytest.raises(CommandError, match="client 0 is the service itself"):
        machine.admit(one)
    one.arguments = [[[], [b"b"], b"bee"]]  # as if another replica had taken it
    other = batch_of(1, b"ant")
    machine.admit(other)
    payload = make_payload([one, other])
    for _ in range(2):
        assert [result.outcomes for result in machine.apply(payload)] == [b"\0", b"\0"]
    assert words.state == {b"a": b"ant", b"b": b"bee"}
    assert machine.duplicates == 2


def test_a_frame_of_large_footprints_is_refused_and_the_weight_of_others_is_told() -> None:
    class Wide(Words):
        def footprint(self, command: bytes) -> Footprint:
            return Footprint(reads=[b"%08d" % number for number in range(int(command))], writes=[b"w"])

    machine = machine_of(Wide())
    with pytest.raises(CommandError, match=r"words: commands and footprints of 40\d\d bytes") as caught:
        machine.admit(batch_of(1, b"1", b"305"))
    assert caught.value.index == 1
    batch = batch_of(1, b"150", b"140")
    bare = len(encode_batch(7, 1, 1, batch.operations, batch.keys, batch.arguments))
    added = machine.admit(batch)
    assert added is not None
    assert len(make_payload([batch]).encoded) <= bare + added


@pytest.mark.parametrize("saved", ["text", bytearray(b"x"), 7])
def test_what_is_no_bytes_is_never_kept(saved: object) -> None:
    class Careless(Words):
        def save(self, _: bytes) -> bytes | None:
            return saved  # type: ignore[return-value]

    machine = machine_of(Careless())
    run(machine, batch_of(1, b"ant"))
    kind = type(saved).__name__
    with pytest.raises(InvariantError, match=f"the state machine words must save bytes or None, not {kind}"):
        machine.freeze().values([b"a"])
    with pytest.raises(InvariantError, match="must save bytes"):
        machine.digest_source()


@pytest.mark.parametrize(
    "use",
    [
        lambda machine: machine.names(),
        lambda machine: machine.keys,
        lambda machine: machine.freeze().values([b"a"]),
        lambda machine: machine.load([(b"a", b"x")]),
        lambda machine: machine.merge([(b"a", None)]),
        lambda machine: run(machine, batch_of(1, b"ant")),
    ],
)
def test_a_method_that_ends_the_thread_says_so(use: Callable[[StateMachine], object]) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(3)

    words = Words()
    machine = machine_of(words)
    for name in ("apply", "keys", "save", "load"):
        setattr(words, name, leave)
    with pytest.raises(InvariantError, match="the state machine words raised SystemExit: 3"):
        use(machine)


def test_keys_are_bytes() -> None:
    words = Words()
    words.state["a"] = b"x"  # type: ignore[index]
    with pytest.raises(InvariantError, match="the keys of the state machine words must be bytes"):
        machine_of(words).names()


def test_a_large_part_is_saved_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    words = Words()
    words.state[b"a"] = b"x" * 65
    frozen = machine_of(words).freeze()
    for _ in range(2):
        assert frozen.values([b"a"]) == [b"x" * 65]
    assert caplog.messages == ["words: 65 bytes under the key b'a', above max_value (64)"]


def test_a_key_of_which_nothing_is_saved_is_not_part_of_the_digest() -> None:
    class Listing(Words):
        def keys(self) -> Collection[bytes]:
            return [*self.state, b"z"]

    one, other = machine_of(Words()), machine_of(Listing())
    for machine in (one, other):
        run(machine, batch_of(1, b"ant"))
    assert one.digest_source().hexdigest() == other.digest_source().hexdigest()


@pytest.mark.parametrize(
    "command",
    [
        b'["a", "b", Infinity]',
        b'["a", "b", NaN]',
        b'["a", "b", 0.5]',
        b'["a", "b", true]',
        b'["a", "b", "1"]',
        b'["a", "b", 0]',
        b'["a", "b", %d]' % 2**63,
        b'["a", "b", ' + b"9" * 4300 + b"]",
        b'["a", "b", ' + b"9" * 4301 + b"]",
        b'["a", 7, 1]',
        b'["\\ud800", "b", 1]',
        b'["", "b", 1]',
        b'["a", "b"]',
        b'{"a": 1, "b": 2, "c": 3}',
        b'"abc"',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_the_example_refuses_what_it_could_not_execute(command: bytes) -> None:
    ledger = Ledger()
    machine = StateMachine(Limits(), lambda _: None, hosted=ledger)
    with pytest.raises(CommandError, match=r"^ledger: "):
        machine.admit(batch_of(1, command))


def test_the_example_executes_and_saves_the_largest_amounts() -> None:
    ledger = Ledger()
    machine = StateMachine(Limits(), lambda _: None, hosted=ledger)
    for first in (1, 2, 3):
        run(machine, batch_of(first, b'["a", "b", %d]' % (2**63 - 1)))
    assert machine.digest_source().data == {b"a": b"%d" % -(3 * 2**63 - 3), b"b": b"%d" % (3 * 2**63 - 3)}


def test_what_is_no_machine_is_refused() -> None:
    lacking: Any = type("Mine", (), {"name": "mine", "apply": None, "keys": None, "load": None})()
    with pytest.raises(TypeError, match=r"^state_machine must be .*, and Mine has no footprint, save$"):
        Node("conf/local.toml", "alpha", state_machine=lacking)
