"""What an acceptor took lately, in that order, for observers, who ask for it: nothing waits here for a slow one."""

from __future__ import annotations

from collections import deque
from typing import Final

from epaxos.protocol.registers.values import Ballot, Follow, Followed, Told

KEPT: Final = 10_000
KEPT_BYTES: Final = 4 << 20
"""What is kept at most; who comes later finds a gap, and scans."""

PAGE: Final = 500
PAGE_BYTES: Final = 1 << 20
"""What one answer tells, about; one more value may come on top."""


def _size(told: Told) -> int:
    return len(told.key) + len(told.state.value or b"")


class Feed:
    """Positions count what was taken since this `start` of the acceptor, a number that no other start of it has.

    `most` is how many are kept, KEPT if nothing is said; of KEPT_BYTES at most.
    """

    def __init__(self, start: int, most: int | None = None) -> None:
        self._start = start
        self._most = most
        self._kept: deque[Told] = deque()
        self._first = 0
        self._bytes = 0

    def add(self, told: Told) -> None:
        """Something was taken."""
        self._kept.append(told)
        self._bytes += _size(told)
        while len(self._kept) > (KEPT if self._most is None else self._most) or (
            self._bytes > KEPT_BYTES and len(self._kept) > 1
        ):
            self._bytes -= _size(self._kept.popleft())
            self._first += 1

    def tell(self, request: Follow, floor: Ballot) -> Followed:
        """A page of what came since a position."""
        end = self._first + len(self._kept)
        if request.start != self._start or not self._first <= request.position <= end:
            return Followed(request.key, request.ballot, self._start, end, floor, kept=False, accepted=())
        page: list[Told] = []
        size = 0
        position = request.position
        while position < end and len(page) < PAGE and size < PAGE_BYTES:
            page.append(self._kept[position - self._first])
            size += _size(page[-1])
            position += 1
        return Followed(
            request.key, request.ballot, self._start, position, floor, kept=True, accepted=tuple(page)
        )
