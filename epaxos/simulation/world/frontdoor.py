"""The clients' side of a simulated replica: frames in, payloads to propose, results to whoever waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from epaxos.protocol.ids import Row
from epaxos.simulation.plan.options import Options
from epaxos.statemachine.batch import Batch, Bounds, Payload, make_payload
from epaxos.statemachine.results import BatchResult


class Looked(NamedTuple):
    """What a frame of reads came to in a state of a replica, in no place of the log."""

    result: BatchResult


Answer: TypeAlias = Callable[[BatchResult | Looked | None, Row], None]
"""Takes the result of a frame, or of a part of it, and the replica that it comes from; None to go elsewhere with it."""


LONGEST_VALUE: Final = 4096


class Frontdoor:
    """Which frames wait to be proposed, and which for their execution.

    A retry of a frame that is under way here is not proposed again, as in the Replica actor.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.bounds = Bounds(LONGEST_VALUE, options.results)
        self._queue: deque[Batch] = deque()
        self._waiting: dict[tuple[int, int, int], Answer] = {}

    @property
    def to_propose(self) -> bool:
        """Whether a batch waits to be proposed."""
        return bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many batches have not been answered."""
        return len(self._waiting)

    def request(self, batch: Batch, answer: Answer) -> None:
        """Take a frame; without aggregation each of its commands goes its own way."""
        for part in [batch] if self._options.aggregate else split(batch):
            place = (part.client, part.first, len(part))
            if place not in self._waiting:
                self._queue.append(part)
            self._waiting[place] = answer

    def send_away(self, row: Row) -> None:
        """Tell all who wait that others may do better; they are answered as ever."""
        for answer in self._waiting.values():
            answer(None, row)

    def give_up(self, row: int) -> bool:
        """Have all who wait ask elsewhere, if anybody does: nothing that is here is answered here."""
        somebody = bool(self._waiting)
        self.send_away(row)
        self._waiting.clear()
        self._queue.clear()
        return somebody

    def take_payload(self) -> Payload:
        """What the next instance carries."""
        batches = [self._queue.popleft()]
        commands = len(batches[0])
        while self._options.aggregate and self._queue:
            commands += len(self._queue[0])
            if commands > self._options.max_batch:
                break
            batches.append(self._queue.popleft())
        return make_payload(batches, self.bounds)

    def awaits(self, payload: Payload) -> bool:
        """Whether somebody waits here for what some batches come to."""
        return not self._waiting.keys().isdisjoint(
            zip(payload.heads.clients, payload.heads.firsts, payload.heads.counts, strict=True)
        )

    def take_answer(self, result: BatchResult) -> Answer | None:
        """Whoever waits here for this result, and waits no more."""
        return self._waiting.pop((result.client, result.first, len(result.outcomes)), None)


def split(batch: Batch) -> list[Batch]:
    """A batch for each command of a batch."""
    if len(batch) == 1:
        return [batch]
    return [batch.part(index, index + 1) for index in range(len(batch))]
