"""Drives one transaction over the clients of its groups, in threads: each command again until it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from random import Random, SystemRandom
from threading import Condition
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, Protocol, cast

from epaxos.client.commands import Op
from epaxos.errors import ClientError, Closed
from epaxos.groups.transaction import Answer, Fate, Step, Transaction
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation

if TYPE_CHECKING:
    from epaxos.client.blocking import Client

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
                try:
                    self._pools[step.group].submit(self._run, step)
                except RuntimeError:  # the main thread has ended, or the client is closed: nobody can go on
                    self.give_up()
                    return
                self._under_way += 1

    def _run(self, step: Step) -> None:
        try:
            self._go(self._take(step))
        except Exception as error:  # to be raised where the caller waits
            self._error = error
            raise
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _take(self, step: Step) -> list[Step]:
        """Send a command until it is answered; what is to be sent then."""
        pace = Pace()
        while monotonic() < self._until:
            answer = self._ask(step, pace)
            with self._changed:
                steps = self._driven.take(step, answer)
                self._changed.notify_all()
            if not pace.again(step, answer, steps):
                return steps
            sleep(pace.rest())
            step = steps[0]
        return []

    def _ask(self, step: Step, pace: Pace) -> Answer:
        client = self._clients[step.group]
        try:
            within = pace.within(self._until - monotonic(), client.timeout)
            return Answer(*client.execute(command_of(self._driven, step), timeout=within))
        except ClientError as error:
            return answer_to(self, step, error)


class Pace:
    """When a command without an answer is sent again."""

    def __init__(self, chance: Random = _RANDOM) -> None:
        self._rest = _FIRST_REST
        self._chance = chance

    def again(self, step: Step, answer: Answer, steps: Sequence[Step]) -> bool:
        """Whether what follows is that the same group is asked, since it has not answered."""
        return answer.outcome is None and len(steps) == 1 and steps[0].group == step.group

    def rest(self) -> float:
        """Seconds to wait before that; longer each time."""
        rest, self._rest = self._rest, min(self._rest * 2, _LONGEST_REST)
        return rest * self._chance.uniform(0.5, 1.0)

    def within(self, left: float, most: float) -> float:
        """How long a command may take if so much time is left, in seconds."""
        return min(max(left, _FIRST_REST), most)


class _Refused(Protocol):
    refused: ClientError | None

    def give_up(self) -> None:
        """Send nothing more."""


def command_of(driven: Transaction, step: Step) -> Op:
    """What is sent in a step."""
    return Op(int(step.operation), driven.key, cast("Argument", step.argument))


def answer_to(drive: _Refused, step: Step, error: ClientError) -> Answer:
    """What an error means for whoever drives a transaction: nobody knows what its command came to."""
    if isinstance(error, Closed):
        drive.give_up()
    elif step.operation == Operation.PREPARE and not error.may_have_executed:
        drive.refused = error
    return Answer(None)
