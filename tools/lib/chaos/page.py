"""The report of a run as one page of HTML, which needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chaos.report import Report
from chaos.timeline import ALL
from epaxos.bench.charts import Bar, over_time
from epaxos.bench.machine import describe_machine
from epaxos.bench.page import Part, chart, command, named, page, table
from epaxos.bench.series import lines_of

_SAID: Final = {True: "yes", False: "NO", None: "not judged"}


def chaos_page(report: Report, words: Sequence[str]) -> str:
    """The page; `words` are the command that draws the same again."""
    told: Any = report.as_dict()
    verdict = "all claims hold" if report.fine else "a claim does NOT hold"
    rows = [(claim, _SAID[holds], figures) for claim, holds, figures in report.verdicts()]
    gaps = [
        (kind, str(count), *(f"{gap.seconds:.2f} s" for gap in [report.gaps.get(kind)] if gap is not None))
        for kind, count in sorted(report.faults.items())
    ]
    parts = [
        Part("Claims", table(("claim", "holds", "figures"), rows, "words")),
        Part(
            "Over time, with the faults", chart(over_time(*lines_of(told["series"]), bars_of(told["events"])))
        ),
        Part("Faults", table(("fault", "times", "longest wait of a client"), gaps)),
        Part("Command", command(words)),
        Part("Machine", named(describe_machine())),
    ]
    beneath = (
        f"{report.faults.total()} faults in {report.seconds:.1f} s, "
        f"{report.recorded + report.others:,} commands answered, {report.rate:,.0f} a second"
    )
    return page(f"tools/chaos: {verdict}", beneath, parts)


def bars_of(events: Sequence[dict[str, Any]]) -> list[Bar]:
    """A bar for each victim of each fault; a lane for each replica, in order."""
    bars = [
        Bar(victim, event["kind"], event["begin"], event["end"])
        for event in events
        for victim in event["victims"] or [ALL]
    ]
    return sorted(bars)
