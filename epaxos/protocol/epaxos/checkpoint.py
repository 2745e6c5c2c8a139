"""Cuts, truncation and the adoption of a peer's checkpoint: the consensus part (protocol 4.10).

**What is kept of a dropped instance.** Its keys stay in two indexes: in `known`, because a replica that ever knew a
payload covers it in every later answer (3.1, 3.2, 3.6a), and in `executed` unless it was annulled, because Validate
has to speak of it (3.6b). One cannot stand for the other (3.6c). Both are in the checkpoint.

**`executed` follows the cuts.** It is brought up to date when a cut is absorbed, not when an instance executes: an
instance that has executed since is still in the log, where Validate sees it, since only what is in a durable cut is
dropped. That takes a dictionary update a batch off the path of execution, and is faster in one go.

**Which value of a key is the later one** needs no counter of writes. The executed writers of a key at one replica are a
prefix of those at another, since conflicting commands run in the same order everywhere. Of two prefixes the longer one
has the higher slot in some row and a lower one in none: a writer that is in the one only cannot have, in its own row,
a higher one in both, because that one depends on it (its owner covers its own row) and would have executed with or
after it. So comparing the rows' highest executed writers compares the prefixes. A collection writes every key, and what
its base speaks for has executed before it: so does comparing the higher ones of writers and bases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress, cycle, islice, repeat
from operator import and_, eq, ge, gt, le
from typing import Final

from epaxos.errors import InvariantError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import Adopt, Hold, News, Preparation, Remembered
from epaxos.protocol.epaxos.commit import CommitProtocol
from epaxos.protocol.epaxos.conflicts import Conflicts, size_of
from epaxos.protocol.epaxos.gathering import Gathered, Gathering, logged
from epaxos.protocol.epaxos.recovery import RecoveryProtocol
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.execution.executor import Executor
from epaxos.protocol.ids import InstanceId, Slot, Vector, covers
from epaxos.protocol.log import NOP, Instance, Logs, Phase

DROPPED_AT_A_TIME: Final = 256
"""Instances that one `Checkpointed` drops at most: each costs the journal 4 µs, and a round waits for that."""

_LOOKED_AT: Final = 16
"""Entries of an index that are looked at, to forget them, in the time that it takes to write what is known of a key."""


_NOTHING: Final = Remembered(0, (), ())
_NO_NEWS: Final = News((), ())


class ExecutedCut:
    """A `contract.Cut` of the replica that owns `state`; `gathering` has what has executed since the cut before."""

    def __init__(self, state: State, gathering: Gathering) -> None:
        self._state = state
        self._gathering = gathering
        self._steps: Iterator[News] | None = None
        self.executed: Vector = state.executor.executed
        self.above: Sequence[InstanceId] = state.executor.above

    def absorb(self, most: int) -> News | None:
        """See `contract.Cut`.

        At last is forgotten what collections speak for by now: `executed` knows those of the cut.
        """
        if self._steps is None:
            self._steps = self._absorb(most)
        return next(self._steps, None)

    def _absorb(self, most: int) -> Iterator[News]:
        known, n = self._state.conflicts, self._state.n
        for joined in self._gathering.join(most):
            if joined is None:
                yield _NO_NEWS
            else:
                column, keys, slots, written = joined
                yield News([Remembered(2 * n + column, keys, slots)], written)
        for said in _known_of(known, self._gathering.lost, most) if self._state.settings.tells else ():
            yield News((said,), ())
        for _ in chain(known.forget(_LOOKED_AT * most), self._state.executed.forget(_LOOKED_AT * most)):
            yield _NO_NEWS

    def entry(self, place: InstanceId) -> Instance:
        """See `contract.Cut`."""
        return logged(self._state, place)


class Checkpoints:
    """Takes cuts, drops what a durable one makes unnecessary, and adopts those of peers."""

    def __init__(self, state: State, commit: CommitProtocol, recovery: RecoveryProtocol) -> None:
        self._state = state
        self._commit = commit
        self._recovery = recovery
        self._kept: deque[tuple[InstanceId, int]] = deque()
        self._kept_bytes = 0
        self._gathering = Gathering(state, state.executions, self._keep)

    def prepare(self, most: int) -> Preparation:
        """See `contract.Core`."""
        return self._gathering.prepare(most)

    def cut(self) -> ExecutedCut:
        """See `contract.Core`."""
        state, gathering = self._state, self._gathering
        gathering.backlog = state.executions.cut()
        state.touched = 0
        self._gathering = Gathering(state, state.executions, self._keep)
        return ExecutedCut(state, gathering)

    def _keep(self, place: InstanceId, size: int) -> None:
        self._kept.append((place, size))
        self._kept_bytes += size

    def keep_all(self) -> None:
        """After a restart: what has executed before and is still in the log can be dropped one day."""
        state = self._state
        self._gathering.read_nothing()
        for row, instances in enumerate(state.logs.rows):
            for slot in sorted(instances):
                place = InstanceId(row, slot)
                if state.executor.has_executed(place):
                    self._keep(place, size_of(instances[slot].orig))

    # -- truncation ----------------------------------------------------------------------------------------

    def on_checkpointed(self, executed: Vector) -> None:
        """Drop what is in a durable cut and more than `retain` asks for.

        No agreement with others is needed: an answer of Truncated counts for nothing, and quorums are formed of
        those who still have the record. A tail is kept so that a peer that was away shortly finds what it missed.
        The driver says so again, until nothing more is dropped: that spreads the work over some rounds.
        """
        state = self._state
        frontier = list(state.logs.truncated)
        for _ in range(DROPPED_AT_A_TIME):
            if not self._kept or self._kept_bytes <= state.settings.retain:
                break
            place, size = self._kept[0]
            if not covers(executed, place):
                break
            self._kept.popleft()
            self._kept_bytes -= size
            frontier[place.row] = max(place.slot, frontier[place.row])
        self._truncate(tuple(frontier))

    def _truncate(self, frontier: Vector) -> None:
        state = self._state
        if frontier == tuple(state.logs.truncated):
            return
        state.logs.truncate(frontier)
        state.effects.truncate = frontier
        state.cover("truncated")

    # -- a peer's checkpoint -------------------------------------------------------------------------------

    def on_hold(self, hold: Hold) -> None:
        """Let nothing execute while the state machine changes by other means.

        A recovery of what the peer has executed ends here. It may not be judged by an index into which the peer's is
        being merged: what executed at the peer with, or after, its own instance seems to have executed without it.
        """
        state = self._state
        state.hold = hold._replace(above=frozenset(hold.above))
        for place in [place for place in self._recovery.recoveries if state.is_held(place)]:
            self._recovery.forget(place)

    def on_adopt(self, adopt: Adopt) -> None:
        """Go on from the union of what had executed here and at the peer.

        Rows of which something is missing here are dropped up to the peer's frontier, with all that was coordinated
        there; nothing can be known of it but that it has executed. In other rows the log stays.
        """
        state = self._state
        before = state.executor
        frontier = tuple(map(max, before.executed, adopt.executed))
        state.executor = Executor(state.n, frontier, [*before.above, *(entry.id for entry in adopt.entries)])
        state.effects.overtaken = self._overtaken(
            before, {entry.id for entry in adopt.entries if entry.value is NOP}
        )
        state.raise_vectors(adopt.vectors)
        state.hear_of(adopt.executed)
        dropped = adopted_frontier(state.logs, adopt.executed)
        self._forget_up_to(dropped)
        self._truncate(dropped)
        for entry in adopt.entries:
            if not covers(dropped, entry.id):
                self._adopt_entry(entry)
        state.hold = None
        state.forget_annulled_barriers()
        self._kept.clear()
        self._kept_bytes = 0
        self.keep_all()  # before more executes, which the next cut will keep
        state.execute_decided()
        self._recovery.reconsider_all()
        state.cover("adopted a checkpoint")

    def _adopt_entry(self, entry: Instance) -> None:
        """Take an instance that is decided, and executed with the state that was merged."""
        state = self._state
        instance = state.logs.ensure(entry.id)
        state.hear_of_instance(entry.id)
        if entry.orig is not None:
            state.learn_payload(instance, entry.orig)
        assert entry.value is not None
        self._commit.commit(instance, entry.value, entry.deps, entry.seq)

    def _overtaken(self, before: Executor, annulled: set[InstanceId]) -> list[Command]:
        """What clients here may wait for, and will not see executed here because it is in the peer's state.

        Without what is known to be annulled: that is proposed again where it is decided (`commit`).
        """
        state = self._state
        own = state.own
        return [
            instance.orig
            for slot in sorted(own)
            if slot >= self._commit.first_slot
            and (instance := own[slot]).orig is not None
            and state.executor.has_executed(instance.id)
            and not before.has_executed(instance.id)
            and instance.id not in annulled
            and not (instance.phase is Phase.COMMITTED and instance.value is NOP)
        ]

    def _forget_up_to(self, frontier: Vector) -> None:
        """Coordinate nothing any more that is about to be dropped."""
        state = self._state
        for place in [place for place in state.suspects if covers(frontier, place)]:
            del state.suspects[place]
        self._commit.forget_up_to(frontier)
        self._recovery.forget_up_to(frontier)

    # -- what is remembered of keys ------------------------------------------------------------------------

    # Columns are counted from the known reads of row 0 on: n each of known reads, known writes, executed reads, and
    # executed writes. What has executed is known, so a checkpoint says of it only that.

    def remembered(self, column: int) -> int:
        """See `contract.Core`."""
        index, column = self._index_of(column)
        return index.count(column)

    def _index_of(self, column: int) -> tuple[Conflicts, int]:
        executed, column = divmod(column, 2 * self._state.n)
        return (self._state.executed if executed else self._state.conflicts), column

    def vectors(self) -> Sequence[Vector]:
        """See `contract.Core`: `highest` and `base` of the index of known payloads, then of the executed ones."""
        known, executed = self._state.conflicts, self._state.executed
        return tuple(map(tuple, (known.highest, known.base, executed.highest, executed.base)))

    def all_remembered(self, most: int) -> Iterator[Remembered]:
        """See `contract.Core`: of what is known, that which has not executed.

        What is known comes to more keys meanwhile; of what has executed, none before the next cut.
        """
        for column in range(4 * self._state.n):
            index, at = self._index_of(column)
            names = index.keys(at)
            keys = iter(names if index is self._state.executed else list(names))
            while some := list(islice(keys, most)):
                said = Remembered(column, some, index.column(at, some))
                stand = self.stands(said)
                yield Remembered(column, list(compress(some, stand)), list(compress(said.slots, stand)))

    def stands(self, said: Remembered) -> Sequence[bool]:
        """See `contract.Core`.

        A slot of what has executed stands until it is another, or a base speaks for it. One that is known otherwise, of
        what was annulled or had not executed, is needed until the key has executed above it: a higher one may not be
        durable yet.
        """
        state, n = self._state, self._state.n
        column, keys, slots = said
        index, at = self._index_of(column)
        base = index.base[at % n]
        executed = state.executed.column(at, keys)
        stand = list(map(eq if index is state.executed else gt, slots, executed))
        return list(map(and_, stand, map(gt, slots, repeat(base)))) if min(slots) <= base else stand

    def remember(self, said: Remembered) -> Remembered:
        """See `contract.Core`."""
        column, keys, slots = said
        index, at = self._index_of(column)
        raised = index.raise_column(at, keys, slots)
        known = self._state.conflicts
        if index is known:
            return _known(known, column, keys)
        known.raise_column(at, keys, slots)
        return Remembered(column, list(compress(keys, raised)), list(compress(slots, raised)))

    def compare(self, vectors: Sequence[Vector]) -> ComparedHistories:
        """See `contract.Core`."""
        theirs = Conflicts(self._state.n)
        if vectors:
            theirs.raise_vectors(*vectors[2:])
        return ComparedHistories(self._state.executed, theirs)

    def payload_keys(
        self, frontier: Vector, above: Collection[InstanceId], most: int
    ) -> Iterator[Remembered]:
        """See `contract.Core`: of what has not executed here, no cut will ever name the keys."""
        state, over = self._state, frozenset(above)
        gathered, left = Gathered(state.n), most
        for instances in state.logs.rows:
            for instance in list(instances.values()):  # more come meanwhile, of what has executed nowhere
                payload, place = instance.orig, instance.id
                left -= 1
                told = payload is not None and (covers(frontier, place) or place in over)
                if (
                    payload is not None
                    and told
                    and (instance.value is NOP or not state.executor.has_executed(place))
                ):
                    gathered.add(place, payload)
                    left -= len(payload.reads) + len(payload.writes)
                if left <= 0:
                    yield _NOTHING
                    left = most
        yield from _known_of(state.conflicts, gathered, most)


def _known_of(known: Conflicts, gathered: Gathered, most: int) -> Iterator[Remembered]:
    """What is known of the keys that were gathered, by column and each once or a few times."""
    for index in gathered.indexes:
        for column in range(2 * len(known.base)):
            keys = iter(index.keys(column))
            while some := list(islice(keys, most)):
                yield _known(known, column, some)


def _known(known: Conflicts, column: int, keys: Sequence[bytes]) -> Remembered:
    """What is known of some keys, and no base speaks for."""
    slots = known.column(column, keys)
    said = [slot >= 0 for slot in slots]
    return Remembered(column, list(compress(keys, said)), list(compress(slots, said)))


class ComparedHistories:
    """A `contract.Comparison`: which writers of each key have executed at a peer, and which here."""

    def __init__(self, ours: Conflicts, theirs: Conflicts) -> None:
        self._ours = ours
        self._theirs = theirs
        self._n = len(ours.base)

    def take(self, said: Remembered) -> None:
        """See `contract.Comparison`: of who has executed, those that write decide which value is the later one."""
        if said.column >= 3 * self._n:
            self._theirs.raise_column(said.column - 2 * self._n, said.keys, said.slots)

    def later(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """See `contract.Comparison`."""
        ours, theirs = (_versions(index, keys) for index in (self._ours, self._theirs))
        later = [
            mine != their and all(map(le, mine, their)) for mine, their in zip(ours, theirs, strict=True)
        ]
        for key, mine, their, is_later in zip(keys, ours, theirs, later, strict=True):
            if not is_later and not all(map(ge, mine, their)):
                raise InvariantError(f"neither history of {key!r} continues the other: {mine} and {their}")
        return later


def _versions(index: Conflicts, keys: Sequence[bytes]) -> list[Vector]:
    """By row, the highest executed writer of each key or collection, the base of a collection included."""
    n = len(index.base)
    columns = [index.column(column, keys) for column in range(n, 2 * n)]
    return _above(columns, index.base)


def _above(columns: Sequence[Sequence[Slot]], base: Sequence[Slot]) -> list[Vector]:
    """What columns, of the rows in turn, say of each key together with the base that stands beside them."""
    return list(zip(*map(_raised, columns, cycle(base)), strict=True))


def _raised(column: Sequence[Slot], slot: Slot) -> Iterable[Slot]:
    if slot < 0 or not column:
        return column
    return repeat(slot, len(column)) if max(column) <= slot else map(max, column, repeat(slot))


def adopted_frontier(logs: Logs, executed: Vector) -> Vector:
    """Up to where a log has to be dropped once a checkpoint with this frontier stands for it.

    Rows of which everything in the checkpoint is decided here stay: a replica that restarts between the checkpoint
    and the dropping of the log comes to the same end.
    """
    return tuple(
        theirs if theirs > mine else truncated
        for theirs, mine, truncated in zip(executed, logs.committed, logs.truncated, strict=True)
    )
