"""What is chosen, from what acceptors say that they took: observers follow all of them, and count.

An observer asks; acceptors keep what they took lately (`feed`) and never wait for anybody. At first, and where an
acceptor was away or took more than it keeps, the observer reads all registers of all acceptors side by side, by pages;
then it goes on from where the feeds stood before. So there is no gap between history and what comes later, and what
falls in between is told twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from epaxos.errors import EpaxosError
from epaxos.protocol.registers.values import (
    ZERO,
    Ballot,
    Configuration,
    Follow,
    Peek,
    Request,
    Scan,
    State,
    Told,
)

MOST_OPEN: Final = 100_000
"""Keys that are remembered until all acceptors have told of them; of more, only those without a majority."""


MOST_TOLD: Final = 50_000
"""Keys of which the last ballot that was told is remembered: more than the feeds of a few acceptors can repeat."""


class Chosen(NamedTuple):
    """A state of a register that was chosen at a ballot; without a value, the register was deleted."""

    key: bytes
    ballot: Ballot
    state: State


class _Open:
    """What is known of one key: `done` was chosen and `reached` have told of it; above it, who took what, and where."""

    __slots__ = ("done", "reached", "votes")

    def __init__(self, done: Ballot) -> None:
        self.done = done
        self.reached: set[int] = set()
        self.votes: dict[Ballot, dict[int, int]] = {}


class Tallies:
    """Counts by key and ballot. A key is forgotten once all acceptors that are followed have told of what is chosen.

    Those who propose may be one step of a change of the acceptors further than who counts here, or behind. What a
    majority of either step's accept set took is found by every prepare majority of the other (`upkeep.plan`).
    """

    def __init__(self) -> None:
        self._open: dict[bytes, _Open] = {}
        self._told: OrderedDict[bytes, Ballot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self,
        acceptor: int,
        told: Told,
        position: int,
        configuration: Configuration,
        followed: Collection[int],
    ) -> Chosen | None:
        """An acceptor has taken something, told at this position of its feed; the result is what is chosen thereby."""
        key, accepted, state = told
        if accepted == ZERO or acceptor not in configuration.accept:
            return None  # a register that somebody has prepared only
        known = self._open.get(key)
        if known is None:
            told_last = self._told.get(key, ZERO)
            if accepted <= told_last:
                return None
            known = self._open[key] = _Open(told_last)
        chosen = None
        if accepted == known.done:
            known.reached.add(acceptor)
        elif accepted > known.done:
            votes = known.votes.setdefault(accepted, {})
            votes.setdefault(acceptor, position)
            if len(votes.keys() & set(configuration.accept)) >= configuration.votes:
                known.done, known.reached = accepted, set(votes)
                known.votes = {ballot: who for ballot, who in known.votes.items() if ballot > accepted}
                chosen = Chosen(key, accepted, state)
                self._told[key] = accepted
                self._told.move_to_end(key)
                if len(self._told) > MOST_TOLD:
                    self._told.popitem(last=False)
        if not known.votes and known.reached.issuperset(followed):
            del self._open[key]
        elif len(self._open) > MOST_OPEN:
            self._open = {key: known for key, known in self._open.items() if known.votes}
        return chosen

    def undecided(self, most: int) -> list[bytes]:
        """Keys of which something was taken that is not known to be chosen, those that stand open longest first."""
        found: list[bytes] = []
        for key, known in self._open.items():
            if known.votes:
                found.append(key)
                if len(found) >= most:
                    break
        return found

    def put_off(self, key: bytes) -> None:
        """All who can be asked of this key were, and it still stands open: others come first now."""
        if (known := self._open.pop(key, None)) is not None:
            self._open[key] = known

    @property
    def overrun(self) -> bool:
        """Whether too much stands open to be remembered."""
        return len(self._open) > MOST_OPEN

    def clear(self) -> None:
        """Forget what stands open; what was told lately stays told."""
        self._open.clear()

    def forget(self, acceptor: int) -> None:
        """What an acceptor has told counts no more: it will tell anew what it holds."""
        for known in self._open.values():
            for votes in known.votes.values():
                votes.pop(acceptor, None)

    def first_open(self) -> Iterator[tuple[int, int]]:
        """Acceptors, and where they told of something that is not known to be chosen."""
        for known in self._open.values():
            for votes in known.votes.values():
                yield from votes.items()


# -- following -----------------------------------------------------------------------------------------------------


class Compacted(EpaxosError):
    """Deleted registers were collected while the observer was away: it must begin anew, and its reader with it."""


class Place(NamedTuple):
    """How far an acceptor's feed was read, and what was removed there by then."""

    start: int
    position: int
    floor: Ballot


_NOWHERE: Final = Place(0, 0, ZERO)

Position: TypeAlias = Mapping[int, Place]
"""How far an observer has come: a place for each acceptor."""


class Question(NamedTuple):
    """Ask an acceptor; its answer is sent back, None if there is none in time."""

    acceptor: int
    request: Request


class Idle(NamedTuple):
    """Nothing is new: go on after a while."""


_Found = TypeVar("_Found")
Observing: TypeAlias = Generator[Question | Idle | Chosen, Any, _Found]


class Patience(NamedTuple):
    """Seconds after which what only a minority told of is asked for, and for which one that is away is left alone."""

    doubt: float
    away: float


DOUBT: Final = 1.0
AWAY: Final = 1.0
"""The usual ones."""

_AT_A_TIME: Final = 20
"""Keys that are asked for then."""


class Following:
    """What an observer does, without IO: `run` yields what it wants, and what is chosen (`registers.observer`)."""

    def __init__(
        self,
        clock: Callable[[], float],
        configuration: Callable[[], Configuration],
        after: Position | None = None,
        pace: Patience | None = None,
    ) -> None:
        self._clock = clock
        self._configuration = configuration
        self._pace = pace or Patience(DOUBT, AWAY)
        self._nonces = count(1)
        self._tallies = Tallies()
        self._places: dict[int, Place] = dict(after or {})
        self._followed: set[int] = set(self._places)
        self._away: dict[int, float] = {}
        self._told = bool(after)
        self._gap = not after
        self._floors = {acceptor: place.floor for acceptor, place in self._places.items()}
        self._broken: set[int] = set()
        self._missed: set[int] = set()
        self._checked = clock()

    @property
    def position(self) -> Position | None:
        """From where another goes on without a gap; None until all that was there at first is told."""
        if not self._told or self._gap:
            return None
        places = {
            acceptor: place._replace(floor=self._floors.get(acceptor, place.floor))
            for acceptor, place in self._places.items()
        }
        for acceptor, position in self._tallies.first_open():
            place = places.get(acceptor)
            if place is not None and position < place.position:
                places[acceptor] = place._replace(position=position)
        return places

    def run(self) -> Observing[None]:
        """Follow without end.

        Raises:
            Compacted: it can no more be told which registers are gone.
        """
        while True:
            configuration = self._configuration()
            if self._gap or self._tallies.overrun:
                yield from self._scan(configuration)
            news = yield from self._follow_all(configuration)
            yield from self._settle()
            if not news:
                yield Idle()

    def _asked(self, acceptor: int, kind: Callable[..., Any], key: bytes, *fields: Any) -> Observing[Any]:
        """An acceptor's answer; None if there is none, and then it is followed no more, for a while."""
        request = kind(key, Ballot(next(self._nonces), 0), *fields)
        answer = yield Question(acceptor, request)
        if answer is None or answer.ballot != request.ballot:
            self._followed.discard(acceptor)
            self._away[acceptor] = self._clock() + self._pace.away
            return None
        return answer

    def _follow_all(self, configuration: Configuration) -> Observing[bool]:
        """What comes next from every acceptor; the result says whether anything came."""
        news = False
        for acceptor in configuration.accept:
            place = self._places.get(acceptor, _NOWHERE)
            answer = yield from self._answer_of(acceptor, place, configuration)
            for number, told in enumerate(() if answer is None else answer.accepted):
                news = True
                yield from self._add(acceptor, told, place.position + number)
        return news

    def _answer_of(self, acceptor: int, place: Place, configuration: Configuration) -> Observing[Any]:
        """What an acceptor tells from a place on; None if it is away, or was, or does not know the place any more.

        Raises:
            Compacted: as `_compare`.
        """
        came_back = acceptor not in self._followed
        if came_back and self._clock() < self._away.get(acceptor, 0.0):
            return None
        answer = yield from self._asked(acceptor, Follow, b"", place.start, place.position)
        if answer is None:
            return None
        self._followed.add(acceptor)
        self._places[acceptor] = Place(answer.start, answer.position, answer.floor)
        self._floors.setdefault(acceptor, answer.floor)
        if answer.kept and not came_back:
            if acceptor not in self._broken:
                self._floors[acceptor] = answer.floor
            return answer
        # Something that it took is not known: what it holds must be read again, and counts anew.
        self._gap = True
        self._broken.add(acceptor)
        self._tallies.forget(acceptor)
        self._compare((acceptor,), configuration)
        return None

    def _compare(self, acceptors: Collection[int], configuration: Configuration) -> None:
        """Note of whom it is not known what was removed there since they were followed without a gap.

        Raises:
            Compacted: all who took a tombstone may have forgotten it since.
        """
        self._missed.update(one for one in acceptors if self._floors[one] != self._places[one].floor)
        members = configuration.accept
        if len(self._missed.intersection(members)) > len(members) - configuration.votes:
            raise Compacted(
                "deleted registers were collected while nobody followed: begin anew, without a position, and forget "
                "the registers that are not told of then"
            )

    def _add(self, acceptor: int, told: Told, position: int) -> Observing[None]:
        """Count what an acceptor told, and tell what is chosen thereby, by who votes now."""
        found = self._tallies.add(acceptor, told, position, self._configuration(), self._followed)
        if found is not None:
            yield found

    def _scan(self, configuration: Configuration) -> Observing[None]:
        """Read everything of all acceptors that are there, side by side, so that little stands open at a time."""
        if self._tallies.overrun:
            self._tallies.clear()
            self._broken.update(self._places)
        self._told = False
        yield from self._follow_all(configuration)  # from here on the feeds tell the rest
        self._gap = False
        whole = set(self._followed)
        after: bytes | None = b""
        while after is not None:
            pages = yield from self._pages(after)
            whole &= pages.keys()
            if len(pages) < configuration.votes:
                self._gap = True
                return
            after = min((page.cells[-1].key for page in pages.values() if not page.last), default=None)
            for acceptor, page in pages.items():
                position = self._places[acceptor].position
                for told in page.cells:
                    if after is None or told.key <= after:
                        yield from self._add(acceptor, told, position)
            self._told = after is None
            # What they keep might not last as long as the reading; and what was removed meanwhile shows in the end.
            yield from self._follow_all(configuration)
        if not self._gap:
            read = self._broken & whole & self._followed
            self._compare(read, configuration)
            self._floors.update((acceptor, self._places[acceptor].floor) for acceptor in read)
            self._broken -= read

    def _pages(self, after: bytes) -> Observing[dict[int, Any]]:
        """What all acceptors that are there hold after a key, a page of it."""
        pages: dict[int, Any] = {}
        for acceptor in sorted(self._followed):
            page = yield from self._asked(acceptor, Scan, after)
            if page is not None:
                pages[acceptor] = page
        return pages

    def _settle(self) -> Observing[None]:
        """Ask for what only a minority has told of for a while: an Accept was lost, or its proposer has died."""
        if self._clock() < self._checked + self._pace.doubt:
            return
        self._checked = self._clock()
        for key in self._tallies.undecided(_AT_A_TIME):
            for acceptor in sorted(self._followed):
                answer = yield from self._asked(acceptor, Peek, key)
                if answer is not None:
                    told = Told(key, answer.accepted, answer.state)
                    yield from self._add(acceptor, told, self._places[acceptor].position)
            self._tallies.put_off(key)
