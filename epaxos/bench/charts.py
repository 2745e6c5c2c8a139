"""Charts as pieces of SVG, to stand in a page whose colours they take. Needs matplotlib, of the extra `plots`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from epaxos.bench.histogram import NINES, Curve, nines
from epaxos.bench.series import Line

COLOURS: Final = ("#2f81f7", "#d29922", "#3fb950", "#bc8cff", "#f85149", "#8b949e", "#39c5cf", "#db61a2")
"""Of lines; they can be read on white and on black."""

_INK, _GRID, _BACK = "#1f2328", "#d0d7de", "#fefefe"
_OF_PAGE: Final = {_INK: "var(--ink)", _GRID: "var(--grid)", _BACK: "var(--back)"}
"""What a page says the colours of, for light and for dark."""

_STYLE: Final[dict[Any, Any]] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "axes.edgecolor": _GRID,
    "grid.color": _GRID,
    "axes.facecolor": _BACK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",
}
_WIDTH: Final = 8.0
_MOST_NAMES: Final = 60
"""Bars over time beyond which their names would only hide one another."""


class Bar(NamedTuple):
    """Something of a kind that lasted from `begin` to `end` (seconds); `lane` says where."""

    lane: str
    kind: str
    begin: float
    end: float


def _drawn(height: float, draw: Callable[[Figure], None]) -> str:
    """What is drawn into a figure of this height (inches), with the colours of the page that it will stand in."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = re.sub(r' id="[a-z]+_\d+"', "", svg[svg.index("<svg") :])  # several charts stand in one page
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1)
    for colour, variable in _OF_PAGE.items():
        svg = svg.replace(colour, variable)
    return svg


def over_time(
    seconds: Sequence[float],
    throughput: Sequence[Line],
    latency: Sequence[Line],
    bars: Sequence[Bar] = (),
) -> str:
    """Commands a second above, latencies in milliseconds below; then bars, a lane for each place where they happened.

    The bars are also shaded through all the charts, so that one sees what they did.
    """
    lanes = list(dict.fromkeys(bar.lane for bar in bars))
    lowest = 0.35 + 0.22 * len(lanes) if lanes else 0.0

    def draw(figure: Figure) -> None:
        heights = [1.9, 1.9, *([lowest] if lanes else [])]
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        upper = figure.add_subplot(grid[0])
        lower = figure.add_subplot(grid[1], sharex=upper)
        _lines(upper, seconds, throughput, "commands/s")
        upper.set_ylim(bottom=0)
        upper.yaxis.set_major_formatter(FuncFormatter(_number))
        _lines(lower, seconds, latency, "latency, ms")
        _logarithmic(lower, (value for line in latency for value in line.values), "y")
        last = lower
        if lanes:
            last = figure.add_subplot(grid[2], sharex=upper)
            _bars(last, lanes, bars)
            for bar, axes in ((bar, axes) for bar in bars for axes in (upper, lower)):
                axes.axvspan(bar.begin, bar.end, color=COLOURS[4], alpha=0.10, lw=0)
        for axes in (upper, lower):
            axes.tick_params(labelbottom=axes is last)
        upper.set_xlim(0, max(seconds, default=1.0) or 1.0)
        last.set_xlabel("seconds")

    return _drawn(4.2 + lowest, draw)


def _lines(axes: Axes, seconds: Sequence[float], lines: Sequence[Line], label: str) -> None:
    colours = iter(COLOURS)
    for line in lines:
        values: Any = [float("nan") if value is None else value for value in line.values]
        if line.strong:
            axes.plot(seconds, values, color=_INK, lw=1.8, label=line.name, zorder=3)
        else:
            axes.plot(seconds, values, color=next(colours, COLOURS[-1]), lw=1.1, label=line.name)
    axes.set_ylabel(label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(lines), borderaxespad=0, fontsize=8)


def _bars(axes: Axes, lanes: Sequence[str], bars: Sequence[Bar]) -> None:
    kinds = list(dict.fromkeys(bar.kind for bar in bars))
    for bar in bars:
        y, colour = lanes.index(bar.lane), COLOURS[kinds.index(bar.kind) % len(COLOURS)]
        axes.barh(y, bar.end - bar.begin, left=bar.begin, height=0.7, color=colour, alpha=0.85)
        if len(bars) <= _MOST_NAMES:
            axes.text(bar.begin, y, f" {bar.kind}", fontsize=7, va="center", clip_on=True)
    if len(bars) > _MOST_NAMES:
        for kind in kinds:
            axes.barh(0, 0, color=COLOURS[kinds.index(kind) % len(COLOURS)], label=kind)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.35), ncols=len(kinds), fontsize=7)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def percentiles(curves: Sequence[tuple[str, Curve]]) -> str:
    """Latencies by percentile, as HDR histograms are drawn: each nine takes as much room as the one before."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name, curve, style in _styled(curves):
            below = [point for point in curve if point[0] < 100] or curve
            places, latencies = [nines(share) for share, _ in below], [latency for _, latency in below]
            axes.plot(places, latencies, label=name, **style)
        most = max((share for _, curve in curves for share, _ in curve if share < 100), default=90.0)
        shown = [nine for nine in NINES if nine <= most]
        axes.xaxis.set_major_locator(FixedLocator([nines(nine) for nine in shown]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda _, place: f"{shown[place or 0]:g} %"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency, ms")
        _logarithmic(axes, (latency for _, curve in curves for _, latency in curve), "y")
        axes.legend(loc="upper left", fontsize=8)

    return _drawn(2.9, draw)


def distribution(curves: Sequence[tuple[str, Curve]]) -> str:
    """How many percent of the commands took so long at most."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name, curve, style in _styled(curves):
            shares, latencies = [share for share, _ in curve], [latency for _, latency in curve]
            axes.plot(latencies, shares, label=name, **style)
        axes.set_ylim(0, 101)
        axes.set_xlabel("latency, ms")
        axes.set_ylabel("% of the commands")
        _logarithmic(axes, (latency for _, curve in curves for _, latency in curve), "x")
        axes.legend(loc="lower right", fontsize=8)

    return _drawn(2.9, draw)


def _styled(curves: Sequence[tuple[str, Curve]]) -> Iterator[tuple[str, Curve, dict[str, Any]]]:
    """The first curve is that of all, and stands out."""
    for place, (name, curve) in enumerate(curves):
        style = {"color": COLOURS[(place - 1) % len(COLOURS)], "lw": 1.1, "zorder": 2}
        yield name, curve, style if place else {"color": _INK, "lw": 1.8, "zorder": 3}


def _logarithmic(axes: Axes, values: Iterable[float | None], which: str) -> None:
    """A logarithmic axis with plain numbers, where anything above 0 is shown on it."""
    above = [value for value in values if value]
    if not above:
        return
    axis = axes.yaxis if which == "y" else axes.xaxis
    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_number))


def _number(value: float, _: object = None) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
