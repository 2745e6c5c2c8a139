"""Mutants of collections, and of the sessions that end by them (protocol 4.13)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_CONFLICTS: Final = "epaxos.protocol.epaxos.conflicts"
_SESSIONS: Final = "epaxos.statemachine.sessions"
_WRITER: Final = "epaxos.checkpoint.writer"

ENDING: Final = Draw(
    "sessions that end, n=3",
    replicas=3,
    operations=24,
    faults="loss,reorder,crash,partition,pause,client",
    times=(("patience", 4.0), ("phase", 150.0), ("collect", 6.0), ("checkpoint", 3.0), ("think", 3.0)),
    options=(
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 2),
        ("chunk", 200),
        ("keys", 2),
        ("client_loss", 0.3),
        ("abandon", 0.0),
        ("mix", "mixed"),
    ),
)
"""Clients that try again until their sessions are over, beside replicas that are away."""

SLOW: Final = ENDING._replace(
    name="sessions that end, slow checkpoints, n=3",
    times=(
        *ENDING.times[:2],
        ("collect", 3.0),
        ("checkpoint", 1.0),
        ("think", 2.0),
        ("cpu", 0.4),
        ("disk_delay", 2.0),
    ),
    options=(*ENDING.options, ("disk", "pipelined"), ("slice", 1)),
)
"""The same, while checkpoints take long."""

CONFLICTS: Final = (
    Mutant(
        "collection-touches-nothing",
        "a collection depends on other collections alone",
        "4.13",
        (
            Patch(
                _CONFLICTS,
                "found = list(map(max, self.highest, self.base, command.base))",
                "found = list(map(max, self.base, command.base))",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "collection-unseen",
        "commands do not depend on collections",
        "4.13",
        (
            Patch(
                _CONFLICTS,
                "            self.base[:] = map(max, self.base, command.base)\n"
                "            self.base[row] = max(slot, self.base[row])\n",
                "            pass\n",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "collection-unseen-by-reads",
        "commands that write nothing do not depend on collections",
        "4.13",
        (
            Patch(
                _CONFLICTS,
                "max(self._conflicting(row, command), base)\n",
                "max(self._conflicting(row, command), base if command.writes else -1)\n",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "base-not-covered",
        "who knows a collection covers it, and not its base",
        "4.13",
        (
            Patch(
                _CONFLICTS,
                "            self.base[:] = map(max, self.base, command.base)\n",
                "",
            ),
        ),
        draw=ENDING,
    ),
)

SESSIONS: Final = (
    Mutant(
        "late-retry-executes",
        "a command whose session has ended executes in a new one",
        "4.13",
        (
            Patch(
                _SESSIONS,
                "        if client not in self._table and not self.generation - self.window <= generation "
                "<= self.generation:\n            return None\n",
                "",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "generation-not-written",
        "a checkpoint does not say how many collections have executed",
        "4.13",
        (
            Patch(_WRITER, "self._core.vectors(), generation)", "self._core.vectors(), 0)"),
            Patch(_WRITER, "Meta(executed, vectors, self._machine.generation)", "Meta(executed, vectors, 0)"),
        ),
        draw=ENDING,
    ),
    Mutant(
        "generation-of-later",
        "a checkpoint has the count of collections of the moment when its last row is written",
        "4.10, 4.13",
        (
            Patch(
                _WRITER,
                "Meta(cut.executed, self._core.vectors(), generation)",
                "Meta(cut.executed, self._core.vectors(), self._machine.generation)",
            ),
        ),
        draw=SLOW,
    ),
    Mutant(
        "ended-session-merged",
        "a session that has ended here comes back with the checkpoint of a peer that is behind",
        "4.10, 4.13",
        (
            Patch(
                _SESSIONS,
                "            if theirs.last >= self.generation - self.window:\n",
                "            if True:\n",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "adopted-generation-ignored",
        "a replica that merges a peer's checkpoint goes on with its own count of collections",
        "4.10, 4.13",
        (
            Patch(
                _SESSIONS,
                "        self._advance(max(other.generation, self.generation))\n",
                "",
            ),
        ),
        draw=ENDING,
    ),
    Mutant(
        "last-use-not-merged",
        "a session that a peer has used later than this replica ends with this replica's last use",
        "4.10, 4.13",
        (Patch(_SESSIONS, "    ours.last = max(ours.last, theirs.last)\n", ""),),
        draw=ENDING,
    ),
    Mutant(
        "ended-session-stays-written",
        "a session that has ended stays in the checkpoint",
        "4.13",
        (
            Patch(
                _SESSIONS,
                "            self._changed.add(client)\n            session = self._table.pop(client)\n",
                "            session = self._table.pop(client)\n",
            ),
        ),
        draw=ENDING,
    ),
)
