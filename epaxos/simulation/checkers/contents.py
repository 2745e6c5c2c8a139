"""What payloads hold, read once and kept: who asked for which commands, and which keys they touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epaxos.protocol.command import Command as Opaque
from epaxos.simulation.checkers.reference import Command, touched
from epaxos.statemachine.batch import Payload


class Asked(NamedTuple):
    """A command with the session and the request number under which it was asked for."""

    client: int
    number: int
    command: Command


class Content(NamedTuple):
    """The commands of a payload's batches in order; the keys that it only reads, and those that it writes, sorted.

    `room` is how many bytes the results of a batch's commands that write may take.
    """

    batches: tuple[tuple[Asked, ...], ...]
    room: int
    reads: Sequence[bytes]
    writes: Sequence[bytes]

    @property
    def commands(self) -> list[Asked]:
        """All commands, in order."""
        return [asked for batch in self.batches for asked in batch]


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
                Asked(batch.client, number, Command(*column))
                for number, column in enumerate(columns, batch.first)
            )
        )
    assert payload.bounds is not None
    reads, writes = touched([asked.command for batch in batches for asked in batch])
    return Content(tuple(batches), payload.bounds.results, sorted(reads), sorted(writes))
