"""Mutants of execution, answers and sessions (protocol 4.9; `statemachine.session`)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Mutant, Patch

_EXECUTION: Final = "epaxos.protocol.execution.executor"
_REPLICA: Final = "epaxos.simulation.world.replica"
_SESSION: Final = "epaxos.statemachine.session"
_SESSIONS: Final = "epaxos.statemachine.sessions"

ORDER: Final = (
    Mutant(
        "component-order",
        "members of a component execute in the order in which the search found them",
        "4.9",
        Patch(
            "epaxos.protocol.execution.order",
            "    if len(members) > 1:\n        members.sort(key=_execution_order)\n",
            "",
        ),
    ),
    Mutant(
        "undecided-dependency",
        "a component executes before one of its dependencies is committed",
        "4.9",
        Patch(
            _EXECUTION,
            "                self._asleep[row][top].append(pending)\n                return False\n",
            "                top = self._decided[row]\n",
        ),
        Patch(
            _EXECUTION,
            "            members.append(self._pending[InstanceId(row, slot)])\n",
            "            if InstanceId(row, slot) in self._pending:\n"
            "                members.append(self._pending[InstanceId(row, slot)])\n",
        ),
    ),
)

REPLIES: Final = (
    Mutant(
        "reply-at-commit",
        "the owner answers a write once its decision is durable, before it executes",
        "3.7",
        Patch(
            _REPLICA,
            "from epaxos.protocol.log import Instance\n",
            "from epaxos.protocol.log import NOP, Instance, Phase\n"
            "from epaxos.statemachine.operations import Operation\n"
            "from epaxos.statemachine.results import BatchResult\n",
        ),
        Patch(
            _REPLICA,
            "        own = self._send(era, effects)\n        if effects.executions:\n",
            "        own = self._send(era, effects)\n"
            "        for record in effects.records:\n"
            "            if record.id.row == self.row and record.phase is Phase.COMMITTED:\n"
            "                self._answer_now(record.value)\n"
            "        if effects.executions:\n",
        ),
        Patch(
            _REPLICA,
            "    def _tell_watchers(self) -> None:\n",
            "    def _answer_now(self, value: object) -> None:\n"
            "        for batch in () if value is NOP else value.batches:\n"
            "            if set(batch.operations) == {Operation.WRITE}:\n"
            "                result = BatchResult(batch.client, batch.first, bytes(len(batch)), None)\n"
            "                answer = self.frontdoor.take_answer(result)\n"
            "                if answer is not None:\n"
            "                    self._step()\n"
            "                    answer(result, self.row)\n\n"
            "    def _tell_watchers(self) -> None:\n",
        ),
    ),
)

SESSIONS: Final = (
    Mutant(
        "retry-executed-twice",
        "a command that has executed executes again when it comes again",
        "4.8",
        Patch(
            "epaxos.statemachine.machine",
            "        if session.claim(batch.first, end):\n",
            "        if session.claim(batch.first, end) or True:\n",
        ),
    ),
    Mutant(
        "retry-executed-among-others",
        "a command that has executed executes again when it comes again in an instance with those of other clients",
        "4.8",
        Patch(
            _SESSIONS,
            "            elif not session.claim(first, end):\n                break\n",
            "            else:\n                session.claim(first, first + count)\n",
        ),
    ),
    Mutant(
        "room-by-what-is-kept",
        "how much a batch may return depends on what its session keeps here",
        "4.9",
        Patch(
            "epaxos.statemachine.machine",
            "        self._store.begin(bounds)\n        session.acknowledge(batch.acked)\n",
            "        bounds = bounds and bounds._replace(results=bounds.results - session.weight)\n"
            "        self._store.begin(bounds)\n        session.acknowledge(batch.acked)\n",
        ),
    ),
    Mutant(
        "bounds-of-who-executes",
        "what a batch may return is bounded by who executes it, not by its payload",
        "4.9",
        Patch(
            "epaxos.statemachine.machine",
            "        self._store.begin(bounds)\n",
            "        self._store.begin(None)\n",
        ),
    ),
    Mutant(
        "watermark-forgets",
        "a session forgets the executed numbers below the client's acknowledged one",
        "statemachine.session",
        Patch(
            _SESSION,
            "        self.acked = acked\n        gone = 0\n",
            "        self.acked = acked\n"
            "        self.executed = [\n"
            "            bound\n"
            "            for first, end in intervals.pairs(self.executed)\n"
            "            if end > acked\n"
            "            for bound in (max(first, acked), end)\n"
            "        ]\n"
            "        gone = 0\n",
        ),
    ),
    Mutant(
        "watermark-skips",
        "a session takes all numbers below the client's acknowledged one for executed",
        "statemachine.session",
        Patch(
            _SESSION,
            "        self.acked = acked\n        gone = 0\n",
            "        self.acked = acked\n"
            "        if acked > 1:\n"
            "            intervals.add(self.executed, 1, acked)\n"
            "        gone = 0\n",
        ),
    ),
)
