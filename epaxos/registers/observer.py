"""Follows all acceptors, and tells what a majority of them took.

An observer asks; acceptors keep what they took lately (`registers.feed`) and never wait for anybody. At first, and
where an acceptor was away or took more than it keeps, the observer reads all registers of all acceptors side by side,
by pages; then it goes on from where the feeds stood before. So there is no gap between history and what comes later,
and what falls in between is told twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import ConfigError, EpaxosError
from epaxos.protocol.registers.observing import Tallies
from epaxos.protocol.registers.values import ZERO, Ballot, Configuration, Follow, Peek, Scan, Told

INTERVAL: Final = 0.05
"""Seconds until acceptors are asked again that had nothing to tell."""

DOUBT: Final = 1.0
"""Seconds after which what only a minority told of is asked for."""

AWAY: Final = 1.0
"""Seconds for which an acceptor is left alone that did not answer."""

_AT_A_TIME: Final = 20
"""Keys that are asked for then."""

USER: Final = b"k"
"""Before the keys of users."""


class Place(NamedTuple):
    """How far an acceptor's feed was read, and what was removed there by then."""

    start: int
    position: int
    floor: Ballot


_NOWHERE: Final = Place(0, 0, ZERO)

Position: TypeAlias = Mapping[int, Place]
"""How far an observer has come: a place for each acceptor."""


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


class Compacted(EpaxosError):
    """Deleted registers were collected while the observer was away: it must begin anew, and its reader with it."""


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
    """

    def __init__(
        self,
        ask: Ask,
        configuration: Callable[[], Configuration],
        after: Position | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._ask = ask
        self._configuration = configuration
        self._interval = interval
        self._nonces = count(1)
        self._tallies = Tallies()
        self._places: dict[int, Place] = dict(after or {})
        self._followed: set[int] = set(self._places)
        self._away: dict[int, float] = {}
        self._told = bool(after)
        self._gap = not after
        self._missed: set[int] = set()
        self._checked = time.monotonic()
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
        if not self._told or self._gap:
            return None
        places = dict(self._places)
        for acceptor, position in self._tallies.first_open():
            place = places.get(acceptor)
            if place is not None and position < place.position:
                places[acceptor] = place._replace(position=position)
        return places

    # -- asking ------------------------------------------------------------------------------------------------

    def _asked(self, acceptor: int, kind: Callable[..., Any], key: bytes, *fields: Any) -> Any:
        """An acceptor's answer; None if there is none, and then it is followed no more, for a while."""
        request = kind(key, Ballot(next(self._nonces), 0), *fields)
        try:
            answer = self._ask(acceptor, request)
        except EpaxosError:
            answer = None
        if answer is None or answer.ballot != request.ballot:
            self._followed.discard(acceptor)
            self._away[acceptor] = time.monotonic() + AWAY
            return None
        return answer

    def _run(self) -> Iterator[Chosen]:
        while not self._closed.is_set():
            configuration = self._configuration()
            if self._gap or self._tallies.overrun:
                yield from self._scan(configuration)
            news = yield from self._follow_all(configuration)
            yield from self._settle(configuration)
            if not news:
                self._closed.wait(self._interval)

    def _follow_all(self, configuration: Configuration) -> Generator[Chosen, None, bool]:
        """What comes next from every acceptor; the result says whether anything came."""
        news = False
        for acceptor in configuration.accept:
            place = self._places.get(acceptor, _NOWHERE)
            answer = self._answer_of(acceptor, place, configuration)
            for number, told in enumerate(() if answer is None else answer.accepted):
                news = True
                yield from self._add(acceptor, told, place.position + number, configuration)
        return news

    def _answer_of(self, acceptor: int, place: Place, configuration: Configuration) -> Any:
        """What an acceptor tells from a place on; None if it is away, or was, or does not know the place any more.

        Raises:
            Compacted: all who took a tombstone may have forgotten it since.
        """
        came_back = acceptor not in self._followed
        if came_back and time.monotonic() < self._away.get(acceptor, 0.0):
            return None
        answer = self._asked(acceptor, Follow, b"", place.start, place.position)
        if answer is None:
            return None
        self._followed.add(acceptor)
        self._places[acceptor] = Place(answer.start, answer.position, answer.floor)
        if answer.kept and not came_back:
            return answer
        self._gap = True
        if place is not _NOWHERE and place.floor != answer.floor:
            self._missed.add(acceptor)
        if len(self._missed) > len(configuration.accept) - configuration.votes:
            raise Compacted(
                "deleted registers were collected while nobody followed: begin anew, without a position, and forget "
                "the registers that are not told of then"
            )
        return None

    def _add(
        self, acceptor: int, told: Told, position: int, configuration: Configuration
    ) -> Iterator[Chosen]:
        """Count what an acceptor told; what is chosen thereby, if it is a register of users."""
        found = self._tallies.add(acceptor, told, position, configuration, self._followed)
        if found is not None and found.key.startswith(USER):
            ballot = (found.ballot.counter, found.ballot.proposer)
            yield Chosen(found.key[len(USER) :], found.state.value, ballot)

    def _scan(self, configuration: Configuration) -> Iterator[Chosen]:
        """Read everything of all acceptors that are there, side by side, so that little stands open at a time."""
        self._tallies.clear()
        self._told = False
        yield from self._follow_all(configuration)  # from here on the feeds tell the rest
        self._gap = False
        after = b""
        while not self._closed.is_set():
            pages = {
                acceptor: page
                for acceptor in sorted(self._followed)
                if (page := self._asked(acceptor, Scan, after)) is not None
            }
            if len(pages) < configuration.votes:
                self._gap = True
                return
            cut = [page.cells[-1].key for page in pages.values() if not page.last]
            for acceptor, page in pages.items():
                position = self._places[acceptor].position
                for told in page.cells:
                    if not cut or told.key <= min(cut):
                        yield from self._add(acceptor, told, position, configuration)
            if not cut:
                self._told = True
                return
            after = min(cut)
            yield from self._follow_all(
                configuration
            )  # or what they keep would not last as long as the reading

    def _settle(self, configuration: Configuration) -> Iterator[Chosen]:
        """Ask for what only a minority has told of for a while: an Accept was lost, or its proposer has died."""
        if time.monotonic() < self._checked + DOUBT:
            return
        self._checked = time.monotonic()
        for key in self._tallies.undecided(_AT_A_TIME):
            for acceptor in sorted(self._followed):
                answer = self._asked(acceptor, Peek, key)
                if answer is not None:
                    told = Told(key, answer.accepted, answer.state)
                    yield from self._add(acceptor, told, self._places[acceptor].position, configuration)
            self._tallies.put_off(key)
