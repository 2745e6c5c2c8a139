"""Mutants of transactions across groups.

Some are of what one group does (`epaxos.statemachine.transactions`), some of the rules between groups
(`epaxos.groups.transaction`, `epaxos.groups.calls`).
"""

from __future__ import annotations

from typing import Final

from mutants.mutation import GROUPS as SEVERAL
from mutants.mutation import Draw, Mutant, Patch

_COLUMNS: Final = "epaxos.statemachine.columns"
_MACHINE: Final = "epaxos.statemachine.machine"
_TRANSACTIONS: Final = "epaxos.statemachine.transactions"
_RULES: Final = "epaxos.groups.transaction"
_CALLS: Final = "epaxos.groups.calls"
_SECTION: Final = "groups"

_PREPARED: Final = "            writes += (prepared_columns(argument) or _shapeless(operation))[1]\n"

ACROSS: Final = Draw(
    "transactions across groups, n=3",
    replicas=3,
    operations=40,
    times=(("patience", 4.0), ("checkpoint", 4.0)),
    options=(("mix", "transactions"), ("retain", 0), ("checkpoint_size", 2), ("keys", 2)),
)


FORGETFUL: Final = SEVERAL._replace(
    name="groups, forgetful",
    operations=25,
    times=(("collect", 15.0), ("client_timeout", 3.0)),
    options=(("kept", 1), ("client_loss", 0.2)),
)
"""Sessions that end early, and commands that come late."""


def _mutant(name: str, bug: str, *patches: Patch) -> Mutant:
    return Mutant(f"group-{name}", bug, _SECTION, *patches, draw=ACROSS)


def _between(name: str, bug: str, *patches: Patch, operations: int | None = None) -> Mutant:
    draw = SEVERAL if operations is None else SEVERAL._replace(name="groups, busy", operations=operations)
    return Mutant(f"groups-{name}", bug, _SECTION, *patches, draw=draw)


GROUPS: Final = (
    _mutant(
        "locks-unordered",
        "a PREPARE names its own key only, so replicas lock the others before or after what else touches them",
        Patch(_COLUMNS, _PREPARED, _PREPARED.replace("writes += (", "(").replace("[1]", "")),
    ),
    _mutant(
        "unlocks-unordered",
        "a RESOLVE names its own key only",
        Patch(
            _COLUMNS,
            "            writes += _shapeless(operation) if unlocked is None else unlocked\n",
            "            _shapeless(operation) if unlocked is None else unlocked\n",
        ),
    ),
    _mutant(
        "unlocks-what-it-does-not-name",
        "a RESOLVE that names other keys than the record unlocks, and is ordered by those that it names",
        Patch(
            _TRANSACTIONS,
            "if record is None or not record.locks or keys != record.keys:",
            "if record is None or not record.locks:",
        ),
    ),
    _mutant(
        "locks-of-a-checkpoint-ignored",
        "who takes a peer's checkpoint does not know the locks in it",
        Patch(_MACHINE, "        self.transactions.note(items)\n        return [", "        return ["),
    ),
    _mutant(
        "locks-lost-at-a-start",
        "a replica that starts again does not know the locks in its own checkpoint",
        Patch(
            _MACHINE,
            "        self.transactions.note(items)\n        self._store.load(items)",
            "        self._store.load(items)",
        ),
    ),
    _mutant(
        "vote-claims-nothing",
        "a VOTE is told that there is none, and a PREPARE may still come",
        Patch(
            _TRANSACTIONS,
            '        if _claim(key, cast("int", generation), sessions):\n            return int(Outcome.DONE)',
            "        if True:\n            return int(Outcome.DONE)",
        ),
    ),
    _mutant(
        "locks-take-no-room",
        "what commands are told of locks is not bounded",
        Patch(_TRANSACTIONS, "        if self._store.has_room(held, reads=reads):\n", "        if True:\n"),
    ),
    _mutant(
        "columns-pass-locks",
        "commands that only read, or only write, are executed as columns, and nobody looks for locks",
        Patch(
            _MACHINE,
            'payload.is_plain and not self.transactions.concern(b"", payload.keys)',
            "payload.is_plain",
        ),
    ),
    _mutant(
        "forgets-what-locks",
        "a FORGET drops a record whose keys are locked",
        Patch(
            _TRANSACTIONS,
            "        if record is not None and not record.locks and keys == record.keys:",
            "        if record is not None and keys == record.keys:",
        ),
    ),
    _between(
        "told-too-early",
        "a multi is told as committed with the first vote",
        Patch(
            _RULES,
            "        if len(votes) < len(self.groups):\n",
            "        self.fate = self.fate or (Fate.COMMITTED if True in votes else None)\n"
            "        if len(votes) < len(self.groups):\n",
        ),
    ),
    _between(
        "silence-taken-for-aborted",
        "a group that does not answer is taken to have voted ABORTED",
        Patch(
            _RULES,
            "            return [self._ask(group)]\n        return self._judge()",
            "            self._votes[group] = False\n        return self._judge()",
        ),
    ),
    _between(
        "forgotten-before-all-resolved",
        "records are forgotten with the first group that has unlocked",
        Patch(
            _RULES,
            "        if self._locked or self._forgetting is not None:",
            "        if self._forgetting is not None:",
        ),
    ),
    _between(
        "no-record-taken-for-aborted",
        "a coordinator that finds no record takes that for a vote of ABORTED",
        Patch(_RULES, "            self._votes[group] = None\n", "            self._votes[group] = False\n"),
        operations=25,
    ),
    _between(
        "vote-claims-nothing",
        "a group tells that it has no record, and still takes a PREPARE that comes late",
        Patch(
            _TRANSACTIONS,
            '        if _claim(key, cast("int", generation), sessions):\n            return int(Outcome.DONE)',
            "        if True:\n            return int(Outcome.DONE)",
        ),
        Patch(
            "epaxos.simulation.checkers.transactions",
            " if self._take(key, generation) else None",
            "",
        ),
    ),
    _between(
        "reads-pass-locks",
        "a command that only reads does not look for locks",
        Patch(
            _TRANSACTIONS,
            "        if held is None:\n            return None\n        reads =",
            "        if held is None or operation == Operation.READ:\n            return None\n        reads =",
        ),
        Patch(
            "epaxos.simulation.checkers.transactions",
            "            if held is None or only_reads(command) or",
            "            if held is None or operation == Operation.READ:\n                return None\n"
            "            if only_reads(command) or",
        ),
    ),
    _between(
        "locks-stay-for-ever",
        "who meets a lock waits for it, and never ends its transaction",
        Patch(
            _CALLS,
            "        yield self._drive(Transaction(lock.record, lock.groups), until).wait(until)\n",
            "        yield self._rest(max(until - self._now(), 0.0))\n",
        ),
    ),
    Mutant(
        "groups-resolved-before-all-voted",
        "a transaction is resolved with the first vote of ABORTED, and a PREPARE that is under way locks after its end",
        _SECTION,
        Patch(
            _RULES,
            "        if len(votes) < len(self.groups):\n",
            "        if len(votes) < len(self.groups) and False not in votes:\n",
        ),
        schedule="tests/unit/groups/test_transactions.py::test_nobody_resolves_before_every_vote_is_known",
    ),
    Mutant(
        "groups-ended-session-prepares",
        "a PREPARE whose coordinator's session has ended votes PREPARED",
        _SECTION,
        Patch(
            _TRANSACTIONS,
            "if not _claim(key, generation, sessions):",
            "if _claim(key, generation, sessions) is False:",
        ),
        draw=FORGETFUL,
    ),
    Mutant(
        "groups-result-not-kept-is-no-record",
        "a vote whose result is not kept is taken for none",
        _SECTION,
        Patch(
            _RULES,
            "answer == (Outcome.DONE, None):",
            "answer in ((Outcome.DONE, None), (Outcome.FORGOTTEN, None)):",
        ),
        schedule="tests/unit/groups/test_transactions.py::test_a_result_that_is_not_kept_tells_no_vote",
    ),
)
