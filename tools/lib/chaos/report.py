"""What a run found, and what that says: a verdict for each claim, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from chaos.gaps import LIMIT, Gap
from chaos.ledger import Audit
from chaos.timeline import Timeline
from epaxos.simulation.checkers.search import Finding, Linearizability

RETURN_LIMIT: Final = 10.0
"""How long a client may have to wait after all replicas have been started again, in multiples of `timeout`."""


class Goal(NamedTuple):
    """SIGKILLs, and times that all replicas are killed together, after which a run ends; 0 for none."""

    kills: int = 0
    all_down: int = 0

    def is_reached(self, kills: int, all_down: int) -> bool:
        """Whether so many are enough; never if there is no goal."""
        return any(self) and kills >= self.kills and all_down >= self.all_down


NO_GOAL: Final = Goal()


class Verdict(NamedTuple):
    """A claim, whether it holds (None: it was not to be judged), and the figures for it."""

    claim: str
    holds: bool | None
    figures: str


@dataclass(slots=True)
class Report:
    """What came of a run, over all its rounds.

    Times are in seconds. `timeout` is the replicas'. `judged` is False where more replicas were faulty at a time
    than the cluster survives: then nobody can be promised an answer in time, only a right one. `compared` counts the
    rounds at whose end a majority was left, so that the states of those left could be compared. `kills` counts SIGKILLs
    by what the victim was about, `all_down` how often all died together, `changes` requests for other members by what
    has become of them, `done` what the replicas have done, `timeline` how it went. There are so many `watchers`;
    `watched` counts what they went through, `witnessed` the rounds that they saw to the end, `missed` is what is wrong.
    `ends` and `locks` count what happened to values that end, and to locks; `untimely` and `shared` are what is wrong.
    """

    seed: int
    timeout: float
    judged: bool
    goal: Goal = NO_GOAL
    seconds: float = 0.0
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recorded: int = 0
    others: int = 0
    epochs: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    gaps: dict[str, Gap] = field(default_factory=dict)
    stall: float = 0.0
    settled: float = 0.0
    recovered: int = 0
    compared: int = 0
    apart: list[str] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    all_down: int = 0
    restarts: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    longest_return: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    timeline: Timeline | None = None
    watchers: int = 0
    watched: Counter[str] = field(default_factory=Counter)
    witnessed: int = 0
    missed: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    untimely: list[str] = field(default_factory=list)
    locks: Counter[str] = field(default_factory=Counter)
    shared: list[str] = field(default_factory=list)

    @property
    def killed(self) -> tuple[int, int]:
        """SIGKILLs so far, and how often all died together."""
        return self.kills.total(), self.all_down

    @property
    def has_reached_goal(self) -> bool:
        """Whether a goal was set and is reached."""
        return self.goal.is_reached(*self.killed)

    @property
    def rate(self) -> float:
        """Commands answered a second."""
        return (self.recorded + self.others) / self.seconds if self.seconds else 0.0

    @property
    def gap(self) -> Gap | None:
        """The longest wait of all."""
        return max(self.gaps.values(), key=lambda gap: gap.seconds, default=None)

    def verdicts(self) -> list[Verdict]:
        """Each claim and whether it holds."""
        verdicts = [self._history(), self._once(), self._gap(), self._errors(), self._ends(), self._locks()]
        verdicts.append(self._states())
        if self.watchers:
            verdicts.append(self._watching())
        if self.all_down:
            verdicts.append(self._return())
        if any(self.goal):
            verdicts.append(self._goal())
        return verdicts

    @property
    def fine(self) -> bool:
        """Whether nothing speaks against any claim."""
        return all(verdict.holds is not False for verdict in self.verdicts())

    def _history(self) -> Verdict:
        wrong = Counter(finding.verdict for finding in self.findings)
        text = f"{self.recorded:,} commands in {self.epochs} epochs"
        if wrong[Linearizability.VIOLATION]:
            text += f"; {wrong[Linearizability.VIOLATION]} are NOT linearizable"
        if wrong[Linearizability.UNDECIDED]:
            text += f"; {wrong[Linearizability.UNDECIDED]} are UNDECIDED, too hard to search"
        return Verdict("the history is linearizable", not wrong and self.epochs > 0, text)

    def _once(self) -> Verdict:
        claim = "every command executed once if answered, at most once if not"
        if not self.audits:
            return Verdict(claim, None, "no majority was left")
        answered, unanswered, executed = (
            sum(numbers) for numbers in zip(*(audit[:3] for audit in self.audits), strict=True)
        )
        wrong = [fault for audit in self.audits for fault in audit.wrong]
        text = f"{answered:,} answered, {executed} of {unanswered} others executed, by the values at the end"
        return Verdict(claim, not wrong, "; ".join([text, *wrong]))

    def _watching(self) -> Verdict:
        claim, seen = "watchers saw every change in order", self.watched
        if not self.witnessed:
            return Verdict(claim, None, "no majority was left")
        text = (
            f"{seen['changes']:,} changes by {self.watchers}, {seen['resumes']:,} resumes, {seen['gaps']} gaps told; "
            f"{seen['keys'] - seen['excused']:,} keys judged, {seen['excused']} in everybody's gaps"
        )
        return Verdict(claim, not self.missed and seen["changes"] > 0, "; ".join([text, *self.missed]))

    def _ends(self) -> Verdict:
        claim = "values end, none before its time, none seen long after"
        return Verdict(claim, not self.untimely, "; ".join([_counts(self.ends), *self.untimely]))

    def _locks(self) -> Verdict:
        claim = "a lock has one holder at a time, and tokens grow"
        return Verdict(claim, not self.shared, "; ".join([_counts(self.locks), *self.shared]))

    def _return(self) -> Verdict:
        claim = (
            f"when all were down, clients wait no longer than {RETURN_LIMIT:g} time-outs from the last start"
        )
        multiple = self.longest_return / self.timeout
        return Verdict(claim, multiple <= RETURN_LIMIT, f"{self.longest_return:.2f} s, {self.all_down} times")

    def _goal(self) -> Verdict:
        claim = f"{self.goal.kills} SIGKILLs, {self.goal.all_down} times all at once"
        kills, all_down = self.killed
        return Verdict(claim, self.has_reached_goal, f"{kills} SIGKILLs, {all_down} times all")

    def _gap(self) -> Verdict:
        claim = f"no client of a healthy replica waits longer than {LIMIT:g} time-outs"
        if self.gap is None:
            return Verdict(claim, False, "nobody was answered")
        seconds, after, fault, home, again = self.gap
        multiple = seconds / self.timeout
        text = f"{seconds:.2f} s, {multiple:.2f} time-outs, at {home}, {after:.1f} s after: {fault}"
        text += f"; sent again: {again}" if again else ""
        return Verdict(claim, multiple <= LIMIT if self.judged else None, text)

    def _errors(self) -> Verdict:
        text = f"{_counts(self.errors) or 'none'}; at faulty replicas {_counts(self.excused) or 'none'}"
        return Verdict(
            "no client of a healthy replica sees an error", not self.errors if self.judged else None, text
        )

    def _states(self) -> Verdict:
        claim = "those left execute all instances and hold one state"
        if not self.compared:
            return Verdict(claim, None, "no majority was left")
        recovered = max(self.recovered, int(self.done["recovered"]))  # what is left knows its last life only
        text = f"{recovered} recovered; all done {self.settled:.2f} s after the load at the latest"
        return Verdict(claim, not self.apart, "; ".join([text, *self.apart]))

    def as_dict(self) -> dict[str, Any]:
        """The report for programs; times in seconds."""
        return {
            "seed": self.seed,
            "fine": self.fine,
            "timeout": self.timeout,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "faults": dict(self.faults),
            "commands": {"recorded": self.recorded, "others": self.others, "per_second": self.rate},
            "epochs": self.epochs,
            "errors": {"healthy": dict(self.errors), "faulty": dict(self.excused)},
            "retries": dict(self.retries),
            "longest_gap": None if self.gap is None else self.gap._asdict(),
            "gaps": {label: gap._asdict() for label, gap in self.gaps.items()},
            "longest_stall": self.stall,
            "settled": self.settled,
            "recovered": self.recovered,
            "findings": [
                {"verdict": finding.verdict.value, "text": finding.text} for finding in self.findings
            ],
            "apart": self.apart,
            "audits": [audit._asdict() for audit in self.audits],
            "kills": dict(self.kills),
            "all_down": self.all_down,
            "restarts": self.restarts,
            "changes": dict(self.changes),
            "made": dict(self.made),
            "longest_return": self.longest_return,
            "watchers": {"number": self.watchers, **self.watched},
            "missed": self.missed,
            "ends": {**self.ends, "wrong": self.untimely},
            "locks": {**self.locks, "wrong": self.shared},
            "done": dict(self.done),
            **({} if self.timeline is None else self.timeline.as_dict()),
            "verdicts": [verdict._asdict() for verdict in self.verdicts()],
        }

    def show(self, console: Console) -> None:
        """Print it for people."""
        console.print(
            f"{self.seconds:.1f} s in {self.rounds} {'round' if self.rounds == 1 else 'rounds'}; "
            f"faults: {self.faults.total()}; {self.recorded + self.others:,} commands answered, "
            f"{self.rate:,.0f} a second; sent again by the clients: {_counts(self.retries) or 'none'}; "
            f"this program stood still for {self.stall:.2f} s at most"
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("claim")
        table.add_column("holds")
        table.add_column("figures")
        for claim, holds, figures in self.verdicts():
            table.add_row(claim, _MARKS[holds], figures)
        console.print(table)
        self._show_gaps(console)
        if self.restarts:
            self._show_kills(console)
        if self.changes:
            console.print(
                f"{self.made.total()} changes of members: {_counts(self.made) or 'none'}; "
                f"requests for them: {_counts(self.changes)}",
                soft_wrap=True,
            )
        for finding in self.findings:
            console.print(f"{finding.verdict.value}: {finding.text}", markup=False, soft_wrap=True)

    def _show_kills(self, console: Console) -> None:
        done = self.done
        share = done["seconds of checkpoints"] / self.seconds if self.seconds else 0.0
        console.print(
            f"{self.kills.total()} SIGKILLs: {_counts(self.kills) or 'none'}; "
            f"all replicas together {self.all_down} times; "
            f"{self.restarts} restarts, {done['resumes']} resumes, "
            f"{done['resumes with open instances']} of them with open instances; "
            f"{done['catch-ups begun']} catch-ups by a checkpoint begun, {done['catch-ups']} ended "
            f"({done['catch-ups by metrics']:.0f} of them by their metrics); "
            f"{done['checkpoints']:.0f} checkpoints, {share:.2f} of them under way at a time",
            soft_wrap=True,
        )

    def _show_gaps(self, console: Console) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("fault")
        for heading in ("times", "longest wait", "time-outs"):
            table.add_column(heading, justify="right")
        for label, count in sorted(self.faults.items()):
            gap = self.gaps.get(label)
            wait = (
                ("-", "-") if gap is None else (f"{gap.seconds:.2f} s", f"{gap.seconds / self.timeout:.2f}")
            )
            table.add_row(label, str(count), *wait)
        console.print(table)


_MARKS: Final = {True: "yes", False: "[bold red]NO[/]", None: "not judged"}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if count)
