"""Reads of clients that need no place in the log: which wait, for what, and what becomes of them (protocol 7)."""

from __future__ import annotations

import secrets
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Final, NamedTuple

from epaxos.doors.session import OwnSession
from epaxos.protocol.contract import Read
from epaxos.statemachine.batch import Batch
from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.reading import ELSEWHERE, Reading
from epaxos.statemachine.results import BatchResult, Value, as_column

_ASKED_BYTES: Final = 256 * 1024
"""Bytes of keys after which a question is full, or half a frame: with the frame that fills it, peers take it still."""

_KEY_HEAD: Final = 5
"""Bytes that a key takes beside its own, at most."""

_NOT_FOUND: Final = int(Outcome.NOT_FOUND)
_EXPIRED: Final = bytes([Outcome.EXPIRED])
_UNTOLD: Final = bytes([Outcome.UNTOLD])

Look = Callable[[Batch], BatchResult]
"""What reads come to in the state as it is."""


class _Local(NamedTuple):
    batch: Batch
    readings: Sequence[int]


class Reads:
    """The reads that wait at a replica, by frames of clients.

    All that come in one round are asked about together, in the next question: an earlier one began before them, and may
    have been answered from what they may not miss.

    What comes to nothing goes through the log, in a session of this replica's own, for the numbers of clients' reads
    are not those of commands: a session that left so many out could not remember which have executed.
    """

    def __init__(self, max_frame: int) -> None:
        self._most = min(_ASKED_BYTES, max_frame // 2)
        self.observes = False
        """Whether this replica has no vote, and reads all as things stand here."""
        self.fresh: list[Batch] = []
        """What a quorum is to be asked about."""
        self._local: list[_Local] = []
        self._asked: dict[int, list[Batch]] = {}
        self._numbers = count(secrets.randbits(61))
        self._session = OwnSession()
        self._names: defaultdict[int, OrderedDict[int, tuple[int, int]]] = defaultdict(OrderedDict)
        self.generation = 0
        """How many collections have executed here."""

    def add(self, batch: Batch, readings: Sequence[int]) -> None:
        """Take reads that are read in the same way."""
        if readings[0] in ELSEWHERE and not self.observes:
            self.fresh.append(batch)
        else:
            self._local.append(_Local(batch, readings))

    def questions(self) -> Iterator[Read]:
        """Begin to read what a quorum is to be asked about, with numbers that were never used."""
        fresh, self.fresh = self.fresh, []
        while fresh:
            batches, size = [], 0
            while fresh and size < self._most:
                batches.append(fresh.pop())
                size += sum(map(len, batches[-1].keys)) + _KEY_HEAD * len(batches[-1])
            number = next(self._numbers)
            self._asked[number] = batches
            yield Read(number, list(dict.fromkeys(chain.from_iterable(batch.keys for batch in batches))))

    def answered(self, numbers: Iterable[int], look: Look) -> list[BatchResult]:
        """What the reads of some questions come to, for which enough has executed."""
        return [look(batch) for number in numbers for batch in self._asked.pop(number, ())]

    def local(
        self, look: Look, behind: Callable[[], int | None], age: Callable[[], int | None]
    ) -> list[BatchResult]:
        """What those come to that are read as things stand here; `age` is that of an observer's state."""
        local, self._local = self._local, []
        lags = {int(Reading.BEHIND): behind, int(Reading.AGED): age}
        return [_with_lags(look(batch), readings, lags) for batch, readings in local]

    @property
    def waits_for_state(self) -> bool:
        """Whether something is to be read as things stand here."""
        return bool(self._local)

    def take(self, numbers: Iterable[int] | None = None) -> list[Batch]:
        """What is not to be read in this way: that of some questions, or of all, with what has not been asked."""
        if numbers is not None:
            return [batch for number in numbers for batch in self._asked.pop(number, ())]
        taken = [*chain.from_iterable(self._asked.values()), *self.fresh]
        self._asked.clear()
        self.fresh.clear()
        return taken

    def take_local(self) -> list[Batch]:
        """What would be read as things stand here, while they are of no one moment."""
        local, self._local = self._local, []
        return [one.batch for one in local]

    # -- through the log -----------------------------------------------------------------------------------

    def renamed(self, batch: Batch) -> Batch:
        """The same reads as commands of the own session."""
        client, first, born = self._session.begin(len(batch), self.generation)
        names = self._names[client]
        names[first] = batch.client, batch.first
        acked = next(iter(names))
        return Batch(client, first, acked, batch.operations, batch.keys, batch.arguments, born)

    def restored(self, result: BatchResult) -> BatchResult:
        """What they came to, under the names that their client gave them; untold if their session had ended."""
        names = self._names.get(result.client)
        name = None if names is None else names.pop(result.first, None)
        if name is None:
            return result
        if not names:
            del self._names[result.client]
        self._session.saw(result)
        client, first = name
        return BatchResult(client, first, result.outcomes.replace(_EXPIRED, _UNTOLD), result.values)

    def forget(self) -> None:
        """Nobody waits any more."""
        self.take()
        self.take_local()
        self._names.clear()


def _with_lags(
    result: BatchResult, readings: Sequence[int], lags: Mapping[int, Callable[[], int | None]]
) -> BatchResult:
    found = {reading: lags[reading]() for reading in lags if reading in readings}
    if not found:
        return result
    values = result.values or [None] * len(readings)
    told: list[Value] = [
        [value, found[reading]] if reading in found and outcome <= _NOT_FOUND else value
        for value, reading, outcome in zip(values, readings, result.outcomes, strict=True)
    ]
    return result._replace(values=as_column(told))
