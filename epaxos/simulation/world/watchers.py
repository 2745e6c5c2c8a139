"""Watchers: clients that follow what changes, from replica to replica, and see that nothing is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epaxos.simulation.checkers.watching import View, Watching
from epaxos.simulation.plan.options import stream
from epaxos.simulation.world.clients import Surroundings
from epaxos.watching.position import parse_position, read_position
from epaxos.watching.watchers import Answer, Poll

_PREFIXES = (b"", b"", b"k", b"k0", b"k1")
_MANY = 10**6


class Watcher:
    """One watcher, with the number of which it is known; what it is told is checked as it comes."""

    def __init__(self, surroundings: Surroundings, checker: Watching, number: int) -> None:
        options = surroundings.options
        self._surroundings = surroundings
        self._options = options
        self._checker = checker
        self._number = number
        self._random = stream(options.seed, f"watcher {number}")
        self._target = self._random.randrange(options.replicas)
        self._lossy = True
        self._state = self._random.random() < 0.5
        self._most = self._random.choice((1, 150, 500, _MANY)) if options.scale == "small" else _MANY
        self._think = self._random.choice((0.0, 0.0, options.delay * 30))
        self._moves = self._random.choice((0.0, 0.1, 0.3))
        self._wait = options.delay * self._random.choice((0, 5, 50))
        self._view = View(self._random.choice(_PREFIXES))
        self._told_state = False
        self._cursor: tuple[int, int, int] | None = None
        self._tour = 0
        self._compacted = False
        self._asked = 0

    @property
    def knows_all(self) -> bool:
        """Whether it has been told of all that has happened."""
        return self._view.position is not None and self._checker.knows_all(self._view)

    def start(self) -> None:
        """Begin some time in the run."""
        after = self._random.choice((0.0, 0.5 * self._random.random()))
        self._surroundings.schedule.after(after * self._options.phase, self._ask)

    def calm(self) -> None:
        """Lose nothing, and hurry, from now on."""
        self._lossy = False
        self._think, self._most = 0.0, _MANY
        self._wait = max(self._wait, self._options.delay)

    def _ask(self) -> None:
        self._asked += 1
        view = self._view
        goes_on = self._state and self._told_state
        since = None if view.position is None else parse_position(str(view.position))
        poll = Poll(
            view.prefix,
            since,
            self._cursor,
            self._state and not (goes_on and view.upto is None),
            view.upto if goes_on else None,
            self._wait,
            self._most,
        )
        replica = self._surroundings.replicas[self._target]
        self._carry(replica.watch, self._number, poll, self._answerer(self._asked))
        patience = self._options.client_timeout + self._wait
        self._surroundings.schedule.after(patience, self._give_up, self._asked)

    def _answerer(self, asked: int) -> Callable[[Answer], None]:
        return lambda answer: self._carry(self._take, asked, answer)

    def _carry(self, receive: Callable[..., None], *arguments: object) -> None:
        if self._lossy and self._random.random() < self._options.client_loss:
            self._surroundings.observer.noted("watcher's message lost")
            return
        self._surroundings.schedule.after(self._options.delay * self._random.random(), receive, *arguments)

    def _give_up(self, asked: int) -> None:
        if asked == self._asked:
            self._fail()
            self._ask()

    def _fail(self) -> None:
        """A replica was of no use, so ask the next one; if none is, and one said that some may be missing: a gap."""
        self._tour += 1
        if self._compacted and self._tour >= self._options.replicas:
            self._begin_anew()
        self._move()

    def _move(self) -> None:
        """Go on at another replica, from the position alone."""
        self._surroundings.observer.noted("watcher went elsewhere")
        self._target = (self._target + 1) % self._options.replicas
        self._cursor = None
        self._checker.go_back(self._view)

    def _take(self, asked: int, answer: Answer) -> None:
        if asked != self._asked:
            return
        self._asked += 1  # no time-out any more
        if "position" in answer:
            self._tour, self._compacted = 0, False
            self._be_told(answer)
            if self._lossy and self._random.random() < self._moves:
                self._move()
            self._surroundings.schedule.after(self._think * self._random.random(), self._ask)
            return
        self._compacted |= "compacted" in answer
        self._fail()
        self._surroundings.schedule.after(self._options.delay, self._ask)

    def _begin_anew(self) -> None:
        """No replica has what happened since: that is told, and what follows begins with another position."""
        self._surroundings.observer.noted("watcher told of a gap")
        self._tour, self._compacted = 0, False
        self._told_state = False
        if not self._state:
            self._view.position = None

    def _be_told(self, answer: Answer) -> None:
        checker, view = self._checker, self._view
        position, state = read_position(answer["position"]), answer["state"]
        self._cursor = answer["cursor"][0], answer["cursor"][1], answer["cursor"][2]
        if self._state and not self._told_state:
            self._surroundings.observer.noted("watcher told the state")
            self._told_state = True
            view.position = None
            checker.begin(view, position, b"")
        elif view.position is None:
            checker.begin(view, position, None)
        else:
            keys: list[Any] = answer["keys"]
            self._surroundings.observer.noted(
                "watcher told of changes" if keys else "watcher told its position"
            )
            checker.tell(view, keys, answer["values"], position, cut=self._cursor[2] > 0)
        if state is not None:
            checker.tell_state(view, *state)
