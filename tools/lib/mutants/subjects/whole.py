"""Mutants of commands on all keys: lists, counts, and what clears (protocol 4.15).

That what only reads does not depend on what clears is `collection-unseen-by-reads`.
"""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"
_CHECKPOINT: Final = "epaxos.protocol.epaxos.checkpoint"
_VALIDATION: Final = "epaxos.protocol.epaxos.validation"
_STATE: Final = "epaxos.protocol.epaxos.state"
_WRITER: Final = "epaxos.checkpoint.writer"
_ORDERED: Final = "epaxos.statemachine.ordered"
_TESTS: Final = "tests/unit/protocol/test_all_keys.py::"

LISTED: Final = Draw(
    "commands on all keys, n=3",
    replicas=3,
    operations=12,
    faults="loss,reorder,crash",
    times=(("patience", 4.0), ("phase", 100.0), ("think", 3.0)),
    options=(("whole", 0.4), ("keys", 3), ("mix", "mixed"), ("hot", 0.0)),
)
"""Lists and what clears beside writes of a few keys."""

DROPPED: Final = LISTED._replace(
    name="commands on all keys and long absences, n=3",
    operations=20,
    faults="loss,reorder,crash,partition,pause",
    times=(("patience", 4.0), ("phase", 200.0), ("checkpoint", 2.0), ("think", 3.0)),
    options=(
        *LISTED.options,
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("chunk", 200),
    ),
)
"""The same, where nothing that has executed is kept, and replicas come back to that."""

ORDERED: Final = LISTED._replace(
    name="commands on all keys, of which there are many, n=3",
    options=(("whole", 0.4), ("keys", 15), ("mix", "mixed"), ("hot", 0.0)),
)
"""The same while keys are put in order, of which each round takes one or a few."""

CONFLICTS: Final = (
    Mutant(
        "scan-sees-half",
        "a write does not depend on what reads all keys",
        "4.15",
        Patch(_CONFLICTS, "            highest = max(read.get(ALL, -1), highest)\n", "            pass\n"),
        draw=LISTED,
    ),
    Mutant(
        "scan-misses-writes",
        "what reads all keys does not depend on what writes one",
        "4.15",
        Patch(_CONFLICTS, "highest = max(written.get(ALL, -1), highest)", "pass"),
        draw=LISTED,
    ),
    Mutant(
        "flush-sees-half",
        "what clears depends on what writes alone",
        "4.15",
        Patch(
            _CONFLICTS,
            "            found = list(map(max, self.highest, self.base))\n",
            "            found = [max(row.get(ALL, -1), base) "
            "for row, base in zip(self._writes, self.base, strict=True)]\n",
        ),
        draw=LISTED,
    ),
    Mutant(
        "top-from-log",
        "what reads all keys depends only on writes that are in the log still",
        "4.15, 3.6",
        Patch(
            _CHECKPOINT,
            "        state.logs.truncate(frontier)\n",
            "        state.logs.truncate(frontier)\n"
            "        for index in state.conflicts._writes:\n"
            '            index.pop(b"", None)\n',
        ),
        draw=DROPPED,
    ),
    Mutant(
        "top-forgets-nop",
        "what reads all keys does not depend on writes that were annulled",
        "4.15, 3.1",
        Patch(
            _STATE,
            "            self.ending.discard(place)\n        self.record(instance)\n",
            "            self.ending.discard(place)\n"
            '            self.conflicts._writes[place.row].pop(b"", None)\n'
            "        self.record(instance)\n",
        ),
        schedule=f"{_TESTS}test_what_was_annulled_is_covered_and_does_not_speak",
    ),
    Mutant(
        "scan-not-validated",
        "Validate says nothing of executed writes to what reads all keys",
        "4.15, 3.6",
        Patch(
            _CONFLICTS,
            "items = iter(theirs.items())",
            'items = iter([(key, slot) for key, slot in theirs.items() if key != b""])',
        ),
        schedule=f"{_TESTS}test_what_was_written_and_dropped_speaks_against_a_list",
    ),
    Mutant(
        "flush-not-validated",
        "Validate takes what clears to conflict with nothing",
        "4.15, 4.7",
        Patch(
            _VALIDATION,
            "    return command.base is not None or command.writes_all\n",
            "    return command.base is not None\n",
        ),
        schedule=f"{_TESTS}test_what_clears_speaks_against_all_that_does_not_cover_it",
    ),
)

STATE: Final = (
    Mutant(
        "flush-not-in-version",
        "which value is the later one is told without what clears",
        "4.15, decision 0009",
        Patch(
            _CONFLICTS,
            "base, value.reads_all, value.writes_all)",
            "base, value.reads_all, False)",
        ),
        draw=DROPPED,
    ),
    Mutant(
        "executed-all-not-merged",
        "an adopted checkpoint brings no executed commands on all keys along",
        "4.15, 4.10",
        Patch(
            _STATE,
            "            self.executed.raise_vectors(*vectors[2:])\n",
            "",
        ),
        draw=DROPPED,
    ),
    Mutant(
        "cleared-not-in-checkpoint",
        "a checkpoint keeps what was cleared since the one before",
        "4.15",
        Patch(
            _WRITER,
            "        self._written += self._frozen.cleared\n",
            "",
        ),
        draw=DROPPED,
    ),
    Mutant(
        "order-forgets-inserted",
        "a list lacks what is inserted while the keys are put in order",
        "4.15, decision 0041",
        Patch(_ORDERED, "                self._later.update(inserted)\n", "                pass\n"),
        draw=ORDERED,
    ),
    Mutant(
        "order-told-unfinished",
        "a list is found in an order that is not complete",
        "4.15, decision 0041",
        Patch(_ORDERED, "        return not self.unfinished or any(", "        return True or any("),
        draw=ORDERED,
    ),
)
