"""How long the first of some commands waits for others: an instance costs each replica what fifty commands in it cost.

**While something of this replica is under way**, fewer than `ENOUGH` commands wait, at most until it is decided.

**While nothing is**, for as many frames as were under way at once before the last instance: clients that wait for their
answers, one frame each, have just got them and come back together. Else the first of them would get an instance of its
own and the others wait for that, so that there would be twice as many, for ever. Who is the only one does not wait.

Either for half as long as instances take to be decided, at most: where that is long, an instance of their own does
those who come a little later no good. If it was in vain, the next occasion is let pass, then the next three, up to
`_FORGONE`: a client that comes seldom costs one that comes often next to nothing. What all that brings is in
`docs/profile.md`.
"""

from __future__ import annotations

from typing import Final

ENOUGH: Final = 256
"""Commands that need not wait for others, where an instance takes as many."""

LEAST: Final = 0.001
MOST: Final = 0.005
"""Bounds, in seconds, of how long fewer of them wait."""

_WEIGHT: Final = 0.1
"""How much the last instance counts in how long instances take."""

_FORGONE: Final = 63
"""Occasions to wait that are let pass at most."""


class Company:
    """What is known of those who may come; frames are those of clients, each with one command or more.

    `enough` commands need not wait: `ENOUGH`, or all that an instance takes.
    """

    def __init__(self, enough: int = ENOUGH) -> None:
        self._enough = enough
        self._usual = self._most = 0
        self._alone = False
        self._to_forgo = self._forgone = 0
        self._patience = LEAST

    def arrived(self, under_way: int) -> None:
        """A frame has come; with it, so many have no answer yet."""
        self._most = max(self._most, under_way)

    def due(self, frames: int, commands: int, since: float, *, alone: bool) -> float:
        """When so many are to be proposed, the first of which came at `since`; `alone` if nothing is under way."""
        self._alone = alone
        if commands >= self._enough or (alone and (frames >= self._usual or self._to_forgo)):
            return 0.0
        return since + self._patience

    def left(self, frames: int, under_way: int) -> None:
        """So many are proposed, as the last call of `due` allowed; that many have no answer yet, these included."""
        if self._alone and frames < self._usual:
            if self._to_forgo:
                self._to_forgo -= 1
            elif 2 * frames <= self._usual:
                self._to_forgo = self._forgone = min(2 * self._forgone + 1, _FORGONE)
        elif self._alone and frames > 1:
            self._to_forgo = self._forgone = 0
        self._usual, self._most = self._most, under_way

    def decided(self, seconds: float) -> None:
        """An instance of this replica has been decided, so long after it was proposed."""
        self._patience += _WEIGHT * (min(max(seconds / 2, LEAST), MOST) - self._patience)
