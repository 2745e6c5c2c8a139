"""Mutants of the first invariant: what leaves a replica before its record is durable (protocol 2, 4.5)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_COMMIT: Final = "epaxos.protocol.epaxos.commit"
_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_DISK: Final = "epaxos.simulation.world.disk"
_RECORDS: Final = "epaxos.storage.records"
_JOURNAL: Final = "epaxos.storage.journal"

SLOW_DISKS: Final = Draw(
    "slow disks, n=3",
    replicas=3,
    operations=4,
    faults="loss,reorder,crash,death,disk",
    muted=("Commit",),
    times=(("patience", 6.0), ("phase", 100.0), ("fast_path", 30.0), ("disk_delay", 3.0)),
    options=(("early", True), ("disk", "pipelined"), ("troubles", 8)),
)
"""Crashes while records are on their way and messages have left; decisions reach few."""

BUSY_DISKS: Final = Draw(
    "slow disks, one key, n=3",
    replicas=3,
    operations=4,
    faults="loss,reorder,crash,death,disk",
    muted=("Commit", "PreAccept"),
    times=(("patience", 4.0), ("phase", 150.0), ("fast_path", 1.0), ("disk_delay", 4.0)),
    options=(("early", True), ("disk", "pipelined"), ("troubles", 8), ("keys", 1), ("mix", "writes")),
)
"""The same, with conflicts: slow paths and recoveries."""

ANSWERS: Final = (
    Mutant(
        "pre-accept-ok-not-durable",
        "a PreAcceptOK leaves before its record is durable",
        "2.1",
        Patch(
            _COMMIT,
            "state.promise((sender,), PreAcceptOK(message.id, deps, instance.seq))",
            "state.send((sender,), PreAcceptOK(message.id, deps, instance.seq))",
        ),
        damage=SLOW_DISKS,
    ),
    Mutant(
        "accept-ok-not-durable",
        "an AcceptOK leaves before its record is durable",
        "2.1",
        Patch(
            _COMMIT,
            "state.promise((sender,), AcceptOK(message.id, message.ballot))",
            "state.send((sender,), AcceptOK(message.id, message.ballot))",
        ),
        damage=BUSY_DISKS,
    ),
    Mutant(
        "recover-ok-not-durable",
        "a RecoverOK leaves before its record is durable",
        "2.1",
        Patch(_RECOVERY, "state.promise((sender,), answer)", "state.send((sender,), answer)"),
        damage=BUSY_DISKS,
    ),
)

FORGETFUL: Final = Draw(
    "owners that forget, one key, n=3",
    replicas=3,
    operations=10,
    faults="loss,reorder,crash,disk",
    muted=("Commit",),
    times=(("patience", 4.0), ("phase", 150.0), ("think", 1.0), ("disk_delay", 3.0)),
    options=(("ahead", 1), ("early", True), ("troubles", 8), ("keys", 1), ("mix", "writes")),
)
"""Crashes between a proposal and the first record of it, and proposals after the restart."""

FORGETFUL_5: Final = FORGETFUL._replace(
    name="owners that forget, one key, n=5",
    replicas=5,
    muted=("Commit", "PreAccept"),
)
"""The same where three of five decide, and others know what the owner has forgotten."""

_RESTART: Final = "epaxos.protocol.epaxos.restart"
_STATE: Final = "epaxos.protocol.epaxos.state"

OWNER: Final = (
    Mutant(
        "forgotten-far-ahead",
        "an owner proposes without a record however far that is from a durable one, and a restart uses the slot again",
        "3.3, 4.11b",
        Patch(_COMMIT, "slot <= highest + state.settings.ahead", "state.settings.ahead > 0"),
        draw=FORGETFUL,
    ),
    Mutant(
        "forgotten-at-once",
        "the same from the first slot on, when nothing tells a restart that there was one",
        "3.3, 4.11b",
        Patch(_COMMIT, "is_near = highest >= 0 and ", "is_near = "),
        draw=FORGETFUL,
    ),
    Mutant(
        "near-what-is-not-durable",
        "an owner takes the record of its decision for durable when it is asked for",
        "4.11b",
        Patch(
            _COMMIT,
            "        state.effects.commits.append(note)\n",
            "        state.effects.commits.append(note)\n        self.on_durable(instance.id)\n",
        ),
        draw=FORGETFUL,
    ),
    Mutant(
        "near-what-was-annulled",
        "an owner takes the no-ops that its restart votes for as durable proposals, which the next restart does not",
        "3.3, 4.11b",
        Patch(_COMMIT, " and place.slot >= self.first_slot:", ":"),
        draw=FORGETFUL,
    ),
    Mutant(
        "floor-not-raised",
        "a restart uses the slots again of which it has no record",
        "3.3, 4.11b",
        Patch(
            _RESTART,
            "    if durable_slot >= 0 and state.settings.ahead and state.peers:\n",
            "    if False:\n",
        ),
        draw=FORGETFUL,
    ),
    Mutant(
        "floor-not-covered",
        "a restart leaves alone the slots of which it has no record, and does not cover them",
        "3.4, 4.11b",
        Patch(
            _STATE,
            "            self.conflicts.raise_vectors(self.logs.no_deps, tuple(self.floors))\n",
            "",
        ),
        draw=FORGETFUL,
        damage=FORGETFUL_5,
    ),
    Mutant(
        "floor-above-the-log-only",
        "the floor is reckoned from the records in the log, without those that have been dropped",
        "4.11b, 4.10",
        Patch(
            _RESTART,
            "max(logs.truncated[state.me], durable.executed[state.me], *proposed, -1)",
            "max(*proposed, -1, -1)",
        ),
        draw=FORGETFUL._replace(
            name="owners that forget and drop, n=3",
            times=(*FORGETFUL.times, ("checkpoint", 1.0)),
            options=(*FORGETFUL.options, ("checkpoint_size", 1), ("retain", 0)),
        ),
    ),
    Mutant(
        "collection-forgotten",
        "an owner proposes a collection without a record; the floor covers it without its base",
        "4.11b, 4.13",
        Patch(_COMMIT, "return is_near and command.base is None and", "return is_near and"),
    ),
    Mutant(
        "annulled-over-a-promise",
        "a restart votes at ballot 0 for a no-op where it has promised a higher one",
        "4.11b, 4.6",
        Patch(
            _RESTART,
            "(forgotten.bal == 0 and forgotten.phase is Phase.INITIAL)",
            "forgotten.phase is Phase.INITIAL",
        ),
        draw=FORGETFUL,
    ),
    Mutant(
        "fast-commit-not-durable",
        "a fast decision is announced before it is durable at the owner",
        "4.5",
        Patch(
            _COMMIT,
            "            state.effects.deferrable.append((holders, Commit",
            '            early = leading.path == "fast"\n'
            "            channel = state.effects.messages if early else state.effects.deferrable\n"
            "            channel.append((holders, Commit",
        ),
        damage=SLOW_DISKS,
    ),
)

POWER: Final = Draw(
    "loss of power, n=3",
    replicas=3,
    operations=12,
    faults="loss,reorder,crash,disk,power",
    times=(("phase", 60.0), ("think", 2.0), ("sync", 20.0)),
    options=(("dead", 1), ("comeback", 0.0), ("troubles", 4)),
)
"""What is promised is synced a good while later, and one machine dies."""

DISK: Final = (
    Mutant(
        "started-after-power-loss",
        'a replica whose machine has lost power under `sync` = "interval" is started on what is left',
        "4.11c, configuration",
        Patch(
            "epaxos.simulation.world.striking",
            "            self.replicas[fault.row].lose_power()\n",
            "            self.replicas[fault.row].lose_power()\n            self.replicas[fault.row].start()\n",
        ),
        draw=POWER,
    ),
    Mutant(
        "unsynced-lost-with-process",
        "a process that dies takes with it what was not synced",
        "4.11, configuration",
        Patch(
            _DISK,
            "        self._crashes += 1\n",
            "        self._crashes += 1\n        if self._sync:\n            self.lose_power()\n",
        ),
        draw=POWER,
    ),
    Mutant(
        "init-not-encoded",
        "the record on the disk lacks what the owner proposed",
        "4.2, storage.records",
        Patch(_RECORDS, "kind, record.deps, record.seq, init)", "kind, record.deps, record.seq, None)"),
    ),
    Mutant(
        "truncation-not-written",
        "a restart does not know up to where its log was dropped",
        "4.10, storage.journal",
        Patch(
            _JOURNAL,
            "self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), [*self._taken(), note])",
            "self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), self._taken())",
        ),
        schedule="tests/unit/storage/test_journal.py::test_a_restart_knows_up_to_where_the_log_was_dropped",
    ),
    Mutant(
        "failed-write-ignored",
        "a replica whose disk fails goes on, and promises what is not durable",
        "2.1",
        Patch(_DISK, "        if not self.failing:\n            return\n", "        return\n"),
        Patch(
            _DISK,
            "    def _keep(self, write: Write) -> None:\n",
            "    def _keep(self, write: Write) -> None:\n        if self.failing:\n            return\n",
        ),
    ),
)
