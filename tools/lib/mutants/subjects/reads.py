"""Mutants of reads that are none of the log (protocol 7)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_READS: Final = "epaxos.protocol.reads"
_CORE: Final = "epaxos.protocol.epaxos.core"
_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"
_MACHINE: Final = "epaxos.statemachine.machine"
_READINGS: Final = "epaxos.simulation.world.readings"
_REPLICA: Final = "epaxos.simulation.world.replica"
_TESTS: Final = "tests/unit/protocol/test_reads.py::"

MANY: Final = Draw(
    "reads of no log", operations=40, options=(("reads", 1.0), ("mix", "reads"), ("whole", 0.0))
)
_ENDING: Final = Draw(
    "reads of no log, epochs end",
    operations=40,
    faults="refresh,partition,pause",
    options=(("reads", 1.0), ("mix", "reads")),
)
_CLEARED: Final = Draw(
    "reads of no log, and all keys", operations=40, options=(("reads", 1.0), ("mix", "reads"), ("whole", 0.3))
)
_ABSENT: Final = Draw(
    "reads of no log, long absences",
    operations=60,
    faults="partition,pause,crash",
    options=(("reads", 1.0), ("mix", "reads"), ("whole", 0.0), ("retain", 0), ("checkpoint_size", 2)),
)

_BESIDE: Final = Draw(
    "reads of no log, transactions", operations=40, options=(("reads", 1.0), ("mix", "transactions"))
)


def _mutant(
    name: str, bug: str, section: str, *patches: Patch, draw: Draw = MANY, schedule: str = ""
) -> Mutant:
    return Mutant(name, bug, section, *patches, draw=draw, schedule=schedule)


QUORUM: Final = (
    _mutant(
        "read-own-index",
        "a reader asks nobody but itself what it has to wait for",
        "7.1",
        Patch(_READS, "return len(question.answered) > self._f", "return True"),
    ),
    _mutant(
        "read-quorum-small",
        "f answers are enough, the own one counted",
        "7.1",
        Patch(_READS, "return len(question.answered) > self._f", "return len(question.answered) >= self._f"),
    ),
    _mutant(
        "read-before-executed",
        "a reader reads as soon as it has the answers",
        "7.1",
        Patch(
            _READS,
            "if self._is_answered(question) and self._has_executed(question)",
            "if self._is_answered(question)",
        ),
    ),
    _mutant(
        "read-highest-only",
        "a reader waits for the highest slot of each row, and for none below it",
        "7.1",
        Patch(
            _CORE,
            "lambda: state.executor.executed,",
            "lambda: tuple(max([slot, *(place.slot for place in state.executor.above if place.row == row)])"
            " for row, slot in enumerate(state.executor.executed)),",
        ),
        schedule=f"{_TESTS}test_all_up_to_what_was_heard_of_has_to_execute",
    ),
    _mutant(
        "read-known-only",
        "a reader waits for what it knows itself to write the key, up to the slots that it is told",
        "7.1",
        Patch(
            _READS,
            "all(map(le, question.highest, self._log.executed()))",
            "all(map(le, map(min, question.highest, self._log.known(question.keys)), self._log.executed()))",
        ),
    ),
    _mutant(
        "read-without-all-write",
        "an answer leaves out what writes all keys, and what was forgotten by key",
        "7.1",
        Patch(_CONFLICTS, "max(_highest(written, keys), base)", "_highest(written, keys)"),
        draw=_CLEARED,
    ),
    _mutant(
        "read-index-volatile",
        "an answer tells of what stands in the log still",
        "7.1",
        Patch(
            _CORE,
            "            state.conflicts.writers,",
            "            lambda keys: tuple(max((slot for slot, one in row.items() if one.orig is not None"
            " and (one.orig.writes_all or set(keys) & set(one.orig.writes))), default=-1) for row in state.logs.rows),",
        ),
        draw=_ABSENT,
    ),
    _mutant(
        "read-not-seen",
        "what only an answer tells of nobody recovers",
        "7.1",
        Patch(_READS, "        self._log.hear_of(question.highest)\n", ""),
        schedule=f"{_TESTS}test_what_only_an_answer_tells_of_is_recovered_here",
    ),
    _mutant(
        "read-joins-question",
        "a read is answered by a question that was under way when it came",
        "7.1",
        Patch(
            _READINGS,
            "        fresh, self._fresh = self._fresh, []\n",
            "        for asked in self._asked.values():\n            asked += self._fresh\n"
            "            self._fresh = []\n"
            "        fresh, self._fresh = self._fresh, []\n",
        ),
    ),
    _mutant(
        "answer-to-any-question",
        "an answer counts for whatever question is under way",
        "7.1",
        Patch(
            _READS,
            "question = self.waiting.get(message.number)",
            "question = next(iter(self.waiting.values()), None)",
        ),
        schedule=f"{_TESTS}test_five_need_two_answers_of_different_replicas_to_this_question",
    ),
)

STATE: Final = (
    _mutant(
        "read-in-an-epoch-that-is-over",
        "a read is answered from the state with which its epoch ended",
        "7.2",
        Patch(_CORE, "            self._reads.give_up()\n", "            self._reads.settle()\n"),
        draw=_ENDING,
        schedule=f"{_TESTS}test_what_waits_as_the_epoch_ends_is_not_read_and_nothing_begins_after_it",
    ),
    _mutant(
        "read-while-merging",
        "a read is answered while a checkpoint is being merged",
        "7.2",
        Patch(
            _CORE,
            "        elif self.state.hold is None:\n            self._reads",
            "        else:\n            self._reads",
        ),
        draw=_ABSENT,
        schedule=f"{_TESTS}test_nothing_is_read_while_a_checkpoint_is_merged",
    ),
    _mutant(
        "local-read-meets-lock",
        "a local read is told of a lock, which may be here long after its transaction has ended",
        "7.3",
        Patch(_MACHINE, "if locks and self.transactions.concern(", "if self.transactions.concern("),
        draw=_BESIDE,
    ),
    _mutant(
        "read-before-durable",
        "a read is answered before what it waited for is durable and has executed",
        "7.2",
        Patch(
            _REPLICA,
            "        if effects.reads:\n"
            "            self._execution.look(self.readings.take(effects.reads), self._age, votes=self._votes)\n",
            "",
        ),
        Patch(
            _REPLICA,
            "        if self._options.early:\n            era.post.send",
            "        if effects.reads:\n"
            "            self._execution.look(self.readings.take(effects.reads), self._age, votes=self._votes)\n"
            "        if self._options.early:\n            era.post.send",
        ),
    ),
)
