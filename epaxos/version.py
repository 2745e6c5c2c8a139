"""The version of the package, and the levels of what it sends and keeps.

A *level* is one number for the layout of all that replicas and clients send, keep in data directories and write into
backups. A program reads and writes every level from `OLDEST` to `NEWEST`; at which one a cluster works is a part of its
configuration (`protocol.membership`), so that programs of two neighbouring levels serve together, and an upgrade ends
when an operator says so (`epaxos upgrade`, docs/decisions/0045). docs/contributing.md says how a level is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

__version__ = "0.1.0"

NEWEST: Final[int] = 11
OLDEST: Final[int] = 11

SINCE: Final[Mapping[str, int]] = {}
"""What is used from a level above `OLDEST` on: an operation ("INCREMENT"), a type of message between replicas ("Echo"),
or one of the last fields of such a message, which has a default ("Echo.stamp")."""


def is_known(level: int) -> bool:
    """Whether this program reads and writes a level."""
    return OLDEST <= level <= NEWEST


def known() -> str:
    """The levels that this program knows, for people."""
    return f"level {NEWEST}" if OLDEST == NEWEST else f"levels {OLDEST} to {NEWEST}"


def is_used(name: str, level: int) -> bool:
    """Whether what has this name in `SINCE` is used at a level; what has none always is."""
    return SINCE.get(name, 0) <= level


@cache
def width(kind: Any, level: int) -> int:
    """How many fields of a type of message, a `NamedTuple`, are sent at a level."""
    return sum(is_used(f"{kind.__name__}.{name}", level) for name in kind._fields)
