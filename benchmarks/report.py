"""What was measured, for people and for programs: tables, JSON, and the figures of docs/performance.md."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from rich import box
from rich.table import Table

from benchmarks.cluster import BenchmarkError
from benchmarks.study import FIGURES, Options, Results, Study
from epaxos.bench.machine import describe_machine

BLOCK: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)
PICTURES: Final = "pictures"
QUIET: Final = 20
"""Percent of the processor that others may use."""

EVEN: Final = 3
"""How many times its median plain work takes in its slowest hundredth, at most, where longest times can be compared."""


def headings(study: Study) -> list[str]:
    """The columns of a study's table."""
    main, *others = (FIGURES[name].title for name in study.figures)
    return ["", main, "range", "ratio", *others]


def rows(study: Study, results: Results) -> list[list[str]]:
    """A row a case: the main figure's median, range and ratio to the baseline, and the others' medians."""
    main, *others = study.figures
    found = []
    for case in results.samples:
        values, figure = results.values(case, main), FIGURES[main]
        ratio = results.ratio(case, study.baseline_of(case, results), main)
        found.append(
            [
                case,
                figure.show(results.median(case, main)),
                f"{figure.show(min(values))} to {figure.show(max(values))}" if values else "-",
                "-" if ratio is None else f"{ratio:.2f}",
                *(FIGURES[name].show(results.median(case, name)) for name in others),
            ]
        )
    return found


def table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """A table for a terminal."""
    shown = Table(
        title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left"
    )
    shown.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        shown.add_column(column, justify="right")
    for row in cells:
        shown.add_row(*row)
    return shown


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The same for a document."""
    lines = [columns, ["-"] + ["-:"] * (len(columns) - 1), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine(options: Options) -> dict[str, Any]:
    """Where, with what and how it was measured."""
    busy = psutil.cpu_percent(0.5)
    return describe_machine() | {
        "busy_before": round(busy),
        "uneven": round(unevenness(0.2 if options.tiny else 5.0), 1),
        "cycles": options.cycles,
        "duration_s": options.duration,
        "quick": options.quick,
    }


def unevenness(seconds: float) -> float:
    """How many times its median CPU some plain work takes in its slowest hundredth; between pauses, for some seconds.

    Some 1.5 to 3 where the machine is there for its processes alone. A virtual one can have 10: for a tenth of a
    second, every two seconds, whatever runs is as much slower, and the slowest hundredth of all commands, and the
    longest round, tell of that.
    """
    table = {str(number): [number, None, {"text": "x" * number}] for number in range(60)}
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.002)
        began = time.thread_time()
        json.loads(json.dumps(table))
        took.append(time.thread_time() - began)
    took.sort()
    return took[len(took) * 99 // 100] / took[len(took) // 2]


def machine_line(where: Mapping[str, Any]) -> str:
    """The same in a sentence or two."""
    busy = (
        " On a quiet machine throughput is higher and latencies are lower."
        if where["busy_before"] > QUIET
        else ""
    )
    uneven = (
        f" and took {where['uneven']:g} medians for the slowest hundredth of plain work"
        if where.get("uneven", 0.0) > EVEN
        else ""
    )
    return (
        f"Measured on {where['date']}: {where['cores']} cores ({where['processor']}), {where['memory_gb']:g} GB, "
        f"{where['system']}, {where['python']}, ZeroMQ {where['zeromq']}; replicas and load on one machine, which was "
        f"{where['busy_before']} % busy before{uneven}; {where['cycles']} "
        f"cycle{'s' * (where['cycles'] > 1)} of runs of {where['duration_s']:g} s.{busy}\n"
    )


def as_json(where: Mapping[str, Any], measured: Mapping[str, tuple[Study, Results]]) -> dict[str, Any]:
    """Everything, also each single run."""
    return {
        "machine": dict(where),
        "studies": {
            name: {
                "title": study.title,
                "figures": {figure: FIGURES[figure].title for figure in study.figures},
                "cases": {case: _case(study, results, case) for case in results.samples},
                "series": results.series,
                "remarks": results.remarks,
                "whole": results.is_whole,
            }
            for name, (study, results) in measured.items()
        },
    }


def _case(study: Study, results: Results, case: str) -> dict[str, Any]:
    known = sorted({figure for sample in results.samples[case] for figure in sample})
    return {
        "described": results.described.get(case, ""),
        "median": {figure: results.median(case, figure) for figure in known},
        "baseline": (baseline := study.baseline_of(case, results)),
        "ratio": {figure: results.ratio(case, baseline, figure) for figure in study.figures},
        "samples": results.samples[case],
    }


def from_json(
    text: str, studies: Mapping[str, Study]
) -> tuple[dict[str, Any], dict[str, tuple[Study, Results]]]:
    """What `as_json` made.

    Raises:
        BenchmarkError: it is something else.
    """
    try:
        report = json.loads(text)
        found = {
            name: (studies[name], _results(shown))
            for name, shown in report["studies"].items()
            if name in studies
        }
        return report["machine"], found
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"not a report of benchmarks/run --json: {error!r}") from error


def _results(shown: Mapping[str, Any]) -> Results:
    cases = shown["cases"]
    return Results(
        {case: list(some["samples"]) for case, some in cases.items()},
        {case: some["described"] for case, some in cases.items()},
        shown["series"],
        shown["remarks"],
        is_whole=shown.get("whole", True),
    )


def remarks(results: Results) -> list[str]:
    """What must not be overlooked beside a table: commands in error first of all."""
    errors = {case: sum(results.values(case, "errors")) for case in results.samples}
    return [
        f"{case}: {number:,.0f} commands in error." for case, number in errors.items() if number
    ] + results.remarks


def settings(study: Study, results: Results) -> list[str]:
    """How each system of a comparison was set; of other studies the cases' names say it."""
    if study.name != "peers":
        return []
    systems = {case.partition(": ")[2]: text for case, text in results.described.items()}
    return [f"- {name}: {text}." for name, text in systems.items()]


def block(study: Study, results: Results) -> str:
    """What stands in the document for a study: picture, table, remarks and, for other systems, their settings."""
    parts = []
    if study.picture is not None:
        parts.append(picture(study.name, study.title))
    parts.append(markdown(headings(study), rows(study, results)))
    parts += [f"{remark}\n" for remark in remarks(results)]
    if shown := settings(study, results):
        parts.append("\n".join(shown) + "\n")
    return "\n".join(parts)


def picture(name: str, title: str) -> str:
    """A picture, light or dark as the reader's page is."""
    place = f"{PICTURES}/{name}"
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{place}-dark.svg">'
        f'<img src="{place}-light.svg" alt="{title}"></picture>\n'
    )


def fill(document: Path, blocks: Mapping[str, str]) -> None:
    """Replace what stands between `<!-- figures: NAME -->` and `<!-- figures: end -->` for each name."""

    def replaced(found: re.Match[str]) -> str:
        opening, name, closing = found.groups()
        return f"{opening}{blocks[name]}{closing}" if name in blocks else found.group()

    document.write_text(BLOCK.sub(replaced, document.read_text(encoding="utf-8")), encoding="utf-8")
