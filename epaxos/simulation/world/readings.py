"""The reads that wait at a simulated replica and are none of the log (protocol 7), as `actors.reads` has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from random import Random
from typing import NamedTuple

from epaxos.protocol.contract import Read
from epaxos.simulation.world.frontdoor import Answer
from epaxos.statemachine.batch import Batch
from epaxos.statemachine.reading import Reading


class Waiting(NamedTuple):
    """A frame of reads, and whom to answer."""

    batch: Batch
    reading: Reading
    answer: Answer


class Readings:
    """Which wait for a question, which for what is asked, and which for the end of the round."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._fresh: list[Waiting] = []
        self._local: list[Waiting] = []
        self._asked: dict[int, list[Waiting]] = {}

    @property
    def due(self) -> bool:
        """Whether there is something for the next round."""
        return bool(self._fresh or self._local)

    @property
    def waiting(self) -> int:
        """How many frames have not been answered."""
        return len(self._fresh) + len(self._local) + sum(map(len, self._asked.values()))

    def request(self, waiting: Waiting) -> None:
        """Take a frame."""
        (self._local if waiting.reading is Reading.LOCAL else self._fresh).append(waiting)

    def questions(self) -> Iterator[Read]:
        """Ask about all that waits by now, under a number that was never used."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            number = self._random.getrandbits(61)
            self._asked[number] = fresh
            yield Read(number, sorted({key for waiting in fresh for key in waiting.batch.keys}))

    def take(self, numbers: Iterable[int]) -> list[Waiting]:
        """The frames of some questions."""
        return [waiting for number in numbers for waiting in self._asked.pop(number, ())]

    def take_local(self, *, votes: bool) -> list[Waiting]:
        """What is to be read as things stand here; at one that has no vote that is all."""
        local, self._local = self._local, []
        if not votes:
            local, self._fresh = [*local, *self._fresh], []
        return local

    def take_all(self) -> list[Waiting]:
        """What a quorum was to be asked about, or was: the epoch is another one."""
        taken = [*chain.from_iterable(self._asked.values()), *self._fresh]
        self._asked.clear()
        self._fresh.clear()
        return taken
