"""The pictures: a study as an SVG with light and with dark colours, small enough to be kept with the documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.study import FIGURES, Case, Picture, Results, Study, load_of

if TYPE_CHECKING:  # imported where something is drawn: it takes longer than all else here
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

LINES: Final = ("#2f81f7", "#d29922", "#3fb950", "#bc8cff", "#f85149", "#8b949e")
THEMES: Final = {"light": ("#1f2328", "#d0d7de"), "dark": ("#e6edf3", "#3d444d")}
WIDTH: Final = 8.0
PANELS: Final = 3
OURS: Final = "epaxos"


def draw(study: Study, results: Results, directory: Path) -> list[Path]:
    """The files made of a study; none if it has no picture or nothing was measured."""
    if study.picture is None or not results.samples:
        return []
    import matplotlib as mpl  # noqa: PLC0415 - see above
    from matplotlib.figure import Figure  # noqa: PLC0415

    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for theme, (ink, grid) in THEMES.items():
        with mpl.rc_context(_style(ink, grid)):
            drawing = Figure(figsize=(WIDTH, 3.2), layout="constrained")
            _KINDS[study.picture.kind](drawing, study, results, study.picture)
            file = directory / f"{study.name}-{theme}.svg"
            drawing.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
        made.append(file)
    return made


def _style(ink: str, grid: str) -> Any:  # the type of its keys is a list of all of them
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    return {
        **dict.fromkeys(inks, ink),
        "axes.edgecolor": grid,
        "grid.color": grid,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "epaxos",
        "lines.linewidth": 1.6,
    }


def _number(value: float, _: object = None) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _plain(axis: Any) -> None:
    axis.set_major_formatter(_number)
    axis.set_minor_formatter(lambda *_: "")


def _groups(study: Study, results: Results) -> Iterator[tuple[str, list[Case]]]:
    """The lines of a picture: the cases of each group that have a place and were measured."""
    there = [case for case in study.cases if case.x is not None and case.name in results.samples]
    for name in dict.fromkeys(case.group for case in there):
        yield name, [case for case in there if case.group == name]


def _lines(drawing: Drawing, study: Study, results: Results, picture: Picture) -> None:
    axes = drawing.add_subplot()
    for colour, (name, cases) in zip(LINES, _groups(study, results), strict=False):
        seen = [case for case in cases if results.values(case.name, picture.figure)]
        places = [case.x or 0 for case in seen]
        values = [results.values(case.name, picture.figure) for case in seen]
        middle = [results.median(case.name, picture.figure) or 0.0 for case in seen]
        axes.plot(places, middle, "o-", color=colour, markersize=4, label=name or None)
        axes.fill_between(
            places, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, lw=0
        )
    axes.set_xlabel(picture.across)
    axes.set_ylabel(FIGURES[picture.figure].title)
    if picture.log_x:
        axes.set_xscale("log")
    if picture.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _plain(axes.xaxis)
    _plain(axes.yaxis)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _bars(drawing: Drawing, _study: Study, results: Results, picture: Picture) -> None:
    """A panel for each load, where the cases' names begin with one; a bar a case, with its range."""
    panels: dict[str, list[str]] = {}
    for name in reversed(results.samples):
        panels.setdefault(load_of(name), []).append(name)
    columns = min(PANELS, len(panels))
    lines = -(-len(panels) // columns)
    drawing.set_figheight(lines * (0.9 + 0.24 * max(map(len, panels.values()))))
    for at, (panel, names) in enumerate(reversed(panels.items())):
        axes = drawing.add_subplot(lines, columns, at + 1)
        _panel(axes, panel, names, results, picture)
        axes.tick_params(labelleft=at % columns == 0)


def _panel(axes: Axes, panel: str, names: list[str], results: Results, picture: Picture) -> None:
    middle = [results.median(name, picture.figure) or 0.0 for name in names]
    values = [results.values(name, picture.figure) or [0.0] for name in names]
    errors = [
        [value - min(some) for value, some in zip(middle, values, strict=True)],
        [max(some) - value for value, some in zip(middle, values, strict=True)],
    ]
    labels = [name.rpartition(": ")[2] for name in names]
    colours = [LINES[0] if OURS in label or not panel else LINES[5] for label in labels]
    axes.barh(labels, middle, color=colours, height=0.7, xerr=errors, ecolor=LINES[1])
    axes.grid(visible=False, axis="y")
    axes.set_title(panel, fontsize=9)
    axes.set_xlabel(FIGURES[picture.figure].title)
    if picture.log_x:
        axes.set_xscale("log")
        axes.set_xlim(left=1)  # the same in all panels
    _plain(axes.xaxis)


def _series(drawing: Drawing, _study: Study, results: Results, _picture: Picture) -> None:
    """Throughput above and the longest latency below, over time, a column a case."""
    drawing.set_figheight(4.2)
    for column, (name, shown) in enumerate(results.series.items()):
        upper = drawing.add_subplot(2, len(results.series), column + 1)
        lower = drawing.add_subplot(2, len(results.series), len(results.series) + column + 1, sharex=upper)
        lines = [label for label, values in shown.items() if isinstance(values, dict)]
        for colour, label in zip(LINES, lines, strict=False):
            upper.plot(shown["seconds"], shown[label]["throughput"], color=colour, label=label)
            longest: Any = [value or None for value in shown[label]["longest_ms"]]
            lower.plot(shown["seconds"], longest, color=colour)
        for axes in (upper, lower):
            for moment, word in (("killed", "killed"), ("started", "started")):
                axes.axvline(shown[moment], color=LINES[4], lw=0.8, ls="--", label="_")
                if axes is lower:
                    axes.annotate(word, (shown[moment], 1.0), xycoords=("data", "axes fraction"), fontsize=8)
        upper.set_title(name, fontsize=9, loc="right")
        upper.set_ylim(bottom=0)
        upper.set_ylabel("commands/s")
        lower.set_yscale("log")
        lower.set_ylabel("longest, ms")
        lower.set_xlabel("seconds")
        _plain(upper.yaxis)
        _plain(lower.yaxis)
        if not column:
            drawing.legend(*upper.get_legend_handles_labels(), loc="outside upper left", ncols=2)


_KINDS: Final = {"lines": _lines, "bars": _bars, "series": _series}
