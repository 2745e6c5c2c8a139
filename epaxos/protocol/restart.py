"""Coming back with the records that were made durable before (protocol 4.11a)."""

from __future__ import annotations

from collections.abc import Iterable

from epaxos.protocol.commit import CommitProtocol
from epaxos.protocol.contract import Decided
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance, Phase
from epaxos.protocol.state import State


def load(state: State, commit: CommitProtocol, records: Iterable[Instance]) -> None:
    """Fill the log and the indexes from durable records, one per instance.

    The conflict index is complete again because every payload ever learned is in some record's `orig`; what was
    only heard of comes back from the dependency vectors, so that its recovery is not forgotten.
    """
    for record in records:
        state.logs.rows[record.id.row][record.id.slot] = record
        state.hear_of_instance(record.id)
        state.hear_of(record.deps)
        if record.init is not None:
            state.hear_of(record.init.deps)
    for row, instances in enumerate(state.logs.rows):
        for slot in sorted(instances):
            orig = instances[slot].orig
            if orig is not None:
                state.conflicts.add(InstanceId(row, slot), orig)
        state.logs.advance_committed(row)
    commit.reserve(state.seen[state.me])


def resume(state: State, commit: CommitProtocol) -> None:
    """Execute what is decided, and go on with what this replica owned at ballot 0.

    Other recoveries are forgotten; a new one takes a ballot above the stored one.
    """
    for instances in state.logs.rows:
        decided_up_to = -1
        for slot in sorted(instances):
            instance = instances[slot]
            if instance.phase is Phase.COMMITTED and instance.value is not None:
                decided_up_to += slot == decided_up_to + 1
                decided = Decided(instance.id, instance.value, instance.deps, instance.seq)
                state.effects.executions += state.executor.decide(decided, decided_up_to)
    own = state.logs.rows[state.me]
    for slot in sorted(own):
        instance = own[slot]
        if instance.bal == 0 and instance.phase in (Phase.PREACCEPTED, Phase.ACCEPTED):
            commit.resume(instance)
