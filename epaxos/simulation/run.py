"""One run: faults first, then calm, in which everything must finish; and what came of it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from epaxos.errors import InvariantError
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.kinds import MULTIPAXOS
from epaxos.simulation.checkers.contents import Contents
from epaxos.simulation.checkers.decisions import Decisions
from epaxos.simulation.checkers.epochs import Epochs
from epaxos.simulation.checkers.history import check_witness
from epaxos.simulation.checkers.order import ExecutionOrder
from epaxos.simulation.checkers.progress import (
    check_same_digest,
    check_same_state,
    describe_unsettled,
    have_followed,
    settled,
    stuck,
)
from epaxos.simulation.checkers.reads import Reads
from epaxos.simulation.checkers.results import Results
from epaxos.simulation.checkers.search import Linearizability, search
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.coverage import Coverage
from epaxos.simulation.plan.faults import Change, Drift
from epaxos.simulation.plan.options import MANY, Options, stream
from epaxos.simulation.plan.plan import Plan
from epaxos.simulation.plan.workload import TIMED, TRANSACTIONS
from epaxos.simulation.profile import checkers_of
from epaxos.simulation.world.cluster import Cluster
from epaxos.simulation.world.making import LIMITS, MakeCore
from epaxos.simulation.world.observer import Observer, Observers
from epaxos.simulation.world.schedule import Schedule
from epaxos.statemachine.reading import Reading

MOST_ACTIONS = 1_000_000
"""How many actions a run may take after the faults, and a hundredth of it more for each command."""

CORE_STOPS: Final = "a core stops"
"""How a finding begins that a core has made itself."""

FEW_LEFT: Final = 0.5
"""How often only as many replicas are left after the faults as must be, in a run in which epochs end."""

SEARCH_BUDGET = 20_000
"""How many configurations the search of a history may look at."""


class Outcome(NamedTuple):
    """What a run came to.

    `text` says what was found; `places` the instances and `calls` the commands, as (client, request number), that it
    is about. `commands` were answered, in `seconds` of virtual time, with `actions` of the schedule.
    """

    options: Options
    verdict: Verdict
    text: str
    places: tuple[InstanceId, ...]
    calls: tuple[tuple[int, int], ...]
    marks: Counter[str]
    commands: int
    seconds: float
    actions: int


def kind_of(verdict: Verdict, text: str) -> str:
    """What kind of failure a finding is, for two of the same kind to be told from others.

    It is the checker or, of a crash, where in the program and by which exception. What does not finish is one kind.
    """
    if verdict is Verdict.LIVENESS:
        return ""
    if verdict is Verdict.CRASH:
        lines = text.splitlines()
        where = [line.strip() for line in lines if line.startswith("  File ")]
        return f"{where[-1] if where else ''} {lines[-1].partition(':')[0]}"
    return text.partition(":")[0]


class Finding(NamedTuple):
    """What was found, as in `Outcome`."""

    verdict: Verdict = Verdict.CLEAN
    text: str = ""
    places: tuple[InstanceId, ...] = ()
    calls: tuple[tuple[int, int], ...] = ()


class Checked:
    """A cluster with all who check it; `extra` observers see what they see, before them."""

    def __init__(
        self,
        plan: Plan,
        extra: Sequence[Observer] = (),
        make_core: MakeCore | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        rows = plan.options.rows
        contents = Contents()
        self.options = plan.options
        self.coverage = Coverage()
        rates = [fault.rate for fault in plan.faults if isinstance(fault, Drift)]
        fastest = max([1 + plan.options.skew, *rates])
        self.results = Results(contents, LIMITS.value, LIMITS.window, fastest, tight=plan.options.kept < MANY)
        own = checkers_of(plan.options, contents)
        decisions = Decisions(plan.options.quorums, contents, rows)
        order = ExecutionOrder(rows, contents, decisions)
        self.epochs = epochs = Epochs(plan.options.configuration)
        slowest = min([1 - plan.options.skew, *rates])
        reads = Reads(contents, order, self.results, slowest)
        checkers = [*own, epochs, decisions, order, self.results, reads]
        self.cluster = Cluster(plan, Observers([*extra, self.coverage, *checkers]), make_core, schedule)
        self.results.now = lambda: self.cluster.schedule.now
        self.cluster.watch(self.results.watching)

    @property
    def settled(self) -> bool:
        """Whether all replicas have done all that was asked for."""
        if not self.cluster.overseer.idle:
            return False
        living = self.cluster.living
        last = max(replica.epoch for replica in self.cluster.replicas if replica.alive)
        if any(replica.epoch != last for replica in living):
            return False  # all of its voters may be still to come to it
        if not settled(living) or any(replica.overdue for replica in living):
            return False
        if not all(have_followed(living[0], observer) for observer in self.cluster.observing):
            return False
        return all(watcher.knows_all for watcher in self.cluster.watchers)

    def keep_fewest(self) -> None:
        """Stop for good whom the last epoch, and one that it does not stand for yet, can do without."""
        if self.cluster.overseer.idle:
            self.cluster.keep_fewest(self.epochs.open_epochs())

    def check_end(self) -> None:
        """See that replicas hold what they should, and that clients were told so, once all has settled.

        Raises:
            ViolationError: they do not.
        """
        results = self.results
        check_same_state(
            [*self.cluster.living, *self.cluster.observing],
            results.state,
            results.transactions.records,
            results.executed_numbers,
        )
        check_witness(results.witness, results.calls)

    def bound(self) -> float:
        """How long everything may take after the faults, in seconds.

        A recovery, or an election, backs off to 32 times its time-out, more for those who come last, and may have to
        try again. A client has its script to go through, and finds living replicas by time-outs, which double up to 8
        times the first at those that are dead: once, or for each frame where it asks observers first.
        """
        options = self.options
        recovery = 500 * max(options.patience, 10 * options.calm_delay)
        if MULTIPAXOS.name in options.protocols:
            recovery += 500 * options.beacon  # by which replicas see that nobody leads
        tour = 8 * (1 + options.dead) * options.client_timeout
        frame = options.think + 100 * options.delay + 10 * options.cpu + 4 * options.client_timeout
        if options.observers:
            frame += tour
        return (
            recovery
            + 50 * options.beacon
            + options.operations * frame
            + max(tour, 16 * options.client_timeout)
        )

    def count(self) -> Counter[str]:
        """What was exercised."""
        for replica in self.cluster.replicas:
            if replica.alive:
                replica.count()
            self.coverage.add_replica(replica)
        return self.coverage.marks


def finding_of(execute: Callable[[], None]) -> Finding:
    """What running to the end, or to the first thing that is wrong, comes to.

    Raises:
        OSError: an observer's.
    """
    try:
        execute()
    except ViolationError as error:
        return Finding(Verdict.SAFETY, str(error), error.places, error.calls)
    except InvariantError as error:
        return Finding(Verdict.SAFETY, f"{CORE_STOPS}: {error}")
    except NoProgressError as error:
        return Finding(Verdict.LIVENESS, str(error), error.places, error.calls)
    except OSError:  # nothing here does input or output but an observer, whose reader may have gone
        raise
    except Exception:  # noqa: BLE001 - whatever a core raises is a finding, and the next seed must run
        return Finding(Verdict.CRASH, traceback.format_exc())
    return Finding()


class Run:
    """One run of a plan; `extra` observers see what the checkers see, before them."""

    def __init__(self, plan: Plan, extra: Sequence[Observer] = (), make_core: MakeCore | None = None) -> None:
        self._options = plan.options
        self._checked = Checked(plan, extra, make_core)
        self.cluster = self._checked.cluster

    def execute(self) -> Outcome:
        """Run to the end, or to the first thing that is wrong.

        Raises:
            OSError: an observer's.
        """
        return self._outcome(finding_of(self._execute))

    def _execute(self) -> None:
        schedule = self.cluster.schedule
        self.cluster.start()
        schedule.run(self._options.phase)
        self.cluster.calm()
        if "refresh" in self._options.faults and stream(self._options.seed, "few left").random() < FEW_LEFT:
            self._checked.keep_fewest()
        self._settle()
        self._checked.check_end()
        if self._options.scale == "small" and self._options.mix not in (TIMED, TRANSACTIONS):
            self._search()
        else:
            check_same_digest([*self.cluster.living, *self.cluster.observing])

    def _search(self) -> None:
        """Look at the history alone too, where it is short enough for that."""
        # What was read locally, or at an observer, is of one replica's past.
        calls = [
            call
            for call in self._checked.results.calls.values()
            if not (call.looked and call.reading in (Reading.LOCAL, Reading.AGED))
        ]
        finding = search(calls, LIMITS.value, SEARCH_BUDGET, self._options.results)
        if finding.verdict is Linearizability.VIOLATION:
            raise ViolationError("linearizability", f"the history alone: {finding.text}")
        self._checked.coverage.noted(f"history alone: {finding.verdict.value}")

    def _settle(self) -> None:
        """Go on until everything has finished.

        Raises:
            NoProgressError: that takes longer than the bound.
        """
        cluster, schedule = self.cluster, self.cluster.schedule
        changes = sum(isinstance(fault, Change) for fault in cluster.plan.faults)
        bound = schedule.now + (1 + changes) * self._checked.bound()
        most_actions = schedule.actions + MOST_ACTIONS * (1 + self._options.operations // 100)
        while not (all(client.finished for client in cluster.clients) and self._checked.settled):
            if schedule.now >= bound or schedule.actions >= most_actions:
                raise self._unfinished()
            schedule.run(schedule.now + self._options.beacon, most_actions)

    def _unfinished(self) -> NoProgressError:
        cluster = self.cluster
        calls = tuple((call.client, call.number) for client in cluster.clients for call in client.open_calls)
        waiting = ", ".join(f"{client}:{number}" for client, number in calls[:10])
        text = (
            f"not finished {cluster.schedule.now - self._options.phase:.3f} s and "
            f"{cluster.schedule.actions} actions after the faults; commands without an answer: "
            f"{waiting or 'none'}\n{describe_unsettled(cluster.living)}"
        )
        return NoProgressError(text, stuck(cluster.living), calls[:10])

    def _outcome(self, finding: Finding) -> Outcome:
        marks = self._checked.count()
        schedule = self.cluster.schedule
        commands = sum(call.answered is not None for call in self._checked.results.calls.values())
        return Outcome(self._options, *finding, marks, commands, schedule.now, schedule.actions)
