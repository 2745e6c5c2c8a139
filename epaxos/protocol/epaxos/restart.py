"""Coming back with what was made durable before (protocol 4.11)."""

from __future__ import annotations

from epaxos.protocol.contract import Durable
from epaxos.protocol.epaxos.checkpoint import Checkpoints, adopted_frontier
from epaxos.protocol.epaxos.commit import CommitProtocol
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.execution.executor import Executor
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance, Phase


def load(state: State, commit: CommitProtocol, durable: Durable) -> None:
    """Fill the log and the indexes from durable records, one per instance, and the cut of the last checkpoint.

    The conflict index is complete once the checkpoint's part of it is added (`EPaxos.remember`): every other payload
    ever learned is in some record's `orig`. What was only heard of comes back from the dependency vectors, so that its
    recovery is not forgotten; those of dropped instances have executed, and so are covered by the cut.

    The checkpoint may have been adopted from a peer, and the log know nothing of that yet: then the log has gaps
    below the cut, and is dropped here; and entries above the cut are missing, which are added.

    Of the own row slots may have been used of which there is nothing: they are below the floor (protocol 4.11b).
    """
    logs = state.logs
    logs.truncate(durable.truncated)
    state.raise_vectors(durable.vectors)
    for record in durable.records:
        logs.rows[record.id.row][record.id.slot] = record
        state.hear_of_instance(record.id)
        state.hear_of(record.deps)
        if record.init is not None:
            state.hear_of(record.init.deps)
    state.hear_of(durable.executed)
    for entry in missing_entries(state, durable):
        known = logs.get(entry.id)
        # As where it is decided (`State.commit`): what was promised and learned here stays.
        entry.bal, entry.abal = (0, 0) if known is None else (known.bal, known.abal)
        if (
            known is not None and entry.orig is None
        ):  # the peer annulled it without knowing the payload (1, D)
            entry.orig = known.orig
        logs.rows[entry.id.row][entry.id.slot] = entry
        state.hear_of_instance(entry.id)
        state.hear_of(entry.deps)
    for row, instances in enumerate(logs.rows):
        for slot in sorted(instances):
            orig = instances[slot].orig
            if orig is not None:
                state.know(InstanceId(row, slot), orig)
        logs.advance_committed(row)
    logs.truncate(adopted_frontier(logs, durable.executed))
    state.executor = Executor(state.n, durable.executed, [entry.id for entry in durable.entries])
    state.forget_annulled_barriers()
    if not state.votes:
        return
    proposed = (slot for slot, record in logs.rows[state.me].items() if record.orig is not None)
    durable_slot = max(logs.truncated[state.me], durable.executed[state.me], *proposed, -1)
    if durable_slot >= 0 and state.settings.ahead and state.peers:
        floors = list(logs.no_deps)
        floors[state.me] = max(state.seen[state.me], durable_slot + state.settings.ahead)
        state.cover_floors(floors)
    commit.reserve(durable_slot, state.seen[state.me])


def missing_entries(state: State, durable: Durable) -> list[Instance]:
    """The entries of the checkpoint that are not decided in the log."""
    return [
        entry
        for entry in durable.entries
        if entry.id.slot > state.logs.truncated[entry.id.row]
        and ((instance := state.logs.get(entry.id)) is None or instance.phase is not Phase.COMMITTED)
    ]


def resume(state: State, commit: CommitProtocol, checkpoints: Checkpoints, durable: Durable) -> None:
    """Execute what is decided and not in the checkpoint, and go on with what this replica owned at ballot 0.

    Other recoveries are forgotten; a new one takes a ballot above the stored one. What it owned and has forgotten is
    annulled at once, since from now on everything depends on it.
    """
    frontier = tuple(state.logs.truncated)
    if frontier != tuple(durable.truncated):
        state.effects.truncate = frontier
    for entry in durable.entries:
        if state.logs.get(entry.id) is entry:
            state.record(entry)
    checkpoints.keep_all()
    state.execute_decided()
    if state.executor.over is not None or not state.votes:
        return  # whoever has come to the end proposes nothing and asks for no vote
    own = state.own
    for slot in sorted(own):
        instance = own[slot]
        if instance.bal == 0 and instance.phase in (Phase.PREACCEPTED, Phase.ACCEPTED):
            commit.resume(instance)
    for slot in range(state.logs.committed[state.me] + 1, state.floors[state.me] + 1):
        place = InstanceId(state.me, slot)
        forgotten = state.logs.get(place)
        if forgotten is None or (forgotten.bal == 0 and forgotten.phase is Phase.INITIAL):
            commit.annul(place)
