"""Whether all replicas hold the identical state once they have executed the same instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final

from epaxos.bench.links import Links

SETTLE_SECONDS: Final = 10.0
_BETWEEN_ASKING: Final = 0.05
_ABSENT_AFTER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether the replicas came to the same executed frontier, and the digests of their states there, by name.

    `missing` are the replicas that did not answer; the others are compared without them.
    """

    settled: bool
    digests: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every replica that answered holds the same state."""
        return self.settled and len(set(self.digests.values())) == 1


def settle(links: Links, patience: float = SETTLE_SECONDS) -> Settled:
    """Wait until all replicas have executed the same instances, and compare their digests.

    A digest costs a replica a pass over all of its keys, so the frontiers are compared first without it.
    """
    end = monotonic() + patience
    everyone = range(len(links.names))
    there = sorted(links.statuses(everyone, min(_ABSENT_AFTER, patience)))
    missing = tuple(links.names[link] for link in everyone if link not in there)
    while there and (now := monotonic()) < end:
        if _agree(links.statuses(there, end - now), len(there)):
            answers = links.statuses(there, max(_ABSENT_AFTER, end - now), digest=True)
            if _agree(answers, len(there)):
                digests = {links.names[link]: str(answers[link]["digest"]) for link in there}
                return Settled(settled=True, digests=digests, missing=missing)
        sleep(_BETWEEN_ASKING)
    return Settled(settled=False, missing=missing)


def _agree(answers: Mapping[int, Mapping[str, Any]], number: int) -> bool:
    """Whether so many replicas answered, have nothing left to execute, and have executed the same."""
    frontiers = {tuple(answer["executed"]) for answer in answers.values()}
    pending = sum(answer["pending"] for answer in answers.values())
    return len(answers) == number and len(frontiers) == 1 and not pending
