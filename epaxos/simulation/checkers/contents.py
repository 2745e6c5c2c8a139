"""What payloads hold, read once and kept: who asked for which commands, and which keys they touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epaxos.protocol.command import Command as Opaque
from epaxos.protocol.ids import Vector
from epaxos.simulation.checkers.reference import ANY, EVERYTHING, Command, touched
from epaxos.statemachine.batch import Payload


class Asked(NamedTuple):
    """A command with the session and the request number under which it was asked for, and when the session began."""

    client: int
    number: int
    command: Command
    generation: int = 0


class Content(NamedTuple):
    """The commands of a payload's batches in order; the keys that it only reads, and those that it writes, sorted.

    Of a collection `base` and `generation` are what it carries; of all others `base` is None. EVERYTHING stands for a
    key that all payloads read, and what conflicts with everything writes.

    `room` is how many bytes the results of a batch's commands that write may take.
    """

    batches: tuple[tuple[Asked, ...], ...]
    room: int
    reads: Sequence[bytes]
    writes: Sequence[bytes]
    base: Vector | None = None
    generation: int = 0

    @property
    def commands(self) -> list[Asked]:
        """All commands, in order."""
        return [asked for batch in self.batches for asked in batch]

    @property
    def brought(self) -> Sequence[bytes]:
        """What of it those meet that read: the keys that it writes, and ANY if there are some."""
        return [*self.writes, ANY] if self.writes else ()


class Contents:
    """The contents of the payloads of a run."""

    def __init__(self) -> None:
        self._known: dict[bytes, Content] = {}

    def of(self, payload: Opaque) -> Content:
        """What a payload holds. It is read from its batches, not from what it says of its own keys."""
        content = self._known.get(payload.encoded)
        if content is None:
            assert isinstance(payload, Payload)
            content = self._known[payload.encoded] = _read(payload)
        return content


def _read(payload: Payload) -> Content:
    batches: list[tuple[Asked, ...]] = []
    for batch in payload.batches:
        arguments = batch.arguments or [None] * len(batch)
        columns = zip(batch.operations, batch.keys, arguments, strict=True)
        batches.append(
            tuple(
                Asked(batch.client, number, Command(*column), batch.generation)
                for number, column in enumerate(columns, batch.first)
            )
        )
    if payload.base is not None:
        return Content((), 0, (), (EVERYTHING,), payload.base, payload.generation)
    assert payload.bounds is not None
    reads, writes = touched([asked.command for batch in batches for asked in batch])
    return Content(
        tuple(batches), payload.bounds.results, sorted({EVERYTHING, *reads} - writes), sorted(writes)
    )
