"""A script's groups: the code of state machines and of transactions, with every command under the script's hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

from epaxos.client.commands import Op, as_columns
from epaxos.groups.transaction import Answer, Step, Transaction, record_key
from epaxos.protocol.ids import Row
from epaxos.statemachine.batch import Batch, Limits, make_payload
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import OF_TRANSACTIONS, Operation, Outcome
from scenario.mail import Mail, Parcel, ScenarioError


class _Request(NamedTuple):
    name: str
    step: Step


class Told(NamedTuple):
    """What a request came to."""

    name: str
    step: Step
    answer: Answer


_REQUESTS: Final = {
    operation: type(operation.name, (_Request,), {}) for operation in map(Operation, sorted(OF_TRANSACTIONS))
}
KINDS: Final = frozenset({Told.__name__, *(operation.name for operation in _REQUESTS)})


class _Caller:
    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.driven: dict[str, Transaction] = {}
        self.met: tuple[bytes, dict[bytes, int]] | None = None


class Groups(Mail):
    """Groups by their letters, and callers, each of whom may drive several transactions."""

    def __init__(self, groups: Sequence[str], callers: Sequence[str], say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._names = [*callers, *groups]
        self._callers = {name: _Caller(name) for name in callers}
        self._groups = {name: StateMachine(Limits(), lambda _: None) for name in groups}
        self._transactions: dict[bytes, str] = {}
        self._numbers = 0

    def row(self, name: str) -> Row:
        """The place of a caller or a group among all."""
        if name not in self._names:
            raise ScenarioError(f"no {name}, only {', '.join(self._names)}")
        return self._names.index(name)

    def multi(self, caller: str, *words: str) -> None:
        """A caller begins to write and read keys of groups as one: `E.a=1` and `E.a`."""
        number = len(self._transactions) + 1
        name, key = f"t{number}", record_key(1, number)
        self._transactions[key] = name
        parts: dict[bytes, list[Op]] = {}
        for word in words:
            group, _, what = word.partition(".")
            of, equals, value = what.partition("=")
            op = Op.put(of.encode(), value.encode()) if equals else Op.get(of.encode())
            parts.setdefault(group.encode(), []).append(op)
        columns = {}
        for of_group, operations in parts.items():
            kinds, keys, arguments = as_columns(operations)
            columns[of_group] = (kinds, keys, arguments or [None] * len(keys))
        self._drive(caller, name, Transaction(key, dict.fromkeys(columns, 0), columns))

    def get(self, caller: str, word: str) -> None:
        """A caller reads one key, at once."""
        group, _, key = word.partition(".")
        outcome, value = self._execute(group, Operation.READ, key.encode(), None)
        if outcome == Outcome.LOCKED:
            record, groups = value
            self._callers[caller].met = record, dict(groups)
            self.say(f"{group}: {key} is locked by {self._transactions[record]}")
        else:
            self.say(f"{group}: {key} is {'nothing' if value is None else value.decode()}")

    def end(self, caller: str) -> None:
        """A caller ends the transaction whose lock it has met."""
        met = self._callers[caller].met
        if met is None:
            raise ScenarioError(f"{caller} has met no lock")
        self._drive(caller, self._transactions[met[0]], Transaction(*met))

    def crash(self, caller: str) -> None:
        """A caller dies; what it has sent goes its way."""
        self._callers[caller].alive = False

    def show(self, group: str) -> None:
        """What a group holds."""
        for key, value in sorted(self._groups[group].digest_source().data.items()):
            shown = "a record" if key in self._transactions else value.decode()
            self.say(f"{group}: {self._transactions.get(key) or key.decode()}: {shown}")

    def _drive(self, caller: str, name: str, driven: Transaction) -> None:
        self._callers[caller].driven[name] = driven
        self._post(caller, name, driven.begin())

    def _post(self, caller: str, name: str, steps: Sequence[Step]) -> None:
        for step in steps:
            request = _REQUESTS[step.operation](name, step)
            self.say(f"{caller} -> {step.group.decode()}: {_wording(request)}")
            self._send(self.row(caller), self.row(step.group.decode()), request)

    def _arrive(self, parcel: Parcel) -> None:
        self.say(self._describe(parcel))
        if isinstance(parcel.message, Told):
            self._take(self._callers[self._names[parcel.receiver]], parcel.message)
            return
        name, step = parcel.message
        key = next(key for key, of in self._transactions.items() if of == name)
        told = Told(
            name, step, Answer(*self._execute(step.group.decode(), step.operation, key, step.argument))
        )
        self._send(parcel.receiver, parcel.sender, told)

    def _execute(self, group: str, operation: Operation, key: bytes, argument: Any) -> tuple[int, Any]:
        self._numbers += 1
        one = Batch(99, self._numbers, 0, bytes([operation]), [key], None if argument is None else [argument])
        (result,) = self._groups[group].apply(make_payload([one]))
        return result.outcomes[0], None if result.values is None else result.values[0]

    def _take(self, caller: _Caller, told: Told) -> None:
        if not caller.alive:
            return
        driven = caller.driven[told.name]
        before = driven.fate
        steps = driven.take(told.step, told.answer)
        if driven.fate is not None and before is None:
            self.say(f"{caller.name} knows: {told.name} is {driven.fate.value}")
        self._post(caller.name, told.name, steps)

    def _describe(self, parcel: Parcel) -> str:
        return f"{self._names[parcel.sender]}->{self._names[parcel.receiver]} {_wording(parcel.message)}"

    def _place_of(self, message: Any) -> str:
        return str(message.name)


def _wording(message: Any) -> str:
    """A message as a person reads it."""
    step: Step = message.step
    if isinstance(message, Told):
        return f"{step.operation.name} {message.name}: {_answer(step.operation, message.answer)}"
    keys = {Operation.PREPARE: lambda: step.argument[2][1], Operation.RESOLVE: lambda: step.argument[1]}  # type: ignore[index]
    named = " ".join(key.decode() for key in keys.get(step.operation, list)())
    how = ("commit " if step.argument[0] else "abort ") if step.operation == Operation.RESOLVE else ""  # type: ignore[index]
    return f"{step.operation.name} {message.name} {how}{named}".rstrip()


def _answer(operation: Operation, answer: Answer) -> str:
    if operation == Operation.PREPARE:
        return {Outcome.DONE: "prepared", Outcome.LOCKED: "aborted, a key is locked"}.get(
            Outcome(answer.outcome or 0), "aborted"
        )
    if operation != Operation.VOTE:
        return "done"
    if answer.value is None:
        return "no record"
    prepared, committed, _ = cast("tuple[bool, bool | None, object]", answer.value)
    return ("prepared" if prepared else "aborted from now on") + (", committed" if committed else "")
