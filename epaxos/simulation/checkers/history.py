"""Linearizability of what clients were told, with the execution order as the witness.

The witness explains every result already (`results`). What is left is real time: each command needs a moment
between being asked for and being answered, in an order that agrees with the witness wherever two commands
conflict. Taking the earliest moment possible for each decides that in one pass: an answer before that moment means
that conflicts and real time contradict each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.contents import Asked
from epaxos.simulation.checkers.reference import ANY, EVERYTHING, touched
from epaxos.simulation.checkers.violation import ViolationError


def check_witness(witness: Iterable[Asked], calls: Mapping[tuple[int, int], Call]) -> None:
    """Check that executing in the order of `witness` respects real time.

    Raises:
        ViolationError: an answer came before the earliest moment that the order allows the command, or for
            a command that never executed.
    """
    after_write: defaultdict[bytes, float] = defaultdict(float)
    after_all: defaultdict[bytes, float] = defaultdict(float)
    executed = set()
    for asked in witness:
        name = (asked.client, asked.number)
        executed.add(name)
        call = calls[name]
        reads, writes = touched([asked.command])
        found = {EVERYTHING, *reads} - writes if reads or writes else set[bytes]()
        met = {ANY, *writes} if writes else set[bytes]()
        moment = max([call.invoked, *(after_write[key] for key in found), *(after_all[key] for key in met)])
        if call.answered is not None and call.answered < moment:
            text = (
                f"command {asked.number} of client {asked.client} was answered at {call.answered:.6f}, but "
                f"executes after something that was asked for at {moment:.6f}"
            )
            raise ViolationError("linearizability", text, calls=(name,))
        for key in writes:
            after_write[key] = after_all[key] = moment
        for key in found:
            after_all[key] = max(moment, after_all[key])
        if writes:
            after_write[ANY] = max(moment, after_write[ANY])
    for name, call in calls.items():
        if call.answered is not None and name not in executed and not call.looked:
            text = f"command {call.number} of client {call.client} was answered and never executed"
            raise ViolationError("linearizability", text, calls=(name,))
