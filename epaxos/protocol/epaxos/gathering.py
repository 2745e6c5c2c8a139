"""What has executed since the last cut, by key, for the next one (protocol 4.10).

**Read off, or gathered.** The index `known` has of each key and row the highest slot. Above what had executed at the
last cut that is of an instance which has executed since then, unless it was annulled or has not executed. So where no
slot of such a one stands in a copy of `known`, and no base there has risen above the last cut, the copy says what
adding up each command would come to: for 5 ns a command, where each key was touched a dozen times, and not for 127.
Else, and where less was touched than the index has, all is gathered one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from math import inf
from operator import le
from typing import Final

from epaxos.errors import InvariantError
from epaxos.protocol.backlog import Backlog
from epaxos.protocol.contract import Preparation
from epaxos.protocol.epaxos.conflicts import Conflicts, Executed, Joined, Touching, is_read_off
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import InstanceId, Slot, Vector
from epaxos.protocol.log import NOP, Instance

_GATHERED: Final = 150_000
"""Keys of an index that others join, or a few more: with them all in one dictionary it takes 7 ms to grow at 175,000,
and as long to go."""

_LOOKED_AT: Final = 4
"""Slots of a copy that are looked at in the time that it takes to gather a key."""

_PATIENCE: Final = 256
"""How often a cut is put off until what was read off has executed."""


class Gathered:
    """What some instances touch, in indexes of their own.

    What is done for each key of a large index is done once, when these join it, and for each command that touches the
    key no more than an update of a small dictionary. There are several, so that none is so large that its growth would
    stop the thread.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._room = _GATHERED
        self.indexes = deque([Conflicts(n)])

    def add(self, place: InstanceId, touching: Touching) -> int:
        """Take account of an instance; about how many keys it touches."""
        self.indexes[-1].add(place, touching)
        keys = len(touching.reads) + len(touching.writes)
        self._room -= keys
        if self._room <= 0:
            self._room = _GATHERED - len(self.indexes[-1])
            if self._room < _GATHERED // 8:
                self._room = _GATHERED
                self.indexes.append(Conflicts(self._n))
        return 1 + keys


class Read:
    """A copy of `known` in the place of what the first `left` instances of a backlog touch, once it is complete.

    instances  those of them that were met and were not annulled: they are gathered if the copy is of no use
    index      the copy, and what the instances say of whole rows
    """

    def __init__(self, known: Conflicts, since: Vector, left: int) -> None:
        self.left = left
        self.instances: deque[Executed] = deque()
        self.index = Conflicts(len(since))
        self._known = known
        self._since = since
        self._slots: list[set[Slot]] = [set() for _ in since]
        self._base: Vector | None = None
        self._steps: Iterator[None] | None = None

    def step(self, most: int) -> bool:
        """Copy a row, or look at about `most` slots of one; False if it is complete."""
        if self._steps is None:
            self._steps = self._copy(most)
        return next(self._steps, self) is None

    def _copy(self, most: int) -> Iterator[None]:
        n = len(self._since)
        for row, since in enumerate(self._since):
            self.index.copy_row(row, self._known)
            yield
            slots = chain(self.index.slots(row), self.index.slots(n + row))
            while some := set(islice(slots, most)):
                self._slots[row].update(slot for slot in some if slot > since)
                yield
        self._base = tuple(self._known.base)

    def take(self, done: Executed) -> None:
        """Note an instance that the copy stands for."""
        self.instances.append(done)
        self.index.note(done.place, done)

    def has_executed(self, executed: Sequence[set[Slot]]) -> bool:
        """Whether all that stands in the copy is of what has `executed`, by row, and was not annulled."""
        return all(map(le, self._slots, executed))

    def is_of_use(self, executed: Sequence[set[Slot]]) -> bool:
        """Whether the copy says what has executed, and nothing else.

        Keys at or below a base are left out of `known` (protocol 4.13): of what executed before, if nothing else.
        """
        is_whole = self._base is not None and all(map(le, self._base, self._since))
        return is_whole and self.has_executed(executed)


class Gathering:
    """What has executed since the last cut, by key: `done`, and `lost`, which was annulled; of some of the `backlog`.

    `keep` is told of each instance of it, in order, and how many bytes it takes in the log. It begins with a cut.
    """

    def __init__(
        self, state: State, backlog: Backlog[Executed], keep: Callable[[InstanceId, int], None]
    ) -> None:
        self._state = state
        self.backlog = backlog
        self._keep = keep
        self._since = state.executor.executed
        self._executed: list[set[Slot]] = [set() for _ in range(state.n)]
        for place in state.executor.above:
            instance = state.logs.get(place)
            if instance is not None and instance.value is not NOP:
                self._executed[place.row].add(place.slot)
        self._may_read = True
        self._read: Read | None = None
        self._patience = _PATIENCE
        self._done, self.lost = Gathered(state.n), Gathered(state.n)

    def read_nothing(self) -> None:
        """More is known to have executed than was gathered here: to read off what is known would be in vain."""
        self._may_read = False
        self._state.touched = -inf

    def prepare(self, most: int) -> Preparation:
        """Take in about `most` keys before the cut."""
        if self._may_read:
            self._begin_to_read()
        if self._read is not None and self._read.step(_LOOKED_AT * most):
            return Preparation.MORE
        if self.backlog.is_worth(most) and self._step(most):
            return Preparation.MORE
        return Preparation.WAITS if self._waits(most) else Preparation.READY

    def _begin_to_read(self) -> None:
        """Read off what has executed by now, if that takes less time than to gather it."""
        state, self._may_read = self._state, False
        self.backlog.admit()
        if is_read_off(state.conflicts, state.touched):
            self._read = Read(state.conflicts, self._since, len(self.backlog.waiting))
        state.touched = -inf  # what executes from now on is gathered one by one: its keys are kept

    def _waits(self, most: int) -> bool:
        """Go on with what executes, while something that was read off has not; not for ever."""
        if self._read is None or not self._patience or self._read.has_executed(self._executed):
            return False
        self._patience -= 1
        self.backlog.admit()
        self._step(most)
        return True

    def _step(self, most: int) -> bool:
        """Take in about `most` keys of what was admitted; False if nothing was left."""
        left = most
        while left > 0 and (done := self.backlog.take()) is not None:
            left -= 1 + self._take(done)
        return left < most

    def _take(self, done: Executed) -> int:
        """Take an instance; about how many keys have been gathered."""
        read, place = self._read, done.place
        is_read = read is not None and read.left > 0
        if read is not None:
            read.left -= 1
        self._keep(place, done.size)
        if done.annulled and (payload := logged(self._state, place).orig) is not None:
            return self.lost.add(place, payload)
        if done.annulled:
            return 0
        self._executed[place.row].add(place.slot)
        if read is not None and is_read:
            read.take(done)
            return 0
        return self._add(done)

    def _add(self, done: Executed) -> int:
        """Gather an instance; keys that were not kept its payload makes again.

        It does not keep them: half a million commands' took 60 MB until the next cut, of a replica that has 170.
        """
        if not done.is_lean:
            return self._done.add(done.place, done)
        payload = logged(self._state, done.place).orig
        assert payload is not None
        return self._done.add(done.place, payload.transient())

    def join(self, most: int) -> Iterator[Joined | None]:
        """At the cut: have all of it join the index `executed`, about `most` keys at a time; None is a step before."""
        state = self._state
        index, indexes = state.executed, self._done.indexes
        since, nothing = tuple(index.highest), (-1,) * state.n
        while self._step(most):
            yield None
        read = self._read
        if read is not None:
            is_of_use = read.is_of_use(self._executed)
            for _ in self._let_go(read, most, gather=not is_of_use):
                yield None
            state.cover("cut read off what is known" if is_of_use else "cut read off in vain")
            if is_of_use:
                yield from index.join(read.index, since, self._since, most, tells=state.settings.tells)
                self._read = None
        while indexes:
            yield from index.join(indexes.popleft(), since, nothing, most, tells=state.settings.tells)

    def _let_go(self, read: Read, most: int, *, gather: bool) -> Iterator[None]:
        """Let go of instances, or `gather` what they touch; their keys would stop the thread if all went at once."""
        left = most
        while read.instances:
            done = read.instances.popleft()
            left -= self._add(done) if gather else 1 + len(done.writes) // _LOOKED_AT
            if left <= 0:
                left = most
                yield


def logged(state: State, place: InstanceId) -> Instance:
    """An instance that has executed since the last durable cut, so that it must be in the log."""
    instance = state.logs.get(place)
    if instance is None:
        raise InvariantError(f"{place} was dropped before a cut with it was durable")
    return instance
