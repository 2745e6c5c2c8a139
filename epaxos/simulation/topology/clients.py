"""The load: clients at the sites, each of which asks again as soon as it is answered."""

from __future__ import annotations

from random import Random
from typing import Final

from epaxos.protocol.ids import Row
from epaxos.simulation.world.frontdoor import Looked
from epaxos.simulation.world.replica import Replica
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.batch import Batch, decode_batch, encode_batch
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.results import BatchResult

HOT_KEY: Final = b"hot"
"""The key on which commands conflict; no client has it to itself."""


class Budget:
    """How many commands may still be sent by whoever is free, and how many have not been answered."""

    def __init__(self, operations: int, clients: int) -> None:
        # One command for each client is set aside, so that no site is left out where others are much faster.
        self._free = operations - clients
        self.unanswered = operations

    def take(self) -> bool:
        """Ask for another command; False if there is none left."""
        self._free -= 1
        return self._free >= 0


class Client:
    """A client beside a replica, with one write under way, on the hot key or on a key of its own.

    `conflicts` is the share, from 0 to 1, of its commands on the hot key. `latencies` are the times in seconds from
    sending a command, which is when it is proposed, to its answer.
    """

    def __init__(
        self,
        session: int,
        replica: Replica,
        schedule: Schedule,
        random: Random,
        conflicts: float,
        budget: Budget,
    ) -> None:
        self._session = session
        self._replica = replica
        self._schedule = schedule
        self._random = random
        self._conflicts = conflicts
        self._budget = budget
        self._key = b"own of %d" % session
        self._number = 0
        self._asked = 0.0
        self.latencies: list[float] = []

    def ask(self) -> None:
        """Send the next command."""
        self._number += 1
        self._asked = self._schedule.now
        self._replica.request(self._batch(), self._on_answer)

    def _batch(self) -> Batch:
        key = HOT_KEY if self._random.random() < self._conflicts else self._key
        number = self._number
        return decode_batch(
            encode_batch(self._session, number, number, bytes([Operation.WRITE]), [key], [b"%08d" % number])
        )

    def _on_answer(self, _: BatchResult | Looked | None, __: Row) -> None:
        self.latencies.append(self._schedule.now - self._asked)
        self._budget.unanswered -= 1
        if self._budget.take():
            # Not from here: the replica is in the middle of a round.
            self._schedule.after(0.0, self.ask)
