"""One transaction across groups, by whoever drives it: its coordinator, or whoever met a lock of it.

Values in, values out: `begin` and `take` give the commands to be sent, each to one group; the driver sends them, any
number of times, and hands each answer to `take`. What the commands do at a group is in `statemachine.transactions`.

The rules, and what goes wrong without them (`tests/unit/groups/test_transactions.py` has mutants):

1. The outcome is *committed* if and only if all groups voted PREPARED. The coordinator tells it with the last vote, one
   consensus latency after it began.
2. A group that does not answer is asked for its vote, never taken to have voted ABORTED: its PREPARE may be executed.
3. Nobody resolves before every group's vote is known. A PREPARE on its way to a group that was not asked would lock
   after all is over: not for ever, but until somebody meets the lock.
4. Nobody forgets before all that was locked is unlocked. So where a lock stands, no group has forgotten that it was
   prepared, and one without a record voted ABORTED. Where none stands, a RESOLVE changes nothing.
5. Who finds no record does not know how it ended: that may be over, as rule 4 says. Only a coordinator that lost an
   answer can be in that place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, cast

from epaxos.statemachine.columns import Columns
from epaxos.statemachine.operations import RECORDS, Operation, Outcome

_UNCLEAR = frozenset({None, Outcome.FORGOTTEN, Outcome.EXPIRED})
"""Outcomes of a PREPARE that do not tell the vote: an earlier try may have been executed."""


class Fate(Enum):
    """What became of a transaction; OVER where the records that told how are gone."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    OVER = "over"


class Step(NamedTuple):
    """A command for one group: its `Operation` and its argument; the key is the transaction's."""

    group: bytes
    operation: Operation
    argument: object


class Answer(NamedTuple):
    """What a command came to: an `Outcome` and a value. Outcome None: nobody knows, it may or may not have executed."""

    outcome: int | None
    value: object = None


def record_key(coordinator: int, number: int) -> bytes:
    """The key of the record of a coordinator's transaction; both numbers are below 2**63."""
    return RECORDS + coordinator.to_bytes(8, "big") + number.to_bytes(8, "big")


class Transaction:
    """One transaction, driven from here; others may drive it too.

    `groups` are those that take part, each with the generation in which its coordinator began there; `parts` what each
    is to execute, as columns of a MULTI, for the coordinator only. `fate` is known before everything is unlocked and
    forgotten, which `is_over` tells. `answers` holds what each PREPARE came to.
    """

    def __init__(
        self, key: bytes, groups: Mapping[bytes, int], parts: Mapping[bytes, Columns] | None = None
    ) -> None:
        self.key = key
        self.groups = dict(groups)
        self.fate: Fate | None = None
        self.answers: dict[bytes, Answer] = {}
        self.is_over = False
        self._parts = parts
        self._votes: dict[bytes, bool | None] = {}  # None: no record
        self._recorded: dict[bytes, list[bytes]] = {}  # the keys of the records
        self._locked: dict[bytes, Sequence[bytes]] = {}  # what is locked where, as far as is known
        self._forgetting: set[bytes] | None = None

    def begin(self) -> list[Step]:
        """The first commands."""
        if self._parts is None:
            return [self._ask(group) for group in self.groups]
        named = [[name, generation] for name, generation in self.groups.items()]
        return [
            Step(group, Operation.PREPARE, [generation, named, list(self._parts[group])])
            for group, generation in self.groups.items()
        ]

    def take(self, step: Step, answer: Answer) -> list[Step]:
        """A command was answered, or nobody knows what it came to; what is to be sent then."""
        group, operation, _ = step
        if self.is_over:
            return []
        if operation in (Operation.PREPARE, Operation.VOTE):
            return self._take_vote(step, answer)
        if answer.outcome is None:
            return [step]
        if operation == Operation.RESOLVE:
            self._locked.pop(group, None)
            return self._end()
        if self._forgetting is not None:
            self._forgetting.discard(group)
            self.is_over = not self._forgetting
        return []

    def _ask(self, group: bytes) -> Step:
        return Step(group, Operation.VOTE, self.groups[group])

    def _take_vote(self, step: Step, answer: Answer) -> list[Step]:
        group = step.group
        if group in self._votes:
            return []
        if step.operation == Operation.PREPARE and answer.outcome not in _UNCLEAR:
            self._take_prepared(group, answer)
        elif step.operation == Operation.VOTE and answer == (Outcome.DONE, None):
            self._votes[group] = None
        elif step.operation == Operation.VOTE and answer.outcome == Outcome.DONE:
            self._take_told(group, cast("tuple[bool, bool | None, list[bytes]]", answer.value))
        else:
            return [self._ask(group)]
        return self._judge()

    def _take_prepared(self, group: bytes, answer: Answer) -> None:
        assert self._parts is not None
        self.answers[group] = answer
        self._votes[group] = answer.outcome == Outcome.DONE
        if self._votes[group]:
            self._recorded[group] = self._locked[group] = list(self._parts[group][1])

    def _take_told(self, group: bytes, told: tuple[bool, bool | None, list[bytes]]) -> None:
        prepared, committed, keys = told
        self._votes[group] = prepared
        if prepared:
            self._recorded[group] = keys
        if committed is not None:
            self.fate = Fate.COMMITTED if committed else Fate.ABORTED
        elif prepared:
            self._locked[group] = keys

    def _judge(self) -> list[Step]:
        votes = self._votes.values()
        if False in votes:
            self.fate = self.fate or Fate.ABORTED
        if len(votes) < len(self.groups):
            return []
        self.fate = self.fate or (Fate.COMMITTED if all(votes) else Fate.OVER)
        committed = self.fate is Fate.COMMITTED
        resolving = [
            Step(group, Operation.RESOLVE, [committed, list(keys)]) for group, keys in self._locked.items()
        ]
        return resolving or self._end()

    def _end(self) -> list[Step]:
        if self._locked or self._forgetting is not None:
            return []
        self._forgetting = set(self._recorded)
        self.is_over = not self._forgetting
        return [Step(group, Operation.FORGET, keys) for group, keys in self._recorded.items()]
