"""Which thresholds n replicas can have, as far as validation and defaults need it.

The same rule as in `epaxos.protocol.quorums`, on which a configuration must not depend; a test compares them.
"""

from __future__ import annotations


def largest_f(n: int) -> int:
    """The most crashes that n replicas can survive: n >= 2f + 1."""
    return (n - 1) // 2


def largest_e(n: int, f: int) -> int:
    """The most crashes under which n replicas can keep the fast path: n >= 2e + f - 1 and e <= f."""
    return min(f, (n - f + 1) // 2)
