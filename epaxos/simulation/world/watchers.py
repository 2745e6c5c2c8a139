"""Watchers: clients that follow what changes, from replica to replica, and see that nothing is left out.

What to ask next, and what an answer means, is the client's own `Following`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from epaxos.client.watch import Changed, Following, Reset, Synced, as_position
from epaxos.errors import Compacted
from epaxos.simulation.checkers.watching import View, Watching
from epaxos.simulation.plan.options import stream
from epaxos.simulation.world.clients import Surroundings
from epaxos.simulation.world.making import LIMITS
from epaxos.watching.watchers import Answer, read_poll

_Events: TypeAlias = "list[Changed[bytes] | Reset | Synced]"

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
        self._asked = 0
        self._life: int | None = None
        self._following = self._begin(None)

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

    def _begin(self, since: str | None) -> Following:
        """A watch from the text of a position, or from now on."""
        count, share = self._options.hosts, self._options.client_timeout
        return Following(self._view.prefix, as_position(since), state=self._state, count=count, share=share)

    def _ask(self) -> None:
        self._asked += 1
        todo = self._following.poll(self._wait)
        if todo.replica is not None:
            self._target = todo.replica
        poll = read_poll(todo.asked["watch"], LIMITS.key)._replace(wait=self._wait, most=self._most)
        replica = self._surroundings.replicas[self._target]
        self._carry(replica.watch, self._number, poll, self._answerer(self._asked))
        self._surroundings.schedule.after(todo.timeout, self._give_up, self._asked)

    def _answerer(self, asked: int) -> Callable[[Answer], None]:
        return lambda answer: self._carry(self._take, asked, answer)

    def _carry(self, receive: Callable[..., None], *arguments: object) -> None:
        if self._lossy and self._random.random() < self._options.client_loss:
            self._surroundings.observer.noted("watcher's message lost")
            return
        self._surroundings.schedule.after(self._options.delay * self._random.random(), receive, *arguments)

    def _give_up(self, asked: int) -> None:
        if asked == self._asked:
            self._asked += 1
            self._hear(None)
            self._surroundings.schedule.after(self._following.rest, self._ask)

    def _take(self, asked: int, answer: Answer) -> None:
        if asked != self._asked:
            return
        self._asked += 1  # no time-out any more
        events = self._hear(answer)
        if "position" not in answer:
            after = self._options.delay + self._following.rest
            self._surroundings.schedule.after(after, self._ask)
            return
        self._be_told(answer, events)
        if self._lossy and self._random.random() < self._moves:
            self._move()
        self._surroundings.schedule.after(self._think * self._random.random(), self._ask)

    def _hear(self, answer: Answer | None) -> _Events:
        """What an answer, or none, tells; of a gap what follows begins with another position."""
        following, gaps = self._following, self._following.gaps
        events: _Events = []
        try:
            if answer is None:
                following.silent()
            else:
                events = following.take({"watch": answer})
        except Compacted:
            self._view.position = None
            self._following = self._begin(None)
        if following.gaps > gaps or self._following is not following:
            self._surroundings.observer.noted("watcher told of a gap")
        if answer is None or "position" not in answer:
            self._went_elsewhere()
        return events

    def _move(self) -> None:
        """Go on at another replica: with another watch from the position, or with this one while there is none."""
        place = self._following.place
        if place is None:
            self._following.silent()
        else:
            self._following = self._begin(str(place))
            self._target = (self._target + 1) % self._options.replicas
        self._went_elsewhere()

    def _went_elsewhere(self) -> None:
        self._surroundings.observer.noted("watcher went elsewhere")
        self._checker.go_back(self._view)

    def _be_told(self, answer: Answer, events: _Events) -> None:
        checker, view, following = self._checker, self._view, self._following
        position = following.position
        assert position is not None
        changed = [event for event in events if isinstance(event, Changed)]
        keys, values = [event.key for event in changed], [event.value for event in changed]
        news = len(answer["keys"])
        life, self._life = self._life, answer["cursor"][0]
        if self._life != life:  # a replica that has begun again knows nothing of what it has told a part of
            checker.go_back(view)
        if Reset() in events:
            self._surroundings.observer.noted("watcher told the state")
            checker.begin(view, position, b"")
        elif view.position is None:
            checker.begin(view, position, None)
        else:
            self._surroundings.observer.noted(
                "watcher told of changes" if news else "watcher told its position"
            )
            cut = answer["cursor"][2] > 0
            checker.tell(view, keys[:news], values[:news], position, cut=cut)
        if answer["state"] is not None:
            more = Synced(position) not in events
            checker.tell_state(view, keys[news:], values[news:], more)
        checker.tell_place(view, following.place)
