"""The order inside a closed cut: Tarjan's component search over prefix dependencies, without recursion.

An edge list would have a length quadratic in the cut, since every instance depends on whole prefixes. Two facts
keep the search linear:

- *Unvisited* members of a row are visited in ascending order, so one cursor a row serves all instances:
  what lies below the cursor has been visited by somebody.
- For the *visited* members of a prefix only the earliest one still on the stack matters (its low-link).
  Members are visited in ascending order but for the member where the search began, and a stack loses its
  latest members first; so the earliest one on the stack in a prefix is among the few which had, when they
  were pushed, the lowest slot of their row on the stack. `_Row.on_stack` keeps just these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epaxos.protocol.contract import Component, Decided
from epaxos.protocol.execution.pending import Pending
from epaxos.protocol.ids import Slot
from epaxos.protocol.log import NOP


class _Row:
    """The members of the cut in one row, ascending, and how far the search has come in it."""

    __slots__ = ("cursor", "members", "on_stack")

    def __init__(self, members: Sequence[Pending]) -> None:
        self.members = members
        self.cursor = 0
        self.on_stack: list[tuple[Slot, int]] = []

    def next_unvisited(self, top: Slot) -> Pending | None:
        """The lowest unvisited member at or below slot `top`."""
        members = self.members
        while self.cursor < len(members):
            member = members[self.cursor]
            if member.decided.id.slot > top:
                return None
            self.cursor += 1
            if member.index < 0:
                return member
        return None

    def push(self, slot: Slot, index: int) -> None:
        if not self.on_stack or slot < self.on_stack[-1][0]:
            self.on_stack.append((slot, index))

    def pop(self, index: int) -> None:
        """Forget the members that were visited at `index` or later."""
        while self.on_stack and self.on_stack[-1][1] >= index:
            self.on_stack.pop()

    def earliest(self, top: Slot, low: int) -> int:
        """The earliest index on the stack at or below slot `top`, if earlier than `low`."""
        for slot, index in self.on_stack:
            if index >= low:
                break
            if slot <= top:
                return index
        return low


def components(start: Pending, cut: Sequence[Sequence[Pending]]) -> Iterator[Component]:
    """The components of a closed cut, dependencies first.

    `cut` holds the unexecuted instances of the closure of `start`, one ascending sequence per row. Inside a
    component the order is (seq, row, slot), barriers last (protocol 6.4): a property of the decision alone, so every
    replica, whatever it executed before and from wherever it begins, runs conflicting commands in the same order.
    """
    rows = [_Row(members) for members in cut]
    stack: list[Pending] = []
    path = [_visit(start, stack, rows, 0)]
    visited = 1
    while path:
        member = path[-1]
        child = _next_child(member, rows)
        if child is not None:
            path.append(_visit(child, stack, rows, visited))
            visited += 1
            continue
        path.pop()
        for row, top in zip(rows, member.decided.deps, strict=True):
            member.low = row.earliest(top, member.low)
        if path:
            path[-1].low = min(path[-1].low, member.low)
        if member.low == member.index:
            yield _pop_component(member, stack, rows)


def _visit(member: Pending, stack: list[Pending], rows: Sequence[_Row], index: int) -> Pending:
    member.index = member.low = index
    stack.append(member)
    rows[member.decided.id.row].push(member.decided.id.slot, index)
    return member


def _next_child(member: Pending, rows: Sequence[_Row]) -> Pending | None:
    for row, top in zip(rows, member.decided.deps, strict=True):
        child = row.next_unvisited(top)
        if child is not None:
            return child
    return None


def _pop_component(root: Pending, stack: list[Pending], rows: Sequence[_Row]) -> Component:
    for row in rows:
        row.pop(root.index)
    members = [stack.pop().decided]
    while members[-1] is not root.decided:
        members.append(stack.pop().decided)
    if len(members) > 1:
        members.sort(key=_execution_order)
    return tuple(members)


def _execution_order(decided: Decided) -> tuple[bool, int, int, Slot]:
    return (ends(decided), decided.seq, *decided.id)


def ends(decided: Decided) -> bool:
    """Whether an epoch may end with an instance."""
    return decided.value is not NOP and decided.value.ends
