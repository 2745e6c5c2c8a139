"""Drives one transaction over the clients of its groups, in threads: each command again until it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from random import SystemRandom
from threading import Condition
from time import monotonic, sleep
from typing import Final, cast

from epaxos.client.blocking import Client
from epaxos.client.commands import Op
from epaxos.errors import ClientError, Closed
from epaxos.groups.transaction import Answer, Fate, Step, Transaction
from epaxos.statemachine.batch import Argument
from epaxos.statemachine.operations import Operation

_RANDOM: Final = SystemRandom()
_FIRST_REST: Final = 0.02
_LONGEST_REST: Final = 1.0


class Drive:
    """One transaction under way. It goes on after its fate is known, to unlock and forget, up to `until` (monotonic).

    What it leaves undone then, whoever meets a lock of it does.
    """

    def __init__(
        self,
        driven: Transaction,
        clients: Mapping[bytes, Client],
        pools: Mapping[bytes, Executor],
        until: float,
    ) -> None:
        self._driven = driven
        self._clients = clients
        self._pools = pools
        self._until = until
        self._changed = Condition()
        self._under_way = 0
        self._error: BaseException | None = None
        self.refused: ClientError | None = None
        """Why a group has certainly not executed a PREPARE."""
        self._go(driven.begin())

    def fate(self, until: float) -> Fate | None:
        """What became of it, None if that is not known by a time."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._driven.fate or self._error or not self._under_way, until - monotonic()
            )
            if self._error is not None:
                raise self._error
            return self._driven.fate

    def wait(self, until: float) -> bool:
        """Whether by a time all is done, or given up."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, until - monotonic())

    def give_up(self) -> None:
        """Send nothing more; what is under way ends with its clients."""
        self._until = 0.0

    def _go(self, steps: list[Step]) -> None:
        with self._changed:  # until all are counted, none is taken off
            for step in steps:
                self._pools[step.group].submit(self._run, step)
                self._under_way += 1

    def _run(self, step: Step) -> None:
        more: list[Step] = []
        try:
            more = self._take(step)
            self._go(more)
        except Exception as error:  # to be raised where the caller waits
            self._error = error
            raise
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _take(self, step: Step) -> list[Step]:
        """Send a command until it is answered; what is to be sent then."""
        rest = _FIRST_REST
        while monotonic() < self._until:
            answer = self._ask(step)
            with self._changed:
                steps = self._driven.take(step, answer)
                self._changed.notify_all()
            if answer.outcome is not None or len(steps) != 1 or steps[0].group != step.group:
                return steps
            sleep(rest * _RANDOM.uniform(0.5, 1.0))
            rest = min(rest * 2, _LONGEST_REST)
            step = steps[0]
        return []

    def _ask(self, step: Step) -> Answer:
        left = max(self._until - monotonic(), _FIRST_REST)
        op = Op(int(step.operation), self._driven.key, cast("Argument", step.argument))
        client = self._clients[step.group]
        try:
            outcome, value = client.execute(op, timeout=min(left, client.timeout))
        except Closed:
            self.give_up()
            return Answer(None)
        except ClientError as error:
            if step.operation == Operation.PREPARE and not error.may_have_executed:
                self.refused = error
            return Answer(None)
        return Answer(outcome, value)
