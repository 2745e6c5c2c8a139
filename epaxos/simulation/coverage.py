"""What a run exercised, counted from outside: a simulator that never met a case has shown nothing about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from epaxos.protocol.contract import Component, Effects, Event, Over
from epaxos.protocol.epaxos.messages import Commit, Nack, Recover
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.kinds import EPAXOS
from epaxos.protocol.log import NOP, Instance, Phase
from epaxos.protocol.membership import Configuration
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.replica import Replica
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.results import BatchResult

CASES: Final = range(2, 14)
"""The cases in the decision of a recovery (protocol 4.7). In case 1 a replica that knows the decision answers with
it, and so the recovery ends by a Commit."""

OFTEN: Final = 5_000
"""So many seeds must meet each of the usual events; the rarest of them comes in one of 300."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "commits": (
        "commit: fast",
        "commit: slow",
        "commit: recovered",
        "proposed without a record",
        "forgotten place annulled",
    ),
    "execution": (
        "component of several",
        "component of more than two",
        "no-op executed",
        "no-op for a slot that only its owner knew",
        "payload proposed again after a no-op",
        "duplicate command executed once",
    ),
    "recovery": (
        "recovery started",
        "recovery ended by a Commit",
        *(f"recovery case {case}:" for case in CASES),
        "recovery given up",
        "deadline brought forward",
        "duel: two replicas recover an instance",
        "duel: three replicas or more",
        "nack",
    ),
    "checkpoints": (
        "checkpoint",
        "checkpoint written for a peer alone",
        "blocks of a checkpoint sifted",
        "truncated",
        "told of truncation",
        "adopted a checkpoint",
        "answered from what was adopted",
        "collection executed",
        "session ended before its client",
    ),
    "epochs": (
        "refresh proposed",
        "other members proposed",
        "replica joined",
        "dead replica replaced",
        "lost disk replaced",
        "all members replaced at once",
        "members become 7",
        "members become 1",
        "replica stopped that n - f can do without",
        "clients sent elsewhere by one without a vote",
        "removed replica looks on",
        "removed replica leaves",
        "other thresholds proposed",
        "another protocol proposed",
        "epoch of another protocol",
        "another protocol by a peer's checkpoint",
        "refresh refused",
        "barrier won",
        "barrier lost",
        "barrier annulled",
        "barrier recovered",
        "kept for the end",
        "command left over by an epoch",
        "silent after the end",
        "told of the end",
        "message of another epoch dropped",
        "message of the next epoch kept",
        "epoch from a peer's checkpoint",
        "epochs slept through",
        "three epochs slept through",
    ),
    "reads": (
        "read: quorum",
        "read: local",
        "read: by the log after all",
        "read waits for what was heard of",
        "read given up",
        "keys found in order",
        "keys found by a walk",
        "list left out",
    ),
    "replicas": (
        "replica restarted",
        "replica restarted with open instances",
        "replica restarted from a checkpoint",
        "replica dead for good",
        "promises lost with the power",
        "crash between two effects",
        "write torn by a crash",
        "replica paused",
        "slow disk",
        "disk failed",
        "replica back without its disk",
        "replica without its disk refused",
        "replica asleep in a PAUSE",
        "clock drifts",
        "peer reported offline",
        "message to an offline peer dropped",
        "message to an earlier incarnation dropped",
    ),
    "network": (
        "message lost",
        "message duplicated",
        "message overtaken",
        "queue of a link full",
        "storm",
        "partition: halves",
        "partition: one way out",
        "partition: one way in",
        "partition: alone",
        "partition: bridge",
        "partition: single links",
    ),
    "clients": (
        "client's message lost",
        "client retried elsewhere",
        "retry split in two",
        "retry joined with another frame",
        "client gave up",
        "multi done",
        "multi aborted",
    ),
    "watchers": (
        "watcher told of changes",
        "watcher told its position",
        "watcher told the state",
        "watcher told of a gap",
        "watcher went elsewhere",
        "watcher's message lost",
    ),
}
"""All that a large number of seeds must meet: the names of marks, or their beginnings up to a colon."""

LED: Final[dict[str, tuple[str, ...]]] = {
    "commits": ("commit: led", "commit: forwarded", "commit: recovered"),
    "execution": ("no-op executed", "duplicate command executed once"),
    "elections": (
        "campaign",
        "campaign failed",
        "candidate gave up before a happy one",
        "elected",
        "deposed",
        "leader behind what others have dropped",
        "leader outvoted",
        "leads above what it lacks",
        "handed over",
        "leader without what lies below its start",
        "lower ballot refused",
    ),
    "votes": (
        "proposed again by a new leader",
        "gap annulled",
        "voted anew for another value",
        "decision told",
        "decision differs from the own vote",
        "payload sent again",
    ),
    "forwarding": ("forwarded again", "command passed on"),
}
"""What of a protocol with a leader must be met instead of what EPaxos alone has."""


_OF_EPAXOS: Final = frozenset({"barrier lost", "barrier annulled", "silent after the end"})
"""Marks of epochs that are not asked of a protocol with a leader: it puts nothing behind a barrier, so none loses."""

ACROSS: Final[dict[str, tuple[str, ...]]] = {
    "calls": (
        "command done",
        "command: no answer",
        "multi of one group done",
        "multi across groups done",
        "multi across groups: a condition failed",
        "multi across groups: no answer",
        "multi across groups: untold",
    ),
    "transactions": (
        "lock waited for",
        "transaction of somebody else ended",
        "coordinator renewed",
        "answer of a transaction not kept",
        "caller died",
        "caller died in a call",
        "record ended by an operator",
        "history: linearizable",
    ),
    "replicas": (
        "replica restarted",
        "replica restarted from a checkpoint",
        "replica dead for good",
        "replica back without its disk",
        "adopted a checkpoint",
        "collection executed",
        "session ended before its client",
        "client's message lost",
        "duplicate command executed once",
    ),
}
"""What seeds of groups must meet (`simulation.groups`)."""


def groups_of(protocol: str) -> dict[str, tuple[str, ...]]:
    """All that a large number of seeds of a protocol must meet, or of groups of clusters."""
    if protocol == "groups":
        return ACROSS
    if protocol == EPAXOS.name:
        return GROUPS
    common = {
        group: GROUPS[group]
        for group in ("checkpoints", "reads", "replicas", "network", "clients", "watchers")
    }
    common["replicas"] += ("replica takes leave",)
    common["clients"] += ("clients sent away from where nobody leads",)
    common["network"] += ("partition: lone link", "partition: chain")
    common["epochs"] = ("epoch over", *(mark for mark in GROUPS["epochs"] if mark not in _OF_EPAXOS))
    return LED | common


RARE: Final = {
    "recovery case 10:": 100_000,
    "recovery case 12:": 100_000,
    "three epochs slept through": 20_000,
    "all members replaced at once": 20_000,
    "members become 7": 20_000,
    "members become 1": 20_000,
}
"""What comes in one of some thousand seeds; so many must have met it."""


class Coverage(Observer):
    """Counts `marks` of one run, or with those of other epochs of one."""

    def __init__(self, marks: Counter[str] | None = None) -> None:
        self.marks: Counter[str] = Counter() if marks is None else marks
        self._barriers: set[InstanceId] = set()
        self._decided: set[InstanceId] = set()
        self._winner: InstanceId | None = None
        self._epochs: dict[Row, int] = {}
        self._recoverers: defaultdict[InstanceId, set[Row]] = defaultdict(set)
        self._holders: defaultdict[InstanceId, set[Row]] = defaultdict(set)
        self._recovering: set[tuple[Row, InstanceId]] = set()
        self._annulled: set[InstanceId] = set()
        self._executed: set[InstanceId] = set()

    def of_epoch(self, configuration: Configuration) -> Coverage:
        """See `Observer`."""
        return Coverage(self.marks) if configuration.epoch else self

    def ended(self, row: Row, over: Over, digest: str) -> None:
        """See `Observer`."""
        del row, digest
        self.marks["command left over by an epoch"] += len(over.left)
        if self._winner is None:
            self._winner = over.barrier.id
            self.marks["barrier won"] += 1
            self.marks["barrier lost"] += len(self._decided - {self._winner})

    def entered(self, row: Row, configuration: Configuration) -> None:
        """See `Observer`."""
        slept = configuration.epoch - self._epochs.get(row, 0)
        self._epochs[row] = configuration.epoch
        if slept > 1:
            self.marks["epochs slept through"] += 1
        if slept >= 3:
            self.marks["three epochs slept through"] += 1

    def _note_barrier(self, record: Instance) -> None:
        """Of barriers counts what becomes of them, each once."""
        place = record.id
        self._barriers.add(place)
        if record.phase is Phase.COMMITTED and place not in self._decided:
            if record.value is NOP:
                self.marks["barrier annulled"] += 1
            elif self._winner is not None and place != self._winner:
                self.marks["barrier lost"] += 1
            if record.value is not NOP:
                self._decided.add(place)

    def noted(self, mark: str) -> None:
        """See `Observer`."""
        self.marks[mark] += 1

    def handled(self, row: Row, event: Event[Any], effects: Effects[Any]) -> None:
        """See `Observer`."""
        del event
        for note in effects.commits:
            self.marks[f"commit: {note.path}"] += 1
            self._recovering.discard((row, note.id))
            if note.id in self._barriers and note.path == "recovered":
                self.marks["barrier recovered"] += 1
        for record in effects.records:
            if record.orig is not None and record.orig.ends:
                self._note_barrier(record)
            if record.init is not None:
                self._holders[record.id].add(row)
            if record.phase is Phase.COMMITTED and (row, record.id) in self._recovering:
                self._recovering.remove((row, record.id))
                self.marks["recovery ended by a Commit"] += 1

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        del receivers
        if isinstance(message, Recover):
            self._recovering.add((row, message.id))
            recoverers = self._recoverers[message.id]
            if row not in recoverers:
                recoverers.add(row)
                if len(recoverers) == 2:
                    self.marks["duel: two replicas recover an instance"] += 1
                elif len(recoverers) == 3:
                    self.marks["duel: three replicas or more"] += 1
        elif isinstance(message, Nack):
            self.marks["nack"] += 1
        elif isinstance(message, Commit) and message.value is NOP and message.id not in self._annulled:
            self._annulled.add(message.id)
            if self._holders[message.id] == {message.id.row}:
                self.marks["no-op for a slot that only its owner knew"] += 1

    def executed(self, row: Row, component: Component, results: Sequence[Sequence[BatchResult]]) -> None:
        """See `Observer`."""
        del row, results
        if component[0].id in self._executed:
            return
        self._executed.update(decided.id for decided in component)
        if len(component) > 1:
            self.marks["component of several"] += 1
        if len(component) > 2:
            self.marks["component of more than two"] += 1
        self.marks["no-op executed"] += sum(decided.value is NOP for decided in component)
        self.marks["collection executed"] += sum(
            decided.value is not NOP and decided.value.base is not None for decided in component
        )

    def started(
        self, row: Row, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """See `Observer`."""
        del row
        if above or max(executed) >= 0:
            self.marks["replica restarted from a checkpoint"] += 1
        if records:
            self.marks["replica restarted"] += 1
            if any(record.phase is not Phase.COMMITTED for record in records.values()):
                self.marks["replica restarted with open instances"] += 1

    def answered(self, call: Call, row: Row) -> None:
        """See `Observer`."""
        del row
        if call.command.operation == Operation.MULTI and call.result is not None:
            aborted = call.result[0] == Outcome.ABORTED
            self.marks["multi aborted" if aborted else "multi done"] += 1

    def add_replica(self, replica: Replica) -> None:
        """Take what a replica's core and state machine counted themselves."""
        for name, count in replica.coverage.items():
            if name.startswith("case "):
                self.marks[f"recovery {name}"] += count
            elif name not in _COUNTED_HERE:
                self.marks[_NAMES.get(name, name)] += count


_COUNTED_HERE: Final = {"nack", "fast commit", "slow commit", "recovered commit"}
"""What a core counts and this module counts too, from outside."""

_NAMES: Final = {"proposed again": "payload proposed again after a no-op"}


def unmet(marks: Mapping[str, int], protocol: str = EPAXOS.name) -> dict[str, int]:
    """What stands in none of these marks, though enough seeds must meet it; with how many are enough."""
    return {
        name: RARE.get(name, OFTEN)
        for names in groups_of(protocol).values()
        for name in names
        if not any(marks[mark] for mark in marks if _is_of(mark, name))
    }


def grouped(marks: Mapping[str, int], protocol: str = EPAXOS.name) -> dict[str, list[str]]:
    """The names of marks in the order of their groups, by group; those of no group come last."""
    found = {
        group: [mark for name in names for mark in sorted(marks) if marks[mark] and _is_of(mark, name)]
        for group, names in groups_of(protocol).items()
    }
    known = {mark for group in found.values() for mark in group}
    found["others"] = sorted(mark for mark in marks if marks[mark] and mark not in known)
    return {group: names for group, names in found.items() if names}


def _is_of(mark: str, name: str) -> bool:
    return mark == name or (name.endswith(":") and mark.startswith(name))
