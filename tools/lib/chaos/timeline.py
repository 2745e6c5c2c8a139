"""How a run went over time: what was answered, how fast, and what was done to the cluster meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chaos.faults import Fault
from epaxos.bench.series import Series

SHORTEST: Final = 0.5
INTERVALS: Final = 300
"""Of a run: seconds of one interval at least, and how many there are about."""

ALL: Final = "cluster"
"""Where a fault happens that has no victims."""


class Timeline:
    """What happens in a run of about `seconds`, its rounds one after another.

    Times are seconds on one clock; those that are told are since the first round's load began.
    """

    def __init__(self, names: Sequence[str], seconds: float) -> None:
        self._series = Series(round(max(SHORTEST, seconds / INTERVALS) * 1e9), names)
        self._passed = self._began = 0.0
        self._goes_on = False
        self._under_way: dict[int, dict[str, Any]] = {}
        self._faults: list[dict[str, Any]] = []

    def begin(self, now: float) -> None:
        """The load of a round begins."""
        self._began, self._goes_on = now, True

    def answered(self, home: str, asked: float, now: float, commands: int = 1) -> None:
        """Commands that were asked together for at a replica's client have been answered, perhaps after the end."""
        if not self._goes_on:
            return
        since, took = (round(seconds * 1e9) for seconds in (self._at(now), now - asked))
        self._series.record(home, since, took, 0, commands)

    def strike(self, fault: Fault, now: float) -> None:
        """A fault begins."""
        told: dict[str, Any] = {"kind": fault.label, "text": str(fault), "victims": list(fault.victims)}
        told |= {"begin": self._at(now), "end": None}
        self._under_way[id(fault)] = told
        self._faults.append(told)

    def heal(self, fault: Fault, now: float) -> None:
        """It ends."""
        self._under_way.pop(id(fault))["end"] = self._at(now)

    def end(self, now: float) -> None:
        """The load of a round has ended, and with it what lasts."""
        for told in self._under_way.values():
            told["end"] = self._at(now)
        self._under_way.clear()
        self._passed, self._goes_on = self._at(now), False

    def _at(self, now: float) -> float:
        return round(self._passed + now - self._began, 3)

    def as_dict(self) -> dict[str, Any]:
        """The series as `epaxos bench --json` has it, and the faults."""
        return {"series": self._series.as_json(0.0, round(self._passed * 1e9)), "events": self._faults}
