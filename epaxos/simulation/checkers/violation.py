"""What checkers raise, and how a run can end."""

from __future__ import annotations

from enum import IntEnum

from epaxos.errors import EpaxosError
from epaxos.protocol.ids import InstanceId


class Verdict(IntEnum):
    """How a run ended, the worst last; the numbers are exit codes of `epaxos simulate`, and no other command's.

    LIVENESS  the faults were over, and something did not finish
    CRASH     the program failed: an exception that is no finding of a checker
    SAFETY    something happened that must never happen
    """

    CLEAN = 0
    LIVENESS = 10
    CRASH = 11
    SAFETY = 12


class ViolationError(EpaxosError):
    """A checker found that something happened which must never happen.

    `places` are the instances that it is about and `calls` the commands, as (client, request number), for whoever
    looks at the path that led there.
    """

    def __init__(
        self,
        checker: str,
        text: str,
        places: tuple[InstanceId, ...] = (),
        calls: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker
        self.places = places
        self.calls = calls


class NoProgressError(EpaxosError):
    """After the faults, something did not finish within the bound; `places` and `calls` are what others wait for."""

    def __init__(
        self,
        text: str,
        places: tuple[InstanceId, ...] = (),
        calls: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(text)
        self.places = places
        self.calls = calls
