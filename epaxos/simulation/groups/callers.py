"""Clients of groups: the code of the real ones (`groups.calls`), over simulated sessions, until they die."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgpack

from epaxos.client.commands import Op
from epaxos.client.decoding import decode
from epaxos.client.session import fate
from epaxos.client.status import Status
from epaxos.errors import ClientError, Locked, NoAnswer
from epaxos.groups.calls import Flow, GroupCalls
from epaxos.groups.driving import Pace, answer_to, command_of
from epaxos.groups.map import Groups
from epaxos.groups.transaction import Answer, Fate, Step, Transaction
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result
from epaxos.simulation.groups.atomic import Atomic
from epaxos.simulation.plan.options import stream
from epaxos.simulation.plan.workload import Script
from epaxos.simulation.world.clients import Client, Surroundings
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.operations import Outcome

Then: TypeAlias = "Callable[[Any, ClientError | None], None]"
"""Takes what something came to, or why it failed."""


class Wait:
    """What a call waits for: it ends once, with a value or an error."""

    def __init__(self) -> None:
        self._ended: tuple[Any, ClientError | None] | None = None
        self._then: Then | None = None

    def end(self, value: Any = None, error: ClientError | None = None) -> None:
        """It has come."""
        if self._ended is None:
            self._ended = value, error
            if self._then is not None:
                self._then(value, error)

    def then(self, action: Then) -> None:
        """What to do with it."""
        self._then = action
        if self._ended is not None:
            action(*self._ended)


class Session(Client):
    """A caller's session with one group: what `GroupCalls` takes for the client of a cluster."""

    def __init__(self, surroundings: Surroundings, name: int, timeout: float) -> None:
        self.timeout = timeout
        self._waits: dict[Call, tuple[Op, Wait]] = {}
        super().__init__(surroundings, Script(name, ()))

    def check(self, operation: Op) -> None:
        """All fit."""

    def execute(self, operation: Op, *, timeout: float) -> Wait:
        """Ask for a command, and for no longer than that wait for it."""
        argument = msgpack.unpackb(msgpack.packb(operation.argument))
        (call,) = self._take_off([Command(operation.operation, operation.key, argument)])
        wait = Wait()
        self._waits[call] = operation, wait
        self._schedule.after(timeout, self._leave, call)
        return wait

    def status(self, *, timeout: float, transactions: bool = False) -> Wait:
        """What a replica that runs tells."""
        wait = Wait()
        living = [replica for replica in self._surroundings.replicas if replica.alive]
        self._schedule.after(timeout, wait.end, None, NoAnswer("no answer"))
        if living:
            replica = self._random.choice(living)
            others = {"transactions": replica.machine.transactions.told()} if transactions else {}
            status = Status(generation=replica.generation, others=others)
            self._schedule.after(2 * self._options.delay * self._random.random(), wait.end, status)
        return wait

    def die(self) -> None:
        """Ask for nothing any more."""
        self._waits.clear()
        self._flights.clear()

    def _leave(self, call: Call) -> None:
        """Time is over: its number counts as answered from now on, as the client library does it."""
        if call not in self._waits:
            return
        if self._open.pop(call.number, None) is not None:
            call.is_left = True
            self._land()
        operation, wait = self._waits.pop(call)
        wait.end(
            None, fate.of_a_read(NoAnswer("no answer")) if operation.operation == 1 else NoAnswer("no answer")
        )

    def _told(self, call: Call, answer: Result) -> None:
        operation, wait = self._waits.pop(call, (None, None))
        if operation is None or wait is None:
            return
        try:
            value = decode(operation, *answer)
        except ClientError as error:
            self._schedule.after(0.0, wait.end, None, error)
        else:
            self._schedule.after(0.0, wait.end, value)

    def _give_up(self) -> None:
        """The session is over: what it waits for has no answer, and another begins."""
        super()._give_up()
        waits, self._waits = list(self._waits.values()), {}
        for _, wait in waits:
            self._schedule.after(0.0, wait.end, None, NoAnswer("the session is over"))


class Caller(GroupCalls):
    """A client of all groups."""

    def __init__(
        self,
        name: int,
        seed: int,
        groups: Groups,
        sessions: Mapping[bytes, Session],
        schedule: Schedule,
        atomic: Atomic,
        note: Callable[[str], None],
    ) -> None:
        random = stream(seed, f"caller {name}")
        timeout = next(iter(sessions.values())).timeout
        super().__init__(groups, timeout, lambda: schedule.now, random)
        self._clients = sessions
        self.name = name
        self.alive = True
        self.schedule = schedule
        self.atomic = atomic
        self.note = note
        self.chance = random
        self.drives: list[Drive] = []

    @property
    def idle(self) -> bool:
        """Whether nothing goes on behind its calls."""
        return all(drive.is_over for drive in self.drives)

    def calm(self) -> None:
        """Lose nothing and give up nothing from now on."""
        for session in self._clients.values():
            session.calm()

    def die(self) -> None:
        """End in the middle of whatever it does; what it has sent goes its way."""
        self.alive = False
        for session in self._clients.values():
            session.die()

    def ask(self, operations: Sequence[Op], *, is_multi: bool, then: Then) -> None:
        """Execute one command, or several as one."""
        flow = self._call_multi(operations, None) if is_multi else self._call_one(operations[0], None)
        self.go(flow, then)

    def end_all(self, then: Then) -> None:
        """What an operator does: end all transactions of which a group has a record."""
        self.go(self._end_all(), then)

    def _end_all(self) -> Flow[bool]:
        listed = yield from self._call_transactions(None)
        over = True
        for one in listed:
            self.note("record ended by an operator")
            ended = yield from self._call_resolve(one.record, one.groups, None, commit=False)
            over = over and ended is not None
        return over

    def go(self, flow: Flow[Any], then: Then, value: Any = None, error: ClientError | None = None) -> None:
        """Go on with a call."""
        if not self.alive:
            return
        try:
            waited = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as end:
            then(end.value, None)
        except ClientError as raised:
            then(None, raised)
        else:
            waited.then(lambda value, error: self.go(flow, then, value, error))

    def _rest(self, seconds: float) -> Wait:
        wait = Wait()
        self.schedule.after(seconds, wait.end)
        return wait

    def _drive(self, driven: Transaction, until: float) -> Drive:
        drive = Drive(self, driven, self._clients, until + self._timeout)
        self.drives = [one for one in self.drives if not one.is_over] + [drive]
        return drive

    def _all(self, *_: Any) -> Any:
        raise AssertionError("no bulk calls here")

    def _renew(self) -> None:
        self.note("coordinator renewed")
        super()._renew()

    def _pass(self, lock: Locked, until: float, *, patient: bool) -> Flow[None]:
        self.note("lock waited for" if patient else "transaction of somebody else ended")
        return super()._pass(lock, until, patient=patient)


class Drive:
    """One transaction under way: what `groups.driving.Drive` is in threads."""

    def __init__(
        self, caller: Caller, driven: Transaction, sessions: Mapping[bytes, Session], until: float
    ) -> None:
        self._caller = caller
        self._driven = driven
        self._sessions = sessions
        self._until = until
        self._under_way = 0
        self._waits: list[tuple[Callable[[], bool], Callable[[], Any], Wait]] = []
        self.refused: ClientError | None = None
        self._go(driven.begin())

    @property
    def is_over(self) -> bool:
        """Whether all is done, or given up."""
        return not self._under_way

    def give_up(self) -> None:
        """Send nothing more."""
        self._until = 0.0

    def fate(self, until: float) -> Wait:
        """What became of it, None if that is not known by a time."""
        return self._wait_for(lambda: self._driven.fate is not None or self.is_over, self._fate, until)

    def wait(self, until: float) -> Wait:
        """Whether by a time all is done, or given up."""
        return self._wait_for(lambda: self.is_over, lambda: self.is_over, until)

    def _fate(self) -> Fate | None:
        return self._driven.fate

    def _wait_for(self, ready: Callable[[], bool], tell: Callable[[], Any], until: float) -> Wait:
        wait = Wait()
        if ready():
            wait.end(tell())
        else:
            self._waits.append((ready, tell, wait))
            left = max(until - self._caller.schedule.now, 0.0)
            self._caller.schedule.after(left, lambda: wait.end(tell()))
        return wait

    def _go(self, steps: Sequence[Step]) -> None:
        self._under_way += len(steps)
        for step in steps:
            self._send(step, Pace(self._caller.chance))

    def _send(self, step: Step, pace: Pace) -> None:
        session = self._sessions[step.group]
        within = pace.within(self._until - self._caller.schedule.now, session.timeout)
        session.execute(command_of(self._driven, step), timeout=within).then(partial(self._take, step, pace))

    def _take(self, step: Step, pace: Pace, value: Any, error: ClientError | None) -> None:
        if not self._caller.alive:
            return
        answer = Answer(*value) if error is None else answer_to(self, step, error)
        steps = self._driven.take(step, answer)
        self._caller.atomic.told(self._driven.key, self._driven.fate)
        if answer.outcome == Outcome.FORGOTTEN:
            self._caller.note("answer of a transaction not kept")
        if pace.again(step, answer, steps) and self._caller.schedule.now < self._until:
            self._caller.schedule.after(pace.rest(), self._send_again, steps[0], pace)
        else:
            if self._caller.schedule.now < self._until:
                self._go(steps)
            self._under_way -= 1
        for wait in self._waits.copy():
            ready, tell, waiting = wait
            if ready():
                self._waits.remove(wait)
                self._caller.schedule.after(0.0, waiting.end, tell())

    def _send_again(self, step: Step, pace: Pace) -> None:
        if self._caller.alive:
            self._send(step, pace)
