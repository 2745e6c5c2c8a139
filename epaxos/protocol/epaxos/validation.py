"""Which instances speak against a fast decision: the set I of Validate (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterator

from epaxos.protocol.command import Command
from epaxos.protocol.epaxos.conflicts import covers_base, sees
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Instance, Phase


class _Footprint:
    """The keys of a command, for comparing it with many others."""

    def __init__(self, command: Command) -> None:
        self._conflicts_with_all = _conflicts_with_all(command)
        self._reads_all = command.reads_all
        self._writes = frozenset(command.writes)
        self._keys = self._writes.union(command.reads)

    def conflicts(self, other: Command) -> bool:
        """Whether the two share a key that at least one of them writes, or one of them conflicts with everything."""
        if self._conflicts_with_all or _conflicts_with_all(other):
            return True
        if (self._reads_all and other.writes) or (other.reads_all and self._writes):
            return True
        return not (self._keys.isdisjoint(other.writes) and self._writes.isdisjoint(other.reads))


def _conflicts_with_all(command: Command) -> bool:
    return command.base is not None or command.writes_all


def against(
    state: State, place: InstanceId, command: Command, deps: Vector
) -> Iterator[tuple[InstanceId, Phase]]:
    """The instances known here that a fast decision of `place` with `deps` contradicts.

    Such an instance conflicts with the command, is not among its dependencies and does not depend on it:
    neither covers the other, which two fast or committed instances never do (Visibility). A decided one settles
    the matter; an undecided one, of which only the owner's proposal is known, has to be waited for.

    The conflict index rules out whole rows: only where it knows of something above `deps` is the row
    looked through. Of dropped entries the index of executed commands speaks. The index of known payloads must not
    speak for them, since they may have been annulled (3.6c).
    """
    footprint = _Footprint(command)
    for found in executed_above(state, place, command, deps):
        yield found, Phase.COMMITTED
    for row, highest in enumerate(state.conflicts.deps(command)):
        instances = state.logs.rows[row]
        for slot in range(max(deps[row], state.logs.truncated[row]) + 1, highest + 1):
            instance = instances.get(slot)
            if (
                instance is not None
                and instance.id != place
                and _contradicts(instance, place, command, footprint)
            ):
                yield instance.id, instance.phase
    if not covers_base(deps, place.row, state.conflicts.base):
        for instance in _half_covered(state, place, deps):
            if _contradicts(instance, place, command, footprint):
                yield instance.id, instance.phase


def executed_above(state: State, place: InstanceId, command: Command, deps: Vector) -> list[InstanceId]:
    """What has executed here, in or out of the log, and speaks against a fast decision (protocol 3.6b, 4.13).

    It conflicts with the command and is above `deps`; and since it executed while `place` is not even decided here, it
    does not depend on it. Where the base of an executed collection is above `deps`, it is that collection that speaks,
    whatever stands at the place named.
    """
    return [
        InstanceId(row, slot)
        for row, slot in enumerate(state.executed.deps(command))
        if slot > deps[row] and row != place.row
    ]


def _half_covered(state: State, place: InstanceId, deps: Vector) -> list[Instance]:
    """The collections in the log that `deps` cover, but not their bases."""
    return [
        instance
        for known in sorted(state.collections)
        if known.slot <= deps[known.row]
        and (instance := state.logs.get(known)) is not None
        and instance.orig is not None
        and instance.orig.base is not None
        and not covers_base(deps, place.row, instance.orig.base)
    ]


def _contradicts(instance: Instance, place: InstanceId, command: Command, footprint: _Footprint) -> bool:
    if instance.phase is Phase.COMMITTED:
        if instance.value is NOP or instance.value is None:
            return False
        # In this order: what has executed may have let go of the keys that it touches.
        return not sees(instance.deps, instance.id.row, place, command) and footprint.conflicts(
            instance.value
        )
    if instance.init is None:
        return False
    init = instance.init
    return footprint.conflicts(init.command) and not sees(init.deps, instance.id.row, place, command)
