"""Transactions across groups on hostile schedules: coordinators die, answers are lost, commands come late and twice.

Each group is a state machine that executes in one order, which is what a cluster is; what is drawn is when, how often
and whether a command comes, and whether its answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from random import Random
from typing import Any, NamedTuple, cast

import pytest

from epaxos.errors import InvariantError
from epaxos.groups.transaction import Answer, Fate, Step, Transaction, record_key
from epaxos.statemachine import transactions
from epaxos.statemachine.batch import Batch, Limits, make_collection, make_payload
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import RECORDS, Operation, Outcome
from epaxos.statemachine.sessions import Budget
from epaxos.statemachine.store import Result

GROUPS = (b"east", b"west", b"south")
ACCOUNTS = (b"a", b"b")
FLAG = b"flag"
CALM = 5000


class Command(NamedTuple):
    """What was sent to a group; `driver` waits for its answer, if it lives."""

    group: bytes
    batch: Batch
    driver: Driver | None
    step: Step | None


class Driver:
    """Whoever drives a transaction, with a session at each group."""

    def __init__(self, world: World, client: int, driven: Transaction) -> None:
        self.world = world
        self.client = client
        self.driven = driven
        self.number = 0
        self.alive = True
        self.slow = world.random.random() < 0.3
        self.began = world.sessions.setdefault(client, {})

    def send(self, steps: list[Step]) -> None:
        for step in steps:
            self.number += 1
            one = Batch(
                self.client,
                self.number,
                self.world.random.choice((0, self.number)),  # what is acknowledged is not kept
                bytes([step.operation]),
                [self.driven.key],
                [cast("Argument", step.argument)],
                self.began.setdefault(step.group, self.world.groups[step.group].generation),
            )
            self.world.network.append(Command(step.group, one, self, step))

    def take(self, step: Step, answer: Answer) -> None:
        if self.alive:
            self.send(self.driven.take(step, answer))


class World:
    """Groups, and all that is on its way to them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.groups = {
            name: StateMachine(Limits(window=1), lambda _: None, self.random.choice((Budget(), Budget(1, 1))))
            for name in GROUPS
        }
        self.network: list[Command] = []
        self.late: list[Command] = []
        self.drivers: list[Driver] = []
        self.readers = 0
        self.moves: dict[bytes, tuple[Driver, tuple[bytes, ...]]] = {}
        self.told: dict[bytes, Fate] = {}
        self.coordinators = {1: 1, 2: 2}
        self.began: dict[int, dict[bytes, int]] = {1: {}, 2: {}}
        self.sessions: dict[int, dict[bytes, int]] = {}  # of each, in which generation it began where
        self.seen: set[bytes] = set()
        self.wrong: str | None = None

    def begin(self, coordinator: int, number: int) -> None:
        """Move an amount between two or three groups, and leave a mark in each of them."""
        began = self.began[coordinator]
        if self.random.random() < 0.2 or any(
            began.get(name, machine.generation) < machine.generation - 1
            for name, machine in self.groups.items()
        ):
            self.coordinators[coordinator] += 2  # it takes another name, and never that of one that has ended
            began.clear()
        key = record_key(self.coordinators[coordinator], number)
        names = self.random.sample(GROUPS, self.random.choice((2, 2, 3)))
        amounts = [self.random.randint(1, 5) for _ in names[1:]]
        parts = {}
        for name, amount in zip(names, [-sum(amounts), *amounts], strict=True):
            account = self.random.choice(ACCOUNTS)
            operations, keys = [Operation.INCREMENT, Operation.WRITE], [account, b"mark" + key]
            arguments: list[Argument] = [amount, b"1"]
            if self.random.random() < 0.3:  # a condition that others break
                operations.append(Operation.CAS)
                keys.append(FLAG)
                arguments.append([None, key])
            parts[name] = (bytes(operations), keys, arguments)
        groups = {name: began.setdefault(name, self.groups[name].generation) for name in names}
        driver = Driver(self, (1 << 34) + coordinator, Transaction(key, groups, parts))
        driver.number = 1000 * number
        self.drivers.append(driver)
        self.moves[key] = driver, tuple(names)
        driver.send(driver.driven.begin())

    def deliver(self, command: Command, *, answered: bool, again: bool = False) -> int:
        """A group executes a command; what it came to."""
        machine = self.groups[command.group]
        (result,) = machine.apply(make_payload([command.batch]))
        value = None if result.values is None else result.values[0]
        if result.outcomes[0] == Outcome.LOCKED and command.step is None:
            self.recover(*cast("tuple[bytes, list[tuple[bytes, int]]]", value))
        if command.driver is not None and command.step is not None and not again:
            answer = Answer(result.outcomes[0], value) if answered else Answer(None)
            if answer.outcome == Outcome.EXPIRED:
                command.driver.client += 1 << 40
                command.driver.began = self.sessions.setdefault(command.driver.client, {})
                answer = Answer(None)
            command.driver.take(command.step, answer)
            fate = command.driver.driven.fate
            if fate is not None and command.driver is self.moves[command.driver.driven.key][0]:
                self.told.setdefault(command.driver.driven.key, fate)
                if fate is Fate.COMMITTED:
                    self.seen.add(b"mark" + command.driver.driven.key)
        return result.outcomes[0]

    def recover(self, key: bytes, groups: list[tuple[bytes, int]]) -> None:
        self.readers += 1
        driver = Driver(self, (1 << 32) + self.readers, Transaction(key, dict(groups)))
        self.drivers.append(driver)
        driver.send(driver.driven.begin())

    def touch(self, group: bytes, operation: Operation, key: bytes, argument: Argument = None) -> None:
        """What anybody does with a key by itself. A mark that was seen in one group is seen, or locked, in all."""
        self.readers += 1
        one = Batch(
            (1 << 33) + self.readers,
            1,
            0,
            bytes([operation]),
            [key],
            [argument],
            self.groups[group].generation,
        )
        outcome = self.deliver(Command(group, one, None, None), answered=True)
        if key.startswith(b"mark"):
            if outcome == Outcome.NOT_FOUND and key in self.seen:
                self.wrong = f"{key.hex()} was seen in part"
            if outcome == Outcome.DONE:
                self.seen.add(key)

    def step(self) -> None:
        """Something happens."""
        chance = self.random.random()
        if chance < 0.04:
            self.touch(self.random.choice(GROUPS), Operation.READ, self.random.choice(ACCOUNTS))
        elif chance < 0.06:
            self.touch(
                self.random.choice(GROUPS),
                *self.random.choice(((Operation.DELETE, FLAG), (Operation.WRITE, FLAG, b"x"))),
            )
        elif chance < 0.12 and self.moves:
            key, (_, names) = self.random.choice(list(self.moves.items()))
            self.touch(self.random.choice(names), Operation.READ, b"mark" + key)
        elif chance < 0.13:
            machine = self.groups[self.random.choice(GROUPS)]
            machine.apply(make_collection(machine.generation, (0,)))
        elif chance < 0.14 and self.drivers:
            self.random.choice(self.drivers).alive = False
        elif chance < 0.2 and self.late:
            late = self.late.pop(self.random.randrange(len(self.late)))
            self.deliver(late, answered=False)
        elif self.network:
            self.one_of_the_network()

    def one_of_the_network(self) -> None:
        command = self.network.pop(self.random.randrange(len(self.network)))
        if command.driver is not None and command.driver.slow and self.random.random() < 0.9:
            self.network.append(command)
            return
        chance = self.random.random()
        if chance < 0.1:  # lost, or late
            if chance < 0.07:
                self.late.append(command)
            if command.driver is not None and command.step is not None:
                command.driver.take(command.step, Answer(None))
            return
        if chance < 0.2:
            self.late.append(command)
        if chance > 0.9:  # the answer is lost, and that to another try comes
            self.deliver(command, answered=False, again=True)
        self.deliver(command, answered=chance < 0.97)

    def calm(self) -> None:
        """Nothing is lost any more, and somebody touches every key."""
        for _ in range(4):
            for command in self.late:
                self.deliver(command, answered=False)
            self.late.clear()
            for group in GROUPS:
                for key in ACCOUNTS:
                    self.touch(group, Operation.READ, key)
            for _ in range(CALM):
                if not self.network:
                    break
                command = self.network.pop(self.random.randrange(len(self.network)))
                self.deliver(command, answered=True)

    def verdict(self) -> str | None:
        """What is wrong now, None if nothing is."""
        if self.wrong:
            return self.wrong
        if self.network:
            return "somebody never comes to an end"
        if any(len(machine.transactions) for machine in self.groups.values()):
            return "a key is locked for ever"
        data = {name: machine.digest_source().data for name, machine in self.groups.items()}
        for name, held in data.items():
            for key, value in held.items():
                if key.startswith(RECORDS) and transactions._decode(value).locks:
                    return f"{name!r} is locked for ever"
        if sum(int(held.get(account, b"0")) for held in data.values() for account in ACCOUNTS):
            return "the sum has changed: a transaction was executed in part"
        return self.verdict_on_moves(data)

    def verdict_on_moves(self, data: Mapping[bytes, Mapping[bytes, bytes]]) -> str | None:
        for key, (driver, names) in self.moves.items():
            marks = {b"mark" + key in data[name] for name in names}
            if len(marks) > 1:
                return f"{key.hex()} was executed in part"
            told = self.told.get(key, driver.driven.fate)
            if told is Fate.COMMITTED and marks == {False}:
                return f"{key.hex()} was told as committed and is not"
            if told is Fate.ABORTED and marks == {True}:
                return f"{key.hex()} was told as aborted and is committed"
        return None


def run(seed: int) -> tuple[str | None, World]:
    world = World(seed)
    for number in range(1, 5):
        for coordinator in (1, 2):
            world.begin(coordinator, number)
        for _ in range(world.random.choice((10, 40, 120))):
            world.step()
    world.calm()
    return world.verdict(), world


def test_locks_come_and_go_with_records_of_a_checkpoint() -> None:
    ours, theirs = (StateMachine(Limits(), lambda _: None) for _ in range(2))
    key = record_key(1, 1)
    columns: list[object] = [b"\2", [FLAG], [b"x"]]
    begun = Batch(9, 1, 0, bytes([Operation.PREPARE]), [key], [[0, [[b"east", 0]], columns]])
    theirs.apply(make_payload([begun]))
    ours.merge(theirs.digest_source().data.items())
    assert ours.apply(make_payload([reading(2)]))[0].outcomes == bytes([Outcome.LOCKED])
    ended = Batch(9, 2, 0, bytes([Operation.RESOLVE]), [key], [[True, [FLAG]]])
    theirs.apply(make_payload([ended]))
    ours.merge(theirs.digest_source().data.items())
    assert ours.apply(make_payload([reading(3)]))[0].values == [b"x"]
    assert theirs.apply(make_payload([reading(3)]))[0].values == [b"x"]


def test_a_record_that_stands_is_not_overwritten_when_its_session_has_ended() -> None:
    machine = StateMachine(Limits(window=1), lambda _: None)
    key = record_key(1, 1)

    def prepare(client: int, locked: bytes) -> bytes:
        argument: list[object] = [machine.generation, [[b"east", 0]], [b"\2", [locked], [b"x"]]]
        one = Batch(client, 1, 0, bytes([Operation.PREPARE]), [key], [argument], machine.generation)
        return machine.apply(make_payload([one]))[0].outcomes

    assert prepare(9, FLAG) == bytes([Outcome.DONE])
    for generation in range(3):
        machine.apply(make_collection(generation, (0,)))
    assert prepare(10, b"other") == bytes([Outcome.FORGOTTEN])
    ended = Batch(11, 1, 0, bytes([Operation.RESOLVE]), [key], [[True, [FLAG]]], 3)
    machine.apply(make_payload([ended]))
    assert machine.apply(make_payload([reading(12, 3)]))[0].values == [b"x"]


def test_a_local_read_meets_no_lock_and_one_by_a_quorum_does() -> None:
    """Where a replica is cut off, a lock may stand whose transaction has long ended: nobody could end it again."""
    machine, one = StateMachine(Limits(), lambda _: None), reading(12)
    argument: list[object] = [0, [[b"east", 0]], [b"\2", [FLAG], [b"x"]]]
    machine.apply(make_payload([Batch(9, 1, 0, bytes([Operation.PREPARE]), [record_key(1, 1)], [argument])]))
    assert machine.look(one).outcomes == bytes([Outcome.LOCKED])
    assert machine.look(one, locks=False).outcomes == bytes([Outcome.NOT_FOUND])
    listed = Batch(12, 2, 0, bytes([Operation.COUNT, Operation.EXISTS]), [b"", FLAG], None)
    assert machine.look(listed, locks=False) == (12, 2, bytes([Outcome.DONE, Outcome.NOT_FOUND]), [0, None])


def test_a_record_is_forgotten_by_who_names_its_keys() -> None:
    """So rights to these can be asked for: who finds no record drops what this group has executed."""
    machine, key = StateMachine(Limits(), lambda _: None), record_key(1, 1)
    numbers = count(1)

    def ask(operation: Operation, argument: Any) -> Any:
        one = Batch(9, next(numbers), 0, bytes([operation]), [key], [argument])
        values = machine.apply(make_payload([one]))[0].values
        return values[0] if values else None

    ask(Operation.PREPARE, [0, [[b"east", 0]], [b"\2", [FLAG], [b"x"]]])
    ask(Operation.FORGET, [FLAG])
    ask(Operation.RESOLVE, [True, [FLAG]])
    for keys in ([], [b"other"], [FLAG, b"other"]):
        ask(Operation.FORGET, keys)
    assert ask(Operation.VOTE, 0) == [True, True, [FLAG]]
    ask(Operation.FORGET, [FLAG])
    assert ask(Operation.VOTE, 0) is None


def test_what_is_told_of_locks_takes_room() -> None:
    """A frame of many commands that meet a lock of many groups: what they come to together is bounded."""
    machine, bounds = StateMachine(Limits(), lambda _: None), Limits(results=2000).bounds
    groups: list[object] = [[b"%060d" % group, 0] for group in range(20)]
    begun = Batch(
        9, 1, 0, bytes([Operation.PREPARE]), [record_key(1, 1)], [[0, groups, [b"\2", [FLAG], [b"x"]]]]
    )
    machine.apply(make_payload([begun]))
    (wrote,) = machine.apply(make_payload([Batch(2, 1, 0, b"\2" * 3, [FLAG] * 3, [b"y"] * 3)], bounds))
    assert wrote.outcomes == bytes([Outcome.LOCKED, Outcome.TOO_LARGE, Outcome.TOO_LARGE])
    (read,) = machine.apply(make_payload([Batch(3, 1, 0, b"\1" * 4, [FLAG] * 4, None)], bounds))
    assert read.outcomes == bytes([Outcome.LOCKED, Outcome.LOCKED, Outcome.UNTOLD, Outcome.UNTOLD])
    machine.apply(
        make_payload([Batch(4, 1, 0, bytes([Operation.RESOLVE]), [record_key(1, 1)], [[False, [FLAG]]])])
    )
    (read,) = machine.apply(make_payload([Batch(3, 1, 0, b"\1" * 4, [FLAG] * 4, None)], bounds))
    assert set(read.outcomes) == {Outcome.NOT_FOUND}


def reading(client: int, generation: int = 0) -> Batch:
    return Batch(client, 1, 0, bytes([Operation.READ]), [FLAG], None, generation)


# -- what goes wrong without a rule -------------------------------------------------------------------------------


def told_too_early(patch: pytest.MonkeyPatch) -> None:
    judge = Transaction._judge

    def early(self: Transaction) -> list[Step]:
        steps = judge(self)
        if self.fate is None and True in self._votes.values():
            self.fate = Fate.COMMITTED
        return steps

    patch.setattr(Transaction, "_judge", early)


def silence_taken_for_aborted(patch: pytest.MonkeyPatch) -> None:
    take = Transaction._take_vote

    def taken(self: Transaction, step: Step, answer: Answer) -> list[Step]:
        if step.operation == Operation.PREPARE and answer.outcome is None:
            answer = Answer(int(Outcome.ABORTED))
        return take(self, step, answer)

    patch.setattr(Transaction, "_take_vote", taken)


def resolved_before_all_voted(patch: pytest.MonkeyPatch) -> None:
    judge = Transaction._judge

    def eager(self: Transaction) -> list[Step]:
        if False in self._votes.values():
            for group in self.groups:
                self._votes.setdefault(group, False)
        return judge(self)

    patch.setattr(Transaction, "_judge", eager)


def forgotten_before_all_resolved(patch: pytest.MonkeyPatch) -> None:
    def end(self: Transaction) -> list[Step]:
        if self._forgetting is not None:
            return []
        self._forgetting = set(self.groups)
        return [Step(group, Operation.FORGET, list(keys)) for group, keys in self._recorded.items()]

    patch.setattr(Transaction, "_end", end)


def vote_claims_nothing(patch: pytest.MonkeyPatch) -> None:
    def unclaimed(self: transactions.Transactions, key: bytes, *_: Any) -> Result:
        record = self._find(key)
        return (0, [False, None, []] if record is None else [True, record.committed, record.keys])

    patch.setattr(transactions.Transactions, "_vote", unclaimed)


def no_record_taken_for_aborted(patch: pytest.MonkeyPatch) -> None:
    vote = transactions.Transactions._vote

    def anew(self: transactions.Transactions, *arguments: Any) -> Result:
        found = vote(self, *arguments)
        return (0, [False, None, []]) if found == (0, None) else found

    patch.setattr(transactions.Transactions, "_vote", anew)


def result_not_kept_taken_for_no_record(patch: pytest.MonkeyPatch) -> None:
    take = Transaction._take_vote

    def taken(self: Transaction, step: Step, answer: Answer) -> list[Step]:
        if step.operation == Operation.VOTE and answer.outcome == Outcome.FORGOTTEN:
            answer = Answer(0, None)
        return take(self, step, answer)

    patch.setattr(Transaction, "_take_vote", taken)


def ended_session_prepares(patch: pytest.MonkeyPatch) -> None:
    claim = transactions._claim
    patch.setattr(transactions, "_claim", lambda *arguments: claim(*arguments) is not False)


def reads_ignore_locks(patch: pytest.MonkeyPatch) -> None:
    _ignore(patch, Operation.READ)


def writes_ignore_locks(patch: pytest.MonkeyPatch) -> None:
    _ignore(patch, Operation.WRITE, Operation.DELETE)


def _ignore(patch: pytest.MonkeyPatch, *ignoring: Operation) -> None:
    execute = transactions.Transactions.execute

    def ignorant(self: transactions.Transactions, operation: int, *arguments: Any) -> Result | None:
        return None if operation in ignoring else execute(self, operation, *arguments)

    patch.setattr(transactions.Transactions, "execute", ignorant)


def locks_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transactions.Transactions, "_unlock", lambda *_: None)


def resolved_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transactions.Record, "locks", True)


def test_no_schedule_splits_a_transaction_or_leaves_a_lock() -> None:
    fates: list[Fate] = []
    for seed in range(15):
        wrong, world = run(seed)
        assert wrong is None, f"seed {seed}: {wrong}"
        fates += world.told.values()
    assert set(fates) >= {Fate.COMMITTED, Fate.ABORTED}


def test_nobody_resolves_before_every_vote_is_known() -> None:
    one = Transaction(record_key(7, 1), {b"east": 0, b"west": 0})
    east, west = one.begin()
    assert one.take(east, Answer(Outcome.DONE, [True, None, [b"key"]])) == []
    assert one.take(west, Answer(Outcome.DONE, [False, None, []])) == [
        Step(b"east", Operation.RESOLVE, [False, [b"key"]])
    ]
    other = Transaction(record_key(7, 2), {b"east": 0, b"west": 0})
    east, west = other.begin()
    assert other.take(west, Answer(Outcome.DONE, [False, None, []])) == []
    assert other.fate is Fate.ABORTED
    assert not other.is_over


def test_a_result_that_is_not_kept_tells_no_vote() -> None:
    """An earlier try may have been told that all is prepared."""
    one = Transaction(record_key(7, 1), {b"east": 0, b"west": 0})
    east, _ = one.begin()
    assert one.take(east, Answer(Outcome.FORGOTTEN)) == [east]
    assert one.take(east, Answer(Outcome.DONE, [True, None, [b"key"]])) == []


SEEDS: dict[Callable[[pytest.MonkeyPatch], None], int] = {
    told_too_early: 0,
    silence_taken_for_aborted: 4,
    forgotten_before_all_resolved: 1,
    vote_claims_nothing: 9,
    no_record_taken_for_aborted: 46,
    result_not_kept_taken_for_no_record: 77,
    ended_session_prepares: 2677,
    reads_ignore_locks: 0,
    writes_ignore_locks: 10,
    locks_stay: 0,
    resolved_twice: 0,
}
"""The first seed that shows what goes wrong without each rule."""


@pytest.mark.parametrize("mutant", SEEDS, ids=lambda mutant: mutant.__name__)
def test_without_a_rule_a_schedule_goes_wrong(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(SEEDS[mutant])[0] is None
    mutant(monkeypatch)
    try:
        wrong, _ = run(SEEDS[mutant])
    except InvariantError as error:
        wrong = str(error)
    assert wrong
