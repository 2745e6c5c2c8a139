"""What has executed since the last cut, taken in a part at a time, before the next cut and after it."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LEFT: Final = 64
"""A cut is taken once fewer instances than a step has keys by this many are left: a few rounds' worth."""


class Backlog(Generic[T]):
    """Instances in the order in which they have executed; `coming` is where those that do are added.

    `waiting` are those that `take` gives.
    """

    def __init__(self) -> None:
        self.coming: list[T] = []
        self.waiting: deque[T] = deque()
        self._batch = math.inf

    def is_worth(self, most: int) -> bool:
        """Whether to take a step of about `most` keys before there is a cut; if so, there is something to take.

        More executes meanwhile, so it is as long as each batch is smaller than the one before.
        """
        if self.waiting:
            return True
        coming = len(self.coming)
        if not most // _LEFT < coming < self._batch:
            return False
        self.admit()
        self._batch = coming
        return True

    def admit(self) -> None:
        """Have `take` give all that has executed by now."""
        self.waiting += self.coming
        self.coming.clear()

    def cut(self) -> Backlog[T]:
        """All of it; this one begins anew."""
        self.admit()
        whole: Backlog[T] = Backlog()
        whole.waiting, self.waiting = self.waiting, deque()
        self._batch = math.inf
        return whole

    def take(self) -> T | None:
        """The first instance of those that were admitted; None if none is left."""
        return self.waiting.popleft() if self.waiting else None
