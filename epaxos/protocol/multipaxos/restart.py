"""Coming back with what was made durable before (multipaxos 6): as a follower, whose promise and votes stand."""

from __future__ import annotations

from epaxos.errors import InvariantError
from epaxos.protocol.contract import Durable
from epaxos.protocol.log import Phase
from epaxos.protocol.multipaxos.state import LOG, VIEW, State


def load(state: State, durable: Durable) -> None:
    """Fill the log from durable records, one per place, and the cut of the last checkpoint.

    What is decided: all in the checkpoint, all that was dropped, all up to what the VIEW says, and what was recorded as
    decided since the own vote does not say it. A crash between an adopted checkpoint and what follows from it leaves a
    log with gaps below the cut, which is dropped here.
    """
    state.logs.truncate(durable.truncated)
    chosen = -1
    for record in durable.records:
        if record.id == VIEW:
            state.view = record
            chosen = record.deps[LOG]
        else:
            state.loaded(record)
    for record in state.log.values():
        state.view.bal = max(record.bal, state.view.bal)
    state.hear_of(state.view.bal)
    executed = durable.executed[LOG]
    for slot in range(max(executed, state.truncated) + 1, chosen + 1):
        decided = state.log.get(slot)
        if decided is None or decided.value is None:
            raise InvariantError(f"slot {slot} is decided by the VIEW, but its record is {decided!r}")
        decided.phase = Phase.COMMITTED
    for slot in range(state.truncated + 1, executed + 1):
        record_below = state.log.get(slot)
        if record_below is None or (record_below.phase is not Phase.COMMITTED and slot > chosen):
            state.logs.truncate((executed, -1))
            break
        record_below.phase = Phase.COMMITTED
    state.logs.advance_committed(LOG)
    state.executed = max(executed, state.truncated)
    state.top = max(state.top, state.committed)
