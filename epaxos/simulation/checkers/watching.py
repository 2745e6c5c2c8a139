"""Watchers: each is told all that happens to its keys, of each key in its order, and nothing that did not happen.

What happened is what the plain store says (`results`), instance by instance. A position says which instances a watcher
has been told of: of each key they must be the first ones that changed it, and just those that it was told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from epaxos.protocol.ids import InstanceId
from epaxos.simulation.checkers.reference import Command, Result, State, execute, parts_of
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.statemachine.operations import GROUP_MAP, ON_ALL, RECORDS, Operation, Outcome
from epaxos.watching.position import Position

_SETTING = (Operation.WRITE, Operation.WRITEREAD, Operation.SETEX)


class Change(NamedTuple):
    """What an instance of an epoch did to a key; None if it removed it."""

    epoch: int
    place: InstanceId
    value: bytes | None


def changes_of(
    before: State, after: State, command: Command, result: Result, longest: int, by: tuple[int, int]
) -> Iterator[tuple[bytes, bytes | None]]:
    """What a command changed, in order: a value that is set is a change, even if it is the one that was there."""
    operation, key, _ = command
    if operation == Operation.MULTI and result[0] == Outcome.DONE:
        state = dict(before)
        for place, part in enumerate(parts_of(command)):
            previous = dict(state)
            its = execute(state, part, longest, (*by, place))
            yield from changes_of(previous, state, part, its, longest, by)
    elif operation in ON_ALL:
        yield from ((one, None) for one in sorted(before) if one not in after and not one.startswith(b"\0"))
    elif (operation in _SETTING and result[0] == Outcome.DONE) or before.get(key) != after.get(key):
        yield key, after.get(key)


class View:
    """What one watcher has been told; `upto` is the last key of the state that it knows, None for all of it."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.position: Position | None = None
        self.upto: bytes | None = None
        self.told: dict[bytes, int] = {}
        """Of each key, how many changes it was told of, or had happened before it began."""


class Watching:
    """Knows all changes of all keys, in their order."""

    def __init__(self) -> None:
        self._changes: defaultdict[bytes, list[Change]] = defaultdict(list)

    def changed(self, epoch: int, place: InstanceId, key: bytes, value: bytes | None) -> None:
        """An instance has done this to a key, for the first time at any replica; the service's own are not told."""
        if key.startswith(RECORDS) or key == GROUP_MAP:
            return
        self._changes[key].append(Change(epoch, place, value))

    def begin(self, view: View, position: Position, upto: bytes | None) -> None:
        """A watcher begins here, with keys up to one of which it will be told the state."""
        view.position, view.upto, view.told = position, upto, {}
        for key in self._keys(view):
            view.told[key] = self._count(key, position)

    def go_back(self, view: View) -> None:
        """It goes on from its position, and perhaps is told again of an instance of which that does not hold all."""
        if view.position is not None:
            view.told = {key: self._count(key, view.position) for key in self._keys(view)}

    def tell(
        self,
        view: View,
        keys: Sequence[bytes],
        values: Sequence[bytes | None],
        position: Position,
        *,
        cut: bool,
    ) -> None:
        """A watcher has been told of changes, and is at a position now; `cut` if that does not hold all of the last.

        Raises:
            ViolationError: one is missing, or not in its order, or did not happen.
        """
        for key, value in zip(keys, values, strict=True):
            told = view.told.get(key, 0)
            changes = self._changes[key]
            if not key.startswith(view.prefix) or (view.upto is not None and key > view.upto):
                raise _wrong(view, f"it was told of {key!r}, of which it did not ask")
            if told >= len(changes) or changes[told].value != value:
                wanted = changes[told].value if told < len(changes) else "nothing"
                raise _wrong(
                    view, f"of {key!r} it was told {value!r} where {wanted!r} follows, the change {told}"
                )
            view.told[key] = told + 1
        if view.position is not None and not position.includes(view.position):
            raise _wrong(view, f"it comes back to {position}")
        for key in self._keys(view):
            count, told = self._count(key, position), view.told.get(key, 0)
            if told < count or (told > count and not cut):
                raise _wrong(view, f"of {key!r} it was told {told} changes, and {position} holds {count}")
        view.position = position

    def tell_state(
        self,
        view: View,
        keys: Sequence[bytes],
        values: Sequence[bytes | None],
        more: bool,  # noqa: FBT001 - as in the answer
    ) -> None:
        """A watcher has been told what stands under the next keys at its position.

        Raises:
            ViolationError: something else does.
        """
        assert view.position is not None
        before, view.upto = view.upto, keys[-1] if more else None
        expected = {}
        for key in self._keys(view):
            if before is not None and key <= before:
                continue
            count = view.told[key] = self._count(key, view.position)
            value = self._changes[key][count - 1].value if count else None
            if value is not None:
                expected[key] = value
        if dict(zip(keys, values, strict=True)) != expected or list(keys) != sorted(expected):
            raise _wrong(
                view, f"it was told the state {dict(zip(keys, values, strict=True))}, which is {expected}"
            )

    def tell_place(self, view: View, place: Position | None) -> None:
        """A watcher says from where another one would go on.

        Raises:
            ViolationError: that is not its position, or it does not know all of the state yet.
        """
        if place != (view.position if view.upto is None else None):
            raise _wrong(view, f"with keys up to {view.upto!r} it says that another may go on from {place}")

    def knows_all(self, view: View) -> bool:
        """Whether a watcher has been told of all that has happened."""
        return view.upto is None and all(
            view.told.get(key, 0) == len(self._changes[key]) for key in self._keys(view)
        )

    def _keys(self, view: View) -> list[bytes]:
        keys = sorted(key for key in self._changes if key.startswith(view.prefix))
        return keys if view.upto is None else [key for key in keys if key <= view.upto]

    def _count(self, key: bytes, position: Position) -> int:
        """How many changes of a key a position holds: the first ones."""
        changes = self._changes[key]
        held = [position.contains(change.epoch, change.place) for change in changes]
        count = held.index(False) if False in held else len(held)
        if True in held[count:]:
            later = changes[held.index(True, count)]
            text = (
                f"{position} holds {later.place} and not {changes[count].place}, which changed {key!r} before"
            )
            raise ViolationError("watch", text, (later.place, changes[count].place))
        return count


def _wrong(view: View, text: str) -> ViolationError:
    return ViolationError("watch", f"a watcher of {view.prefix!r}, at {view.position}: {text}")
