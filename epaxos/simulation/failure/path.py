"""The path of events that led to a failure: of all that happened, what concerns what the failure is about."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from epaxos.protocol.ids import InstanceId
from epaxos.simulation.checkers.violation import Verdict
from epaxos.simulation.failure.trace import Entry, Trace, run_traced
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.run import CORE_STOPS, Outcome

FIRST, LAST = 100, 300
"""How many lines of a long path are shown: its beginning and its end."""

MOST_NAMES = 8
"""How many instances and commands are named that a path is about."""


class Subject(NamedTuple):
    """What a failure is about; without any of both, everything."""

    places: frozenset[InstanceId]
    calls: frozenset[tuple[int, int]]

    def concerns(self, entry: Entry) -> bool:
        """Whether an entry belongs to the path."""
        return (
            entry.general
            or not (self.places or self.calls)
            or not self.places.isdisjoint(entry.places)
            or not self.calls.isdisjoint(entry.calls)
        )

    def __str__(self) -> str:
        if not (self.places or self.calls):
            return "everything"
        names = [str(place) for place in sorted(self.places)]
        names += [f"command {client}:{number}" for client, number in sorted(self.calls)]
        more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
        return ", ".join(names[:MOST_NAMES] + more)


def find_path(plan: Plan, outcome: Outcome, *, everything: bool = False) -> tuple[Subject, list[str]]:
    """What the failure of a plan is about, and its path, one line an event.

    `everything` leaves out no event, not even beacons.
    """
    subject = Subject(frozenset(), frozenset()) if everything else _subject(plan, outcome)
    kept = _Ends(whole=everything)

    def take(entry: Entry) -> None:
        if subject.concerns(entry):
            kept.add(entry)

    run_traced(plan, Trace(take, everything=everything))
    return subject, kept.lines()


def _subject(plan: Plan, outcome: Outcome) -> Subject:
    """Instances with the commands that their owners proposed in them, and commands with the instances."""
    latest: list[tuple[InstanceId, ...]] = [()]

    def note(entry: Entry) -> None:
        if entry.places:
            latest[0] = entry.places

    trace = Trace(note)
    run_traced(plan, trace)
    places, calls = set(outcome.places), set(outcome.calls)
    if outcome.verdict is Verdict.CRASH or outcome.text.startswith(CORE_STOPS):
        places.update(latest[0])
    places.update(place for place, carried in trace.carried.items() if not calls.isdisjoint(carried))
    calls.update(call for place in places for call in trace.carried.get(place, ()))
    return Subject(frozenset(places), frozenset(calls))


class _Ends:
    """The first and the last lines of a path, and how many there were between them; or the `whole` of it."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._first: list[Entry] = []
        self._last: deque[Entry] = deque()
        self._left_out = 0

    def add(self, entry: Entry) -> None:
        if self._whole or len(self._first) < FIRST:
            self._first.append(entry)
            return
        self._last.append(entry)
        if len(self._last) > LAST:
            self._last.popleft()
            self._left_out += 1

    def lines(self) -> list[str]:
        middle = [f"{'…':>12} {self._left_out} events left out"] if self._left_out else []
        return [*map(str, self._first), *middle, *map(str, self._last)]
