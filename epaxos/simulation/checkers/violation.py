"""What checkers raise, and how a run can end."""

from __future__ import annotations

from enum import IntEnum

from epaxos.errors import EpaxosError
from epaxos.protocol.ids import InstanceId


class Verdict(IntEnum):
    """How a run ended; the numbers are exit codes of `epaxos simulate`.

    SAFETY    something happened that must never happen
    LIVENESS  the faults were over, and something did not finish
    CRASH     the program failed: an exception that is no finding of a checker
    """

    CLEAN = 0
    SAFETY = 1
    LIVENESS = 3
    CRASH = 4


class ViolationError(EpaxosError):
    """A checker found that something happened which must never happen.

    `places` are the instances that it is about, for whoever looks at the path that led there.
    """

    def __init__(self, checker: str, text: str, places: tuple[InstanceId, ...] = ()) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker
        self.places = places


class NoProgressError(EpaxosError):
    """After the faults, something did not finish within the bound."""
