"""When to recover what: undecided instances that have been silent for too long (protocol 4.9, timer 4).

Every slot up to the highest one heard of must be decided one day, whether or not there is a record of it here, and
whether or not a client waits: execution waits for whole prefixes. A sweep at intervals looks at the lowest undecided
slots of each row, gives each a deadline, and recovers those whose deadline has passed.

What a peer that is there has decided is not recovered but asked for (`dissemination`), however long that takes: the
answer to a Recover would bring the same decisions once more, from each peer.

Bounded work: a sweep looks at `WINDOW` slots a row, and at most `CONCURRENT` recoveries are under way at a time,
so a dead owner's burst is worked off in batches, from below.

Who goes first: the replica next to the owner in the ring, then the next one. The owner comes last, because
its own recovery annuls its instance (protocol 4.7, case 3). Deadlines back off exponentially and at random, so
that two recoverers do not preempt each other for ever. Those that were set while round trips were longer are brought
forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from epaxos.protocol.epaxos.state import State, Suspect
from epaxos.protocol.ids import InstanceId, Row, Slot, covers

WINDOW: Final = 512
CONCURRENT: Final = 128

_SWEEPS: Final = 8
"""In a quarter of the time-out, at most."""


class Suspicion:
    """Decides which instances this replica recovers, and when.

    `start` begins a recovery, `is_at_work` tells whether this replica coordinates an instance already, `active` how
    many recoveries are under way that do not wait for others.
    """

    def __init__(
        self,
        state: State,
        start: Callable[[InstanceId], None],
        is_at_work: Callable[[InstanceId], bool],
        active: Callable[[], int],
    ) -> None:
        self._state = state
        self._start = start
        self._is_at_work = is_at_work
        self._active = active
        self.next_sweep = 0.0

    def sweep(self) -> None:
        """Look for undecided instances and recover the overdue ones.

        Due every quarter of the time-out, and when the next deadline passes: clients wait for it.
        """
        state = self._state
        if state.now < self.next_sweep:
            return
        self._recover_overdue()
        interval = state.settings.recovery_timeout / 4
        # One that is overdue is at work, or waits for others to end.
        dues = (suspect.due for suspect in state.suspects.values() if suspect.due > state.now)
        soonest = min(dues, default=math.inf)
        self.next_sweep = state.now + min(interval, max(soonest - state.now, interval / _SWEEPS))

    def _recover_overdue(self) -> None:
        state = self._state
        state.bring_forward()
        open_rows = [row for row, up_to in enumerate(state.logs.committed) if state.seen[row] > up_to]
        if not open_rows and not state.suspects:
            return
        decided = state.decided_elsewhere
        for row in open_rows:
            self._suspect_row(row, decided[row])
        overdue = sorted(
            (suspect.due, place)
            for place, suspect in state.suspects.items()
            if suspect.due <= state.now and not covers(decided, place) and not self._is_at_work(place)
        )
        for _, place in overdue[: max(0, CONCURRENT - self._active())]:
            self._recover(place)

    def _suspect_row(self, row: Row, decided: Slot) -> None:
        state = self._state
        first = max(state.logs.committed[row], decided) + 1
        last = state.seen[row]
        if state.ended is not None and state.ended.cut is not None:
            last = min(last, state.ended.cut[row])  # what is above is void (protocol 6.7)
        for slot in range(first, min(last, first + WINDOW) + 1):
            state.suspect(InstanceId(row, slot))

    def _recover(self, place: InstanceId) -> None:
        state = self._state
        suspect = state.suspects[place]
        suspect.attempts += 1
        suspect.due = state.now + state.patience(place, suspect.attempts)
        self._start(place)

    def on_offline(self, peer: Row) -> None:
        """A silent owner will not decide: its instances need not wait for the whole time-out."""
        for place, suspect in self._state.suspects.items():
            if place.row == peer:
                self._begin_anew(place, suspect)

    def on_online(self, peer: Row) -> None:
        """A peer is back: a recovery that failed for want of a quorum may succeed now, so its delay begins anew.

        What the peer owns it goes on with by itself: who took that over now would compete with it. But each instance is
        left to it once, for an owner that comes and goes may never come to an end.
        """
        state = self._state
        for place, suspect in state.suspects.items():
            if suspect.attempts:
                self._begin_anew(place, suspect)
            elif place.row == peer and not suspect.left:
                suspect.left = True
                suspect.due = max(suspect.due, state.now + state.patience(place, 0))

    def _begin_anew(self, place: InstanceId, suspect: Suspect) -> None:
        state = self._state
        suspect.attempts = 0
        suspect.due = min(suspect.due, state.now + state.patience(place, 0))
        self.next_sweep = min(self.next_sweep, max(suspect.due, state.now))
