"""A report as one page of HTML that needs nothing else: charts, figures, the machine and the command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from epaxos.bench.charts import distribution, over_time, percentiles
from epaxos.bench.report import HEADINGS, cells, remarks, title
from epaxos.bench.run import Result
from epaxos.bench.series import lines_of

_STYLE: Final = """
:root { --back: #fff; --ink: #1f2328; --dim: #59636e; --grid: #d0d7de; --code: #f6f8fa; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --back: #0d1117; --ink: #e6edf3; --dim: #9198a1; --grid: #3d444d; --code: #151b23 }
}
* { box-sizing: border-box }
body { background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 0 auto; padding: 1.2rem; font-variant-numeric: tabular-nums }
h1 { font-size: 1.35rem; margin: 0 0 .3rem } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem }
p, li { margin: .2rem 0 } .dim, dt { color: var(--dim) }
.wide { overflow-x: auto } svg { display: block; width: 100%; min-width: 34rem; font-family: system-ui, sans-serif }
 table { border-collapse: collapse; width: 100% }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap }
th:first-child, td:first-child { text-align: left } table.sums tr:last-child td { font-weight: 600 }
table.words td, table.words th { text-align: left; font-weight: 400; white-space: normal; vertical-align: top }
pre { background: var(--code); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere;
  border-radius: 6px; margin: .3rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 } dd { margin: 0 }
.bad { color: #d1242f; font-weight: 600 } .good { color: #1a7f37 }
"""


class Part(NamedTuple):
    """A part of a page: what stands above it, and its HTML."""

    heading: str
    body: str


def page(heading: str, beneath: str, parts: Iterable[Part]) -> str:
    """The page; it loads nothing, and has the colours of the reader's system."""
    sections = "\n".join(f"<section><h2>{escape(part.heading)}</h2>\n{part.body}</section>" for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(heading)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n'
        f'<body><h1>{escape(heading)}</h1><p class="dim">{escape(beneath)}</p>\n{sections}\n</body></html>\n'
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><tr>{head}</tr>\n{body}</table></div>'


def named(pairs: Mapping[str, Any]) -> str:
    """Names and what they stand for; None is left out."""
    shown = {name.replace("_", " "): value for name, value in pairs.items() if value is not None}
    entries = (f"<dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd>" for name, value in shown.items())
    return f"<dl>{''.join(entries)}</dl>"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,g}" if isinstance(value, (int, float)) else str(value)


def chart(svg: str) -> str:
    """A chart, which a narrow screen scrolls."""
    return f'<div class="wide">{svg}</div>'


def command(words: Sequence[str]) -> str:
    """A command line, as one would type it."""
    return f"<pre>{escape(shlex.join(words))}</pre>"


def bench_page(
    result: Result, report: Mapping[str, Any], machine: Mapping[str, Any], words: Sequence[str]
) -> str:
    """The page of a run; `report` is that of `as_json`, with a series, and `words` the command that made it."""
    rows = [(name, *cells(figures)) for name, figures in {**report["replicas"], "all": report}.items()]
    notes = "".join(f"<li>{escape(line)}</li>" for line in remarks(report))
    tallies = result.measured.tallies
    total = result.measured.total()
    curves = [
        ("all", total.latencies.curve()),
        *((name, tally.latencies.curve()) for name, tally in tallies.items()),
    ]
    curves = [(name, curve) for name, curve in curves if curve]
    cluster, options = report["config"]["cluster"], report["config"]
    described = {
        **{name: cluster[name] for name in ("name", "n", "f", "e", "storage")},
        **{name: options[name] for name in _OPTIONS},
    }
    parts = [Part("Figures", f"{table(('replica', *HEADINGS), rows, 'sums')}<ul>{notes}</ul>")]
    if curves:
        parts += [
            Part("Over time", chart(over_time(*lines_of(report["series"])))),
            Part("Latency by percentile", chart(percentiles(curves))),
            Part("Distribution of latencies", chart(distribution(curves))),
        ]
    parts += [
        Part("Command", command(words)),
        Part("Load", named(described)),
        Part("Machine", named(machine)),
    ]
    return page(f"epaxos bench: {report['throughput_ops']:,.0f} commands/s", title(report), parts)


_OPTIONS: Final = (
    "clients", "connections", "window", "closed", "rate", "batch", "keys", "key_size", "value_size", "writes",
    "conflicts", "zipf", "seed",
)  # fmt: skip
