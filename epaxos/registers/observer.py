"""Follows all acceptors, and tells what a majority of them took (`protocol.registers.observing`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import ConfigError, EpaxosError, Refused
from epaxos.protocol.registers import observing
from epaxos.protocol.registers.observing import Compacted, Following, Idle, Place, Position, Question
from epaxos.protocol.registers.values import Ballot, Configuration

__all__ = ["Chosen", "Compacted", "Observer", "Place", "Position"]

INTERVAL: Final = 0.05
"""Seconds until acceptors are asked again that had nothing to tell."""

USER: Final = b"k"
"""Before the keys of users."""


def text_of_position(position: Position) -> str:
    """A position as JSON, to be kept."""
    return json.dumps({str(acceptor): place for acceptor, place in position.items()})


def position_of(text: str) -> Position:
    """The position that a text is.

    Raises:
        ConfigError: it is none.
    """
    try:
        return {
            int(acceptor): Place(int(start), int(position), Ballot(*map(int, floor)))
            for acceptor, (start, position, floor) in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"found {text[:40]!r}; a position of an observer is what it wrote itself"
        ) from error


class Chosen(NamedTuple):
    """What a register holds, since a ballot; None if it was deleted."""

    key: bytes
    value: bytes | None
    ballot: tuple[int, int]


Ask: TypeAlias = Callable[[int, Any], Any]
"""The answer of a node to a request, or Unreachable."""


class Observer:
    """Tells what is chosen, as an iterator that ends when it is closed; for one thread.

    Of each register the ballots ascend. At least once: what was told before a gap may be told again. States that are
    overwritten before a majority has told of them are passed over, more of them if the reader is slow; never the last.

    ask            how nodes are asked
    configuration  who votes
    after          the `position` of an earlier observer, to go on from there
    interval       seconds between two questions to an acceptor that has nothing to tell

    Raises, while it is iterated:
        Compacted: it can no more be told which registers are gone.
        Refused: it may not read all of them.
    """

    def __init__(
        self,
        ask: Ask,
        configuration: Callable[[], Configuration],
        after: Position | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._ask = ask
        self._interval = interval
        self._core = Following(time.monotonic, configuration, after)
        self._closed = threading.Event()
        self._changes = self._run()

    def close(self) -> None:
        """End, from any thread."""
        self._closed.set()

    def __iter__(self) -> Iterator[Chosen]:
        return self

    def __next__(self) -> Chosen:
        return next(self._changes)

    @property
    def position(self) -> Position | None:
        """From where another observer goes on without a gap; None until all that was there at first is told."""
        return self._core.position

    def _run(self) -> Iterator[Chosen]:
        steps = self._core.run()
        result: Any = None
        while not self._closed.is_set():
            todo = steps.send(result)
            result = None
            if isinstance(todo, Question):
                result = self._answer(todo)
            elif isinstance(todo, Idle):
                self._closed.wait(self._interval)
            elif todo.key.startswith(USER):
                yield _shown(todo)

    def _answer(self, question: Question) -> Any:
        try:
            return self._ask(*question)
        except Refused:
            raise
        except EpaxosError:
            return None


def _shown(chosen: observing.Chosen) -> Chosen:
    ballot = (chosen.ballot.counter, chosen.ballot.proposer)
    return Chosen(chosen.key[len(USER) :], chosen.state.value, ballot)
