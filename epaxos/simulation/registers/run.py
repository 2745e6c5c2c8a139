"""One run of registers: what can go wrong goes wrong, then everything must finish, and the history is judged."""

from __future__ import annotations

import traceback
from collections import Counter
from functools import partial
from typing import Any, Final, NamedTuple

from epaxos.protocol.registers.change import Done, Want
from epaxos.protocol.registers.change import Verdict as End
from epaxos.protocol.registers.steps import SUPERSEDED, once
from epaxos.protocol.registers.values import State, Step
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command
from epaxos.simulation.checkers.search import Linearizability, search
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.registers.checker import Registers
from epaxos.simulation.registers.machines import (
    AcceptorProcess,
    Process,
    ProposerProcess,
    Successor,
    Under,
    Warden,
    World,
)
from epaxos.simulation.registers.plan import Asked, Plan, draw_plan, first_key
from epaxos.simulation.registers.watching import ObserverProcess
from epaxos.simulation.world.network import HostileNetwork
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.schedule import Schedule
from epaxos.simulation.world.striking import Stricken
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.changes import Changes
from epaxos.statemachine.operations import Operation

LIMITS: Final = Limits(key=64, value=60, pause=0)
SEARCH_BUDGET: Final = 200_000
MOST_ACTIONS: Final = 400_000
"""What no run needs."""


LAST_READERS: Final = 1000
"""The number of the first client that reads when all others have finished."""


class Outcome(NamedTuple):
    """What a run came to, as for clusters (`simulation.run.Outcome`)."""

    options: Plan
    verdict: Verdict
    text: str
    marks: Counter[str]
    commands: int
    seconds: float
    actions: int


class Marks(Observer):
    """Counts what happened."""

    def __init__(self) -> None:
        self.marks: Counter[str] = Counter()

    def noted(self, mark: str) -> None:
        """See `Observer`."""
        self.marks[mark] += 1


class Client:
    """Asks for one command after another; with `once`, again and elsewhere until it knows what came of each."""

    def __init__(self, run: Run, name: int, script: tuple[Asked, ...]) -> None:
        self._run = run
        self._name = name
        self._script = script
        self._next = 0
        self._tries = 0
        self._call: Call | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask for."""
        return self._call is None and self._next >= len(self._script)

    def think(self) -> None:
        """Ask for the next command in a while."""
        if self._next < len(self._script):
            self._run.schedule.after(self._script[self._next].think, self._ask)

    def _ask(self) -> None:
        asked = self._script[self._next]
        self._call = Call(self._name, self._next + 1, asked.command, self._run.schedule.now)
        self._run.calls.append(self._call)
        self._next += 1
        self._tries = 0
        self._doubtful = False
        self._first = asked.first
        self._propose(asked.proposer)

    def _propose(self, proposer: int) -> None:
        call, plan = self._call, self._run.plan
        assert call is not None
        self._tries += 1
        step = self._run.step_of(call.command)
        reads = call.command.operation == Operation.READ
        numbered = plan.once or plan.numbered
        if numbered and not reads:
            step = once(step, self._name, call.number)
        want = Want(call.command.key, step, reads=reads, repeatable=numbered, first=self._first)
        self._first = False  # whatever becomes of it, there is no second first
        row = plan.rows[(proposer + (self._tries - 1 if plan.once else 0)) % plan.proposers]
        self._run.proposers[row].propose(want, partial(self._ended, call, self._tries), self._run.timeout)
        self._run.schedule.after(2 * self._run.timeout, self._give_up, call, self._tries, proposer)

    def _give_up(self, call: Call, tries: int, proposer: int) -> None:
        """Nobody has answered: it may have happened or not."""
        if self._call is call and self._tries == tries:
            self._run.observer.noted("client gave up waiting")
            self._lost(proposer)

    def _lost(self, proposer: int) -> None:
        self._doubtful = True
        if self._run.plan.once:
            self._propose(proposer)
        else:
            self._call = None
            self.think()

    def _ended(self, call: Call, tries: int, done: Done) -> None:
        if self._call is not call or self._tries != tries:
            return
        self._run.observer.noted(f"proposal {done.verdict.value}")
        if done.attempts > 1:
            self._run.observer.noted("attempt lost, and another made")
        if tries > 1 and done.verdict is End.DONE:
            self._run.observer.noted("asked again after doubt")
        if done.verdict is End.FAILED and self._name >= LAST_READERS:
            raise NoProgressError(
                f"{call} {call.command} failed though a majority is there, and nobody writes"
            )
        if done.verdict is End.DONE:
            if done.result is SUPERSEDED:
                raise ViolationError("once", f"{call} was superseded while its client waited for it")
            call.answered, call.result = self._run.schedule.now, done.result
        elif done.verdict is End.UNKNOWN or self._doubtful:
            self._lost(self._script[self._next - 1].proposer)
            return
        elif call.command.operation != Operation.READ:
            self._run.calls.remove(call)  # it never happens: what others see must do without it
        self._call = None
        self.think()


class Run(Stricken[Process]):
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.observer = Marks()
        super().__init__(self.observer, plan.faults, plan.options.phase)
        self.plan = plan
        self.schedule = Schedule()
        self.network = HostileNetwork(plan.options, self.schedule, self.observer, self._deliver)
        self.timeout = plan.timeout
        self.calls: list[Call] = []
        self.checker = Registers()
        world = World(plan, self.schedule, self.network, self.observer, self.checker, Under())
        *rows, last = plan.rows
        self.wardens = [Warden(world, last)]
        if plan.gone is not None:
            self.wardens.append(Successor(world, plan.confirming[-1], last))
        self.proposers = {row: ProposerProcess(world, row) for row in rows}
        acceptors = [AcceptorProcess(world, row) for row in range(plan.acceptors + plan.spares)]
        self.observers = [ObserverProcess(world, row) for row in plan.watching]
        self.replicas = [
            *acceptors,
            *self.proposers.values(),
            self.wardens[0],
            *self.observers,
            *self.wardens[1:],
        ]
        self.clients = [Client(self, name, script) for name, script in enumerate(plan.scripts)]
        self._changes = Changes(LIMITS)

    def step_of(self, command: Command) -> Step:
        """The change that a command is; its result is what the reference would say."""

        def step(state: State) -> tuple[State, Any]:
            value, outcome, result = self._changes.apply(command.operation, command.argument, state.value)
            return (state if value == state.value else state._replace(value=value)), (outcome, result)

        return step

    def _deliver(self, sender: int, receiver: int, message: Any, stamp: None) -> None:
        del stamp
        self.replicas[receiver].receive(sender, message)

    def execute(self) -> Outcome:
        """Run to the end, or to the first thing that is wrong."""
        verdict, text = Verdict.CLEAN, ""
        try:
            self._execute()
        except ViolationError as error:
            verdict, text = Verdict.SAFETY, str(error)
        except NoProgressError as error:
            verdict, text = Verdict.LIVENESS, str(error)
        except Exception:  # noqa: BLE001 - whatever a core raises is a finding, and the next seed must run
            verdict, text = Verdict.CRASH, traceback.format_exc()
        answered = sum(call.answered is not None for call in self.calls)
        schedule = self.schedule
        return Outcome(
            self.plan, verdict, text, self.observer.marks, answered, schedule.now, schedule.actions
        )

    def _execute(self) -> None:
        for process in self.replicas:
            process.start()
        for client in self.clients:
            client.think()
        self._let_faults_come()
        while self.schedule.step(self.plan.options.phase):
            self._see_that_it_ends()
        self.calm()
        self.timeout = max(10 * self.plan.timeout, 400 * self.plan.options.delay)
        self._settle(lambda: self._tasks_done and all(client.finished for client in self.clients))
        self.timeout *= 10  # readers may be in each other's way, but not for so long
        readers = [
            Client(self, LAST_READERS + row, self._final_reads(row)) for row in range(self.plan.proposers)
        ]
        for reader in readers:
            reader.think()
        self._settle(lambda: all(reader.finished for reader in readers) and self._copied())
        finding = search(self.calls, LIMITS.value, SEARCH_BUDGET)
        if finding.verdict is Linearizability.VIOLATION:
            raise ViolationError("linearizability", finding.text)
        self.observer.noted(f"history: {finding.verdict.value}")

    @property
    def _tasks_done(self) -> bool:
        return any(warden.finished for warden in self.wardens)

    def _copied(self) -> bool:
        """Whether every observer has a copy of all that there is."""
        holds = self.checker.holds()
        return all(
            {key: value for key, value in watching.copy.items() if value is not None} == holds
            for watching in self.observers
        )

    def _final_reads(self, proposer: int) -> tuple[Asked, ...]:
        """What every proposer finds in the end, in every register."""
        keys = [b"k%d" % key for key in range(self.plan.options.keys)]
        keys += [first_key(number) for number in range(self.plan.firsts)]
        return tuple(Asked(0.0, proposer, Command(Operation.READ, key, None)) for key in keys)

    def _settle(self, finished: Any) -> None:
        """Go on until everything has finished.

        Raises:
            NoProgressError: that takes longer than the bound.
        """
        plan = self.plan
        bound = self.schedule.now + (10 + plan.options.operations + 10 * len(plan.tasks)) * self.timeout
        while not finished():
            if self.schedule.now >= bound:
                open_ = [f"{call} {call.command}" for call in self.calls if call.answered is None]
                raise NoProgressError(
                    f"not finished in time; tasks done: {self._tasks_done}; open: {open_[:9]}; "
                    f"copies: {[watching.copy for watching in self.observers]} of {self.checker.holds()}"
                )
            self.schedule.step(bound)
            self._see_that_it_ends()

    def _see_that_it_ends(self) -> None:
        if self.schedule.actions > MOST_ACTIONS:
            raise NoProgressError(f"{MOST_ACTIONS} actions were not enough")


def run_seed(seed: int, overrides: Overrides = NO_OVERRIDES) -> Outcome:
    """Run one seed.

    Raises:
        ValueError: an override out of its range.
    """
    return Run(draw_plan(seed, overrides)).execute()
