"""Acceptors and proposers of registers in memory, whose messages a test delivers as it likes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from epaxos.protocol.registers.acceptor import Acceptor
from epaxos.protocol.registers.change import Asks, Done, Pace, Want
from epaxos.protocol.registers.proposer import Proposer
from epaxos.protocol.registers.steps import read
from epaxos.protocol.registers.values import Answer, Cell, Configuration, Request, State, Step

KEY = b"k"
PACE = Pace(retry=1.0, pause=0.5)


def put(value: bytes) -> Step:
    return lambda state: (state._replace(value=value), value)


def add(state: State) -> tuple[State, int]:
    total = int(state.value or b"0") + 1
    return state._replace(value=b"%d" % total), total


class Voter:
    """An acceptor and its cells."""

    def __init__(self) -> None:
        self.cells: dict[bytes, Cell] = {}
        self.core = Acceptor(self.cells.get)

    def ask(self, request: Request) -> Answer:
        taken = self.core.take(request)  # type: ignore[arg-type]  # no test asks it for a list
        if taken.cell is not None:
            self.cells[taken.cell.key] = taken.cell
        if taken.removed is not None:
            del self.cells[taken.removed]
        return taken.answer


class Rig:
    """`n` acceptors, and what proposers of them still want delivered."""

    def __init__(self, n: int = 3) -> None:
        self.voters = [Voter() for _ in range(n)]
        self.now = 0.0
        first = tuple(range(n))
        self.configuration = Configuration(1, first, first)

    def proposer(self, id_: int, counter: int = 0, *, direct: bool = True) -> Proposer:
        return Proposer(id_, self.configuration, counter, Random(id_), PACE, direct=direct)

    def begin(self, proposer: Proposer, step: Step = read, **want: bool) -> Asks:
        """Propose, and deliver nothing."""
        return proposer.propose(Want(KEY, step, **want), self.now + 100, self.now)[1]

    def deliver(self, proposer: Proposer, asks: Asks, to: Collection[int] | None = None) -> Asks:
        """Deliver the requests to some acceptors and their answers; what the proposer wants then."""
        after = Asks()
        for receiver, request in asks.sends:
            if to is None or receiver in to:
                got = proposer.take(receiver, self.voters[receiver].ask(request), self.now)
                after.sends += got.sends
                after.done += got.done
        return after

    def finish(self, proposer: Proposer, asks: Asks, to: Collection[int] | None = None) -> Done:
        """Deliver until the proposal ends; time goes on where nothing is left to deliver."""
        for _ in range(100):
            if asks.done:
                return asks.done[0]
            if not asks.sends:
                assert proposer.due is not None
                self.now = proposer.due
                asks = proposer.tick(self.now)
            asks = asks if asks.done else self.deliver(proposer, asks, to)
        raise AssertionError("the proposal does not end")

    def change(
        self, proposer: Proposer, step: Step = read, to: Collection[int] | None = None, **want: bool
    ) -> Done:
        return self.finish(proposer, self.begin(proposer, step, **want), to)

    def accepted(self) -> Sequence[bytes | None]:
        return [voter.cells[KEY].state.value if KEY in voter.cells else None for voter in self.voters]
