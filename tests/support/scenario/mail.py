"""Messages under a script's hand: each arrives, is lost or doubled by command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from epaxos.protocol.ids import Row


class ScenarioError(Exception):
    """A command that cannot be done, or a cluster that broke a promise."""


class Parcel(NamedTuple):
    """A message under way."""

    sender: Row
    receiver: Row
    message: Any


class Filter(NamedTuple):
    """Which messages a command means; None stands for any. A place is what messages are about."""

    sender: Row | None = None
    receiver: Row | None = None
    kind: str | None = None
    place: Any = None

    def matches(self, parcel: Parcel, place: Any) -> bool:
        """Whether a message, which is about a place, is meant."""
        return (
            self.sender in (None, parcel.sender)
            and self.receiver in (None, parcel.receiver)
            and self.kind in (None, type(parcel.message).__name__)
            and self.place in (None, place)
        )


class Mail(ABC):
    """What is under way; `say` adds to the transcript."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._under_way: list[Parcel] = []

    def say(self, line: str) -> None:
        self._say(line)

    def deliver(self, wanted: Filter) -> None:
        """Let messages arrive, in the order in which they were sent."""
        for parcel in self._pick(wanted):
            self._under_way.remove(parcel)
            self._arrive(parcel)

    def drop(self, wanted: Filter) -> None:
        """Lose messages."""
        for parcel in self._pick(wanted):
            self._under_way.remove(parcel)
            self.say(f"lost: {self._describe(parcel)}")

    def copy(self, wanted: Filter) -> None:
        """Double messages; the copies go behind all others."""
        for parcel in self._pick(wanted):
            self._under_way.append(parcel)
            self.say(f"doubled: {self._describe(parcel)}")

    def stabilize(self) -> None:
        """Deliver until nothing is under way; no time passes."""
        while self._under_way:
            self._arrive(self._under_way.pop(0))

    def _send(self, sender: Row, receiver: Row, message: Any) -> None:
        self._under_way.append(Parcel(sender, receiver, message))

    def _pick(self, wanted: Filter) -> list[Parcel]:
        picked = [
            parcel for parcel in self._under_way if wanted.matches(parcel, self._place_of(parcel.message))
        ]
        if not picked:
            raise ScenarioError(f"no such message is under way, only: {self._listed()}")
        return picked

    def _listed(self) -> str:
        return "; ".join(self._describe(parcel) for parcel in self._under_way) or "none"

    @abstractmethod
    def _arrive(self, parcel: Parcel) -> None: ...

    @abstractmethod
    def _describe(self, parcel: Parcel) -> str: ...

    @abstractmethod
    def _place_of(self, message: Any) -> Any: ...
