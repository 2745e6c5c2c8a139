"""Cuts, truncation and the adoption of a peer's checkpoint: the consensus part (multipaxos 6).

Nothing is remembered of keys. All execute one sequence, so of two cuts the one that is further has the later values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from typing import Final, NamedTuple

from epaxos.errors import InvariantError
from epaxos.protocol.backlog import Backlog
from epaxos.protocol.contract import Adopt, News, Preparation, Remembered
from epaxos.protocol.ids import InstanceId, Slot, Vector
from epaxos.protocol.log import Instance
from epaxos.protocol.multipaxos.forwarding import Forwarding
from epaxos.protocol.multipaxos.leading import Leading
from epaxos.protocol.multipaxos.learning import Learning
from epaxos.protocol.multipaxos.state import LOG, Executed, State

DROPPED_AT_A_TIME: Final = 256
"""Instances that one `Checkpointed` drops at most: each costs the journal 4 µs, and a round waits for that."""

_GATHERED: Final = 50_000
"""Keys in a dictionary of what was written."""

_OVERHEAD: Final = 500
"""Bytes that an instance is counted with beside its payload, for records and objects."""


class Gathering:
    """What has executed since the last cut, of some of the `backlog`: the keys that it wrote, each once or a few times.

    `keep` is told of each slot of it, in order. There are several dictionaries, so that none stops the thread as it
    grows, or goes.
    """

    def __init__(self, backlog: Backlog[Executed], keep: Callable[[Slot], None]) -> None:
        self.backlog = backlog
        self._keep = keep
        self.written: deque[dict[bytes, None]] = deque([{}])

    def step(self, most: int) -> bool:
        """Take in about `most` keys of what was admitted; False if nothing was left."""
        left = most
        while left > 0 and (done := self.backlog.take()) is not None:
            self._keep(done.slot)
            left -= 1 + len(done.writes)
            if len(self.written[-1]) > _GATHERED:
                self.written.append({})
            self.written[-1].update(zip(done.writes, repeat(None)))
        return left < most


class PrefixCut:
    """A `contract.Cut`: all up to a slot; `gathering` has what has executed since the cut before."""

    above: Sequence[InstanceId] = ()

    def __init__(self, executed: Slot, gathering: Gathering) -> None:
        self.executed: Vector = (executed, -1)
        self._gathering = gathering
        self._steps: Iterator[News] | None = None

    def absorb(self, most: int) -> News | None:
        """See `contract.Cut`."""
        if self._steps is None:
            self._steps = self._absorb(most)
        return next(self._steps, None)

    def _absorb(self, most: int) -> Iterator[News]:
        while self._gathering.step(most):
            yield News((), ())
        while self._gathering.written:
            keys = iter(self._gathering.written.popleft())
            while some := list(islice(keys, most)):
                yield News((), some)

    def entry(self, place: InstanceId) -> Instance:
        """See `contract.Cut`: nothing executes above the prefix."""
        raise InvariantError(f"{place} stands in no cut")


class Checkpoints:
    """Takes cuts, drops what a durable one makes unnecessary, and adopts those of peers."""

    def __init__(self, state: State, learning: Learning, leading: Leading, forwarding: Forwarding) -> None:
        self._state = state
        self._learning = learning
        self._leading = leading
        self._forwarding = forwarding
        self._kept: deque[tuple[Slot, int]] = deque()
        self._kept_bytes = 0
        self._gathering = Gathering(state.executions, self._keep)

    def prepare(self, most: int) -> Preparation:
        """See `contract.Core`."""
        has_taken = self._state.executions.is_worth(most) and self._gathering.step(most)
        return Preparation.MORE if has_taken else Preparation.READY

    def cut(self) -> PrefixCut:
        """See `contract.Core`."""
        state, gathering = self._state, self._gathering
        gathering.backlog = state.executions.cut()
        self._gathering = Gathering(state.executions, self._keep)
        return PrefixCut(state.executed, gathering)

    def _keep(self, slot: Slot) -> None:
        instance = self._state.log.get(slot)
        payload = None if instance is None else instance.orig
        size = _OVERHEAD + (0 if payload is None else payload.size)
        self._kept.append((slot, size))
        self._kept_bytes += size

    def keep_all(self) -> None:
        """After a restart or an adoption: what has executed before and is still in the log can be dropped one day."""
        state = self._state
        self._kept.clear()
        self._kept_bytes = 0
        for slot in range(state.truncated + 1, state.executed + 1):
            self._keep(slot)

    def on_checkpointed(self, executed: Vector) -> None:
        """Drop what is in a durable cut and more than `retain` asks for; the driver says so until nothing is left."""
        state = self._state
        state.note_view()
        frontier = state.truncated
        for _ in range(DROPPED_AT_A_TIME):
            if not self._kept or self._kept_bytes <= state.settings.retain:
                break
            slot, size = self._kept[0]
            if slot > executed[LOG]:
                break
            self._kept.popleft()
            self._kept_bytes -= size
            frontier = max(slot, frontier)
        self.truncate(frontier)

    def truncate(self, frontier: Slot) -> None:
        """Drop the log up to a slot. The VIEW stays: the promise holds for ever."""
        state = self._state
        if frontier > state.truncated:
            state.logs.truncate((frontier, -1))
            state.effects.truncate = (frontier, -1)
            self._learning.forget_up_to(frontier)
            state.cover("truncated")

    def on_adopt(self, adopt: Adopt) -> None:
        """Go on from what had executed here or at the peer, whichever is more.

        A log that has all of it stays: a replica that restarts between the checkpoint and the dropping of the log comes
        to the same end. What clients here wait for may have executed in between.
        """
        state = self._state
        theirs = adopt.executed[LOG]
        state.held = False
        if theirs > state.executed:
            self._leading.on_dropped(theirs)
            if theirs > state.committed:
                self.truncate(theirs)
            state.executed = theirs
            self._leading.on_adopted()
            state.effects.overtaken = self._forwarding.overtaken()
        self.keep_all()
        state.cover("adopted a checkpoint")


class ComparedPrefixes(NamedTuple):
    """A `contract.Comparison`: how far two replicas have executed one sequence."""

    ours: Slot
    theirs: Slot

    def take(self, said: Remembered) -> None:
        """See `contract.Comparison`: nothing is remembered of keys."""

    def later(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """See `contract.Comparison`."""
        return [self.theirs > self.ours] * len(keys)
