"""The core of a replica that has no vote in an epoch: it holds the state with which it came there, and looks on.

It is one that has been removed, and still helps those who lag, or one that is to join and has nothing yet. Either takes
part in nothing: it answers no question of consensus, and none of its answers would be counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Core, Effects, Event, Propose


class Spectator:
    """See the module; what there is to tell of the state is told by `core`, which is given no event.

    What is proposed here waits, until the driver takes it elsewhere (`left`).
    """

    def __init__(self, core: Core[Any]) -> None:
        self._core = core
        self._left: list[Command] = []

    def __getattr__(self, name: str) -> Any:
        """All that a core tells of its state without being given an event."""
        return getattr(self._core, name)

    deadline = math.inf
    in_flight = 0
    lost = False
    quiet = True
    coverage: Mapping[str, int] = {}

    def on_event(self, event: Event[Any], now: float) -> Effects[Any]:
        """See `contract.Core`."""
        del now
        if isinstance(event, Propose):
            self._left.append(event.command)
        return Effects()

    def resume(self, now: float) -> Effects[Any]:
        """See `contract.Core`."""
        del now
        return Effects()

    def left(self) -> Sequence[Command]:
        """See `contract.Core`."""
        return self._left
