"""What clients asked and were answered, epoch by epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from epaxos.client.commands import Op
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result

LONGEST_EPOCH: Final = 2000
"""Commands after which a new epoch is due: a search holds so much with ease."""


class Epoch:
    """The history of the commands on one epoch's keys. Times are seconds on the clock of the one program that asks.

    An answered command has its answer; one without stays open for ever: it may have executed at any time since it
    was asked, or not at all. One that certainly changed nothing is left out: if it did change something, then what
    others read has no explanation. `quiet` is set while nothing is under way.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._under_way = 0
        self._calls: dict[Call, None] = {}
        self._numbers: dict[int, int] = {}

    @property
    def calls(self) -> list[Call]:
        """The history, in the order of asking."""
        return list(self._calls)

    @property
    def is_long(self) -> bool:
        """Whether it is time for another one."""
        return len(self._calls) >= LONGEST_EPOCH

    def asked(self, client: int, op: Op, now: float) -> Call:
        """A client asks something."""
        number = self._numbers[client] = self._numbers.get(client, 0) + 1
        call = Call(client, number, Command(*op[:3]), now)
        self._calls[call] = None
        self._under_way += 1
        self.quiet.clear()
        return call

    def answered(self, call: Call, result: Result, now: float) -> None:
        """It got an answer."""
        call.answered, call.result = now, result
        self._one_less()

    def unanswered(self, _call: Call) -> None:
        """Nobody waits for the answer any more."""
        self._one_less()

    def without_effect(self, call: Call) -> None:
        """The command certainly changed nothing."""
        del self._calls[call]
        self._one_less()

    def _one_less(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self.quiet.set()


def write_history(file: Path, calls: Iterable[Call]) -> None:
    """Write a history for people: a line a command, with the times of asking and of the answer."""
    with file.open("w") as output:
        for call in calls:
            end = "never" if call.answered is None else f"{call.answered:.6f}"
            output.write(f"{call.invoked:.6f} {end} {call} {call.command} -> {call.result}\n")
