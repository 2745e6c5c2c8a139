"""How a run went over time: what was answered in each interval, and how long at most nothing was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Line(NamedTuple):
    """Values over time, of which there may be none; `strong` is the one to look at first."""

    name: str
    values: Sequence[float | None]
    strong: bool = False


class Lines(NamedTuple):
    """What a chart over time shows: in the middle of which seconds, commands a second, and latencies in ms."""

    seconds: Sequence[float]
    throughput: Sequence[Line]
    latency: Sequence[Line]


@dataclass(slots=True)
class Answers:
    """The answers to one replica's clients by interval: how many, the sum of their latencies and the longest (ns).

    `gap` is the longest time (ns) from the beginning or an answer to the next answer, or to the end.
    """

    counts: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    longest: list[int] = field(default_factory=list)
    last: int = 0
    gap: int = 0

    def extend(self, intervals: int) -> None:
        """Have at least so many intervals."""
        missing = range(intervals - len(self.counts))
        self.counts.extend(0 for _ in missing)
        self.sums.extend(0.0 for _ in missing)
        self.longest.extend(0 for _ in missing)

    def note(self, now: int) -> None:
        """Something was answered, or the run is over."""
        self.gap = max(self.gap, now - self.last)
        self.last = max(self.last, now)


class Series:
    """A run in intervals of so many nanoseconds; all times count from the first measured command's sending."""

    def __init__(self, interval: int, names: Sequence[str]) -> None:
        self._interval = interval
        self._answers = {name: Answers() for name in names}

    def record(self, name: str, now: int, oldest: int, spacing: int, count: int) -> None:
        """`count` commands of a replica's client were answered at a time; the `oldest` took so long.

        The others were due `spacing` after one another.
        """
        answers, place = self._answers[name], max(0, now) // self._interval
        answers.note(now)
        answers.extend(place + 1)
        answers.counts[place] += count
        answers.sums[place] += count * (oldest - spacing * (count - 1) / 2)
        answers.longest[place] = max(answers.longest[place], oldest)

    def as_json(self, started: float, end: int) -> dict[str, Any]:
        """The series of a run that began at `started` (seconds of the epoch) and took `end` (ns)."""
        for answers in self._answers.values():
            answers.note(end)
            answers.extend(max(len(some.counts) for some in self._answers.values()))
        return {
            "started": round(started, 3),
            "interval_s": self._interval / 1e9,
            "replicas": {name: _shown(answers) for name, answers in self._answers.items()},
        }


def _shown(answers: Answers) -> dict[str, Any]:
    pairs = zip(answers.sums, answers.counts, strict=True)
    return {
        "operations": answers.counts,
        "mean_ms": [round(total / count / 1e6, 3) if count else None for total, count in pairs],
        "longest_ms": [round(longest / 1e6, 3) for longest in answers.longest],
        "longest_gap_ms": round(answers.gap / 1e6, 3),
    }


def lines_of(series: Mapping[str, Any]) -> Lines:
    """What a chart shows of `Series.as_json`; of several intervals not the last, which the end cut short."""
    interval, replicas = series["interval_s"], series["replicas"]
    intervals = max(len(shown["operations"]) for shown in replicas.values())
    whole = slice(0, max(1, intervals - 1))
    counts = {name: shown["operations"][whole] for name, shown in replicas.items()}
    throughput = [Line(name, [count / interval for count in some]) for name, some in counts.items()]
    mean: list[float | None] = []
    longest: list[float | None] = []
    together: list[float | None] = []
    for place in range(len(range(intervals)[whole])):
        answered = sum(some[place] for some in counts.values())
        means = [(shown["mean_ms"][place] or 0.0) * shown["operations"][place] for shown in replicas.values()]
        together.append(answered / interval)
        mean.append(sum(means) / answered if answered else None)
        longest.append(max(shown["longest_ms"][place] for shown in replicas.values()) or None)
    return Lines(
        [(place + 0.5) * interval for place in range(len(mean))],
        [Line("all", together, strong=True), *throughput],
        [Line("mean", mean, strong=True), Line("longest", longest)],
    )
