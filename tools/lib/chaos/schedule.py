"""When what is done to a cluster: drawn from a seed before the run, so that it can be repeated.

Time is divided into slots of one interval. A fault begins with a slot; the first slot and the last one have none,
so that a run begins in order and what it ends with has time to be mended. Kills come last: what is dead stays dead,
and a cluster with as many dead as it survives can bear nothing else. A restart is over when its victims are back, which
nobody can know beforehand; what was drawn to come after waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from chaos.faults import DRAWS, Fault
from chaos.restarts import Lengthy

CALM: Final = 0.2
"""Share of a slot, at its end, in which every fault that can be mended is."""

MIXED: Final = 4
"""Slots of a round, at least, in which something other than a kill happens, if more than kills are asked for."""

WHOLE: Final = frozenset({"restart-all"})
"""Kinds that befall all replicas, so nothing else may be under way."""

HARMLESS: Final = frozenset({"member"})
"""Kinds that may make nobody faulty, so they may befall a cluster in which somebody is."""

WEIGHTS: Final = {"restart": 3, "member": 3, "disk-loss": 2}
"""How much likelier than others some kinds are."""

START: Final = 1.0
"""Seconds that a replica takes to come back from its last start, about."""


class Event(NamedTuple):
    """A fault with its begin and its end; seconds since the load began, None for one that does not end."""

    at: float
    until: float | None
    fault: Fault

    def postponed(self, at: float) -> Event:
        """The same, as long, from `at` on."""
        return self._replace(at=at, until=None if self.until is None else self.until + at - self.at)


def plan_rounds(slots: int, kinds: Sequence[str], at_once: int) -> list[int]:
    """How many slots each round gets: a cluster that loses replicas for good is replaced by a new one in time."""
    if "kill" not in kinds:
        return [slots]
    needed = at_once + 2 + (MIXED if len(kinds) > 1 else 0)
    rounds = max(1, slots // needed)
    return [slots // rounds + (number < slots % rounds) for number in range(rounds)]


def draw_schedule(
    chance: Random, names: Sequence[str], kinds: Sequence[str], at_once: int, slots: int, interval: float
) -> list[Event]:
    """The faults of one round of `slots` intervals, never with more than `at_once` replicas faulty."""
    kills = min(at_once, slots - 2) if "kill" in kinds else 0
    first_kill = slots - 1 - kills
    passing = [kind for kind in kinds if kind != "kill"]
    events: list[Event] = []
    for slot in range(1, slots - 1 if kills else slots):
        begin = slot * interval * 1.0
        victims = _victims(events, begin)
        healthy = [name for name in names if name not in victims]
        room = at_once - len(victims)
        if slot >= first_kill and kills:
            if room > 0:
                events.append(Event(begin, None, DRAWS["kill"](chance, healthy, names, room)))
            continue
        possible = [
            kind for kind in passing if kind in HARMLESS or (room > 0 and (kind not in WHOLE or not victims))
        ]
        if possible:
            last = (first_kill if kills else slots) * interval - CALM * interval
            until = begin + interval * chance.uniform(0.3, 0.9 if at_once == 1 else 1.8)
            kind = chance.choices(possible, [WEIGHTS.get(kind, 1) for kind in possible])[0]
            fault = DRAWS[kind](chance, healthy, names, room)
            if isinstance(fault, Lengthy):
                until = begin + fault.seconds + START
            events.append(Event(begin, min(last, until), fault))
    return events


def _victims(events: Sequence[Event], now: float) -> set[str]:
    """Those of faults that are under way."""
    return {
        victim
        for event in events
        if event.until is None or event.until > now
        for victim in event.fault.victims
    }
