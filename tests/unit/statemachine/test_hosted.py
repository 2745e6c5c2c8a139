"""A state machine of a program's own in the place of the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from epaxos.errors import CommandError, InvariantError
from epaxos.statemachine.batch import Batch, Limits, decode_payload, make_payload
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
