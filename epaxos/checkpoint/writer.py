"""Writing a checkpoint: one consistent cut, in slices between the rounds of a replica that goes on meanwhile.

At the cut nothing is copied. What changed since the last one is set aside (`freeze`), and what happens later goes
elsewhere: to the log, or what was there before it is put aside, or, a session, into the checkpoint. So each
slice finds what was there at the cut, whenever it comes.

**What does not last** (a replica without a disk) nobody would read but a peer that lacks what the log has dropped. So a
cut is taken as often, up to which the log may go, and written only if a peer has asked: then it has all of the state,
and stands until the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, repeat
from operator import and_, is_not
from typing import Any, Final, Protocol

from epaxos.checkpoint.blocks import GROWTH, Blocks, Kind
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import (
    BLOCK_BYTES,
    VALUE,
    Change,
    Meta,
    entry_key,
    in_blocks,
    index_block,
    index_kind,
    meta_row,
    read_index,
    read_values,
    session_row,
    value_block,
)
from epaxos.checkpoint.transfer import Snapshot
from epaxos.errors import RowRefused
from epaxos.protocol.contract import Adopt, Core, Cut, Hold, Preparation, Remembered
from epaxos.protocol.ids import InstanceId, Vector, covers
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import Configuration
from epaxos.statemachine.expiry import are_same
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.values import Frozen
from epaxos.storage.records import encode_whole

SLICE: Final = 512
"""Keys or sessions in a slice, or a few more: what one takes has to be short beside a round."""

_SCANNED: Final = 256 * 1024
"""Bytes of rows that are looked at at a time, to remove them."""

_ROWS: Final = 8
"""Rows of a peer's checkpoint that are put in the place of what is here, in a slice."""


_GATHERED: Final = 4
"""How many times the keys of a slice are gathered in a step before the cut: 0.2 ms, for more than execute meanwhile."""

_FREED: Final = 16
"""How many slices are freed in the time that it takes to write one."""


class Stage(Protocol):
    """Adds rows to the transaction that becomes the next checkpoint."""

    def __call__(self, changes: Sequence[Change], /) -> None:
        """Add, in order; nothing is visible before the whole is committed."""
        ...


class CheckpointWriter:
    """Writes the checkpoints of one replica, one after the other; it begins in the epoch of `configuration`.

    `stage` takes the rows, of about `size` keys in a slice; `snapshot` gives the last durable checkpoint; for `growth`
    see `blocks`. The driver
    calls `begin` or `adopt`, then `step`, some times a round, until that is True, then commits what was staged and
    tells the core. `staged` counts the bytes of all rows ever staged. What is written outlives the replica if it is
    `lasting`.
    """

    def __init__(
        self,
        core: Core[Any],
        machine: StateMachine,
        configuration: Configuration,
        stage: Stage,
        snapshot: Callable[[], Snapshot],
        size: int = SLICE,
        *,
        growth: int = GROWTH,
        lasting: bool = True,
    ) -> None:
        self._machine = machine
        self.lasting = lasting
        self._stage_rows = stage
        self._snapshot = snapshot
        self._size = size
        self._above: frozenset[InstanceId] = frozenset()
        self._slices: Generator[None, None, None] | None = None
        self._may_give_up = False
        self._growth = growth
        self._coming: list[tuple[Configuration, Core[Any]]] = []
        self._obsolete: list[bytes] = []
        self._written: list[
            dict[bytes, None] | tuple[bytes, ...]
        ] = []  # which no collection of garbage walks through for long, as it would a list
        self._frozen = Frozen({})
        self._configuration, self._core = configuration, core
        self._make_blocks()
        self.executed: Vector = ()
        self.staged = 0

    def _make_blocks(self) -> None:
        self._values = Blocks(Kind(VALUE, value_block, self._look_at_values), self._size, self._growth)
        self._make_index()

    def _make_index(self) -> None:
        self._remembered: list[list[bytes]] = [[] for _ in range(self._core.width)]
        self._index = [
            Blocks(
                Kind(index_kind(column), index_block, partial(self._look_at_index, column)),
                self._size,
                self._growth,
            )
            for column in range(self._core.width)
        ]

    def turn(self, configuration: Configuration, core: Core[Any]) -> None:
        """Another epoch has begun: what begins from now on is of that. What is being written is completed as it is."""
        self._coming.append((configuration, core))

    def _take_turns(self) -> list[Cut]:
        """Go on in the epoch that runs; the last cuts of those before, which tell what they have written.

        What they remembered of keys, and the instances above their cuts, mean nothing any more and go.
        """
        ended = []
        for configuration, core in self._coming:
            ended.append(self._core.cut())
            self._obsolete += [row for blocks in self._index for row in blocks.rows]
            self._obsolete += map(entry_key, sorted(self._above))
            self._above = frozenset()
            self._configuration, self._core = configuration, core
            self._make_index()
        self._coming.clear()
        return ended

    @property
    def epoch(self) -> int:
        """The epoch of the checkpoint that was begun last."""
        return self._configuration.epoch

    def loaded(self, last: Fetched) -> None:
        """Note what the last checkpoint holds, after a restart."""
        self.executed = last.executed
        self._above = frozenset(entry.id for entry in last.entries)
        for blocks in (*self._index, self._values):
            blocks.loaded(last.blocks)

    @property
    def sifted(self) -> bool:
        """Whether the last checkpoint has sifted some of its blocks."""
        return any(blocks.sifted for blocks in (*self._index, self._values))

    @property
    def active(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._slices is not None

    def prepare(self) -> Preparation:
        """Do a slice of what can be done before the cut is taken."""
        return self._core.prepare(_GATHERED * self._size)

    def begin(self, *, asked: bool = True) -> None:
        """Take a cut; between two rounds, when all that was to execute has.

        If it does not last, nothing is written unless a peer has `asked`.
        """
        self._may_give_up = False
        ended = self._take_turns()
        if asked or self.lasting:
            self._frozen = self._machine.freeze(whole=not self.lasting)
            self._slices = self._write(ended, self._core.cut(), self._machine.generation)
        else:
            self._machine.forget_changes()
            self._slices = self._pass_over(ended, self._core.cut())

    def adopt(self, fetched: Fetched) -> None:
        """Take a cut and merge a peer's checkpoint into it; the core has been told to `Hold` before."""
        self._may_give_up = False
        self._slices = self._adopt(self._take_turns(), self._core.cut(), fetched)

    def replace(self, fetched: Fetched) -> None:
        """Put a peer's checkpoint of a later epoch in the place of what is here; the core has been told to `Hold`.

        All that has executed here has executed there (protocol 6.4), and nothing that is remembered here means anything
        in that epoch: nothing is merged. The replica begins anew from it, so that this writer writes nothing more.
        """
        self._may_give_up = True
        self._slices = self._replace(fetched)

    def step(self) -> bool:
        """Write a slice; True if it was the last one and the checkpoint can be committed.

        What goes wrong before the first row is made is no row's fault, and is raised as it is: what the cut and a
        peer's checkpoint hold has been taken in by halves, and would not be taken in again.

        Raises:
            RowRefused: a row cannot be made or written; `give_up` is to follow.
            StorageError: the disk has failed.
        """
        assert self._slices is not None
        try:
            for _ in self._slices:
                return False
        except (OverflowError, MemoryError) as error:
            if not self._may_give_up:
                raise
            raise RowRefused(f"a row of the checkpoint is too large ({error!r})") from error
        self._slices = None
        return True

    def give_up(self) -> None:
        """Forget what was staged, which cannot be written; what it had of changes goes into the next one."""
        self.close()
        self._machine.thaw()
        self._frozen = Frozen({})  # with what it put aside, perhaps a copy of all values

    def close(self) -> None:
        """Stop writing, and let go of what is being read for that."""
        if self._slices is not None:
            self._slices.close()
            self._slices = None

    def _stage(self, changes: Sequence[Change]) -> None:
        self.staged += sum(len(blob) for _, blob in changes if blob is not None)
        self._stage_rows(changes)

    # -- an own checkpoint ---------------------------------------------------------------------------------

    def _write(self, ended: Sequence[Cut], cut: Cut, generation: int) -> Generator[None, None, None]:
        names = [] if self.lasting else self._machine.slices(self._size)  # before anything else executes
        yield from self._absorb_ended(ended)
        yield from self._absorb(cut)
        if not self.lasting:
            yield from self._begin_whole()
            self._written += names
        yield from self._write_rows()
        meta = Meta(self._configuration, cut.executed, self._core.vectors(), generation)
        yield from self._write_end(meta, map(cut.entry, cut.above))

    def _pass_over(self, ended: Sequence[Cut], cut: Cut) -> Generator[None, None, None]:
        """Write nothing of a cut, and let go of what a peer has asked for before: its log is about to go."""
        yield from self._absorb_ended(ended)
        yield from self._absorb(cut)
        yield from self._begin_whole()
        self.executed = cut.executed

    def _begin_whole(self) -> Iterator[None]:
        """Nothing of what stands is of use to the next checkpoint, which has all of the state."""
        yield from self._remove_all()
        self._obsolete, self._above = [], frozenset()
        self._make_blocks()

    def _absorb(self, cut: Cut) -> Iterator[None]:
        while (news := cut.absorb(self._size)) is not None:
            self._note(news.remembered)
            self._note_written(news.written)
            yield

    def _absorb_ended(self, cuts: Iterable[Cut]) -> Iterator[None]:
        for cut in cuts:
            while (news := cut.absorb(self._size)) is not None:
                self._note_written(news.written)
                yield

    def _note_written(self, keys: Iterable[bytes]) -> None:
        if self.lasting:
            self._written.append(dict.fromkeys(keys))

    def _note(self, remembered: Iterable[Remembered]) -> None:
        """Make blocks of what is remembered, to be staged when all is merged: as objects it would take more memory.

        Nor would it be gone at once, and meanwhile each collection of garbage would walk through it.
        """
        if self.lasting:
            for said in remembered:
                self._remembered[said.column] += self._index_blocks(said)

    def _index_blocks(self, said: Remembered) -> Iterator[bytes]:
        _, keys, slots = said
        if keys and _weigh_keys(keys) <= BLOCK_BYTES:
            yield index_block(keys, slots)
        else:
            for block in in_blocks(zip(keys, slots, strict=True), self._size, _weigh_pairs):
                yield index_block(*zip(*block, strict=True))

    def _write_rows(self) -> Iterator[None]:
        """The values come first: as long as they are needed, each write costs more (`Frozen`)."""
        self._may_give_up = True
        self._written += self._frozen.cleared
        yield from self._remove(self._obsolete)
        for blocks in (*self._index, self._values):
            blocks.begin()
        for some in in_blocks(chain.from_iterable(self._written), self._size, _weigh_keys):
            for keys, values in _parted(some, self._frozen.values(some)):
                self._stage([self._values.add(value_block(keys, values))])
                yield
        yield from self._sift(self._values, self._machine.keys)
        self._machine.release()
        yield from self._write_index()
        while sessions := self._machine.take_sessions(self._size):
            self._stage(list(map(session_row, sessions)))
            yield

    def _write_index(self) -> Iterator[None]:
        if not self.lasting:
            for said in self._core.all_remembered(self._size):
                self._stage([self._index[said.column].add(blob) for blob in self._index_blocks(said)])
                yield
        for blocks, noted in zip(self._index, self._remembered, strict=True):
            for blob in noted:
                self._stage([blocks.add(blob)])
                yield
        for column, blocks in enumerate(self._index):
            yield from self._sift(blocks, self._core.remembered(column))

    def _remove(self, rows: Sequence[bytes]) -> Iterator[None]:
        for start in range(0, len(rows), self._size):
            self._stage([(row, None) for row in rows[start : start + self._size]])
            yield

    def _remove_all(self) -> Iterator[None]:
        ours = self._snapshot()
        try:
            after = b""
            while rows := ours.scan(after, _SCANNED):
                after = rows[-1][0]
                yield from self._remove([key for key, _ in rows])
        finally:
            ours.close()

    def _sift(self, blocks: Blocks, needed: int) -> Iterator[None]:
        if self.lasting:  # else no key has two entries
            for changes in blocks.sift(self._snapshot, needed):
                if changes:
                    self._stage(changes)
                yield

    def _look_at_index(
        self, column: int, blob: bytes
    ) -> tuple[Sequence[bytes], Sequence[Any], Sequence[bool]]:
        keys, slots = read_index(blob)
        return keys, slots, self._core.stands(Remembered(column, keys, slots))

    def _look_at_values(self, blob: bytes) -> tuple[Sequence[bytes], Sequence[Any], Sequence[bool]]:
        """Of a key that has gone nothing need be said: its values have been sifted out, as they stand before."""
        keys, values = read_values(blob)
        stand = are_same(values, self._frozen.values(keys))
        if None in values:
            stand = list(map(and_, stand, map(is_not, values, repeat(None))))
        return keys, values, stand

    def _write_end(self, meta: Meta, entries: Iterable[Instance]) -> Iterator[None]:
        """Write what has executed above the frontier, as far as that is new, and what is known of the whole.

        What was noted for this checkpoint goes some at a time: that of a million keys stops the thread for 10 ms.
        """
        executed = meta.executed
        above: dict[InstanceId, Instance] = {
            entry.id: entry for entry in entries if not covers(executed, entry.id)
        }
        gone: list[Change] = [(entry_key(place), None) for place in sorted(self._above - above.keys())]
        new: list[Change] = [
            (entry_key(place), encode_whole(above[place])) for place in sorted(above.keys() - self._above)
        ]
        self._stage([*gone, *new, meta_row(meta)])
        self._above = frozenset(above)
        yield from self._end(executed)

    def _end(self, executed: Vector) -> Iterator[None]:
        self.executed = executed
        self._obsolete = []
        for blocks in (*self._index, self._values):
            blocks.end()
        self._remembered = [[] for _ in self._remembered]
        while self._written:
            del self._written[-_FREED:]
            yield
        while self._frozen.forget(_FREED * self._size):
            yield
        self._frozen = Frozen({})

    # -- a peer's ------------------------------------------------------------------------------------------

    def _adopt(self, ended: Sequence[Cut], cut: Cut, fetched: Fetched) -> Generator[None, None, None]:
        """Merge key by key, then write all of it as an own checkpoint (protocol 4.10).

        Of each key the later value stays, of two numbers in an index the higher one, of sessions the union. What is
        remembered of payloads here that have executed there, or were annulled, is written too: they will be dropped
        from the log, and the peer may never have known them.
        """
        executed = tuple(map(max, cut.executed, fetched.executed))
        yield from self._absorb_ended(ended)
        above = [entry.id for entry in fetched.entries]
        for said in self._core.payload_keys(executed, above, self._size):
            self._note([said])
            yield
        yield from self._absorb(cut)
        yield from self._merge_values(fetched)
        for said in fetched.index():
            self._note([self._core.remember(said)])
            yield
        self._machine.merge_sessions(fetched.sessions, fetched.generation)
        if not self.lasting:
            yield from self._begin_whole()
            yield from self._end(executed)
            return
        self._frozen = self._machine.freeze()
        yield from self._write_rows()
        ours = self._core.vectors()
        theirs = fetched.vectors or ours
        vectors = [tuple(map(max, *pair)) for pair in zip(ours, theirs, strict=True)]
        meta = Meta(self._configuration, executed, vectors, self._machine.generation)
        yield from self._write_end(meta, (*map(cut.entry, cut.above), *fetched.entries))

    def _replace(self, fetched: Fetched) -> Generator[None, None, None]:
        yield from self._remove_all()
        looked = iter(fetched.rows(self._size))
        while some := list(islice(looked, _ROWS)):
            self._stage(some)
            yield

    def _merge_values(self, fetched: Fetched) -> Iterator[None]:
        """Take the later value of each key, also of those of which nothing is remembered because collections speak."""
        comparison = self._core.compare(fetched.executed, fetched.vectors)
        for said in fetched.index():
            comparison.take(said)
            yield
        theirs = fetched.names()
        for keys, done in ((theirs, ()), (self._machine.names(), theirs)):
            looked = iter(keys)
            while some := list(islice(looked, self._size)):
                names = [key for key in some if key not in done]
                later = comparison.later(names)
                self._note_written(self._machine.merge(fetched.values_of(names, later)))
                yield


def hold_event(fetched: Fetched) -> Hold:
    """What the core has to be told before a peer's checkpoint is merged."""
    return Hold(fetched.executed, [entry.id for entry in fetched.entries])


def adopt_event(fetched: Fetched) -> Adopt:
    """What the core has to be told once it is durable."""
    return Adopt(fetched.executed, fetched.entries, fetched.vectors)


def _weigh_keys(keys: Sequence[bytes]) -> int:
    return sum(map(len, keys))


def _weigh_pairs(pairs: Sequence[tuple[bytes, int]]) -> int:
    return sum(len(key) for key, _ in pairs)


def _parted(
    keys: Sequence[bytes], values: Sequence[bytes | None]
) -> Iterator[tuple[Sequence[bytes], Sequence[bytes | None]]]:
    """Some keys and their values in parts of `BLOCK_BYTES`, or a value: hardly ever in more than one."""
    weight = sum(map(len, keys)) + sum(map(len, filter(None, values)))
    if len(keys) == 1 or weight <= BLOCK_BYTES:
        yield keys, values
    else:
        middle = len(keys) // 2
        yield from _parted(keys[:middle], values[:middle])
        yield from _parted(keys[middle:], values[middle:])
