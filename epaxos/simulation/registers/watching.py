"""An observer in a run of registers: it keeps a copy of them all, which must be right when everything has ended."""

from __future__ import annotations

from typing import Any, Final

from msgpack import packb, unpackb

from epaxos.protocol.registers.observing import (
    Chosen,
    Compacted,
    Following,
    Idle,
    Patience,
    Place,
    Position,
    Question,
)
from epaxos.protocol.registers.upkeep import Configure, Settled
from epaxos.protocol.registers.values import Ballot
from epaxos.simulation.registers.machines import SHAPE, TASK, Entry, Process
from epaxos.transport.registers import decode, encode

_SAVES: Final = 0.5
"""How often it saves its copy, and how far it is, when there is nothing new."""

_LONGEST: Final = 50
"""The longest pause when there is nothing new, in intervals of proposers; pauses double."""


class ObserverProcess(Process):
    """Follows what is chosen; after a crash it goes on from the copy that it saved last."""

    def _begin(self, found: dict[bytes, bytes]) -> None:
        self.shape = decode(found[SHAPE]) if SHAPE in found else self.world.plan.configuration
        self.copy: dict[bytes, bytes | None] = {}
        self._asked = 0
        after: Position | None = None
        if TASK in found:
            places, self.copy = unpackb(found[TASK], strict_map_key=False)
            after = {
                acceptor: Place(start, position, Ballot(*floor))
                for acceptor, (start, position, floor) in places.items()
            }
            self.world.observer.noted("observer goes on from a position")
        self._follow(after)

    def _follow(self, after: Position | None) -> None:
        retry = self.world.plan.retry
        pace = Patience(doubt=10 * retry, away=5 * retry)
        self._core = Following(lambda: self.clock.now, lambda: self.shape, after, pace)
        self._steps = self._core.run()
        self._question: Question | None = None
        self._last: dict[bytes, Ballot] = {}
        self._idle = retry
        self._go_on(None)

    def _go_on(self, result: Any) -> None:
        """Let it take the answer to its question, until the next one, or until there is nothing new."""
        try:
            while isinstance(todo := self._steps.send(result), Chosen):
                result = None
                self._idle = self.world.plan.retry
                self.world.checker.observed(self.row, todo, self.shape, self._last.get(todo.key))
                self._last[todo.key] = todo.ballot
                self.copy[todo.key] = todo.state.value
        except Compacted:
            self.world.observer.noted("observer begins anew")
            self.copy.clear()
            self._follow(None)
            return
        self._asked += 1
        if isinstance(todo, Idle):
            self.later(self._idle, self._go_on, None)
            self._idle = min(2 * self._idle, _LONGEST * self.world.plan.retry)
            if self._random.random() < _SAVES and (position := self._core.position) is not None:
                self.disk.write((Entry(TASK, packb((position, self.copy)), None),), lambda: None)
            return
        self._question = Question(todo.acceptor, todo.request._replace(ballot=self._own(self._asked)))
        self.later(3 * self.world.plan.retry, self._give_up, self._asked)
        self._original = todo.request.ballot
        self._send(*self._question)

    def _own(self, number: int) -> Ballot:
        """What tells this start's questions from those before; answers to those may still be under way."""
        return Ballot(10**6 * self.starts + number, self.row)

    def _give_up(self, number: int) -> None:
        if self._asked == number and self._question is not None:
            self._question = None
            self._go_on(None)

    def _take(self, sender: int, message: Any) -> None:
        if isinstance(message, Configure):
            self.shape = max(self.shape, message.configuration)
            entry = Entry(SHAPE, encode(self.shape), None)
            settled = Settled(message.configuration.version, done=True)
            self.disk.write((entry,), lambda: self._send(sender, settled))
            return
        question = self._question
        if question is None or sender != question.acceptor or message.ballot != question.request.ballot:
            return
        self._question = None
        self._go_on(message._replace(ballot=self._original))
