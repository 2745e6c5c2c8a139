"""The session in which a replica proposes for those who have none."""

from __future__ import annotations

import secrets
from typing import Final

from epaxos.statemachine.operations import Outcome
from epaxos.statemachine.results import BatchResult
from epaxos.statemachine.sessions import WINDOW

_EXPIRED: Final = int(Outcome.EXPIRED)


class OwnSession:
    """Names for commands; another session takes the place of one that has ended, or may end before they execute."""

    def __init__(self) -> None:
        self._client = self._born = self._used = 0
        self._next = 1

    def begin(self, count: int, generation: int) -> tuple[int, int, int]:
        """The session of so many commands, the number of the first of them, and the generation in which it began."""
        if not self._client or generation - self._used > WINDOW // 2:
            self._client, self._next = secrets.randbits(63) + 1, 1
            self._born = generation
        self._used = generation
        first = self._next
        self._next += count
        return self._client, first, self._born

    def saw(self, result: BatchResult) -> None:
        """Note what some came to: after one whose session had ended the next are of another."""
        if result.client == self._client and _EXPIRED in result.outcomes:
            self._client = 0
