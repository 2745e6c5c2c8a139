"""What a replica did in the last minutes, second by second, and what changed when: for the page that shows it.

Reads what the Replica's thread counts, as a scrape does (`metrics.collector` says why that is sound).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from epaxos.metrics import Health, Histogram, ReplicaStats

KEPT: Final = 300
"""Samples, one a second."""

_EVENTS: Final = 40


class Sample(NamedTuple):
    """What was done since the sample before, and how it was at its end.

    at          seconds since 1970
    executed, proposed   commands a second that executed here, and that clients asked for here
    median, late   seconds from proposal to execution of own instances: the half and 99 % took no more; None without any
    sync        seconds that one in a hundred writes to the log took; None without any
    paths       own instances committed a second, by path
    behind, in_flight   instances known here and not executed; own ones that are not committed
    heard       replicas heard, this one included
    ready       whether it can serve clients
    """

    at: float
    executed: float
    proposed: float
    median: float | None
    late: float | None
    sync: float | None
    paths: dict[str, float]
    behind: int
    in_flight: int
    heard: int
    ready: bool


class Change(NamedTuple):
    """Something happened at a time: `level` is "good", "bad" or "note"."""

    at: float
    level: str
    text: str


@dataclass(slots=True)
class _Before:
    """What is counted for ever, as it was at the last sample."""

    at: float
    executed: int
    proposed: int
    execution: list[int]
    persist: list[int]
    commits: dict[str, int]


class Sampler:
    """Samples of one replica; `take` is called once a second or so."""

    def __init__(self, stats: ReplicaStats) -> None:
        self._stats = stats
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        self.changes: deque[Change] = deque(maxlen=_EVENTS)
        self._before: _Before | None = None
        self._states: dict[str, Any] = {}

    def take(self, at: float, health: Health) -> Sample:
        """Take a sample at a time (seconds since 1970, later than the last)."""
        stats = self._stats
        now = _Before(
            at,
            sum(stats.executed.copy()),
            stats.proposals,
            stats.execution_latency.counts.copy(),
            stats.persist_duration.counts.copy(),
            stats.commits.copy(),
        )
        before = self._before or now
        self._before = now
        passed = max(at - before.at, 1e-3)
        execution = _difference(now.execution, before.execution)
        persist = _difference(now.persist, before.persist)
        gauges = stats.gauges
        sample = Sample(
            at,
            (now.executed - before.executed) / passed,
            (now.proposed - before.proposed) / passed,
            quantile(stats.execution_latency, execution, 0.5),
            quantile(stats.execution_latency, execution, 0.99),
            quantile(stats.persist_duration, persist, 0.99),
            {path: (count - before.commits.get(path, 0)) / passed for path, count in now.commits.items()},
            gauges.pending,
            gauges.in_flight,
            len(stats.heard),
            not health.unready,
        )
        self.samples.append(sample)
        self._note_changes(at, health, now.commits["recovered"] - before.commits["recovered"])
        return sample

    def _note_changes(self, at: float, health: Health, recovered: int) -> None:
        stats = self._stats
        for peer, up in stats.peer_up.copy().items():
            self._note(at, peer, up, f"{peer} is heard", f"{peer} is not heard")
        self._note(at, "\0quorum", stats.has_quorum, "a quorum is heard", "no quorum: nothing commits here")
        self._note(at, "\0ready", not health.unready, "this replica serves", "this replica does not serve")
        self._note(at, "\0disk", not stats.storage_failed, "the disk works", "the disk failed")
        caught_up = "it has caught up by the checkpoint of a peer"
        catches_up = "it fetches the checkpoint of a peer"
        self._note(at, "\0checkpoint", stats.catch_up is None, caught_up, catches_up)
        if self._states.setdefault("\0epoch", stats.epoch) != stats.epoch:
            self._states["\0epoch"] = stats.epoch
            self._say(at, "note", f"epoch {stats.epoch} has begun")
        if recovered:
            plural = "" if recovered == 1 else "s"
            self._say(at, "note", f"{recovered} instance{plural} of a silent owner recovered")

    def _note(self, at: float, name: str, good: bool, well: str, ill: str) -> None:  # noqa: FBT001 - see its calls
        """Say so where something is not as it was; at first nothing is."""
        before = self._states.get(name)
        self._states[name] = good
        if before is not None and before != good:
            self._say(at, "good" if good else "bad", well if good else ill)

    def _say(self, at: float, level: str, text: str) -> None:
        self.changes.append(Change(at, level, text))


def quantile(histogram: Histogram, counts: Sequence[int], share: float) -> float | None:
    """What that share of the observations in `counts` does not exceed, between the bounds of its bucket; or None."""
    total = sum(counts)
    if not total:
        return None
    rest = share * total
    lower = 0.0
    for bound, count in zip(histogram.bounds, counts, strict=False):
        if rest <= count and count:
            return lower + (bound - lower) * rest / count
        rest -= count
        lower = bound
    return lower


def _difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    return [count - earlier for count, earlier in zip(now, before, strict=True)]
