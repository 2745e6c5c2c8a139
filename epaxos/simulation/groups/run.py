"""One run of groups: faults first, then calm, in which everything must finish, and nothing may stay locked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from epaxos.client.commands import Op
from epaxos.client.results import CasResult, MultiAborted
from epaxos.errors import ClientError, Locked, Untold
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result
from epaxos.simulation.checkers.search import Linearizability, search
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.groups.atomic import Atomic
from epaxos.simulation.groups.callers import Caller, Session
from epaxos.simulation.groups.plan import ACCOUNTS, Asked, Plan, draw_plan
from epaxos.simulation.plan.options import NO_OVERRIDES, Overrides
from epaxos.simulation.run import MOST_ACTIONS, SEARCH_BUDGET, Checked, finding_of
from epaxos.simulation.world.making import LIMITS
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.operations import Outcome as End

LAST: Final = 1000
"""The number of the caller that reads everything when all others have finished."""

SMALL: Final = 12
"""Commands up to which a history is searched."""


class Outcome(NamedTuple):
    """What a run came to, as for clusters (`simulation.run.Outcome`)."""

    options: Plan
    verdict: Verdict
    text: str
    marks: Counter[str]
    commands: int
    seconds: float
    actions: int


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.schedule = Schedule()
        self.marks: Counter[str] = Counter()
        self.atomic = Atomic()
        self.groups = {
            group.name.encode(): Checked(cluster, schedule=self.schedule)
            for group, cluster in zip(plan.groups.groups, plan.clusters, strict=True)
        }
        for name, group in self.groups.items():
            group.results.transactions.told = partial(self.atomic.happened, name)
        self.callers = [self._make_caller(name) for name in range(len(plan.scripts))]
        self._scripts = [list(reversed(script)) for script in plan.scripts]
        self._asking: list[Call | None] = [None] * len(plan.scripts)
        self._thinking = [False] * len(plan.scripts)
        self.history: list[Call] = []

    def execute(self) -> Outcome:
        """Run to the end, or to the first thing that is wrong."""
        finding = finding_of(self._execute)
        for group in self.groups.values():
            self.marks.update(group.count())
        answered = sum(call.answered is not None for call in self.history)
        return Outcome(
            self.plan,
            finding.verdict,
            finding.text,
            self.marks,
            answered,
            self.schedule.now,
            self.schedule.actions,
        )

    def _make_caller(self, name: int, timeout: float = 0.0) -> Caller:
        sessions = {
            group: Session(checked.cluster.surroundings, name, timeout or self.plan.timeout)
            for group, checked in self.groups.items()
        }
        return Caller(
            name, self.plan.seed, self.plan.groups, sessions, self.schedule, self.atomic, self._note
        )

    def _note(self, mark: str) -> None:
        self.marks[mark] += 1

    # -- phases ------------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        for group in self.groups.values():
            group.cluster.start()
        for place in range(len(self.callers)):
            self._think(place)
        for when, place in self.plan.deaths:
            self.schedule.at(when, self._kill, place)
        while self.schedule.step(self.plan.options.phase):
            pass
        for group in self.groups.values():
            group.cluster.calm()
        for caller in self.callers:
            caller.calm()
        bound = sum(group.bound() for group in self.groups.values())
        bound += 20 * self.plan.timeout * (1 + self.plan.options.operations)
        self._settle(
            bound, lambda: not any(self._scripts) and not any(self._asking) and not any(self._thinking)
        )
        self._settle(bound, lambda: all(caller.idle for caller in self.callers) and self._are_settled())
        self._read_everything(bound)
        self._end_all(bound)
        self._check_end()

    def _are_settled(self) -> bool:
        return all(group.settled for group in self.groups.values())

    def _settle(self, bound: float, finished: Callable[[], bool]) -> None:
        """Go on until something has come about.

        Raises:
            NoProgressError: that takes longer than the bound.
        """
        end = self.schedule.now + bound
        most = self.schedule.actions + MOST_ACTIONS
        while not finished():
            if self.schedule.now >= end or self.schedule.actions >= most:
                waiting = ", ".join(f"{call} {call.command}" for call in self._asking if call is not None)
                raise NoProgressError(
                    f"not finished {bound:.3f} s after the faults; calls without an answer: {waiting or 'none'}"
                )
            until = self.schedule.now + self.plan.options.beacon
            while self.schedule.actions < most and self.schedule.step(until):
                pass

    def _read_everything(self, bound: float) -> None:
        """Touch each key by itself: whatever locks it must go."""
        keys = sorted({op.key for script in self.plan.scripts for asked in script for op in asked.operations})
        self.callers.append(self._make_caller(LAST, bound))
        self.callers[-1].calm()
        self._scripts.append([Asked(0.0, (Op.get(key),), is_multi=False) for key in reversed(keys)])
        self._asking.append(None)
        self._thinking.append(False)
        self._think(len(self.callers) - 1)
        self._settle(bound, lambda: not (self._scripts[-1] or self._asking[-1] or self._thinking[-1]))
        self._settle(bound, lambda: self.callers[-1].idle and self._are_settled())

    def _end_all(self, bound: float) -> None:
        """End what nobody has ended: no key was locked any more, but records may have been left."""
        for name, group in self.groups.items():
            for replica in group.cluster.living:
                if len(replica.machine.transactions):
                    raise NoProgressError(
                        f"every key was read, and replica {replica.row} of {name!r} has locks"
                    )
        ended: list[bool] = []
        self.callers[-1].end_all(lambda value, error: ended.append(error is None and value))
        self._settle(bound, lambda: bool(ended) and self.callers[-1].idle and self._are_settled())
        left = {name: list(group.results.transactions.records) for name, group in self.groups.items()}
        if ended != [True] or any(left.values()):
            raise NoProgressError(f"an operator has ended all transactions, and records stay: {left}")

    def _check_end(self) -> None:
        for group in self.groups.values():
            group.check_end()
        self.atomic.check_end()
        total = sum(
            int(value)
            for group in self.groups.values()
            for key, value in group.results.state.items()
            if key.startswith(ACCOUNTS)
        )
        if total:
            raise ViolationError(
                "sum", f"the accounts come to {total} in the end: something was executed in part"
            )
        if self.plan.options.operations > SMALL:
            return
        finding = search(self.history, LIMITS.value, SEARCH_BUDGET)
        if finding.verdict is Linearizability.VIOLATION:
            raise ViolationError("linearizability", f"over all groups: {finding.text}")
        self._note(f"history: {finding.verdict.value}")

    # -- callers -----------------------------------------------------------------------------------------------

    def _think(self, place: int) -> None:
        if self._scripts[place]:
            asked = self._scripts[place].pop()
            self._thinking[place] = True
            self.schedule.after(asked.think, self._ask, place, asked)

    def _ask(self, place: int, asked: Asked) -> None:
        self._thinking[place] = False
        caller = self.callers[place]
        call = Call(caller.name, len(self.history) + 1, command_of(asked), self.schedule.now)
        self.history.append(call)
        self._asking[place] = call
        caller.ask(
            asked.operations, is_multi=asked.is_multi, then=partial(self._take, place, caller, call, asked)
        )

    def _take(
        self, place: int, caller: Caller, call: Call, asked: Asked, value: Any, error: ClientError | None
    ) -> None:
        """A call is over: it is known what it came to, or that it had no effect, or nothing."""
        self._asking[place] = None
        across = len({caller.group_of(op.key) for op in asked.operations}) > 1
        what = "multi across groups" if across else "multi of one group" if asked.is_multi else "command"
        if error is None:
            call.answered = self.schedule.now
            call.result = result_of(asked, value)
            self._note(f"{what} done")
            self._check_sum(asked, value)
        elif error.may_have_executed:
            self._note(f"{what}: {'untold' if isinstance(error, Untold) else 'no answer'}")
        else:
            self.history.remove(call)
            reason = "a condition failed" if isinstance(error, MultiAborted) else "locked"
            self._note(f"{what}: {reason if isinstance(error, MultiAborted | Locked) else 'not executed'}")
        if caller.name == LAST and error is not None:
            self._scripts[place].append(asked._replace(think=self.plan.options.beacon))
        self._think(place)

    def _check_sum(self, asked: Asked, value: Any) -> None:
        if asked.is_multi and all(
            op.operation == Operation.READ and op.key.startswith(ACCOUNTS) for op in asked.operations
        ):
            total = sum(int(number or b"0") for number in value)
            if total:
                raise ViolationError("sum", f"a multi read accounts that come to {total}: {value}")

    def _kill(self, place: int) -> None:
        """A caller dies; another goes on with what it would have asked for."""
        caller = self.callers[place]
        self._note("caller died" if self._asking[place] is None else "caller died in a call")
        caller.die()
        self.callers[place] = self._make_caller(caller.name + len(self.callers))
        if self._asking[place] is not None:
            self._asking[place] = None
            self._think(place)


def command_of(asked: Asked) -> Command:
    """What is asked for, as checkers know it."""
    op = Op.multi(asked.operations) if asked.is_multi else asked.operations[0]
    return Command(op.operation, op.key, op.argument)


def result_of(asked: Asked, value: Any) -> Result:
    """What an answer would have been in a frame, of what a client returns."""
    if not asked.is_multi:
        return _raw(asked.operations[0], value)
    parts = [_raw(op, one) for op, one in zip(asked.operations, value, strict=True)]
    return int(End.DONE), [bytes(outcome for outcome, _ in parts), [one for _, one in parts]]


def _raw(op: Op, value: Any) -> Result:
    if op.operation == Operation.READ:
        return int(End.NOT_FOUND if value is None else End.DONE), value
    if op.operation == Operation.DELETE:
        return int(End.DONE if value else End.NOT_FOUND), None
    if isinstance(value, CasResult):
        return int(
            End.DONE if value.swapped else End.COMPARE_FAILED
        ), None if value.swapped else value.current
    return int(End.DONE), value


def run_seed(seed: int, overrides: Overrides = NO_OVERRIDES) -> Outcome:
    """Run one seed.

    Raises:
        ValueError: an override out of its range.
    """
    return Run(draw_plan(seed, overrides)).execute()
