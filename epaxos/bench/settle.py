"""Whether all replicas hold the identical state once they have executed the same instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final

from epaxos.bench.links import Links

SETTLE_SECONDS: Final = 10.0
_BETWEEN_ASKING: Final = 0.05


@dataclass(frozen=True, slots=True)
class Settled:
    """The digests of the replicas' states by name, and whether they belong to the same executed frontier."""

    settled: bool
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether every replica holds the same state."""
        return self.settled and len(set(self.digests.values())) == 1


def settle(links: Links, patience: float = SETTLE_SECONDS) -> Settled:
    """Wait until all replicas have executed the same instances, and compare their digests.

    A digest costs a replica a pass over all of its keys, so the frontiers are compared first without it.
    """
    end = monotonic() + patience
    everyone = range(len(links.names))
    digests: dict[str, str] = {}
    while (now := monotonic()) < end:
        if _agree(links.statuses(everyone, end - now), links):
            answers = links.statuses(everyone, max(1.0, end - now), digest=True)
            digests = {links.names[link]: str(answer["digest"]) for link, answer in answers.items()}
            if _agree(answers, links):
                return Settled(settled=True, digests=digests)
        sleep(_BETWEEN_ASKING)
    return Settled(settled=False, digests=digests)


def _agree(answers: Mapping[int, Mapping[str, Any]], links: Links) -> bool:
    """Whether all replicas answered, have nothing left to execute, and have executed the same."""
    frontiers = {tuple(answer["executed"]) for answer in answers.values()}
    pending = sum(answer["pending"] for answer in answers.values())
    return len(answers) == len(links.names) and len(frontiers) == 1 and not pending
