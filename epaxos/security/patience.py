"""How those are slowed down that come with one wrong key, token or password after the other.

By address: each failure doubles the time that the next answer takes, or until which no other try is looked at; a while
without one, and it is forgotten. Memory is bounded: of the addresses seen, the last are known.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FIRST: Final = 0.1
LONGEST: Final = 5.0
"""Seconds after the first failure from an address, and at most after doubling."""

FORGOTTEN: Final = 60.0
"""Seconds without a failure after which an address begins anew."""

ADDRESSES: Final = 1024
"""Of so many the failures are known."""


class Patience:
    """The failures of each address; `now` is by any one clock, in seconds."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str, now: float) -> float:
        """Note a failure; how long who failed is to wait, in seconds."""
        delay, until = self._known.pop(address, (FIRST / 2, now))
        delay = FIRST if now > until + FORGOTTEN else min(2 * delay, LONGEST)
        self._known[address] = delay, now + delay
        if len(self._known) > ADDRESSES:
            self._known.popitem(last=False)
        return delay

    def left(self, address: str, now: float) -> float:
        """Seconds for which no try from there is to be looked at."""
        _, until = self._known.get(address, (0.0, now))
        return max(0.0, until - now)

    def succeeded(self, address: str) -> None:
        """Who came in was only mistaken before."""
        self._known.pop(address, None)
