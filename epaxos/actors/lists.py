"""When commands on all keys may be proposed, or read here: once the keys are in order (decision 0041).

Where they are not, a page has all keys walked through, some 100 ms for a million, which would stop all that a replica
does. So who asks for the first list waits, and the order is made meanwhile in shares of the rounds.

**A clear is executed everywhere**, and has to find the same keys there. So it waits for the others too: heartbeats say
where one waits, and a replica that hears of that puts its keys in order; they say then that this is done. Nothing
depends on what they say but how long it takes: a replica that is asked before it has the order walks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from epaxos.protocol.ids import Name
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.ordered import OrderedKeys

_log = logging.getLogger(__name__)

SHARE: Final = 0.003
"""Seconds of a round in which the order is made."""

PATIENCE: Final = 10.0
"""Seconds that a clear waits at most for other replicas."""

_SCAN: Final = int(Operation.SCAN)
_COUNT: Final = int(Operation.COUNT)
_CLEAR: Final = int(Operation.CLEAR)


class Lists:
    """What a replica that keeps its keys in some `order` says and hears of that; `online` are the peers that are.

    `hasten` has them hear a heartbeat at once.
    """

    def __init__(
        self,
        order: Callable[[], OrderedKeys],
        online: Callable[[], Iterable[Name]],
        hasten: Callable[[], None],
    ) -> None:
        self._order = order
        self._online = online
        self._hasten = hasten
        self._ready: dict[Name, bool] = {}
        self._clear_until = inf
        self._told = False
        self._began: float | None = None

    @property
    def clears(self) -> bool:
        """Whether a clear waits here."""
        return self._clear_until < inf

    @property
    def ordered(self) -> bool:
        """Whether a page is found without a long walk."""
        return self._order().at_hand

    @property
    def deadline(self) -> float:
        """When `go_on` is due even if nothing arrives."""
        return -inf if self._order().unfinished else self._clear_until

    def may_take(self, operations: bytes, arrived: float, now: float) -> bool:
        """Whether commands need not wait that came at some time; if they must, they are asked about again."""
        clears = _CLEAR in operations
        if not clears and _SCAN not in operations and _COUNT not in operations:
            return True
        order = self._order()
        if not order.at_hand:
            order.begin()
        elif not clears or now >= arrived + PATIENCE or self._all_ordered():
            return True
        if clears:
            self._clear_until = min(self._clear_until, arrived + PATIENCE)
        return False

    def _all_ordered(self) -> bool:
        return all(self._ready.get(peer, False) for peer in self._online())

    def look(self, release: Callable[[float], None], now: float) -> None:
        """Let those go on that need not wait any more; `release` asks for each whether it may."""
        self._clear_until = inf
        release(now)
        if self.clears and not self._told:
            self._hasten()
        self._told = self.clears

    def hear(self, peer: Name, *, clears: bool, ordered: bool) -> None:
        """What a peer says: whether a clear waits there, and whether it has the order."""
        self._ready[peer] = ordered
        order = self._order()
        if clears and not order.at_hand:
            order.begin()

    def go_on(self) -> None:
        """Make the order, for a share of a round."""
        order = self._order()
        if order.unfinished:
            self._step(order)
        if self._began is not None and order.at_hand and not order.unfinished:  # few keys are at hand before
            _log.info("the keys are in order, after %.1f s", time.monotonic() - self._began)
            self._began = None
            self._hasten()  # a clear may wait elsewhere

    def _step(self, order: OrderedKeys) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
            _log.info("the keys are put in order, for lists; those wait until then")
        while not order.step() and time.monotonic() < now + SHARE:
            pass
