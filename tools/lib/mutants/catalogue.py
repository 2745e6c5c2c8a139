"""All mutants, by subject; a new subject is a module with tuples of `Mutant`, named here."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Mutant, Patch
from mutants.subjects import (
    checkpoint,
    collection,
    commit,
    durability,
    epochs,
    execution,
    expiry,
    groups,
    leader,
    liveness,
    reads,
    recovery,
    registers,
    security,
    transactions,
    watching,
    whole,
)

MUTANTS: Final[tuple[Mutant, ...]] = (
    *commit.QUORUMS,
    *commit.ANSWERS,
    *commit.CONFLICTS,
    *recovery.VALUES,
    *recovery.JUDGEMENT,
    *recovery.RESTART,
    *liveness.PACE,
    *liveness.PATIENCE,
    *checkpoint.TRUNCATION,
    *checkpoint.CONTENTS,
    *checkpoint.ADOPTION,
    *checkpoint.RESTART,
    *collection.CONFLICTS,
    *collection.SESSIONS,
    *collection.KEYS,
    *whole.CONFLICTS,
    *whole.STATE,
    *durability.ANSWERS,
    *durability.OWNER,
    *durability.DISK,
    *epochs.END,
    *epochs.HARMLESS,
    *execution.ORDER,
    *execution.REPLIES,
    *execution.SESSIONS,
    *expiry.GENERATIONS,
    *expiry.STATE,
    *expiry.TIME,
    *reads.QUORUM,
    *reads.STATE,
    *registers.BALLOTS,
    *registers.OUTCOMES,
    *registers.UPKEEP,
    *registers.OBSERVERS,
    *leader.VALUES,
    *leader.PROMISES,
    *leader.LEARNING,
    *leader.ELECTIONS,
    *transactions.VOTES,
    *transactions.ENDS,
    *groups.GROUPS,
    *watching.POSITIONS,
    *watching.HISTORY,
    *watching.TELLING,
    *security.RIGHTS,
    *security.LISTS,
    *security.GUESSES,
    *security.ROOM,
)

CONSEQUENCES_ONLY: Final = (
    Patch(
        "epaxos.simulation.run",
        "checkers = [*own, epochs, decisions,",
        "checkers = [epochs, decisions,",
    ),
    Patch(
        "epaxos.simulation.checkers.decisions",
        "            self._check_quorum(row, decided)\n",
        "",
    ),
    Patch(
        "epaxos.simulation.checkers.decisions",
        "        if known is None:\n"
        '            text = f"replica {row} sends a Commit of {message.id}, of which no decision is durable anywhere"\n'
        '            raise ViolationError("agreement", text, (message.id,))\n',
        "        if known is None:\n            return\n",
    ),
    Patch(
        "epaxos.simulation.checkers.epochs",
        "        if name not in self._forgetful and (\n",
        "        if None and (\n",
    ),
    Patch(
        "epaxos.simulation.checkers.results",
        '            raise ViolationError("no early answer", text, calls=((call.client, call.number),))\n',
        "            return\n",
    ),
)
"""Takes away the checks that assert a rule; left are those of what rules are for: agreement, visibility, order,
results, linearizability, progress, and the assertions of the core itself."""


def find(name: str) -> Mutant:
    """The mutant of a name.

    Raises:
        KeyError: there is none.
    """
    return {mutant.name: mutant for mutant in MUTANTS}[name]
