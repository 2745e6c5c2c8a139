"""What a hunt is told and what it tells, as values that JSON can carry."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mutants.mutation import Draw


class Task(NamedTuple):
    """What to hunt: a mutant by name, or "" for the program as it is.

    `seeds` is how many to try at most, from `first` on. With `consequences`, checks that assert a rule are taken away.
    """

    mutant: str
    draw: Draw
    seeds: int
    consequences: bool = False
    schedule: str = ""
    first: int = 0

    @classmethod
    def load(cls, text: str) -> Task:
        """The task that `json.dumps` of a task gives."""
        mutant, draw, *rest = json.loads(text)
        *first, muted, slow, times, options = draw
        kinds = (tuple(muted), tuple(slow))
        drawn = Draw(*first, *kinds, _pairs(times), _pairs(options))  # type: ignore[call-arg]  # JSON has no types
        return cls(mutant, drawn, *rest)


def _pairs(items: list[list[Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _frozen(value)) for name, value in items)


def _frozen(value: Any) -> Any:
    """A value with tuples where JSON has lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


class Found(NamedTuple):
    """What came of a task.

    verdict   name of a `Verdict`; CLEAN if nothing was found
    checker   which one found it, "liveness" or "traceback"
    text      what it said
    seeds     how many were tried, that of the finding counted
    seconds   of this process
    """

    verdict: str
    checker: str
    text: str
    seeds: int
    seconds: float
