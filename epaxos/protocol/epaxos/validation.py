"""Which instances speak against a fast decision: the set I of Validate (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterator

from epaxos.protocol.command import Command
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import NOP, Instance, Phase


class _Footprint:
    """The keys of a command, for comparing it with many others."""

    def __init__(self, command: Command) -> None:
        self._writes = frozenset(command.writes)
        self._keys = self._writes.union(command.reads)

    def conflicts(self, other: Command) -> bool:
        """Whether the two share a key that at least one of them writes."""
        return not (self._keys.isdisjoint(other.writes) and self._writes.isdisjoint(other.reads))


def against(
    state: State, place: InstanceId, command: Command, deps: Vector
) -> Iterator[tuple[InstanceId, Phase]]:
    """The instances known here that a fast decision of `place` with `deps` contradicts.

    Such an instance conflicts with the command, is not among its dependencies and does not depend on it:
    neither covers the other, which two fast or committed instances never do (Visibility). A decided one settles
    the matter; an undecided one, of which only the owner's proposal is known, has to be waited for.

    The conflict index rules out whole rows: only where it knows of something above `deps` is the row
    looked through. Of dropped entries the index of executed commands speaks (protocol 3.6b): what has executed here
    while `place` is not even decided here does not depend on it. The index of known payloads must not speak for
    them, since they may have been annulled (3.6c).
    """
    footprint = _Footprint(command)
    executed = state.executed.deps(command)
    for row, highest in enumerate(state.conflicts.deps(command)):
        if executed[row] > deps[row]:
            yield InstanceId(row, executed[row]), Phase.COMMITTED
        instances = state.logs.rows[row]
        for slot in range(max(deps[row], state.logs.truncated[row]) + 1, highest + 1):
            instance = instances.get(slot)
            if instance is not None and instance.id != place and _contradicts(instance, place, footprint):
                yield instance.id, instance.phase


def _contradicts(instance: Instance, place: InstanceId, footprint: _Footprint) -> bool:
    if instance.phase is Phase.COMMITTED:
        if instance.value is NOP or instance.value is None:
            return False
        return footprint.conflicts(instance.value) and not covers(instance.deps, place)
    if instance.init is None:
        return False
    return footprint.conflicts(instance.init.command) and not covers(instance.init.deps, place)
