"""Mutants of the first invariant: what leaves a replica before its record is durable (protocol 2, 4.5)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_COMMIT: Final = "epaxos.protocol.epaxos.commit"
_RECOVERY: Final = "epaxos.protocol.epaxos.recovery"
_REPLICA: Final = "epaxos.simulation.world.replica"
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
        (
            Patch(
                _COMMIT,
                "state.promise((sender,), PreAcceptOK(message.id, deps, instance.seq))",
                "state.send((sender,), PreAcceptOK(message.id, deps, instance.seq))",
            ),
        ),
        damage=SLOW_DISKS,
    ),
    Mutant(
        "accept-ok-not-durable",
        "an AcceptOK leaves before its record is durable",
        "2.1",
        (
            Patch(
                _COMMIT,
                "state.promise((sender,), AcceptOK(message.id, message.ballot))",
                "state.send((sender,), AcceptOK(message.id, message.ballot))",
            ),
        ),
        damage=BUSY_DISKS,
    ),
    Mutant(
        "recover-ok-not-durable",
        "a RecoverOK leaves before its record is durable",
        "2.1",
        (Patch(_RECOVERY, "state.promise((sender,), answer)", "state.send((sender,), answer)"),),
        damage=BUSY_DISKS,
    ),
)

_EARLY_PRE_ACCEPT: Final = Patch(
    _COMMIT,
    "            state.promise(unknowing, whole)\n",
    "            (state.send if leading.stage is Stage.PRE else state.promise)(unknowing, whole)\n",
)

OWNER: Final = (
    Mutant(
        "pre-accept-not-durable",
        "the owner's PreAccept leaves before its record is durable, and a restart uses the slot again",
        "3.3",
        (_EARLY_PRE_ACCEPT,),
        damage=SLOW_DISKS,
    ),
    Mutant(
        "pre-accept-not-durable-no-reuse",
        "the same; slots come from a range reserved before, and none is used again",
        "3.4",
        (
            _EARLY_PRE_ACCEPT,
            Patch(
                _REPLICA, "        self.starts = 0\n", "        self.starts = 0\n        self._ceiling = -1\n"
            ),
            Patch(
                _REPLICA,
                "        self.machine = StateMachine(LIMITS, self._sleep, budget)\n",
                "        self.core._commit.reserve(self._ceiling)\n"
                "        self.machine = StateMachine(LIMITS, self._sleep, budget)\n",
            ),
            Patch(
                _REPLICA,
                "        self.fuse = None\n        self.count()\n",
                "        self.fuse = None\n"
                "        self._ceiling = self.core._commit._next_slot - 1\n"
                "        self.count()\n",
            ),
        ),
    ),
    Mutant(
        "fast-commit-not-durable",
        "a fast decision is announced before it is durable at the owner",
        "4.5",
        (
            Patch(
                _COMMIT,
                "            state.effects.deferrable.append((holders, Commit",
                '            early = leading.path == "fast"\n'
                "            channel = state.effects.messages if early else state.effects.deferrable\n"
                "            channel.append((holders, Commit",
            ),
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
        (
            Patch(
                "epaxos.simulation.world.striking",
                "            self.replicas[fault.row].lose_power()\n",
                "            self.replicas[fault.row].lose_power()\n            self.replicas[fault.row].start()\n",
            ),
        ),
        draw=POWER,
    ),
    Mutant(
        "unsynced-lost-with-process",
        "a process that dies takes with it what was not synced",
        "4.11, configuration",
        (
            Patch(
                _DISK,
                "        self._crashes += 1\n",
                "        self._crashes += 1\n        if self._sync:\n            self.lose_power()\n",
            ),
        ),
        draw=POWER,
    ),
    Mutant(
        "init-not-encoded",
        "the record on the disk lacks what the owner proposed",
        "4.2, storage.records",
        (Patch(_RECORDS, "kind, record.deps, record.seq, init)", "kind, record.deps, record.seq, None)"),),
    ),
    Mutant(
        "truncation-not-written",
        "a restart does not know up to where its log was dropped",
        "4.10, storage.journal",
        (
            Patch(
                _JOURNAL,
                "self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), [note])",
                "self._engine.drop_log(dropped_ranges(frontier, self._configuration.epoch), [])",
            ),
        ),
        schedule="tests/unit/storage/test_journal.py::test_a_restart_knows_up_to_where_the_log_was_dropped",
    ),
    Mutant(
        "failed-write-ignored",
        "a replica whose disk fails goes on, and promises what is not durable",
        "2.1",
        (
            Patch(_DISK, "        if not self.failing:\n            return\n", "        return\n"),
            Patch(
                _DISK,
                "    def _keep(self, write: Write) -> None:\n",
                "    def _keep(self, write: Write) -> None:\n        if self.failing:\n            return\n",
            ),
        ),
    ),
)
