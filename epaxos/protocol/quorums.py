"""Quorum sizes as pure arithmetic on n, f and e (protocol 1, G).

n replicas stay safe whatever fails. They stay live with up to f of them crashed, and commit in one round
trip what does not conflict with up to e of them crashed.
"""

from __future__ import annotations

from typing import NamedTuple


class Quorums(NamedTuple):
    """The thresholds of a cluster of `n` replicas; both quorums count the coordinator."""

    n: int
    f: int
    e: int

    @property
    def slow(self) -> int:
        """How many replicas an Accept, and the first step of a recovery, must reach."""
        return self.n - self.f

    @property
    def fast(self) -> int:
        """How many equal pre-accept answers commit without a second round trip."""
        return self.n - self.e

    @property
    def pins(self) -> int:
        """How many others must have made durable whom they know by a name, before that one takes part (6.2).

        ceil((n - 1 + f) / 2): two sets of so many of the n - 1 others have f in common. If at most f disks are lost,
        that of the first of a name among them, one of those f still has its own, and refuses the second. With f = 0 no
        disk may be lost, and two that were started at once under one name have to meet too.
        """
        return min(self.n - 1, (self.n + max(self.f, 1)) // 2)


def allowed(n: int, f: int, e: int) -> bool:
    """Whether recovery can tell a fast decision from none: n >= max(2e + f - 1, 2f + 1) and e <= f."""
    return n >= 1 and 0 <= e <= f and n >= max(2 * e + f - 1, 2 * f + 1)


def default_f(n: int) -> int:
    """The most crashes that n replicas can survive."""
    return (n - 1) // 2


def default_e(n: int, f: int) -> int:
    """The most crashes under which n replicas, of which f may crash, keep the fast path."""
    return max(e for e in range(f + 1) if allowed(n, f, e))


def _range(n: int, f: int) -> str:
    """What n replicas may have, in numbers: of e, if they may have this f."""
    if n < 1:
        return "n is 1 or more"
    if allowed(n, f, 0):
        return f"with n={n} and f={f}, e is 0 to {default_e(n, f)}"
    return f"with n={n}, f is 0 to {default_f(n)}"


def make_quorums(n: int, f: int | None = None, e: int | None = None) -> Quorums:
    """The thresholds for n replicas, with the largest f and e where none are given.

    Raises:
        ValueError: the three do not fit together.
    """
    f = default_f(n) if f is None else f
    if e is None:
        e = default_e(n, f) if allowed(n, f, 0) else 0
    if not allowed(n, f, e):
        raise ValueError(
            f"n={n}, f={f}, e={e}: n >= max(2e + f - 1, 2f + 1) and 0 <= e <= f must hold, so {_range(n, f)}"
        )
    return Quorums(n, f, e)
